"""Funding: what a position pays, when, and the mark price of markets that do not tell one.

Pure (rules R-FUN 25-27, protocol §7.3, §7.4): times in UTC milliseconds, rates as fractions per interval, payments in
quote asset. Called by `order_desk` and `market_board`.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from labkit.domain.clock import HOUR_MS, SECOND_MS
from labkit.domain.market_events import MarkPrice, Quote
from labkit.domain.position import ZERO, quantize_money

DEFAULT_FUNDING_RATE = Decimal("0.0001")
"""Per interval, where the market tells none."""
MARK_WINDOW_MS = 30 * SECOND_MS


def payment(quantity: Decimal, mark_price: Decimal, funding_rate: Decimal) -> Decimal:
    """What a signed position receives (negative: pays) at a settlement, in quote asset."""
    return quantize_money(-quantity * mark_price * funding_rate)


def next_funding_time(now_ms: int, interval_hours: int) -> int:
    """The first settlement after `now_ms`: settlements fall on multiples of the interval since UTC midnight."""
    interval_ms = interval_hours * HOUR_MS
    return (now_ms // interval_ms + 1) * interval_ms


class MeanMark:
    """The mark price of a market that tells none: mean of the mid price over 30 s, sampled each second."""

    def __init__(self, symbol: str, interval_hours: int) -> None:
        self._symbol = symbol
        self._interval_hours = interval_hours
        self._samples: deque[tuple[int, Decimal]] = deque()
        self._sum = ZERO

    def sample(self, quote: Quote, now_ms: int) -> MarkPrice:
        """Take the present mid price into the mean, and tell the mark price at `now_ms`."""
        mid = quote.mid_price
        self._samples.append((now_ms, mid))
        self._sum += mid
        while self._samples[0][0] <= now_ms - MARK_WINDOW_MS:
            self._sum -= self._samples.popleft()[1]
        mark_price = quantize_money(self._sum / len(self._samples))
        return MarkPrice(
            symbol=self._symbol,
            mark_price=mark_price,
            index_price=quantize_money(mid),
            funding_rate=DEFAULT_FUNDING_RATE,
            next_funding_time_ms=next_funding_time(now_ms, self._interval_hours),
            event_time_ms=now_ms,
        )
