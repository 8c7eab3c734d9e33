"""LiveFeed: the real exchange's public market, passed on fact by fact, with the bars that were missed fetched later.

Needs no key. Whoever it tells decides what it is for; the paper exchange trades at it. Prices in
quote asset, times in UTC milliseconds of the exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from labkit.config import MonitorConfig
from labkit.domain.clock import DAY_MS, MINUTE_MS, Clock
from labkit.domain.market_events import Bar, MarkPrice, Quote, Trade
from labkit.errors import ExchangeError
from labkit.market.data_service import DataService
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.wire.streams import agg_trade_stream
from labkit.wire.transport import StreamTransport

Fact = Quote | MarkPrice | Trade | Bar


def _nobody(_fact: Fact) -> None:
    """Nobody is told yet."""


class LiveFeed:
    """Listens to `symbols`: best quotes, mark prices, aggregate trades and closed one-minute bars.

    Args:
        symbols: what to listen to.
        history: where bars are asked for.
        streams: how the exchange's streams are opened.
        clock: the exchange's time.
        config: of the monitor that listens.
        remember: called with bars that are past: history, and what a broken connection missed.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        history: DataService,
        *,
        streams: StreamTransport,
        clock: Clock,
        config: MonitorConfig,
        remember: Callable[[Iterable[Bar]], None],
    ) -> None:
        self._symbols = tuple(symbols)
        self._history = history
        self._clock = clock
        self.tell: Callable[[Fact], None] = _nobody
        """Called with each fact as it arrives, in order."""
        self._remember = remember
        self._known_until_ms: dict[str, int] = {}
        self._repairs: set[asyncio.Task[None]] = set()
        self.monitor = WebSocketMonitor(self._symbols, streams=streams, clock=clock, config=config)
        self.monitor.on_quote = self._pass_on
        self.monitor.on_mark = self._pass_on
        self.monitor.on_trade = self._pass_on
        self.monitor.on_bar = self._take_bar
        self.monitor.add_streams([agg_trade_stream(symbol) for symbol in self._symbols])

    async def recall(self, days: float) -> None:
        """Fetch the closed bars of the last `days`.

        Raises:
            ExchangeError: the exchange cannot be asked.
        """
        end_ms = self._clock.now_ms() // MINUTE_MS * MINUTE_MS
        for symbol in self._symbols:
            self._remember(await self._history.bars(symbol, "1m", end_ms - round(days * DAY_MS), end_ms))
            self._known_until_ms[symbol] = end_ms

    async def start(self) -> None:
        """Begin to listen; a connection that is lost comes back by itself."""
        await self.monitor.start()

    async def stop(self) -> None:
        for repair in self._repairs:
            repair.cancel()
        await asyncio.gather(*self._repairs, return_exceptions=True)
        await self.monitor.stop()

    def _pass_on(self, fact: Fact) -> None:
        self.tell(fact)

    def _take_bar(self, bar: Bar) -> None:
        missed_from_ms = self._known_until_ms.get(bar.symbol, bar.open_time_ms)
        self._known_until_ms[bar.symbol] = bar.close_time_ms + 1
        if missed_from_ms < bar.open_time_ms:
            repair = asyncio.create_task(self._repair(bar.symbol, missed_from_ms, bar.open_time_ms))
            self._repairs.add(repair)
            repair.add_done_callback(self._repairs.discard)
        self.tell(bar)

    async def _repair(self, symbol: str, start_ms: int, end_ms: int) -> None:
        try:
            self._remember(await self._history.bars(symbol, "1m", start_ms, end_ms))
        except ExchangeError:
            # Asked for again together with whatever is missed next.
            self._known_until_ms[symbol] = min(start_ms, self._known_until_ms[symbol])
