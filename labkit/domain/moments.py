"""A moment as a person writes it, as UTC milliseconds: used where people ask for a span of history."""

from __future__ import annotations

from datetime import UTC, date, datetime

from labkit.errors import ConfigError

Moment = int | str | date | datetime
"""UTC milliseconds, ISO text (`2024-01-31` or `2024-01-31T08:00Z`; UTC unless it says otherwise), or a date or time."""


def moment_ms(moment: Moment, *, field: str = "") -> int:
    """`moment` as UTC milliseconds. Raises `ConfigError` (for the setting `field`) if it is none."""
    if isinstance(moment, int):
        return moment
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError as error:
            raise ConfigError(
                f"{field or 'moment'} {moment!r}: write a UTC day or time, e.g. 2024-01-31 or 2024-01-31T08:00",
                field=field,
            ) from error
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001 - the zone is settled below
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def moment_text(time_ms: int) -> str:
    """`time_ms` for people: the day, and the time where it is not midnight."""
    text = datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    return text.removesuffix(" 00:00")
