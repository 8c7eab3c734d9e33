"""When an open position is closed, and why."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from facts import quote_of, rules_of
from hypothesis import given
from hypothesis import strategies as st

from labkit.config import TraderConfig
from labkit.domain.decisions import Action, Decision
from labkit.domain.symbol_rules import is_multiple
from labkit.trader.exits import ExitPlan, advance_trailing, exit_reason, make_exit_plan

OPENED_MS = 1_700_000_000_000
DUE_MS = OPENED_MS + 30 * 60_000
TRADER = TraderConfig()


def decision_with(distance: float, side: int = 1) -> Decision:
    return Decision(
        symbol="BTCUSDT",
        time_ms=OPENED_MS,
        action=Action.ENTER_LONG if side > 0 else Action.ENTER_SHORT,
        primary_reason="expected_value",
        side=side,
        probability=0.6,
        calibration_slope=1.0,
        edge=0.002,
        fee_cost=0.001,
        spread_cost=0.0,
        slippage_cost=0.0,
        funding_cost=0.0,
        execution_gap_cost=0.0,
        expected_value=0.001,
        leverage=0.5,
        stop_distance=distance,
        target_distance=distance,
        horizon_minutes=30,
        features={},
        contributions={},
        expert_probabilities={},
        expert_weights={},
        gates=(),
        smallest_change="",
    )


def plan_of(side: int, entry: str = "100", distance: float = 0.1, tick: str = "0.1") -> ExitPlan:
    return make_exit_plan(decision_with(distance, side), Decimal(entry), side, OPENED_MS, rules_of(tick=tick), TRADER)


# Spread 2: a long is closed at mid - 1, a short at mid + 1. Stop and target 10 away from entry at 100.
@pytest.mark.parametrize(
    ("side", "mid", "now_ms", "reason"),
    [
        pytest.param(1, "91.1", OPENED_MS, None, id="long above its stop at 90.1"),
        pytest.param(1, "91", OPENED_MS, "stop_loss", id="long stopped at a bid of 90"),
        pytest.param(1, "110.9", OPENED_MS, None, id="long short of its target"),
        pytest.param(1, "111", OPENED_MS, "take_profit", id="long takes profit at a bid of 110"),
        pytest.param(-1, "108.9", OPENED_MS, None, id="short below its stop at 109.9"),
        pytest.param(-1, "109", OPENED_MS, "stop_loss", id="short stopped at an ask of 110"),
        pytest.param(-1, "89.1", OPENED_MS, None, id="short short of its target"),
        pytest.param(-1, "89", OPENED_MS, "take_profit", id="short takes profit at an ask of 90"),
        pytest.param(1, "100", DUE_MS - 1, None, id="a millisecond before its time is out"),
        pytest.param(1, "100", DUE_MS, "max_holding", id="time is out"),
        pytest.param(1, "80", DUE_MS, "stop_loss", id="the stop is named before the time"),
        pytest.param(0, "80", DUE_MS, None, id="flat has nothing to close"),
    ],
)
def test_a_long_is_judged_at_the_bid_and_a_short_at_the_ask(
    side: int, mid: str, now_ms: int, reason: str | None
) -> None:
    assert exit_reason(plan_of(side or 1), side, quote_of("BTCUSDT", mid, 2), now_ms) == reason


@pytest.mark.parametrize("side", [1, -1])
def test_the_trailing_stop_arms_at_its_start_and_then_guards_the_best_price(side: int) -> None:
    def at(gain: float) -> object:
        return quote_of("BTCUSDT", 100 + side * gain, 0)

    plan = advance_trailing(plan_of(side), side, at(5.9))
    assert plan.trailing_stop_price(side) is None
    assert exit_reason(plan, side, at(-5), OPENED_MS) is None
    plan = advance_trailing(plan, side, at(8))  # start is 6 of 10, gap is 4
    assert plan.trailing_stop_price(side) == 100 + side * 4
    plan = advance_trailing(plan, side, at(5))
    assert plan.trailing_stop_price(side) == 100 + side * 4  # never gives back
    assert exit_reason(plan, side, at(4.1), OPENED_MS) is None
    assert exit_reason(plan, side, at(4), OPENED_MS) == "trailing_stop"
    assert exit_reason(plan, side, at(-10), OPENED_MS) == "stop_loss"


def test_a_trailing_start_of_the_whole_way_leaves_the_target_first() -> None:
    trader = TraderConfig(trailing_start_fraction=1.0)
    plan = make_exit_plan(decision_with(0.1), Decimal(100), 1, OPENED_MS, rules_of(tick="0.1"), trader)
    quote = quote_of("BTCUSDT", "110", 0)
    assert exit_reason(advance_trailing(plan, 1, quote), 1, quote, OPENED_MS) == "take_profit"


prices = st.decimals(min_value=Decimal("0.5"), max_value=Decimal(200_000), places=4, allow_nan=False)
sides = st.sampled_from((1, -1))


@given(prices, st.floats(1e-6, 0.3), sides)
def test_stop_and_target_lie_on_the_tick_grid_on_their_sides_of_the_entry(
    entry: Decimal, distance: float, side: int
) -> None:
    rules = rules_of(tick="0.01")
    plan = make_exit_plan(decision_with(distance, side), entry, side, OPENED_MS, rules, TRADER)
    assert is_multiple(plan.stop_price, rules.tick_size)
    assert is_multiple(plan.target_price, rules.tick_size)
    assert (entry - plan.stop_price) * side > 0
    assert (plan.target_price - entry) * side > 0
    assert plan.due_ms == DUE_MS


@given(st.lists(st.integers(80, 120), min_size=1, max_size=30), sides)
def test_the_trailing_stop_never_moves_against_the_position(mids: list[int], side: int) -> None:
    plan, best = plan_of(side), None
    for mid in mids:
        plan = advance_trailing(plan, side, quote_of("BTCUSDT", mid, 0))
        stop = plan.trailing_stop_price(side)
        assert best is None or (stop is not None and (stop - best) * side >= 0)
        best = stop


def test_a_plan_survives_the_ledger() -> None:
    plan = advance_trailing(plan_of(1), 1, quote_of("BTCUSDT", "107.3", "0.1"))
    assert msgspec.json.decode(msgspec.json.encode(plan), type=ExitPlan) == plan
