"""What was only imagined is told as it was, beside what was real; and forecasts are held to what they said."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from labkit.domain.day_history import DayHistory, VirtualResult
from labkit.domain.decisions import Action
from labkit.report.reliability import reliability_bins, wilson_interval
from labkit.report.virtual_positions import virtual_and_real, virtual_by_decision, virtual_statistics

MakeDay = Callable[..., DayHistory]


def with_results(history: DayHistory, *results: VirtualResult) -> DayHistory:
    return msgspec.structs.replace(history, virtual=results)


@pytest.fixture
def sample(make_day: MakeDay) -> VirtualResult:
    return msgspec.structs.replace(make_day(minutes=60).virtual[0], symbol="BTCUSDT", side="long", weight=1.0)


def test_a_target_earns_its_barrier_a_stop_loses_it_and_both_pay_their_costs(sample: VirtualResult) -> None:
    won, lost, timed_out = (msgspec.structs.replace(sample, came_to=q, barrier=0.005, cost=0.001) for q in (1, 0, 0.5))
    assert [round(result.net, 9) for result in (won, lost, timed_out)] == [0.004, -0.006, -0.001]


def test_a_position_is_won_only_after_its_costs(sample: VirtualResult) -> None:
    barely = msgspec.structs.replace(sample, came_to=0.55, barrier=0.005, cost=0.001)
    assert barely.gross > 0
    assert virtual_statistics([barely]).won == 0.0


def test_overlap_widens_the_error_and_leaves_the_mean(sample: VirtualResult) -> None:
    results = [msgspec.structs.replace(sample, came_to=q % 2, weight=1.0) for q in range(20)]
    alone = virtual_statistics(results)
    crowded = virtual_statistics(msgspec.structs.replace(result, weight=0.25) for result in results)
    assert crowded.net == alone.net
    assert crowded.error == pytest.approx(2 * alone.error)  # type: ignore[operator]


def test_one_observation_has_no_error(sample: VirtualResult) -> None:
    assert virtual_statistics([sample]).error is None


def test_rows_by_symbol_and_side_hold_every_result_and_every_trade_once(make_day: MakeDay) -> None:
    history = make_day(trades=40)
    *rows, total = virtual_and_real(history).itertuples()
    assert sum(row.virtual for row in rows) == total.virtual == len(history.virtual)
    assert sum(row.trades for row in rows) == total.trades == len(history.trades)


def test_real_trades_stand_with_what_they_earned_of_what_they_were_entered_for(make_day: MakeDay) -> None:
    history = make_day(trades=1, still_open=False)
    (trade,) = history.trades
    row = virtual_and_real(with_results(history)).iloc[0]
    assert row["trades earned"] == pytest.approx(
        1e4 * float(trade.net_pnl / trade.entry_price / trade.quantity), abs=0.06
    )


def test_refusals_are_told_apart_by_their_reason_in_words(make_day: MakeDay, sample: VirtualResult) -> None:
    history = with_results(
        make_day(),
        msgspec.structs.replace(sample, action=Action.REFUSE, reason="expected_value"),
        msgspec.structs.replace(sample, action=Action.REFUSE, reason="quote_fresh"),
        msgspec.structs.replace(sample, action=Action.REFUSE, reason="quote_fresh"),
        msgspec.structs.replace(sample, action=Action.ENTER_LONG, reason="expected_value"),
    )
    table = virtual_by_decision(history)
    assert dict(zip(table["decided"], table["virtual"], strict=True)) == {
        "refused: there is no fresh quote": 2,
        "refused: the edge is not worth its costs": 1,
        "entered": 1,
    }


def test_honest_forecasts_agree_with_what_came_true(make_day: MakeDay) -> None:
    bins = reliability_bins(make_day())
    assert sum(row.labels for row in bins) == len(make_day().virtual)
    assert len(bins) == 10
    assert sum(row.honest for row in bins) >= 8


def test_boastful_forecasts_do_not_agree(make_day: MakeDay) -> None:
    # The negative control: the same coin, called a sure thing.
    rng = random.Random(1)
    history = make_day()
    boasts = [
        msgspec.structs.replace(result, side="long", chance=0.95, came_to=float(rng.random() < 0.5))
        for result in history.virtual
    ]
    assert not any(row.honest for row in reliability_bins(with_results(history, *boasts)))


def test_a_short_that_paid_is_a_long_that_did_not(make_day: MakeDay, sample: VirtualResult) -> None:
    short = msgspec.structs.replace(sample, side="short", chance=0.7, came_to=1.0)
    (row,) = reliability_bins(with_results(make_day(), short))
    assert (row.said, row.came_true, row.labels) == (pytest.approx(0.3), 0.0, 1)


def test_few_labels_make_few_bins(make_day: MakeDay) -> None:
    history = make_day()  # of which each label is worth a fifth
    assert len(reliability_bins(with_results(history, *history.virtual[:90]))) == 2


def test_the_interval_is_wilsons() -> None:
    # As prop.test(15, 50, correct = FALSE) of R.
    assert wilson_interval(0.3, 50) == pytest.approx((0.191, 0.438), abs=5e-4)
    assert wilson_interval(0.0, 10) == pytest.approx((0.0, 0.278), abs=5e-4)
