"""A ledger of several days, folded once: each day in figures, and what was written is what was lived."""

from __future__ import annotations

import pytest

from labkit import __version__
from labkit.domain.day_history import DayHistory
from labkit.engine.history import days_in, read_day
from labkit.engine.ledger import LEDGER_FILE
from tests.lab.conftest import live


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> tuple[DayHistory, DayHistory]:
    """The days before and after a midnight that a small lab lived through."""
    folder = tmp_path_factory.mktemp("midnight")
    live(folder, 60, market_start="2026-01-05T23:30:00Z", seed=2)
    first, second = (read_day(folder / LEDGER_FILE, day) for day in days_in(folder / LEDGER_FILE))
    return first, second


def test_a_day_knows_the_days_before_it_and_no_later_one(two_days: tuple[DayHistory, DayHistory]) -> None:
    first, second = two_days
    assert [day.day for day in first.days] == ["2026-01-05"]
    assert [day.day for day in second.days] == ["2026-01-05", "2026-01-06"]
    assert second.days[0] == first.days[0]


def test_a_day_begins_with_the_equity_the_day_before_ended_with(two_days: tuple[DayHistory, DayHistory]) -> None:
    one, other = two_days[1].days
    assert one.closing_equity == other.opening_equity
    account = two_days[1].account_at_end
    assert one.result + other.result == account.equity - account.deposits
    assert one.fees + other.fees == -account.commissions
    assert (one.deposits, other.deposits) == (account.deposits, 0)


@pytest.mark.parametrize("number", [0, 1])
def test_a_day_in_figures_counts_what_its_history_holds(two_days: tuple[DayHistory, DayHistory], number: int) -> None:
    history = two_days[number]
    summary = history.days[-1]
    assert summary.trades == len(history.trades)
    assert summary.decisions == len(history.decisions) > 0
    assert summary.learning == (history.learning[-1].learning if history.learning else None)
    assert summary.result == history.account_at_end.equity - history.account_at_start.equity - summary.deposits
    assert summary.version == __version__
    assert set(summary.moves) == set(history.symbols)


def test_funding_at_midnight_is_booked_as_the_exchange_paid_it(two_days: tuple[DayHistory, DayHistory]) -> None:
    # Told as nothing, it would leave our account apart from the exchange's, and entries paused.
    second = two_days[1]
    assert any(payment.amount for payment in second.funding)
    assert [event.text for event in second.events if event.severity == "alarm"] == []


def test_every_trade_finds_the_decision_that_opened_it_even_before_midnight(
    two_days: tuple[DayHistory, DayHistory],
) -> None:
    first, second = two_days
    assert any(trade.opened_ms < second.start_ms for trade in second.trades)
    decided = set(map(repr, (*first.decisions, *second.decisions)))
    for trade in (*first.trades, *second.trades):
        entry = (first.entry_decisions | second.entry_decisions)[trade.entry_order]
        assert repr(entry) in decided
        assert (entry.symbol, entry.side > 0) == (trade.symbol, trade.side == "long")
        assert 0 <= trade.opened_ms - entry.time_ms < 60_000


def test_a_trade_carried_over_midnight_has_the_prices_it_was_opened_at(two_days: tuple[DayHistory, DayHistory]) -> None:
    second = two_days[1]
    carried = [trade for trade in second.trades if trade.opened_ms < second.start_ms]
    assert carried
    assert all(second.prices[trade.symbol][0].time_ms <= trade.opened_ms for trade in carried)
