"""labkit's own part in the feed benchmark: all of `WebSocketMonitor`, as the lab runs it. See feed_clients.py."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING

import psutil
from feed_server import FIRST_UPDATE_ID, HOST

from labkit.domain.market_events import Quote
from labkit.edge.websocket import SocketStreams
from labkit.market.websocket_monitor import WebSocketMonitor

if TYPE_CHECKING:
    from feed_clients import Meter

POLL_SECONDS = 0.1
READING_SECONDS = 0.02
BYTES_OF_A_MB = 1 << 20


class Measured:
    """A monitor with the ordinary settings, wired as in the lab: a listener hears every quote of what is held."""

    def __init__(self, port: int, meter: Meter, *, held: int) -> None:
        self.meter = meter
        streams = SocketStreams(f"ws://{HOST}:{port}", open_timeout_ms=5_000)
        self.monitor = WebSocketMonitor(meter.symbols, streams=streams)
        self.heard: dict[str, Quote] = {}
        self.monitor.on_quote = self._hear
        self.monitor.listen_to(meter.symbols[:held])

    def _hear(self, quote: Quote) -> None:
        self.heard[quote.symbol] = quote

    @property
    def quotes(self) -> int:
        return self.monitor.frames_by_stream_type["bookTicker"]

    async def warm_up(self) -> None:
        await self.monitor.start()
        while self.quotes < self.meter.warm_up:
            await asyncio.sleep(POLL_SECONDS)
        if self.quotes != self.meter.warm_up:
            raise RuntimeError(f"the load began before the warm-up of {self.meter.warm_up} quotes was noticed")
        self.meter.messages(self.meter.warm_up)

    @property
    def is_over(self) -> bool:
        return self.quotes == self.meter.warm_up + self.meter.count

    def end(self) -> None:
        """Stop the meter; then be sure that nothing was refused and the last quotes are there, fit to decide on."""
        monitor, meter = self.monitor, self.meter
        meter.messages(meter.count)
        if monitor.rejected:
            raise RuntimeError(f"quotes were refused: {dict(monitor.rejected)}")
        newest = sorted(quote.update_id for name in meter.symbols if (quote := monitor.fresh_quote(name)) is not None)
        after_last = FIRST_UPDATE_ID + meter.warm_up + meter.count
        if newest != list(range(after_last - len(meter.symbols), after_last)):
            raise RuntimeError("the cache does not hold the last quotes")
        if any(quote != monitor.get_quote(name) for name, quote in self.heard.items()):
            raise RuntimeError("the listener did not hear the last quotes")


async def measure(port: int, meter: Meter, *, held: int) -> None:
    """Frame, validated quote in the cache, health and latency counted."""
    measured = Measured(port, meter, held=held)
    await measured.warm_up()
    while not measured.is_over:
        await asyncio.sleep(POLL_SECONDS)
    measured.end()
    await measured.monitor.stop()


async def measure_reading(port: int, meter: Meter) -> None:
    """Note what `get_quote` costs right after a new quote and again, and how much memory grows under the load."""
    measured = Measured(port, meter, held=0)
    get_quote, process = measured.monitor.get_quote, psutil.Process()
    new, again, sizes = [], [], []
    await measured.warm_up()
    while not measured.is_over:
        await asyncio.sleep(READING_SECONDS)
        for costs in (new, again):
            begin = time.process_time()
            for symbol in meter.symbols:
                get_quote(symbol)
            costs.append((time.process_time() - begin) / len(meter.symbols))
        sizes.append((measured.quotes, process.memory_info().rss))
    settled = next(size for quotes, size in sizes if quotes >= meter.warm_up + meter.count // 4)
    meter.notes = {
        "new_us": statistics.median(new) * 1e6,
        "again_us": statistics.median(again) * 1e6,
        "grown_mb": (sizes[-1][1] - settled) / BYTES_OF_A_MB,
        "mb": sizes[-1][1] / BYTES_OF_A_MB,
    }
    measured.end()
    await measured.monitor.stop()
