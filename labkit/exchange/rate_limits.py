"""How fast an exchange may be asked: request weight a minute, orders per ten seconds and a minute, in four lanes.

Pure: times come in as exchange time in milliseconds. Every pool is a sliding window, stricter than the exchange's
calendar windows, so that no alignment of the two clocks can pass a limit. Each lane may fill a pool only up to its
own ceiling (close > cancel and query > open > history); what is above a lane's ceiling it can never take from a
higher one. Weight others on this address have used is learnt from the exchange's reply headers. `BinanceClient` is
the caller.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping

import msgspec

from labkit.errors import WouldExceedLimit
from labkit.wire.rest import Lane, RateLimit

MINUTE_MS = 60_000
TEN_SECONDS_MS = 10_000

LANE_CEILING = {Lane.CLOSE: 1.0, Lane.CANCEL_QUERY: 0.9, Lane.OPEN: 0.8, Lane.HISTORY: 0.6}
"""Share of a pool each lane may fill it up to."""

USED_WEIGHT_HEADER = "x-mbx-used-weight-1m"
ORDER_COUNT_10S_HEADER = "x-mbx-order-count-10s"
ORDER_COUNT_1M_HEADER = "x-mbx-order-count-1m"


class PlannedCalls(msgspec.Struct, frozen=True, kw_only=True):
    """`count` calls of one kind that somebody would like to make."""

    lane: Lane
    weight: int
    order_cost: int = 0
    count: int = 1


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan costs and when its last call could be sent, if nothing else is asked meanwhile."""

    calls: int
    weight: int
    order_cost: int
    finished_ms: int


class _Window:
    """One sliding window: what was spent in the last `length_ms`, and what others spent in the exchange's window."""

    def __init__(self, length_ms: int, limit: int) -> None:
        self.length_ms = length_ms
        self.limit = limit
        self._spent: list[tuple[int, int]] = []
        """(moment it is forgotten, amount), soonest first."""
        self._foreign = 0
        self._foreign_until_ms = 0

    def copy(self) -> _Window:
        twin = _Window(self.length_ms, self.limit)
        twin._spent = self._spent.copy()
        twin._foreign, twin._foreign_until_ms = self._foreign, self._foreign_until_ms
        return twin

    def used(self, now_ms: int) -> int:
        others = self._foreign if now_ms < self._foreign_until_ms else 0
        return others + sum(amount for _, amount in self._spent[self._remembered_from(now_ms) :])

    def spend(self, amount: int, now_ms: int) -> None:
        del self._spent[: self._remembered_from(now_ms)]
        if amount:
            insort(self._spent, (now_ms + self.length_ms, amount))

    def correct(self, told: int, now_ms: int) -> None:
        """The exchange counted `told` in its current calendar window: what is not ours is somebody else's."""
        start_ms = now_ms - now_ms % self.length_ms
        ours = sum(amount for forgotten_ms, amount in self._spent if forgotten_ms - self.length_ms >= start_ms)
        self._foreign = max(0, told - ours)
        self._foreign_until_ms = start_ms + self.length_ms

    def earliest_ms(self, amount: int, ceiling: float, now_ms: int) -> int:
        """The first moment at or after `now_ms` at which `amount` fits under `ceiling`."""
        room = int(self.limit * ceiling)
        if amount > room:
            raise WouldExceedLimit(f"a call of {amount} never fits: this lane may use {room} of {self.limit}")
        if not amount:
            return now_ms
        used = self.used(now_ms)
        if used + amount <= room:
            return now_ms
        releases = self._spent[self._remembered_from(now_ms) :]
        if now_ms < self._foreign_until_ms:
            insort(releases, (self._foreign_until_ms, self._foreign))
        for forgotten_ms, spent in releases:
            used -= spent
            if used + amount <= room:
                return forgotten_ms
        raise AssertionError("an empty window has room for any call that fits at all")

    def _remembered_from(self, now_ms: int) -> int:
        """Index of the first spending that still counts at `now_ms`."""
        return bisect_right(self._spent, now_ms, key=lambda spending: spending[0])


class RateLimits:
    """The pools of one address and account.

    Args:
        weight_share: fraction of the exchange's request weight labkit allows itself.
    """

    def __init__(self, *, weight_share: float = 0.8) -> None:
        self._weight_share = weight_share
        # What production grants; `learn` replaces it by what this exchange says.
        self._weight = _Window(MINUTE_MS, int(2_400 * weight_share))
        self._orders_10s = _Window(TEN_SECONDS_MS, 300)
        self._orders_1m = _Window(MINUTE_MS, 1_200)

    @property
    def weight_limit(self) -> int:
        """Request weight a minute labkit allows itself."""
        return self._weight.limit

    def used_weight(self, now_ms: int) -> int:
        """Request weight of the last minute, other users of this address included."""
        return self._weight.used(now_ms)

    def used_orders(self, now_ms: int) -> tuple[int, int]:
        """Orders sent in the last ten seconds and in the last minute."""
        return self._orders_10s.used(now_ms), self._orders_1m.used(now_ms)

    def learn(self, rate_limits: Iterable[RateLimit]) -> None:
        """Take over the limits `exchangeInfo` lists."""
        for told in rate_limits:
            match told.kind, told.interval, told.interval_count:
                case "REQUEST_WEIGHT", "MINUTE", 1:
                    self._weight.limit = int(told.limit * self._weight_share)
                case "ORDERS", "MINUTE", 1:
                    self._orders_1m.limit = told.limit
                case "ORDERS", "SECOND", 10:
                    self._orders_10s.limit = told.limit

    def observe(self, headers: Mapping[str, str], now_ms: int) -> None:
        """Correct the pools by the counts in a reply's headers (names in lower case)."""
        for name, window in (
            (USED_WEIGHT_HEADER, self._weight),
            (ORDER_COUNT_10S_HEADER, self._orders_10s),
            (ORDER_COUNT_1M_HEADER, self._orders_1m),
        ):
            told = headers.get(name, "")
            if told.isascii() and told.isdigit() and len(told) < 10:
                window.correct(int(told), now_ms)

    def earliest_ms(self, lane: Lane, weight: int, order_cost: int, now_ms: int) -> int:
        """The first moment at or after `now_ms` at which this call may be sent.

        Raises:
            WouldExceedLimit: the call is larger than its lane may ever use.
        """
        ceiling = LANE_CEILING[lane]
        return max(
            self._weight.earliest_ms(weight, ceiling, now_ms),
            self._orders_10s.earliest_ms(order_cost, ceiling, now_ms),
            self._orders_1m.earliest_ms(order_cost, ceiling, now_ms),
        )

    def spend(self, weight: int, order_cost: int, now_ms: int) -> None:
        """Count a call that is being sent at `now_ms`."""
        self._weight.spend(weight, now_ms)
        self._orders_10s.spend(order_cost, now_ms)
        self._orders_1m.spend(order_cost, now_ms)

    def forecast(self, plan: Iterable[PlannedCalls], now_ms: int) -> Forecast:
        """What `plan` costs and when it would be through, starting at `now_ms`; nothing is spent.

        Raises:
            WouldExceedLimit: one of the calls is larger than its lane may ever use.
        """
        trial = RateLimits(weight_share=self._weight_share)
        trial._weight = self._weight.copy()
        trial._orders_10s = self._orders_10s.copy()
        trial._orders_1m = self._orders_1m.copy()
        calls = weight = order_cost = 0
        for planned in plan:
            for _ in range(planned.count):
                now_ms = trial.earliest_ms(planned.lane, planned.weight, planned.order_cost, now_ms)
                trial.spend(planned.weight, planned.order_cost, now_ms)
            calls += planned.count
            weight += planned.weight * planned.count
            order_cost += planned.order_cost * planned.count
        return Forecast(calls=calls, weight=weight, order_cost=order_cost, finished_ms=now_ms)
