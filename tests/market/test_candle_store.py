"""Candles on disk: the same digits come back, and damage never passes for history."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.domain.market_events import Bar
from labkit.errors import ConfigError
from labkit.market.candle_store import CandleStore

MONTH_END_MS = 1_769_904_000_000
"""2026-02-01T00:00:00Z."""
MakeBar = Callable[..., Bar]


def minutes(bar_of: MakeBar, first_ms: int, count: int) -> list[Bar]:
    return [bar_of("BTCUSDT", first_ms + index * 60_000) for index in range(count)]


def test_what_comes_out_equals_what_went_in_to_the_last_digit(tmp_path: Path, bar_of: MakeBar) -> None:
    bar = bar_of("BTCUSDT", MONTH_END_MS, volume=Decimal("0.10000000"), quote_volume=Decimal("123456789012.12345678"))
    CandleStore(tmp_path).save([bar])
    (loaded,) = CandleStore(tmp_path).load("BTCUSDT", "1m", MONTH_END_MS, MONTH_END_MS + 60_000)
    assert loaded == bar
    assert str(loaded.volume) == "0.10000000"


def test_a_span_over_the_end_of_a_month_comes_back_in_order(tmp_path: Path, bar_of: MakeBar) -> None:
    bars = minutes(bar_of, MONTH_END_MS - 5 * 60_000, 10)
    store = CandleStore(tmp_path)
    store.save(reversed(bars))
    assert store.load("BTCUSDT", "1m", bars[0].open_time_ms, bars[-1].open_time_ms) == bars[:-1]
    assert sorted(path.name for path in (tmp_path / "BTCUSDT" / "1m").glob("*.parquet")) == [
        "2026-01.parquet",
        "2026-02.parquet",
    ]


def test_a_repaired_candle_replaces_the_old_one_and_the_others_stay(tmp_path: Path, bar_of: MakeBar) -> None:
    store = CandleStore(tmp_path)
    bars = minutes(bar_of, MONTH_END_MS, 3)
    store.save(bars)
    repaired = bar_of("BTCUSDT", bars[1].open_time_ms, close=Decimal("100.8"))
    store.save([repaired])
    assert store.load("BTCUSDT", "1m", MONTH_END_MS, MONTH_END_MS + 180_000) == [bars[0], repaired, bars[2]]


def test_an_open_bar_is_refused(tmp_path: Path, bar_of: MakeBar) -> None:
    with pytest.raises(ValueError, match="open bar"):
        CandleStore(tmp_path).save([bar_of("BTCUSDT", MONTH_END_MS, closed=False)])


def test_the_checksum_is_the_one_sha256sum_reads(tmp_path: Path, bar_of: MakeBar) -> None:
    CandleStore(tmp_path).save(minutes(bar_of, MONTH_END_MS, 2))
    (path,) = tmp_path.rglob("*.parquet")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.with_name("2026-02.parquet.sha256").read_text() == f"{digest}  2026-02.parquet\n"
    assert sorted(p.name for p in path.parent.iterdir()) == ["2026-02.parquet", "2026-02.parquet.sha256"]


@settings(max_examples=40, deadline=None)
@given(where=st.floats(0, 0.999), flip=st.booleans())
def test_a_truncated_or_altered_file_is_dropped_and_can_be_written_again(
    where: float, flip: bool, bar_of: MakeBar, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("candles")
    bars = minutes(bar_of, MONTH_END_MS, 5)
    CandleStore(folder).save(bars)
    (path,) = folder.rglob("*.parquet")
    content = bytearray(path.read_bytes())
    at = int(where * len(content))
    if flip:
        content[at] ^= 1
    path.write_bytes(bytes(content) if flip else bytes(content[:at]))
    store = CandleStore(folder)
    assert store.load("BTCUSDT", "1m", MONTH_END_MS, MONTH_END_MS + 300_000) == []
    assert len(store.dropped) == 1
    store.save(bars)
    assert store.load("BTCUSDT", "1m", MONTH_END_MS, MONTH_END_MS + 300_000) == bars


def test_a_crash_between_file_and_checksum_counts_as_damage(tmp_path: Path, bar_of: MakeBar) -> None:
    CandleStore(tmp_path).save(minutes(bar_of, MONTH_END_MS, 2))
    (checksum,) = tmp_path.rglob("*.sha256")
    checksum.unlink()
    assert CandleStore(tmp_path).load("BTCUSDT", "1m", MONTH_END_MS, MONTH_END_MS + 120_000) == []


@pytest.mark.parametrize("symbol", ["../../etc", "", "a/b"])
def test_a_symbol_cannot_lead_out_of_the_folder(tmp_path: Path, symbol: str) -> None:
    with pytest.raises(ConfigError):
        CandleStore(tmp_path).load(symbol, "1m", 0, 1)
