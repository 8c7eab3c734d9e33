"""Slippage: what fills paid beyond the quotes their orders were decided on, booked where results are booked."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import labkit
from labkit.domain.day_history import DayHistory
from labkit.domain.orders import Fill, Side
from labkit.domain.position import Position
from labkit.engine.history import SlippageBook, days_in, read_day
from tests.lab.conftest import SMALL

ZERO = Decimal(0)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> DayHistory:
    folder = tmp_path_factory.mktemp("rehearsal")
    ledger = labkit.rehearse(minutes=45, folder=folder, **SMALL, paper={"weather": "drizzle"})
    return read_day(ledger, days_in(ledger)[-1])


def fill_of(number: int, side: Side, quantity: int) -> Fill:
    return Fill(
        symbol="BTCUSDT", trade_id=number, order_id=number, client_order_id=f"o{number}", side=side,
        price=Decimal(100), quantity=Decimal(quantity), commission=ZERO, realized_pnl=ZERO, maker=False,
        trade_time_ms=number,
    )  # fmt: skip


def booked(turns: list[tuple[Side, int, int]]) -> tuple[list[Decimal], Position]:
    """What each (side, quantity, slippage in cents) books, and the position that is left."""
    book, position, told = SlippageBook(), Position("BTCUSDT"), []
    for number, (side, quantity, cents) in enumerate(turns):
        fill = fill_of(number, side, quantity)
        after, _ = position.after_fill(fill.signed_quantity, fill.price)
        told.append(book.book(fill, Decimal(cents) / 100, position, after))
        position = after
    return told, position


turns = st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 9), st.integers(-99, 99)), min_size=1, max_size=12)


@given(turns)
def test_once_flat_all_slippage_is_booked_to_the_last_digit(turns: list[tuple[Side, int, int]]) -> None:
    _, left = booked(turns)
    if left.is_open:
        turns = [*turns, (Side.SELL if left.sign > 0 else Side.BUY, int(abs(left.quantity)), 7)]
    told, left = booked(turns)
    assert not left.is_open
    assert sum(told, ZERO) == Decimal(sum(cents for *_, cents in turns)) / 100


def test_an_entry_books_nothing_until_it_is_closed_and_then_its_share() -> None:
    told, _ = booked([(Side.BUY, 4, -80), (Side.SELL, 1, -5), (Side.SELL, 3, 0)])
    assert told == [ZERO, Decimal("-0.25"), Decimal("-0.60")]


def test_the_trades_of_a_lived_day_and_its_fills_tell_the_same_slippage(day: DayHistory) -> None:
    assert any(day.slippage)
    assert sum((trade.slippage for trade in day.trades), ZERO) == sum(day.slippage, ZERO)


def test_prices_are_kept_for_what_was_traded_minute_by_minute(day: DayHistory) -> None:
    assert day.prices.keys() == {fill.symbol for fill in day.fills}
    for points in day.prices.values():
        assert all(later.time_ms - earlier.time_ms == 60_000 for earlier, later in pairwise(points))
