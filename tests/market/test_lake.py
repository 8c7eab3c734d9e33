"""The lake: the same numbers come back, any tool can read them, and damage never passes for history."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.domain.clock import HOUR_MS, MINUTE_MS
from labkit.domain.moments import moment_ms
from labkit.errors import ConfigError, DataFileError
from labkit.market.data_service import DataService
from labkit.market.history_kinds import Series
from labkit.market.lake import Lake
from labkit.market.lake_rows import Disagreement, Gap, conform

START_MS = moment_ms("2026-01-31T23:58")
MINUTES = Series("klines", "BTCUSDT", "1m")


def candles(indices: list[int], **changes: list[float | None]) -> pa.Table:
    count = len(indices)
    columns: dict[str, object] = {
        "open_time": pa.array([START_MS + index * MINUTE_MS for index in indices], pa.int64()),
        "open": [100.0] * count,
        "high": [101.5] * count,
        "low": [99.5] * count,
        "close": [100.7 + index for index in indices],
        "volume": [12.345] * count,
        "quote_volume": [1234.5] * count,
        "trade_count": [42] * count,
        "taker_buy_volume": [6.0] * count,
        "taker_buy_quote_volume": [600.1] * count,
    }
    return pa.table(columns | changes)


def closes(lake: Lake, series: Series = MINUTES) -> list[float]:
    closes: list[float] = lake.frame(series, 0, 1 << 50)["close"].tolist()
    return closes


def test_rows_come_back_in_order_from_the_files_of_their_months(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert lake.add(MINUTES, candles([3, 0, 2, 1]), "rest").added == 4
    frame = lake.frame(MINUTES, START_MS, START_MS + 3 * MINUTE_MS)
    assert frame["close"].tolist() == [100.7, 101.7, 102.7]
    assert str(frame.index[0]) == "2026-01-31 23:58:00+00:00"
    assert set(frame.dtypes.astype(str)) == {"float64"}
    assert frame.attrs["units"]["volume"] == "base asset"
    folder = tmp_path / "klines" / "symbol=BTCUSDT" / "interval=1m"
    assert sorted(path.name for path in folder.glob("*.parquet")) == ["2026-01.parquet", "2026-02.parquet"]


def test_chosen_columns_come_in_the_chosen_order(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add(MINUTES, candles([0]), "rest")
    assert list(lake.frame(MINUTES, 0, 1 << 50, ["volume", "close"]).columns) == ["volume", "close"]
    with pytest.raises(ConfigError, match="quote_volume"):
        lake.frame(MINUTES, 0, 1 << 50, ["vol"])


def test_an_empty_lake_gives_an_empty_frame_with_its_columns(tmp_path: Path) -> None:
    frame = Lake(tmp_path).frame(MINUTES, 0, 1 << 50)
    assert len(frame) == 0
    assert list(frame.columns)[:5] == ["open", "high", "low", "close", "volume"]
    assert not list(tmp_path.iterdir())


@settings(max_examples=25, deadline=None)
@given(
    batches=st.lists(
        st.tuples(
            st.lists(st.integers(0, 12), min_size=1, max_size=8),
            st.sampled_from(["archive", "rest"]),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_the_lake_holds_each_row_once_as_its_most_trusted_source_last_told_it(
    batches: list[tuple[list[int], str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    expected: dict[int, tuple[str, float]] = {}
    for indices, source, shift in batches:
        told = [100.0 + place + 10 * shift for place in range(len(indices))]
        lake.add(MINUTES, candles(indices, close=list(told)), source)
        # Within one batch the last word counts, before it is held against what is known.
        for index, close in dict(zip(indices, told, strict=True)).items():
            known = expected.get(index)
            if known is None or source == "rest" or known[0] == "archive":
                expected[index] = (source, close)
    table = lake.read(MINUTES, 0, 1 << 50)
    times = [START_MS + index * MINUTE_MS for index in sorted(expected)]
    assert table["open_time"].cast(pa.int64()).to_pylist() == times
    assert list(zip(table["source"].to_pylist(), table["close"].to_pylist(), strict=True)) == [
        expected[index] for index in sorted(expected)
    ]


def test_what_two_sources_tell_differently_is_told_and_the_exchange_s_api_is_believed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add(MINUTES, candles([0, 1]), "rest")
    merge = lake.add(MINUTES, candles([0, 1], volume=[12.345, 0.0]), "archive")
    assert (merge.added, merge.replaced, merge.disagreeing) == (0, 0, 1)
    assert merge.disagreements == (Disagreement(START_MS + MINUTE_MS, "volume", 12.345, 0.0),)
    assert lake.frame(MINUTES, 0, 1 << 50)["volume"].tolist() == [12.345, 12.345]


def test_the_api_replaces_what_the_archive_told(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add(MINUTES, candles([0], volume=[0.0]), "archive")
    merge = lake.add(MINUTES, candles([0]), "rest")
    assert (merge.replaced, merge.disagreeing) == (1, 1)
    assert lake.frame(MINUTES, 0, 1 << 50)["volume"].tolist() == [12.345]


def test_an_import_fills_what_is_unknown_and_replaces_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add(MINUTES, candles([0]).drop_columns(["quote_volume"]), "import")
    merge = lake.add(MINUTES, candles([0, 1], close=[1.0, 2.0]), "import")
    assert (merge.added, merge.replaced, merge.disagreeing) == (1, 0, 1)
    frame = lake.frame(MINUTES, 0, 1 << 50)
    assert frame["close"].tolist() == [100.7, 2.0]
    assert frame["quote_volume"].tolist() == [1234.5, 1234.5]


def test_unknown_numbers_are_nan_and_their_rows_are_not_whole(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add(MINUTES, candles([0]).drop_columns(["quote_volume", "trade_count"]), "import")
    lake.add(MINUTES, candles([1]), "rest")
    assert np.isnan(lake.frame(MINUTES, 0, 1 << 50)["quote_volume"].iloc[0])
    assert lake.times(MINUTES, 0, 1 << 50).tolist() == [START_MS + MINUTE_MS]


def test_adding_the_same_again_writes_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add(MINUTES, candles([0, 1]), "rest")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert lake.add(MINUTES, candles([1]), "rest").added == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (candles([0]).drop_columns(["close"]), "close is missing"),
        (candles([0], close=[None]), "do not tell close"),
        (candles([0], close=[float("nan")]), "do not tell close"),
    ],
)
def test_a_row_without_a_needed_number_is_refused(rows: pa.Table, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=reason):
        Lake(tmp_path).add(MINUTES, rows, "rest")


def test_aggregate_trades_live_in_daily_files_with_their_own_types_and_gaps_are_told_by_id(tmp_path: Path) -> None:
    lake, series = Lake(tmp_path), Series("agg_trades", "BTCUSDT")
    rows = pa.table(
        {
            "agg_trade_id": [7, 8, 10],
            "transact_time": [START_MS, START_MS, START_MS + 3 * MINUTE_MS],
            "price": [100.0, 100.1, 100.2],
            "quantity": [1.0, 2.0, 3.0],
            "is_buyer_maker": [True, False, True],
        }
    )
    lake.add(series, rows, "rest")
    frame = lake.frame(series, 0, 1 << 50)
    assert frame["agg_trade_id"].tolist() == [7, 8, 10]
    assert frame["is_buyer_maker"].tolist() == [True, False, True]
    assert frame["first_trade_id"].tolist() == [-1, -1, -1]
    assert lake.gaps(series) == [Gap("BTCUSDT", "", START_MS, START_MS + 3 * MINUTE_MS + 1)]
    assert sorted(path.name for path in tmp_path.rglob("*.parquet")) == ["2026-01-31.parquet", "2026-02-01.parquet"]


def test_gaps_are_the_candles_missing_between_first_and_last(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add(MINUTES, candles([0, 1, 4, 6]), "rest")
    assert lake.gaps(MINUTES) == [
        Gap("BTCUSDT", "1m", START_MS + 2 * MINUTE_MS, START_MS + 4 * MINUTE_MS),
        Gap("BTCUSDT", "1m", START_MS + 5 * MINUTE_MS, START_MS + 6 * MINUTE_MS),
    ]


def test_a_missing_month_is_a_gap_too(tmp_path: Path) -> None:
    lake, series = Lake(tmp_path), Series("mark_klines", "BTCUSDT", "1M")
    months = [moment_ms(day) for day in ("2025-11-01", "2025-12-01", "2026-02-01")]
    lake.add(series, candles([0, 1, 2]).set_column(0, "open_time", pa.array(months)), "rest")
    assert lake.gaps(series) == [Gap("BTCUSDT", "1M", moment_ms("2026-01-01"), moment_ms("2026-02-01"))]
    assert (tmp_path / "mark_klines" / "symbol=BTCUSDT" / "interval=1mo").is_dir()
    assert lake.holdings()[0].series == series


def test_a_settlement_missed_is_a_gap_in_funding(tmp_path: Path) -> None:
    lake, series = Lake(tmp_path), Series("funding", "BTCUSDT")
    times = [moment_ms("2026-01-01") + hours * HOUR_MS for hours in (0, 8, 24)]
    lake.add(series, pa.table({"funding_time": times, "funding_rate": [0.0001] * 3}), "rest")
    assert [gap.start_ms for gap in lake.gaps(series)] == [times[1] + 8 * HOUR_MS]


def test_holdings_tell_what_there_is(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add(MINUTES, candles([0, 5]), "rest")
    (holding,) = lake.holdings()
    assert (holding.series, holding.rows, holding.files) == (MINUTES, 2, 2)
    assert (holding.first_ms, holding.last_ms) == (START_MS, START_MS + 5 * MINUTE_MS)


def test_other_programs_read_the_folder_as_one_partitioned_data_set(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add(MINUTES, candles([0, 1, 2]), "rest")
    lake.add(Series("klines", "ETHUSDT", "1m"), candles([0]), "rest")
    table = ds.dataset(tmp_path / "klines", format="parquet", partitioning="hive").to_table()
    assert sorted(table["symbol"].to_pylist()) == ["BTCUSDT"] * 3 + ["ETHUSDT"]
    assert set(table["interval"].to_pylist()) == {"1m"}
    assert table.schema.field("close").type == pa.float64()
    assert table.schema.field("open_time").type == pa.timestamp("ms", "UTC")


def test_the_checksum_is_the_one_sha256sum_reads(tmp_path: Path) -> None:
    Lake(tmp_path).add(MINUTES, candles([0]), "rest")
    (path,) = tmp_path.rglob("*.parquet")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.with_name(".2026-01.parquet.sha256").read_text() == f"{digest}  2026-01.parquet\n"
    assert sorted(p.name for p in path.parent.iterdir()) == [".2026-01.parquet.sha256", "2026-01.parquet"]


@settings(max_examples=40, deadline=None)
@given(where=st.floats(0, 0.999), flip=st.booleans())
def test_a_truncated_or_altered_file_is_set_aside_and_can_be_written_again(
    where: float, flip: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("lake")
    Lake(folder).add(MINUTES, candles([0, 1]), "rest")
    (path,) = folder.rglob("*.parquet")
    content = bytearray(path.read_bytes())
    at = int(where * len(content))
    if flip:
        content[at] ^= 1
    path.write_bytes(bytes(content) if flip else bytes(content[:at]))
    lake = Lake(folder)
    assert closes(lake) == []
    (finding,) = lake.set_aside
    assert finding.path == path
    assert path.with_name("2026-01.parquet.damaged").exists()
    lake.add(MINUTES, candles([0, 1]), "rest")
    assert closes(lake) == [100.7, 101.7]


def test_damage_that_comes_while_the_lake_is_open_is_noticed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add(MINUTES, candles([0, 1]), "rest")
    assert len(closes(lake)) == 2
    (path,) = tmp_path.rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    assert closes(lake) == []


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_crash_at_any_step_of_a_write_leaves_the_old_rows_or_the_new(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Lake(tmp_path).add(MINUTES, candles([0]), "rest")
    steps = 0
    replace = os.replace

    class Crash(BaseException):
        pass

    def crashing(*paths: Path) -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            raise Crash
        replace(*paths)

    monkeypatch.setattr(os, "replace", crashing)
    with pytest.raises(Crash):
        Lake(tmp_path).add(MINUTES, candles([1]), "rest")
    monkeypatch.undo()
    after = Lake(tmp_path)
    assert closes(after) in ([100.7], [100.7, 101.7])
    assert after.set_aside == []
    after.add(MINUTES, candles([1]), "rest")
    assert closes(Lake(tmp_path)) == [100.7, 101.7]


def test_a_lake_of_a_newer_labkit_is_refused_and_left_alone(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add(MINUTES, candles([0]), "rest")
    (path,) = tmp_path.rglob("*.parquet")
    table = pq.ParquetFile(path).read()
    pq.write_table(table.replace_schema_metadata({b"labkit.schema": b"9"}), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f".{path.name}.sha256").write_text(f"{digest}  {path.name}\n")
    with pytest.raises(DataFileError, match="schema 9"):
        Lake(tmp_path).frame(MINUTES, 0, 1 << 50)
    assert path.exists()


def test_impossible_candles_are_found_by_a_check(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.add(MINUTES, candles([0, 1], high=[101.5, 99.0]), "import")
    assert [finding.problem for finding in lake.check(MINUTES)] == [
        "1 impossible candles, the first at 2026-01-31 23:59 UTC"
    ]


@pytest.mark.parametrize(
    ("kind", "symbol", "interval"),
    [
        ("klines", "../../etc", "1m"), ("klines", "", "1m"), ("klines", "a/b", "1m"), ("klines", "btcusdt", "1m"),
        ("klines", "BTCUSDT", "2m"), ("klines", "BTCUSDT", ""), ("funding", "BTCUSDT", "1m"), ("candles", "BTC", ""),
    ],
)  # fmt: skip
def test_a_series_that_cannot_exist_is_refused(kind: str, symbol: str, interval: str) -> None:
    with pytest.raises(ConfigError):
        Series(kind, symbol, interval)


def test_every_price_of_up_to_fifteen_digits_survives_as_it_was_told() -> None:
    told = [0.00001234, 98_765.43210, 999_999_999_999.9991]
    table = conform(MINUTES.kind, candles([0, 1, 2], close=list(told)), "rest")
    assert table["close"].to_pylist() == told


def test_reading_a_lake_that_is_not_there_says_how_to_have_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="labkit data pull makes one"):
        DataService(lake=tmp_path / "nowhere").klines("BTCUSDT", "1m", "2024-01-01", "2024-01-02")
