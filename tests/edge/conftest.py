"""Bare TCP servers for tests of what happens below the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
StartTcp = Callable[[Handler], Awaitable[int]]


@pytest.fixture
async def tcp() -> AsyncIterator[StartTcp]:
    """Starts a server on a free port that does with each connection what the handler does; returns the port."""
    servers: list[asyncio.Server] = []
    visits: set[asyncio.Task[None]] = set()

    async def start(handler: Handler) -> int:
        async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            visits.add(asyncio.create_task(visit(reader, writer)))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()
    for task in visits:
        task.cancel()
    await asyncio.gather(*visits, return_exceptions=True)
    # A transport lets go of its socket one turn of the loop after it was closed.
    await asyncio.sleep(0)
