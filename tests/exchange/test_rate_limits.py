"""The rate limits: no window of the exchange is ever passed, and no lane can take what is kept for a higher one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import LocalProtocolError, WouldExceedLimit
from labkit.exchange.rate_limits import LANE_CEILING, RateLimits
from labkit.exchange.request_plan import PlannedCalls, planned_calls, planned_candles
from labkit.wire.endpoints import Lane, OwnPool
from labkit.wire.rest_market import RateLimit

NOW = 1_795_375_260_000 + 20_000
"""Twenty seconds into a minute of the exchange."""
MINUTE = 60_000


def call(lane: Lane, weight: int, order_cost: int = 0) -> PlannedCalls:
    return PlannedCalls(lane=lane, weight=weight, order_cost=order_cost)


def fill(limits: RateLimits, lane: Lane, weight: int, now_ms: int) -> int:
    """Send calls of `weight` until the lane must wait; returns how many were sent."""
    sent = 0
    while limits.earliest_ms(call(lane, weight, 0), now_ms) == now_ms:
        limits.spend(call(Lane.CLOSE, weight, 0), now_ms)
        sent += 1
    return sent


def test_labkit_allows_itself_only_its_share_of_the_weight() -> None:
    limits = RateLimits(share=0.8)
    assert limits.weight_limit == 1_920
    assert fill(limits, Lane.CLOSE, 10, NOW) == 192


def test_the_limits_the_exchange_lists_replace_the_built_in_ones() -> None:
    limits = RateLimits(share=0.5)
    limits.learn(
        [
            RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 6_000),
            RateLimit("ORDERS", "SECOND", 10, 10),
            RateLimit("SOMETHING_NEW", "DAY", 1, 1),
        ]
    )
    assert limits.weight_limit == 3_000
    for _ in range(5):
        limits.spend(call(Lane.CLOSE, 0, 1), NOW)
    assert limits.earliest_ms(call(Lane.CLOSE, 0, 1), NOW) == NOW + 10_000


@pytest.mark.parametrize(
    ("greedy", "higher"),
    [(Lane.HISTORY, Lane.OPEN), (Lane.OPEN, Lane.CANCEL_QUERY), (Lane.CANCEL_QUERY, Lane.CLOSE)],
)
def test_a_lane_that_takes_all_it_may_leaves_room_for_every_higher_one(greedy: Lane, higher: Lane) -> None:
    limits = RateLimits()
    fill(limits, greedy, 1, NOW)
    while limits.earliest_ms(call(greedy, 0, 1), NOW) == NOW:
        limits.spend(call(Lane.CLOSE, 0, 1), NOW)
    assert limits.earliest_ms(call(greedy, 1, 0), NOW) > NOW
    assert limits.earliest_ms(call(higher, 100, 20), NOW) == NOW


def test_labkit_allows_itself_only_its_share_of_the_orders() -> None:
    limits = RateLimits(share=0.8)
    sent = 0
    while limits.earliest_ms(call(Lane.CLOSE, 0, 1), NOW) == NOW:
        limits.spend(call(Lane.CLOSE, 0, 1), NOW)
        sent += 1
    assert sent == 240


def test_funding_history_has_a_pool_of_its_own() -> None:
    limits = RateLimits(share=0.8)
    asked = planned_calls("funding_rate")
    sent = 0
    while limits.earliest_ms(asked, NOW) == NOW:
        limits.spend(asked, NOW)
        sent += 1
    assert sent == OwnPool.FUNDING.value * 0.8 * LANE_CEILING[Lane.HISTORY]
    assert limits.earliest_ms(asked, NOW) == NOW + 5 * MINUTE
    assert limits.earliest_ms(planned_calls("klines"), NOW) == NOW


def test_the_ceilings_rise_with_the_lane() -> None:
    shares = [LANE_CEILING[lane] for lane in (Lane.HISTORY, Lane.OPEN, Lane.CANCEL_QUERY, Lane.CLOSE)]
    assert shares == sorted(set(shares))
    assert shares[-1] == 1.0


def test_weight_is_free_again_a_minute_after_it_was_spent() -> None:
    limits = RateLimits()
    fill(limits, Lane.CLOSE, 1_920, NOW)
    assert limits.earliest_ms(call(Lane.CLOSE, 1, 0), NOW + 30_000) == NOW + MINUTE
    assert limits.used_weight(NOW + MINUTE - 1) == 1_920
    assert limits.used_weight(NOW + MINUTE) == 0


def test_weight_used_by_others_counts_until_the_exchanges_minute_ends() -> None:
    limits = RateLimits()
    limits.spend(call(Lane.CLOSE, 20, 0), NOW)
    limits.observe({"x-mbx-used-weight-1m": "1920"}, NOW)
    assert limits.used_weight(NOW) == 1_920
    assert limits.earliest_ms(call(Lane.CLOSE, 1, 0), NOW) == NOW + 40_000
    assert limits.used_weight(NOW + 40_000) == 20


def test_weight_of_ours_that_the_exchange_confirms_is_not_counted_twice() -> None:
    limits = RateLimits()
    limits.spend(call(Lane.CLOSE, 20, 0), NOW)
    limits.observe({"x-mbx-used-weight-1m": "20"}, NOW + 5)
    assert limits.used_weight(NOW + 5) == 20


def test_our_weight_of_the_last_minute_of_the_exchange_is_not_taken_for_this_one() -> None:
    limits = RateLimits()
    limits.spend(call(Lane.CLOSE, 500, 0), NOW - 25_000)
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
        limits.earliest_ms(call(Lane.HISTORY, 1_153, 0), NOW)
    assert limits.earliest_ms(call(Lane.CLOSE, 1_153, 0), NOW) == NOW


PATIENCE_MS = 10_000


def test_a_forecast_spends_nothing_and_says_when_the_plan_is_through() -> None:
    limits = RateLimits()
    plan = [PlannedCalls(lane=Lane.HISTORY, weight=10, count=300)]
    forecast = limits.forecast(plan, NOW, patience_ms=PATIENCE_MS)
    assert (forecast.calls, forecast.weight, forecast.orders) == (300, 3_000, 0)
    # 115 calls a minute fit under the ceiling of history.
    assert forecast.finished_ms == NOW + 2 * MINUTE
    assert limits.used_weight(NOW) == 0


def test_a_year_of_minutes_of_five_symbols_takes_a_quarter_of_an_hour() -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")
    plan = planned_candles(symbols, "1m", NOW - 365 * 24 * 60 * MINUTE, NOW)
    forecast = RateLimits().forecast([plan], NOW, patience_ms=PATIENCE_MS)
    assert str(forecast) == "1,755 calls, 17,550 weight: 15 min of rate limits"


planned = st.builds(
    PlannedCalls,
    lane=st.just(Lane.HISTORY),
    weight=st.integers(0, 400),
    order_cost=st.integers(0, 30),
    own_pool=st.sampled_from([None, *OwnPool]),
    count=st.integers(1, 300),
)


@given(st.lists(planned, max_size=4), st.lists(planned, max_size=3), st.integers(0, 60_000))
def test_a_forecast_comes_true_call_by_call(
    before: list[PlannedCalls], plan: list[PlannedCalls], pause_ms: int
) -> None:
    limits = RateLimits()
    moment = NOW

    def send(calls: list[PlannedCalls]) -> None:
        nonlocal moment
        for asked in calls:
            one = msgspec.structs.replace(asked, count=1)
            for _ in range(asked.count):
                moment = limits.earliest_ms(one, moment)
                limits.spend(one, moment)

    send(before)
    moment += pause_ms
    forecast = limits.forecast(plan, moment, patience_ms=PATIENCE_MS)
    send(plan)
    assert moment == forecast.finished_ms


def test_a_call_that_can_never_fit_is_refused_before_the_plan_starts() -> None:
    plan = [planned_calls("klines", 3, limit="1500"), call(Lane.HISTORY, 1_153)]
    with pytest.raises(WouldExceedLimit, match="1153 weight never fits: this lane may use 1152 of 1920 in 1 min"):
        RateLimits().forecast(plan, NOW, patience_ms=PATIENCE_MS)


@pytest.mark.parametrize(
    ("plan", "numbers"),
    [
        pytest.param(
            planned_calls("query_order", 5_000), r"5,000 calls .* call 1,729 .* at most 1,728 ", id="questions"
        ),
        pytest.param(planned_calls("place_order", 900), r"may use 768 of 960 in 1 min, so call 769", id="openings"),
        pytest.param(
            planned_calls("place_order", 1_000, reduce_only=True), r"call 961 would have to wait 30 s", id="closings"
        ),
    ],
)
def test_a_plan_that_would_outlast_the_patience_of_its_lane_is_refused_with_numbers(plan, numbers: str) -> None:
    with pytest.raises(WouldExceedLimit, match=numbers):
        RateLimits().forecast([plan], NOW, patience_ms=PATIENCE_MS)


def test_history_waits_as_long_as_it_takes() -> None:
    plan = [planned_calls("agg_trades", 100_000)]
    forecast = RateLimits().forecast(plan, NOW, patience_ms=PATIENCE_MS)
    assert forecast.duration_ms > 24 * 60 * MINUTE


def test_a_plan_of_an_endpoint_nobody_has_names_those_there_are() -> None:
    with pytest.raises(LocalProtocolError, match="klines"):
        planned_calls("candles")


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
        moment = limits.earliest_ms(call(lane, weight, order_cost), moment + pause_ms)
        limits.spend(call(Lane.CLOSE, weight, order_cost), moment)
        sent.append((moment, weight, order_cost))
    for end_ms, _, _ in sent:
        last_minute = [one for one in sent if end_ms - MINUTE < one[0] <= end_ms]
        assert sum(weight for _, weight, _ in last_minute) <= 1_920
        assert sum(cost for _, _, cost in last_minute) <= 960
        assert sum(cost for at_ms, _, cost in last_minute if at_ms > end_ms - 10_000) <= 240


@given(calls, st.integers(0, 3_000), st.sampled_from(list(Lane)), st.integers(1, 200), st.integers(0, 50))
def test_the_earliest_moment_is_the_first_one_that_fits(
    plan: list[tuple[Lane, int, int, int]], told: int, lane: Lane, weight: int, order_cost: int
) -> None:
    limits = RateLimits()
    moment = NOW
    for planned_lane, planned_weight, planned_cost, pause_ms in plan:
        moment = limits.earliest_ms(call(planned_lane, planned_weight, planned_cost), moment + pause_ms // 10)
        limits.spend(call(Lane.CLOSE, planned_weight, planned_cost), moment)
    limits.observe({"x-mbx-used-weight-1m": str(told)}, moment)
    earliest_ms = limits.earliest_ms(call(lane, weight, order_cost), moment)
    assert earliest_ms >= moment
    if earliest_ms > moment:
        assert limits.earliest_ms(call(lane, weight, order_cost), earliest_ms - 1) == earliest_ms
    assert limits.earliest_ms(call(lane, weight, order_cost), earliest_ms) == earliest_ms
