"""Which days a ledger knows, told without reading what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.domain.clock import DAY_MS
from labkit.engine.history import days_in, find_day
from labkit.engine.ledger import LEDGER_FILE
from labkit.errors import ConfigError, LedgerDamaged, LedgerError
from labkit.store.journal import Journal, Record

FIRST_DAY = 20_458  # 2026-01-05


def write(folder: Path, *days: float) -> None:
    """A ledger with one record on each of these days, counted from the first."""
    journal = Journal.open(folder / LEDGER_FILE)
    journal.append([Record(int((FIRST_DAY + day) * DAY_MS), "Noted", str(day), b"no event") for day in days])
    journal.close()


def test_days_begin_and_end_at_midnight_utc(tmp_path: Path) -> None:
    write(tmp_path, 0.0, 0.999_999, 1.0)
    assert days_in(tmp_path) == ["2026-01-05", "2026-01-06"]


def test_a_day_is_found_and_without_one_the_latest(tmp_path: Path) -> None:
    write(tmp_path, 0.5, 3.5)
    assert find_day(tmp_path, "2026-01-05") == "2026-01-05"
    assert find_day(tmp_path / LEDGER_FILE) == "2026-01-08"


@pytest.mark.parametrize(
    ("day", "said"), [("2026-01-09", "2026-01-08$"), ("2026-01-06", "2026-01-08, but not of that day$")]
)
def test_another_day_is_answered_with_those_there_are(tmp_path: Path, day: str, said: str) -> None:
    write(tmp_path, 0.5, 3.5)
    with pytest.raises(ConfigError, match=f"^day '{day}': .* tells of 2026-01-05 to {said}"):
        find_day(tmp_path, day)


def test_an_empty_ledger_has_no_day(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(LedgerError, match="is empty"):
        find_day(tmp_path)


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_text("a diary")
    with pytest.raises(LedgerDamaged, match=f"{LEDGER_FILE} is not a readable ledger"):
        days_in(tmp_path)
