"""All days of a ledger, judged: beside what needs no skill, and with what was tried on the same prices."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest

from labkit.domain.day_history import DayHistory, DaySummary, SymbolMove
from labkit.research.day_verdict import NoTrackRecord, account_returns, beside_the_account, judge_days
from labkit.research.trials import Trial, TrialLedger, Window
from labkit.research.verdict import Verdict
from tests.report.conftest import DAY, MakeDay
from tests.report.conftest import make_day as make_day

FEE = 0.0005
DAY_MS = 86_400_000


def with_days(history: DayHistory, returns: list[float], prices: list[float], missing: int = 0) -> DayHistory:
    """`history` as the last of days with these returns, on which one symbol moved along `prices` (one more)."""
    equity, summaries = 10_000.0, []
    first = date.fromisoformat(DAY) - timedelta(days=len(returns) - 1 + missing)
    for number, value in enumerate(returns):
        is_last = number == len(returns) - 1
        summaries.append(
            DaySummary(
                day=DAY if is_last else (first + timedelta(days=number)).isoformat(),
                opening_equity=Decimal(str(equity)), closing_equity=Decimal(str(equity * (1 + value))),
                deposits=Decimal(0), fees=Decimal(0), funding=Decimal(0), trades=0, decisions=0, taken=0, refused={},
                learning=None,
                moves={"BTCUSDT": SymbolMove(Decimal(str(prices[number])), Decimal(str(prices[number + 1])))},
                settings={"trader.taker_fee_rate": FEE}, config_fingerprint="", version="",
            )
        )  # fmt: skip
        equity *= 1 + value
    return msgspec.structs.replace(history, days=tuple(summaries))


@pytest.fixture
def history(make_day: MakeDay) -> DayHistory:
    return make_day(trades=3, minutes=60)


def test_one_day_is_no_track_record_and_says_what_it_takes(history: DayHistory, tmp_path: Path) -> None:
    told = judge_days(with_days(history, [0.01], [100, 101]), tmp_path)
    assert isinstance(told, NoTrackRecord)
    # 1 + (1.645 / (2 / sqrt(365)))^2 (1 + half the squared daily Sharpe ratio), as Bailey and Lopez de Prado have it.
    assert "about 249 to be told from luck" in told.words


def test_buy_and_hold_is_what_the_prices_did_less_one_fee(history: DayHistory) -> None:
    frame = beside_the_account(with_days(history, [0.01, -0.02], [100, 110, 121])).set_index("what")
    assert frame.loc["buy and hold", "all days"] == pytest.approx(100 * ((1.1 - FEE) * 1.1 - 1), abs=0.01)
    assert frame.loc["short and hold", "this day"] == pytest.approx(-10)
    assert frame.loc["cash", "all days"] == 0
    assert frame.loc["the account", "all days"] == pytest.approx(100 * (1.01 * 0.98 - 1), abs=0.01)


def test_a_day_the_lab_was_off_is_a_day_of_nothing(history: DayHistory) -> None:
    days = with_days(history, [0.01, 0.02], [100, 110, 121], missing=2)
    assert account_returns(days).tolist() == pytest.approx([0.01, 0, 0, 0.02])


def test_what_prices_did_while_the_lab_was_off_belongs_to_the_holder(history: DayHistory) -> None:
    days = with_days(history, [0.0, 0.0], [100, 110, 121], missing=1)
    came_back = msgspec.structs.replace(days.days[1], moves={"BTCUSDT": SymbolMove(Decimal(200), Decimal(220))})
    days = msgspec.structs.replace(days, days=(days.days[0], came_back))
    assert beside_the_account(days).set_index("what").loc["buy and hold", "this day"] == pytest.approx(100)


def test_a_few_days_are_judged_and_prove_nothing(history: DayHistory, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    told = judge_days(with_days(history, rng.normal(0.01, 0.01, 20).tolist(), [100.0] * 21), tmp_path)
    assert isinstance(told, Verdict)
    assert not told.evidence
    assert "20 days and 60 are the least" in told.words
    assert not (tmp_path / "trials").exists()


def test_trials_on_the_same_prices_are_counted_and_on_others_are_not(history: DayHistory, tmp_path: Path) -> None:
    days = with_days(history, [0.01, 0.0, 0.01], [100.0] * 4)

    def count_after(origin: str) -> int:
        window = Window(
            symbols=("BTCUSDT",), interval="1m", start_ms=history.start_ms - 2 * DAY_MS,
            end_ms=history.start_ms + DAY_MS, data_hash="x", origin=origin,
        )  # fmt: skip
        with TrialLedger(tmp_path) as ledger:
            for number in range(5):
                ledger.record(Trial(window, "sweep", f"{origin}{number}", np.array([0.01, 0.0, 0.001 * number])))
        told = judge_days(days, tmp_path)
        assert isinstance(told, Verdict)
        return told.trials

    assert count_after("another market") == 1
    assert count_after(history.disclosure) == 5


def test_a_day_that_was_saved_without_the_others_is_judged_by_nothing(history: DayHistory, tmp_path: Path) -> None:
    assert beside_the_account(history).empty
    assert isinstance(judge_days(history, tmp_path), NoTrackRecord)
