"""G7: how fast the feed has a valid quote again after 500 cuts of six kinds, and after outages of a minute.

In virtual time, where no time passes while somebody computes; the same on real sockets is in
`labkit.research.fault_trials.on_sockets`. A cut is counted from the moment the feed notices it: how fast that is, is
target G6.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from labkit.config import MonitorConfig, PaperConfig
from labkit.domain.clock import SECOND_MS
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.venue import Venue
from labkit.paper.weather.script import Match, Script, Spell
from labkit.research.targets.figure import Figure, quantile

START_MS = 1_767_571_200_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")
KINDS = ("reset", "vanish", "daily-cut", "half-open", "freeze", "flap")
"""Reset, end without farewell, end with one, dead both ways, silent but answering pings, cut again after a second."""
CUTS = 500
OUTAGES = 40
APART_SECONDS = 40
"""So much sustained data lies between two cuts that the back-off has forgotten the last one."""
OUTAGE_SECONDS = 60
PATIENCE_SECONDS = 120


class Bench:
    """A feed at a venue in virtual time."""

    def __init__(self, loop: VirtualTimeLoop, config: MonitorConfig) -> None:
        source = SimulatedMarket(
            SYMBOLS, seed=3, start_ms=START_MS, history_days=1, planted_edge=0.0, quotes_per_second=4
        )
        self.clock = VirtualClock(loop, start_ms=START_MS)
        self.venue = Venue(source, PaperConfig(), api_key="k", api_secret="k")
        self.exchange = InProcessExchange(self.venue, self.clock)
        self.monitor = WebSocketMonitor(SYMBOLS, streams=self.exchange, clock=self.clock, config=config, seed=11)
        self.noticed_ms: int | None = None
        self.attempts: list[int] = []
        self.monitor.on_health = self._note

    def strike(self, spells: tuple[Spell, ...], seed: int) -> None:
        self.noticed_ms = None
        now_ms = self.clock.now_ms()
        self.venue.weather.begin(Script(name="cut", seed=seed, spells=spells), now_ms)
        self.venue.advance(now_ms)

    def fair(self) -> None:
        self.venue.weather.clear(self.clock.now_ms())
        self.venue.advance(self.clock.now_ms())

    async def until_valid(self, since_ms: int) -> int | None:
        """Milliseconds from `since_ms` to the first valid quote of every symbol that is younger than it."""
        end_ms = self.clock.now_ms() + PATIENCE_SECONDS * SECOND_MS
        while self.clock.now_ms() < end_ms:
            quotes = [self.monitor.fresh_quote(symbol) for symbol in SYMBOLS]
            if all(quote is not None and quote.event_time_ms > since_ms for quote in quotes):
                return self.clock.now_ms() - since_ms
            await asyncio.sleep(0.005)
        return None

    async def until_noticed(self) -> int | None:
        end_ms = self.clock.now_ms() + 10 * SECOND_MS
        while self.noticed_ms is None and self.clock.now_ms() < end_ms:
            await asyncio.sleep(0.005)
        return self.noticed_ms

    def _note(self, what: str, healthy: bool, cause: str) -> None:
        if not healthy and self.noticed_ms is None:
            self.noticed_ms = self.clock.now_ms()


def cuts(count: int = CUTS, *, config: MonitorConfig | None = None) -> list[float]:
    """Milliseconds from notice to the first valid quotes, one per cut; infinity where none came."""
    loop = VirtualTimeLoop()
    bench = Bench(loop, config or MonitorConfig())

    async def main() -> list[float]:
        market = asyncio.create_task(bench.exchange.run())
        await bench.monitor.start()
        took: list[float] = []
        for number in range(count):
            await asyncio.sleep(APART_SECONDS + 0.037 * (number % 27))
            kind = KINDS[number % len(KINDS)]
            bench.strike(
                (Spell(fault=kind, duration_seconds=2 if kind == "flap" else None, match=Match(route="public")),),
                number,
            )
            noticed_ms = await bench.until_noticed()
            valid_ms = None if noticed_ms is None else await bench.until_valid(noticed_ms)
            took.append(float("inf") if valid_ms is None else valid_ms)
            bench.fair()
        await bench.monitor.stop()
        market.cancel()
        return took

    return run_in_virtual_time(main(), loop)


def outages(count: int = OUTAGES, *, config: MonitorConfig | None = None) -> tuple[list[float], int]:
    """Milliseconds from the end of each minute's outage to valid quotes, and a connection's most attempts in it."""
    loop = VirtualTimeLoop()
    bench = Bench(loop, config or MonitorConfig())

    async def main() -> tuple[list[float], int]:
        market = asyncio.create_task(bench.exchange.run())
        await bench.monitor.start()
        took: list[float] = []
        most = 0
        for number in range(count):
            await asyncio.sleep(APART_SECONDS)
            weather = bench.venue.weather
            bench.strike((Spell(fault="reset"), Spell(fault="connect-refused")), number)
            begun_ms = bench.clock.now_ms()
            await asyncio.sleep(OUTAGE_SECONDS)
            refused = [strike for strike in weather.log if strike.fault == "connect-refused"]
            most = max(most, *Counter(strike.what for strike in refused if strike.time_ms > begun_ms).values())
            bench.fair()
            valid_ms = await bench.until_valid(bench.clock.now_ms())
            took.append(float("inf") if valid_ms is None else valid_ms)
        await bench.monitor.stop()
        market.cancel()
        return took, most

    return run_in_virtual_time(main(), loop)


def figures(*, count: int = CUTS, config: MonitorConfig | None = None) -> list[Figure]:
    """All of G7."""
    took = cuts(count, config=config)
    after, most = outages(max(4, count * OUTAGES // CUTS), config=config)
    return [
        Figure(target="G7", name="cuts of six kinds", value=len(took)),
        Figure(
            target="G7", name="notice to first valid quotes, median", value=quantile(took, 0.5), limit=500, unit="ms"
        ),
        Figure(target="G7", name="the same, 99 of 100", value=quantile(took, 0.99), limit=3_000, unit="ms"),
        Figure(target="G7", name="outages of 60 s", value=len(after)),
        # A wait drawn from 0 to 30 s need not end within 5 s; a shorter `backoff_cap_ms` would make it.
        Figure(
            target="G7", name="end of outage to valid quotes, median (aim 5,000)", value=quantile(after, 0.5), unit="ms"
        ),
        Figure(target="G7", name="the same, longest", value=max(after), limit=31_000, unit="ms"),
        Figure(target="G7", name="attempts of one connection in a minute, most", value=most, limit=12),
    ]
