"""QuoteCache: the latest facts of each symbol that passed every check, and how old they are.

Plain values in, plain values out: times are market milliseconds given by the caller, prices in quote asset. A quote
enters only if it is positive, two-sided, not crossed, newer than the one before it, and near the mark price or
confirmed. What is refused is counted by reason. `WebSocketMonitor` fills it and answers from it.

Quotes enter by `accept_quote`, or, once a symbol is followed, by its `lane`, which takes nothing that `accept_quote`
would not; a quote that came that way becomes a `Quote` when it is read.

An *epoch* is one connection. Update ids must rise within an epoch; while two connections overlap the higher id wins;
when the old connection is gone, a new one may start again from low ids.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from labkit.domain.market_events import MarkPrice, Quote
from labkit.market.quote_lane import QuoteLane
from labkit.wire.streams import Ticker

JUMP_BAND = Decimal("0.05")
"""A mid price further than this fraction from the mark and from the last good quote must be confirmed."""
JUMP_CONFIRMATIONS = 2
"""How many further quotes must agree with a jump before it is believed."""

ZERO = Decimal(0)


class _Symbol:
    """What is known of one symbol."""

    __slots__ = (
        "_lane",
        "_quote",
        "epoch",
        "epoch_over",
        "jump_agreeing",
        "jump_mid",
        "lost_because",
        "mark",
        "row",
        "ticker",
    )

    def __init__(self, lane: QuoteLane, row: int) -> None:
        self._lane = lane
        self.row = row
        self._quote: Quote | None = None
        self.mark: MarkPrice | None = None
        self.ticker: Ticker | None = None
        self.epoch = -1
        self.epoch_over = False
        self.lost_because = ""
        self.jump_mid: Decimal | None = None
        self.jump_agreeing = 0

    @property
    def quote(self) -> Quote | None:
        if (newer := self._lane.unread(self.row)) is not None:
            self._quote = newer
        return self._quote

    @quote.setter
    def quote(self, quote: Quote) -> None:
        self._quote = quote


class QuoteCache:
    """The latest valid quote, mark price and 24 h change per symbol.

    Args:
        symbols: the symbols anything is kept for.
        stale_after_ms: a quote or mark older than this, in market milliseconds, is not for deciding.
    """

    def __init__(self, symbols: tuple[str, ...] = (), *, stale_after_ms: int) -> None:
        self.stale_after_ms = stale_after_ms
        self.rejected: Counter[str] = Counter()
        """How many facts were refused, by reason."""
        self.refused = 0
        """How many facts were refused in all."""
        self.lane = QuoteLane(stale_after_ms=stale_after_ms)
        """The short way for ordinary quotes of the symbols being followed."""
        self._symbols: dict[str, _Symbol] = {}
        for symbol in symbols:
            self.add(symbol)

    def add(self, symbol: str) -> None:
        """Begin to keep `symbol`; no effect if it is kept already."""
        if symbol not in self._symbols:
            self._symbols[symbol] = _Symbol(self.lane, self.lane.add(symbol))

    def remove(self, symbol: str) -> None:
        """Forget `symbol`."""
        held = self._symbols.pop(symbol, None)
        if held is not None:
            self.lane.remove(held.row)

    def follow(self, symbol: str, epoch: int) -> None:
        """Let the lane take what ordinarily comes over connection `epoch` after the quote that just came over it."""
        held = self._symbols.get(symbol)
        if held is not None and held.quote is not None and held.epoch == epoch and held.jump_mid is None:
            self.lane.follow(held.row, held.quote, epoch)

    def leave(self, symbol: str) -> None:
        """Let every quote of `symbol` pass `accept_quote` until it is followed again."""
        self.lane.leave(self._symbols[symbol].row)

    def listen(self, symbol: str, is_listened_to: bool) -> None:
        """Whether somebody wants to see each quote of `symbol`, not just the latest; at first it is so."""
        self.lane.listen(self._symbols[symbol].row, is_listened_to)

    # In.

    def accept_quote(self, quote: Quote, epoch: int) -> bool:
        """Take `quote`, which came over connection `epoch`; False if it was refused (see `rejected`)."""
        held = self._symbols.get(quote.symbol)
        if held is None:
            return self.refuse("unasked symbol")
        last = held.quote
        self.lane.leave(held.row)
        if quote.bid_price <= ZERO or quote.ask_price <= ZERO:
            return self.refuse("price not positive")
        if quote.bid_quantity <= ZERO or quote.ask_quantity <= ZERO:
            return self.refuse("one-sided book")
        if quote.bid_price > quote.ask_price:
            return self.refuse("crossed book")
        if last is not None and quote.update_id <= last.update_id:
            if epoch == held.epoch:
                return self.refuse("update id did not rise")
            if not held.epoch_over or epoch < held.epoch:
                # Two connections overlap and this one is behind: what it says is known already.
                return False
        if self._is_unconfirmed_jump(held, quote):
            return self.refuse("price jump not yet confirmed")
        held.quote = quote
        held.epoch = epoch
        held.epoch_over = False
        held.lost_because = ""
        held.jump_mid = None
        return True

    def accept_mark_price(self, mark: MarkPrice) -> bool:
        """Take `mark`; False if it was refused or is not newer than the one held."""
        held = self._symbols.get(mark.symbol)
        if held is None:
            return self.refuse("unasked symbol")
        if mark.mark_price <= ZERO or mark.index_price < ZERO:
            return self.refuse("price not positive")
        if held.mark is not None and mark.event_time_ms <= held.mark.event_time_ms:
            return False
        held.mark = mark
        return True

    def accept_ticker(self, ticker: Ticker) -> bool:
        """Take the 24 h statistics; False if they were refused or are not newer than those held."""
        held = self._symbols.get(ticker.symbol)
        if held is None:
            return self.refuse("unasked symbol")
        if ticker.open_price <= ZERO or ticker.last_price <= ZERO:
            return self.refuse("price not positive")
        if held.ticker is not None and ticker.event_time_ms <= held.ticker.event_time_ms:
            return False
        held.ticker = ticker
        return True

    def refuse(self, reason: str) -> bool:
        """Count a fact that is not taken; always False."""
        self.rejected[reason] += 1
        self.refused += 1
        return False

    def end_epoch(self, epoch: int, lost_because: str = "") -> None:
        """Connection `epoch` is over. With a cause it was lost: its quotes are stale at once, whatever their age."""
        for held in self._symbols.values():
            if held.epoch == epoch:
                self.lane.leave(held.row)
                held.epoch_over = True
                held.lost_because = lost_because

    # Out.

    def quote(self, symbol: str) -> Quote | None:
        """The last valid quote, however old."""
        held = self._symbols.get(symbol)
        return held.quote if held else None

    def mark_price(self, symbol: str) -> MarkPrice | None:
        """The last valid mark price, however old."""
        held = self._symbols.get(symbol)
        return held.mark if held else None

    def ticker(self, symbol: str) -> Ticker | None:
        """The last 24 h statistics."""
        held = self._symbols.get(symbol)
        return held.ticker if held else None

    def quote_age_ms(self, symbol: str, now_ms: int) -> int | None:
        """Market milliseconds since the quote was true, by the exchange's time or ours, whichever is older."""
        held = self._symbols.get(symbol)
        return _age_ms(held.quote, now_ms) if held and held.quote else None

    def why_stale(self, symbol: str, now_ms: int) -> str:
        """Why the quote of `symbol` may not be used for a decision; empty if it may."""
        held = self._symbols.get(symbol)
        if held is None:
            return "not watched"
        quote = held.quote
        if quote is None:
            return "no quote yet"
        if held.lost_because:
            return held.lost_because
        if (age_ms := _age_ms(quote, now_ms)) > self.stale_after_ms:
            return f"quote is {age_ms} ms old (limit {self.stale_after_ms})"
        if (ahead_ms := quote.event_time_ms - quote.received_ns // 1_000_000) > self.stale_after_ms:
            return f"exchange time is {ahead_ms} ms ahead of our clock"
        return ""

    def fresh_quote(self, symbol: str, now_ms: int) -> Quote | None:
        """The quote if it may be used for a decision, else None."""
        return None if self.why_stale(symbol, now_ms) else self._symbols[symbol].quote

    def fresh_mark_price(self, symbol: str, now_ms: int) -> MarkPrice | None:
        """The mark price if it is young enough to decide on, else None."""
        mark = self.mark_price(symbol)
        return mark if mark is not None and _age_ms(mark, now_ms) <= self.stale_after_ms else None

    # Inside.

    def _is_unconfirmed_jump(self, held: _Symbol, quote: Quote) -> bool:
        """One wild tick must not fire a stop: a jump needs the mark on its side, or quotes that repeat it."""
        mid = quote.mid_price
        if held.quote is None and held.mark is None:
            return False
        if held.quote is not None and _is_near(mid, held.quote.mid_price):
            return False
        if held.mark is not None and _is_near(mid, held.mark.mark_price):
            return False
        if held.jump_mid is not None and _is_near(mid, held.jump_mid):
            held.jump_agreeing += 1
        else:
            held.jump_mid = mid
            held.jump_agreeing = 0
        return held.jump_agreeing < JUMP_CONFIRMATIONS


def _is_near(price: Decimal, reference: Decimal) -> bool:
    return abs(price - reference) <= reference * JUMP_BAND


def _age_ms(fact: Quote | MarkPrice, now_ms: int) -> int:
    # An exchange time in the future must not make a fact look young: our own time counts as well.
    return max(0, now_ms - fact.received_ns // 1_000_000, now_ms - fact.event_time_ms)
