"""Why: one decision's receipt, readable as text and as HTML."""

from __future__ import annotations

import html

from labkit.domain.decisions import Action, Decision
from labkit.domain.reasons import decision_words, feature_words, flip_words, gate_words

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
        side = "long" if d.side > 0 else "short"
        costs = d.fee_cost + d.spread_cost + d.slippage_cost + d.funding_cost + d.execution_gap_cost
        strongest = sorted(d.contributions.items(), key=lambda item: -abs(item[1]))[:4]
        return [
            ("Verdict", f"{_VERDICTS[d.action]}: {reason[:1].lower()}{reason[1:]}"),
            ("Better side", f"{side}, probability {d.probability:.3f}, calibration slope {d.calibration_slope:.2f}"),
            (
                "Expected value",
                f"{d.expected_value * 1e4:+.1f} bp = edge {d.edge * 1e4:.1f} - costs {costs * 1e4:.1f} "
                f"(fees {d.fee_cost * 1e4:.1f}, spread {d.spread_cost * 1e4:.1f}, "
                f"slippage {d.slippage_cost * 1e4:.1f}, funding {d.funding_cost * 1e4:.1f}, "
                f"execution gap {d.execution_gap_cost * 1e4:.1f})",
            ),
            ("Bracket", f"stop {d.stop_distance:.2%}, target {d.target_distance:.2%}, {d.horizon_minutes} minutes"),
            (
                "Strongest inputs",
                ", ".join(f"{feature_words(name)} {value:+.3f}" for name, value in strongest) or "none",
            ),
            ("Spoke for it", "; ".join(gate_words(gate) for gate in d.gates if gate.passed) or "nothing"),
            (
                "Spoke against",
                "; ".join(f"{gate_words(gate)} ({gate.detail})" for gate in d.gates if not gate.passed) or "nothing",
            ),
            ("Would flip it", flip_words(d)),
        ]

    def __repr__(self) -> str:
        width = max(len(title) for title, _ in self.lines())
        return "\n".join([self.decision.symbol, *(f"  {title:<{width}}  {text}" for title, text in self.lines())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left;vertical-align:top">{html.escape(title)}</th>'
            f'<td style="text-align:left">{html.escape(text)}</td></tr>'
            for title, text in self.lines()
        )
        return f"<table><caption>{html.escape(self.decision.symbol)}</caption>{rows}</table>"
