"""The receipt of a decision in words: figures that add up as written, gates in sentences."""

from __future__ import annotations

import re
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from labkit.domain.decisions import Action, Gate
from labkit.widgets.why import Why
from tests.engine.test_engine_apply import decision

SMALL = st.floats(0, 0.01)


def lines(**changes: object) -> dict[str, str]:
    return dict(Why(decision(**changes)).lines())  # type: ignore[arg-type]


@given(edge=SMALL, fee=SMALL, spread=SMALL, funding=st.floats(-0.01, 0.01), gap=SMALL)
def test_the_expected_value_is_what_edge_and_costs_leave_as_they_are_written(
    edge: float, fee: float, spread: float, funding: float, gap: float
) -> None:
    written = lines(edge=edge, fee_cost=fee, spread_cost=spread, funding_cost=funding, execution_gap_cost=gap)
    told = written["Expected value"].replace("− costs", "costs").replace("−", "-")
    left, edge_points, costs, *each = map(Decimal, re.findall(r"[+-]?\d+\.\d", told))
    assert edge_points - costs == left
    assert sum(each) == costs


def test_a_refusal_says_in_words_which_gate_spoke_against_it_and_what_it_compared() -> None:
    written = lines(
        action=Action.REFUSE,
        primary_reason="expected_value",
        gates=(Gate("warm", True, "900 bars"), Gate("expected_value", False, "1.2 bps after cost, must be above 2.5")),
    )
    assert written["Verdict"] == "did not trade: the edge is not worth its costs"
    assert written["Spoke against"] == "The edge is not worth its costs (1.2 bps after cost, must be above 2.5)"
    assert written["Gates passed"] == "1 of 2"


def test_what_a_gate_compared_is_read_with_a_minus_sign_and_a_day_with_its_hyphens() -> None:
    refused = Gate("expected_value", False, "-7.6 bps on 2026-01-05, must be above -0.5")
    assert lines(gates=(refused,))["Spoke against"].endswith("(−7.6 bps on 2026-01-05, must be above −0.5)")
    assert "−7.6 bps on 2026-01-05" in Why(decision(gates=(Gate("warm", True, refused.detail),)))._repr_html_()


def test_the_page_names_the_gates_it_passed_in_words_and_escapes_what_they_say() -> None:
    page = Why(decision(gates=(Gate("warm", True, "<b>900</b> bars"),)))._repr_html_()
    assert "Enough history has been lived through: &lt;b&gt;900" in page
