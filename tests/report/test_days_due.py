"""Every UTC day gets its report exactly once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.domain.clock import DAY_MS, HOUR_MS, MINUTE_MS, utc_day
from labkit.domain.day_history import DayHistory
from labkit.errors import ConfigError, LedgerError
from labkit.report.days import check_day, days_due, load_day, save_day

MIDNIGHT_MS = int(datetime(2027, 12, 31, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize("at_utc", ["00:00", "06:30", "23:59"])
def test_asked_every_hour_for_400_days_each_day_comes_once_and_in_order(at_utc: str) -> None:
    """The span holds 29 February 2028."""
    written: list[str] = []
    first = utc_day(MIDNIGHT_MS)
    for hour in range(400 * 24):
        last = written[-1] if written else None
        written += days_due(last, MIDNIGHT_MS + hour * HOUR_MS, at_utc, first_day=first)
    days = [(date.fromisoformat(first) + timedelta(days=n)).isoformat() for n in range(len(written))]
    assert written == days
    assert len(written) in (398, 399)
    assert "2028-02-29" in written


def test_a_day_is_due_at_the_set_time_of_the_day_after_and_not_a_moment_before() -> None:
    due_ms = MIDNIGHT_MS + DAY_MS + 6 * HOUR_MS + 30 * MINUTE_MS
    assert days_due("2027-12-30", due_ms - 1, "06:30") == []
    assert days_due("2027-12-30", due_ms, "06:30") == ["2027-12-31"]


def test_after_downtime_all_missed_days_are_due() -> None:
    assert days_due("2027-12-30", MIDNIGHT_MS + 4 * DAY_MS, "00:00") == [
        "2027-12-31",
        "2028-01-01",
        "2028-01-02",
        "2028-01-03",
    ]


def test_nothing_before_history_begins_is_due() -> None:
    assert days_due(None, MIDNIGHT_MS + HOUR_MS, "00:00", first_day="2027-12-31") == []


def test_without_any_report_only_the_latest_day_is_due() -> None:
    assert days_due(None, MIDNIGHT_MS + HOUR_MS, "00:00") == ["2027-12-30"]


@given(st.integers(0, 2_000 * DAY_MS), st.integers(0, 1439))
def test_what_was_written_is_not_due_again(elapsed_ms: int, minute: int) -> None:
    now_ms, at_utc = MIDNIGHT_MS + elapsed_ms, f"{minute // 60:02d}:{minute % 60:02d}"
    due = days_due("2027-12-01", now_ms, at_utc)
    assert days_due(due[-1], now_ms, at_utc) == []


@pytest.mark.parametrize("text", ["2026-1-5", "2026-02-30", "yesterday", "", "2026-01-05T00:00", "20260105"])
def test_only_a_date_is_a_day(text: str) -> None:
    with pytest.raises(ConfigError, match="YYYY-MM-DD"):
        check_day(text)


def test_a_saved_day_comes_back_to_the_last_digit(make_day: Callable[..., DayHistory], tmp_path: Path) -> None:
    day = make_day(trades=10)
    assert load_day(save_day(day, tmp_path / "a.day.json"), day.day) == day


def test_a_saved_day_is_not_mistaken_for_another(make_day: Callable[..., DayHistory], tmp_path: Path) -> None:
    saved = save_day(make_day(trades=0), tmp_path / "a.day.json")
    with pytest.raises(LedgerError, match="holds 2026-01-05"):
        load_day(saved, "2026-01-06")


def test_a_missing_saved_day_is_a_ledger_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot read"):
        load_day(tmp_path / "gone.day.json")
