"""The exchange's bulk archives: one zipped CSV per symbol and day or month, with a checksum beside it (protocol §8).

An archive comes from a folder that mirrors the exchange's tree or from its address. What is read is proven first (the
checksum, the zip's own CRC) and brought into the columns of the lake: with or without a header line, times in
milliseconds or microseconds, booleans in either case, and the metrics label, which used to name the end of its five
minutes and since 2026-06-25 names their start, as the moment the row was known. Prices in quote asset, quantities in
base asset, times in UTC ms. Used by `DataService.pull`.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from labkit.domain.clock import DAY_MS, MINUTE_MS
from labkit.domain.intervals import opens_at_or_before
from labkit.domain.moments import moment_ms
from labkit.errors import ArchiveUnreachable, DataFileError
from labkit.market.history_kinds import METRICS_EVERY_MS, Series
from labkit.market.lake_rows import off_grid
from labkit.wire.transport import ConnectionLost, HttpRequest, HttpTransport, NotSent

if TYPE_CHECKING:
    import pyarrow as pa

PUBLIC_ARCHIVE = "https://data.binance.vision"
"""Where the exchange publishes its archives; needs no key."""
TREE = "data/futures/um"
MONTHS_SETTLE_MS = 10 * DAY_MS
"""Monthly archives appear some days into the next month."""
MICROSECONDS_ABOVE = 10**14
START_LABELS_SINCE_MS = moment_ms("2026-06-25")
NOT_FOUND, FINE = 404, 200

_FOLDERS = {
    "klines": "klines",
    "mark_klines": "markPriceKlines",
    "index_klines": "indexPriceKlines",
    "funding": "fundingRate",
    "agg_trades": "aggTrades",
    "metrics": "metrics",
}
_CANDLE = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
    "taker_buy_volume", "taker_buy_quote_volume", "ignore",
)  # fmt: skip
_COLUMNS = {
    "klines": _CANDLE,
    "mark_klines": _CANDLE,
    "index_klines": _CANDLE,
    "funding": ("calc_time", "funding_interval_hours", "last_funding_rate"),
    "agg_trades": (
        "agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id", "transact_time", "is_buyer_maker",
    ),
    "metrics": (
        "create_time", "symbol", "sum_open_interest", "sum_open_interest_value", "count_toptrader_long_short_ratio",
        "sum_toptrader_long_short_ratio", "count_long_short_ratio", "sum_taker_long_short_vol_ratio",
    ),
}  # fmt: skip
"""The columns of each data set in their order, for files that do not name them."""
_LAKE_NAMES = {
    "count": "trade_count",
    "calc_time": "funding_time",
    "funding_interval_hours": "interval_hours",
    "last_funding_rate": "funding_rate",
    "create_time": "known_time",
    "sum_open_interest": "open_interest",
    "sum_open_interest_value": "open_interest_value",
    "count_toptrader_long_short_ratio": "top_trader_account_ratio",
    "sum_toptrader_long_short_ratio": "top_trader_position_ratio",
    "count_long_short_ratio": "account_ratio",
    "sum_taker_long_short_vol_ratio": "taker_volume_ratio",
}
_WHOLE_NUMBERS = ("open_time", "close_time", "count", "calc_time", "agg_trade_id", "first_trade_id", "last_trade_id",
                  "transact_time")  # fmt: skip
_TEXTS = ("symbol", "create_time")


class Archive(Protocol):
    """Where archive files come from."""

    async def fetch(self, path: str) -> bytes | None:
        """The file at `path` (`data/futures/um/…`), None if there is none.

        Raises:
            ArchiveUnreachable: nobody answers.
            DataFileError: this file cannot be had.
        """
        ...

    async def close(self) -> None: ...


class ArchiveFolder:
    """A local folder with the exchange's tree below it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def fetch(self, path: str) -> bytes | None:
        try:
            return await asyncio.to_thread((self._folder / path).read_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataFileError(f"{self._folder / path}: cannot be read: {error.strerror}", path=path) from error

    async def close(self) -> None:
        """Nothing is held open."""


class ArchiveHttp:
    """The exchange's archive host, or a mirror of it, over any HTTP transport."""

    def __init__(self, http: HttpTransport) -> None:
        self._http = http

    async def fetch(self, path: str) -> bytes | None:
        try:
            answer = await self._http.send(HttpRequest(method="GET", path=f"/{path}"))
        except (NotSent, ConnectionLost) as error:
            raise ArchiveUnreachable(f"{path}: cannot be fetched: {error}", path=path) from error
        if answer.status == NOT_FOUND:
            return None
        if answer.status != FINE:
            raise DataFileError(f"{path}: the archive answered with HTTP {answer.status}", path=path)
        return answer.body

    async def close(self) -> None:
        await self._http.close()


class ArchiveFile(msgspec.Struct, frozen=True):
    """One archive that should exist: its path, and the span its rows lie in."""

    series: Series
    path: str
    start_ms: int
    end_ms: int

    @property
    def is_monthly(self) -> bool:
        return "/monthly/" in self.path


def archives_for(series: Series, start_ms: int, end_ms: int, now_ms: int) -> list[ArchiveFile]:
    """The archives that cover [start_ms, end_ms) as far as they can be out at `now_ms`, oldest first.

    Whole months where they are long over, single days otherwise. Aggregate trades always by day (a month of them does
    not fit into memory), metrics exist by day only, funding by month only.
    """
    files: list[ArchiveFile] = []
    next_ms = start_ms // DAY_MS * DAY_MS
    while next_ms < end_ms:
        month_ms = opens_at_or_before("1M", next_ms)
        month_end_ms = opens_at_or_before("1M", month_ms + 31 * DAY_MS)
        is_out = month_end_ms + MONTHS_SETTLE_MS <= now_ms
        if series.kind_name == "funding":
            if is_out:
                files.append(_file(series, "monthly", month_ms, month_end_ms))
            next_ms = month_end_ms
        elif series.kind.has_interval and is_out and next_ms == month_ms and month_end_ms <= end_ms:
            files.append(_file(series, "monthly", month_ms, month_end_ms))
            next_ms = month_end_ms
        else:
            if next_ms + DAY_MS <= now_ms:
                files.append(_file(series, "daily", next_ms, next_ms + DAY_MS))
            next_ms += DAY_MS
    return files


def days_of(month: ArchiveFile) -> list[ArchiveFile]:
    """The daily archives that hold the same as a monthly one; none for data that exists by month only."""
    if month.series.kind_name == "funding":
        return []
    return [
        _file(month.series, "daily", day_ms, day_ms + DAY_MS) for day_ms in range(month.start_ms, month.end_ms, DAY_MS)
    ]


def _file(series: Series, period: str, start_ms: int, end_ms: int) -> ArchiveFile:
    label = datetime.fromtimestamp(start_ms / 1000, UTC).strftime("%Y-%m-%d" if period == "daily" else "%Y-%m")
    folder = _FOLDERS[series.kind_name]
    interval = "1mo" if series.interval == "1M" else series.interval
    name = f"{series.symbol}-{interval or folder}-{label}.zip"
    parts = [TREE, period, folder, series.symbol, *([interval] if interval else []), name]
    return ArchiveFile(series, "/".join(parts), start_ms, end_ms)


async def fetch_archive(archive: Archive, file: ArchiveFile) -> tuple[bytes, str] | None:
    """The proven content of `file` and its sha256, or None if the archive does not have it.

    Raises:
        DataFileError: it cannot be had, has no checksum, or does not match it.
    """
    content = await archive.fetch(file.path)
    if content is None:
        return None
    checksum = await archive.fetch(f"{file.path}.CHECKSUM")
    if checksum is None:
        raise DataFileError(f"{file.path}: the exchange published no checksum for it", path=file.path)
    promised = re.match(rb"([0-9a-fA-F]{64})\s", checksum)
    if promised is None:
        raise DataFileError(f"{file.path}.CHECKSUM: not a checksum: {checksum[:40]!r}", path=file.path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != promised[1].decode().lower():
        raise DataFileError(f"{file.path}: does not match its checksum ({len(content)} bytes)", path=file.path)
    return content, digest


def read_archive(content: bytes, file: ArchiveFile) -> pa.Table:
    """The rows of one zipped CSV in the columns of the lake.

    Raises:
        DataFileError: not a zip, damaged, or not this kind of data; names the file and, where it can, the line.
    """
    return read_csv(_only_member(content, file.path), file)


def read_csv(text: bytes, file: ArchiveFile) -> pa.Table:
    """The same from the CSV itself."""
    import pyarrow as pa
    from pyarrow import csv

    kind_name = file.series.kind_name
    # Old files were never made again when headers came, so each file tells for itself.
    has_header = not text[:1].isdigit()
    names = text.partition(b"\n")[0].decode("utf-8", "replace").strip().split(",") if has_header else None
    needed = _COLUMNS[kind_name]
    if names is not None and not {_LAKE_NAMES.get(name, name) for name in names} & _lake_columns(file.series):
        raise DataFileError(f"{file.path}, line 1: not a file of {kind_name}: {text[:60]!r}", path=file.path)
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            # Only then does an error name its row.
            read_options=csv.ReadOptions(use_threads=False, column_names=None if has_header else needed),
            convert_options=csv.ConvertOptions(
                column_types={
                    name: pa.int64() if name in _WHOLE_NUMBERS else pa.string() if name in _TEXTS else pa.float64()
                    for name in needed
                    if name != "is_buyer_maker"
                }
                | {"is_buyer_maker": pa.bool_()},
                true_values=["true", "True", "TRUE"],
                false_values=["false", "False", "FALSE"],
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataFileError(f"{file.path}: {str(error).splitlines()[0]}", path=file.path) from error
    table = table.rename_columns([_LAKE_NAMES.get(name, name) for name in table.column_names])
    missing = [column.name for column in file.series.kind.columns if column.needed]
    missing = [name for name in missing if name not in table.column_names]
    if missing:
        raise DataFileError(f"{file.path}, line 1: no column for {', '.join(missing)}", path=file.path)
    return _with_sound_times(table, file)


def _lake_columns(series: Series) -> set[str]:
    return {column.name for column in series.kind.columns}


def _only_member(content: bytes, path: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.namelist()
            if len(members) != 1:
                raise DataFileError(f"{path}: holds {len(members)} files instead of one CSV", path=path)
            return archive.read(members[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
        # What the zip reader raises where the headers of an archive contradict each other.
        raise DataFileError(f"{path}: a truncated or damaged zip archive: {error}", path=path) from error


def _with_sound_times(table: pa.Table, file: ArchiveFile) -> pa.Table:
    """`table` with its time in milliseconds, every row proven to lie where the file says."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = file.series.kind
    column = table[kind.time]
    if kind.name == "metrics":
        try:
            column = pc.strptime(pc.utf8_slice_codeunits(column, 0, 19), "%Y-%m-%d %H:%M:%S", "ms")
        except pa.ArrowInvalid as error:
            raise DataFileError(f"{file.path}: {error}", path=file.path) from error
    times = np.array(column.cast(pa.int64()))
    times = np.where(times > MICROSECONDS_ABOVE, times // 1000, times)
    if kind.name == "funding":
        times = times // MINUTE_MS * MINUTE_MS
    outside = (times < file.start_ms) | (times >= file.end_ms)
    if kind.name == "metrics":
        # The last label of a day of the old kind is the midnight that ends it.
        outside &= times != file.end_ms
        if file.start_ms >= START_LABELS_SINCE_MS:
            times = times + METRICS_EVERY_MS
    if outside.any():
        at = int(outside.argmax())
        raise DataFileError(f"{file.path}, row {at + 1}: time {times[at]} does not belong here", path=file.path)
    if file.series.interval and (misplaced := off_grid(file.series.interval, times)).any():
        at = int(misplaced.argmax())
        raise DataFileError(
            f"{file.path}, row {at + 1}: {times[at]} is not on the {file.series.interval} grid", path=file.path
        )
    return table.set_column(table.column_names.index(kind.time), kind.time, pa.array(times))


class ArchiveLog:
    """Which archives went into a lake, with the sha256 they had then: the exchange replaces some silently.

    One line each as `sha256sum` writes them; the last line for a path counts.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".archives.sha256"

    def digests(self) -> dict[str, str]:
        """The sha256 of every archive used, by path."""
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return {}
        return dict(self._pairs(text))

    def add(self, path: str, digest: str) -> None:
        """Note that all rows of the archive at `path` are in the lake."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "ab") as file:
            file.write(f"{digest}  {path}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def _pairs(self, text: str) -> Iterator[tuple[str, str]]:
        for line in text.splitlines(keepends=True):
            digest, _, path = line.partition("  ")
            # A crash while writing may leave the last line torn; its archive is then simply read again.
            if len(digest) == 64 and line.endswith("\n"):
                yield path.rstrip("\n"), digest
