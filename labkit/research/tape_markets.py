"""A recorded tape as a market for backtests: the very candles a lab at that tape would see, and quotes inside them.

The candles are made by the paper exchange's own board (of trades, or of middle prices where nothing printed), the way
inside a bar is the middle of every quote, or every trade where no quote was recorded, and a funding rate counts once
its time has come. Orders by real size of a quote are not looked at: the spread is the one the backtest is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labkit.domain.clock import MINUTE_MS
from labkit.domain.market_events import MarkPrice, Quote, Trade
from labkit.errors import ConfigError
from labkit.market.tapes import TAPE_ENDINGS
from labkit.paper.market_board import SymbolBoard
from labkit.paper.market_tape import TapeMarket
from labkit.research.markets import Market, market_of_arrays


class _Way:
    """What one symbol's tape says as it plays: its board, the prices inside bars, the funding that fell due."""

    def __init__(self, tape: TapeMarket, symbol: str) -> None:
        self.board = SymbolBoard(tape, symbol)
        self.quotes: list[tuple[int, float]] = []
        self.trades: list[tuple[int, float]] = []
        self.settled: list[tuple[int, float]] = []
        self._due: MarkPrice | None = None

    def take(self, fact: object, now_ms: int) -> None:
        self.board.close_minutes_until(now_ms)
        if isinstance(fact, Quote):
            self.board.on_quote(fact, now_ms)
            self._note(self.quotes, now_ms, float(fact.mid_price))
        elif isinstance(fact, Trade):
            self.board.on_trade(fact, now_ms)
            self._note(self.trades, now_ms, float(fact.price))
        elif isinstance(fact, MarkPrice):
            if self._due is not None and now_ms >= self._due.next_funding_time_ms:
                self.settled.append((self._due.next_funding_time_ms, float(self._due.funding_rate)))
            self._due = fact

    def inside(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Times (UTC ms) and prices as `markets.market_of_arrays` takes them."""
        times, prices = _columns(self.quotes or self.trades)
        return times, np.repeat(prices[:, None], 4, axis=1)

    @staticmethod
    def _note(way: list[tuple[int, float]], now_ms: int, price: float) -> None:
        # A price that has not moved decides nothing.
        if not way or way[-1][1] != price:
            way.append((now_ms, price))


def is_tape(path: Path) -> bool:
    """True if `path` is a recording, or a folder with one in it."""
    if path.is_dir():
        return any(file.name.endswith(TAPE_ENDINGS) for file in path.iterdir())
    return path.name.endswith(TAPE_ENDINGS)


def market_of_tapes(paths: Sequence[Path | str], symbols: Sequence[str] | None = None) -> Market:
    """One-minute bars of recorded tapes (files or folders of them), of all their symbols if none are named.

    Raises:
        TapeError: a file is missing, damaged or foreign, or the recordings do not fit together.
        ConfigError: the tapes do not hold a symbol that was asked for, or no whole minute of anything.
    """
    tape = TapeMarket(paths)
    chosen = tuple(symbols or tape.symbols)
    if missing := [symbol for symbol in chosen if symbol not in tape.symbols]:
        raise ConfigError(f"no {', '.join(missing)} on these tapes, only {', '.join(tape.symbols)}", field="symbols")
    ways = {symbol: _Way(tape, symbol) for symbol in chosen}
    for event in tape.events(0):
        if (way := ways.get(event.fact.symbol)) is not None:
            way.take(event.fact, event.time_ms)
    assert tape.end_ms is not None
    first = -(-tape.start_ms // MINUTE_MS)
    count = tape.end_ms // MINUTE_MS - first
    if count < 1:
        raise ConfigError(
            f"these tapes hold no whole minute ({(tape.end_ms - tape.start_ms) / 1000:.0f} s): nothing to backtest",
            field="data",
        )
    rows = np.full((count, len(chosen), 6), np.nan)
    for s, way in enumerate(ways.values()):
        for bar in way.board.minutes(first * MINUTE_MS, (first + count) * MINUTE_MS):
            rows[bar.open_time_ms // MINUTE_MS - first, s] = [
                float(number) for number in (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.taker_buy_volume)
            ]
    return market_of_arrays(
        chosen,
        np.arange(first, first + count),
        rows,
        funding={symbol: _columns(way.settled) for symbol, way in ways.items()},
        finer={symbol: way.inside() for symbol, way in ways.items()},
        source="tape",
    )


def _columns(pairs: Sequence[tuple[int, float]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return np.array([time for time, _ in pairs], np.int64), np.array([number for _, number in pairs], np.float64)
