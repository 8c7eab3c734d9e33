"""Bringing Parquet files of others into the lake: what people have collected before they had labkit.

A file says what it is by its columns (candles have `open` to `close`, funding a `funding_rate`) and by its name,
`SYMBOL-INTERVAL-…` or `SYMBOL-…`, or by a `symbol` column. A folder called `mark` or `index` above it makes candles
those of the mark or index price; files below a folder `spot` are another market and refused. Times are UTC ms or
timestamps. Used by `labkit data import`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labkit.domain.clock import MINUTE_MS
from labkit.domain.intervals import INTERVALS, opens_at_or_before
from labkit.errors import ConfigError, DataFileError
from labkit.market.history_kinds import Series
from labkit.market.lake import Lake
from labkit.market.lake_rows import Merge, off_grid

if TYPE_CHECKING:
    import pyarrow as pa

_RENAMED = {"count": "trade_count"}


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files meant by `path`, a file or a folder. Raises `DataFileError` if there are none."""
    if path.is_dir():
        if files := sorted(path.rglob("*.parquet")):
            return files
        raise DataFileError(f"{path}: no Parquet file in this folder", path=str(path))
    if not path.exists():
        raise DataFileError(f"{path}: no such file or folder", path=str(path))
    return [path]


def import_parquet(lake: Lake, path: Path, *, now_ms: int) -> dict[Series, Merge]:
    """Add every row of one file to the lake; candles that were still running at `now_ms` are left out.

    Raises:
        DataFileError: not Parquet, damaged, of another market, or of nothing the lake keeps; says which.
    """
    table = _read(path)
    series_of = _series_by_symbol(path, table)
    return {
        series: lake.add(series, _prepared(path, series, rows, now_ms), "import") for series, rows in series_of.items()
    }


def _read(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise DataFileError(
            f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}", path=str(path)
        ) from error
    return table.rename_columns([_RENAMED.get(name, name) for name in table.column_names])


def _series_by_symbol(path: Path, table: pa.Table) -> dict[Series, pa.Table]:
    import pyarrow.compute as pc

    folders = set(path.resolve().parts[:-1])
    if "spot" in folders:
        raise DataFileError(f"{path}: spot history; the lake keeps USDⓈ-M futures", path=str(path))
    names = set(table.column_names)
    words = path.stem.split("-")
    interval = next((word for word in words if word in INTERVALS), "")
    if {"open_time", "open", "high", "low", "close"} <= names:
        kind = "mark_klines" if "mark" in folders else "index_klines" if "index" in folders else "klines"
        if not interval:
            raise DataFileError(f"{path}: candles of which interval? name it SYMBOL-INTERVAL-….parquet", path=str(path))
    elif {"funding_time", "funding_rate"} <= names:
        kind, interval = "funding", ""
    else:
        raise DataFileError(
            f"{path}: neither candles nor funding rates: {', '.join(table.column_names)}", path=str(path)
        )
    try:
        if "symbol" not in names:
            return {Series(kind, words[0], interval): table}
        return {
            Series(kind, symbol, interval): table.filter(pc.equal(table["symbol"], symbol))
            for symbol in pc.unique(table["symbol"]).to_pylist()
        }
    except ConfigError as error:
        raise DataFileError(f"{path}: {error}", path=str(path)) from error


def _prepared(path: Path, series: Series, rows: pa.Table, now_ms: int) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    column = rows[series.kind.time]
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms", column.type.tz))
    times = np.array(column.cast(pa.int64()))
    if series.kind_name == "funding":
        times = times // MINUTE_MS * MINUTE_MS
    elif (misplaced := off_grid(series.interval, times)).any():
        at = int(misplaced.argmax())
        raise DataFileError(f"{path}, row {at + 1}: {times[at]} is not on the {series.interval} grid", path=str(path))
    rows = rows.set_column(rows.column_names.index(series.kind.time), series.kind.time, pa.array(times))
    if series.interval:
        return rows.filter(times < opens_at_or_before(series.interval, now_ms))
    return rows
