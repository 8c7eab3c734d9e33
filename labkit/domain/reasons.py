"""Gates and reasons in words: one sentence for each name that stands in a decision, an order or a closed trade.

The names are what code compares and ledgers keep; these sentences are what a person reads, wherever it is. A name
nobody has given words to (of a ledger of another version, of a policy) is shown as it is, its underscores as spaces.
"""

from __future__ import annotations

import msgspec

from labkit.domain.decisions import Action, Decision, Gate


class GateWords(msgspec.Struct, frozen=True):
    """What it means that a gate was passed, and that it was not. No full stop: numbers may follow."""

    passed: str
    failed: str


GATES = {
    # the trader's
    "bar_present": GateWords("The minute's bar is here", "The minute has no usable bar"),
    "warm": GateWords("Enough history has been lived through", "Too little history has been lived through"),
    "features_sane": GateWords("Every input looks as it was learned from", "An input looks like nothing learned from"),
    "volatility": GateWords("Prices move enough to place a stop", "Prices do not move: there is no place for a stop"),
    "policy": GateWords("The policy answered", "The policy gave no usable answer"),
    "quote_fresh": GateWords("The quote is fresh", "There is no fresh quote"),
    "flat": GateWords("No position is held", "A position is held already"),
    "drawdown": GateWords("Equity is near enough to its peak", "Equity has fallen too far below its peak"),
    "drift": GateWords("Predictions come true as they did", "Predictions come true less than they did"),
    "calibrated": GateWords("Predictions may be counted on", "Predictions cannot be counted on"),
    "proven": GateWords("What came true is more than luck", "What came true may still be luck"),
    "expected_value": GateWords("The edge is worth its costs", "The edge is not worth its costs"),
    "size": GateWords("The stake is more than nothing", "The stake comes to nothing"),
    # the engine's
    "entries_allowed": GateWords("New entries are allowed", "New entries are paused"),
    "breaker": GateWords("The circuit breaker permits entries", "The circuit breaker permits no entries"),
    "symbol_free": GateWords("Nothing is under way on the symbol", "Something is under way on the symbol already"),
    "open_positions": GateWords("There is room for one more position", "As many positions are open as are allowed"),
    "daily_loss": GateWords("The day's loss is within its limit", "The day has lost as much as it may"),
    "order_rate": GateWords("Orders are not too frequent", "Orders are too frequent"),
    "order_size": GateWords("The order is large enough to be placed", "The order rounds to nothing"),
    "position_cap": GateWords("The position stays within its cap", "The position would exceed its cap"),
}

DECISIONS = {
    "holding": "The model has not changed its mind",
    "model_flip": "The model now prefers the other side",
    "model_not_finite": "The model answered with numbers that are none",
}
"""Primary reasons that are no gate."""

EXITS = {
    "stop_loss": "The stop was reached",
    "trailing_stop": "The trailing stop was reached",
    "take_profit": "The target was reached",
    "max_holding": "Its time was up",
    "model_flip": "The model came to prefer the other side",
    "user": "Closed by hand",
    "liquidation": "Liquidated by the exchange",
    "external": "Closed by an order of somebody else",
}
"""Why a position was closed."""

FEATURES = {
    "drift": "Standing drift",
    "mom10": "Momentum, 10 min",
    "mom40": "Momentum, 40 min",
    "mom160": "Momentum, 160 min",
    "mom640": "Momentum, 640 min",
    "mkt160": "Market momentum, 160 min",
    "flow": "Flow of takers, 30 min",
    "dev720": "Distance from its 12 h level",
    "mom10×vr": "Momentum 10 min × volatility ratio",
    "mom40×vr": "Momentum 40 min × volatility ratio",
    "mom160×vr": "Momentum 160 min × volatility ratio",
    "mom640×vr": "Momentum 640 min × volatility ratio",
    "mkt×vr": "Market momentum × volatility ratio",
    "tod_sin": "Time of day (sine)",
    "tod_cos": "Time of day (cosine)",
    "mom160²": "Momentum 160 min, squared",
}
"""What the learner looks at (`labkit.trader.features`)."""


def gate_words(gate: Gate) -> str:
    """What became of a gate, in words without its numbers (`gate.detail` has those)."""
    sentence = GATES.get(gate.name)
    if sentence is None:
        return f"{_plain(gate.name)}: {'passed' if gate.passed else 'not passed'}"
    return sentence.passed if gate.passed else sentence.failed


def decision_words(decision: Decision) -> str:
    """The primary reason of a decision, in words."""
    return reason_words(decision.action, decision.primary_reason)


def reason_words(action: Action, name: str) -> str:
    """The primary reason `name` of a decision that came to `action`, in words."""
    if name in DECISIONS:
        return DECISIONS[name]
    if name not in GATES:
        return _plain(name)
    return GATES[name].failed if action is Action.REFUSE else GATES[name].passed


def because(reason: str) -> str:
    """Why an entry was refused, as the rest of a sentence."""
    sentence = reason_words(Action.REFUSE, reason)
    return sentence[0].lower() + sentence[1:]


def exit_words(name: str) -> str:
    """Why a position was closed, in words."""
    return EXITS.get(name, _plain(name))


def flip_words(decision: Decision) -> str:
    """What would have flipped a decision, in words."""
    missing = [change.name for change in decision.changes if (change.now, change.needed) == (0.0, 1.0)]
    asked = [GATES[name].passed for name in missing if name in GATES]
    if decision.action is Action.REFUSE and decision.smallest_change.startswith("the gate ") and asked:
        return "Would enter if: " + "; ".join(asked) + "."
    return decision.smallest_change


def feature_words(name: str) -> str:
    """What an input of the learner is, in words."""
    return FEATURES.get(name, name)


def _plain(name: str) -> str:
    return name.replace("_", " ")
