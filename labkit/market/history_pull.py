"""One pull on its way into the lake: which archives and spans it still needs, and what it can tell in the end.

Used by `DataService.pull`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from labkit.domain.intervals import candles_between, opens_at_or_after, opens_at_or_before
from labkit.errors import ArchiveUnreachable, DataFileError
from labkit.market.bulk_files import (
    Archive,
    ArchiveFile,
    ArchiveLog,
    archives_for,
    days_of,
    fetch_archive,
    read_archive,
)
from labkit.market.history_kinds import Series
from labkit.market.lake import Lake
from labkit.market.lake_rows import Gap, Merge, missing_candles

Progress = Callable[[int, int], None]
"""Told how much of a pull is done, of how much: market milliseconds."""


class PullReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a pull brought. `gaps` are what nobody had; `refused` archives were damaged or did not match."""

    series: Series
    merge: Merge = Merge()
    gaps: tuple[Gap, ...] = ()
    archives_used: tuple[str, ...] = ()
    archives_missing: tuple[str, ...] = ()
    archives_changed: tuple[str, ...] = ()
    """Archives the exchange has replaced since they were used before."""
    refused: tuple[str, ...] = ()


class Pull:
    """One pull on its way."""

    def __init__(self, lake: Lake, series: Series, start_ms: int, end_ms: int, progress: Progress) -> None:
        self.lake = lake
        self.merge = Merge()
        self._series, self._start_ms, self._end_ms = series, start_ms, end_ms
        self._progress = progress
        self._log = ArchiveLog(lake.folder)
        self._used: list[ArchiveFile] = []
        self._missing: list[str] = []
        self._changed: list[str] = []
        self._refused: list[str] = []

    async def from_archive(self, archive: Archive, now_ms: int, *, again: bool) -> None:
        known = self._log.digests()
        waiting = archives_for(self._series, self._start_ms, self._end_ms, now_ms)
        while waiting:
            file = waiting.pop(0)
            if not again and (file.path in known or self._is_complete(file)):
                self._used.append(file)
                self.done(file.end_ms)
                continue
            try:
                fetched = await fetch_archive(archive, file)
                if fetched is None:
                    # A month that is not out yet, or has no file of its own, may be there day by day.
                    days = days_of(file) if file.is_monthly else []
                    waiting = days + waiting
                    if not days:
                        self._missing.append(file.path)
                    continue
                content, digest = fetched
                if known.get(file.path) != digest:
                    if file.path in known:
                        self._changed.append(file.path)
                    self.merge += self.lake.add(self._series, read_archive(content, file), "archive")
                    self._log.add(file.path, digest)
            except ArchiveUnreachable:
                raise
            except DataFileError as error:
                self._refused.append(str(error) if error.path else f"{file.path}: {error}")
                continue
            self._used.append(file)
            self.done(file.end_ms)

    def _is_complete(self, file: ArchiveFile) -> bool:
        """Whether the lake has every candle of the archive already."""
        if not self._series.kind.has_interval:
            return False
        interval = self._series.interval
        first_ms, last_ms = (opens_at_or_after(interval, moment) for moment in (file.start_ms, file.end_ms))
        times = self.lake.times(self._series, first_ms, last_ms)
        return len(times) == candles_between(interval, first_ms, last_ms)

    def missing(self) -> list[tuple[int, int]]:
        """The spans that still have to be asked for."""
        if self._series.kind.has_interval:
            return [(gap.start_ms, gap.end_ms) for gap in self._gaps()]
        spans, next_ms = [], self._start_ms
        for file in sorted(self._used, key=lambda file: file.start_ms):
            if file.start_ms > next_ms:
                spans.append((next_ms, file.start_ms))
            next_ms = max(next_ms, file.end_ms)
        return [*spans, (next_ms, self._end_ms)] if next_ms < self._end_ms else spans

    def _gaps(self) -> list[Gap]:
        series = self._series
        if not series.kind.has_interval:
            return [
                gap for gap in self.lake.gaps(series) if gap.end_ms > self._start_ms and gap.start_ms < self._end_ms
            ]
        first_ms = opens_at_or_after(series.interval, self._start_ms)
        # A candle that is still running is not missing.
        last_ms = opens_at_or_before(series.interval, self._end_ms)
        if last_ms <= first_ms:
            return []
        return missing_candles(series, self.lake.times(series, first_ms, last_ms), first_ms, last_ms)

    def done(self, reached_ms: int) -> None:
        whole_ms = max(0, self._end_ms - self._start_ms)
        self._progress(min(max(0, reached_ms - self._start_ms), whole_ms), whole_ms)

    def finished(self) -> None:
        self.done(self._end_ms)

    def report(self) -> PullReport:
        return PullReport(
            series=self._series,
            merge=self.merge,
            gaps=tuple(self._gaps()),
            archives_used=tuple(file.path for file in self._used),
            archives_missing=tuple(self._missing),
            archives_changed=tuple(self._changed),
            refused=tuple(self._refused),
        )
