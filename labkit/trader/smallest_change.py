"""The smallest change that would have flipped a decision: as numbers that can be put to the test, and in words.

What is missing (a bar, history, a quote, a policy's answer, a sane feature) must come first: nobody knows what would
have been decided with it, only that it would have been decided on the merits. On the merits a refusal becomes an entry,
an entry a refusal, a hold an exit and the other way round; where several gates stand in the way, all that must change
are named. Where both would do, probability or cost is chosen by which is relatively nearer. Used by `receipts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.config import TraderConfig
from labkit.domain.decisions import Action, Change, Gate
from labkit.trader.drift import DRIFT_STEPS
from labkit.trader.evidence import LEAST_SHARE
from labkit.trader.policy import Verdict
from labkit.trader.step import FIRST_QUESTION_BARS, LEAST_PROBABILITY

if TYPE_CHECKING:
    from labkit.trader.receipts import Costs, Look

MISSING = ("bar_present", "warm", "features_sane", "volatility", "policy", "quote_fresh")
"""Gates that ask whether there is anything to decide on."""
_JUST = 1e-6
"""How far beyond a threshold a change goes, as a fraction of it."""


def smallest_changes(
    look: Look, verdict: Verdict, costs: Costs, config: TraderConfig, action: Action, failed: Gate | None
) -> tuple[Change, ...]:
    """What would have to be otherwise, all of it together; empty where nothing could have been decided."""
    if action in (Action.HOLD, Action.EXIT):
        return _of_a_held_position(look, verdict, action)
    if failed is None:
        return _of_an_entry(look, verdict, costs, config)
    if failed.name in MISSING:
        if failed.name == "warm":
            return (Change("warm", look.bars, bars_needed(config)),)
        return (Change(failed.name, 0.0, 1.0),)
    return _of_a_refusal(look, verdict, costs, config)


def _of_a_held_position(look: Look, verdict: Verdict, action: Action) -> tuple[Change, ...]:
    if not look.asked:
        return ()
    towards_the_other_side = _JUST if verdict.side != look.held else -_JUST
    needed = 0.5 + towards_the_other_side if action is Action.HOLD else 0.5
    return (Change("probability", verdict.probability, needed),)


def _of_an_entry(look: Look, verdict: Verdict, costs: Costs, config: TraderConfig) -> tuple[Change, ...]:
    own = _cost_without_funding(costs)
    dearer = _cost_met(verdict, costs, config) * (1.0 + _JUST) + 1e-12
    less_sure = _probability_met(verdict, verdict.slope, look.barrier)
    less_sure = max(0.5, less_sure - _JUST * (less_sure - 0.5))
    # Both as fractions of what there is: cost of itself, edge of itself.
    if own > 0.0 and (dearer - own) / own < (verdict.probability - less_sure) / (verdict.probability - 0.5):
        return (Change("cost", own, dearer),)
    return (Change("probability", verdict.probability, less_sure),)


def _of_a_refusal(look: Look, verdict: Verdict, costs: Costs, config: TraderConfig) -> tuple[Change, ...]:
    changes: list[Change] = []
    if verdict.throttle <= 0.0:
        changes.append(Change("drawdown", look.drawdown, config.drawdown_stop * (1.0 - _JUST)))
    if verdict.trust <= 0.0:
        changes.append(Change("drift_step", look.drift_step, 1.0))
    if verdict.proven <= 0.0:
        changes.append(Change("evidence", look.evidence, least_evidence(config) * (1.0 + _JUST)))
    changes += _towards_value(look, verdict, costs, config)
    if verdict.ramp <= 0.0:
        changes.append(Change("labels", look.weighted_labels, 1.0))
    if config.kelly_fraction <= 0.0:
        changes.append(Change("kelly_fraction", 0.0, TraderConfig().kelly_fraction))
    return tuple(changes)


def _towards_value(look: Look, verdict: Verdict, costs: Costs, config: TraderConfig) -> list[Change]:
    """What lifts the expected value above its threshold; nothing if it is there."""
    if verdict.expected_value > verdict.threshold:
        return []
    surest = 1.0 - LEAST_PROBABILITY
    needed_edge = (verdict.threshold + verdict.cost) * (1.0 + _JUST) + 1e-12
    own, least_cost = _cost_without_funding(costs), costs.fee + costs.slippage
    cheaper = _cost_met(verdict, costs, config) * (1.0 - _JUST) - 1e-12
    surer = _surer(needed_edge, verdict.slope, look.barrier)
    slope = _slope_met(needed_edge, verdict.probability, look.barrier)
    if verdict.slope <= 0.0 and slope <= 1.0:
        return [Change("slope", verdict.slope, slope)]
    if surer <= surest and cheaper >= least_cost:
        missing = (surer - verdict.probability) / (surer - 0.5)
        if (own - cheaper) / own < missing:
            return [Change("cost", own, cheaper)]
        return [Change("probability", verdict.probability, surer)]
    if surer <= surest:
        return [Change("probability", verdict.probability, surer)]
    if cheaper >= least_cost:
        return [Change("cost", own, cheaper)]
    # Not even certainty would do at this slope: then both, and at last a wider bracket.
    changes = [Change("slope", verdict.slope, 1.0)]
    barrier = look.barrier
    surer = _surer(needed_edge, 1.0, barrier)
    if surer > surest:
        surer = surest
        barrier = needed_edge / (2.0 * surest - 1.0) * (1.0 + _JUST)
    changes.append(Change("probability", verdict.probability, surer))
    if barrier != look.barrier:
        changes.append(Change("barrier", look.barrier, barrier))
    return changes


def _cost_without_funding(costs: Costs) -> float:
    return costs.fee + costs.spread + costs.slippage + costs.execution_gap


def _cost_met(verdict: Verdict, costs: Costs, config: TraderConfig) -> float:
    """The cost without funding at which the expected value just meets its threshold."""
    margin, funding = config.cost_margin, costs.funding
    if funding >= 0.0:
        return (verdict.edge - (1.0 + margin) * funding) / (1.0 + margin)
    return (verdict.edge - funding) / (1.0 + margin)


def _probability_met(verdict: Verdict, slope: float, barrier: float) -> float:
    """The probability at which the expected value just meets its threshold; above 1 if none does."""
    return 0.5 + 0.5 * (verdict.threshold + verdict.cost) / (slope * barrier)


def _surer(needed_edge: float, slope: float, barrier: float) -> float:
    return 0.5 + 0.5 * needed_edge / (slope * barrier) if slope * barrier > 0.0 else 2.0


def _slope_met(needed_edge: float, probability: float, barrier: float) -> float:
    lean = (2.0 * probability - 1.0) * barrier
    return needed_edge / lean if lean > 0.0 else 2.0


def bars_needed(config: TraderConfig) -> int:
    """Bars a symbol lives through before it is traded."""
    return max(config.warm_up_minutes, FIRST_QUESTION_BARS)


def least_evidence(config: TraderConfig) -> float:
    """Nats of evidence above which there is a stake at all."""
    return LEAST_SHARE * config.evidence_nats


def in_words(look: Look, config: TraderConfig, action: Action, changes: tuple[Change, ...]) -> str:
    """The changes as a person says them."""
    if action is Action.HOLD and not changes:
        return f"Holds {_side_word(look.held)} without a new opinion: the model could not be asked this minute."
    verb = {
        Action.HOLD: "Would close",
        Action.EXIT: "Would hold",
        Action.REFUSE: "Would enter",
    }.get(action, "Would refuse")
    if len(changes) == 1 and changes[0].name in MISSING:
        return _what_is_missing(look, config, changes[0].name)
    return f"{verb} with " + ", and ".join(_change_in_words(change) for change in changes) + "."


def _what_is_missing(look: Look, config: TraderConfig, name: str) -> str:
    match name:
        case "bar_present":
            return "A usable bar of this minute."
        case "warm":
            return f"{bars_needed(config) - look.bars} more bars of history."
        case "features_sane":
            return f"Features as they were learned from: {look.suspicion}."
        case "volatility":
            return "Prices that move: without volatility there is no distance for a stop."
        case "policy":
            return f"A probability to work with: {look.policy_trouble}."
        case _:
            return "A fresh quote of this symbol."


def _change_in_words(change: Change) -> str:
    now, needed = change.now, change.needed
    match change.name:
        case "cost" | "barrier":
            what = "a cost" if change.name == "cost" else "a stop and target"
            return f"{what} of {_bps(needed)} instead of {_bps(now)}"
        case "drawdown":
            return f"equity less than {needed:.1%} below its peak instead of {now:.1%}"
        case "drift_step":
            return f"drift at {DRIFT_STEPS[int(needed)]} instead of {DRIFT_STEPS[int(now)]}"
        case "evidence":
            return f"evidence of {needed:.1f} nats instead of {now:.1f}"
        case "slope":
            return f"predictions that may be counted on to {needed:.2f} instead of {now:.2f}"
        case "labels":
            return "labels to learn from instead of none"
        case "probability":
            return f"a probability of {needed:.4f} instead of {now:.4f}"
        case name:
            return f"{name} of {needed:g} instead of {now:g}"


def _side_word(sign: int) -> str:
    return "long" if sign > 0 else "short"


def _bps(fraction: float) -> str:
    return f"{fraction * 1e4:.2f} bps"
