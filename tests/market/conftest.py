"""An exchange's stream side in one small class: it carries real bytes, in process, on whatever loop runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from labkit.config import MonitorConfig
from labkit.domain.market_events import Bar, MarkPrice, Quote
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.wire import streams as wire
from labkit.wire.frames import Frames
from labkit.wire.rest_market import DepthSnapshot
from labkit.wire.transport import ConnectionLost, NotSent

START_MS = 1_767_571_200_000
"""2026-01-05T00:00:00Z."""


class ExchangeConnection:
    def __init__(self, exchange: StreamExchange, path_and_query: str) -> None:
        url = urlsplit(path_and_query)
        self.route = url.path.strip("/").split("/")[0]
        named = parse_qs(url.query).get("streams", [""])[0]
        self.streams = [unquote(name) for name in named.split("/") if name]
        self.opened_ms = exchange.clock.now_ms()
        self.open = True
        self.control: list[tuple[int, str]] = []
        self._exchange = exchange
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._together: list[bytes] = []

    async def receive(self) -> bytes:
        frame = await self._inbox.get()
        if frame is None:
            raise ConnectionLost("reset by the exchange")
        return frame

    async def pump(self, take: Callable[[Frames], None]) -> NoReturn:
        while True:
            frame = await self.receive()
            waiting, self._together = [frame, *self._together], []
            take(Frames.of(waiting))

    async def send(self, text: str) -> None:
        if not self.open:
            raise ConnectionLost("closed")
        self.control.append((self._exchange.clock.now_ms(), text))
        request = wire.decode_control(text)
        names = [str(name) for name in request.params]
        if request.method == "SUBSCRIBE":
            self.streams += [name for name in names if name not in self.streams]
        else:
            self.streams = [name for name in self.streams if name not in names]
        self._inbox.put_nowait(wire.encode_control_reply(None, request.id))

    async def close(self) -> None:
        self.open = False
        if self in self._exchange.connections:
            self._exchange.connections.remove(self)

    def push_together(self, frames: list[bytes]) -> None:
        """Frames that come in one read."""
        if frames:
            self._together = frames[1:]
            self._inbox.put_nowait(frames[0])

    def push(self, frame: bytes | None) -> None:
        self._inbox.put_nowait(frame)


class StreamExchange:
    """Opens connections, publishes frames to whoever subscribed, and can be told to misbehave."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.connections: list[ExchangeConnection] = []
        self.all_connections: list[ExchangeConnection] = []
        self.attempts_ms: list[int] = []
        self.refusing = False
        self.hanging = False
        self.frozen: set[ExchangeConnection] = set()
        self.silent_streams: set[str] = set()
        self.backlog_seconds: dict[ExchangeConnection, float] = {}
        self.price = Decimal("100.0")
        self.update_id = 0

    async def open(self, path_and_query: str) -> ExchangeConnection:
        self.attempts_ms.append(self.clock.now_ms())
        if self.hanging:
            await asyncio.Event().wait()
        if self.refusing:
            raise NotSent("connection refused")
        await asyncio.sleep(0.02)
        connection = ExchangeConnection(self, path_and_query)
        self.connections.append(connection)
        self.all_connections.append(connection)
        return connection

    def on_route(self, route: str) -> list[ExchangeConnection]:
        return [connection for connection in self.connections if connection.route == route]

    def publish(self, stream: str, data: bytes) -> None:
        if stream in self.silent_streams:
            return
        for connection in self.connections:
            if stream not in connection.streams or connection in self.frozen:
                continue
            frame = wire.wrap(stream, data)
            if late_seconds := self.backlog_seconds.get(connection, 0.0):
                asyncio.get_running_loop().call_later(late_seconds, connection.push, frame)
            else:
                connection.push(frame)

    def cut(self, route: str) -> None:
        for connection in self.on_route(route):
            connection.push(None)

    def publish_quote(self, symbol: str, **changes: object) -> Quote:
        self.update_id += 1
        facts: dict[str, object] = {
            "symbol": symbol,
            "bid_price": self.price,
            "bid_quantity": Decimal("1.5"),
            "ask_price": self.price + Decimal("0.1"),
            "ask_quantity": Decimal("2.5"),
            "update_id": self.update_id,
            "event_time_ms": self.clock.now_ms(),
        }
        quote = Quote(**(facts | changes))  # type: ignore[arg-type]
        self.publish(wire.book_ticker_stream(symbol), wire.encode_book_ticker(quote))
        return quote

    def publish_mark(self, symbol: str) -> None:
        now_ms = self.clock.now_ms()
        mark = MarkPrice(symbol, self.price, self.price, Decimal("0.0001"), now_ms + 60_000, now_ms)
        self.publish(wire.mark_price_stream(symbol), wire.encode_mark_price(mark))

    def publish_bar(self, bar: Bar) -> None:
        self.publish(wire.kline_stream(bar.symbol, bar.interval), wire.encode_kline(bar, self.clock.now_ms()))

    async def trade(self, symbols: tuple[str, ...]) -> None:
        """An ordinary market: a quote of each symbol four times a second, a mark price every second."""
        count = 0
        while True:
            for symbol in symbols:
                self.publish_quote(symbol)
                if count % 4 == 0:
                    self.publish_mark(symbol)
            count += 1
            await asyncio.sleep(0.25)


class Scene:
    """A monitor of two symbols, connected to an exchange, in virtual time."""

    symbols = ("BTCUSDT", "ETHUSDT")

    def __init__(self, loop: VirtualTimeLoop, config: MonitorConfig) -> None:
        self.clock = VirtualClock(loop, start_ms=START_MS)
        self.exchange = StreamExchange(self.clock)
        self.fetch_snapshot: Callable[[str], Awaitable[DepthSnapshot]] | None = None
        self.monitor = WebSocketMonitor(
            self.symbols, streams=self.exchange, clock=self.clock, config=config, fetch_snapshot=self._fetch_snapshot
        )
        self.health: list[tuple[int, str, bool, str]] = []
        self.quotes: list[Quote] = []
        self.bars: list[Bar] = []
        self.monitor.on_quote = self.quotes.append
        self.monitor.on_bar = self.bars.append
        self.monitor.on_health = lambda what, healthy, cause: self.health.append(
            (self.clock.now_ms() - START_MS, what, healthy, cause)
        )

    async def _fetch_snapshot(self, symbol: str) -> DepthSnapshot:
        assert self.fetch_snapshot is not None
        return await self.fetch_snapshot(symbol)

    async def pass_seconds(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


Play = Callable[[Scene], Awaitable[None]]


@pytest.fixture(scope="session")
def play() -> Callable[..., Scene]:
    """Run a scene to its end: the monitor is started, the market trades, then everything is stopped."""

    def run(scenario: Play, *, config: MonitorConfig | None = None, trading: bool = True) -> Scene:
        loop = VirtualTimeLoop()
        scene = Scene(loop, config or MonitorConfig())

        async def main() -> None:
            market = asyncio.create_task(scene.exchange.trade(scene.symbols)) if trading else None
            await scene.monitor.start()
            try:
                await scenario(scene)
            finally:
                await scene.monitor.stop()
                if market is not None:
                    market.cancel()

        run_in_virtual_time(main(), loop)
        return scene

    return run


@pytest.fixture(scope="session")
def bar_of() -> Callable[..., Bar]:
    """A plausible closed minute, to be changed where a test needs it."""

    def make(symbol: str, open_time_ms: int, **changes: object) -> Bar:
        facts: dict[str, object] = {
            "symbol": symbol,
            "interval": "1m",
            "open_time_ms": open_time_ms,
            "close_time_ms": open_time_ms + 59_999,
            "open": Decimal("100.0"),
            "high": Decimal("101.5"),
            "low": Decimal("99.50"),
            "close": Decimal("100.7"),
            "volume": Decimal("12.345"),
            "quote_volume": Decimal("1234.50000"),
            "trade_count": 42,
            "taker_buy_volume": Decimal("6.000"),
            "taker_buy_quote_volume": Decimal("600.10"),
        }
        return Bar(**(facts | changes))  # type: ignore[arg-type]

    return make
