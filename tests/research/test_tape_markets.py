"""Tapes as history: the candles a lab at the tape sees, quotes decide inside them, and short ones say so."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from labkit.config import Config
from labkit.domain import events as ev
from labkit.domain.clock import MINUTE_MS
from labkit.domain.market_events import MarkPrice, Quote, Trade
from labkit.engine.ledger import Ledger
from labkit.errors import ConfigError
from labkit.lab import live_in_virtual_time
from labkit.research.backtest import backtest
from labkit.research.markets import Market
from labkit.research.simulation import Costs, Run, follow
from labkit.research.tape_markets import market_of_tapes
from labkit.trader.exits import EXIT_REASONS
from labkit.wire.streams import encode_agg_trade, encode_book_ticker, encode_mark_price, wrap
from labkit.wire.tape import TapeWriter
from tests.lab.conftest import small_config
from tests.research.conftest import plain_config

NOON_MS = 1_721_304_000_000
Line = tuple[int, str]
"""Milliseconds after noon and a middle price to be quoted, "trade 101.5" or "funding 0.001 in 90000"."""


def tape(path: Path, *lines: Line, symbol: str = "BTCUSDT") -> Path:
    with TapeWriter(path) as writer:
        for number, (after_ms, words) in enumerate(lines, 1):
            time_ms, said = NOON_MS + after_ms, words.split()
            name = symbol.lower()
            if said[0] == "trade":
                trade = Trade(symbol, number, Decimal(said[1]), Decimal(1), False, time_ms, time_ms)
                frame = wrap(f"{name}@aggTrade", encode_agg_trade(trade))
            elif said[0] == "funding":
                hundred = Decimal(100)
                mark = MarkPrice(symbol, hundred, hundred, Decimal(said[1]), NOON_MS + int(said[3]), time_ms)
                frame = wrap(f"{name}@markPrice@1s", encode_mark_price(mark))
            else:
                mid, half = Decimal(said[0]), Decimal("0.1")
                quote = Quote(symbol, mid - half, Decimal(5), mid + half, Decimal(5), number, time_ms)
                frame = wrap(f"{name}@bookTicker", encode_book_ticker(quote))
            writer.write(time_ms * 1_000_000, frame)
    return path


def minutes(*prices: str) -> list[Line]:
    """One quote in the middle of every minute, and one after the last."""
    return [(n * MINUTE_MS + 30_000, price) for n, price in enumerate((*prices, prices[-1]))]


def bought_at_the_second_close(market: Market) -> Run:
    orders, distances = np.zeros((2, *market.rows.shape[:2]))
    orders[1, 0], distances[1, 0] = 0.5, 0.05
    return follow(market, orders, distances, plain_config(), Costs(0.0, 0.0, 0.0))


def test_a_minute_of_quotes_is_a_candle_of_middle_prices(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.raw", (0, "100"), (20_000, "103"), (40_000, "99"), (59_999, "101"), (60_000, "102"))
    market = market_of_tapes([path])
    assert market.symbols == ("BTCUSDT",)
    assert market.rows[:, 0, :4].tolist() == [[100, 103, 99, 101]]
    assert market.start_ms == NOON_MS


def test_where_the_market_prints_candles_are_made_of_trades(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.raw", (0, "100"), (10, "trade 101"), (20, "trade 102"), (30_000, "150"), (60_000, "100"))
    market = market_of_tapes([path])
    assert market.rows[0, 0].tolist() == [101, 102, 101, 102, 2, 2]


def test_minutes_that_were_not_recorded_whole_are_left_out(tmp_path: Path) -> None:
    lines = [(20_000, "100"), *((n * 60_000 + 1, "101") for n in range(1, 4))]
    market = market_of_tapes([tape(tmp_path / "a.raw", *lines)])
    assert (market.start_ms, market.end_ms) == (NOON_MS + MINUTE_MS, NOON_MS + 3 * MINUTE_MS)


@pytest.mark.parametrize(("way", "expected"), [(("106", "94"), "take_profit"), (("94", "106"), "stop_loss")])
def test_quotes_inside_a_bar_say_which_level_came_first(tmp_path: Path, way: tuple[str, str], expected: str) -> None:
    inside = [(3 * MINUTE_MS + 10_000, way[0]), (3 * MINUTE_MS + 20_000, way[1]), (3 * MINUTE_MS + 40_000, "100")]
    flat = [(n * MINUTE_MS, "100") for n in (0, 1, 2, 3)]
    market = market_of_tapes([tape(tmp_path / "a.raw", *flat, *inside, *((n * MINUTE_MS, "100") for n in (4, 5)))])
    (trade,) = bought_at_the_second_close(market).trades
    assert EXIT_REASONS[trade["reason"]] == expected
    assert trade["exit_ms"] == NOON_MS + 3 * MINUTE_MS + 10_000
    assert trade["exit_price"] == float(way[0])  # the quote met, not the level it passed


def test_the_funding_that_fell_due_is_the_last_rate_announced_before(tmp_path: Path) -> None:
    due = "in 240000"
    lines = [*minutes(*["100"] * 5), (100_000, f"funding 0.001 {due}"), (235_000, f"funding 0.002 {due}")]
    lines += [(241_000, "funding 0.003 in 9000000")]
    market = market_of_tapes([tape(tmp_path / "a.raw", *sorted(lines))])
    assert market.funding_rates[0, 0] == 0.002
    assert bought_at_the_second_close(market).account["funding"][0] == pytest.approx(-0.002 * 5_000)


def test_symbols_of_several_tapes_lie_on_one_axis(tmp_path: Path) -> None:
    one = tape(tmp_path / "a.raw", *minutes("100", "101"))
    two = tape(tmp_path / "b.raw", *minutes("7", "8"), symbol="ETHUSDT")
    whole = backtest(data=[one, two]).market
    assert whole.symbols == ("BTCUSDT", "ETHUSDT")
    assert whole.rows[:, :, 3].tolist() == [[101, 8]]
    assert backtest(data=tmp_path).market.symbols == whole.symbols
    assert backtest(["ETHUSDT"], data=str(two)).market.symbols == ("ETHUSDT",)


def test_what_cannot_be_backtested_is_told(tmp_path: Path) -> None:
    path = tape(tmp_path / "a.raw", *minutes("100", "101"))
    with pytest.raises(ConfigError, match="no SOLUSDT on these tapes, only BTCUSDT"):
        backtest(["SOLUSDT"], data=path)
    short = tape(tmp_path / "b.raw", (0, "100"), (59_000, "100"))
    with pytest.raises(ConfigError, match=r"no whole minute \(59 s\)"):
        backtest(data=short)
    with pytest.raises(ConfigError, match=r"notes.txt is no tape \(.raw, "):
        backtest(data=[path, tmp_path / "notes.txt"])


def test_a_tape_too_short_to_be_warm_says_so(tmp_path: Path) -> None:
    result = backtest(data=tape(tmp_path / "a.raw", *minutes(*["100"] * 90)))
    assert len(result.trades) == 0
    words = f"No entry was possible: 89 bars are fewer than the {Config().trader.warm_up_minutes}"
    assert words in repr(result)
    assert words in result._repr_html_()


@pytest.mark.real_data
def test_the_candles_are_those_a_lab_at_the_same_tape_sees(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "ticks" / "um" / "BTCUSDT-20230405.raw.gz"
    settings = {"market": "tape", "tapes": [str(path)], "symbols": ["BTCUSDT"]}
    live_in_virtual_time(small_config(**settings), tmp_path)
    entries = Ledger.open(tmp_path, read_only=True).entries()
    closed = [entry.event for entry in entries if isinstance(entry.event, ev.MinuteClosed)]
    market = market_of_tapes([path])
    seen = {bar.open_time_ms: bar for event in closed for bar in event.bars.values()}
    compared = 0
    for minute, row in zip(market.minutes.tolist(), market.rows[:, 0], strict=True):
        if (bar := seen.get(minute * MINUTE_MS)) is not None:
            lived = [bar.open, bar.high, bar.low, bar.close, bar.volume, bar.taker_buy_volume]
            assert row.tolist() == [float(number) for number in lived]
            compared += 1
    assert compared >= len(market.minutes) - 2
    assert compared > 3
    assert not math.isnan(market.rows.sum())
