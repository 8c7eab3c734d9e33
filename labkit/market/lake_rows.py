"""Rows of history as Arrow tables: brought into the lake's schema, merged with those of other sources, checked.

Of two sources that tell the same row the more trusted one wins, and nothing a source did not tell displaces what
another one did. Also where candles are missing. Plain functions of tables. Used by `Lake` and what fills it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from labkit.domain.intervals import WEEK_MS, opens_after, opens_at_or_before
from labkit.domain.moments import moment_text
from labkit.errors import DataFileError
from labkit.market.history_kinds import Kind, Series

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SCHEMA_VERSION = 1
VERSION_KEY = b"labkit.schema"
SOURCES = ("import", "archive", "rest")
"""Where a row may come from, the least trusted first: the exchange repairs in its API what its archives keep."""
SHOWN_DISAGREEMENTS = 20


class Gap(msgspec.Struct, frozen=True):
    """Rows with time in [start_ms, end_ms) that should exist and do not."""

    symbol: str
    interval: str
    start_ms: int
    end_ms: int

    def __str__(self) -> str:
        name = f"{self.symbol} {self.interval}".strip()
        return f"{name} missing: {moment_text(self.start_ms)} to {moment_text(self.end_ms)}"


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


def schema_of(kind: Kind) -> pa.Schema:
    """The Arrow schema of the files of `kind`, units in the metadata of the fields."""
    import pyarrow as pa

    types = {"time": pa.timestamp("ms", "UTC"), "number": pa.float64(), "count": pa.int64(), "flag": pa.bool_()}
    fields = [
        pa.field(column.name, types[column.kind], nullable=not column.needed, metadata={"unit": column.unit})
        for column in kind.columns
    ]
    return pa.schema([*fields, pa.field("source", pa.string(), nullable=False)], metadata=metadata_of(kind))


def metadata_of(kind: Kind) -> dict[bytes, bytes]:
    return {VERSION_KEY: str(SCHEMA_VERSION).encode(), b"labkit.kind": kind.name.encode()}


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


def without_duplicates(kind: Kind, table: pa.Table) -> tuple[pa.Table, Merge]:
    """Sorted by key, each key once; of several rows with one key the last stays."""
    import numpy as np

    keys = integers(table, kind.key)
    order = np.argsort(keys, kind="stable")
    if (np.diff(keys) > 0).all():
        return table, Merge()
    table, keys = table.take(order), keys[order]
    is_last = np.append(keys[1:] != keys[:-1], [True])
    kept = table.filter(is_last)
    if is_last.all():
        return kept, Merge()
    _, told = merged_with(kind, kept, table.filter(~is_last))
    return kept, Merge(duplicates=int((~is_last).sum()), disagreeing=told.disagreeing, disagreements=told.disagreements)


def merged_with(kind: Kind, stored: pa.Table, rows: pa.Table) -> tuple[pa.Table, Merge]:
    """Both tables as one (sorted, each key once), and what that changed. `rows` may repeat a key to be compared."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    old_keys, new_keys = integers(stored, kind.key), integers(rows, kind.key)
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
            time_ms = int(integers(old, kind.time)[at])
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


def integers(table: pa.Table, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """An integer or time column; nulls, which only a key that is not there leaves, as 0."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = pc.fill_null(table[name].cast(pa.int64()), 0)
    values: np.ndarray[Any, np.dtype[np.int64]] = column.to_numpy()
    return values


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


def problems_of(series: Series, table: pa.Table) -> list[str]:
    """What is wrong with the rows of one file; nothing, as long as only labkit wrote it."""
    import numpy as np

    kind = series.kind
    found = []
    if not (np.diff(integers(table, kind.key)) > 0).all():
        found.append(f"{kind.key} is not strictly rising")
    if kind.has_interval:
        times = integers(table, kind.time)
        if misplaced := int(off_grid(series.interval, times).sum()):
            found.append(f"{misplaced} candles do not open on the {series.interval} grid")
        open_, high, low, close = (table[name].to_numpy() for name in ("open", "high", "low", "close"))
        impossible = (low > np.minimum(open_, close)) | (high < np.maximum(open_, close)) | (low <= 0)
        if count := int(impossible.sum()):
            found.append(f"{count} impossible candles, the first at {_utc(int(times[impossible.argmax()]))}")
    return found


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
