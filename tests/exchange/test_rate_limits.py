"""The rate limits: no window of the exchange is ever passed, and no lane can take what is kept for a higher one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import WouldExceedLimit
from labkit.exchange.rate_limits import LANE_CEILING, PlannedCalls, RateLimits
from labkit.wire.rest import Lane, RateLimit

NOW = 1_795_375_260_000 + 20_000
"""Twenty seconds into a minute of the exchange."""
MINUTE = 60_000


def fill(limits: RateLimits, lane: Lane, weight: int, now_ms: int) -> int:
    """Send calls of `weight` until the lane must wait; returns how many were sent."""
    sent = 0
    while limits.earliest_ms(lane, weight, 0, now_ms) == now_ms:
        limits.spend(weight, 0, now_ms)
        sent += 1
    return sent


def test_labkit_allows_itself_only_its_share_of_the_weight() -> None:
    limits = RateLimits(weight_share=0.8)
    assert limits.weight_limit == 1_920
    assert fill(limits, Lane.CLOSE, 10, NOW) == 192


def test_the_limits_the_exchange_lists_replace_the_built_in_ones() -> None:
    limits = RateLimits(weight_share=0.5)
    limits.learn(
        [
            RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 6_000),
            RateLimit("ORDERS", "SECOND", 10, 5),
            RateLimit("SOMETHING_NEW", "DAY", 1, 1),
        ]
    )
    assert limits.weight_limit == 3_000
    for _ in range(5):
        limits.spend(0, 1, NOW)
    assert limits.earliest_ms(Lane.CLOSE, 0, 1, NOW) == NOW + 10_000


@pytest.mark.parametrize(
    ("greedy", "higher"),
    [(Lane.HISTORY, Lane.OPEN), (Lane.OPEN, Lane.CANCEL_QUERY), (Lane.CANCEL_QUERY, Lane.CLOSE)],
)
def test_a_lane_that_takes_all_it_may_leaves_room_for_every_higher_one(greedy: Lane, higher: Lane) -> None:
    limits = RateLimits()
    fill(limits, greedy, 1, NOW)
    while limits.earliest_ms(greedy, 0, 1, NOW) == NOW:
        limits.spend(0, 1, NOW)
    assert limits.earliest_ms(greedy, 1, 0, NOW) > NOW
    assert limits.earliest_ms(higher, 100, 20, NOW) == NOW


def test_the_ceilings_rise_with_the_lane() -> None:
    shares = [LANE_CEILING[lane] for lane in (Lane.HISTORY, Lane.OPEN, Lane.CANCEL_QUERY, Lane.CLOSE)]
    assert shares == sorted(set(shares))
    assert shares[-1] == 1.0


def test_weight_is_free_again_a_minute_after_it_was_spent() -> None:
    limits = RateLimits()
    fill(limits, Lane.CLOSE, 1_920, NOW)
    assert limits.earliest_ms(Lane.CLOSE, 1, 0, NOW + 30_000) == NOW + MINUTE
    assert limits.used_weight(NOW + MINUTE - 1) == 1_920
    assert limits.used_weight(NOW + MINUTE) == 0


def test_weight_used_by_others_counts_until_the_exchanges_minute_ends() -> None:
    limits = RateLimits()
    limits.spend(20, 0, NOW)
    limits.observe({"x-mbx-used-weight-1m": "1920"}, NOW)
    assert limits.used_weight(NOW) == 1_920
    assert limits.earliest_ms(Lane.CLOSE, 1, 0, NOW) == NOW + 40_000
    assert limits.used_weight(NOW + 40_000) == 20


def test_weight_of_ours_that_the_exchange_confirms_is_not_counted_twice() -> None:
    limits = RateLimits()
    limits.spend(20, 0, NOW)
    limits.observe({"x-mbx-used-weight-1m": "20"}, NOW + 5)
    assert limits.used_weight(NOW + 5) == 20


def test_our_weight_of_the_last_minute_of_the_exchange_is_not_taken_for_this_one() -> None:
    limits = RateLimits()
    limits.spend(500, 0, NOW - 25_000)
    limits.observe({"x-mbx-used-weight-1m": "300"}, NOW)
    assert limits.used_weight(NOW) == 800


@pytest.mark.parametrize("told", ["", "-1", "1e3", "NaN", "٣", "9" * 40])
def test_a_header_that_is_no_count_is_ignored(told: str) -> None:
    limits = RateLimits()
    limits.observe({"x-mbx-used-weight-1m": told}, NOW)
    assert limits.used_weight(NOW) == 0


def test_a_call_larger_than_its_lane_may_ever_use_is_refused_at_once() -> None:
    limits = RateLimits()
    with pytest.raises(WouldExceedLimit):
        limits.earliest_ms(Lane.HISTORY, 1_153, 0, NOW)
    assert limits.earliest_ms(Lane.CLOSE, 1_153, 0, NOW) == NOW


def test_a_forecast_spends_nothing_and_says_when_the_plan_is_through() -> None:
    limits = RateLimits()
    plan = [PlannedCalls(lane=Lane.HISTORY, weight=10, count=300)]
    forecast = limits.forecast(plan, NOW)
    assert (forecast.calls, forecast.weight, forecast.order_cost) == (300, 3_000, 0)
    # 115 calls a minute fit under the ceiling of history.
    assert forecast.finished_ms == NOW + 2 * MINUTE
    assert limits.used_weight(NOW) == 0


def test_a_forecast_comes_true() -> None:
    limits = RateLimits()
    plan = [PlannedCalls(lane=Lane.HISTORY, weight=7, count=400), PlannedCalls(lane=Lane.OPEN, weight=1, order_cost=1)]
    forecast = limits.forecast(plan, NOW)
    moment = NOW
    for planned in plan:
        for _ in range(planned.count):
            moment = limits.earliest_ms(planned.lane, planned.weight, planned.order_cost, moment)
            limits.spend(planned.weight, planned.order_cost, moment)
    assert moment == forecast.finished_ms


calls = st.lists(
    st.tuples(st.sampled_from(list(Lane)), st.integers(0, 400), st.integers(0, 60), st.integers(0, 20_000)),
    max_size=60,
)


@given(calls)
def test_no_window_of_the_exchange_however_aligned_is_passed(plan: list[tuple[Lane, int, int, int]]) -> None:
    limits = RateLimits()
    sent: list[tuple[int, int, int]] = []
    moment = NOW
    for lane, weight, order_cost, pause_ms in plan:
        moment = limits.earliest_ms(lane, weight, order_cost, moment + pause_ms)
        limits.spend(weight, order_cost, moment)
        sent.append((moment, weight, order_cost))
    for end_ms, _, _ in sent:
        last_minute = [call for call in sent if end_ms - MINUTE < call[0] <= end_ms]
        assert sum(weight for _, weight, _ in last_minute) <= 1_920
        assert sum(cost for _, _, cost in last_minute) <= 1_200
        assert sum(cost for at_ms, _, cost in last_minute if at_ms > end_ms - 10_000) <= 300


@given(calls, st.integers(0, 3_000), st.sampled_from(list(Lane)), st.integers(1, 200), st.integers(0, 50))
def test_the_earliest_moment_is_the_first_one_that_fits(
    plan: list[tuple[Lane, int, int, int]], told: int, lane: Lane, weight: int, order_cost: int
) -> None:
    limits = RateLimits()
    moment = NOW
    for planned_lane, planned_weight, planned_cost, pause_ms in plan:
        moment = limits.earliest_ms(planned_lane, planned_weight, planned_cost, moment + pause_ms // 10)
        limits.spend(planned_weight, planned_cost, moment)
    limits.observe({"x-mbx-used-weight-1m": str(told)}, moment)
    earliest_ms = limits.earliest_ms(lane, weight, order_cost, moment)
    assert earliest_ms >= moment
    if earliest_ms > moment:
        assert limits.earliest_ms(lane, weight, order_cost, earliest_ms - 1) == earliest_ms
    assert limits.earliest_ms(lane, weight, order_cost, earliest_ms) == earliest_ms
