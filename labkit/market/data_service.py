"""DataService: what the market was. From the lake on disk, filled from the exchange's API and its archives.

Times are market milliseconds (UTC), prices in quote asset, quantities in base asset. History only: a candle that is
still running is never handed out, for live prices ask `WebSocketMonitor`. The trader's warm-up, the research room,
notebooks and `labkit data` call it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from labkit.domain.clock import HOUR_MS, MINUTE_MS
from labkit.domain.intervals import candles_between, opens_after, opens_at_or_after, opens_at_or_before
from labkit.domain.market_events import Bar, Trade
from labkit.domain.moments import Moment, moment_ms
from labkit.errors import ArchiveUnreachable, ConfigError, DataFileError, RemoteProtocolError
from labkit.market.bulk_files import (
    Archive,
    ArchiveFile,
    ArchiveLog,
    archives_for,
    days_of,
    fetch_archive,
    read_archive,
)
from labkit.market.history_kinds import KLINES, Series
from labkit.market.lake import Lake
from labkit.market.lake_rows import Gap, Merge, missing_candles
from labkit.wire.rest import FundingRate

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

PAGE = 1_500
"""The most candles the exchange gives in one answer."""
FULL_PAGE = 1_000
"""The most funding rates or aggregate trades in one answer."""
PAGES_KEPT_BACK = 30
"""So many pages are added to the lake at once; what a broken pull has fetched before is not fetched again."""
AGG_TRADES_REACH_MS = 48 * HOUR_MS
"""How far back the exchange tells aggregate trades."""
AGG_TRADES_SPAN_MS = HOUR_MS - 1

_NUMBERS = ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")

Progress = Callable[[int, int], None]
"""Told how much of a pull is done, of how much: market milliseconds."""


class HistorySource(Protocol):
    """Who can be asked for history; `BinanceClient` is one. Spans include both ends; the oldest `limit` are told."""

    async def klines(
        self,
        symbol: str,
        interval: str,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 500,
    ) -> list[Bar]:
        """Candles by open time; the last may be still open."""
        ...

    async def mark_price_klines(
        self, symbol: str, interval: str, *, start_ms: int | None = None, end_ms: int | None = None, limit: int = 500
    ) -> list[Bar]:
        """The same of the mark price."""
        ...

    async def index_price_klines(
        self, symbol: str, interval: str, *, start_ms: int | None = None, end_ms: int | None = None, limit: int = 500
    ) -> list[Bar]:
        """The same of the index price."""
        ...

    async def funding_rate(
        self, symbol: str, *, start_ms: int | None = None, end_ms: int | None = None, limit: int = 100
    ) -> list[FundingRate]:
        """Settled funding rates."""
        ...

    async def agg_trades(
        self, symbol: str, *, start_ms: int | None = None, end_ms: int | None = None, limit: int = 500
    ) -> list[Trade]:
        """Aggregate trades of at most an hour."""
        ...

    def exchange_time_ms(self) -> int:
        """The exchange's clock: what tells a closed candle from one that is still running."""
        ...


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


class DataService:
    """History of any past.

    Args:
        binance_client: who is asked for what the lake does not have; only the lake is read if None.
        lake: where history is kept between runs (a folder will do); nothing is kept if None.
    """

    def __init__(self, binance_client: HistorySource | None = None, lake: Lake | Path | str | None = None) -> None:
        self._client = binance_client
        self._lake = Lake(Path(lake)) if isinstance(lake, str | Path) else lake
        self.gaps: dict[tuple[str, str], tuple[Gap, ...]] = {}
        """What was missing in the last answer of `bars` for each symbol and interval; no entry if nothing was."""

    # From the lake

    def klines(
        self, symbol: str, interval: str, start: Moment, end: Moment, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """The candles in the lake with open time in [start, end): float64 columns by UTC open time.

        Nothing is fetched (`frame` and `pull` do that). Units stand in `.attrs["units"]`, what is missing in
        `.attrs["gaps"]`; `columns` chooses some. `start` and `end` are UTC ms, dates or ISO text.

        Raises:
            ConfigError: there is no lake, no such interval or column.
        """
        return self._candles("klines", symbol, interval, start, end, columns)

    def mark_klines(self, symbol: str, interval: str, start: Moment, end: Moment) -> pd.DataFrame:
        """The same of the mark price; there is no volume."""
        return self._candles("mark_klines", symbol, interval, start, end)

    def index_klines(self, symbol: str, interval: str, start: Moment, end: Moment) -> pd.DataFrame:
        """The same of the index price; there is no volume."""
        return self._candles("index_klines", symbol, interval, start, end)

    def funding(self, symbol: str, start: Moment, end: Moment) -> pd.DataFrame:
        """Settled funding rates in the lake (fractions per interval) by the minute of their settlement."""
        return self._rows("funding", symbol, start, end)

    def agg_trades(self, symbol: str, start: Moment, end: Moment) -> pd.DataFrame:
        """Aggregate trades in the lake by UTC time; trade ids that the source did not tell are -1."""
        return self._rows("agg_trades", symbol, start, end)

    def metrics(self, symbol: str, start: Moment, end: Moment) -> pd.DataFrame:
        """Open interest and long/short ratios, by the time at which each could be known: safe to join on."""
        return self._rows("metrics", symbol, start, end)

    def _rows(self, kind_name: str, symbol: str, start: Moment, end: Moment) -> pd.DataFrame:
        series = Series(kind_name, symbol)
        return self._kept().that_exists().frame(series, moment_ms(start, field="start"), moment_ms(end, field="end"))

    def _candles(
        self,
        kind_name: str,
        symbol: str,
        interval: str,
        start: Moment,
        end: Moment,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        series = Series(kind_name, symbol, interval)
        start_ms, end_ms = moment_ms(start, field="start"), moment_ms(end, field="end")
        frame = self._kept().that_exists().frame(series, start_ms, end_ms, columns)
        first_ms, last_ms = (opens_at_or_after(interval, moment) for moment in (start_ms, end_ms))
        times = frame.index.as_unit("ms").asi8
        frame.attrs["gaps"] = tuple(missing_candles(series, times, first_ms, last_ms)) if last_ms > first_ms else ()
        return frame

    def _kept(self) -> Lake:
        if self._lake is None:
            raise ConfigError("this DataService keeps nothing: give it a lake, e.g. DataService(lake='data/lake')")
        return self._lake

    # From the lake and the exchange

    async def bars(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[Bar]:
        """The closed bars with open time in [start_ms, end_ms), in order, each once.

        Bars that do not exist are left out and listed in `gaps`.

        Raises:
            ConfigError: an interval nobody knows.
            RemoteProtocolError: the exchange answered with candles that were not asked for.
            ExchangeError: the exchange refused; see `BinanceClient.klines`.
        """
        series = Series("klines", symbol, interval)
        first_ms, last_ms = self._closed_span(interval, start_ms, end_ms)
        known: dict[int, Bar] = {}
        if self._lake is not None:
            known = {bar.open_time_ms: bar for bar in _bars(series, self._lake.read(series, first_ms, last_ms))}
        if self._client is not None:
            for gap in _missing(series, sorted(known), first_ms, last_ms):
                known |= {bar.open_time_ms: bar for bar in await self._fetch(series, gap.start_ms, gap.end_ms)}
        if gaps := tuple(_missing(series, sorted(known), first_ms, last_ms)):
            self.gaps[symbol, interval] = gaps
        else:
            self.gaps.pop((symbol, interval), None)
        return [known[open_time_ms] for open_time_ms in sorted(known)]

    async def last_bars(self, symbol: str, interval: str, count: int) -> list[Bar]:
        """The newest `count` closed bars, oldest first."""
        end_ms = opens_at_or_before(interval, self._asked().exchange_time_ms())
        return await self.bars(symbol, interval, opens_after(interval, end_ms, -count), end_ms)

    async def frame(self, symbol: str, interval: str, start: Moment, end: Moment) -> pd.DataFrame:
        """The same as `klines`, after what is missing has been fetched."""
        import pandas as pd

        start_ms, end_ms = moment_ms(start, field="start"), moment_ms(end, field="end")
        bars = await self.bars(symbol, interval, start_ms, end_ms)
        columns = [column for column in KLINES.columns if column.name != KLINES.time]
        index = (
            pd.to_datetime([bar.open_time_ms for bar in bars], unit="ms", utc=True).as_unit("ms").rename(KLINES.time)
        )
        values = {column.name: [float(getattr(bar, column.name)) for bar in bars] for column in columns}
        frame = pd.DataFrame(values, index=index, dtype="float64")
        frame.attrs |= {
            "kind": "klines",
            "symbol": symbol,
            "interval": interval,
            "units": {column.name: column.unit for column in columns},
            "gaps": self.gaps.get((symbol, interval), ()),
        }
        return frame

    async def pull(
        self,
        series: Series,
        start: Moment,
        end: Moment,
        *,
        archive: Archive | None = None,
        now_ms: int | None = None,
        again: bool = False,
        progress: Progress | None = None,
    ) -> PullReport:
        """Bring [start, end) of `series` into the lake: from the archive first, the rest from the exchange.

        What is there is not fetched again, so a pull that broke off goes on where it was; `again` fetches all of it,
        to find what the exchange has changed since.

        Args:
            now_ms: what tells a closed candle from a running one; the exchange's clock if None.

        Raises:
            ConfigError: there is no lake, or neither an archive nor an exchange to ask.
            ArchiveUnreachable: the archive gives no answer. Files that are damaged are left out and told.
            ExchangeError: the exchange refused; what came before is kept.
        """
        if archive is None and self._client is None:
            raise ConfigError("nobody to ask: give an exchange client or an archive")
        if now_ms is None:
            now_ms = self._asked().exchange_time_ms()
        start_ms, end_ms = moment_ms(start, field="start"), min(moment_ms(end, field="end"), now_ms)
        pull = _Pull(self._kept(), series, start_ms, end_ms, progress or _tell_nobody)
        if archive is not None:
            await pull.from_archive(archive, now_ms, again=again)
        if self._client is not None and series.kind_name != "metrics":
            for from_ms, to_ms in [(start_ms, end_ms)] if again else pull.missing():
                pull.merge += await self._fetch_rows(series, from_ms, to_ms, pull)
        pull.finished()
        return pull.report()

    def _asked(self) -> HistorySource:
        if self._client is None:
            raise ConfigError("nobody to ask: this DataService has no exchange client")
        return self._client

    def _closed_span(self, interval: str, start_ms: int, end_ms: int) -> tuple[int, int]:
        """The open times that [start_ms, end_ms) covers, up to the candle that is still running."""
        last_ms = opens_at_or_after(interval, end_ms)
        if self._client is not None:
            last_ms = min(last_ms, opens_at_or_before(interval, self._client.exchange_time_ms()))
        return opens_at_or_after(interval, start_ms), last_ms

    async def _fetch(self, series: Series, start_ms: int, end_ms: int) -> list[Bar]:
        """Closed candles with open time in [start_ms, end_ms), from the exchange; the lake keeps them too."""
        bars: list[Bar] = []

        async def keep(rows: list[Bar]) -> None:
            bars.extend(rows)
            if self._lake is not None:
                self._lake.add(series, table_of_bars(rows), "rest")

        await self._fetch_candles(series, start_ms, end_ms, keep)
        return bars

    async def _fetch_rows(self, series: Series, start_ms: int, end_ms: int, pull: _Pull) -> Merge:
        """Ask the exchange for [start_ms, end_ms) and put it into the lake as it comes, page by page."""
        merge = Merge()

        async def keep(rows: list[Bar]) -> None:
            nonlocal merge
            merge += pull.lake.add(series, table_of_bars(rows), "rest")
            pull.done(rows[-1].open_time_ms)

        if series.kind.has_interval:
            first_ms, last_ms = self._closed_span(series.interval, start_ms, end_ms)
            await self._fetch_candles(series, first_ms, last_ms, keep)
        elif series.kind_name == "funding":
            merge += await self._fetch_funding(series, start_ms, end_ms, pull)
        else:
            merge += await self._fetch_agg_trades(series, start_ms, end_ms, pull)
        return merge

    async def _fetch_candles(
        self, series: Series, start_ms: int, end_ms: int, keep: Callable[[list[Bar]], Awaitable[None]]
    ) -> None:
        """Closed candles with open time in [start_ms, end_ms), page by page, until there are no more."""
        client, interval = self._asked(), series.interval
        if series.kind_name == "klines":
            ask = client.klines
        else:
            ask = client.mark_price_klines if series.kind_name == "mark_klines" else client.index_price_klines
        bars: list[Bar] = []
        next_ms = start_ms
        try:
            while next_ms < end_ms:
                limit = min(PAGE, candles_between(interval, next_ms, end_ms))
                page = await ask(
                    series.symbol, interval, start_ms=next_ms, end_ms=opens_after(interval, end_ms, -1), limit=limit
                )
                for bar in page:
                    if (
                        (bar.symbol, bar.interval) != (series.symbol, interval)
                        or opens_at_or_before(interval, bar.open_time_ms) != bar.open_time_ms
                        or bar.close_time_ms != opens_after(interval, bar.open_time_ms) - 1
                    ):
                        raise RemoteProtocolError(
                            f"asked for {series}, got {bar.symbol} {bar.interval} {bar.open_time_ms}"
                        )
                # Page edges are inclusive and servers differ: take only what comes next, in order.
                new = {bar.open_time_ms: bar for bar in page if next_ms <= bar.open_time_ms < end_ms and bar.closed}
                if not new:
                    break
                bars += [new[open_time_ms] for open_time_ms in sorted(new)]
                next_ms = opens_after(interval, bars[-1].open_time_ms)
                if len(bars) >= PAGES_KEPT_BACK * PAGE:
                    await keep(bars)
                    bars = []
        finally:
            # Whatever broke the pull off, what was fetched is kept.
            if bars:
                await keep(bars)

    async def _fetch_funding(self, series: Series, start_ms: int, end_ms: int, pull: _Pull) -> Merge:
        merge, next_ms = Merge(), start_ms
        while next_ms < end_ms:
            page = await self._asked().funding_rate(series.symbol, start_ms=next_ms, end_ms=end_ms - 1, limit=FULL_PAGE)
            page = [rate for rate in page if next_ms <= rate.funding_time_ms < end_ms]
            if not page:
                break
            merge += pull.lake.add(series, table_of_rates(page), "rest")
            next_ms = max(rate.funding_time_ms for rate in page) + 1
            pull.done(next_ms)
        return merge

    async def _fetch_agg_trades(self, series: Series, start_ms: int, end_ms: int, pull: _Pull) -> Merge:
        client = self._asked()
        merge, pages = Merge(), list[Trade]()
        next_ms = max(start_ms, client.exchange_time_ms() - AGG_TRADES_REACH_MS)
        try:
            while next_ms < end_ms:
                last_ms = min(next_ms + AGG_TRADES_SPAN_MS, end_ms) - 1
                page = await client.agg_trades(series.symbol, start_ms=next_ms, end_ms=last_ms, limit=FULL_PAGE)
                pages += [trade for trade in page if next_ms <= trade.trade_time_ms <= last_ms]
                if len(page) < FULL_PAGE:
                    next_ms = last_ms + 1
                elif page[-1].trade_time_ms > next_ms:
                    # The last millisecond of a full page may go on in the next one; the lake keeps each id once.
                    next_ms = page[-1].trade_time_ms
                else:
                    raise RemoteProtocolError(f"{series}: more than {FULL_PAGE} trades in the millisecond {next_ms}")
                pull.done(next_ms)
                if len(pages) >= PAGES_KEPT_BACK * FULL_PAGE:
                    merge += pull.lake.add(series, table_of_trades(pages), "rest")
                    pages = []
        finally:
            if pages:
                merge += pull.lake.add(series, table_of_trades(pages), "rest")
        return merge


def _tell_nobody(_done_ms: int, _of_ms: int) -> None:
    """Nobody watches."""


class _Pull:
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


# --------------------------------------------------------------------------------------------------- rows and structs


def table_of_bars(bars: Sequence[Bar]) -> pa.Table:
    """Candles as rows for the lake, which takes the columns its kind has."""
    import pyarrow as pa

    columns: dict[str, object] = {"open_time": pa.array([bar.open_time_ms for bar in bars], pa.int64())}
    columns |= {name: pa.array([float(getattr(bar, name)) for bar in bars], pa.float64()) for name in _NUMBERS}
    columns["trade_count"] = pa.array([bar.trade_count for bar in bars], pa.int64())
    return pa.table(columns)


def table_of_rates(rates: Sequence[FundingRate]) -> pa.Table:
    """Settled funding rates as rows for the lake."""
    import pyarrow as pa

    return pa.table(
        {
            "funding_time": pa.array([rate.funding_time_ms // MINUTE_MS * MINUTE_MS for rate in rates], pa.int64()),
            "funding_rate": pa.array([float(rate.funding_rate) for rate in rates], pa.float64()),
            # The exchange did not keep every mark price; it tells those as 0.
            "mark_price": pa.array([float(rate.mark_price) or None for rate in rates], pa.float64()),
        }
    )


def table_of_trades(trades: Sequence[Trade]) -> pa.Table:
    """Aggregate trades as rows for the lake."""
    import pyarrow as pa

    return pa.table(
        {
            "agg_trade_id": pa.array([trade.trade_id for trade in trades], pa.int64()),
            "transact_time": pa.array([trade.trade_time_ms for trade in trades], pa.int64()),
            "price": pa.array([float(trade.price) for trade in trades], pa.float64()),
            "quantity": pa.array([float(trade.quantity) for trade in trades], pa.float64()),
            "is_buyer_maker": pa.array([trade.buyer_is_maker for trade in trades], pa.bool_()),
        }
    )


def _bars(series: Series, rows: pa.Table) -> list[Bar]:
    """The rows that tell everything as bars: every number as the shortest decimal it is, which is what was told."""
    import pyarrow as pa

    whole = rows.drop_null()
    times = whole["open_time"].cast(pa.int64()).to_pylist()
    numbers = {name: [Decimal(repr(value)) for value in whole[name].to_pylist()] for name in _NUMBERS}
    return [
        Bar(
            symbol=series.symbol,
            interval=series.interval,
            open_time_ms=open_time_ms,
            close_time_ms=opens_after(series.interval, open_time_ms) - 1,
            trade_count=trade_count,
            **dict(zip(_NUMBERS, values, strict=True)),
        )
        for open_time_ms, trade_count, *values in zip(
            times, whole["trade_count"].to_pylist(), *(numbers[name] for name in _NUMBERS), strict=True
        )
    ]


def _missing(series: Series, times: Sequence[int], start_ms: int, end_ms: int) -> list[Gap]:
    import numpy as np

    if end_ms <= start_ms:
        return []
    known: np.ndarray[tuple[int], np.dtype[np.int64]] = np.array(times, np.int64)
    return missing_candles(series, known, start_ms, end_ms)
