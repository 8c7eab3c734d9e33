"""How fast history is lived through again, beside what a user would take instead, on the same bars in one run.

`python benchmarks/replay.py` makes a year of one-minute bars (seeded), then trades the same rule everywhere: a crossing
of two exponential averages, with a stop and a target several average true ranges away, at 5 basis points a side. It
measures CPU time: one year of one symbol once, and many parameter sets of it, ours through the full path (the exits of
the live trader, fees, spread, funding, daily marks), and what the slider needs: five symbols with learning, the last
ninety days and the whole year.

`--env vectorbt=PYTHON` (and `backtesting`, `nautilus_trader`, `river`) names an interpreter where the package is
installed; what is absent is said to be absent. Each foreign library runs in a process of its own, after a warm-up that
compiles what it compiles.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.config import Config, change_config
from labkit.domain.clock import DAY_MS, HOUR_MS
from labkit.research.backtest import BacktestResult
from labkit.research.baselines import asked_through, lightgbm_probabilities
from labkit.research.compiling import compiled
from labkit.research.markets import Market, market_of_arrays
from labkit.research.planted_markets import make_planted_market
from labkit.research.simulation import Costs, Run, follow, simulate
from labkit.trader.features import FEATURE_NAMES

SETS = 1_000
MEASURED_SETS = 40
"""So many of the sets are measured, and scaled."""
FAST, SLOW, RANGE, WIDTH = 60.0, 240.0, 60.0, 6.0
TREE_DAYS = 120
"""Trees are trained over so many, and scaled: a little too cheap, for the first weeks have less to learn from."""
COSTS = Costs(taker_fee=0.0005, slippage=0.0, spread=0.0)
CONFIG = change_config(
    Config(),
    {
        "trader.horizon_minutes": 1_440,
        "trader.trailing_start_fraction": 1.0,
        "risk.max_order_notional": "1e12",
        "risk.max_position_notional": "1e12",
        "risk.max_daily_loss_fraction": 1.0,
    },
)


def year() -> Market:
    """A year of one symbol with a settlement of funding every eight hours."""
    planted = make_planted_market("momentum", 2201, symbols=1)
    times = np.arange(planted.start_ms, planted.end_ms, 8 * HOUR_MS)
    funding = {planted.symbols[0]: (times, np.full(times.size, 1e-4))}
    return market_of_arrays(planted.symbols, planted.minutes, planted.rows, funding=funding)


@compiled
def crossing(rows: Any, fast: float, slow: float, length: float, width: float, orders: Any, distances: Any) -> None:
    """Write the rule's orders (half the balance, at every crossing) and the distance of stop and target."""
    fast_rate, slow_rate, range_rate = 2.0 / (fast + 1.0), 2.0 / (slow + 1.0), 2.0 / (length + 1.0)
    quick = lazy = before = rows[0, 0, 3]
    true_range = 0.0
    above = 0
    for t in range(rows.shape[0]):
        close = rows[t, 0, 3]
        true_range += range_rate * (max(rows[t, 0, 1], before) - min(rows[t, 0, 2], before) - true_range)
        quick += fast_rate * (close - quick)
        lazy += slow_rate * (close - lazy)
        side = 1 if quick > lazy else -1
        orders[t, 0] = 0.5 * side if side != above else 0.0
        distances[t, 0] = width * true_range / close
        above, before = side, close


def ours(market: Market) -> Callable[[float], int]:
    orders, distances = np.zeros((2, *market.rows.shape[:2]))

    def run(fast: float) -> int:
        crossing(market.rows, fast, SLOW, RANGE, WIDTH, orders, distances)
        return len(follow(market, orders, distances, CONFIG, COSTS).trades)

    return run


def cpu_seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """CPU seconds of the fastest of some rounds, after one that compiles."""
    work()
    took = []
    for _ in range(rounds):
        before = time.process_time()
        work()
        took.append(time.process_time() - before)
    return min(took)


def wall_seconds(work: Callable[[], object], rounds: int = 7) -> float:
    took = []
    for _ in range(rounds):
        before = time.perf_counter()
        work()
        took.append(time.perf_counter() - before)
    return min(took)


def weekly_trees(market: Market, config: Config, run: Run) -> float:
    """CPU seconds a year of LightGBM trained every week on the labels of sixty days, scaled from some of it."""
    piece = market.between(end=market.start_ms + TREE_DAYS * DAY_MS)
    asked = asked_through(BacktestResult("learner", piece, config, COSTS, run))
    return cpu_seconds(lambda: lightgbm_probabilities(asked), 1) * 365 / TREE_DAYS


COMMON = """
import json, sys, time
import numpy as np, pandas as pd
rows = np.load(sys.argv[1])
frame = pd.DataFrame(rows[:, :5], columns=["Open", "High", "Low", "Close", "Volume"])
frame.index = pd.date_range("2024-01-01", periods=len(frame), freq="min")
def averages(fast):
    before = frame["Close"].shift(1).fillna(frame["Close"])
    spread = np.maximum(frame["High"], before) - np.minimum(frame["Low"], before)
    quick, lazy = (frame["Close"].ewm(span=n, adjust=False).mean() for n in (fast, {slow}))
    return quick > lazy, {width} * spread.ewm(span={length}, adjust=False).mean() / frame["Close"]
def best(work, rounds=3):
    work()
    took = []
    for _ in range(rounds):
        start = time.process_time(); work(); took.append(time.process_time() - start)
    return min(took)
"""

VECTORBT = """
import vectorbt as vbt
def signals(fast):
    above, distance = averages(fast)
    flips = above != above.shift(1, fill_value=above.iloc[0])
    return flips & above, flips & ~above, distance
def portfolio(longs, shorts, distance):
    return vbt.Portfolio.from_signals(
        frame["Close"], entries=longs, short_entries=shorts, open=frame["Open"], high=frame["High"], low=frame["Low"],
        sl_stop=distance, tp_stop=distance, fees=0.0005, size=0.5, size_type="percent", init_cash=10_000, freq="1min",
        upon_opposite_entry="close",
    )
made = signals({fast})
once = best(lambda: portfolio(*made).total_return())
whole = best(lambda: portfolio(*signals({fast})).total_return())
names = list(range({sets}))
def many():
    columns = [signals({fast} + n) for n in names]
    parts = [pd.concat([own[i] for own in columns], axis=1, keys=names) for i in range(3)]
    return portfolio(*parts).total_return()
chunk = best(many, 1)
count = int(portfolio(*made).trades.count())
print(json.dumps(dict(version=vbt.__version__, once=once, whole=whole, many=chunk / {sets}, trades=count)))
"""

BACKTESTING = """
import backtesting
from backtesting import Backtest, Strategy
above, distance = averages({fast})
frame = frame.iloc[:{bars}]
class Rule(Strategy):
    def init(self):
        self.above = self.I(lambda: above.to_numpy()[:{bars}].astype(float))
        self.distance = self.I(lambda: distance.to_numpy()[:{bars}])
    def next(self):
        if self.above[-1] == self.above[-2]:
            return
        if self.position:
            self.position.close()
            return
        price, away = self.data.Close[-1], self.distance[-1]
        if self.above[-1]:
            self.buy(size=0.5, sl=price * (1 - away), tp=price * (1 + away))
        else:
            self.sell(size=0.5, sl=price * (1 + away), tp=price * (1 - away))
test = Backtest(frame, Rule, cash=10_000_000, commission=0.0005, finalize_trades=True)
once = best(test.run, 1) * len(rows) / {bars}
print(json.dumps(dict(version=backtesting.__version__, once=once, whole=once, many=once, trades=0)))
"""

NAUTILUS = """
import nautilus_trader
from nautilus_trader.backtest.config import BacktestEngineConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model import BarType, Money, Venue
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.persistence.wranglers import BarDataWrangler
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy
above, distance = (own.to_numpy() for own in averages({fast}))
instrument = TestInstrumentProvider.btcusdt_perp_binance()
kind = BarType.from_str(str(instrument.id) + "-1-MINUTE-LAST-EXTERNAL")
part = (1_000 * frame.iloc[:{bars}].rename(columns=str.lower)).round(1)
part["volume"] = part["volume"].round(3)
data = BarDataWrangler(kind, instrument).process(part)
class Rule(Strategy):
    def on_start(self):
        self.seen = 0
        self.subscribe_bars(kind)
    def on_bar(self, bar):
        at = self.seen
        self.seen += 1
        if at == 0 or above[at] == above[at - 1]:
            return
        if not self.portfolio.is_flat(instrument.id):
            self.cancel_all_orders(instrument.id)
            self.close_all_positions(instrument.id)
            return
        price, away, side = float(bar.close), distance[at], 1 if above[at] else -1
        self.submit_order_list(self.order_factory.bracket(
            instrument_id=instrument.id, order_side=OrderSide.BUY if side > 0 else OrderSide.SELL,
            quantity=instrument.make_qty(5_000.0 / price),
            sl_trigger_price=instrument.make_price(price * (1 - side * away)),
            tp_price=instrument.make_price(price * (1 + side * away)),
        ))
def run():
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(Venue("BINANCE"), OmsType.NETTING, AccountType.MARGIN, [Money(1_000_000, USDT)])
    engine.add_instrument(instrument)
    engine.add_data(data)
    engine.add_strategy(Rule())
    start = time.process_time(); engine.run()
    took = time.process_time() - start
    assert engine.cache.orders_closed_count() > 20
    engine.dispose()
    return took
once = min(run(), run()) * len(rows) / {bars}
print(json.dumps(dict(version=nautilus_trader.__version__, once=once, whole=once, many=once, trades=0)))
"""

PANDAS_LOOP = """
above, distance = averages({fast})
import pandas
def loop():
    cash, side, trades = 10_000.0, 0, 0
    entry = stop = target = quantity = 0.0
    before = None
    for row, up, away in zip(frame.iloc[:{bars}].itertuples(), above.to_numpy(), distance.to_numpy()):
        if side:
            price = None
            if (row.Low if side > 0 else row.High) * side <= stop * side: price = stop
            elif (row.High if side > 0 else row.Low) * side >= target * side: price = target
            elif before is not None and up != before: price = row.Close
            if price is not None:
                cash += side * quantity * (price - entry) - 0.0005 * quantity * (price + entry)
                side, trades = 0, trades + 1
        elif before is not None and up != before:
            side, entry = (1 if up else -1), row.Close
            quantity = 0.5 * cash / entry
            stop, target = entry * (1 - side * away), entry * (1 + side * away)
        before = up
    return trades
once = best(loop, 2) * len(rows) / {bars}
print(json.dumps(dict(version=pandas.__version__, once=once, whole=once, many=once, trades=loop())))
"""
RIVER = """
import river
from river import linear_model, preprocessing
names = [str(i) for i in range({features})]
values = np.random.default_rng(1).normal(size=({bars}, len(names))).tolist()
asked = [dict(zip(names, row)) for row in values]
def learn():
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    for row in asked:
        said = model.predict_proba_one(row)
        model.learn_one(row, row["0"] > 0)
print(json.dumps(dict(version=river.__version__, once=best(learn, 2) / {bars})))
"""
OTHERS = {
    "a loop over a DataFrame": PANDAS_LOOP,
    "vectorbt": VECTORBT,
    "backtesting": BACKTESTING,
    "nautilus_trader": NAUTILUS,
}
SOME_BARS = 20_000
"""What is slow per bar is measured on so many, and scaled."""


def measure(name: str, python: str, rows: NDArray[np.float64]) -> dict[str, Any] | str:
    """The other library's figures, or why there are none."""
    code = textwrap.dedent(COMMON + (RIVER if name == "river" else OTHERS[name])).format(
        fast=int(FAST), slow=int(SLOW), length=int(RANGE), width=WIDTH, sets=8, bars=SOME_BARS,
        features=len(FEATURE_NAMES),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, rows)
        done = subprocess.run(
            [python, "-W", "ignore", "-c", code, str(path)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return said[-1] if said else f"ended with {done.returncode}"
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", action="append", default=[], metavar="NAME=PYTHON")
    environments = dict(pair.split("=", 1) for pair in parser.parse_args().env)
    market = year()
    run = ours(market)
    once = cpu_seconds(lambda: run(FAST))
    trades = run(FAST)
    many = cpu_seconds(lambda: [run(FAST + n) for n in range(MEASURED_SETS)], 2) / MEASURED_SETS
    touched = cpu_seconds(lambda: float(market.rows.sum()))
    title = f"{market.minutes.size:,} bars of one symbol, CPU seconds"
    print(f"{title:52}{'one run':>10}{'ratio':>8}{'1,000 sets':>12}{'ratio':>8}")
    print(f"{'one pass over the bars':52}{touched:>10.4f}{touched / once:>8.2f}{SETS * touched:>12.1f}")
    print(f"{f'labkit, rule and full path, {trades} trades':52}{once:>10.4f}{1.0:>8.2f}{SETS * many:>12.1f}{1.0:>8.2f}")
    for name in OTHERS:
        python = environments.get(name, sys.executable)
        figures = measure(name, python, market.rows[:, 0])
        if isinstance(figures, str):
            print(f"{name:52}not measured: {figures}")
            continue
        title = f"{name} {figures['version']}"
        print(
            f"{title:52}{figures['whole']:>10.4f}{figures['whole'] / once:>8.1f}"
            f"{SETS * figures['many']:>12.1f}{figures['many'] / many:>8.1f}"
        )
        if figures["once"] != figures["whole"]:
            ratio = figures["once"] / once
            print(f"{'  … its simulation alone, signals ready':52}{figures['once']:>10.4f}{ratio:>8.1f}", flush=True)

    five = make_planted_market("momentum", 2201)
    last = five.between(start=five.end_ms - 90 * DAY_MS)
    config = change_config(CONFIG, {"trader.horizon_minutes": 240, "trader.decision_every_minutes": 15})
    learned = cpu_seconds(lambda: simulate(five, config, COSTS))
    print(f"\nfive symbols with learning: a year {learned:.2f} CPU s", end="")
    label = learned / simulate(five, config, COSTS).state.common["labels"][0]
    print(f", {1e9 * label:.0f} ns a label", end="")
    print(f"; wall: a year {wall_seconds(lambda: simulate(five, config, COSTS), 4):.2f} s", end="")
    print(f", ninety days {1000 * wall_seconds(lambda: simulate(last, config, COSTS)):.0f} ms")
    online = measure("river", environments.get("river", sys.executable), market.rows[:, 0])
    if isinstance(online, str):
        print(f"river not measured: {online}")
    else:
        cost = f"{1e9 * online['once']:,.0f} ns a label, {online['once'] / label:.0f} times ours"
        print(f"river {online['version']}, scaler and logistic regression: {cost} (bars, brackets and all)")
    whole = cpu_seconds(lambda: simulate(market, config, COSTS), 3)
    trees = weekly_trees(market, config, simulate(market, config, COSTS))
    print(
        f"one symbol with learning: a year {whole:.2f} CPU s; trees trained every week instead {trees:.1f} CPU s",
        end="",
    )
    print(f", {trees / whole:.0f} times that")


if __name__ == "__main__":
    main()
