"""How long a look of the tuner takes, beside the bare run it is made of.

`python benchmarks/slider.py` makes a year of one-minute bars of five symbols (seeded) and moves one setting to a new
value again and again, as a slider does: the last ninety days while it is dragged, the year when it is let go. Most
settings only gate, size or guard, and meet what was learned before; three shape what is learned. A look
is the run, its curves, its score and the count of trials, with the verdict where it is the year; the ratio says how
many bare runs of the same bars it costs. What the browser needs to draw it comes on top and is not measured here.

The goals are 100 ms for a drag and 1 s for the year, wall time on an idle machine.
"""

from __future__ import annotations

import argparse
import queue
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np

from labkit.config import Config, change_config
from labkit.domain.clock import DAY_MS
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.research.simulation import costs_of, simulate
from labkit.research.slider import PREVIEW_DAYS
from labkit.research.tuning import Look, Tuning

PATIENCE_SECONDS = 120
GOALS_MS = {True: 100, False: 1_000}


def measured(work: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Wall milliseconds of `work`, median and 95th percentile, and the median CPU milliseconds of the process."""
    wall, cpu = [], []
    for _ in range(rounds):
        wall_before, cpu_before = time.perf_counter(), time.process_time()
        work()
        wall.append(1000 * (time.perf_counter() - wall_before))
        cpu.append(1000 * (time.process_time() - cpu_before))
    return float(np.median(wall)), float(np.percentile(wall, 95)), float(np.median(cpu))


def compare(
    tuning: Tuning,
    looks: queue.Queue[Look],
    market: Market,
    config: Config,
    rounds: int,
    setting: str,
    values: Iterator[float],
    *,
    preview: bool,
) -> None:
    def look() -> None:
        tuning.ask({setting: next(values)}, preview=preview)
        came = looks.get(timeout=PATIENCE_SECONDS)
        assert not came.error, came.error

    costs = costs_of(config, 1e-4)
    tuning.ask({}, preview=preview)
    looks.get(timeout=PATIENCE_SECONDS)
    look()
    simulate(market, config, costs)
    _, _, bare = measured(lambda: simulate(market, config, costs), rounds)
    median, slow, cpu = measured(look, rounds)
    title = f"{setting}, last {PREVIEW_DAYS} days" if preview else f"{setting}, the year"
    print(
        f"{title:30}{median:>9.0f}{slow:>9.0f}{GOALS_MS[preview]:>9}{cpu:>9.0f}{bare:>10.0f}{cpu / bare:>8.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    year = make_planted_market("momentum", 2201)
    last = year.between(start=year.end_ms - PREVIEW_DAYS * DAY_MS)
    values = (0.5 + 0.001 * step for step in count())
    print(f"{len(year.symbols)} symbols, {year.minutes.size:,} minutes; milliseconds")
    print(f"{'':30}{'p50 wall':>9}{'p95 wall':>9}{'goal':>9}{'CPU':>9}{'bare CPU':>10}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        # A folder of its own: what a benchmark tries is no trial of the user's.
        config = change_config(Config(), {"data_dir": folder})
        looks: queue.Queue[Look] = queue.Queue()
        tuning = Tuning(year, config, looks.put)
        try:
            for setting in ("cost_margin", "barrier_sigmas"):
                compare(tuning, looks, last, config, rounds, setting, values, preview=True)
                compare(tuning, looks, year, config, max(3, rounds // 4), setting, values, preview=False)
        finally:
            tuning.close()


if __name__ == "__main__":
    main()
