"""What labkit means by a clock. Implementations live in `labkit.edge.clocks`; nothing in the core reads one.

All times are UTC milliseconds since 1970 *of the market*: an accelerated lab runs its market faster than life,
so one market minute may pass in two wall seconds.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Protocol

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


class Clock(Protocol):
    """Market time, and waiting for it."""

    @property
    def speed(self) -> float:
        """Market seconds per wall second; `inf` in virtual time."""
        ...

    def now_ms(self) -> int:
        """Market time in UTC milliseconds; never runs backwards."""
        ...

    def now_ns(self) -> int:
        """Market time in UTC nanoseconds, for latencies."""
        ...

    async def sleep_until(self, deadline_ms: int) -> None:
        """Return when market time has reached `deadline_ms` (at once if it has passed)."""
        ...


def utc_day(time_ms: int) -> str:
    """The UTC day that `time_ms` lies in, as `YYYY-MM-DD`."""
    return (date(1970, 1, 1) + timedelta(days=time_ms // DAY_MS)).isoformat()
