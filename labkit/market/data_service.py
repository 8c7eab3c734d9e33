"""DataService: what the market was. Closed candles in order, each once, from the store or the exchange.

Times are market milliseconds (UTC), prices in quote asset. History only: for live prices ask `WebSocketMonitor`. The
trader's warm-up, the research room and notebooks call it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from labkit.domain.market_events import INTERVAL_MS, Bar
from labkit.errors import ConfigError, RemoteProtocolError
from labkit.market.candle_store import CandleStore

if TYPE_CHECKING:
    import pandas as pd

PAGE = 1_500
"""The most candles the exchange gives in one answer."""

_COLUMNS = {
    "open": "quote asset",
    "high": "quote asset",
    "low": "quote asset",
    "close": "quote asset",
    "volume": "base asset",
    "quote_volume": "quote asset",
    "trade_count": "trades",
    "taker_buy_volume": "base asset",
    "taker_buy_quote_volume": "quote asset",
}


class KlineSource(Protocol):
    """Who can be asked for candles; `BinanceClient` is one."""

    async def klines(
        self,
        symbol: str,
        interval: str,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 500,
    ) -> list[Bar]:
        """Candles by open time, both ends included, the oldest `limit` of them; the last may be still open."""
        ...

    def exchange_time_ms(self) -> int:
        """The exchange's clock: what tells a closed candle from one that is still running."""
        ...


class Gap(msgspec.Struct, frozen=True):
    """Candles with open time in [start_ms, end_ms) that neither the store nor the exchange has."""

    symbol: str
    interval: str
    start_ms: int
    end_ms: int


class DataService:
    """Closed candles of any past.

    Args:
        binance_client: who is asked for what the store does not have.
        store: where candles are kept between runs; nothing is kept if None.
    """

    def __init__(self, binance_client: KlineSource, store: CandleStore | None = None) -> None:
        self._client = binance_client
        self._store = store
        self.gaps: dict[tuple[str, str], tuple[Gap, ...]] = {}
        """What was missing in the last answer for each symbol and interval; no entry if nothing was."""

    async def bars(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[Bar]:
        """The closed bars with open time in [start_ms, end_ms), in order, each once.

        Bars that do not exist are left out and listed in `gaps`.

        Raises:
            ConfigError: an interval nobody knows.
            RemoteProtocolError: the exchange answered with candles that were not asked for.
            ExchangeError: the exchange refused; see `BinanceClient.klines`.
        """
        length_ms = _length_ms(interval)
        first_ms = -(-start_ms // length_ms) * length_ms
        # The bar that is still running closes at the next multiple; it and everything after it is not history.
        last_ms = min(-(-end_ms // length_ms) * length_ms, self._client.exchange_time_ms() // length_ms * length_ms)
        known: dict[int, Bar] = {}
        if self._store is not None:
            known = {bar.open_time_ms: bar for bar in self._store.load(symbol, interval, first_ms, last_ms)}
        fetched: list[Bar] = []
        for missing_from_ms, missing_to_ms in _missing(known, first_ms, last_ms, length_ms):
            fetched += await self._fetch(symbol, interval, missing_from_ms, missing_to_ms)
        if fetched and self._store is not None:
            self._store.save(fetched)
        known |= {bar.open_time_ms: bar for bar in fetched}
        gaps = tuple(Gap(symbol, interval, *span) for span in _missing(known, first_ms, last_ms, length_ms))
        if gaps:
            self.gaps[symbol, interval] = gaps
        else:
            self.gaps.pop((symbol, interval), None)
        return [known[open_time_ms] for open_time_ms in sorted(known)]

    async def last_bars(self, symbol: str, interval: str, count: int) -> list[Bar]:
        """The newest `count` closed bars, oldest first."""
        length_ms = _length_ms(interval)
        end_ms = self._client.exchange_time_ms() // length_ms * length_ms
        return await self.bars(symbol, interval, end_ms - count * length_ms, end_ms)

    async def frame(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> pd.DataFrame:
        """The same bars for statistics: float64 columns by UTC open time, units in `.attrs["units"]`."""
        import pandas as pd

        bars = await self.bars(symbol, interval, start_ms, end_ms)
        index = pd.to_datetime([bar.open_time_ms for bar in bars], unit="ms", utc=True).rename("open_time")
        columns = {name: [float(getattr(bar, name)) for bar in bars] for name in _COLUMNS}
        frame = pd.DataFrame(columns, index=index, dtype="float64")
        frame.attrs["units"] = dict(_COLUMNS)
        frame.attrs["symbol"] = symbol
        frame.attrs["interval"] = interval
        return frame

    async def _fetch(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[Bar]:
        """Bars with open time in [start_ms, end_ms) page by page, until there are no more."""
        length_ms = _length_ms(interval)
        bars: list[Bar] = []
        next_ms = start_ms
        while next_ms < end_ms:
            limit = min(PAGE, (end_ms - next_ms) // length_ms)
            page = await self._client.klines(symbol, interval, start_ms=next_ms, end_ms=end_ms - length_ms, limit=limit)
            for bar in page:
                if bar.symbol != symbol or bar.interval != interval or bar.open_time_ms % length_ms:
                    raise RemoteProtocolError(
                        f"asked for {symbol} {interval}, got {bar.symbol} {bar.interval} {bar.open_time_ms}"
                    )
            # Page edges are inclusive and servers differ: take only what comes next, in order.
            new = {bar.open_time_ms: bar for bar in page if next_ms <= bar.open_time_ms < end_ms and bar.closed}
            if not new:
                break
            bars += [new[open_time_ms] for open_time_ms in sorted(new)]
            next_ms = bars[-1].open_time_ms + length_ms
        return bars


def _length_ms(interval: str) -> int:
    try:
        return INTERVAL_MS[interval]
    except KeyError:
        raise ConfigError(f"interval {interval!r}: must be one of {', '.join(INTERVAL_MS)}", field="interval") from None


def _missing(known: dict[int, Bar], first_ms: int, end_ms: int, length_ms: int) -> list[tuple[int, int]]:
    """The spans of [first_ms, end_ms) whose open times are not known."""
    spans: list[tuple[int, int]] = []
    next_ms = first_ms
    for open_time_ms in sorted(known):
        if open_time_ms > next_ms:
            spans.append((next_ms, open_time_ms))
        next_ms = open_time_ms + length_ms
    if next_ms < end_ms:
        spans.append((next_ms, end_ms))
    return spans
