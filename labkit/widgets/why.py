"""Why: one decision's receipt, readable as text and as HTML."""

from __future__ import annotations

import html
from decimal import Decimal

from labkit.domain.decisions import Action, Decision
from labkit.domain.reasons import decision_words, feature_words, flip_words, gate_words
from labkit.widgets.view_parts import MINUS, rounded_parts, true_minus

_VERDICTS = {
    Action.ENTER_LONG: "went long",
    Action.ENTER_SHORT: "went short",
    Action.EXIT: "closed the position",
    Action.HOLD: "kept the position",
    Action.REFUSE: "did not trade",
}


class Why:
    """The receipt of one decision: what was decided, the numbers behind it, the gates, and what would have flipped it.

    Attributes:
        decision: the decision itself, with every number.
    """

    def __init__(self, decision: Decision) -> None:
        self.decision = decision

    def lines(self) -> list[tuple[str, str]]:
        """The receipt as (title, text) pairs."""
        d, reason = self.decision, decision_words(self.decision)
        strongest = sorted(d.contributions.items(), key=lambda item: -abs(item[1]))[:4]
        passed = sum(gate.passed for gate in d.gates)
        against = "; ".join(f"{gate_words(gate)} ({gate.detail})" for gate in d.gates if not gate.passed)
        told = [
            ("Verdict", f"{_VERDICTS[d.action]}: {reason[:1].lower()}{reason[1:]}"),
            (
                "Better side",
                f"{'long' if d.side > 0 else 'short'}, probability {d.probability:.3f}, "
                f"calibration slope {d.calibration_slope:.2f}",
            ),
            ("Expected value", _value_words(d)),
            ("Bracket", f"stop {d.stop_distance:.2%}, target {d.target_distance:.2%}, {d.horizon_minutes} minutes"),
            (
                "Strongest inputs",
                ", ".join(f"{feature_words(name)} {value:+.3f}" for name, value in strongest) or "none",
            ),
            ("Gates passed", f"{passed} of {len(d.gates)}"),
            ("Spoke against", against or "nothing"),
            ("Would flip it", flip_words(d)),
        ]
        return [(title, true_minus(text)) for title, text in told]

    def __repr__(self) -> str:
        width = max(len(title) for title, _ in self.lines())
        return "\n".join([self.decision.symbol, *(f"  {title:<{width}}  {text}" for title, text in self.lines())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left;vertical-align:top">{html.escape(title)}</th>'
            f'<td style="text-align:left">{html.escape(text)}</td></tr>'
            for title, text in self.lines()
        )
        gates = "".join(
            f"<li>{html.escape(true_minus(f'{gate_words(gate)}: {gate.detail}'))}</li>"
            for gate in self.decision.gates
            if gate.passed
        )
        return (
            f"<table><caption>{html.escape(self.decision.symbol)}</caption>{rows}</table>"
            f"<details><summary>The gates it passed, with what each compared</summary><ul>{gates}</ul></details>"
        )


def _value_words(decision: Decision) -> str:
    """The expected value and its parts in basis points; as written, they add up."""
    d = decision
    values = (d.edge, -d.fee_cost, -d.spread_cost, -d.slippage_cost, -d.funding_cost, -d.execution_gap_cost)
    points = rounded_parts([Decimal(str(value)) * 10_000 for value in values], Decimal("0.1"))
    edge, costs = points[0], [0 - point for point in points[1:]]
    names = ("fees", "spread", "slippage", "funding", "execution gap")
    named = ", ".join(f"{name} {cost:.1f}" for name, cost in zip(names, costs, strict=True))
    return f"{sum(points):+.1f} bp = edge {edge:.1f} {MINUS} costs {sum(costs):.1f} ({named})"
