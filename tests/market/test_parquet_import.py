"""Bringing in what people already have: told by columns and name, and nothing foreign slips in."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labkit.domain.clock import MINUTE_MS
from labkit.domain.moments import moment_ms
from labkit.errors import DataFileError
from labkit.market.history_kinds import Series
from labkit.market.lake import Lake
from labkit.market.parquet_import import import_parquet, parquet_files

START = moment_ms("2024-01-01")
NOW = START + 3 * MINUTE_MS + 30_000


def write(path: Path, **changes: object) -> Path:
    columns: dict[str, object] = {
        "open_time": [START + minute * MINUTE_MS for minute in range(4)],
        "open": [1.0] * 4, "high": [2.0] * 4, "low": [0.5] * 4, "close": [1.5] * 4, "volume": [9.0] * 4,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: values for name, values in (columns | changes).items() if values is not None}), path)
    return path


def test_candles_are_told_by_their_columns_and_name_and_the_running_one_stays_out(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    merges = import_parquet(lake, write(tmp_path / "BTCUSDT-1m-20240101.parquet"), now_ms=NOW)
    assert {str(series): merge.added for series, merge in merges.items()} == {"klines BTCUSDT 1m": 3}


def test_a_folder_called_mark_makes_them_candles_of_the_mark_price(tmp_path: Path) -> None:
    path = write(tmp_path / "mark" / "BTCUSDT-1m-x.parquet", volume=None)
    (series,) = import_parquet(Lake(tmp_path / "lake"), path, now_ms=NOW)
    assert series == Series("mark_klines", "BTCUSDT", "1m")


def test_a_symbol_column_makes_many_series_of_one_file(tmp_path: Path) -> None:
    path = write(tmp_path / "ALL-1m-x.parquet", symbol=["BTCUSDT", "ETHUSDT", "BTCUSDT", "ETHUSDT"])
    merges = import_parquet(Lake(tmp_path / "lake"), path, now_ms=NOW)
    assert {series.symbol: merge.added for series, merge in merges.items()} == {"BTCUSDT": 2, "ETHUSDT": 1}


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("spot/BTCUSDT-1m-x.parquet", {}, "spot"),
        ("BTCUSDT.parquet", {}, "which interval"),
        ("BTCUSDT-1m.parquet", {"open": None}, "neither candles nor funding"),
        ("BTCUSDT-5m.parquet", {}, "row 2: .* not on the 5m grid"),
        ("btcusdt-1m.parquet", {}, "upper case"),
    ],
)
def test_what_the_lake_does_not_keep_is_refused_by_name(
    name: str, changes: dict[str, object], reason: str, tmp_path: Path
) -> None:
    path = write(tmp_path / name, **changes)
    with pytest.raises(DataFileError, match=reason) as caught:
        import_parquet(Lake(tmp_path / "lake"), path, now_ms=NOW)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_parquet_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m.parquet"
    path.write_bytes(b"open_time,open\n1,2\n")
    with pytest.raises(DataFileError, match="cannot be read as Parquet") as caught:
        import_parquet(Lake(tmp_path / "lake"), path, now_ms=NOW)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [True, False])
def test_nothing_to_import_is_an_error(make: bool, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    if make:
        folder.mkdir()
    with pytest.raises(DataFileError, match=r"no Parquet file|no such file"):
        parquet_files(folder)


@pytest.mark.real_data
def test_recorded_years_come_in_whole_and_agree_with_each_other(real_data: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    now_ms = moment_ms("2026-01-01")
    for name in ("klines/um/BTCUSDT-1h-20190908-20250630.parquet", "mark/um/BTCUSDT-1h-20191223-20250630.parquet",
                 "funding/um/UNIVERSE26-20230704-20230803.parquet"):  # fmt: skip
        import_parquet(lake, real_data / name, now_ms=now_ms)
    hours, mark = Series("klines", "BTCUSDT", "1h"), Series("mark_klines", "BTCUSDT", "1h")
    rows = {holding.series: holding.rows for holding in lake.holdings()}
    assert rows[hours] == 50_935
    assert lake.gaps(hours) == []
    assert sum(series.kind_name == "funding" for series in rows) == 26
    # The same hours from other files of other people: prices agree to the last digit.
    again = import_parquet(lake, real_data / "klines12/um/BTCUSDT-1h-20230601-20230801.parquet", now_ms=now_ms)
    assert {told.column for told in again[hours].disagreements} <= {"volume"}
    assert again[hours].added == 0
    last, first = moment_ms("2025-06-30"), moment_ms("2025-06-01")
    spread = lake.frame(hours, first, last)["close"] / lake.frame(mark, first, last)["close"] - 1
    assert abs(spread).max() < 0.01
