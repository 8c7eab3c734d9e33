"""The report's money is the ledger's money, whatever happened on the day."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.domain.day_history import DayHistory, EquityPoint
from labkit.domain.decisions import Action
from labkit.report import metrics
from labkit.report.metrics import CARRIED, NOTHING, PnlSplit

MakeDay = Callable[..., DayHistory]
random_days = {
    "seed": st.integers(0, 10_000),
    "trades": st.integers(0, 30),
    "minutes": st.integers(60, 1440),
    "still_open": st.booleans(),
}


def without_the_first_fill(history: DayHistory) -> DayHistory:
    return msgspec.structs.replace(history, fills=history.fills[1:], slippage=history.slippage[1:])


def with_equity(history: DayHistory, *values: str) -> DayHistory:
    points = tuple(EquityPoint(n * 60_000, Decimal(value), Decimal(value)) for n, value in enumerate(values))
    return msgspec.structs.replace(history, equity=points)


@settings(max_examples=40, deadline=None)
@given(**random_days)
def test_every_split_adds_up_to_the_ledger_exactly(
    make_day: MakeDay, seed: int, trades: int, minutes: int, still_open: bool
) -> None:
    day = make_day(seed=seed, trades=trades, minutes=minutes, still_open=still_open)
    account = day.account_at_end
    slippage = sum(day.slippage, Decimal(0))
    expected = PnlSplit(account.realized_pnl - slippage, slippage, -account.commissions, account.funding)
    for split in (
        metrics.split_by_symbol(day),
        metrics.split_by_hour(day),
        metrics.split_by_side(day),
        metrics.split_by_exit_reason(day),
    ):
        assert metrics.total(split.values()) == expected
    assert metrics.imbalance(day) == NOTHING


@settings(max_examples=40, deadline=None)
@given(**random_days)
def test_the_bridge_leads_from_opening_to_closing_equity_exactly(
    make_day: MakeDay, seed: int, trades: int, minutes: int, still_open: bool
) -> None:
    bridge = metrics.equity_bridge(make_day(seed=seed, trades=trades, minutes=minutes, still_open=still_open))
    steps = bridge.deposits + bridge.booked.net + bridge.other + bridge.unrealized
    assert bridge.opening + steps == bridge.closing
    assert bridge.other == 0


def test_a_missing_fill_is_seen_as_an_imbalance(make_day: MakeDay) -> None:
    day = make_day()
    assert metrics.imbalance(without_the_first_fill(day)) != NOTHING


def test_a_deposit_is_not_a_result(make_day: MakeDay) -> None:
    day = make_day(trades=0)
    empty = msgspec.structs.replace(
        day.account_at_start, wallet_balance=Decimal(0), equity=Decimal(0), deposits=Decimal(0)
    )
    bridge = metrics.equity_bridge(msgspec.structs.replace(day, account_at_start=empty))
    assert (bridge.deposits, bridge.result, bridge.day_return) == (10_000, 0, 0.0)


def test_a_liquidation_fee_has_a_line_of_its_own(make_day: MakeDay) -> None:
    day = make_day(trades=0)
    poorer = msgspec.structs.replace(day.account_at_end, wallet_balance=Decimal(9_990), equity=Decimal(9_990))
    assert metrics.equity_bridge(msgspec.structs.replace(day, account_at_end=poorer)).other == -10


def test_what_is_booked_on_open_trades_is_carried(make_day: MakeDay) -> None:
    day = make_day(still_open=True)
    open_fees = [
        f.commission for f in day.fills if not f.realized_pnl and f.trade_time_ms >= day.open_positions[0].opened_ms
    ]
    assert metrics.split_by_side(day)[CARRIED].fees == -sum(open_fees[-2:])
    assert CARRIED not in metrics.split_by_side(make_day(still_open=False))


def test_a_flow_from_before_midnight_falls_into_hour_zero(make_day: MakeDay) -> None:
    day = make_day(trades=5)
    early = msgspec.structs.replace(day.fills[0], trade_time_ms=day.start_ms - 5)
    alone = msgspec.structs.replace(day, fills=(early,), slippage=day.slippage[:1])
    assert min(metrics.split_by_hour(alone)) == 0


def test_drawdown_is_measured_from_the_highest_equity_so_far(make_day: MakeDay) -> None:
    day = with_equity(make_day(trades=0), "100", "120", "90", "110", "130", "104")
    deepest = metrics.max_drawdown(day)
    assert deepest is not None
    assert (deepest.fraction, deepest.amount, deepest.peak_ms, deepest.trough_ms) == (0.25, 30, 60_000, 120_000)
    assert metrics.drawdowns(day)[-1] == pytest.approx(-0.2)


def test_equity_that_never_falls_has_no_drawdown(make_day: MakeDay) -> None:
    assert metrics.max_drawdown(with_equity(make_day(trades=0), "100", "100", "101")) is None


def test_volatility_is_stretched_to_a_year_of_365_days(make_day: MakeDay) -> None:
    up = str(Decimal(100) * Decimal(math.exp(0.001)))
    day = with_equity(make_day(trades=0), "100", up, "100")
    assert metrics.annualized_volatility(day) == pytest.approx(0.001 * math.sqrt(365 * 1440), rel=1e-6)


def test_volatility_needs_two_returns(make_day: MakeDay) -> None:
    assert metrics.annualized_volatility(with_equity(make_day(trades=0), "100", "101")) is None


def test_trade_statistics_judge_by_net_pnl(make_day: MakeDay) -> None:
    sample = make_day(trades=10, still_open=False).trades[0]
    trades = [msgspec.structs.replace(sample, net_pnl=Decimal(net)) for net in ("3", "-1", "0", "1")]
    figures = metrics.trade_statistics(trades)
    assert (figures.count, figures.wins, figures.losses, figures.win_rate) == (4, 2, 1, 0.5)
    assert (figures.profit_factor, figures.net_pnl, figures.best, figures.worst) == (4.0, 3, 3, -1)


def test_a_day_without_losses_has_no_profit_factor(make_day: MakeDay) -> None:
    assert metrics.trade_statistics(()).profit_factor is None
    assert metrics.trade_statistics(()).win_rate is None


def test_every_decision_is_counted_once(make_day: MakeDay) -> None:
    day = make_day()
    counts = metrics.decision_counts(day.decisions)
    assert counts.total == len(day.decisions)
    assert counts.taken == sum(d.action in metrics.ENTRIES for d in day.decisions)
    assert list(counts.refused.values()) == sorted(counts.refused.values(), reverse=True)


def test_the_nearest_refusal_has_the_highest_expected_value_of_its_reason(make_day: MakeDay) -> None:
    day = make_day()
    for reason, nearest in metrics.nearest_refusals(day.decisions).items():
        rivals = [d for d in day.decisions if d.action is Action.REFUSE and d.primary_reason == reason]
        assert nearest.expected_value == max(d.expected_value for d in rivals)
