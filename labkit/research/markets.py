"""Markets as arrays: what a simulation lives through, from the lake, from DataFrames, or made up.

Bars of all symbols on one axis of minutes; a symbol without a bar in a minute has NaN there. Prices in quote asset,
volumes in base asset, minutes since 1970 (open time of a bar, UTC), funding rates as fractions per settlement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labkit.config import Config
from labkit.domain.clock import DAY_MS, MINUTE_MS
from labkit.domain.intervals import opens_after
from labkit.domain.market_events import INTERVAL_MS
from labkit.domain.moments import Moment, moment_ms, moment_text
from labkit.domain.symbol_rules import decimals_of
from labkit.errors import ConfigError
from labkit.market.history_kinds import Series
from labkit.market.lake import Lake
from labkit.paper.market_simulated import SimulatedMarket
from labkit.research.brokerage import Finer
from labkit.research.trials import RECORDED, Window

if TYPE_CHECKING:
    import pandas as pd

NEVER = 1 << 60
COLUMNS = ("open", "high", "low", "close", "volume", "taker_buy_volume")
PRICES = ("open", "high", "low", "close")
FINER_INTERVAL = "1m"
_INTERVALS = {length // MINUTE_MS: name for name, length in INTERVAL_MS.items()}


@dataclass(frozen=True, eq=False)
class Market:
    """Bars, funding and, where known, what happened inside bars.

    `minutes` is int64[T], rising; `rows` float64[T, S, 6] (columns of `COLUMNS`); `funding_minutes` and
    `funding_rates` are [S, F], each row rising and ended by `NEVER`; `drift` float64[T, S] is what was planted, if
    anything was.
    """

    symbols: tuple[str, ...]
    minutes: NDArray[np.int64]
    rows: NDArray[np.float64]
    funding_minutes: NDArray[np.int64]
    funding_rates: NDArray[np.float64]
    span_minutes: int = 1
    finer: Finer | None = None
    source: str = "arrays"
    drift: NDArray[np.float64] | None = None
    origin: str = RECORDED
    """What trials on it count together with: everything recorded, or one made-up market."""

    @property
    def window(self) -> Window:
        """What the trial counter counts by."""
        interval = _INTERVALS.get(self.span_minutes, f"{self.span_minutes}m")
        return Window(
            symbols=self.symbols,
            interval=interval,
            start_ms=self.start_ms,
            end_ms=self.end_ms,
            data_hash=self.data_hash,
            origin=self.origin,
        )

    @property
    def start_ms(self) -> int:
        return int(self.minutes[0]) * MINUTE_MS

    @property
    def end_ms(self) -> int:
        """The moment the last bar closes."""
        return (int(self.minutes[-1]) + self.span_minutes) * MINUTE_MS

    @property
    def span(self) -> str:
        """Symbols, time and source in words."""
        first, last = moment_text(self.start_ms), moment_text(self.end_ms)
        return f"{', '.join(self.symbols)}, {first} to {last} UTC ({self.source})"

    @cached_property
    def data_hash(self) -> str:
        """A short hash of everything a simulation can see."""
        digest = hashlib.blake2b(digest_size=12)
        digest.update(repr((self.symbols, self.span_minutes)).encode())
        for part in (self.minutes, self.rows, self.funding_minutes, self.funding_rates, *(self.finer or ())):
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()

    def between(self, start: Moment | None = None, end: Moment | None = None) -> Market:
        """The bars that open in [start, end), with all of the funding; nothing is copied."""
        first, last = 0, self.minutes.size
        if start is not None:
            first = int(np.searchsorted(self.minutes, moment_ms(start, field="start") // MINUTE_MS))
        if end is not None:
            last = int(np.searchsorted(self.minutes, moment_ms(end, field="end") // MINUTE_MS))
        if first >= last:
            raise ConfigError(f"no bars between {start} and {end}", field="start")
        return Market(
            self.symbols,
            self.minutes[first:last],
            self.rows[first:last],
            self.funding_minutes,
            self.funding_rates,
            self.span_minutes,
            self.finer,
            self.source,
            None if self.drift is None else self.drift[first:last],
            self.origin,
        )


def market_of_arrays(
    symbols: Sequence[str],
    minutes: NDArray[np.int64],
    rows: NDArray[np.float64],
    *,
    funding: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]] | None = None,
    span_minutes: int = 1,
    finer: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]] | None = None,
    source: str = "arrays",
    drift: NDArray[np.float64] | None = None,
    origin: str = RECORDED,
) -> Market:
    """A market from bars on one axis, funding (UTC ms, rate) and finer prices (UTC ms, float64[N, 4]) per symbol."""
    if rows.shape != (minutes.size, len(symbols), 6) or not minutes.size:
        raise ConfigError(f"rows of shape {rows.shape} do not fit {minutes.size} minutes of {len(symbols)} symbols")
    if (np.diff(minutes) <= 0).any():
        raise ConfigError("minutes must be rising")
    settled = [(funding or {}).get(symbol, (np.empty(0, np.int64), np.empty(0))) for symbol in symbols]
    longest = max((times.size for times, _ in settled), default=0)
    funding_minutes = np.full((len(symbols), longest + 1), NEVER, np.int64)
    funding_rates = np.zeros((len(symbols), longest + 1))
    for s, (times, rates) in enumerate(settled):
        # Settlements come some milliseconds late; what counts is the minute they belong to.
        funding_minutes[s, : times.size] = (np.asarray(times, np.int64) + MINUTE_MS // 2) // MINUTE_MS
        funding_rates[s, : times.size] = rates
    return Market(
        tuple(symbols),
        np.ascontiguousarray(minutes, np.int64),
        np.require(rows, np.float64, ["C", "W"]),
        funding_minutes,
        funding_rates,
        span_minutes,
        _joined(symbols, finer) if finer else None,
        source,
        drift,
        origin,
    )


def market_of_frames(
    frames: Mapping[str, pd.DataFrame],
    *,
    funding: Mapping[str, pd.DataFrame] | None = None,
    finer: Mapping[str, pd.DataFrame] | None = None,
    source: str = "DataFrames",
) -> Market:
    """A market from candles per symbol, as `DataService.klines` gives them.

    A frame has UTC open times as its index (or a column `open_time`, UTC ms or datetimes) and float columns open, high,
    low, close, volume; `taker_buy_volume` may be missing. `funding` frames have `funding_rate` by `funding_time`;
    `finer` ones are shorter candles, or trades with a column `price`.
    """
    if not frames:
        raise ConfigError("no symbols: give a DataFrame of candles for each", field="symbols")
    times = {symbol: _times_ms(frame, "open_time", symbol) for symbol, frame in frames.items()}
    axis = np.unique(np.concatenate(list(times.values())))
    if not axis.size:
        raise ConfigError(f"{source}: no candles of {', '.join(frames)}", field="start")
    rows = np.full((axis.size, len(frames), 6), np.nan)
    for s, (symbol, frame) in enumerate(frames.items()):
        at = np.searchsorted(axis, times[symbol])
        for column, name in enumerate(COLUMNS):
            if name in frame:
                rows[at, s, column] = frame[name].to_numpy(np.float64)
            elif name != "taker_buy_volume":
                raise ConfigError(f"{symbol}: the candles have no column {name!r}, only {', '.join(frame)}")
    steps = np.diff(axis)
    span_ms = int(np.median(steps)) if steps.size else MINUTE_MS
    if span_ms % MINUTE_MS or (axis % MINUTE_MS).any():
        raise ConfigError(f"candles must open on whole minutes; these are {span_ms} ms apart")
    return market_of_arrays(
        tuple(frames),
        axis // MINUTE_MS,
        rows,
        funding={
            symbol: (_times_ms(frame, "funding_time", symbol), frame["funding_rate"].to_numpy(np.float64))
            for symbol, frame in (funding or {}).items()
        },
        span_minutes=span_ms // MINUTE_MS,
        finer={symbol: _finer_of(frame, symbol) for symbol, frame in (finer or {}).items()},
        source=source,
    )


def market_of_lake(
    lake: Path | str | Lake, symbols: Sequence[str], start: Moment, end: Moment, interval: str = "1m"
) -> Market:
    """A market from the lake: candles, settled funding, and aggregate trades (or one-minute candles under longer ones)
    for what happened inside bars, where the lake has them.

    Raises:
        ConfigError: the lake has no candles of a symbol in this span.
    """
    kept = (lake if isinstance(lake, Lake) else Lake(Path(lake))).that_exists()
    start_ms, end_ms = moment_ms(start, field="start"), moment_ms(end, field="end")

    def read(kind: str, symbol: str, interval: str = "", columns: Sequence[str] | None = None) -> pd.DataFrame:
        return kept.frame(Series(kind, symbol, interval), start_ms, end_ms, columns)

    frames, funding, finer = {}, {}, {}
    for symbol in symbols:
        frame = read("klines", symbol, interval, COLUMNS)
        if not len(frame):
            raise ConfigError(
                f"the lake has no {interval} candles of {symbol} between {start} and {end}: "
                f"`labkit data ls` tells what it has, `labkit data pull` brings more",
                field="symbols",
            )
        frames[symbol] = frame
        funding[symbol] = read("funding", symbol)
        trades = read("agg_trades", symbol)
        if len(trades):
            finer[symbol] = trades
        elif interval != FINER_INTERVAL:
            shorter = read("klines", symbol, FINER_INTERVAL, PRICES)
            if len(shorter):
                finer[symbol] = shorter
    market = market_of_frames(frames, funding=funding, finer=finer, source=f"lake, {interval}")
    expected = (opens_after(interval, start_ms) - start_ms) // MINUTE_MS
    if market.span_minutes != expected:
        raise ConfigError(f"the lake's {interval} candles lie {market.span_minutes} minutes apart", field="interval")
    return market


def market_of_simulation(config: Config, start: Moment | None = None, end: Moment | None = None) -> Market:
    """The simulated market a lab with `config` would trade at, as one-minute bars with its own funding.

    From the first remembered minute to the first moment that is lived through, unless told otherwise.
    """
    opens_ms = moment_ms(config.market_start)
    source = SimulatedMarket(
        config.symbols,
        seed=config.seed,
        start_ms=opens_ms,
        history_days=config.paper.history_days,
        planted_edge=config.paper.planted_edge,
        quotes_per_second=config.paper.quotes_per_second,
    )
    start_ms = source.history_start_ms if start is None else moment_ms(start, field="start")
    end_ms = opens_ms if end is None else moment_ms(end, field="end")
    bars = [source.history_arrays(symbol, start_ms, end_ms) for symbol in config.symbols]
    rows = np.stack([np.stack([getattr(own, name) for name in COLUMNS], axis=1) for own in bars], axis=1)
    for s, rules in enumerate(source.rules().values()):
        # The very floats the exchange's decimal strings read as, so that history here and in a lab is the same bits.
        rows[:, s, :4] = np.round(rows[:, s, :4], decimals_of(rules.tick_size))
        rows[:, s, 4:] = np.round(rows[:, s, 4:], decimals_of(rules.step_size))
    return market_of_arrays(
        config.symbols,
        bars[0].open_time_ms // MINUTE_MS,
        rows,
        funding={symbol: source.funding_arrays(symbol, start_ms, end_ms) for symbol in config.symbols},
        source=source.disclosure,
        origin=source.disclosure,
    )


def _times_ms(frame: pd.DataFrame, column: str, symbol: str) -> NDArray[np.int64]:
    import pandas as pd

    times = frame.get(column, frame.index)
    if not len(times):
        return np.empty(0, np.int64)
    if pd.api.types.is_integer_dtype(times):
        found = np.asarray(times, np.int64)
    else:
        found = np.asarray(pd.DatetimeIndex(times).as_unit("ms").asi8)
    if (np.diff(found) < 0).any():
        raise ConfigError(f"{symbol}: rows are not in the order of time")
    return found


def _finer_of(frame: pd.DataFrame, symbol: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    times = _times_ms(frame, "transact_time" if "price" in frame else "open_time", symbol)
    if "price" in frame:
        return times, np.repeat(frame["price"].to_numpy(np.float64)[:, None], 4, axis=1)
    return times, np.stack([frame[name].to_numpy(np.float64) for name in PRICES], axis=1)


def _joined(symbols: Sequence[str], finer: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]) -> Finer | None:
    parts = [finer.get(symbol, (np.empty(0, np.int64), np.empty((0, 4)))) for symbol in symbols]
    first = np.concatenate(([0], np.cumsum([times.size for times, _ in parts])))
    times = np.concatenate([times for times, _ in parts])
    return Finer(first.astype(np.int64), times, np.concatenate([prices for _, prices in parts])) if times.size else None


def whole_days(market: Market) -> int:
    """How many UTC days the market touches."""
    return market.end_ms // DAY_MS - market.start_ms // DAY_MS + (market.end_ms % DAY_MS > 0)
