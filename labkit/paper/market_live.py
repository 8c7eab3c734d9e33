"""The real market of this moment, as it arrives: a `MarketSource` that somebody else fills.

`market.live_feed` listens to the exchange's public streams and calls `push`; the venue lives through what came. Pure:
times are given. Bars are the exchange's own, kept here, and may be completed later (`remember`), for nobody hears
everything. Prices in quote asset, times in UTC milliseconds.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter

from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.market_events import Bar, MarkPrice, Quote, Trade
from labkit.domain.symbol_rules import SymbolRules
from labkit.paper.listings import FUNDING_INTERVAL_HOURS, brackets_of
from labkit.paper.market_source import SourceEvent
from labkit.wire.streams import agg_trade_stream, book_ticker_stream, kline_stream, mark_price_stream

_OPEN_TIME = attrgetter("open_time_ms")


class LiveMarket:
    """What the real exchange tells, from `start_ms` on; implements `MarketSource`.

    Args:
        rules: of every symbol, as the exchange lists them.
        funding_hours: hours between two fundings where it is not the usual eight.
        start_ms: now.
    """

    name = "live"
    tells_bars = True
    disclosure = (
        "Live prices of the real exchange; orders, fills and money are on paper, and our orders do not move the market."
    )

    def __init__(self, rules: Mapping[str, SymbolRules], *, funding_hours: Mapping[str, int], start_ms: int) -> None:
        self.symbols = tuple(rules)
        self.start_ms = start_ms
        self.end_ms: int | None = None
        self._rules = rules
        self._funding_hours = funding_hours
        self._bars: dict[str, list[Bar]] = {symbol: [] for symbol in rules}
        self._arrived: deque[SourceEvent] = deque()

    # In.

    def push(self, fact: Quote | MarkPrice | Trade | Bar, time_ms: int) -> None:
        """Something happened at `time_ms` of our clock, which never falls. A bar must have closed."""
        if isinstance(fact, Quote):
            stream = book_ticker_stream(fact.symbol)
        elif isinstance(fact, MarkPrice):
            stream = mark_price_stream(fact.symbol)
        elif isinstance(fact, Trade):
            stream = agg_trade_stream(fact.symbol)
        else:
            stream = kline_stream(fact.symbol, fact.interval)
            self.remember((fact,))
        self._arrived.append(SourceEvent(time_ms, stream, fact))

    def remember(self, bars: Iterable[Bar]) -> None:
        """Keep closed one-minute bars, in any order; one that is kept already is not kept again."""
        for bar in bars:
            kept = self._bars[bar.symbol]
            place = bisect_left(kept, bar.open_time_ms, key=_OPEN_TIME)
            if place == len(kept) or kept[place].open_time_ms != bar.open_time_ms:
                insort(kept, bar, key=_OPEN_TIME)

    # Out.

    def rules(self) -> Mapping[str, SymbolRules]:
        return self._rules

    def brackets(self) -> Mapping[str, tuple[LeverageBracket, ...]]:
        # The exchange tells them only to whoever shows a key.
        return {symbol: brackets_of(symbol) for symbol in self.symbols}

    def funding_interval_hours(self, symbol: str) -> int:
        return self._funding_hours.get(symbol, FUNDING_INTERVAL_HOURS)

    def history(self, symbol: str, start_ms: int, end_ms: int) -> list[Bar]:
        kept = self._bars[symbol]
        return kept[bisect_left(kept, start_ms, key=_OPEN_TIME) : bisect_left(kept, end_ms, key=_OPEN_TIME)]

    def events(self, from_ms: int) -> Iterator[SourceEvent]:
        """What has arrived; what came before `from_ms` is gone."""
        return _Arrivals(self._arrived)


class _Arrivals:
    """Empty for the moment, not for good: that is what a live market is."""

    def __init__(self, arrived: deque[SourceEvent]) -> None:
        self._arrived = arrived

    def __iter__(self) -> Iterator[SourceEvent]:
        return self

    def __next__(self) -> SourceEvent:
        if not self._arrived:
            raise StopIteration
        return self._arrived.popleft()
