"""Lake: all history on disk, as Parquet files that pyarrow, DuckDB, polars and pandas read alike.

One file per series and UTC month (aggregate trades: per day), below `KIND/symbol=…/interval=…/`. Times are
`timestamp[ms, UTC]`, numbers float64, which holds every price and quantity of up to 15 digits exactly; the unit of each
column stands in its field metadata. Every file is sorted, each key once. What cannot be read, or does not match the
checksum beside it (hidden, in the form `sha256sum -c` reads), is set aside and never passes for history. Writing is
atomic, one writer at a time; a reader sees the old file or the new one. Used by `DataService`, the importer and the
command line.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from labkit.domain.clock import DAY_MS
from labkit.domain.intervals import opens_after
from labkit.errors import ConfigError, DataFileError
from labkit.market.history_kinds import (
    KINDS,
    KLINES,
    LONGEST_FUNDING_MS,
    METRICS,
    METRICS_EVERY_MS,
    Column,
    Kind,
    Series,
)
from labkit.market.lake_rows import (
    SCHEMA_VERSION,
    VERSION_KEY,
    Gap,
    Merge,
    conform,
    merged_with,
    metadata_of,
    missing_candles,
    problems_of,
    schema_of,
    without_duplicates,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

LAKE_FOLDER = "lake"
"""Where it lies in the data folder."""
READERS = min(4, os.cpu_count() or 1)

_NOISE = frozenset(("quote_volume", "taker_buy_quote_volume"))
"""Digits that no packing makes a tenth smaller, but every reading slower."""


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """What the lake has of one series; times are those of its first and last row."""

    series: Series
    rows: int
    first_ms: int
    last_ms: int
    files: int
    size_bytes: int


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong with a file."""

    path: Path
    problem: str


class Lake:
    """The history below `folder`, which is made when something is first added.

    Raises (all methods):
        DataFileError: the lake was written by a newer labkit, or the disk refused.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.set_aside: list[Finding] = []
        """Files found damaged and moved out of the way (`*.damaged`), with the reason."""
        self._verified: dict[Path, tuple[int, int, int]] = {}

    def __repr__(self) -> str:
        return f"Lake({str(self.folder)!r})"

    def that_exists(self) -> Lake:
        """This lake, for somebody who only reads. Raises `ConfigError` where nothing has been kept yet."""
        if not self.folder.is_dir():
            raise ConfigError(f"{self.folder}: there is no lake yet; labkit data pull makes one", field="lake")
        return self

    def that_has(self, series: Series) -> Lake:
        """This lake, for somebody who wants `series`. Raises `ConfigError` where nothing of it has been kept yet."""
        self.that_exists()
        if not any(self._folder_of(series).glob("*.parquet")):
            wish = f" --kind {series.kind_name}" if series.kind is not KLINES else ""
            wish += f" --interval {series.interval}" if series.interval else ""
            raise ConfigError(
                f"{series}: nothing of that in {self.folder}; labkit data pull {series.symbol}{wish} --start DATE "
                "brings it, labkit data ls shows what is there",
                field="symbol",
            )
        return self

    # Reading

    def read(self, series: Series, start_ms: int, end_ms: int) -> pa.Table:
        """The rows with time in [start_ms, end_ms), in order, with their source, as an Arrow table."""
        import pyarrow as pa
        import pyarrow.compute as pc

        tables = [self._table(path) for path in self._files(series, start_ms, end_ms)]
        table = pa.concat_tables([schema_of(series.kind).empty_table(), *tables])
        times = table[series.kind.time].cast(pa.int64())
        return table.filter(pc.and_(pc.greater_equal(times, start_ms), pc.less(times, end_ms)))

    def frame(self, series: Series, start_ms: int, end_ms: int, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The same rows by UTC time: float64 columns (ids int64, flags bool), units in `.attrs["units"]`.

        What a source did not tell is NaN. `columns` chooses some; fewer are faster.
        """
        import pandas as pd

        chosen = _chosen(series.kind, columns)
        files = self._files(series, start_ms, end_ms)
        if any(column.kind == "flag" for column in series.kind.columns):
            frame = _exact_frame(self.read(series, start_ms, end_ms), series.kind, chosen)
        else:
            times, matrix = _read_numbers(files, series.kind, [column.name for column in chosen])
            low, high = times.searchsorted([start_ms, end_ms])
            index = pd.DatetimeIndex(times[low:high].view("M8[ms]"), name=series.kind.time).tz_localize("UTC")
            frame = pd.DataFrame(matrix[:, low:high].T, index=index, columns=[c.name for c in chosen], copy=False)
        frame.attrs |= {
            "kind": series.kind_name,
            "symbol": series.symbol,
            "interval": series.interval,
            "units": {column.name: column.unit for column in chosen},
        }
        return frame

    def times(self, series: Series, start_ms: int, end_ms: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The times in [start_ms, end_ms) of which every needed and optional candle column is known."""
        times, matrix = _read_numbers(
            self._files(series, start_ms, end_ms),
            series.kind,
            [column.name for column in series.kind.columns if not column.needed],
        )
        low, high = times.searchsorted([start_ms, end_ms])
        whole = (matrix[:, low:high] == matrix[:, low:high]).all(axis=0)
        found: np.ndarray[Any, np.dtype[np.int64]] = times[low:high][whole]
        return found

    def holdings(self) -> list[Holding]:
        """Every series in the lake, by kind, symbol and interval."""
        found = [
            self._holding(series)
            for kind in KINDS.values()
            for folder in sorted({path.parent for path in (self.folder / kind.name).rglob("*.parquet")})
            if (series := self._series_at(kind, folder)) is not None
        ]
        return [holding for holding in found if holding.rows]

    def gaps(self, series: Series) -> list[Gap]:
        """What is missing between the first row and the last one."""
        import numpy as np

        times, _ = _read_numbers(self._files(series, 0, 1 << 62), series.kind, [])
        if len(times) < 2:
            return []
        if series.kind.by_day:
            return self._id_gaps(series)
        if series.kind.has_interval:
            return missing_candles(series, times, int(times[0]), opens_after(series.interval, int(times[-1])))
        longest_ms = METRICS_EVERY_MS if series.kind is METRICS else LONGEST_FUNDING_MS
        wide = np.flatnonzero(np.diff(times) > longest_ms)
        return [Gap(series.symbol, "", int(times[at]) + longest_ms, int(times[at + 1])) for at in wide]

    def check(self, series: Series) -> list[Finding]:
        """Read every file of `series` whole; what is wrong with each. Damaged ones are set aside by reading them."""
        before = len(self.set_aside)
        self._verified.clear()
        findings = []
        for path in self._files(series, 0, 1 << 62):
            findings += [Finding(path, problem) for problem in problems_of(series, self._table(path))]
        return self.set_aside[before:] + findings

    # Writing

    def add(self, series: Series, rows: pa.Table, source: str) -> Merge:
        """Add rows (in any order, with the columns of the kind; missing ones are unknown) from one of `SOURCES`.

        Where a row is known already, the more trusted source wins, and the exchange's later word over its earlier
        one; an import never replaces anything. What one side does not know is taken from the other.

        Raises:
            DataFileError: a needed column is missing or holds a null.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        table = conform(series.kind, rows, source)
        table, merge = without_duplicates(series.kind, table)
        if not table.num_rows:
            return merge
        days = pc.divide(table[series.kind.time].cast(pa.int64()), DAY_MS)
        names = {day: _period(series.kind, day * DAY_MS) for day in pc.unique(days).to_pylist()}
        folder = self._folder_of(series)
        with self._writing():
            for name in sorted(set(names.values())):
                wanted = pa.array([day for day, of in names.items() if of == name], pa.int64())
                merge += self._add_to(folder / f"{name}.parquet", series.kind, table.filter(pc.is_in(days, wanted)))
        return merge

    def _add_to(self, path: Path, kind: Kind, rows: pa.Table) -> Merge:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._is_sound(path, writing=True):
            stored = self._table(path)
            merged, merge = merged_with(kind, stored, rows)
            if merged.equals(stored):
                return merge
        else:
            merged, merge = rows, Merge(added=rows.num_rows)
        sink = pa.BufferOutputStream()
        names = merged.column_names
        numbers = [column.name for column in kind.columns if column.kind == "number"]
        packed = [name for name in names if name not in _NOISE]
        pq.write_table(
            merged.replace_schema_metadata(metadata_of(kind)),
            sink,
            compression={name: "zstd" if name in packed else "none" for name in names},
            # Bytes of a kind beside each other, lightly packed: a tenth larger than level 3, a third faster to read.
            compression_level=dict.fromkeys(packed, -7),
            use_dictionary=["source"],
            column_encoding=dict.fromkeys(numbers, "BYTE_STREAM_SPLIT")
            | {column.name: "DELTA_BINARY_PACKED" for column in kind.columns if column.kind in ("time", "count")},
        )
        _write_with_checksum(path, sink.getvalue().to_pybytes())
        self._verified.pop(path, None)
        return merge

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone among all writers; ends with the process however that dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # Files

    def _folder_of(self, series: Series) -> Path:
        folder = self.folder / series.kind_name / f"symbol={series.symbol}"
        return folder / f"interval={_safe_interval(series.interval)}" if series.interval else folder

    def _series_at(self, kind: Kind, folder: Path) -> Series | None:
        labels = dict(part.split("=", 1) for part in folder.relative_to(self.folder).parts if "=" in part)
        interval = "1M" if labels.get("interval") == _safe_interval("1M") else labels.get("interval", "")
        try:
            return Series(kind.name, labels.get("symbol", ""), interval)
        except ConfigError:
            return None

    def _files(self, series: Series, start_ms: int, end_ms: int) -> list[Path]:
        """The sound files that may hold rows of [start_ms, end_ms), in order."""
        folder = self._folder_of(series)
        if end_ms <= start_ms or not folder.is_dir():
            return []
        first, last = _period(series.kind, start_ms), _period(series.kind, end_ms - 1)
        return [
            path for path in sorted(folder.glob("*.parquet")) if first <= path.stem <= last and self._is_sound(path)
        ]

    def _table(self, path: Path) -> pa.Table:
        import pyarrow.parquet as pq

        return pq.ParquetFile(path, memory_map=True).read()

    def _is_sound(self, path: Path, *, writing: bool = False) -> bool:
        """Whether the file is there and matches its checksum; read once per process for each version of the file."""
        try:
            status = path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if self._verified.get(path) != version:
                self._verify(path)
                self._verified[path] = version
        except FileNotFoundError:
            return False
        except _Damaged as damage:
            if not writing:
                # A writer may have replaced the file between our two looks: look again while there is none.
                with self._writing():
                    return self._is_sound(path, writing=True)
            os.replace(path, path.with_name(f"{path.name}.damaged"))
            _checksum_path(path).unlink(missing_ok=True)
            self.set_aside.append(Finding(path, str(damage)))
            return False
        return True

    def _verify(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        content = path.read_bytes()
        try:
            promised = {line.partition(" ")[0] for line in _checksum_path(path).read_text().splitlines()}
        except FileNotFoundError:
            promised = set()
        if hashlib.sha256(content).hexdigest() not in promised:
            raise _Damaged("content does not match its checksum")
        try:
            metadata = pq.read_schema(pa.BufferReader(content)).metadata or {}
        except pa.ArrowException as error:
            raise _Damaged(f"not a Parquet file: {error}") from error
        version = metadata.get(VERSION_KEY, b"none").decode()
        if version != str(SCHEMA_VERSION):
            raise DataFileError(
                f"{path}: lake schema {version}, this labkit reads {SCHEMA_VERSION}; use the labkit that wrote it",
                path=str(path),
            )

    def _holding(self, series: Series) -> Holding:
        files = self._files(series, 0, 1 << 62)
        times, _ = _read_numbers(files, series.kind, [])
        return Holding(
            series=series,
            rows=len(times),
            first_ms=int(times[0]) if len(times) else 0,
            last_ms=int(times[-1]) if len(times) else 0,
            files=len(files),
            size_bytes=sum(path.stat().st_size for path in files),
        )

    def _id_gaps(self, series: Series) -> list[Gap]:
        import numpy as np

        times, (ids,) = _read_numbers(self._files(series, 0, 1 << 62), series.kind, [series.kind.key])
        return [
            Gap(series.symbol, "", int(times[at]), int(times[at + 1]) + 1) for at in np.flatnonzero(np.diff(ids) != 1)
        ]


class _Damaged(Exception):
    """The file is not what was written."""


def _chosen(kind: Kind, names: Sequence[str] | None) -> list[Column]:
    """The columns a frame shows: all but the time, which is its index."""
    columns = {column.name: column for column in kind.columns if column.name != kind.time}
    if names is None:
        return list(columns.values())
    for name in names:
        if name not in columns:
            raise ConfigError(f"column {name!r}: {kind.name} have {', '.join(columns)}", field="columns")
    return [columns[name] for name in names]


def _read_numbers(
    files: Sequence[Path], kind: Kind, names: Sequence[str]
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.float64]]]:
    """All rows of `files`: times, and a float64 matrix with one row per name. Decoded by several threads."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    opened = [pq.ParquetFile(path, memory_map=True) for path in files]
    ends = np.cumsum([0, *(file.metadata.num_rows for file in opened)])
    times = np.empty(ends[-1], np.int64)
    matrix = np.empty((len(names), ends[-1]))

    def decode(number: int) -> None:
        table = opened[number].read(columns=[kind.time, *names], use_threads=False)
        span = slice(ends[number], ends[number + 1])
        times[span] = table[kind.time].cast(pa.int64()).to_numpy()
        for row, name in zip(matrix, names, strict=True):
            row[span] = table[name].to_numpy()

    with ThreadPoolExecutor(READERS) as readers:
        for _ in readers.map(decode, range(len(opened))):
            pass
    return times, matrix


def _exact_frame(table: pa.Table, kind: Kind, chosen: Sequence[Column]) -> pd.DataFrame:
    """A frame whose columns keep their own types; ids that are not known are -1."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    arrays = {
        column.name: (pc.fill_null(table[column.name], -1) if column.kind == "count" else table[column.name]).to_numpy()
        for column in chosen
    }
    times = table[kind.time].cast(pa.int64()).to_numpy()
    index = pd.DatetimeIndex(times.view("M8[ms]"), name=kind.time).tz_localize("UTC")
    return pd.DataFrame(arrays, index=index, columns=[column.name for column in chosen])


def _safe_interval(interval: str) -> str:
    # As in the exchange's archives: `1m` and `1M` are one folder on disks that do not tell them apart.
    return "1mo" if interval == "1M" else interval


def _period(kind: Kind, time_ms: int) -> str:
    """The name of the file that a row of `time_ms` lives in."""
    moment = datetime.fromtimestamp(min(time_ms // 1000, _LAST_SECOND), UTC)
    return moment.strftime("%Y-%m-%d" if kind.by_day else "%Y-%m")


_LAST_SECOND = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


def _checksum_path(path: Path) -> Path:
    # Hidden, because readers that take a folder whole leave hidden files out.
    return path.with_name(f".{path.name}.sha256")


def _write_with_checksum(path: Path, content: bytes) -> None:
    """Replace `path` so that, whatever the moment of a crash, what is there matches a checksum beside it."""
    line = f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
    checksum = _checksum_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = checksum.read_text() if checksum.exists() else ""
    if path.exists():
        _replace(checksum, (before + line).encode())
    else:
        _replace(checksum, line.encode())
    _replace(path, content)
    if before:
        _replace(checksum, line.encode())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
