"""Days: which of them deserve a report, and how one is read.

UTC only: a day is `YYYY-MM-DD` and its report is due at a set time of the day after. Pure but for `load_day`, which
reads a ledger (or a day saved as JSON). Used by the report notebook, `DailyReporter` and whoever schedules it.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from labkit.domain.clock import HOUR_MS, MINUTE_MS, utc_day
from labkit.domain.day_history import DayHistory
from labkit.errors import ConfigError, LedgerError

SAVED_DAY = ".day.json"


def check_day(day: str) -> str:
    """`day` itself, if it is a date written `YYYY-MM-DD`.

    Raises:
        ConfigError: it is not.
    """
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", day):
            return date.fromisoformat(day).isoformat()
    except ValueError:
        pass
    raise ConfigError(f"day: {day!r} is not a UTC day written YYYY-MM-DD", field="day")


def days_due(last_written: str | None, now_ms: int, at_utc: str, *, first_day: str | None = None) -> list[str]:
    """The days whose report is due and not yet written, oldest first.

    The report of a day is due at `at_utc` of the day after. Writing them in order and passing the last one back makes
    every day due exactly once, however long nobody asked.

    Args:
        last_written: the latest day that has its report; None if there is none yet.
        now_ms: market time.
        at_utc: `HH:MM`.
        first_day: the day history begins with: nothing before it is due. Without it, and with no report written yet,
            only the latest day is due.
    """
    hours, minutes = at_utc.split(":")
    latest = date.fromisoformat(utc_day(now_ms - int(hours) * HOUR_MS - int(minutes) * MINUTE_MS)) - timedelta(days=1)
    if last_written is not None:
        first = date.fromisoformat(last_written) + timedelta(days=1)
    else:
        first = latest if first_day is None else date.fromisoformat(first_day)
    if first_day is not None:
        first = max(first, date.fromisoformat(first_day))
    return [(first + timedelta(days=n)).isoformat() for n in range((latest - first).days + 1)]


def load_day(ledger: str | Path, day: str = "") -> DayHistory:
    """One UTC day of a ledger (its file or folder); the latest one if `day` is empty.

    `ledger` may also be a day saved with `save_day`.

    Raises:
        ConfigError: `day` is not a date, or the ledger knows nothing of it.
        LedgerError: there is no such ledger, or it cannot be read.
    """
    path = Path(ledger).expanduser()
    if day:
        check_day(day)
    if path.name.endswith(SAVED_DAY):
        return _load_saved(path, day)
    # Only here: reading a ledger needs the whole engine.
    from labkit.engine.history import find_day, read_day

    return read_day(path, find_day(path, day))


def save_day(history: DayHistory, path: Path) -> Path:
    """Write a day as JSON, money to the last digit; the name must end in `.day.json`."""
    if not path.name.endswith(SAVED_DAY):
        raise ConfigError(f"a saved day must be called something{SAVED_DAY}, not {path.name}", field="path")
    path.write_bytes(msgspec.json.encode(history))
    return path


def _load_saved(path: Path, day: str) -> DayHistory:
    try:
        history = msgspec.json.decode(path.read_bytes(), type=DayHistory)
    except (OSError, msgspec.DecodeError) as error:
        raise LedgerError(f"cannot read the saved day {path}: {error}") from error
    if day and history.day != day:
        raise LedgerError(f"{path.name} holds {history.day}, not {day}")
    return history


def clock_text(time_ms: int, *, seconds: bool = False) -> str:
    """The UTC time of day: `HH:MM`, or `HH:MM:SS`."""
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime("%H:%M:%S" if seconds else "%H:%M")
