"""From a probability to a stake: calibrate, subtract the costs, size by a fraction of Kelly.

Fractions of notional throughout; leverage is notional over equity. Plain functions on floats, compiled so that live
and simulated decisions share every line.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from labkit.trader.compiling import compiled
from labkit.trader.drift import drift_stake
from labkit.trader.evidence import evidence_stake
from labkit.trader.learner import mean_square_result, usable_slope


class Verdict(NamedTuple):
    """What the policy thinks of entering now: the better side (+1 long, -1 short) and its numbers.

    `edge` is gross, `expected_value` net of `cost`; `leverage` is what the stake would be if nothing forbids it.
    """

    side: int
    probability: float
    slope: float
    edge: float
    cost: float
    expected_value: float
    threshold: float
    ramp: float
    throttle: float
    trust: float
    """Share of the stake that drift leaves."""
    proven: float
    """Share of the stake that the evidence is worth."""
    kelly_leverage: float
    leverage: float


@compiled
def judge(
    settings: Any, common: Any, p: float, barrier: float, cost: float, long_funding: float, drawdown: float
) -> Verdict:
    """Weigh both sides of a bracket of width `barrier` whose long side pays with probability `p`.

    Args:
        cost: round-trip cost of either side.
        long_funding: expected funding a long pays within the horizon; a short receives it.
        drawdown: equity below its peak, as a fraction of the peak.
    """
    slope = usable_slope(common, settings.confidence_z)
    long_edge = slope * (2.0 * p - 1.0) * barrier
    side = 1 if long_edge - long_funding >= 0.0 else -1
    if long_edge == 0.0:
        # Nothing may be counted on: show what the model leans to, not what funding does.
        side = 1 if p >= 0.5 else -1
    edge = side * long_edge
    total_cost = cost + side * long_funding
    expected_value = edge - total_cost
    # A cost below the fees (funding received) must not lower the bar: carry is not what the model knows.
    threshold = settings.cost_margin * max(cost, total_cost)
    ramp = 1.0
    if settings.cold_start_weight > 0.0:
        ramp = min(1.0, common.weight / settings.cold_start_weight)
    throttle = 1.0
    if drawdown >= settings.drawdown_stop:
        throttle = 0.0
    elif drawdown >= settings.drawdown_half:
        throttle = 0.5
    kelly = 0.0
    if barrier > 0.0 and expected_value > 0.0:
        kelly = settings.kelly_fraction * expected_value / (barrier * barrier * mean_square_result(common))
    trust = drift_stake(common)
    proven = evidence_stake(common, settings.evidence_nats)
    leverage = min(settings.max_leverage, kelly) * ramp * throttle * trust * proven
    probability = p if side > 0 else 1.0 - p
    return Verdict(
        side,
        probability,
        slope,
        edge,
        total_cost,
        expected_value,
        threshold,
        ramp,
        throttle,
        trust,
        proven,
        kelly,
        leverage,
    )


@compiled
def unforeseen_gap(execution_gap: float, slippage: float) -> float:
    """What fills lose beyond the slippage expected for both sides: a cost, as a fraction of notional, never below zero.

    Real fills slip too, so the measured gap holds the expected slippage already. A gap smaller than that earns nothing.
    """
    return max(0.0, -execution_gap - slippage)


@compiled
def prefers_other_side(p: float, held_side: int) -> bool:
    """The adverse move, as the model sees it: with the features of now it would rather be on the other side.

    Never "because it is under water": that rule, measured, destroys a real edge by churn.
    """
    return (2.0 * p - 1.0) * held_side < 0.0
