"""WebSockets over real sockets: frames as they arrived, and endings that are told apart."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import WSMsgType, web

from labkit.edge.websocket import SocketStreams
from labkit.wire.transport import ConnectionLost, HandshakeRefused, NotSent

StartTcp = Callable[[Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]], Awaitable[int]]
Visit = Callable[[web.Request, web.WebSocketResponse], Awaitable[None]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Visit], Awaitable[str]]]:
    """Starts WebSocket servers that treat each visitor as told."""
    runners: list[web.AppRunner] = []

    async def start(visit: Visit) -> str:
        async def answer(request: web.Request) -> web.StreamResponse:
            peer = web.WebSocketResponse(autoping=False)
            await peer.prepare(request)
            await visit(request, peer)
            return peer

        async def refuse(request: web.Request) -> web.Response:
            return web.Response(status=int(request.match_info["status"]), headers={"Location": "/public/ws"})

        app = web.Application()
        app.router.add_get("/refuse/{status}", refuse)
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"ws://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


def streams_at(base_url: str, *, open_timeout_ms: int = 5_000) -> SocketStreams:
    return SocketStreams(base_url, open_timeout_ms=open_timeout_ms, close_timeout_ms=200)


async def echo(request: web.Request, peer: web.WebSocketResponse) -> None:
    await peer.send_str(request.raw_path)
    async for message in peer:
        if message.type is WSMsgType.TEXT:
            await peer.send_str(message.data)


async def test_path_and_query_arrive_exactly_as_given(serve: Callable[[Visit], Awaitable[str]]) -> None:
    path = "/public/stream?streams=btcusdt@bookTicker/%E5%B8%81usdt@depth@100ms"
    connection = await streams_at(await serve(echo)).open(path)
    assert await connection.receive() == path.encode()
    await connection.close()


async def test_text_frames_come_out_as_the_bytes_that_arrived(serve: Callable[[Visit], Awaitable[str]]) -> None:
    connection = await streams_at(await serve(echo)).open("/public/ws")
    await connection.receive()
    await connection.send('{"s":"币安人生USDT",  "id": 1}')
    assert await connection.receive() == '{"s":"币安人生USDT",  "id": 1}'.encode()
    await connection.close()


async def test_a_large_frame_arrives_whole(serve: Callable[[Visit], Awaitable[str]]) -> None:
    async def visit(request: web.Request, peer: web.WebSocketResponse) -> None:
        await peer.send_str("x" * 1_000_000)
        await peer.receive()

    connection = await streams_at(await serve(visit)).open("/public/ws")
    assert len(await connection.receive()) == 1_000_000
    await connection.close()


@pytest.mark.parametrize("polite", [True, False], ids=["with a farewell", "without a word"])
async def test_a_closed_connection_is_lost_for_receiving_and_sending(
    serve: Callable[[Visit], Awaitable[str]], polite: bool
) -> None:
    async def visit(request: web.Request, peer: web.WebSocketResponse) -> None:
        if polite:
            await peer.close(code=1001, message=b"24 hours are over")
        else:
            assert request.transport is not None
            request.transport.abort()

    connection = await streams_at(await serve(visit)).open("/public/ws")
    with pytest.raises(ConnectionLost):
        await connection.receive()
    with pytest.raises(ConnectionLost):
        await connection.send("hello")
    await connection.close()


async def test_closing_ends_a_pending_receive(serve: Callable[[Visit], Awaitable[str]]) -> None:
    connection = await streams_at(await serve(echo)).open("/public/ws")
    await connection.receive()
    pending = asyncio.create_task(connection.receive())
    await asyncio.sleep(0)
    await connection.close()
    with pytest.raises(ConnectionLost):
        await pending


async def test_a_refused_connection_is_not_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(NotSent):
            await streams_at(f"ws://127.0.0.1:{taken.getsockname()[1]}").open("/public/ws")


@pytest.mark.parametrize("status", [302, 403, 404, 418, 429, 503])
async def test_a_refused_handshake_tells_its_status_and_follows_no_redirect(
    serve: Callable[[Visit], Awaitable[str]], status: int
) -> None:
    with pytest.raises(HandshakeRefused) as caught:
        await streams_at(await serve(echo)).open(f"/refuse/{status}")
    assert caught.value.http_status == status


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n\r\n"], ids=["hangs up", "another protocol"])
async def test_nonsense_during_the_handshake_loses_the_connection(tcp: StartTcp, answer: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    streams = streams_at(f"ws://127.0.0.1:{await tcp(babble)}")
    with pytest.raises(ConnectionLost):
        await streams.open("/public/ws")


async def test_silence_during_the_handshake_loses_the_connection(tcp: StartTcp) -> None:
    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    streams = streams_at(f"ws://127.0.0.1:{await tcp(stay_silent)}", open_timeout_ms=100)
    with pytest.raises(ConnectionLost):
        await streams.open("/public/ws")


async def test_a_proxy_of_the_environment_is_not_used(
    serve: Callable[[Visit], Awaitable[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    connection = await streams_at(await serve(echo)).open("/public/ws")
    await connection.close()
