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
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from labkit.domain.clock import DAY_MS, HOUR_MS, MINUTE_MS
from labkit.domain.intervals import WEEK_MS, check_interval, opens_after, opens_at_or_before
from labkit.errors import ConfigError, DataFileError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

SCHEMA_VERSION = 1
SOURCES = ("import", "archive", "rest")
"""Where a row may come from, the least trusted first: the exchange repairs in its API what its archives keep."""
SHOWN_DISAGREEMENTS = 20
LONGEST_FUNDING_MS = 8 * HOUR_MS
METRICS_EVERY_MS = 5 * MINUTE_MS
READERS = min(4, os.cpu_count() or 1)

_SAFE_SYMBOL = re.compile(r"\w{1,40}")
_VERSION_KEY = b"labkit.schema"


class Column(msgspec.Struct, frozen=True):
    """One column: `kind` is `time`, `number`, `count` or `flag`; only `needed` ones never hold a null."""

    name: str
    kind: str
    unit: str
    needed: bool = True


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of history. `key` tells rows apart and orders them; `time` says when they were."""

    name: str
    key: str
    time: str
    columns: tuple[Column, ...]
    has_interval: bool = False
    by_day: bool = False


def _prices() -> tuple[Column, ...]:
    return (
        Column("open_time", "time", "UTC ms"),
        *(Column(name, "number", "quote asset") for name in ("open", "high", "low", "close")),
    )


KLINES = Kind(
    name="klines",
    key="open_time",
    time="open_time",
    has_interval=True,
    columns=(
        *_prices(),
        Column("volume", "number", "base asset"),
        Column("quote_volume", "number", "quote asset", needed=False),
        Column("trade_count", "count", "trades", needed=False),
        Column("taker_buy_volume", "number", "base asset", needed=False),
        Column("taker_buy_quote_volume", "number", "quote asset", needed=False),
    ),
)
MARK_KLINES = Kind(name="mark_klines", key="open_time", time="open_time", has_interval=True, columns=_prices())
INDEX_KLINES = Kind(name="index_klines", key="open_time", time="open_time", has_interval=True, columns=_prices())
FUNDING = Kind(
    name="funding",
    key="funding_time",
    time="funding_time",
    columns=(
        # The exchange settles some milliseconds late; kept is the minute the settlement belongs to.
        Column("funding_time", "time", "UTC ms"),
        Column("funding_rate", "number", "fraction per interval"),
        Column("interval_hours", "number", "hours", needed=False),
        Column("mark_price", "number", "quote asset", needed=False),
    ),
)
AGG_TRADES = Kind(
    name="agg_trades",
    key="agg_trade_id",
    time="transact_time",
    by_day=True,
    columns=(
        Column("agg_trade_id", "count", "id"),
        Column("transact_time", "time", "UTC ms"),
        Column("price", "number", "quote asset"),
        Column("quantity", "number", "base asset"),
        Column("first_trade_id", "count", "id", needed=False),
        Column("last_trade_id", "count", "id", needed=False),
        Column("is_buyer_maker", "flag", "true if the taker sold"),
    ),
)
METRICS = Kind(
    name="metrics",
    key="known_time",
    time="known_time",
    columns=(
        # Not the exchange's label, which changed its meaning: the end of the five minutes the row tells about.
        Column("known_time", "time", "UTC ms"),
        Column("open_interest", "number", "base asset"),
        Column("open_interest_value", "number", "quote asset", needed=False),
        Column("top_trader_account_ratio", "number", "long / short", needed=False),
        Column("top_trader_position_ratio", "number", "long / short", needed=False),
        Column("account_ratio", "number", "long / short", needed=False),
        Column("taker_volume_ratio", "number", "buy / sell", needed=False),
    ),
)
KINDS = {kind.name: kind for kind in (KLINES, MARK_KLINES, INDEX_KLINES, FUNDING, AGG_TRADES, METRICS)}


class Series(msgspec.Struct, frozen=True, order=True):
    """One line of history: a kind, a symbol and, for candles, an interval.

    Raises:
        ConfigError: no such kind, a symbol no exchange could list, or an interval nobody knows.
    """

    kind_name: str
    symbol: str
    interval: str = ""

    def __post_init__(self) -> None:
        if self.kind_name not in KINDS:
            raise ConfigError(f"kind {self.kind_name!r}: must be one of {', '.join(KINDS)}", field="kind")
        if not _SAFE_SYMBOL.fullmatch(self.symbol) or self.symbol != self.symbol.upper():
            raise ConfigError(f"symbol {self.symbol!r}: must be upper case letters and digits", field="symbol")
        if self.kind.has_interval:
            check_interval(self.interval)
        elif self.interval:
            raise ConfigError(f"{self.kind_name} have no interval", field="interval")

    @property
    def kind(self) -> Kind:
        return KINDS[self.kind_name]

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind_name, self.symbol, self.interval) if part)


class Gap(msgspec.Struct, frozen=True):
    """Rows with time in [start_ms, end_ms) that should exist and do not."""

    symbol: str
    interval: str
    start_ms: int
    end_ms: int


class Disagreement(msgspec.Struct, frozen=True):
    """Two sources told the same row differently; `kept` is what the lake now says."""

    time_ms: int
    column: str
    kept: float
    refused: float


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    """What adding rows did. `disagreements` are the first of `disagreeing` rows."""

    added: int = 0
    replaced: int = 0
    duplicates: int = 0
    disagreeing: int = 0
    disagreements: tuple[Disagreement, ...] = ()

    def __add__(self, other: Merge) -> Merge:
        return Merge(
            added=self.added + other.added,
            replaced=self.replaced + other.replaced,
            duplicates=self.duplicates + other.duplicates,
            disagreeing=self.disagreeing + other.disagreeing,
            disagreements=(self.disagreements + other.disagreements)[:SHOWN_DISAGREEMENTS],
        )


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
            findings += [Finding(path, problem) for problem in _problems(series, self._table(path))]
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
        table, merge = _without_duplicates(series.kind, table)
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
            merged, merge = _merged(kind, stored, rows)
            if merged.equals(stored):
                return merge
        else:
            merged, merge = rows, Merge(added=rows.num_rows)
        sink = pa.BufferOutputStream()
        numbers = [column.name for column in kind.columns if column.kind == "number"]
        pq.write_table(
            merged.replace_schema_metadata(_metadata(kind)),
            sink,
            compression="zstd",
            # Bytes of a kind beside each other, lightly packed: a tenth larger than level 3, a third faster to read.
            compression_level=-7,
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
        version = metadata.get(_VERSION_KEY, b"none").decode()
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


# ------------------------------------------------------------------------------------------------------------ tables


def schema_of(kind: Kind) -> pa.Schema:
    """The Arrow schema of the files of `kind`, units in the metadata of the fields."""
    import pyarrow as pa

    types = {"time": pa.timestamp("ms", "UTC"), "number": pa.float64(), "count": pa.int64(), "flag": pa.bool_()}
    fields = [
        pa.field(column.name, types[column.kind], nullable=not column.needed, metadata={"unit": column.unit})
        for column in kind.columns
    ]
    return pa.schema([*fields, pa.field("source", pa.string(), nullable=False)], metadata=_metadata(kind))


def _metadata(kind: Kind) -> dict[bytes, bytes]:
    return {_VERSION_KEY: str(SCHEMA_VERSION).encode(), b"labkit.kind": kind.name.encode()}


def conform(kind: Kind, rows: pa.Table, source: str) -> pa.Table:
    """`rows` in the schema of `kind`. Raises `DataFileError` where they cannot be brought into it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    arrays: list[pa.ChunkedArray | pa.Array] = []
    schema = schema_of(kind)
    for column in kind.columns:
        wanted = schema.field(column.name).type
        if column.name not in rows.column_names:
            if column.needed:
                raise DataFileError(f"{kind.name}: the column {column.name} is missing")
            arrays.append(pa.nulls(rows.num_rows, wanted))
            continue
        array = rows[column.name]
        if column.kind == "time" and not pa.types.is_timestamp(array.type):
            array = array.cast(pa.int64())
        array = array.cast(wanted)
        if column.kind == "number":
            # A number that is none is unknown, not a value.
            array = pc.if_else(pc.is_finite(array), array, pa.scalar(None, wanted))
        if column.needed and array.null_count:
            raise DataFileError(f"{kind.name}: {array.null_count} rows do not tell {column.name}")
        arrays.append(array)
    assert source in SOURCES
    return pa.table([*arrays, pa.array([source] * rows.num_rows, pa.string())], schema=schema)


def _without_duplicates(kind: Kind, table: pa.Table) -> tuple[pa.Table, Merge]:
    """Sorted by key, each key once; of several rows with one key the last stays."""
    import numpy as np

    keys = _integers(table, kind.key)
    order = np.argsort(keys, kind="stable")
    if (np.diff(keys) > 0).all():
        return table, Merge()
    table, keys = table.take(order), keys[order]
    is_last = np.append(keys[1:] != keys[:-1], [True])
    kept = table.filter(is_last)
    if is_last.all():
        return kept, Merge()
    _, told = _merged(kind, kept, table.filter(~is_last))
    return kept, Merge(duplicates=int((~is_last).sum()), disagreeing=told.disagreeing, disagreements=told.disagreements)


def _merged(kind: Kind, stored: pa.Table, rows: pa.Table) -> tuple[pa.Table, Merge]:
    """Both tables as one (sorted, each key once), and what that changed. `rows` may repeat a key to be compared."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    old_keys, new_keys = _integers(stored, kind.key), _integers(rows, kind.key)
    keys = np.union1d(old_keys, new_keys)
    in_old, in_new = np.isin(keys, old_keys), np.isin(keys, new_keys)
    old = stored.take(pa.array(np.searchsorted(old_keys, keys), mask=~in_old))
    new = rows.take(pa.array(np.searchsorted(new_keys, keys), mask=~in_new))
    ranks = pa.array(SOURCES)
    new_rank, old_rank = pc.index_in(new["source"], ranks), pc.index_in(old["source"], ranks)
    trusted = pc.greater_equal(new_rank, pc.max_element_wise(old_rank, 1))
    use_new = pc.or_(pa.array(~in_old), pc.and_(pa.array(in_new), pc.fill_null(trusted, False)))
    arrays, differing = [], np.zeros(len(keys), bool)
    disagreements: list[Disagreement] = []
    for name in stored.column_names:
        before, after = old[name], new[name]
        arrays.append(pc.if_else(use_new, pc.coalesce(after, before), pc.coalesce(before, after)))
        if name == "source":
            continue
        unequal = pc.fill_null(pc.not_equal(before, after), False).to_numpy()
        for at in np.flatnonzero(unequal & ~differing)[:SHOWN_DISAGREEMENTS]:
            told = [_number(side[name][int(at)]) for side in (new, old)]
            kept, refused = told if use_new[int(at)].as_py() else told[::-1]
            time_ms = int(_integers(old, kind.time)[at])
            disagreements.append(Disagreement(time_ms, name, kept, refused))
        differing |= unequal
    merged = pa.table(arrays, schema=stored.schema)
    both = in_old & in_new
    replaced = int((both & use_new.to_numpy(zero_copy_only=False) & differing).sum())
    return merged, Merge(
        added=int((~in_old).sum()),
        replaced=replaced,
        disagreeing=int(differing.sum()),
        disagreements=tuple(disagreements[:SHOWN_DISAGREEMENTS]),
    )


def _number(scalar: Any) -> float:
    """The value of an Arrow scalar; a time as its milliseconds."""
    return float(scalar.value if hasattr(scalar, "value") else scalar.as_py())


def _integers(table: pa.Table, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """An integer or time column; nulls, which only a key that is not there leaves, as 0."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = pc.fill_null(table[name].cast(pa.int64()), 0)
    values: np.ndarray[Any, np.dtype[np.int64]] = column.to_numpy()
    return values


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


def missing_candles(
    series: Series, times: np.ndarray[Any, np.dtype[np.int64]], start_ms: int, end_ms: int
) -> list[Gap]:
    """The spans of [start_ms, end_ms), both open times, whose candles are not among the sorted `times`."""
    import numpy as np

    edges = np.concatenate(([opens_after(series.interval, start_ms, -1)], times, [end_ms]))
    if series.interval == "1M":
        steps = [opens_after(series.interval, int(edge)) for edge in edges[:-1]]
        expected = np.array(steps, np.int64)
    else:
        expected = edges[:-1] + (opens_after(series.interval, start_ms) - start_ms)
    return [
        Gap(series.symbol, series.interval, int(expected[at]), int(edges[at + 1]))
        for at in np.flatnonzero(edges[1:] > expected)
    ]


def off_grid(interval: str, times: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which of `times` are no open times of `interval`."""
    import numpy as np

    if interval == "1M":
        return np.array([opens_at_or_before(interval, int(time)) != time for time in times], bool)
    first_ms = opens_at_or_before(interval, WEEK_MS)
    misplaced: np.ndarray[Any, np.dtype[np.bool_]] = (times - first_ms) % (
        opens_after(interval, first_ms) - first_ms
    ) != 0
    return misplaced


def _problems(series: Series, table: pa.Table) -> list[str]:
    """What is wrong with the rows of one file; nothing, as long as only labkit wrote it."""
    import numpy as np

    kind = series.kind
    found = []
    if not (np.diff(_integers(table, kind.key)) > 0).all():
        found.append(f"{kind.key} is not strictly rising")
    if kind.has_interval:
        times = _integers(table, kind.time)
        if misplaced := int(off_grid(series.interval, times).sum()):
            found.append(f"{misplaced} candles do not open on the {series.interval} grid")
        open_, high, low, close = (table[name].to_numpy() for name in ("open", "high", "low", "close"))
        impossible = (low > np.minimum(open_, close)) | (high < np.maximum(open_, close)) | (low <= 0)
        if count := int(impossible.sum()):
            found.append(f"{count} impossible candles, the first at {_utc(int(times[impossible.argmax()]))}")
    return found


# ------------------------------------------------------------------------------------------------------------- files


def _safe_interval(interval: str) -> str:
    # As in the exchange's archives: `1m` and `1M` are one folder on disks that do not tell them apart.
    return "1mo" if interval == "1M" else interval


def _period(kind: Kind, time_ms: int) -> str:
    """The name of the file that a row of `time_ms` lives in."""
    moment = datetime.fromtimestamp(min(time_ms // 1000, _LAST_SECOND), UTC)
    return moment.strftime("%Y-%m-%d" if kind.by_day else "%Y-%m")


_LAST_SECOND = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


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
