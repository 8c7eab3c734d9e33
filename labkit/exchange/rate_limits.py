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
from itertools import groupby, islice

from labkit.domain.clock import MINUTE_MS
from labkit.errors import WouldExceedLimit
from labkit.exchange.request_plan import Forecast, PlannedCalls, in_words
from labkit.wire.endpoints import Lane, OwnPool
from labkit.wire.rest_market import RateLimit

TEN_SECONDS_MS = 10_000
OWN_POOL_MS = 5 * MINUTE_MS

LANE_CEILING = {Lane.CLOSE: 1.0, Lane.CANCEL_QUERY: 0.9, Lane.OPEN: 0.8, Lane.HISTORY: 0.6}
"""Share of a pool each lane may fill it up to."""
CANCEL_CEILING = 1.0
"""Of a cancel: closing orders weigh nothing, so the weight that is kept free for their lane is there for it."""

USED_WEIGHT_HEADER = "x-mbx-used-weight-1m"
ORDER_COUNT_10S_HEADER = "x-mbx-order-count-10s"
ORDER_COUNT_1M_HEADER = "x-mbx-order-count-1m"


class _Window:
    """One sliding window: what was spent in the last `length_ms`, and what others spent in the exchange's window."""

    def __init__(self, what: str, length_ms: int, limit: int) -> None:
        self.what = what
        self.length_ms = length_ms
        self.limit = limit
        self._spent: list[tuple[int, int]] = []
        """(moment it is forgotten, amount), soonest first; what was spent at one moment is one entry."""
        self._total = 0
        """Of all entries, those long forgotten but not yet dropped included."""
        self._foreign = 0
        self._foreign_until_ms = 0

    def copy(self) -> _Window:
        twin = _Window(self.what, self.length_ms, self.limit)
        twin._spent, twin._total = self._spent.copy(), self._total
        twin._foreign, twin._foreign_until_ms = self._foreign, self._foreign_until_ms
        return twin

    def room(self, ceiling: float) -> int:
        """How much a lane with this ceiling may have used at any moment."""
        return int(self.limit * ceiling)

    def used(self, now_ms: int) -> int:
        others = self._foreign if now_ms < self._foreign_until_ms else 0
        forgotten = sum(amount for _, amount in islice(self._spent, self._remembered_from(now_ms)))
        return others + self._total - forgotten

    def spend(self, amount: int, now_ms: int) -> None:
        forgotten = self._remembered_from(now_ms)
        self._total += amount - sum(spent for _, spent in islice(self._spent, forgotten))
        del self._spent[:forgotten]
        if not amount:
            return
        until_ms = now_ms + self.length_ms
        if self._spent and self._spent[-1][0] == until_ms:
            self._spent[-1] = (until_ms, self._spent[-1][1] + amount)
        else:
            insort(self._spent, (until_ms, amount))

    def correct(self, told: int, now_ms: int) -> None:
        """The exchange counted `told` in its current calendar window: what is not ours is somebody else's."""
        start_ms = now_ms - now_ms % self.length_ms
        ours = sum(amount for forgotten_ms, amount in self._spent if forgotten_ms - self.length_ms >= start_ms)
        self._foreign = max(0, told - ours)
        self._foreign_until_ms = start_ms + self.length_ms

    def earliest_ms(self, amount: int, ceiling: float, now_ms: int) -> int:
        """The first moment at or after `now_ms` at which `amount` fits under `ceiling`."""
        room = self.room(ceiling)
        if amount > room:
            raise WouldExceedLimit(
                f"a call of {amount} {self.what} never fits: this lane may use {room} of {self.limit} "
                f"in {in_words(self.length_ms)}; ask for less at a time (a smaller limit, one symbol)"
            )
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
        share: fraction of each of the exchange's limits that labkit allows itself.
    """

    def __init__(self, *, share: float = 0.8) -> None:
        self._share = share
        # What production grants; `learn` replaces it by what this exchange says.
        self._weight = _Window("weight", MINUTE_MS, int(2_400 * share))
        self._orders_10s = _Window("orders", TEN_SECONDS_MS, int(300 * share))
        self._orders_1m = _Window("orders", MINUTE_MS, int(1_200 * share))
        # These the exchange documents but never lists.
        self._own = {pool: _Window(pool.name.lower(), OWN_POOL_MS, int(pool.value * share)) for pool in OwnPool}

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
                    self._weight.limit = int(told.limit * self._share)
                case "ORDERS", "MINUTE", 1:
                    self._orders_1m.limit = int(told.limit * self._share)
                case "ORDERS", "SECOND", 10:
                    self._orders_10s.limit = int(told.limit * self._share)

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

    def earliest_ms(self, call: PlannedCalls, now_ms: int) -> int:
        """The first moment at or after `now_ms` at which one such call may be sent.

        Raises:
            WouldExceedLimit: the call is larger than its lane may ever use.
        """
        ceiling = _ceiling(call)
        return max(window.earliest_ms(amount, ceiling, now_ms) for window, amount in self._costs(call))

    def spend(self, call: PlannedCalls, now_ms: int, *, times: int = 1) -> None:
        """Count one such call, or `times` of them, sent at `now_ms`."""
        for window, amount in self._costs(call):
            window.spend(amount * times, now_ms)

    def forecast(self, plan: Iterable[PlannedCalls], now_ms: int, *, patience_ms: int) -> Forecast:
        """What `plan` costs and when it would be through, starting at `now_ms`; nothing is spent.

        Args:
            patience_ms: how long a call that is not history waits for its turn.

        Raises:
            WouldExceedLimit: a call is larger than its lane may ever use, or would have to wait longer than it may.
        """
        trial = self._copy()
        calls = weight = orders = 0
        moment_ms = now_ms
        for planned, alike in groupby(plan):
            count = left = planned.count * sum(1 for _ in alike)
            while left:
                turn_ms = trial.earliest_ms(planned, moment_ms)
                if planned.lane is not Lane.HISTORY and turn_ms - moment_ms > patience_ms:
                    raise WouldExceedLimit(trial._too_many(planned, count, count - left + 1, moment_ms, patience_ms))
                moment_ms = turn_ms
                together = trial._fitting(planned, left, moment_ms)
                trial.spend(planned, moment_ms, times=together)
                left -= together
            calls += count
            weight += planned.weight * count
            orders += planned.order_cost * count
        return Forecast(calls=calls, weight=weight, orders=orders, begins_ms=now_ms, finished_ms=moment_ms)

    def _copy(self) -> RateLimits:
        twin = RateLimits(share=self._share)
        twin._weight = self._weight.copy()
        twin._orders_10s, twin._orders_1m = self._orders_10s.copy(), self._orders_1m.copy()
        twin._own = {pool: window.copy() for pool, window in self._own.items()}
        return twin

    def _costs(self, call: PlannedCalls) -> list[tuple[_Window, int]]:
        """Every pool with what one call takes from it."""
        own = [] if call.own_pool is None else [(self._own[call.own_pool], 1)]
        return [
            (self._weight, call.weight),
            (self._orders_10s, call.order_cost),
            (self._orders_1m, call.order_cost),
            *own,
        ]

    def _fitting(self, call: PlannedCalls, left: int, now_ms: int) -> int:
        """How many of `left` such calls fit at `now_ms`, where one does."""
        ceiling = _ceiling(call)
        rooms = (
            (window.room(ceiling) - window.used(now_ms)) // amount for window, amount in self._costs(call) if amount
        )
        return min([left, *rooms])

    def _too_many(self, call: PlannedCalls, count: int, number: int, now_ms: int, patience_ms: int) -> str:
        ceiling = _ceiling(call)
        costs = [(window, amount) for window, amount in self._costs(call) if amount]
        window, amount = max(costs, key=lambda cost: cost[0].earliest_ms(cost[1], ceiling, now_ms))
        room = window.room(ceiling)
        span = in_words(window.length_ms)
        return (
            f"{count:,} calls of {amount} {window.what} would pass the limit: this lane may use {room:,} of "
            f"{window.limit:,} in {span}, so call {number:,} would have to wait "
            f"{in_words(window.earliest_ms(amount, ceiling, now_ms) - now_ms)}, and only history waits longer than "
            f"{in_words(patience_ms)}; make at most {room // amount:,} such calls in {span}"
        )


def _ceiling(call: PlannedCalls) -> float:
    return CANCEL_CEILING if call.cancels else LANE_CEILING[call.lane]
