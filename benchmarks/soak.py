"""A lab at work at fifty times its ordinary rate of quotes, on loopback sockets: does it leak, lag or pile up?

    python benchmarks/soak.py [--minutes 5]

The whole lab runs as it always does, exchange and trader, at its ordinary speed; only each symbol is quoted 50 times a
market second instead of once, which makes some 9,000 quotes a second of life. After a warm-up, which is the first third
of the time but at most a minute, it is watched until the time is over:

- memory: the slope of a straight line through the process's resident memory, at most 1 MB a minute;
- event lag: how long quotes took from the exchange's own time to their arrival, the 99th percentile at the worst
  moment, and how late the event loop is, the 99th percentile; each at most 250 ms of life;
- queues: no listener lets more frames lie at the exchange than that allows, and no connection is lost.

Exit status 1 if one of them is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from labkit.assembly import Assembly, assemble_on_sockets
from labkit.config import Config, PaperConfig
from labkit.paper.paper_exchange import PaperExchange
from labkit.paper.stream_sessions import LARGEST_BACKLOG

QUOTES_PER_SECOND = 50.0
MOST_MB_PER_MINUTE = 1.0
FILLED_ONCE_MB = 3.0
"""What caches and pages may still take after the warm-up: it looks like growth in a minute, not in an hour."""
MOST_LAG_MS = 250.0
LONGEST_WARM_UP_SECONDS = 60.0
TOO_SLOW = "too slow"
"""What the exchange says to a listener it cuts off for that."""
PROBE_SECONDS = 0.05
PROBES_PER_SAMPLE = 10
BYTES_OF_A_MB = 1 << 20

Disturbance = Callable[[Assembly], Awaitable[None]]


async def undisturbed(_: Assembly) -> None:
    """Nothing is done to the lab."""


@dataclass
class Soak:
    """What was seen while a lab ran."""

    minutes: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    """At these minutes."""
    loop_lags_ms: list[float] = field(default_factory=list)
    event_lags_ms: list[float] = field(default_factory=list)
    """The 99th percentile of the latest quotes, at the same minutes as the memory, in ms of life."""
    longest_queue: int = 0
    listeners_cut_off: int = 0
    """Those that let more frames lie than the exchange allows."""
    quotes: int = 0
    connections_lost: int = 0
    waited_for_a_core: float = 0.0
    """Share of the time in which the machine had no core for us: of lags, much of that explains all."""

    @property
    def mb_per_minute(self) -> float:
        """The slope of memory, by least squares."""
        return statistics.linear_regression(self.minutes, self.memory_mb).slope

    @property
    def loop_lag_ms(self) -> float:
        """The 99th percentile of the event loop's lateness."""
        return statistics.quantiles(self.loop_lags_ms, n=100)[98]

    @property
    def event_lag_ms(self) -> float:
        """The 99th percentile of the quotes' way here, at the worst moment."""
        return max(self.event_lags_ms)

    def misses(self) -> list[str]:
        """Which goals were missed."""
        goals = {
            f"memory grows by {self.mb_per_minute:.2f} MB a minute": self.mb_per_minute
            <= MOST_MB_PER_MINUTE + FILLED_ONCE_MB / self.minutes[-1],
            f"event lag is {self.event_lag_ms:.0f} ms": self.event_lag_ms <= MOST_LAG_MS,
            f"loop lag is {self.loop_lag_ms:.0f} ms": self.loop_lag_ms <= MOST_LAG_MS,
            f"{self.listeners_cut_off} queues over {LARGEST_BACKLOG} frames": self.listeners_cut_off == 0,
            f"{self.connections_lost} connections lost": self.connections_lost == 0,
            "no quotes came": self.quotes > 0,
        }
        return [words for words, reached in goals.items() if not reached]

    def __str__(self) -> str:
        watched = self.minutes[-1] - self.minutes[0]
        return (
            f"watched for {watched:.1f} min: {self.quotes / watched / 60:.0f} quotes/s; "
            f"memory {self.memory_mb[-1]:.0f} MB, {self.mb_per_minute:+.2f} MB/min; "
            f"event lag p99 {self.event_lag_ms:.0f} ms, loop lag p99 {self.loop_lag_ms:.0f} ms; "
            f"longest queue {self.longest_queue} of {LARGEST_BACKLOG} frames; "
            f"connections lost {self.connections_lost}; "
            f"waited for a core {self.waited_for_a_core:.0%} of the time"
        )


async def soak(folder: Path, seconds: float, disturb: Disturbance = undisturbed) -> Soak:
    """Run a lab in `folder` for so long after it began to trade, and tell what was seen behind the warm-up.

    `disturb` is what a control does to the lab before it is watched.
    """
    config = Config(paper=PaperConfig(quotes_per_second=QUOTES_PER_SECOND))
    lab = await assemble_on_sockets(config, folder)
    try:
        await lab.start()
        while lab.scheduler.state != "running":
            await asyncio.sleep(PROBE_SECONDS)
            if lab.scheduler.failure is not None:
                raise lab.scheduler.failure
        warm_up = min(LONGEST_WARM_UP_SECONDS, seconds / 3)
        await asyncio.sleep(warm_up)
        give_back_free_memory()
        await disturb(lab)
        return await _watched(lab, seconds - warm_up)
    finally:
        await lab.stop()


def give_back_free_memory() -> None:
    """Let the allocator return what it holds for nobody, which would hide a leak for as long as it lasts."""
    gc.collect()
    # Where there is no such function, the slope is only less sharp at first.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def seconds_without_a_core() -> float:
    """How long this thread could have run but for others on the machine; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


async def _watched(lab: Assembly, seconds: float) -> Soak:
    assert isinstance(lab.exchange, PaperExchange)
    seen, process = Soak(), psutil.Process()
    monitor, hub = lab.scheduler.websocket_monitor, lab.exchange.venue.hub
    quotes_before, lost_before = monitor.frames_by_stream_type["bookTicker"], monitor.reconnects
    listeners = set(hub.sessions)
    begin, waited_before = time.monotonic(), seconds_without_a_core()
    while (now := time.monotonic()) < begin + seconds:
        seen.minutes.append((now - begin) / 60)
        seen.memory_mb.append(process.memory_info().rss / BYTES_OF_A_MB)
        seen.event_lags_ms.append(monitor.latency_ms[1] / lab.clock.speed)
        for _ in range(PROBES_PER_SAMPLE):
            due = time.monotonic() + PROBE_SECONDS
            await asyncio.sleep(PROBE_SECONDS)
            seen.loop_lags_ms.append(max(0.0, time.monotonic() - due) * 1000)
            listeners |= set(hub.sessions)
            seen.longest_queue = max(seen.longest_queue, *(len(listener.outgoing) for listener in listeners), 0)
    seen.quotes = monitor.frames_by_stream_type["bookTicker"] - quotes_before
    seen.connections_lost = monitor.reconnects - lost_before
    seen.waited_for_a_core = (seconds_without_a_core() - waited_before) / seconds
    seen.listeners_cut_off = sum(listener.close_reason == TOO_SLOW for listener in listeners)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = asyncio.run(soak(Path(folder), options.minutes * 60))
    print(seen)
    for words in seen.misses():
        print(f"MISSED: {words}")
    sys.exit(1 if seen.misses() else 0)


if __name__ == "__main__":
    main()
