"""A decision and its receipt: one record per symbol and decision time, trades not taken included.

Numbers here are statistics (`float`): probabilities, fractions, expected values. Money appears only after
`labkit.trader.sizing` has turned a decision into an order.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

import msgspec

LEARNER = "learner"
"""Who speaks unless a policy was brought."""


class Action(StrEnum):
    ENTER_LONG = "enter_long"
    ENTER_SHORT = "enter_short"
    EXIT = "exit"
    """Close the held position: the model now prefers the other side."""
    HOLD = "hold"
    """A position is open and stays open."""
    REFUSE = "refuse"
    """No trade; `primary_reason` says why."""


ENTRIES = (Action.ENTER_LONG, Action.ENTER_SHORT)


class Gate(msgspec.Struct, frozen=True):
    """One condition of entering: its name, whether it passed, and the numbers compared."""

    name: str
    passed: bool
    detail: str


class Change(msgspec.Struct, frozen=True):
    """One input of a decision, as it was and as it would have had to be.

    `name` is `probability` (of the decision's side), `cost` (round trip without funding, fraction of notional),
    `slope` (that may be counted on), `drawdown`, `drift_step`, `evidence`, `barrier`, `labels`, or the name of a gate
    that asks for something missing (0 now, 1 needed).
    """

    name: str
    now: float
    needed: float


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the trader decided on one symbol at one minute, and why.

    `probability` is that of the better side's bracket paying (soft, time-outs included); `edge`, the costs and
    `expected_value` are fractions of notional; `leverage` is notional over equity (0 unless entering);
    `stop_distance` and `target_distance` are fractions of the entry price.
    """

    symbol: str
    time_ms: int
    action: Action
    primary_reason: str
    side: int
    """+1 if the better side is long, -1 if short."""
    probability: float
    calibration_slope: float
    edge: float
    fee_cost: float
    spread_cost: float
    slippage_cost: float
    funding_cost: float
    execution_gap_cost: float
    expected_value: float
    leverage: float
    stop_distance: float
    target_distance: float
    horizon_minutes: int
    features: dict[str, float]
    contributions: dict[str, float]
    """Approximate share of each feature in the log-odds of the better side, weighted over experts."""
    expert_probabilities: dict[str, float]
    expert_weights: dict[str, float]
    gates: tuple[Gate, ...]
    policy: str = LEARNER
    """Whose probability it is; the experts' are the learner's own in any case."""
    smallest_change: str
    """In words: what would have flipped this decision."""
    changes: tuple[Change, ...] = ()
    """The same as numbers; all of them together."""


def only_finite(decision: Decision) -> Decision:
    """The decision, unless it holds numbers that are none: then one that acts on nothing and says so.

    A record of any action must be readable again, and JSON knows no number that is none.
    """
    changes: dict[str, Any] = {}
    for name in Decision.__struct_fields__:
        value = getattr(decision, name)
        if isinstance(value, float) and not math.isfinite(value):
            changes[name] = 0.0
        elif isinstance(value, dict) and not all(map(math.isfinite, value.values())):
            changes[name] = {key: number for key, number in value.items() if math.isfinite(number)}
    if not changes:
        return decision
    return msgspec.structs.replace(
        decision,
        action=Action.HOLD if decision.action in (Action.EXIT, Action.HOLD) else Action.REFUSE,
        primary_reason="model_not_finite",
        smallest_change=f"finite numbers for {', '.join(changes)}",
        **{"leverage": 0.0, "changes": (), **changes},
    )


class VirtualPosition(msgspec.Struct, frozen=True, kw_only=True):
    """A bracket that is only imagined: it lives like a real one and closes into a label."""

    symbol: str
    side: int
    opened_ms: int
    entry_price: float
    stop_price: float
    target_price: float
    due_ms: int
    last_price: float
    result: float
    """Gross result so far as a fraction of the entry price."""


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """What one question to the learner came to: both imagined brackets of a decision have closed."""

    symbol: str
    asked_ms: int
    """The `time_ms` of its decision."""
    closed_ms: int
    came_to: float
    """Of the long bracket: 1 target first, 0 stop first, in between by the result at time-out."""
    weight: float
    """Its uniqueness: labels that overlap share one observation."""
