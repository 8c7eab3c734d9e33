"""The detail of a position says what the engine's books say, in figures that add up as shown."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.domain.decisions import Gate
from labkit.domain.position_detail import PositionDetail, PositionPnl
from labkit.engine.position_details import position_detail, what_if
from labkit.errors import ConfigError
from labkit.widgets.position_detail_view import (
    CENT,
    Move,
    edit_of,
    fill_marks,
    levels_of,
    part_of,
    receipt_of,
    rehearsal_of,
    split_figures,
)
from labkit.widgets.view_parts import MINUS, rounded_parts
from tests.engine.test_engine_apply import Desk, decision, quote

D = Decimal


@pytest.fixture
def desk() -> Desk:
    """A long of 39.92, promised at 100.2, filled at 100.3: stop 99.3, target 101.3."""
    made = decision(
        contributions={"mom40": 0.2, "flow": -0.05},
        gates=(Gate("warm", True, "900 bars lived through, 600 needed"), Gate("flat", True, "no position")),
        fee_cost=0.001,
        spread_cost=0.00011,
        execution_gap_cost=0.00004,
    )
    desk = Desk()
    desk.fill(desk.decide(made)[0], "100.3")
    return desk


@pytest.fixture
def detail(desk: Desk) -> PositionDetail:
    return position_detail(desk.engine, "BTCUSDT", {"BTCUSDT": quote()}, {"BTCUSDT": D("101.0")})


def read(text: str) -> Decimal:
    return D(text.replace(",", "").replace(MINUS, "-"))


@given(parts=st.lists(st.decimals("-1e6", "1e6", places=6), min_size=1, max_size=8))
def test_rounded_parts_add_up_to_the_rounded_sum_and_none_is_off_by_a_cent(parts: list[Decimal]) -> None:
    shown = rounded_parts(parts, CENT)
    assert sum(shown) == sum(parts).quantize(CENT)
    assert all(abs(one - other) < CENT for one, other in zip(shown, parts, strict=True))


def test_parts_rounded_one_by_one_would_not_add_up() -> None:
    parts = [D("0.004"), D("0.004"), D("0.004")]
    assert sum(part.quantize(CENT) for part in parts) != sum(parts).quantize(CENT)
    assert sum(rounded_parts(parts, CENT)) == D("0.01")


@given(amounts=st.lists(st.decimals("-5000", "5000", places=8), min_size=4, max_size=4))
def test_the_four_figures_add_up_to_the_net_beside_them(amounts: list[Decimal]) -> None:
    price, slippage, fees, funding = amounts
    *parts, net = split_figures(PositionPnl(price=price, slippage=slippage, fees=fees, funding=funding))
    assert sum(read(figure.text) for figure in parts) == read(net.text)


def test_the_levels_are_those_of_the_plan_and_two_can_be_moved(detail: PositionDetail) -> None:
    told = {level.key: (level.text, level.movable) for level in levels_of(detail)}
    assert told == {"target": ("101.3", True), "entry": ("100.3", False), "stop": ("99.3", True)}


def test_a_liquidation_that_no_price_brings_is_no_level(detail: PositionDetail) -> None:
    far = msgspec.structs.replace(detail, row=msgspec.structs.replace(detail.row, liquidation_price=D(0)))
    near = msgspec.structs.replace(detail, row=msgspec.structs.replace(detail.row, liquidation_price=D(40)))
    assert "liquidation" not in [level.key for level in levels_of(far)]
    assert "liquidation" in [level.key for level in levels_of(near)]


def test_a_fill_tells_its_price_and_its_fee(detail: PositionDetail) -> None:
    (mark,) = fill_marks(detail)
    assert mark.text == "bought 39.92 at 100.3, 00:01:00 UTC, fee 2.001988 USDT"
    assert mark.buy


def test_the_expected_value_shown_is_what_its_parts_leave(detail: PositionDetail) -> None:
    assert detail.decision is not None
    *parts, left = receipt_of(detail.decision).value
    assert [figure.text for figure in parts] == ["+30.0", f"{MINUS}10.0", f"{MINUS}1.1", "0.0", "0.0", f"{MINUS}0.4"]
    assert sum(read(figure.text) for figure in parts) == read(left.text)


def test_inputs_are_told_by_strength_and_say_which_way_they_leaned(detail: PositionDetail) -> None:
    assert detail.decision is not None
    told = [(row.label, row.share, row.text) for row in receipt_of(detail.decision).contributions]
    assert told == [("Momentum, 40 min", 1.0, "+0.200"), ("Flow of takers, 30 min", -0.25, f"{MINUS}0.050")]


def test_a_gate_that_was_not_passed_is_told_first(detail: PositionDetail) -> None:
    assert detail.decision is not None
    gates = (*detail.decision.gates, Gate("calibrated", False, "slope too low"))
    first = receipt_of(msgspec.structs.replace(detail.decision, gates=gates)).gates[0]
    assert (first.passed, first.text) == (False, "Predictions cannot be counted on")


def test_an_arrow_key_moves_by_a_basis_point_and_never_by_less_than_a_tick(detail: PositionDetail) -> None:
    btc = msgspec.structs.replace(detail, row=msgspec.structs.replace(detail.row, entry_price=D(97_000)))
    assert edit_of(btc, None).key_step == 1.0
    assert edit_of(detail, None).key_step == 0.1


def test_what_undoing_would_do_is_said_before_it_is_done(detail: PositionDetail) -> None:
    assert edit_of(detail, Move(D("98.5"), None)).undo == "Undo: stop back to 98.5"
    assert edit_of(detail, None).undo == ""


@pytest.mark.parametrize(("percent", "part"), [(25, "9.98"), (50, "19.96")])
def test_a_part_lies_on_the_step_grid(percent: int, part: str) -> None:
    assert part_of(D("39.923"), percent, D("0.02")) == D(part)


def test_a_part_of_a_single_step_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match=r"50 % of 0\.001 is less than the smallest step, 0\.001"):
        part_of(D("0.001"), 50, D("0.001"))


def test_a_rehearsed_fall_tells_the_price_and_what_lies_beyond_the_stop(desk: Desk, detail: PositionDetail) -> None:
    told = rehearsal_of(detail, what_if(desk.engine, {"BTCUSDT": D("101.0")}, D("-0.07"), leverage=5))
    assert told.verdict == "Not liquidated"
    assert told.stop == ("The price jumps over the stop at 99.3: it would be filled near 93.9, 214.37 USDT beyond it.")
    assert {figure.key: figure.text for figure in told.figures}["price"] == "93.9"


def test_a_rehearsed_rise_passes_no_stop_of_a_long(desk: Desk, detail: PositionDetail) -> None:
    assert rehearsal_of(detail, what_if(desk.engine, {}, D("0.07"), leverage=5)).stop == ""
