"""The proxy does to TCP what it says, to the connections it was told and no others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from labkit.paper.weather import proxy
from labkit.paper.weather.proxy import Direction, Proxy, Toxic

UP, DOWN = Direction.UP, Direction.DOWN


@pytest.fixture
async def way() -> AsyncIterator[Proxy]:
    """A proxy in front of a server that says again what it hears."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1 << 16):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(echo, proxy.HOST, 0)
    running = Proxy(server.sockets[0].getsockname()[1])
    await running.start()
    yield running
    await running.stop()
    server.close()
    await server.wait_closed()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, text: bytes = b"hello") -> bytes:
        """What comes back within a fifth of a second."""
        self.writer.write(text)
        try:
            return await asyncio.wait_for(self.reader.readexactly(len(text)), 0.2)
        except TimeoutError:
            return b""
        except asyncio.IncompleteReadError as error:
            return error.partial


@pytest.fixture
async def client(way: Proxy) -> AsyncIterator[Client]:
    connected = Client(*await asyncio.open_connection(proxy.HOST, way.port))
    assert await connected.ask() == b"hello"
    yield connected
    connected.writer.close()


@pytest.mark.parametrize("direction", Direction)
async def test_a_black_hole_swallows_one_way_and_says_nothing(way: Proxy, client: Client, direction: Direction) -> None:
    way.poison(direction, proxy.Timeout)
    before = dict(way.links[0].carried)
    assert await client.ask() == b""
    assert not client.reader.at_eof()
    assert way.links[0].carried[UP] == before[UP] + (5 if direction is DOWN else 0)


async def test_what_is_poisoned_is_open_now_and_later_connections_are_not(way: Proxy, client: Client) -> None:
    assert way.poison(DOWN, proxy.Timeout) == 1
    other = Client(*await asyncio.open_connection(proxy.HOST, way.port))
    assert await other.ask() == b"hello"
    other.writer.close()
    assert way.opened == 2


async def test_a_cure_lets_bytes_pass_again(way: Proxy, client: Client) -> None:
    way.poison(DOWN, proxy.Timeout)
    assert await client.ask() == b""
    way.cure()
    assert await client.ask() == b"hello"


async def test_a_reset_is_a_reset_and_no_end(way: Proxy, client: Client) -> None:
    way.poison(UP, proxy.ResetPeer)
    with pytest.raises(ConnectionResetError):
        await client.ask()


async def test_limited_data_ends_in_its_middle(way: Proxy, client: Client) -> None:
    way.poison(DOWN, lambda: proxy.LimitData(3))
    assert await client.ask() == b"hel"
    assert client.reader.at_eof()


async def test_latency_keeps_every_byte_and_its_order(way: Proxy, client: Client) -> None:
    loop = asyncio.get_running_loop()
    way.poison(DOWN, lambda: proxy.Latency(60))
    begun = loop.time()
    assert await client.ask(b"1") + await client.ask(b"2") == b"12"
    assert loop.time() - begun >= 0.12


@pytest.mark.parametrize("toxic", [lambda: proxy.Slicer(1), lambda: proxy.Bandwidth(50_000)])
async def test_slices_and_narrow_ways_lose_nothing(way: Proxy, client: Client, toxic: Callable[[], Toxic]) -> None:
    way.poison(DOWN, toxic)
    told = bytes(range(256)) * 4
    assert await client.ask(told) == told


async def test_a_stopped_proxy_resets_its_connections_and_begins_anew_at_its_port(way: Proxy, client: Client) -> None:
    port = way.port
    await way.stop()
    with pytest.raises(ConnectionResetError):
        await client.reader.read()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(proxy.HOST, port)
    await way.start()
    again = Client(*await asyncio.open_connection(proxy.HOST, port))
    assert await again.ask() == b"hello"
    again.writer.close()
