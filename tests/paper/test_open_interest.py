"""Open interest at the paper exchange: a stand-in made of traded volume, in the exchange's shape and no earlier."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from labkit.domain.clock import DAY_MS, HOUR_MS, MINUTE_MS
from labkit.paper.market_simulated import SimulatedMarket

START_MS = 1_767_571_200_000
FIVE_MINUTES = 5 * MINUTE_MS


@pytest.fixture(scope="module")
def market() -> SimulatedMarket:
    return SimulatedMarket(
        ("BTCUSDT",), seed=3, start_ms=START_MS, history_days=3, planted_edge=0.0, quotes_per_second=1.0
    )


@pytest.fixture
def venue(market: SimulatedMarket, counter_of: Any) -> Any:
    return counter_of(market)


def history(venue: Any, at_ms: int = 0, **parameters: Any) -> Any:
    return venue.get("/futures/data/openInterestHist", at_ms, symbol="BTCUSDT", **parameters)


def test_a_row_is_half_of_what_the_candles_of_the_day_before_it_tell(venue: Any) -> None:
    (row,) = history(venue, period="1h", limit=1)
    end_ms = row["timestamp"] + HOUR_MS
    candles = venue.get(
        "/fapi/v1/klines", symbol="BTCUSDT", interval="1m", startTime=end_ms - DAY_MS, endTime=end_ms - 1, limit=1500
    )
    assert len(candles) == 1440
    volume = sum(Decimal(candle[5]) for candle in candles)
    assert Decimal(row["sumOpenInterest"]) == volume / 2 // Decimal("0.001") * Decimal("0.001")
    assert Decimal(row["sumOpenInterestValue"]) == Decimal(row["sumOpenInterest"]) * Decimal(candles[-1][4])
    assert venue.get("/fapi/v1/openInterest", symbol="BTCUSDT")["openInterest"] == row["sumOpenInterest"]


def test_a_period_is_told_when_it_is_over_and_not_before(venue: Any) -> None:
    start_ms = venue.at(0)
    before = history(venue, FIVE_MINUTES - 1, period="5m", limit=1)
    after = history(venue, FIVE_MINUTES, period="5m", limit=1)
    assert before[0]["timestamp"] == start_ms - FIVE_MINUTES
    assert after[0]["timestamp"] == start_ms


def test_pages_join_without_hole_or_disagreement(venue: Any) -> None:
    start_ms = venue.at(0) - DAY_MS
    whole = history(venue, period="5m", startTime=start_ms, limit=288)
    first = history(venue, period="5m", startTime=start_ms, limit=100)
    rest = history(venue, period="5m", startTime=first[-1]["timestamp"] + 1, limit=188)
    assert first + rest == whole
    assert [row["timestamp"] for row in whole] == list(range(start_ms, venue.at(0), FIVE_MINUTES))
    assert len({row["sumOpenInterest"] for row in whole}) > 200


def test_a_period_nobody_knows_is_refused(venue: Any) -> None:
    status, body = venue.ask("GET", "/futures/data/openInterestHist", symbol="BTCUSDT", period="1m")
    assert (status, body["code"]) == (400, -1130)


def test_what_is_older_than_thirty_days_is_not_told(venue: Any) -> None:
    rows = history(venue, period="1d", startTime=venue.at(0) - 60 * DAY_MS, limit=500)
    assert rows
    assert min(row["timestamp"] for row in rows) >= venue.at(0) - 30 * DAY_MS
