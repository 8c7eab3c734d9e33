"""Is there anything in it? The trader through recorded history, after all costs, beside what anybody could have done.

`python benchmarks/is_it_real.py FOLDER` (or LABKIT_REAL_DATA) takes every stretch of candles there on which at least
two symbols run together, with the settled funding where it is recorded (said where it is not), and lives through it
with one configuration per candle length, written down below and never fitted. Taker fees of 5 basis points a side, one
basis point of spread, pessimistic fills. Told are returns, Sharpe ratios with 95 % intervals (stationary bootstrap),
skill with its interval, all baselines, and the verdict of `labkit.research.verdict`, whatever it is.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from labkit.config import Config, change_config
from labkit.research.backtest import DEFAULT_SPREAD_BPS, BacktestResult
from labkit.research.baselines import SKILLED, cheap_baselines, weekly_lightgbm
from labkit.research.markets import Market, market_of_frames
from labkit.research.simulation import costs_of, simulate
from labkit.research.statistics import ratio_interval, sharpe_interval
from labkit.research.verdict import judge, skill_of

FROZEN: dict[str, dict[str, Any]] = {
    "1m": {"horizon_minutes": 240, "decision_every_minutes": 15},
    "5m": {"horizon_minutes": 240, "decision_every_minutes": 15},
    "15m": {"horizon_minutes": 1_440, "decision_every_minutes": 60},
    "1h": {"horizon_minutes": 1_440, "decision_every_minutes": 240},
}
"""Decided before anything was run; everything else is the default."""


class Stretch(NamedTuple):
    """Candles of several symbols over one time."""

    interval: str
    start: str
    end: str
    symbols: tuple[str, ...]


STRETCHES = (
    Stretch("1m", "2023-07-18", "2023-08-17", ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT")),
    Stretch("1m", "2024-01-01", "2024-02-15", ("BTCUSDT", "ETHUSDT")),
    Stretch(
        "1m", "2025-05-04", "2025-06-03",
        ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "LTCUSDT", "LINKUSDT", "AVAXUSDT", "SUIUSDT"),
    ),
    Stretch("5m", "2023-07-04", "2023-08-03", ("*",)),
    Stretch(
        "5m", "2025-03-07", "2025-04-05",
        ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "LTCUSDT", "LINKUSDT"),
    ),
    Stretch("5m", "2025-04-07", "2025-06-30", ("SOLUSDT", "DOGEUSDT")),
    Stretch("15m", "2023-01-01", "2025-07-01", ("BTCUSDT", "ETHUSDT")),
    Stretch("1h", "2020-01-09", "2025-07-01", ("BTCUSDT", "ETHUSDT", "XRPUSDT", "LTCUSDT")),
    Stretch(
        "1h", "2023-01-01", "2025-07-01",
        ("ARUSDT", "ATOMUSDT", "BNBUSDT", "DOGEUSDT", "DOTUSDT", "LINKUSDT", "NEARUSDT", "OPUSDT", "SOLUSDT", "SUIUSDT",
         "TRXUSDT"),
    ),
)  # fmt: skip


def candles(folder: Path, stretch: Stretch) -> dict[str, pd.DataFrame]:
    """The recorded candles of a stretch, by symbol."""
    first, last = pd.Timestamp(stretch.start, tz="UTC"), pd.Timestamp(stretch.end, tz="UTC")
    found: dict[str, pd.DataFrame] = {}
    if stretch.symbols == ("*",):
        for path in sorted((folder / "klines" / "um").glob(f"UNIVERSE*-{stretch.interval}-*.parquet")):
            for symbol, rows in pd.read_parquet(path).groupby("symbol"):
                found[str(symbol)] = rows.drop(columns="symbol")
        stretch = stretch._replace(symbols=())
    for symbol in stretch.symbols:
        for path in sorted((folder / "klines" / "um").glob(f"{symbol}-{stretch.interval}-*.parquet")):
            rows = pd.read_parquet(path)
            times = rows["open_time"]
            if times.iloc[0] < last.timestamp() * 1000 and times.iloc[-1] >= first.timestamp() * 1000:
                found[symbol] = rows
    inside = {}
    for symbol, rows in found.items():
        rows = rows.set_index(pd.to_datetime(rows["open_time"], unit="ms", utc=True)).drop(columns="open_time")
        inside[symbol] = rows[(rows.index >= first) & (rows.index < last)]
    return {symbol: rows for symbol, rows in inside.items() if len(rows)}


def settled(folder: Path, symbols: list[str]) -> dict[str, pd.DataFrame]:
    """The recorded funding of these symbols, over all files there are."""
    parts: dict[str, list[pd.DataFrame]] = {symbol: [] for symbol in symbols}
    for path in sorted((folder / "funding" / "um").glob("*.parquet")):
        rows = pd.read_parquet(path)
        name = path.name.partition("-")[0]
        groups = rows.groupby("symbol") if "symbol" in rows else [(name, rows)]
        for symbol, own in groups:
            if symbol in parts:
                parts[symbol].append(own[["funding_time", "funding_rate"]])
    joined = {symbol: pd.concat(own) for symbol, own in parts.items() if own}
    return {
        symbol: rows.drop_duplicates("funding_time").sort_values("funding_time").set_index("funding_time")
        for symbol, rows in joined.items()
    }


def market_of_stretch(folder: Path, stretch: Stretch) -> tuple[Market, float]:
    """The market, and the share of its symbol-days on which funding was recorded."""
    frames = candles(folder, stretch)
    funding = settled(folder, list(frames))
    market = market_of_frames(frames, funding=funding, source=f"recorded, {stretch.interval}")
    days = (market.end_ms - market.start_ms) / 86_400_000
    inside = (market.funding_minutes > market.minutes[0]) & (market.funding_minutes <= market.minutes[-1])
    return market, min(1.0, float(inside.sum()) / (3 * days * len(market.symbols)))


def live_through(market: Market, interval: str) -> BacktestResult:
    config = change_config(Config(), {"trader": FROZEN[interval]})
    costs = costs_of(config, DEFAULT_SPREAD_BPS * 1e-4)
    return BacktestResult("learner", market, config, costs, simulate(market, config, costs, keep_decisions=True))


def tell(result: BacktestResult, others: list[BacktestResult]) -> None:
    print(f"{'':28}{'return':>9}{'Sharpe':>8}  {'95 % interval':16}{'drawdown':>9}{'trades':>8}{'skill, mnat':>13}")
    for own in (result, *others):
        figures = own.summary
        low, high = sharpe_interval(own.daily_returns)[-2:] if own.daily_returns.std() > 0 else (0.0, 0.0)
        skill = "" if np.isnan(figures["skill"]) else f"{figures['skill']:+.2f}"
        print(
            f"{own.name:28}{figures['return']:>+9.2%}{figures['sharpe']:>8.2f}  {f'{low:+.2f} to {high:+.2f}':16}"
            f"{figures['max_drawdown']:>9.2%}{figures['trades']:>8.0f}{skill:>13}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("LABKIT_REAL_DATA"), type=Path)
    parser.add_argument("--quick", action="store_true", help="without LightGBM")
    options = parser.parse_args()
    if options.folder is None or not options.folder.is_dir():
        sys.exit("say where the recordings are: a folder, or LABKIT_REAL_DATA")
    for stretch in STRETCHES:
        market, funded = market_of_stretch(options.folder, stretch)
        before = time.process_time()
        result = live_through(market, stretch.interval)
        others = cheap_baselines(result)
        if not options.quick:
            others += weekly_lightgbm(result)
        print(
            f"\n{len(market.symbols)} symbols, {stretch.interval}, {stretch.start} to {stretch.end} "
            f"({', '.join(market.symbols)}); funding recorded for {funded:.0%}"
        )
        tell(result, others)
        skill = skill_of(result.run.days)
        low, high = (1000.0 * bound for bound in ratio_interval(skill.nats, skill.labels)[-2:])
        print(f"skill {result.summary['skill']:+.2f} millinats a label, 95 % interval {low:+.2f} to {high:+.2f}")
        returns = {own.name: own.daily_returns for own in others}
        verdict = judge(result.daily_returns, returns, skill=skill, skilled=SKILLED)
        print(verdict.words)
        print(f"({time.process_time() - before:.0f} s of CPU)", flush=True)


if __name__ == "__main__":
    main()
