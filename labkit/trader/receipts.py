"""Receipts: from the numbers of one look at one symbol to a `Decision` a person can read and check.

Every gate is listed with what it compared; exactly one primary reason is named; and the smallest change that would
have flipped the decision is said in words with numbers. Statistics are fractions; the words speak in basis points.
"""

from __future__ import annotations

from typing import NamedTuple

from labkit.config import TraderConfig
from labkit.domain.decisions import LEARNER, Action, Decision, Gate
from labkit.trader.drift import DRIFT_STEPS, ENTERED_AT
from labkit.trader.policy import Verdict
from labkit.trader.smallest_change import bars_needed, in_words, least_evidence, smallest_changes


class Costs(NamedTuple):
    """Round-trip costs of entering now, as fractions of notional; `funding` is what the better side may have to pay."""

    fee: float
    spread: float
    slippage: float
    funding: float
    execution_gap: float


class Look(NamedTuple):
    """What was known of one symbol when it was its turn: the market's side of a decision."""

    symbol: str
    time_ms: int
    bars: int
    bar_present: bool
    policy: str
    policy_trouble: str
    """Why the policy's answer cannot be used; empty if it can."""
    suspicion: str
    """Which feature is odd, and how; empty if none is."""
    quote_fresh: bool
    asked: bool
    """True if the learner was asked: enough bars to place a barrier."""
    held: int
    drawdown: float
    barrier: float
    weighted_labels: float
    drift: float
    """Nats lost against a coin since the best moment."""
    evidence: float
    """Nats saved against a coin within the slope's memory."""
    drift_step: int
    slope_confidence: tuple[float, float]
    """The calibration slope and how much of it may be counted on."""
    flipped: bool
    """True if the model now prefers the side opposite to the held one."""
    features: dict[str, float]
    contributions: dict[str, float]
    """Towards the long side."""
    expert_probabilities: dict[str, float]
    """Of the long side."""
    expert_weights: dict[str, float]


def write_decision(look: Look, verdict: Verdict, costs: Costs, config: TraderConfig) -> Decision:
    """The decision on one symbol: enter, hold, exit or refuse, with its receipt."""
    gates = _gates(look, verdict, config)
    failed = next((gate for gate in gates if not gate.passed), None)
    action, reason = _action(look, verdict, failed)
    entering = action in (Action.ENTER_LONG, Action.ENTER_SHORT)
    side = verdict.side
    changes = smallest_changes(look, verdict, costs, config, action, failed)
    return Decision(
        symbol=look.symbol,
        time_ms=look.time_ms,
        action=action,
        primary_reason=reason,
        side=side,
        probability=verdict.probability,
        calibration_slope=verdict.slope,
        edge=verdict.edge,
        fee_cost=costs.fee,
        spread_cost=costs.spread,
        slippage_cost=costs.slippage,
        funding_cost=costs.funding,
        execution_gap_cost=costs.execution_gap,
        expected_value=verdict.expected_value,
        leverage=verdict.leverage if entering else 0.0,
        stop_distance=look.barrier,
        target_distance=look.barrier,
        horizon_minutes=config.horizon_minutes,
        features=look.features,
        contributions={name: side * share for name, share in look.contributions.items()},
        expert_probabilities={name: p if side > 0 else 1.0 - p for name, p in look.expert_probabilities.items()},
        expert_weights=look.expert_weights,
        gates=gates,
        policy=look.policy,
        smallest_change=in_words(look, config, action, changes),
        changes=changes,
    )


def _action(look: Look, verdict: Verdict, failed: Gate | None) -> tuple[Action, str]:
    if look.held:
        return (Action.EXIT, "model_flip") if look.flipped else (Action.HOLD, "holding")
    if failed:
        return Action.REFUSE, failed.name
    return (Action.ENTER_LONG if verdict.side > 0 else Action.ENTER_SHORT), "expected_value"


def _gates(look: Look, verdict: Verdict, config: TraderConfig) -> tuple[Gate, ...]:
    slope, usable = look.slope_confidence
    return (
        Gate("bar_present", look.bar_present, "the minute's bar is here" if look.bar_present else "no usable bar"),
        Gate(
            "warm",
            look.bars >= bars_needed(config),
            f"{look.bars} bars lived through, {bars_needed(config)} needed",
        ),
        Gate("features_sane", not look.suspicion, look.suspicion or "every feature is as it was learned from"),
        Gate("volatility", look.barrier > 0.0, f"stop and target {_bps(look.barrier)} away, must be above 0"),
        *_policy_gate(look),
        Gate("quote_fresh", look.quote_fresh, "quote is fresh" if look.quote_fresh else "no fresh quote"),
        Gate("flat", look.held == 0, "no position" if look.held == 0 else f"already {_side_word(look.held)}"),
        Gate(
            "drawdown",
            verdict.throttle > 0.0,
            f"equity {look.drawdown:.1%} below its peak; entries stop at {config.drawdown_stop:.1%}",
        ),
        Gate("drift", verdict.trust > 0.0, f"{_drift_words(look)}; entries stop at {ENTERED_AT[2]:g}"),
        Gate(
            "calibrated",
            usable > 0.0,
            f"calibration slope {slope:+.2f}, {usable:.2f} may be counted on, must be above 0",
        ),
        Gate(
            "proven",
            verdict.proven > 0.0,
            f"{look.evidence:.1f} nats saved against a coin, must be above {least_evidence(config):g}",
        ),
        Gate(
            "expected_value",
            verdict.expected_value > verdict.threshold,
            f"{_bps(verdict.expected_value)} after cost, must be above {_bps(verdict.threshold)}",
        ),
        Gate(
            "size",
            verdict.leverage > 0.0,
            f"leverage {verdict.leverage:.3f} = min(cap {config.max_leverage_per_symbol:g}, Kelly share "
            f"{verdict.kelly_leverage:.3f}) × ramp {verdict.ramp:.2f} × drawdown {verdict.throttle:g} "
            f"× drift {verdict.trust:g} × evidence {verdict.proven:.2f}",
        ),
    )


def _policy_gate(look: Look) -> tuple[Gate, ...]:
    if look.policy == LEARNER:
        return ()
    return (Gate("policy", not look.policy_trouble, look.policy_trouble or f"{look.policy} answered"),)


def _drift_words(look: Look) -> str:
    return f"{DRIFT_STEPS[look.drift_step]}: {look.drift:.1f} nats lost against a coin since the best moment"


def _side_word(sign: int) -> str:
    return "long" if sign > 0 else "short"


def _bps(fraction: float) -> str:
    return f"{fraction * 1e4:.1f} bps"
