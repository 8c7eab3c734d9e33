"""From probability to stake: monotone in what hurts, bounded, symmetric."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.config import TraderConfig
from labkit.trader.policy import Verdict, judge, prefers_other_side
from labkit.trader.state import new_state, settings_of

CONFIG = TraderConfig()
SETTINGS = settings_of(CONFIG, 6)

probabilities = st.floats(0.01, 0.99)
barriers = st.floats(1e-4, 0.2)
costs = st.floats(0.0, 0.01)


def common_with(slope: float = 1.0, weight: float = 5_000.0, evidence: float = 100.0) -> np.void:
    """What all symbols share, after much evidence that `slope` of the predicted edge comes true."""
    state = new_state(SETTINGS, 1)
    common = state.common[0]
    common["slope_down"], common["slope_up"], common["weight"] = 1e6, slope * 1e6, weight
    common["square_up"], common["square_down"] = 700.0, 1000.0
    common["evidence"] = evidence
    return common


def judged(p: float, barrier: float = 0.005, cost: float = 0.0012, funding: float = 0.0, drawdown: float = 0.0,
           **common: float) -> Verdict:  # fmt: skip
    return judge(SETTINGS, common_with(**common), p, barrier, cost, funding, drawdown)


@given(probabilities, barriers, costs, costs)
def test_a_higher_cost_never_raises_the_stake(p: float, barrier: float, cost: float, more: float) -> None:
    cheap, dear = judged(p, barrier, cost), judged(p, barrier, cost + more)
    assert dear.leverage <= cheap.leverage
    assert dear.expected_value - dear.threshold <= cheap.expected_value - cheap.threshold


@given(probabilities, barriers, costs, st.floats(0, 1))
def test_the_stake_is_never_negative_nor_above_the_cap(p: float, barrier: float, cost: float, drawdown: float) -> None:
    verdict = judged(p, barrier, cost, drawdown=drawdown)
    assert 0.0 <= verdict.leverage <= CONFIG.max_leverage_per_symbol
    assert verdict.leverage == 0.0 or verdict.expected_value > 0.0


@given(st.floats(0.51, 0.99), barriers, costs)
def test_long_and_short_are_mirror_images(p: float, barrier: float, cost: float) -> None:
    long, short = judged(p, barrier, cost), judged(1.0 - p, barrier, cost)
    assert (long.side, short.side) == (1, -1)
    assert short.expected_value == pytest.approx(long.expected_value, abs=1e-12)
    assert short.probability == pytest.approx(long.probability)


def test_a_slope_of_zero_leaves_nothing_to_trade_on() -> None:
    assert judged(0.99, slope=0.0).edge == 0.0
    assert judged(0.99, slope=-1.0).leverage == 0.0


def test_a_slope_above_one_does_not_add_to_a_prediction() -> None:
    assert judged(0.7, slope=3.0).edge == pytest.approx((2 * 0.7 - 1) * 0.005)


def test_funding_moves_the_better_side_only_by_what_it_is_worth() -> None:
    assert judged(0.5001, funding=0.0003).side == -1
    assert judged(0.7, funding=0.0003).side == 1
    assert judged(0.7, funding=0.0003).cost == pytest.approx(0.0015)
    assert judged(0.3, funding=0.0003).cost == pytest.approx(0.0009)


def test_funding_received_does_not_lower_the_bar() -> None:
    assert judged(0.3, funding=0.005).threshold == pytest.approx(CONFIG.cost_margin * 0.0012)


def test_stakes_grow_with_what_was_learned() -> None:
    full = judged(0.8).leverage
    assert judged(0.8, weight=0.5 * CONFIG.cold_start_labels).leverage == pytest.approx(full / 2)
    assert judged(0.8, weight=0.0).leverage == 0.0


def test_stakes_grow_with_the_evidence() -> None:
    full = judged(0.8).leverage
    assert judged(0.8, evidence=2.0 / 3.0 * CONFIG.evidence_nats).leverage == pytest.approx(full / 2)
    assert judged(0.8, evidence=0.0).leverage == 0.0


@pytest.mark.parametrize(
    ("drawdown", "share"), [(0.0, 1.0), (0.0999, 1.0), (0.10, 0.5), (0.1999, 0.5), (0.20, 0.0), (0.9, 0.0)]
)
def test_a_drawdown_halves_the_stakes_and_then_ends_them(drawdown: float, share: float) -> None:
    assert judged(0.8, drawdown=drawdown).leverage == pytest.approx(share * judged(0.8).leverage)


@pytest.mark.parametrize(
    ("p", "held", "turned"), [(0.4, 1, True), (0.6, 1, False), (0.4, -1, False), (0.6, -1, True), (0.5, 1, False)]
)
def test_only_a_model_on_the_other_side_closes_a_position(p: float, held: int, turned: bool) -> None:
    assert prefers_other_side(p, held) is turned
