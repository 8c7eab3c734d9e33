"""Deadlines do not drift, missed runs coalesce, overruns are counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labkit.domain.events import Loop
from labkit.engine.schedule import Deadlines


def test_the_first_deadline_is_the_next_multiple_plus_the_offset() -> None:
    assert Deadlines(Loop.REAL, 60_000, offset_ms=2_000).first(60_001) == 62_000
    assert Deadlines(Loop.REAL, 60_000, offset_ms=2_000).first(62_001) == 122_000


def test_a_deadline_that_is_now_is_not_missed() -> None:
    assert Deadlines(Loop.MONITOR, 1_000).first(5_000) == 5_000


def test_a_run_that_took_its_time_does_not_shift_the_next_one() -> None:
    deadlines = Deadlines(Loop.MONITOR, 1_000)
    assert deadlines.finished(5_000, 5_900) == 6_000


def test_ten_missed_runs_become_one_and_nine_are_counted() -> None:
    deadlines = Deadlines(Loop.VIRTUAL, 10_000)
    assert deadlines.finished(10_000, 110_500) == 110_000
    assert deadlines.missed == 9
    assert deadlines.overruns == 1


@given(interval=st.integers(1, 100_000), offset=st.integers(0, 99_999), now=st.integers(0, 10**12))
def test_deadlines_stay_on_the_grid(interval: int, offset: int, now: int) -> None:
    deadlines = Deadlines(Loop.REAL, interval, offset_ms=offset)
    first = deadlines.first(now)
    assert now <= first < now + interval
    assert (first - offset) % interval == 0
    following = deadlines.finished(first, now + 7 * interval)
    assert (following - offset) % interval == 0
    assert first < following
