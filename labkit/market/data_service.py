"""DataService: what the market was. From the lake on disk, filled from the exchange's API and its archives.

Times are market milliseconds (UTC), prices in quote asset, quantities in base asset. History only: a candle that is
still running is never handed out, for live prices ask `WebSocketMonitor`. The trader's warm-up, the research room,
notebooks and `labkit data` call it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.domain.clock import DAY_MS
from labkit.domain.intervals import candles_between, opens_after, opens_at_or_after, opens_at_or_before
from labkit.domain.market_events import Bar
from labkit.domain.moments import Moment, moment_ms
from labkit.edge.progress import progress_bar
from labkit.errors import ConfigError
from labkit.market.bulk_files import Archive
from labkit.market.history_kinds import KLINES, Series
from labkit.market.history_pull import Pull, PullReport
from labkit.market.history_rows import bars_of, table_of
from labkit.market.history_source import ENDPOINTS, HistorySource, Page, pages_of
from labkit.market.lake import Lake
from labkit.market.lake_rows import Gap, Merge, missing_candles

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

KEPT_ROWS = 45_000
"""So many rows are added to the lake at once; what a broken pull has fetched before is not fetched again."""


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
            ConfigError: there is no lake, nothing of this series in it, no such interval or column.
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

    def open_interest(self, symbol: str, start: Moment, end: Moment) -> pd.DataFrame:
        """Open interest every five minutes, in base and in quote asset, by the time at which each could be known.

        Not by the exchange's label, which since 2026-06-25 names the start of the five minutes a row tells about:
        joined on that, a row would tell five minutes of the future.
        """
        return self._rows("metrics", symbol, start, end, ("open_interest", "open_interest_value"))

    def _rows(
        self, kind_name: str, symbol: str, start: Moment, end: Moment, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        series = Series(kind_name, symbol)
        start_ms, end_ms = moment_ms(start, field="start"), moment_ms(end, field="end")
        return self._kept().that_has(series).frame(series, start_ms, end_ms, columns)

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
        frame = self._kept().that_has(series).frame(series, start_ms, end_ms, columns)
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
            ConfigError: an interval nobody knows, or neither a lake that has the series nor an exchange to ask.
            RemoteProtocolError: the exchange answered with candles that were not asked for.
            ExchangeError: the exchange refused; see `BinanceClient.klines`.
        """
        series = Series("klines", symbol, interval)
        first_ms, last_ms = self._closed_span(interval, start_ms, end_ms)
        known: dict[int, Bar] = {}
        if self._client is None:
            self._kept().that_has(series)
        if self._lake is not None:
            known = {bar.open_time_ms: bar for bar in bars_of(series, self._lake.read(series, first_ms, last_ms))}
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
        within_ms: int | None = None,
        progress: bool = True,
    ) -> PullReport:
        """Bring [start, end) of `series` into the lake: from the archive first, the rest from the exchange.

        What is there is not fetched again, so a pull that broke off goes on where it was; `again` fetches all of it,
        to find what the exchange has changed since.

        Args:
            now_ms: what tells a closed candle from a running one; the exchange's clock if None.
            within_ms: how long the exchange's rate limits may make asking it for candles take; any time if None.
            progress: show a bar, in a terminal or a notebook.

        Raises:
            ConfigError: there is no lake, or neither an archive nor an exchange to ask.
            WouldExceedLimit: it would take longer than `within_ms`; the exchange was not asked anything yet.
            ArchiveUnreachable: the archive gives no answer. Files that are damaged are left out and told.
            ExchangeError: the exchange refused; what came before is kept.
        """
        if archive is None and self._client is None:
            raise ConfigError("nobody to ask: give an exchange client or an archive")
        if now_ms is None:
            now_ms = self._asked().exchange_time_ms()
        start_ms, end_ms = moment_ms(start, field="start"), min(moment_ms(end, field="end"), now_ms)
        with progress_bar(str(series), "day", round((end_ms - start_ms) / DAY_MS, 2), shown=progress) as bar:

            def reached(done_ms: int, _: int) -> None:
                bar.update(round(done_ms / DAY_MS, 2) - bar.n)

            pull = Pull(self._kept(), series, start_ms, end_ms, reached)
            if archive is not None:
                await pull.from_archive(archive, now_ms, again=again)
            if self._client is not None:
                spans = [(start_ms, end_ms)] if again else pull.missing()
                if series.kind.has_interval:
                    spans = [self._closed_span(series.interval, from_ms, to_ms) for from_ms, to_ms in spans]
                self._forecast(series, spans, within_ms)
                for from_ms, to_ms in spans:
                    pull.merge += await self._keep(series, pages_of(self._client, series, from_ms, to_ms), pull.done)
            pull.finished()
        return pull.report()

    def forecast(self, series: Series, start: Moment, end: Moment, *, within_ms: int | None = None) -> str:
        """What asking the exchange for what the lake lacks of some candles would cost, in words; nothing is sent.

        Raises:
            ConfigError: there is no lake, or no exchange to ask.
            WouldExceedLimit: the rate limits would not let it be through `within_ms` from now.
        """
        start_ms, end_ms = moment_ms(start, field="start"), moment_ms(end, field="end")
        spans = Pull(self._kept(), series, start_ms, end_ms, _tell_nobody).missing()
        return self._forecast(series, spans, within_ms)

    def _forecast(self, series: Series, spans: Sequence[tuple[int, int]], within_ms: int | None) -> str:
        if not series.kind.has_interval or not spans:
            return ""
        # Told as one span of as many candles; a page more for every gap does not matter.
        count = sum(candles_between(series.interval, from_ms, to_ms) for from_ms, to_ms in spans)
        last_ms = spans[-1][1]
        return str(
            self._asked().forecast_candles(
                (series.symbol,),
                series.interval,
                opens_after(series.interval, last_ms, -count),
                last_ms,
                endpoint=ENDPOINTS[series.kind_name],
                within_ms=within_ms,
            )
        )

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

        async def noted() -> AsyncIterator[Page]:
            async for page in pages_of(self._asked(), series, start_ms, end_ms):
                bars.extend(page.rows)
                yield page

        await self._keep(series, noted(), _tell_nobody)
        return bars

    async def _keep(self, series: Series, pages: AsyncIterator[Page], reached: Callable[[int], None]) -> Merge:
        """Put what comes into the lake, many pages at once; whatever breaks that off, what came is kept."""
        merge, rows = Merge(), list[Any]()
        try:
            async for page in pages:
                rows += page.rows
                reached(page.reached_ms)
                if len(rows) >= KEPT_ROWS:
                    rows, full = [], rows
                    merge += self._add(series, full)
        finally:
            merge += self._add(series, rows)
        return merge

    def _add(self, series: Series, rows: list[Any]) -> Merge:
        return self._lake.add(series, table_of(series, rows), "rest") if rows and self._lake is not None else Merge()


def _tell_nobody(*_: int) -> None:
    """Nobody watches."""


def _missing(series: Series, times: Sequence[int], start_ms: int, end_ms: int) -> list[Gap]:
    import numpy as np

    if end_ms <= start_ms:
        return []
    known: np.ndarray[tuple[int], np.dtype[np.int64]] = np.array(times, np.int64)
    return missing_candles(series, known, start_ms, end_ms)
