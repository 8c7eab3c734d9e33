"""What a person reads of a position is exactly what the snapshot says."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from labkit.domain.snapshot import PositionRow, SymbolRow
from labkit.widgets.position_view import position_lines, positions_html, positions_view
from labkit.widgets.view_parts import clock_of, signed_money

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
