"""Trials of what no exchange causes: names beyond ASCII, ids used twice, pages, floats, two connections, a torn file.

Called by `table`. Their fault is a circumstance; without it, as their control, nothing is struck.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from labkit.config import ClientConfig, MonitorConfig, PaperConfig
from labkit.domain.clock import DAY_MS, MINUTE_MS
from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.market_events import Bar
from labkit.domain.orders import OrderIntent, OrderType, Side
from labkit.domain.position import Position
from labkit.domain.symbol_rules import SymbolRules
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop
from labkit.errors import LocalProtocolError
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.credentials import Credentials
from labkit.market.data_service import DataService
from labkit.market.lake import Lake
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.market_source import SourceEvent
from labkit.paper.truth_table import truth_table
from labkit.paper.venue import Venue
from labkit.research.fault_trials.scene import KEY, START_MS, Scene, in_weather
from labkit.research.fault_trials.trial import Result, Trial

PAGE = 1_500
"""The most candles one answer holds."""


class RenamedMarket:
    """A market whose one symbol has another name: a `MarketSource`."""

    def __init__(self, source: SimulatedMarket, name: str) -> None:
        self._source = source
        self._old = source.symbols[0]
        self._new = name
        self.name = source.name
        self.disclosure = source.disclosure
        self.symbols: tuple[str, ...] = (name,)
        self.start_ms = source.start_ms
        self.end_ms = source.end_ms
        self.tells_bars = source.tells_bars

    def rules(self) -> Mapping[str, SymbolRules]:
        return {self._new: msgspec.structs.replace(self._source.rules()[self._old], symbol=self._new)}

    def brackets(self) -> Mapping[str, tuple[LeverageBracket, ...]]:
        return {self._new: self._source.brackets()[self._old]}

    def funding_interval_hours(self, symbol: str) -> int:
        return self._source.funding_interval_hours(self._old)

    def history(self, symbol: str, start_ms: int, end_ms: int) -> list[Bar]:
        bars = self._source.history(self._old, start_ms, end_ms)
        return [msgspec.structs.replace(bar, symbol=self._new) for bar in bars]

    def events(self, from_ms: int) -> Iterator[SourceEvent]:
        for event in self._source.events(from_ms):
            stream = event.stream.replace(self._old.lower(), self._new.lower())
            fact = msgspec.structs.replace(event.fact, symbol=self._new)
            yield msgspec.structs.replace(event, fact=fact, stream=stream)


async def _foreign_name(fair: bool) -> Result:
    """A symbol named beyond ASCII: encoded, then signed; its stream is heard and its order goes through."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    symbol = "BTCUSDT" if fair else "币安人生USDT"
    market = SimulatedMarket(
        ("BTCUSDT",), seed=3, start_ms=START_MS, history_days=1, planted_edge=0.0, quotes_per_second=4
    )
    clock = VirtualClock(loop, start_ms=START_MS)
    venue = Venue(RenamedMarket(market, symbol), PaperConfig(), api_key=KEY, api_secret=KEY)
    exchange = InProcessExchange(venue, clock)
    client = BinanceClient(exchange, clock, ClientConfig(), Credentials(KEY, KEY))
    monitor = WebSocketMonitor((symbol,), streams=exchange, clock=clock, config=MonitorConfig())
    running = asyncio.create_task(exchange.run())
    await monitor.start()
    try:
        await asyncio.sleep(5)
        await client.place_order(_buy("named-1", symbol))
        well = monitor.fresh_quote(symbol) is not None and (await client.positions(symbol))[0].quantity == Decimal(
            "0.010"
        )
    finally:
        await monitor.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    executions = truth_table(venue.desk)["named-1"].executions
    return Result(
        injected=0 if symbol.isascii() else 1,
        detected_ms=None,
        recovered_ms=clock.now_ms() - START_MS if well else None,
        harm="" if executions == 1 else f"{executions} executions",
    )


def _buy(name: str, symbol: str = "BTCUSDT") -> OrderIntent:
    return OrderIntent(
        client_order_id=name, symbol=symbol, side=Side.BUY, order_type=OrderType.MARKET, quantity=Decimal("0.010")
    )


async def _same_id_twice(scene: Scene, fair: bool) -> Result:
    """An id that was used is refused at home: the exchange would execute a filled one again."""
    await scene.begin()
    await scene.client.place_order(_buy("twin"))
    detected_ms = None
    try:
        await scene.client.place_order(_buy("other" if fair else "twin"))
    except LocalProtocolError:
        detected_ms = scene.since()
    if truth_table(scene.venue.desk)["twin"].orders != 1:
        scene.blame("one id was executed twice")
    await scene.client.place_order(_buy("after"))
    return Result(injected=0 if fair else 1, detected_ms=detected_ms, recovered_ms=scene.since(), harm=scene.harm)


async def _page_edges(scene: Scene, fair: bool) -> Result:
    """Spans around one and two pages, from odd moments: every candle once, none besides."""
    await scene.begin()
    first_ms = START_MS - 3 * DAY_MS
    joins = 0
    for count in (1,) if fair else (1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 2 * PAGE, 2 * PAGE + 1):
        for shift_ms in (0, 1, -1):
            bars = await DataService(scene.client).bars(
                "BTCUSDT", "1m", first_ms + shift_ms, first_ms + shift_ms + count * MINUTE_MS
            )
            begin_ms = first_ms + (MINUTE_MS if shift_ms > 0 else 0)
            expected = [begin_ms + number * MINUTE_MS for number in range(count)]
            if [bar.open_time_ms for bar in bars] != expected:
                scene.blame(f"{count} candles from {shift_ms:+} ms: not each once and in order")
            joins += (count - 1) // PAGE
    return Result(injected=joins, detected_ms=None, recovered_ms=scene.since(), harm=scene.harm)


async def _thousand_fills(fair: bool) -> Result:
    """0.001 bought a thousand times is 1, and sold again nothing: exactly, where floats drift."""
    position, drifting = Position(symbol="BTCUSDT"), 0.0
    step, price = (1.0, Decimal(1)) if fair else (0.001, Decimal("91234.5"))
    quantity = Decimal(str(step))
    for _ in range(1_000):
        position, _ = position.after_fill(quantity, price)
        drifting += step
    harm = "" if position.quantity == 1_000 * quantity and position.entry_price == price else f"{position}"
    for _ in range(1_000):
        position, _ = position.after_fill(-quantity, price)
    if position.is_open or position.entry_cost:
        harm = harm or f"left over: {position}"
    return Result(injected=int(drifting != 1_000 * step), detected_ms=None, recovered_ms=0, harm=harm)


async def _two_connections(scene: Scene, fair: bool) -> Result:
    """Two connections overlap at each rotation and tell the same: the higher update id counts, once."""
    await scene.begin()
    told: dict[str, int] = {}
    overlaps = 0
    check = scene.monitor.on_quote

    def listen(quote: Any) -> None:
        check(quote)
        if quote.update_id <= told.get(quote.symbol, 0):
            scene.blame(f"{quote.symbol} went back from update {told[quote.symbol]} to {quote.update_id}")
        told[quote.symbol] = quote.update_id

    scene.monitor.on_quote = listen
    rotating = WebSocketMonitor(
        scene.monitor.symbols,
        streams=scene.exchange,
        clock=scene.clock,
        config=MonitorConfig() if fair else MonitorConfig(rotate_after_hours=12 / 3_600),
    )
    rotating.on_quote = listen
    await scene.monitor.stop()
    await rotating.start()
    for _ in range(600):
        await asyncio.sleep(0.1)
        public = [session for session in scene.venue.hub.sessions if session.route == "public"]
        overlaps += len(public) > 1
    fresh = all(rotating.fresh_quote(symbol) is not None for symbol in rotating.symbols)
    if rotating.reconnects:
        scene.blame(f"{rotating.reconnects} reconnections for nothing")
    await rotating.stop()
    return Result(injected=overlaps, detected_ms=None, recovered_ms=scene.since() if fresh else None, harm=scene.harm)


async def _torn_file(scene: Scene, fair: bool) -> Result:
    """A file of the lake ends in its middle: set aside by its checksum, and what it held is fetched again."""
    await scene.begin()
    start_ms, end_ms = START_MS - 20 * MINUTE_MS, START_MS
    with tempfile.TemporaryDirectory(prefix="labkit-trial-") as folder:
        true = await DataService(scene.client, Path(folder)).bars("BTCUSDT", "1m", start_ms, end_ms)
        torn = 0 if fair else _tear(Path(folder))
        lake = Lake(Path(folder))
        again = await DataService(scene.client, lake).bars("BTCUSDT", "1m", start_ms, end_ms)
        if again != true:
            scene.blame(f"{len(again)} candles instead of {len(true)}, or others")
    return Result(
        injected=torn,
        detected_ms=scene.since() if lake.set_aside else None,
        recovered_ms=scene.since(),
        harm=scene.harm,
    )


def _tear(folder: Path) -> int:
    """Shorten every file of a lake to its half; how many there were."""
    files = list(folder.rglob("*.parquet"))
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return len(files)


def _alone(ids: str, name: str, attempt: Callable[[bool], Coroutine[Any, Any, Result]]) -> Trial:
    return Trial(ids=ids, name=name, attempt=attempt, way=attempt.__qualname__, detect_within_ms=None)


def _in_a_scene(
    ids: str, name: str, live: Callable[[Scene, bool], Coroutine[Any, Any, Result]], detect_within_ms: int | None = None
) -> Trial:
    """A trial in a scene, told whether its circumstance is to be left out."""

    async def attempt(fair: bool) -> Result:
        async def live_so(scene: Scene) -> Result:
            return await live(scene, fair)

        return await in_weather(ids, name, live_so).attempt(True)

    return Trial(ids=ids, name=name, attempt=attempt, way=live.__qualname__, detect_within_ms=detect_within_ms)


CLIENT_SIDE_TRIALS: tuple[Trial, ...] = (
    _alone("X13", "a name beyond ASCII", _foreign_name),
    _in_a_scene("X15", "an order id used twice", _same_id_twice, detect_within_ms=1_000),
    _in_a_scene("D13", "page edges", _page_edges),
    _alone("D14", "a thousand small fills", _thousand_fills),
    _in_a_scene("D15", "overlapping connections", _two_connections),
    _in_a_scene("D17", "torn file of the lake", _torn_file, detect_within_ms=1_000),
)
