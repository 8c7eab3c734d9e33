"""G6: how fast a silent stream is noticed, and that nothing is ever decided on a quote older than the limit.

The first over every way to fall silent, each from many moments; the second by looking through all events of a lab that
lives through them, for the age of each quote the engine was given. In virtual time.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from labkit.config import MonitorConfig
from labkit.domain import events as ev
from labkit.domain.market_events import Quote
from labkit.edge.clocks import VirtualTimeLoop, run_in_virtual_time
from labkit.paper.weather.script import Match, Spell
from labkit.research.fault_trials.whole_lab import LabScene
from labkit.research.targets.feed_reconnects import Bench
from labkit.research.targets.figure import Figure, quantile

PUBLIC = Match(route="public")
SILENCES: tuple[Spell, ...] = (
    Spell(fault="half-open", match=PUBLIC),
    Spell(fault="freeze", match=PUBLIC),
    Spell(fault="freeze", match=Match(stream="btcusdt@bookTicker"), parameters={"new_too": True}),
    Spell(fault="frame-drop", match=Match(stream="*@bookTicker")),
    Spell(fault="frame-delay", match=PUBLIC, parameters={"delay_ms": 30_000}),
    Spell(fault="repeat-old", match=Match(stream="*@bookTicker")),
    Spell(fault="truncate-frame", match=Match(stream="*@bookTicker")),
)
"""Dead both ways, silent but ponging, one symbol silent, all lost, far behind, the old again and again, unreadable."""
ROUNDS = 20
OLDEST_MS = 3_000
LAB_MINUTES = 14


def detections(rounds: int = ROUNDS, *, config: MonitorConfig | None = None) -> list[float]:
    """Milliseconds from each silence to its being told; infinity where it was not told within 10 s."""
    loop = VirtualTimeLoop()
    bench = Bench(loop, config or MonitorConfig())

    async def main() -> list[float]:
        market = asyncio.create_task(bench.exchange.run())
        await bench.monitor.start()
        took: list[float] = []
        for number in range(rounds * len(SILENCES)):
            await asyncio.sleep(40 + 0.031 * (number % 31))
            begun_ms = bench.clock.now_ms()
            bench.strike((SILENCES[number % len(SILENCES)],), number)
            noticed_ms = await bench.until_noticed()
            took.append(float("inf") if noticed_ms is None else noticed_ms - begun_ms)
            bench.fair()
        await bench.monitor.stop()
        market.cancel()
        return took

    return run_in_virtual_time(main(), loop)


def ages(minutes: int = LAB_MINUTES, *, stale_after_ms: int = OLDEST_MS) -> list[float]:
    """The age in ms of every quote the engine of a trading lab was given while its feed fell silent again and again."""

    async def main() -> list[float]:
        with tempfile.TemporaryDirectory(prefix="labkit-silence-") as folder:
            scene = LabScene(Path(folder), {"paper.quotes_per_second": 4.0, "monitor.stale_after_ms": stale_after_ms})
            market = asyncio.create_task(scene.exchange.run())
            await scene.scheduler.start()
            try:
                for number in range(2 * minutes):
                    await scene.minutes(0.25)
                    scene.weather(SILENCES[number % len(SILENCES)])
                    await scene.minutes(0.25)
                    scene.fair()
                return [
                    float(event.time_ms - quote.event_time_ms) for event in scene.events for quote in _quotes(event)
                ]
            finally:
                await scene.scheduler.stop()
                await scene.client.close()
                market.cancel()
                await asyncio.gather(market, return_exceptions=True)
                scene.venue.close()

    return run_in_virtual_time(main(), VirtualTimeLoop())


def _quotes(event: ev.Event) -> tuple[Quote, ...]:
    if isinstance(event, (ev.MinuteClosed, ev.MonitorTicked, ev.VirtualTicked)):
        return tuple(event.quotes.values())
    return ()


def figures(*, rounds: int = ROUNDS, stale_after_ms: int = OLDEST_MS) -> list[Figure]:
    """All of G6. With a longer `stale_after_ms` the protection is as good as off: the control."""
    took = detections(rounds, config=MonitorConfig(stale_after_ms=stale_after_ms))
    seen = ages(stale_after_ms=stale_after_ms)
    return [
        Figure(target="G6", name="silences of seven kinds", value=len(took)),
        Figure(target="G6", name="silence noticed after, median", value=quantile(took, 0.5), limit=2_500, unit="ms"),
        Figure(
            target="G6", name="silence noticed after, 99 of 100", value=quantile(took, 0.99), limit=4_000, unit="ms"
        ),
        Figure(target="G6", name="quotes given to the engine", value=len(seen)),
        Figure(target="G6", name="oldest quote given to the engine", value=max(seen), limit=OLDEST_MS, unit="ms"),
    ]
