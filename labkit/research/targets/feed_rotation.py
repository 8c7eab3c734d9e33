"""G10: seven virtual days of a feed whose every connection is replaced before its 24 hours are over: no update missed.

Held against the market itself, generated a second time: every update id it told must have reached the listener. One
stream a connection, so that many rotations fall due at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

from labkit.config import MonitorConfig, PaperConfig
from labkit.domain.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from labkit.domain.market_events import Quote
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.paper.in_process import InProcessConnection, InProcessExchange
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.market_source import SourceEvent
from labkit.paper.venue import Venue
from labkit.paper.weather.script import Script, Spell
from labkit.research.targets.figure import Figure

START_MS = 1_767_571_200_000
SYMBOLS = ("BTCUSDT",)
DAYS = 7
CONNECTIONS = 3
"""Book, mark price and 24 h ticker, one each."""
APART_MS = 10_000


ROTATE_HOURS = 23.0
THIN_MS = 30_000
"""Away from rotations three seconds of so many are told: a week would take an hour otherwise."""
PATIENCE_MS = 120_000
"""Silence that is none in so thin a market."""


class ThinMarket(SimulatedMarket):
    """A simulated market that tells everything around the hours of rotation, and little in between."""

    def __init__(self) -> None:
        super().__init__(SYMBOLS, seed=3, start_ms=START_MS, history_days=1, planted_edge=0.0, quotes_per_second=0.5)

    def events(self, from_ms: int) -> Iterator[SourceEvent]:
        period_ms = round(ROTATE_HOURS * HOUR_MS)
        for event in super().events(from_ms):
            since_ms = (event.time_ms - START_MS + MINUTE_MS) % period_ms
            if since_ms < 12 * MINUTE_MS or event.time_ms % THIN_MS < 3 * SECOND_MS:
                yield event


class CountedStreams:
    """The exchange's streams, and when each connection to them was opened."""

    def __init__(self, exchange: InProcessExchange, clock: VirtualClock) -> None:
        self._exchange = exchange
        self._clock = clock
        self.opened_ms: list[int] = []

    async def open(self, path_and_query: str) -> InProcessConnection:
        self.opened_ms.append(self._clock.now_ms())
        return await self._exchange.open(path_and_query)


def figures(*, days: int = DAYS, cut_before: bool = False) -> list[Figure]:
    """All of G10; with `cut_before` the exchange cuts half a minute before the rotation, as a control."""
    loop = VirtualTimeLoop()
    clock = VirtualClock(loop, start_ms=START_MS)
    venue = Venue(ThinMarket(), PaperConfig(), api_key="k", api_secret="k")
    exchange = InProcessExchange(venue, clock)
    streams = CountedStreams(exchange, clock)
    config = MonitorConfig(streams_per_connection=1, rotate_after_hours=ROTATE_HOURS, stale_after_ms=PATIENCE_MS)
    monitor = WebSocketMonitor(SYMBOLS, streams=streams, clock=clock, config=config, intervals=())
    told: dict[str, set[int]] = {symbol: set() for symbol in SYMBOLS}
    end_ms = START_MS + days * DAY_MS

    def listen(quote: Quote) -> None:
        told[quote.symbol].add(quote.update_id)

    async def main() -> int:
        market = asyncio.create_task(exchange.run())
        monitor.on_quote = listen
        await monitor.start()
        if cut_before:
            start = ROTATE_HOURS * 3_600 - 30
            cut = Spell(fault="reset", start_seconds=start)
            away = Spell(fault="connect-refused", start_seconds=start, duration_seconds=10)
            venue.weather.begin(Script(name="cut", spells=(cut, away)), START_MS)
        await clock.sleep_until(end_ms + SECOND_MS)
        begun = len(streams.opened_ms)
        await monitor.stop()
        market.cancel()
        return begun

    opened = run_in_virtual_time(main(), loop)
    # The first connections take a moment to open; from then on nothing may be missing.
    first = {symbol: min(told[symbol]) for symbol in SYMBOLS}
    missed = emitted = 0
    for event in ThinMarket().events(START_MS):
        if event.time_ms > end_ms:
            break
        if isinstance(event.fact, Quote) and event.fact.update_id >= first[event.fact.symbol]:
            emitted += 1
            missed += event.fact.update_id not in told[event.fact.symbol]
    later = [opened_ms for opened_ms in streams.opened_ms if opened_ms > START_MS + HOUR_MS]
    due = CONNECTIONS * int(days * 24 / (ROTATE_HOURS + 0.1))
    hasty = sum(after - before < APART_MS for before, after in itertools.pairwise(later))
    return [
        Figure(target="G10", name="virtual days", value=days),
        Figure(target="G10", name="connections opened", value=opened),
        Figure(target="G10", name="rotations", value=len(later)),
        Figure(target="G10", name="rotations that did not happen", value=max(0, due - len(later)), limit=0),
        Figure(target="G10", name="updates told by the market", value=emitted),
        Figure(target="G10", name="updates missed", value=missed, limit=0),
        Figure(target="G10", name="rotations within 10 s of another", value=hasty, limit=0),
        Figure(target="G10", name="connections lost", value=monitor.reconnects, limit=0),
    ]
