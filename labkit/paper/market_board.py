"""The market board: what the venue knows of the market besides its orders. Quotes, marks, candles, day statistics.

Prices in quote asset, volumes in base asset unless named `quote_volume`, times in UTC milliseconds. Pure. A candle is
made of prints where the market tells any, of mid prices where it does not; volume only ever comes from prints. A bar
is closed by time, not by the next print. Called by `labkit.paper.venue` and those who answer on HTTP.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from decimal import Decimal

import msgspec

from labkit.domain.clock import DAY_MS, MINUTE_MS
from labkit.domain.market_events import INTERVAL_MS, Bar, DepthDiff, MarkPrice, Quote, Trade
from labkit.domain.position import ZERO, quantize_money
from labkit.paper.funding import MeanMark
from labkit.paper.market_source import MarketSource
from labkit.wire.rest_market import Ticker24h

PERCENT_QUANTUM = Decimal("0.001")
SOURCE_MARK_PATIENCE_MS = 2_000
"""A market that has quoted this long without a mark price tells none: the venue then makes its own."""


class SettledFunding(msgspec.Struct, frozen=True):
    """One settlement of the market, whoever held a position."""

    symbol: str
    funding_time_ms: int
    funding_rate: Decimal
    mark_price: Decimal


class _RunningBar:
    """The candle of the present minute."""

    __slots__ = (
        "close",
        "high",
        "low",
        "open",
        "open_time_ms",
        "quote_volume",
        "symbol",
        "taker_buy_quote_volume",
        "taker_buy_volume",
        "touched",
        "trade_count",
        "volume",
    )

    def __init__(self, symbol: str, open_time_ms: int, price: Decimal) -> None:
        self.symbol = symbol
        self.open_time_ms = open_time_ms
        self.open = self.high = self.low = self.close = price
        self.volume = self.quote_volume = self.taker_buy_volume = self.taker_buy_quote_volume = ZERO
        self.trade_count = 0
        self.touched = False

    def price(self, price: Decimal) -> None:
        if not self.touched:
            # A candle that has only the last close so far opens at its first own price.
            self.touched = True
            self.open = self.high = self.low = price
        elif price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.close = price

    def trade(self, trade: Trade) -> None:
        self.price(trade.price)
        quote_volume = trade.price * trade.quantity
        self.volume += trade.quantity
        self.quote_volume += quote_volume
        self.trade_count += 1
        if not trade.buyer_is_maker:
            self.taker_buy_volume += trade.quantity
            self.taker_buy_quote_volume += quote_volume

    def bar(self, *, closed: bool) -> Bar:
        return Bar(
            symbol=self.symbol,
            interval="1m",
            open_time_ms=self.open_time_ms,
            close_time_ms=self.open_time_ms + MINUTE_MS - 1,
            open=self.open,
            high=self.high,
            low=self.low,
            close=self.close,
            volume=self.volume,
            quote_volume=self.quote_volume,
            trade_count=self.trade_count,
            taker_buy_volume=self.taker_buy_volume,
            taker_buy_quote_volume=self.taker_buy_quote_volume,
            closed=closed,
        )


class _DayWindow:
    """Rolling sums and extremes over the closed bars of 24 hours."""

    def __init__(self) -> None:
        self.bars: deque[Bar] = deque()
        self.volume = self.quote_volume = ZERO
        self.trade_count = 0
        self._high: Decimal | None = None
        self._low: Decimal | None = None

    def add(self, bar: Bar) -> None:
        self.bars.append(bar)
        self.volume += bar.volume
        self.quote_volume += bar.quote_volume
        self.trade_count += bar.trade_count
        self._high = None if self._high is None else max(self._high, bar.high)
        self._low = None if self._low is None else min(self._low, bar.low)
        while self.bars[0].open_time_ms <= bar.open_time_ms - DAY_MS:
            gone = self.bars.popleft()
            self.volume -= gone.volume
            self.quote_volume -= gone.quote_volume
            self.trade_count -= gone.trade_count
            if gone.high == self._high:
                self._high = None
            if gone.low == self._low:
                self._low = None

    def extremes(self) -> tuple[Decimal, Decimal]:
        if self._high is None:
            self._high = max(bar.high for bar in self.bars)
        if self._low is None:
            self._low = min(bar.low for bar in self.bars)
        return self._high, self._low


class SymbolBoard:
    """The market of one symbol as everybody sees it."""

    def __init__(self, source: MarketSource, symbol: str) -> None:
        self.symbol = symbol
        self.quote: Quote | None = None
        self.mark: MarkPrice | None = None
        self.last_trade: Trade | None = None
        self.trades: deque[Trade] = deque(maxlen=1000)
        self.funding: list[SettledFunding] = []
        self.changed = False
        """True if the running bar moved since it was last told."""
        self._source = source
        self._tells_bars = source.tells_bars
        self._interval_hours = source.funding_interval_hours(symbol)
        self._running: _RunningBar | None = None
        self._closed: list[Bar] = []
        self._day: _DayWindow | None = None
        self._mean_mark: MeanMark | None = None
        self._source_tells_marks = False
        self._quoted_since_ms: int | None = None
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}
        self._depth_update_id: int | None = None

    @property
    def has_depth(self) -> bool:
        """True if the market tells its order book; otherwise the book is the quote."""
        return self._depth_update_id is not None

    @property
    def last_price(self) -> Decimal | None:
        """The last print, or the mid price of a market that prints nothing."""
        if self.last_trade is not None:
            return self.last_trade.price
        return self.quote.mid_price if self.quote is not None else None

    def on_quote(self, quote: Quote, now_ms: int) -> None:
        self.quote = quote
        if self._quoted_since_ms is None:
            self._quoted_since_ms = now_ms
        if self.last_trade is None and 0 < quote.bid_price < quote.ask_price:
            self._running_bar(now_ms, quote.mid_price).price(quote.mid_price)
            self.changed = True

    def on_trade(self, trade: Trade, now_ms: int) -> None:
        if self.last_trade is None:
            # A market that prints: what its mid prices said of this minute is not part of any candle.
            self._running = (
                None if self._running is None else _RunningBar(self.symbol, self._running.open_time_ms, trade.price)
            )
        self.last_trade = trade
        self.trades.append(trade)
        self._running_bar(now_ms, trade.price).trade(trade)
        self.changed = True

    def on_mark(self, mark: MarkPrice) -> None:
        self._source_tells_marks = True
        self.mark = mark

    def on_depth(self, diff: DepthDiff) -> None:
        self._depth_update_id = diff.final_update_id
        for side, levels in ((self._bids, diff.bids), (self._asks, diff.asks)):
            for price, quantity in levels:
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)

    def own_mark(self, now_ms: int) -> MarkPrice | None:
        """The venue's own mark price at a full second, if the market tells none and quotes long enough."""
        if (
            self._source_tells_marks
            or self.quote is None
            or self._quoted_since_ms is None
            or now_ms - self._quoted_since_ms < SOURCE_MARK_PATIENCE_MS
        ):
            return None
        if self._mean_mark is None:
            self._mean_mark = MeanMark(self.symbol, self._interval_hours)
        self.mark = self._mean_mark.sample(self.quote, now_ms)
        return self.mark

    def close_minute(self, now_ms: int) -> Bar | None:
        """At a full minute: the bar that just ended, or None if the symbol never had a price.

        None, too, where the market tells its bars: what was seen here of the minute is only what arrived in time.
        """
        running = self._running
        if running is None or running.open_time_ms >= now_ms:
            return None
        self._running = _RunningBar(self.symbol, now_ms, running.close)
        self.changed = True
        if self._tells_bars:
            return None
        bar = running.bar(closed=True)
        self._closed.append(bar)
        if self._day is not None:
            self._day.add(bar)
        return bar

    def on_bar(self, bar: Bar) -> None:
        """A closed bar the market told; its source keeps it."""
        if self._day is not None:
            self._day.add(bar)

    def close_minutes_until(self, now_ms: int) -> None:
        """Close every bar that ended by `now_ms`."""
        while self._running is not None and self._running.open_time_ms + MINUTE_MS <= now_ms:
            self.close_minute(self._running.open_time_ms + MINUTE_MS)

    def minutes(self, start_ms: int, end_ms: int) -> list[Bar]:
        """One-minute bars with open time in [start_ms, end_ms), the running one included."""
        running = self._running
        if self._tells_bars:
            bars = self._source.history(self.symbol, start_ms, end_ms)
            reached_ms = bars[-1].close_time_ms if bars else start_ms - 1
            if running is not None and reached_ms < running.open_time_ms < end_ms:
                bars.append(running.bar(closed=False))
            return bars
        own_from = self._closed[0].open_time_ms if self._closed else running.open_time_ms if running else None
        history_until = end_ms if own_from is None else min(end_ms, own_from)
        bars = self._source.history(self.symbol, start_ms, history_until) if start_ms < history_until else []
        if own_from is not None:
            # Own bars have no gap between them, so the place of a minute is known.
            first = max(0, -(-(start_ms - own_from) // MINUTE_MS))
            last = max(0, -(-(end_ms - own_from) // MINUTE_MS))
            bars = bars + self._closed[first:last]
            if running is not None and start_ms <= running.open_time_ms < end_ms:
                bars.append(running.bar(closed=False))
        return bars

    def bars(self, interval: str, *, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int) -> list[Bar]:
        """Bars of `interval` as the exchange pages them: oldest first from `start_ms`, else the most recent."""
        length = INTERVAL_MS[interval]
        last_open = min(now_ms if end_ms is None else end_ms, now_ms) // length * length
        if start_ms is None:
            first_open = last_open - (limit - 1) * length
        else:
            first_open = -(-start_ms // length) * length
            last_open = min(last_open, first_open + (limit - 1) * length)
        return combine(self.minutes(first_open, last_open + length), interval)

    def day(self, now_ms: int) -> Ticker24h | None:
        """Statistics of the last 24 hours, or None before the first price."""
        running = self._running
        last_price = self.last_price
        if running is None or last_price is None:
            return None
        if self._day is None:
            self._day = _DayWindow()
            for bar in self.minutes(running.open_time_ms - DAY_MS, running.open_time_ms):
                self._day.add(bar)
        window = self._day
        high, low = window.extremes() if window.bars else (running.high, running.low)
        open_price = window.bars[0].open if window.bars else running.open
        volume = window.volume + running.volume
        quote_volume = window.quote_volume + running.quote_volume
        trade_count = window.trade_count + running.trade_count
        last_trade = self.last_trade
        last_trade_id = last_trade.trade_id if last_trade is not None else -1
        return Ticker24h(
            symbol=self.symbol,
            price_change=last_price - open_price,
            price_change_percent=((last_price / open_price - 1) * 100).quantize(PERCENT_QUANTUM),
            weighted_average_price=quantize_money(quote_volume / volume) if volume else last_price,
            last_price=last_price,
            last_quantity=last_trade.quantity if last_trade is not None else ZERO,
            open_price=open_price,
            high_price=max(high, running.high),
            low_price=min(low, running.low),
            volume=volume,
            quote_volume=quote_volume,
            open_time_ms=window.bars[0].open_time_ms if window.bars else running.open_time_ms,
            close_time_ms=now_ms,
            first_trade_id=max(-1, last_trade_id - trade_count + 1),
            last_trade_id=last_trade_id,
            trade_count=trade_count,
        )

    def depth(self, limit: int) -> tuple[int, tuple[tuple[Decimal, Decimal], ...], tuple[tuple[Decimal, Decimal], ...]]:
        """Last update id, bids and asks, best first: the told book, or the quote where none is told."""
        if self._depth_update_id is not None:
            bids = sorted(self._bids.items(), reverse=True)[:limit]
            asks = sorted(self._asks.items())[:limit]
            return self._depth_update_id, tuple(bids), tuple(asks)
        quote = self.quote
        if quote is None:
            return 0, (), ()
        return (
            quote.update_id,
            ((quote.bid_price, quote.bid_quantity),),
            ((quote.ask_price, quote.ask_quantity),),
        )

    def _running_bar(self, now_ms: int, price: Decimal) -> _RunningBar:
        if self._running is None:
            self._running = _RunningBar(self.symbol, now_ms // MINUTE_MS * MINUTE_MS, price)
        return self._running


def combine(minutes: Iterable[Bar], interval: str) -> list[Bar]:
    """One-minute bars folded into bars of `interval`; a bar is closed once its last minute is."""
    if interval == "1m":
        return list(minutes)
    length = INTERVAL_MS[interval]
    bars: list[Bar] = []
    for minute in minutes:
        open_time_ms = minute.open_time_ms // length * length
        close_time_ms = open_time_ms + length - 1
        closed = minute.closed and minute.close_time_ms == close_time_ms
        if bars and bars[-1].open_time_ms == open_time_ms:
            before = bars[-1]
            bars[-1] = msgspec.structs.replace(
                before,
                high=max(before.high, minute.high),
                low=min(before.low, minute.low),
                close=minute.close,
                volume=before.volume + minute.volume,
                quote_volume=before.quote_volume + minute.quote_volume,
                trade_count=before.trade_count + minute.trade_count,
                taker_buy_volume=before.taker_buy_volume + minute.taker_buy_volume,
                taker_buy_quote_volume=before.taker_buy_quote_volume + minute.taker_buy_quote_volume,
                closed=closed,
            )
        else:
            bars.append(
                msgspec.structs.replace(
                    minute, interval=interval, open_time_ms=open_time_ms, close_time_ms=close_time_ms, closed=closed
                )
            )
    return bars


def depth_diff_between(previous: Quote, quote: Quote) -> DepthDiff:
    """The change of a book that has only its best level: what a market without depth shows as depth."""

    def levels(old: tuple[Decimal, Decimal], new: tuple[Decimal, Decimal]) -> tuple[tuple[Decimal, Decimal], ...]:
        return (new,) if old[0] == new[0] else ((old[0], ZERO), new)

    return DepthDiff(
        symbol=quote.symbol,
        # Overlaps the id before it, so that the first diff after a snapshot straddles the snapshot's id.
        first_update_id=previous.update_id,
        final_update_id=quote.update_id,
        previous_final_update_id=previous.update_id,
        bids=levels((previous.bid_price, previous.bid_quantity), (quote.bid_price, quote.bid_quantity)),
        asks=levels((previous.ask_price, previous.ask_quantity), (quote.ask_price, quote.ask_quantity)),
        event_time_ms=quote.event_time_ms,
    )
