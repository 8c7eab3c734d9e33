"""History: in order, each candle once, whatever the page edges; what is missing is named."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.domain.market_events import Bar
from labkit.errors import ConfigError, RemoteProtocolError
from labkit.market.data_service import DataService
from labkit.market.lake import Lake
from labkit.market.lake_rows import Gap

MINUTE_MS = 60_000
START_MS = 1_767_571_200_000
MakeBar = Callable[..., Bar]


class Exchange:
    """Answers the way the real one does: by open time, both ends included, oldest first, the running candle too."""

    def __init__(self, bars: list[Bar], now_ms: int, *, most: int = 1_500) -> None:
        self.bars = {bar.open_time_ms: bar for bar in bars}
        self.now_ms = now_ms
        self.most = most
        self.requests = 0

    def exchange_time_ms(self) -> int:
        return self.now_ms

    async def klines(
        self,
        symbol: str,
        interval: str,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 500,
    ) -> list[Bar]:
        assert 1 <= limit <= 1_500
        self.requests += 1
        found = [
            bar
            for open_time_ms, bar in sorted(self.bars.items())
            if (start_ms is None or open_time_ms >= start_ms) and (end_ms is None or open_time_ms <= end_ms)
        ]
        return found[: min(limit, self.most)]


def minutes(bar_of: MakeBar, indices: list[int]) -> list[Bar]:
    return [bar_of("BTCUSDT", START_MS + index * MINUTE_MS) for index in indices]


async def test_a_long_span_is_fetched_page_by_page_without_hole_or_duplicate(bar_of: MakeBar) -> None:
    bars = minutes(bar_of, list(range(4_000)))
    exchange = Exchange(bars, START_MS + 5_000 * MINUTE_MS)
    service = DataService(exchange)
    assert await service.bars("BTCUSDT", "1m", START_MS, START_MS + 4_000 * MINUTE_MS) == bars
    assert exchange.requests == 3
    assert service.gaps == {}


@settings(max_examples=80, deadline=None)
@given(
    present=st.sets(st.integers(0, 60), max_size=60),
    start=st.integers(-3, 60),
    length=st.integers(0, 70),
    now=st.integers(0, 70),
    most=st.integers(1, 20),
    offsets=st.tuples(st.integers(0, 59_999), st.integers(0, 59_999)),
)
async def test_the_answer_is_exactly_the_closed_candles_that_exist_and_the_gaps_are_the_rest(
    present: set[int], start: int, length: int, now: int, most: int, offsets: tuple[int, int], bar_of: MakeBar
) -> None:
    bars = minutes(bar_of, sorted(present))
    now_ms = START_MS + now * MINUTE_MS + 1_234
    service = DataService(Exchange(bars, now_ms, most=most))
    start_ms = START_MS + start * MINUTE_MS + offsets[0]
    end_ms = start_ms + length * MINUTE_MS + offsets[1]
    wanted = [
        open_time_ms
        for open_time_ms in range(START_MS - 5 * MINUTE_MS, START_MS + 200 * MINUTE_MS, MINUTE_MS)
        if start_ms <= open_time_ms < end_ms and open_time_ms + MINUTE_MS <= now_ms
    ]
    answer = await service.bars("BTCUSDT", "1m", start_ms, end_ms)
    assert answer == [bar for bar in bars if bar.open_time_ms in wanted]
    missing = [
        open_time_ms
        for gap in service.gaps.get(("BTCUSDT", "1m"), ())
        for open_time_ms in range(gap.start_ms, gap.end_ms, MINUTE_MS)
    ]
    assert sorted([bar.open_time_ms for bar in answer] + missing) == wanted


async def test_the_running_candle_is_not_history(bar_of: MakeBar) -> None:
    bars = minutes(bar_of, [0, 1, 2])
    service = DataService(Exchange(bars, START_MS + 2 * MINUTE_MS + 59_999))
    assert await service.last_bars("BTCUSDT", "1m", 2) == bars[:2]


async def test_what_is_stored_is_not_asked_for_again(tmp_path: Path, bar_of: MakeBar) -> None:
    bars = minutes(bar_of, list(range(100)))
    exchange = Exchange(bars, START_MS + 200 * MINUTE_MS)
    await DataService(exchange, Lake(tmp_path)).bars("BTCUSDT", "1m", START_MS, START_MS + 50 * MINUTE_MS)
    again = DataService(exchange, Lake(tmp_path))
    assert await again.bars("BTCUSDT", "1m", START_MS, START_MS + 50 * MINUTE_MS) == bars[:50]
    assert exchange.requests == 1
    assert await again.bars("BTCUSDT", "1m", START_MS, START_MS + 100 * MINUTE_MS) == bars
    assert exchange.requests == 2


async def test_a_damaged_file_is_fetched_again(tmp_path: Path, bar_of: MakeBar) -> None:
    bars = minutes(bar_of, list(range(10)))
    exchange = Exchange(bars, START_MS + 200 * MINUTE_MS)
    await DataService(exchange, Lake(tmp_path)).bars("BTCUSDT", "1m", START_MS, START_MS + 10 * MINUTE_MS)
    path = tmp_path / "klines" / "symbol=BTCUSDT" / "interval=1m" / "2026-01.parquet"
    path.write_bytes(path.read_bytes()[:200])
    lake = Lake(tmp_path)
    assert await DataService(exchange, lake).bars("BTCUSDT", "1m", START_MS, START_MS + 10 * MINUTE_MS) == bars
    assert exchange.requests == 2
    assert len(lake.set_aside) == 1


async def test_a_gap_is_listed_until_the_exchange_fills_it(bar_of: MakeBar) -> None:
    bars = minutes(bar_of, [0, 1, 4, 5])
    exchange = Exchange(bars, START_MS + 100 * MINUTE_MS)
    service = DataService(exchange)
    await service.bars("BTCUSDT", "1m", START_MS, START_MS + 6 * MINUTE_MS)
    hole = Gap("BTCUSDT", "1m", START_MS + 2 * MINUTE_MS, START_MS + 4 * MINUTE_MS)
    assert service.gaps == {("BTCUSDT", "1m"): (hole,)}
    exchange.bars |= {bar.open_time_ms: bar for bar in minutes(bar_of, [2, 3])}
    await service.bars("BTCUSDT", "1m", START_MS, START_MS + 6 * MINUTE_MS)
    assert service.gaps == {}


async def test_candles_of_another_symbol_are_refused(bar_of: MakeBar) -> None:
    exchange = Exchange([bar_of("ETHUSDT", START_MS)], START_MS + 100 * MINUTE_MS)
    with pytest.raises(RemoteProtocolError, match="ETHUSDT"):
        await DataService(exchange).bars("BTCUSDT", "1m", START_MS, START_MS + MINUTE_MS)


async def test_a_frame_has_utc_open_times_floats_and_units(bar_of: MakeBar) -> None:
    bars = minutes(bar_of, [0, 1, 2])
    service = DataService(Exchange(bars, START_MS + 100 * MINUTE_MS))
    frame = await service.frame("BTCUSDT", "1m", START_MS, START_MS + 3 * MINUTE_MS)
    assert str(frame.index[0]) == "2026-01-05 00:00:00+00:00"
    assert set(frame.dtypes.astype(str)) == {"float64"}
    assert frame["close"].iloc[-1] == float(Decimal("100.7"))
    assert frame.attrs["units"]["volume"] == "base asset"


async def test_an_empty_frame_still_has_its_columns(bar_of: MakeBar) -> None:
    frame = await DataService(Exchange([], START_MS)).frame("BTCUSDT", "1m", START_MS, START_MS)
    assert list(frame.columns)[:4] == ["open", "high", "low", "close"]
    assert len(frame) == 0


async def test_an_unknown_interval_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="15m"):
        await DataService(Exchange([], START_MS)).bars("BTCUSDT", "2m", START_MS, START_MS + 1)
