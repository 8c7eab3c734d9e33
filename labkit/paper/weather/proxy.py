"""Proxy: a way between a client and an exchange on loopback that does to TCP what bad networks do.

The weather changes what the exchange says; this changes how its bytes travel: late, slowly, in crumbs, one way only,
or not at all. `Proxy` listens on a port of 127.0.0.1 and carries every connection to another; each direction of each
connection (a *way*) has its own toxics, named as Toxiproxy names them. Bytes are never changed. Times in milliseconds
of the loop it runs on, which must be one of real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
import struct
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Protocol

HOST = "127.0.0.1"
CHUNK = 1 << 16
WAITING_CHUNKS = 64
"""So many chunks wait in a way; then the sender is not read any more, and its kernel makes it wait."""

Forward = Callable[[bytes], Awaitable[None]]


class Direction(Enum):
    """Which way bytes travel."""

    UP = "client to server"
    DOWN = "server to client"


class ConnectionReset(Exception):
    """A toxic ends its connection with a reset."""


class Toxic(Protocol):
    """Something that befalls the bytes of one way. One object serves one way only."""

    async def carry(self, chunk: bytes, arrived: float, forward: Forward) -> None:
        """Pass on what is left of `chunk`, which arrived at loop time `arrived` (seconds)."""
        ...


class Latency:
    """Bytes come so much later, in order."""

    def __init__(self, milliseconds: float) -> None:
        self._seconds = milliseconds / 1000

    async def carry(self, chunk: bytes, arrived: float, forward: Forward) -> None:
        await asyncio.sleep(arrived + self._seconds - asyncio.get_running_loop().time())
        await forward(chunk)


class Bandwidth:
    """No more than so many bytes a second pass."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second

    async def carry(self, chunk: bytes, arrived: float, forward: Forward) -> None:
        # In portions of a tenth of a second, so that what passes flows rather than bursts.
        portion = max(1, int(self._rate / 10))
        for start in range(0, len(chunk), portion):
            part = chunk[start : start + portion]
            await asyncio.sleep(len(part) / self._rate)
            await forward(part)


class Slicer:
    """Bytes come in segments of this size."""

    def __init__(self, size: int) -> None:
        self._size = size

    async def carry(self, chunk: bytes, arrived: float, forward: Forward) -> None:
        for start in range(0, len(chunk), self._size):
            await forward(chunk[start : start + self._size])
            # The reader gets its turn, or the kernel would put the segments together again.
            await asyncio.sleep(0)


class Timeout:
    """Nothing passes any more and nothing is said about it: a black hole."""

    async def carry(self, chunk: bytes, arrived: float, forward: Forward) -> None:
        """Lose it."""


class ResetPeer:
    """The next bytes that come by meet a reset of both ends."""

    async def carry(self, chunk: bytes, arrived: float, forward: Forward) -> None:
        raise ConnectionReset


class LimitData:
    """After so many bytes the connection is closed."""

    def __init__(self, size: int) -> None:
        self._left = size

    async def carry(self, chunk: bytes, arrived: float, forward: Forward) -> None:
        await forward(chunk[: self._left])
        self._left -= len(chunk)
        if self._left <= 0:
            raise ConnectionAbortedError


class Glue:
    """The first bytes wait until more have come and travel with them in one piece."""

    def __init__(self, pieces: int = 2) -> None:
        self._kept: list[bytes] | None = []
        self._pieces = pieces

    async def carry(self, chunk: bytes, arrived: float, forward: Forward) -> None:
        if self._kept is None:
            await forward(chunk)
            return
        self._kept.append(chunk)
        if len(self._kept) >= self._pieces:
            glued, self._kept = b"".join(self._kept), None
            await forward(glued)


class Link:
    """One connection through the proxy. `carried` counts the bytes of each way that were passed on."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.toxics: dict[Direction, list[Toxic]] = {direction: [] for direction in Direction}
        self.carried = dict.fromkeys(Direction, 0)
        self._ends = {Direction.UP: (client[0], server[1]), Direction.DOWN: (server[0], client[1])}

    async def run(self) -> None:
        """Carry bytes both ways until either end is over."""
        ways = [asyncio.create_task(self._carry(each), name=f"proxy: {each.value}") for each in Direction]
        farewell = self.reset
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if not any(isinstance(way.exception(), ConnectionReset) for way in done):
                farewell = self.close
        finally:
            for way in ways:
                way.cancel()
            # Before anything is waited for: who stops the proxy may interrupt the waiting.
            farewell()
            await asyncio.gather(*ways, return_exceptions=True)
            for _, writer in self._ends.values():
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    def reset(self) -> None:
        """End both connections with a reset."""
        for _, writer in self._ends.values():
            if (socket := writer.get_extra_info("socket")) is not None:
                # Lingering for no time at all makes closing a reset.
                with contextlib.suppress(OSError):
                    socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def close(self) -> None:
        """End both connections with a plain FIN."""
        for _, writer in self._ends.values():
            writer.close()

    async def _carry(self, direction: Direction) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING_CHUNKS)
        reading = asyncio.create_task(self._read(direction, waiting))
        try:
            while True:
                arrived, chunk = await waiting.get()
                if not chunk:
                    return
                await self._through(list(self.toxics[direction]), direction, chunk, arrived)
        except ConnectionError:
            return
        finally:
            reading.cancel()

    async def _read(self, direction: Direction, waiting: asyncio.Queue[tuple[float, bytes]]) -> None:
        reader, _ = self._ends[direction]
        loop = asyncio.get_running_loop()
        chunk = b"-"
        while chunk:
            try:
                chunk = await reader.read(CHUNK)
            except ConnectionError:
                chunk = b""
            await waiting.put((loop.time(), chunk))

    async def _through(self, toxics: list[Toxic], direction: Direction, chunk: bytes, arrived: float) -> None:
        if not toxics:
            _, writer = self._ends[direction]
            writer.write(chunk)
            await writer.drain()
            self.carried[direction] += len(chunk)
            return

        async def forward(passed: bytes) -> None:
            await self._through(toxics[1:], direction, passed, arrived)

        await toxics[0].carry(chunk, arrived, forward)


class Proxy:
    """Listens on a free port and carries every connection to `port` of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._links: dict[Link, None] = {}
        self._carrying: set[asyncio.Task[None]] = set()
        self._recipes: list[tuple[Direction, Callable[[], Toxic]]] = []
        self._next: dict[Direction, list[Toxic]] = {}
        self.opened = 0
        """How many connections were made through it."""
        self.port = 0

    async def start(self) -> None:
        """Begin to listen, on the same port as before if it listened before."""
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more and reset every connection; `start` begins anew."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    @property
    def links(self) -> list[Link]:
        """The open connections, oldest first."""
        return list(self._links)

    def poison(self, direction: Direction, toxic: Callable[[], Toxic], *, new_too: bool = False) -> int:
        """Give every open connection a toxic of its own; later ones too with `new_too`. Returns how many got one."""
        for link in self._links:
            link.toxics[direction].append(toxic())
        if new_too:
            self._recipes.append((direction, toxic))
        return len(self._links)

    def poison_next(self, direction: Direction, toxics: list[Toxic]) -> None:
        """Give the next connection these toxics, in the order in which bytes meet them."""
        self._next[direction] = toxics

    def cure(self) -> None:
        """Take every toxic away."""
        self._recipes.clear()
        for link in self._links:
            for toxics in link.toxics.values():
                toxics.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer), name="proxy: connection")
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection(HOST, self._to)
        except BaseException as error:
            writer.transport.abort()
            if isinstance(error, OSError):
                return
            raise
        for _, each in ((reader, writer), server):
            each.get_extra_info("socket").setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        self.opened += 1
        link = Link((reader, writer), server)
        for direction, toxic in self._recipes:
            link.toxics[direction].append(toxic())
        for direction, toxics in self._next.items():
            link.toxics[direction] += toxics
        self._next.clear()
        self._links[link] = None
        try:
            await link.run()
        finally:
            del self._links[link]
