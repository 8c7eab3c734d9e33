"""Where candles open: on the grid the exchange uses, months and weeks included."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.domain.intervals import INTERVALS, candles_between, opens_after, opens_at_or_after, opens_at_or_before
from labkit.domain.moments import moment_ms, moment_text
from labkit.errors import ConfigError

moments = st.integers(0, moment_ms("2100-01-01"))


@given(time_ms=moments, interval=st.sampled_from(INTERVALS))
def test_every_moment_lies_in_exactly_one_candle(time_ms: int, interval: str) -> None:
    opens_ms = opens_at_or_before(interval, time_ms)
    assert opens_ms <= time_ms < opens_after(interval, opens_ms)
    assert opens_at_or_before(interval, opens_after(interval, opens_ms) - 1) == opens_ms
    assert opens_at_or_after(interval, opens_ms) == opens_ms
    assert opens_at_or_after(interval, opens_ms + 1) == opens_after(interval, opens_ms)


@given(time_ms=moments, interval=st.sampled_from(INTERVALS), steps=st.integers(0, 500))
def test_steps_are_counted_as_they_are_taken(time_ms: int, interval: str, steps: int) -> None:
    start_ms = opens_at_or_before(interval, time_ms)
    end_ms = opens_after(interval, start_ms, steps)
    assert candles_between(interval, start_ms, end_ms) == steps
    assert opens_after(interval, end_ms, -steps) == start_ms


def test_weeks_open_on_monday_and_months_on_their_first_day() -> None:
    assert opens_at_or_before("1w", moment_ms("2024-10-31T12:00")) == moment_ms("2024-10-28")
    assert opens_at_or_before("1M", moment_ms("2024-02-29")) == moment_ms("2024-02-01")
    assert opens_after("1M", moment_ms("2024-12-01")) == moment_ms("2025-01-01")


def test_an_unknown_interval_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="1M"):
        opens_at_or_before("7m", 0)


@pytest.mark.parametrize(
    "moment",
    [
        1_706_659_200_000,
        "2024-01-31",
        "2024-01-31T00:00Z",
        "2024-01-31T09:00+09:00",
        date(2024, 1, 31),
        datetime(2024, 1, 31, tzinfo=UTC),
        datetime(2024, 1, 31),  # noqa: DTZ001 - what people write
    ],
)
def test_a_moment_may_be_written_in_many_ways_and_is_utc(moment: object) -> None:
    assert moment_ms(moment) == 1_706_659_200_000  # type: ignore[arg-type]


def test_a_moment_for_people_tells_the_time_only_where_there_is_one() -> None:
    assert moment_text(1_706_659_200_000) == "2024-01-31"
    assert moment_text(1_706_659_260_000) == "2024-01-31 00:01"


def test_a_moment_that_is_none_is_refused_with_an_example() -> None:
    with pytest.raises(ConfigError, match="2024-01-31"):
        moment_ms("yesterday", field="start")
