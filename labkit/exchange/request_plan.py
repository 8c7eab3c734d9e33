"""What somebody would like to ask of an exchange, and the forecast of what that costs.

Plain values: a plan is a list of `PlannedCalls`, made by name (`planned_calls`) or from a span of candles
(`planned_candles`). `BinanceClient.forecast` answers a plan without sending anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from labkit.domain.clock import MINUTE_MS, SECOND_MS
from labkit.domain.intervals import candles_between, opens_at_or_after
from labkit.errors import LocalProtocolError
from labkit.wire.endpoints import ENDPOINTS, Lane, OwnPool

CANDLES_A_CALL = 1_500


class PlannedCalls(msgspec.Struct, frozen=True, kw_only=True):
    """`count` calls of one kind that somebody would like to make, one after another."""

    lane: Lane
    weight: int
    """Request weight of one call."""
    order_cost: int = 0
    own_pool: OwnPool | None = None
    cancels: bool = False
    """It cancels orders: no flood of questions in its lane may hold it up."""
    count: int = 1


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan costs and when its last call could be sent, if nothing else is asked meanwhile. Exchange time."""

    calls: int
    weight: int
    orders: int
    begins_ms: int
    finished_ms: int

    @property
    def duration_ms(self) -> int:
        return self.finished_ms - self.begins_ms

    def __str__(self) -> str:
        orders = f", {self.orders:,} orders" if self.orders else ""
        return f"{self.calls:,} calls, {self.weight:,} weight{orders}: {in_words(self.duration_ms)} of rate limits"


def planned_calls(endpoint: str, count: int = 1, *, reduce_only: bool = False, **parameters: str) -> PlannedCalls:
    """`count` calls of one row of `wire.endpoints.ENDPOINTS`, weighed with `parameters` (`limit` and `symbol` matter).

    Args:
        reduce_only: orders that reduce a position travel in the close lane.

    Raises:
        LocalProtocolError: there is no such endpoint.
    """
    asked = ENDPOINTS.get(endpoint)
    if asked is None:
        raise LocalProtocolError(f"no endpoint {endpoint!r}: one of {', '.join(ENDPOINTS)}")
    return PlannedCalls(
        lane=Lane.CLOSE if reduce_only else asked.lane,
        weight=asked.weight(parameters),
        order_cost=asked.order_cost,
        own_pool=asked.own_pool,
        cancels=asked.cancels,
        count=count,
    )


def planned_candles(
    symbols: Sequence[str], interval: str, start_ms: int, end_ms: int, *, endpoint: str = "klines"
) -> PlannedCalls:
    """The calls that bring every candle with open time in [start_ms, end_ms), full pages at a time.

    Raises:
        ConfigError: an interval nobody knows.
        LocalProtocolError: there is no such endpoint.
    """
    first_ms, last_ms = (opens_at_or_after(interval, moment) for moment in (start_ms, end_ms))
    pages = -(-candles_between(interval, first_ms, last_ms) // CANDLES_A_CALL)
    return planned_calls(endpoint, pages * len(symbols), limit=str(CANDLES_A_CALL))


def in_words(duration_ms: int) -> str:
    """A duration as people say it, rounded up to seconds: `at once`, `12 s`, `15 min 3 s`."""
    minutes, seconds = divmod(-(-duration_ms // SECOND_MS), MINUTE_MS // SECOND_MS)
    if not minutes:
        return f"{seconds} s" if seconds else "at once"
    return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
