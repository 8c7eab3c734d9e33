"""Does it learn? Rows A1 to G5 of the acceptance table, on seeds nobody has tuned on.

`python benchmarks/learning.py` makes planted markets (`labkit.research.planted_markets`: a year of minutes, five
symbols, 12 basis points a round trip), lets the trader and an oracle that knows the next bar's drift live through them
at the same broker, and prints every row with what must be reached, what would be good, and what was measured.
`--seeds 2` makes a quick look of it, `--rows A,B` only some. `--ablations 2` takes a part of the trader away at a time,
by changing one line in a copy of the package, and shows what each is worth.

Seeds: null 4101 and on, momentum 4201, regime 4301, context 4401, reversion 2501, slow momentum 2601, stream 2701,
noise for LightGBM 2901.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import labkit
from labkit.config import Config, change_config
from labkit.research.backtest import BacktestResult
from labkit.research.baselines import asked_through, lightgbm_probabilities
from labkit.research.compiling import compiled
from labkit.research.planted_markets import make_planted_market, oracle
from labkit.research.simulation import Costs, Run, simulate
from labkit.research.statistics import sharpe_ratio
from labkit.trader.features import FEATURE_COUNT
from labkit.trader.learner import EXPERT_COUNT, learn, log_loss, predict, refit
from labkit.trader.questions import foreign_of
from labkit.trader.state import new_state
from labkit.trader.step import scratch

ROUND_TRIP = 0.0012
COSTS = Costs(taker_fee=0.0005, slippage=0.0, spread=0.0002)
ORACLE_SLOPE = {"momentum": 15.0, "regime": 15.0, "context": 12.0}
"""Fitted by the reference on seeds 1001 and 1002."""
SETTINGS = {
    "trader.horizon_minutes": 240,
    "trader.decision_every_minutes": 15,
    # The reference measured without drawdown brake, trailing stop and money caps.
    "trader.drawdown_half": 1.0,
    "trader.drawdown_stop": 1.0,
    "trader.trailing_start_fraction": 1.0,
    "risk.max_order_notional": "1e12",
    "risk.max_position_notional": "1e12",
    "risk.max_daily_loss_fraction": 1.0,
}
BLOCK_DAYS = 45


class Row(NamedTuple):
    """One row of the table; `good` says whether `measured` reaches it."""

    name: str
    what: str
    must: str
    stretch: str
    measured: str
    passed: bool
    stretched: bool


class Pair(NamedTuple):
    """Learner and oracle in the same market, as daily series (float64[D])."""

    learner: NDArray[np.float64]
    oracle: NDArray[np.float64]
    learner_skill: NDArray[np.float64]
    oracle_skill: NDArray[np.float64]
    weight: NDArray[np.float64]
    trades: int


def acceptance_config(**changes: float) -> Config:
    return change_config(Config(), {**SETTINGS, **{f"trader.{name}": value for name, value in changes.items()}})


CONFIG = acceptance_config()


def daily(run: Run) -> NDArray[np.float64]:
    equity = run.days["equity"]
    return np.asarray(equity / np.concatenate(([10_000.0], equity[:-1])) - 1.0)


def live_both(kind: str, seed: int, *, b: float, half_life: float = 120.0, days: int = 365) -> Pair:
    """The trader and the oracle through one market."""
    market = make_planted_market(kind, seed, b=b, half_life=half_life, days=days)
    run = simulate(market, CONFIG, COSTS)
    knowing = simulate(market, CONFIG, COSTS, foreign=oracle(market, ORACLE_SLOPE[kind]), trust=True)
    skill, known = (np.diff(own.days["skill"], prepend=0.0) for own in (run, knowing))
    weight = np.diff(run.days["weight"], prepend=0.0)
    return Pair(daily(run), daily(knowing), skill, known, weight, len(run.trades))


def skill_share(pairs: list[Pair], first: int = 0, last: int = 10_000) -> float:
    """Skill of the learner over that of the oracle on the days [first, last), summed over markets."""
    own = sum(float(pair.learner_skill[first:last].sum()) for pair in pairs)
    return own / sum(float(pair.oracle_skill[first:last].sum()) for pair in pairs)


def sharpe_share(pairs: list[Pair]) -> float:
    """Mean Sharpe ratio of the learner over that of the oracle."""
    return sum(sharpe_ratio(pair.learner) for pair in pairs) / sum(sharpe_ratio(pair.oracle) for pair in pairs)


def at_least(name: str, what: str, value: float, must: float, stretch: float) -> Row:
    return Row(name, what, f"≥ {must:g}", f"≥ {stretch:g}", f"{value:.2f}", value >= must, value >= stretch)


def at_most(name: str, what: str, value: float, must: float, stretch: float, text: str = "{:.2f}") -> Row:
    return Row(name, what, f"≤ {must:g}", f"≤ {stretch:g}", text.format(value), value <= must, value <= stretch)


# -- A: nothing to find -----------------------------------------------------------------------------------------------


def null_rows(seeds: int, *, days: int = 365) -> Iterator[Row]:
    trades, finals, lost, z_scores = [], [], [], []
    for seed in range(4101, 4101 + seeds):
        run = simulate(make_planted_market("null", seed, days=days), CONFIG, COSTS)
        trades.append(len(run.trades))
        finals.append(run.final_equity / 10_000.0)
        lost.append(-1000.0 * float(run.days["skill"][-1] / run.days["weight"][-1]))
        if len(run.trades):
            z_scores.append(free_lunch(run))
    yield at_most("A1", "noise: median trades a year", float(np.median(trades)), 20, 0, "{:.0f}")
    yield at_most("A1", "noise: markets with more than 300 trades", sum(n > 300 for n in trades), 0, 0, "{:.0f}")
    yield at_least("A2", "noise: mean final equity", float(np.mean(finals)), 0.98, 0.995)
    yield at_least("A2", "noise: worst final equity", min(finals), 0.90, 0.95)
    if z_scores:
        yield at_most("A2b", "noise: worst (loss − costs)/σ of a trading market", max(z_scores), 3, 3)
        yield at_most("A2b", "noise: |mean| of it", abs(float(np.mean(z_scores))), 1, 1)
    yield at_most("A3", "noise: mean skill lost, millinats", float(np.mean(lost)), 0.20, 0.08)


def free_lunch(run: Run) -> float:
    """(loss − costs paid)/σ of all trades: far from 0, fills would be worse or better than chance allows."""
    rows = run.trades
    notional = rows["quantity"] * rows["entry_price"]
    half = 0.5 * float(np.mean(COSTS.spread))
    paid = rows["commission"] + half * notional * (1.0 + rows["exit_price"] / rows["entry_price"])
    gross = rows["net_pnl"] + paid
    risk = notional * rows["distance"]
    results = gross / risk
    return float(-gross.sum() / math.sqrt(float((risk**2).sum()) * float((results**2).mean())))


# -- B to E: something to find ----------------------------------------------------------------------------------------


def momentum_rows(seeds: int) -> Iterator[Row]:
    pairs = [live_both("momentum", seed, b=0.02) for seed in range(4201, 4201 + seeds)]
    yield at_least("B1", "momentum: skill share, year", skill_share(pairs), 0.85, 0.93)
    yield at_least("B1", "momentum: skill share, days 240–365", skill_share(pairs, 240), 0.90, 0.97)
    yield at_least("B2", "momentum: Sharpe share", sharpe_share(pairs), 0.70, 0.90)
    yield at_least("B3", "momentum: skill share, days 30–60", skill_share(pairs, 30, 60), 0.65, 0.85)


def regime_rows(seeds: int) -> Iterator[Row]:
    pairs = [live_both("regime", seed, b=0.03) for seed in range(4301, 4301 + seeds)]
    yield at_least("C1", "regime: skill share", skill_share(pairs), 0.50, 0.60)
    yield at_least("C2", "regime: Sharpe share", sharpe_share(pairs), 0.48, 0.65)
    yield at_most("C3", "regime: days to the first 5 with half the skill", days_to_half(pairs), 13, 7, "{:.0f}")
    yield at_least("C3", "regime: skill share, days 25–45 of a block", share_since_switch(pairs, 25, 45), 0.75, 0.88)


def share_since_switch(pairs: list[Pair], first: int, last: int) -> float:
    """Skill share over the days [first, last) after every switch to an edge."""
    own = known = 0.0
    for pair in pairs:
        for start in range(0, pair.weight.size, BLOCK_DAYS):
            days = slice(start + first, min(start + last, start + BLOCK_DAYS))
            own += float(pair.learner_skill[days].sum())
            known += float(pair.oracle_skill[days].sum())
    return own / known


def days_to_half(pairs: list[Pair]) -> int:
    """The first day after a switch that begins five with at least half of the oracle's skill."""
    for day in range(BLOCK_DAYS - 5):
        if share_since_switch(pairs, day, day + 5) >= 0.5:
            return day
    return BLOCK_DAYS


def context_rows(seeds: int) -> Iterator[Row]:
    pairs = [live_both("context", seed, b=0.02) for seed in range(4401, 4401 + seeds)]
    yield at_least("D1", "context: skill share", skill_share(pairs), 0.30, 0.50)
    yield at_least("D1", "context: Sharpe share", sharpe_share(pairs), 0.22, 0.60)


def variant_rows(seeds: int) -> Iterator[Row]:
    reversion = [live_both("momentum", seed, b=-0.02) for seed in range(2501, 2501 + seeds)]
    yield at_least("E1", "reversion: skill share", skill_share(reversion), 0.80, 0.92)
    slow = [live_both("momentum", seed, b=0.02, half_life=480.0) for seed in range(2601, 2601 + seeds)]
    yield at_least("E1", "slow momentum: skill share", skill_share(slow), 0.80, 0.92)


# -- F: a stream of labels with known probabilities -------------------------------------------------------------------

STREAM, DELAY, FLIPS, WINDOW = 60_000, 400, (20_000, 40_000), 500


def stream_rows(seeds: int) -> Iterator[Row]:
    """The product's own experts on 16 features of noise, of which three tell: how many labels until half is known."""
    saved = np.zeros((seeds, STREAM))
    known = np.zeros((seeds, STREAM))
    regrets = []
    for number in range(seeds):
        saved[number], known[number] = stream_of(2701 + number, 0.2)
        nothing, _ = stream_of(2801 + number, 0.0)
        regrets.append(-float(nothing.sum()))
    share = moving_mean(saved.sum(axis=0)) / moving_mean(known.sum(axis=0))
    scratch_labels = int(np.argmax(share >= 0.5)) + WINDOW
    flipped = share[FLIPS[0] :]
    fallen = int(np.argmax(flipped < 0.5))
    flip_labels = fallen + int(np.argmax(flipped[fallen:] >= 0.5)) + WINDOW
    yield at_most("F1", "stream: labels to half the skill", scratch_labels, 1_500, 800, "{:.0f}")
    yield at_most("F1", "stream: labels to half after a flip", flip_labels, 4_500, 2_500, "{:.0f}")
    yield at_most("F1", "stream of noise: mean regret, nats", float(np.mean(regrets)), 8, 4)


def moving_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.convolve(values, np.ones(WINDOW) / WINDOW, mode="valid")


def stream_of(seed: int, norm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expected log-loss saved against a coin (nats) by the learner and by the truth, at every label."""
    random = np.random.Generator(np.random.PCG64(seed))
    x = np.clip(random.standard_normal((STREAM, FEATURE_COUNT)), -4.0, 4.0)
    theta = np.zeros(FEATURE_COUNT)
    own = random.standard_normal(3)
    theta[2:5] = norm * own / np.linalg.norm(own)
    sign = np.ones(STREAM)
    sign[FLIPS[0] : FLIPS[1]] = -1.0
    truth = 1.0 / (1.0 + np.exp(-sign * (x @ theta)))
    labels = (random.random(STREAM) < truth).astype(np.float64)
    saved, known = np.empty(STREAM), np.empty(STREAM)
    state = new_state(_stream_settings(), 1)
    _stream(state.common[0], x, truth, labels, saved, known, np.empty((DELAY, EXPERT_COUNT)), *scratch())
    return saved, known


def _stream_settings() -> object:
    from labkit.trader.state import settings_of

    return settings_of(CONFIG.trader, 1)


@compiled
def _stream(
    common: object, x: object, truth: object, labels: object, saved: object, known: object, said: object,
    factor: object, step: object,
) -> None:  # fmt: skip
    count = truth.size
    p = np.empty(count)
    for t in range(count):
        if t >= DELAY:
            old = t - DELAY
            learn(common, x[old], labels[old], p[old], said[old % DELAY], 1.0)
            if t % 20 == 0:
                refit(common, factor, step)
        p[t] = predict(common, x[t], said[t % DELAY])
        saved[t] = math.log(2.0) - log_loss(p[t], truth[t])
        known[t] = math.log(2.0) - log_loss(truth[t], truth[t])


# -- G: speed, cost, other models -------------------------------------------------------------------------------------


def speed_rows(_seeds: int) -> Iterator[Row]:
    market = make_planted_market("momentum", 4201, b=0.02)
    took = []
    for _ in range(6):
        before = time.process_time()
        simulate(market, CONFIG, COSTS)
        took.append(time.process_time() - before)
    yield at_most("G1", "a year of five symbols, learning and trading, CPU s", min(took), 0.7, 0.3)


def cost_rows(_seeds: int) -> Iterator[Row]:
    for kind, seed, b in (("momentum", 4201, 0.02), ("regime", 4301, 0.03)):
        market = make_planted_market(kind, seed, b=b)
        trades = []
        for round_trip in (0.0, 0.0003, 0.0006, 0.0009, 0.0012, 0.0018, 0.0024):
            costs = Costs(taker_fee=round_trip * 5 / 12, slippage=0.0, spread=round_trip / 6)
            run = simulate(market, acceptance_config(taker_fee_rate=costs.taker_fee), costs)
            trades.append(int(run.account["entries"][0]))
        falling = all(a >= b for a, b in pairwise(trades))
        told = " ".join(map(str, trades))
        yield Row("G4", f"{kind}: trades at 0 3 6 9 12 18 24 bp never rise", "yes", "yes", told, falling, falling)


def foreign_rows(seeds: int) -> Iterator[Row]:
    """Half as many markets as of the other kinds, at least one: each costs half a minute of trees."""
    finals = []
    for seed in range(2901, 2901 + max(1, seeds // 2)):
        market = make_planted_market("null", seed)
        asked = asked_through(BacktestResult("", market, CONFIG, COSTS, simulate(market, CONFIG, COSTS)))
        foreign = foreign_of(asked.questions, lightgbm_probabilities(asked), *market.rows.shape[:2])
        finals.append(simulate(market, CONFIG, COSTS, foreign=foreign).final_equity / 10_000.0)
    what = f"noise: weekly LightGBM through our slope, worst of {len(finals)}"
    yield at_least("G5", what, min(finals), 0.90, 0.98)


ROWS: dict[str, Callable[[int], Iterator[Row]]] = {
    "A": lambda seeds: null_rows(2 * seeds),
    "B": momentum_rows,
    "C": regime_rows,
    "D": context_rows,
    "E": variant_rows,
    "F": lambda seeds: stream_rows(2 * seeds),
    "G1": speed_rows,
    "G4": cost_rows,
    "G5": foreign_rows,
}


# -- G3: what each part is worth --------------------------------------------------------------------------------------


class Ablation(NamedTuple):
    """Lines of the package and what stands in their place; every one must be found exactly once."""

    name: str
    changes: tuple[tuple[str, str, str], ...]


DECIDED = "            if decisions.size > 0:\n                note = decisions[decided]"
ABLATIONS = (
    Ablation("as it is", ()),
    Ablation(
        "one slow model",
        (
            (
                "trader/learner.py",
                "_WIDTHS = np.array([len(expert.features) for expert in EXPERTS])",
                '_WIDTHS = np.array([len(e.features) if e.name == "full" else 0 for e in EXPERTS])',
            ),
        ),
    ),
    Ablation(
        "no overlap weight",
        (("trader/virtual_positions.py", "pair.weight = 1.0 / symbol.pairs", "pair.weight = 1.0"),),
    ),
    Ablation(
        "close what is under water",
        (
            (
                "research/simulation.py",
                "if asked and prefers_other_side(p, position.side):",
                "if (position.last_price - position.entry_price) * position.side < 0.0:",
            ),
        ),
    ),
    Ablation(
        "learn from executed trades only",
        (
            (
                "research/simulation.py",
                DECIDED,
                "            if asked and outcome != ENTERED:\n"
                "                symbol.pairs -= 1\n"
                "                symbol.pending = 0\n" + DECIDED,
            ),
        ),
    ),
    Ablation(
        "… with 5 % exploration",
        (
            (
                "research/simulation.py",
                DECIDED,
                "            if asked and outcome != ENTERED:\n"
                "                if position.side == 0 and (minute * 7919 + s * 104729) % 10007 < 500:\n"
                "                    way = 1 if (minute * 31 + s) % 2 == 0 else -1\n"
                "                    want(terms, position, s, way, 0.5, barrier, worth, symbol.last_close)\n"
                "                else:\n"
                "                    symbol.pairs -= 1\n"
                "                    symbol.pending = 0\n" + DECIDED,
            ),
        ),
    ),
)
PROBE = """
import sys
sys.path.insert(0, {root!r})
from benchmarks.learning import COSTS, CONFIG, daily, simulate, make_planted_market, sharpe_ratio
for kind, first, b in (("null", 4101, 0.0), ("momentum", 4201, 0.02), ("regime", 4301, 0.03), ("context", 4401, 0.02)):
    runs = [simulate(make_planted_market(kind, seed, b=b), CONFIG, COSTS) for seed in range(first, first + {seeds})]
    equity = sum(run.final_equity for run in runs) / len(runs) / 10_000
    sharpe = sum(sharpe_ratio(daily(run)) for run in runs) / len(runs)
    print(kind, equity, sharpe, sum(len(run.trades) for run in runs) / len(runs))
"""


def ablate(seeds: int) -> None:
    """Print what the trader comes to without each of its parts: mean equity on noise, mean Sharpe ratio elsewhere."""
    print(f"\nG3: one part away at a time, {seeds} seeds each; Sharpe ratios (trades)\n")
    print(f"{'':34}{'noise: equity':>20}{'momentum':>18}{'regime':>18}{'context':>18}{'mean':>8}")
    whole = None
    for ablation in ABLATIONS:
        figures = _figures_of(ablation, seeds)
        mean = float(np.mean([sharpe for kind, _, sharpe, _ in figures if kind != "null"]))
        cells = "".join(
            f"{equity if kind == 'null' else sharpe:>11.2f} ({trades:.0f})".rjust(20 if kind == "null" else 18)
            for kind, equity, sharpe, trades in figures
        )
        whole = mean if whole is None else whole
        verdict = "" if not ablation.changes else ("   loses" if mean < whole else "   DOES NOT LOSE")
        print(f"{ablation.name:34}{cells}{mean:>8.2f}{verdict}", flush=True)


def _figures_of(ablation: Ablation, seeds: int) -> list[tuple[str, float, float, float]]:
    package = Path(labkit.__file__).parent
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        shutil.copytree(
            package, root / "labkit", ignore=shutil.ignore_patterns("__pycache__" if ablation.changes else "")
        )
        shutil.copytree(Path(__file__).parent, root / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
        for file, line, instead in ablation.changes:
            path = root / "labkit" / file
            source = path.read_text()
            if source.count(line) != 1:
                raise SystemExit(f"{ablation.name}: {file} has {source.count(line)} times the line {line!r}")
            path.write_text(source.replace(line, instead))
        code = PROBE.format(root=str(root), seeds=seeds)
        environment = {**os.environ, "PYTHONPATH": str(root)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
    rows = [line.split() for line in done.stdout.splitlines()]
    return [(kind, float(equity), float(sharpe), float(trades)) for kind, equity, sharpe, trades in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="markets of each kind; noise has twice as many")
    parser.add_argument("--rows", default=",".join(ROWS), help="letters of the rows, with commas")
    parser.add_argument("--ablations", type=int, default=0, metavar="SEEDS", help="also take parts away")
    options = parser.parse_args()
    print(f"{'row':5}{'':52}{'must':>10}{'stretch':>10}  measured")
    for letter in filter(None, options.rows.split(",")):
        for row in ROWS[letter](options.seeds):
            mark = "✓✓" if row.stretched else "✓" if row.passed else "MISSED"
            print(f"{row.name:5}{row.what:52}{row.must:>10}{row.stretch:>10}  {row.measured} {mark}", flush=True)
    if options.ablations:
        ablate(options.ablations)


if __name__ == "__main__":
    main()
