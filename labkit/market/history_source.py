"""Asking an exchange for history, page by page: who can be asked, and how each kind is paged to its end.

Each generator yields what is new, in order and each row once, whatever the server does at the edges of a page; a
candle that is still running is never among it. Times are market milliseconds (UTC). Used by `DataService`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import msgspec

from labkit.domain.clock import DAY_MS, HOUR_MS
from labkit.domain.intervals import candles_between, opens_after, opens_at_or_before
from labkit.domain.market_events import Bar, Trade
from labkit.errors import RemoteProtocolError
from labkit.market.history_kinds import METRICS_EVERY_MS, Series
from labkit.wire.rest_market import FundingRate, OpenInterestStatistic

PAGE = 1_500
"""The most candles the exchange gives in one answer."""
FULL_PAGE = 1_000
"""The most funding rates or aggregate trades in one answer."""
STATISTICS_PAGE = 500
"""The most rows of open interest in one answer."""
AGG_TRADES_REACH_MS = 48 * HOUR_MS
"""How far back the exchange tells aggregate trades."""
AGG_TRADES_SPAN_MS = HOUR_MS - 1
STATISTICS_REACH_MS = 30 * DAY_MS
"""How far back the exchange tells open interest."""
STATISTICS_PERIOD = "5m"

ENDPOINTS = {
    "klines": "klines",
    "mark_klines": "mark_price_klines",
    "index_klines": "index_price_klines",
}
"""The exchange's endpoint, and the method of `HistorySource`, for each kind of candle."""


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

    async def open_interest_history(
        self, symbol: str, period: str, *, start_ms: int | None = None, end_ms: int | None = None, limit: int = 30
    ) -> list[OpenInterestStatistic]:
        """Open interest of each period of the last 30 days, by label."""
        ...

    async def agg_trades(
        self, symbol: str, *, start_ms: int | None = None, end_ms: int | None = None, limit: int = 500
    ) -> list[Trade]:
        """Aggregate trades of at most an hour."""
        ...

    def forecast_candles(
        self,
        symbols: Sequence[str],
        interval: str,
        start_ms: int,
        end_ms: int,
        *,
        endpoint: str = "klines",
        within_ms: int | None = None,
    ) -> object:
        """What fetching these candles would cost, as one line of text; nothing is sent.

        Raises:
            WouldExceedLimit: it would not be through `within_ms` from now.
        """
        ...

    def exchange_time_ms(self) -> int:
        """The exchange's clock: what tells a closed candle from one that is still running."""
        ...


class Page(msgspec.Struct, frozen=True):
    """New rows (bars, rates, trades or statistics), and up to when everything is known."""

    rows: list[Any]
    reached_ms: int


async def pages_of(source: HistorySource, series: Series, start_ms: int, end_ms: int) -> AsyncIterator[Page]:
    """Everything the exchange has of `series` in [start_ms, end_ms).

    Raises:
        RemoteProtocolError: it answered with what was not asked for.
        ExchangeError: it refused.
    """
    if series.kind.has_interval:
        pages = _candles(source, series, start_ms, end_ms)
    elif series.kind_name == "funding":
        pages = _funding(source, series, start_ms, end_ms)
    elif series.kind_name == "metrics":
        pages = _open_interest(source, series, start_ms, end_ms)
    else:
        pages = _agg_trades(source, series, start_ms, end_ms)
    async for page in pages:
        yield page


async def _candles(source: HistorySource, series: Series, start_ms: int, end_ms: int) -> AsyncIterator[Page]:
    """Closed candles with open time in [start_ms, end_ms), until there are no more."""
    interval = series.interval
    ask = getattr(source, ENDPOINTS[series.kind_name])
    next_ms = start_ms
    while next_ms < end_ms:
        limit = min(PAGE, candles_between(interval, next_ms, end_ms))
        page: list[Bar] = await ask(
            series.symbol, interval, start_ms=next_ms, end_ms=opens_after(interval, end_ms, -1), limit=limit
        )
        for bar in page:
            if (
                (bar.symbol, bar.interval) != (series.symbol, interval)
                or opens_at_or_before(interval, bar.open_time_ms) != bar.open_time_ms
                or bar.close_time_ms != opens_after(interval, bar.open_time_ms) - 1
            ):
                raise RemoteProtocolError(f"asked for {series}, got {bar.symbol} {bar.interval} {bar.open_time_ms}")
        # Page edges are inclusive and servers differ: take only what comes next, in order.
        new = {bar.open_time_ms: bar for bar in page if next_ms <= bar.open_time_ms < end_ms and bar.closed}
        if not new:
            return
        next_ms = opens_after(interval, max(new))
        yield Page([new[open_time_ms] for open_time_ms in sorted(new)], next_ms)


async def _funding(source: HistorySource, series: Series, start_ms: int, end_ms: int) -> AsyncIterator[Page]:
    next_ms = start_ms
    while next_ms < end_ms:
        page = await source.funding_rate(series.symbol, start_ms=next_ms, end_ms=end_ms - 1, limit=FULL_PAGE)
        page = [rate for rate in page if next_ms <= rate.funding_time_ms < end_ms]
        if not page:
            return
        next_ms = max(rate.funding_time_ms for rate in page) + 1
        yield Page(page, next_ms)


async def _open_interest(source: HistorySource, series: Series, start_ms: int, end_ms: int) -> AsyncIterator[Page]:
    """Rows by the moment they were known at the latest: a period after their label, in [start_ms, end_ms)."""
    first_ms = max(start_ms, source.exchange_time_ms() - STATISTICS_REACH_MS) - METRICS_EVERY_MS
    next_ms, last_ms = -(-first_ms // METRICS_EVERY_MS) * METRICS_EVERY_MS, end_ms - METRICS_EVERY_MS - 1
    while next_ms <= last_ms:
        # Asked span by span: some servers tell the latest rows of a span that holds too many.
        until_ms = min(last_ms, next_ms + (STATISTICS_PAGE - 1) * METRICS_EVERY_MS)
        page = await source.open_interest_history(
            series.symbol, STATISTICS_PERIOD, start_ms=next_ms, end_ms=until_ms, limit=STATISTICS_PAGE
        )
        rows = {row.label_ms: row for row in page if next_ms <= row.label_ms <= until_ms}
        for label_ms, row in rows.items():
            if row.symbol != series.symbol or label_ms % METRICS_EVERY_MS:
                raise RemoteProtocolError(f"asked for {series}, got {row.symbol} at {label_ms}")
        next_ms = until_ms // METRICS_EVERY_MS * METRICS_EVERY_MS + METRICS_EVERY_MS
        yield Page([rows[label_ms] for label_ms in sorted(rows)], next_ms + METRICS_EVERY_MS)


async def _agg_trades(source: HistorySource, series: Series, start_ms: int, end_ms: int) -> AsyncIterator[Page]:
    next_ms = max(start_ms, source.exchange_time_ms() - AGG_TRADES_REACH_MS)
    while next_ms < end_ms:
        last_ms = min(next_ms + AGG_TRADES_SPAN_MS, end_ms) - 1
        page = await source.agg_trades(series.symbol, start_ms=next_ms, end_ms=last_ms, limit=FULL_PAGE)
        rows = [trade for trade in page if next_ms <= trade.trade_time_ms <= last_ms]
        if len(page) < FULL_PAGE:
            next_ms = last_ms + 1
        elif page[-1].trade_time_ms > next_ms:
            # The last millisecond of a full page may go on in the next one; the lake keeps each id once.
            next_ms = page[-1].trade_time_ms
        else:
            yield Page(rows, next_ms)
            raise RemoteProtocolError(f"{series}: more than {FULL_PAGE} trades in the millisecond {next_ms}")
        yield Page(rows, next_ms)
