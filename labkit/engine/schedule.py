"""Deadlines, not sleeps: when each loop runs next, and what happens when it could not.

Pure. A deadline is a multiple of the interval plus an offset, in market time, so loops never drift. Runs that could
not happen (a frozen machine, a suspended laptop) are coalesced into one and counted; a run that outlives its own
interval is counted as an overrun.
"""

from __future__ import annotations

from labkit.domain.events import Loop
from labkit.domain.snapshot import LoopRow


class Deadlines:
    """The deadlines of one loop.

    Args:
        interval_ms: distance of two deadlines.
        offset_ms: how long after each multiple of the interval a deadline lies.
    """

    def __init__(self, loop: Loop, interval_ms: int, *, offset_ms: int = 0) -> None:
        self._loop = loop
        self._interval_ms = interval_ms
        self._offset_ms = offset_ms
        self._next_ms: int | None = None
        self._last_ms: int | None = None
        self.runs = 0
        self.missed = 0
        self.overruns = 0

    def first(self, now_ms: int) -> int:
        """The first deadline at or after `now_ms`."""
        self._next_ms = -(-(now_ms - self._offset_ms) // self._interval_ms) * self._interval_ms + self._offset_ms
        return self._next_ms

    def finished(self, due_ms: int, now_ms: int) -> int:
        """A run due at `due_ms` is over; returns the next deadline. Deadlines already past are coalesced."""
        self.runs += 1
        self._last_ms = due_ms
        following = due_ms + self._interval_ms
        if now_ms > following:
            self.overruns += 1
            late = (now_ms - following) // self._interval_ms
            # The latest past deadline runs at once, standing for all before it.
            self.missed += late
            following += late * self._interval_ms
        self._next_ms = following
        return following

    def row(self) -> LoopRow:
        return LoopRow(
            name=self._loop.value,
            runs=self.runs,
            missed=self.missed,
            overruns=self.overruns,
            last_run_ms=self._last_ms,
            next_run_ms=self._next_ms,
        )
