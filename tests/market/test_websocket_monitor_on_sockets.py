"""The monitor on real sockets: a server on loopback that cuts, falls silent, or talks too much."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from labkit.config import MonitorConfig
from labkit.domain.market_events import Quote
from labkit.edge.clocks import SystemClock
from labkit.edge.websocket import SocketStreams
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.wire.streams import book_ticker_stream, encode_book_ticker, wrap

PATIENCE_SECONDS = 10
QUICK = MonitorConfig(stale_after_ms=400, backoff_first_ms=10, open_timeout_ms=2_000)

Misbehave = Callable[[ServerConnection, int], Awaitable[None]]


@asynccontextmanager
async def watched(misbehave: Misbehave) -> AsyncIterator[tuple[WebSocketMonitor, asyncio.Queue[Quote]]]:
    """A monitor of BTCUSDT at a server whose nth book connection misbehaves after three quotes."""
    clock = SystemClock()
    update_ids = itertools.count(1)
    connections = itertools.count()

    async def quote_forever(socket: ServerConnection) -> None:
        assert socket.request is not None
        url = urlsplit(socket.request.path)
        if url.path != "/public/stream":
            await socket.wait_closed()
            return
        assert parse_qs(url.query)["streams"] == ["btcusdt@bookTicker"]
        number = next(connections)
        for count in itertools.count(1):
            price = Decimal("100.0")
            quote = Quote("BTCUSDT", price, price, price + 1, price, next(update_ids), clock.now_ms())
            await socket.send(wrap(book_ticker_stream("BTCUSDT"), encode_book_ticker(quote)).decode())
            if count == 3:
                await misbehave(socket, number)
            await asyncio.sleep(0.02)

    async with serve(quote_forever, "127.0.0.1", 0, close_timeout=0.1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        transport = SocketStreams(f"ws://127.0.0.1:{port}", open_timeout_ms=2_000, close_timeout_ms=100)
        monitor = WebSocketMonitor(["BTCUSDT"], streams=transport, clock=clock, config=QUICK)
        quotes: asyncio.Queue[Quote] = asyncio.Queue()
        monitor.on_quote = quotes.put_nowait
        await monitor.start()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                yield monitor, quotes
        finally:
            await monitor.stop()


async def until_reconnected(monitor: WebSocketMonitor, quotes: asyncio.Queue[Quote], times: int) -> None:
    while monitor.reconnects < times or monitor.why_stale("BTCUSDT"):
        await quotes.get()


async def behave(socket: ServerConnection, number: int) -> None:
    return None


async def reset(socket: ServerConnection, number: int) -> None:
    if number < 3:
        socket.transport.abort()


async def close_politely(socket: ServerConnection, number: int) -> None:
    if number < 3:
        await socket.close(1001, "going away")


async def fall_silent_but_answer_pings(socket: ServerConnection, number: int) -> None:
    if number < 1:
        await socket.wait_closed()


async def send_a_frame_beyond_the_limit(socket: ServerConnection, number: int) -> None:
    if number < 1:
        await socket.send("x" * (2 << 20))


async def test_quotes_arrive_over_a_real_socket() -> None:
    async with watched(behave) as (monitor, quotes):
        quote = await quotes.get()
        assert quote.ask_price == monitor.get_price("BTCUSDT") == Decimal("101.0")
        assert monitor.why_stale("BTCUSDT") == ""
        assert monitor.reconnects == 0


@pytest.mark.parametrize(
    ("misbehave", "times"),
    [
        (reset, 3),
        (close_politely, 3),
        (fall_silent_but_answer_pings, 1),
        (send_a_frame_beyond_the_limit, 1),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_the_monitor_comes_back_by_itself(misbehave: Misbehave, times: int) -> None:
    async with watched(misbehave) as (monitor, quotes):
        await until_reconnected(monitor, quotes, times)
        assert monitor.fresh_quote("BTCUSDT") is not None


async def test_a_port_where_nobody_listens_is_a_cause_not_a_crash() -> None:
    transport = SocketStreams("ws://127.0.0.1:1", open_timeout_ms=1_000)
    monitor = WebSocketMonitor(["BTCUSDT"], streams=transport, config=QUICK)
    unhealthy: asyncio.Queue[str] = asyncio.Queue()
    monitor.on_health = lambda what, healthy, cause: unhealthy.put_nowait(cause)
    await monitor.start()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert "cannot connect" in await unhealthy.get()
    await monitor.stop()
    assert monitor.get_price("BTCUSDT") is None


async def test_a_handshake_answered_with_451_is_told_and_not_tried_again_at_once() -> None:
    handshakes: asyncio.Queue[str] = asyncio.Queue()

    def refuse(socket: ServerConnection, request: Request) -> Response:
        handshakes.put_nowait(request.path)
        return socket.respond(HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS, "not here")

    async with serve(behave_not_at_all, "127.0.0.1", 0, process_request=refuse) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        transport = SocketStreams(f"ws://127.0.0.1:{port}", open_timeout_ms=2_000)
        monitor = WebSocketMonitor(["BTCUSDT"], streams=transport, config=QUICK)
        causes: asyncio.Queue[str] = asyncio.Queue()
        monitor.on_health = lambda what, healthy, cause: causes.put_nowait(cause)
        await monitor.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert "HTTP 451" in await causes.get() + await causes.get()
            assert "HTTP 451" in monitor.why_stale("BTCUSDT")
        await monitor.stop()
    assert handshakes.qsize() == 2


async def behave_not_at_all(socket: ServerConnection) -> None:
    raise AssertionError("no handshake was to succeed")
