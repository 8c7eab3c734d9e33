"""Candle intervals as the exchange names them, `1m` to `1M`: where a candle opens and where the next one does.

Pure functions over UTC milliseconds. Most intervals are multiples of a fixed length counted from 1970; a week opens on
Monday and a month on its first day.
"""

from __future__ import annotations

from datetime import UTC, datetime

from labkit.domain.clock import DAY_MS
from labkit.domain.market_events import INTERVAL_MS
from labkit.errors import ConfigError

WEEK_MS = 7 * DAY_MS
FIRST_MONDAY_MS = 4 * DAY_MS
"""1970-01-05."""
MONTH = "1M"
INTERVALS = (*INTERVAL_MS, "3d", "1w", MONTH)
"""Every interval the exchange has candles of."""

_FIXED = INTERVAL_MS | {"3d": 3 * DAY_MS}


def check_interval(interval: str) -> None:
    """Raise `ConfigError` unless the exchange has candles of `interval`."""
    if interval not in INTERVALS:
        raise ConfigError(f"interval {interval!r}: must be one of {', '.join(INTERVALS)}", field="interval")


def opens_at_or_before(interval: str, time_ms: int) -> int:
    """The open time of the candle that `time_ms` lies in."""
    check_interval(interval)
    if interval == MONTH:
        moment = datetime.fromtimestamp(time_ms // 1000, UTC)
        return _month_ms(moment.year * 12 + moment.month - 1)
    if interval == "1w":
        return (time_ms - FIRST_MONDAY_MS) // WEEK_MS * WEEK_MS + FIRST_MONDAY_MS
    length_ms = _FIXED[interval]
    return time_ms // length_ms * length_ms


def opens_after(interval: str, open_time_ms: int, steps: int = 1) -> int:
    """The open time `steps` candles after (or, if negative, before) the one that opens at `open_time_ms`."""
    check_interval(interval)
    if interval == MONTH:
        moment = datetime.fromtimestamp(open_time_ms // 1000, UTC)
        return _month_ms(moment.year * 12 + moment.month - 1 + steps)
    return open_time_ms + steps * (WEEK_MS if interval == "1w" else _FIXED[interval])


def opens_at_or_after(interval: str, time_ms: int) -> int:
    """The first open time that is not before `time_ms`."""
    before = opens_at_or_before(interval, time_ms)
    return before if before == time_ms else opens_after(interval, before)


def candles_between(interval: str, start_ms: int, end_ms: int) -> int:
    """How many candles open in [start_ms, end_ms); both must be open times."""
    if interval == MONTH:
        first, last = (datetime.fromtimestamp(time_ms // 1000, UTC) for time_ms in (start_ms, end_ms))
        return max(0, (last.year - first.year) * 12 + last.month - first.month)
    return max(0, (end_ms - start_ms) // (opens_after(interval, start_ms) - start_ms))


def _month_ms(months: int) -> int:
    """The first moment of the month counted from January of year 0."""
    return int(datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC).timestamp()) * 1000
