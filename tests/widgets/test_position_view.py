"""What a person reads of a position is exactly what the snapshot says."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from labkit.domain.decisions import VirtualPosition
from labkit.domain.snapshot import PositionRow, SymbolRow
from labkit.widgets.position_view import VIRTUAL_SHOWN, position_lines, positions_html, positions_view, virtual_lines
from labkit.widgets.view_parts import NOTHING, clock_of, signed_money

LONG = PositionRow(
    symbol="BTCUSDT",
    quantity=Decimal("0.0500"),
    entry_price=Decimal(100) / Decimal(3),
    exit_price=Decimal("34.00"),
    mark_price=Decimal("34.00"),
    unrealized_pnl=Decimal("0.0333"),
    stop_price=Decimal("32.00"),
    target_price=Decimal("36.00"),
    trailing_stop_price=None,
    liquidation_price=None,
    opened_ms=0,
    due_ms=None,
    entry_reason="edge_above_cost",
    closing=False,
)


def with_position(snapshot: Any, row: PositionRow) -> Any:
    quoted = SymbolRow(symbol="BTCUSDT", bid_price=Decimal("34.00"), ask_price=Decimal("34.01"))
    return msgspec.structs.replace(snapshot, symbols=(quoted,), positions=(row,))


def test_an_average_entry_price_is_not_written_with_thirty_digits(lab: Any) -> None:
    assert position_lines(with_position(lab.snapshot(), LONG))[0].entry == "33.33"


@pytest.mark.parametrize(
    ("quantity", "stop", "target", "at", "way"),
    [
        pytest.param(1, 90, 110, 105, 0.75, id="a long on its way up"),
        pytest.param(-1, 110, 90, 95, 0.75, id="a short on its way down"),
        pytest.param(1, 90, 110, 80, 0.0, id="never left of the stop"),
        pytest.param(1, 90, 110, 120, 1.0, id="never right of the target"),
        pytest.param(1, 90, 90, 90, None, id="exits that coincide leave no way"),
    ],
)
def test_the_way_from_stop_to_target_is_the_same_for_both_sides(
    lab: Any, quantity: int, stop: int, target: int, at: int, way: float | None
) -> None:
    row = msgspec.structs.replace(
        LONG,
        quantity=Decimal(quantity),
        stop_price=Decimal(stop),
        target_price=Decimal(target),
        exit_price=Decimal(at),
    )
    assert position_lines(with_position(lab.snapshot(), row))[0].progress == way


def test_a_trailing_stop_that_has_passed_the_stop_moves_the_left_end(lab: Any) -> None:
    row = msgspec.structs.replace(LONG, trailing_stop_price=Decimal("33.00"))
    assert position_lines(with_position(lab.snapshot(), row))[0].progress == pytest.approx(1 / 3, abs=1e-3)


def test_the_total_is_the_sum_of_the_positions(lab: Any, clock: Any) -> None:
    clock.time_ms += 60_000
    snapshot = lab.snapshot()
    expected = sum(row.unrealized_pnl for row in snapshot.positions)
    assert positions_view(snapshot).total.text == signed_money(expected)


def test_text_from_elsewhere_cannot_become_markup(lab: Any) -> None:
    row = msgspec.structs.replace(LONG, entry_reason="<script>alert(1)</script>")
    snapshot = with_position(lab.snapshot(), row)
    assert "<script>" not in positions_html(positions_view(snapshot), clock_of(snapshot))


VIRTUAL = VirtualPosition(
    symbol="BTCUSDT",
    side=-1,
    opened_ms=0,
    entry_price=34.0,
    stop_price=35.0,
    target_price=33.0,
    due_ms=1_800_000,
    last_price=33.5,
    result=0.0147,
)


def test_a_virtual_position_is_told_like_a_real_one(lab: Any) -> None:
    snapshot = msgspec.structs.replace(with_position(lab.snapshot(), LONG), virtual_positions=(VIRTUAL,))
    (line,) = virtual_lines(snapshot)
    assert (line.side, line.entry, line.result, line.progress) == ("short", "34.00", "+147.0", 0.75)
    assert positions_view(snapshot).virtual_summary == "1 virtual position, 1 ahead, +147.0 bp on average"


def test_of_many_virtual_positions_the_newest_are_shown_and_all_are_counted(lab: Any) -> None:
    many = tuple(msgspec.structs.replace(VIRTUAL, opened_ms=minute * 60_000) for minute in range(40))
    snapshot = msgspec.structs.replace(lab.snapshot(), virtual_positions=many)
    view = positions_view(snapshot)
    assert [line.key for line in view.virtual][:2] == ["BTCUSDT 2340000", "BTCUSDT 2280000"]
    assert len(view.virtual) == VIRTUAL_SHOWN
    assert view.virtual_summary.startswith("40 virtual positions, 40 ahead")


def test_a_position_without_a_liquidation_price_shows_a_dash(lab: Any) -> None:
    row = msgspec.structs.replace(LONG, liquidation_price=Decimal(0))
    assert position_lines(with_position(lab.snapshot(), row))[0].liquidation == NOTHING
