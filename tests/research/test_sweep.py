"""Sweeps: the same table from any number of workers, through kills and power cuts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from labkit.errors import ConfigError, LabkitError
from labkit.research import sweep as sweeping
from labkit.research.backtest import backtest, configured
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.research.sweep import SweepResult, Task, search, sweep
from labkit.store.journal import Journal

BASE = {"warm_up_minutes": 600, "cold_start_labels": 50, "decision_every_minutes": 15}
GRID: dict[str, Sequence[float]] = {"horizon_minutes": [30, 60, 120], "spread_bps": [0.0, 2.0]}
SEED = 851


def make() -> Market:
    return make_planted_market("momentum", SEED, days=8, symbols=2, b=0.15)


@pytest.fixture(scope="module")
def market() -> Market:
    return make()


@pytest.fixture(scope="module")
def here(market: Market) -> SweepResult:
    return sweep(GRID, data=market, trader=BASE, workers=0, progress=False)


def same(one: SweepResult, other: SweepResult) -> bool:
    return one.frame.equals(other.frame) and np.array_equal(one.daily_returns, other.daily_returns)


def test_every_combination_is_one_backtest_in_the_order_of_the_grid(market: Market, here: SweepResult) -> None:
    assert list(here.frame["horizon_minutes"]) == [30, 30, 60, 60, 120, 120]
    alone = backtest(data=market, trader={**BASE, "horizon_minutes": 60}, spread_bps=2.0)
    assert here.frame.iloc[3]["return"] == alone.summary["return"] != here.frame.iloc[2]["return"]
    assert np.array_equal(here.daily_returns[:, 3], alone.daily_returns)
    assert here.best() == dict(here.outcomes[int(here.frame["sharpe"].argmax())].point)


def test_two_workers_make_the_same_table_even_if_one_is_killed(market: Market, here: SweepResult) -> None:
    task = Task(configured(None, BASE), market, 1.0)
    points = [dict(outcome.point) for outcome in here.outcomes]
    outcomes, killed = [], 0
    for outcome in sweeping._on_cores(task, points, 2):
        outcomes.append(outcome)
        if not killed:
            workers = [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]
            killed = workers[0].pid
            os.kill(killed, signal.SIGKILL)
    assert killed
    order = {sweeping._key(outcome.point): outcome for outcome in outcomes}
    assert len(order) == len(outcomes) == len(points)
    assert same(SweepResult(market, [order[sweeping._key(point)] for point in points]), here)


@pytest.mark.deep
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_makes_the_same_table(market: Market, here: SweepResult, workers: int) -> None:
    assert same(sweep(GRID, data=market, trader=BASE, workers=workers, progress=False), here)


def test_workers_that_only_die_are_given_up_with_a_reason(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    class Deadly(Task):
        """A point that ends the process it is computed in."""

    monkeypatch.setattr(sweeping, "_begin_work", os._exit)  # the folder is no exit status: dies while starting
    task = Deadly(configured(None, BASE), market, 1.0)
    with pytest.raises(LabkitError, match="fewer workers"):
        list(sweeping._on_cores(task, [{"horizon_minutes": 30.0}], 1))


SCRIPT = """
    from tests.research.test_sweep import BASE, GRID, make
    from labkit.research.sweep import sweep
    sweep(GRID, data=make(), trader=BASE, workers=0, journal={journal!r}, progress=False)
"""


def test_after_a_power_cut_the_same_sweep_goes_on_where_it_was(
    here: SweepResult, market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "sweep.sqlite"
    # A point is told of only after it is on disk: the process is killed inside the third evaluation.
    code = textwrap.dedent(SCRIPT.format(journal=str(journal))).replace(
        "sweep(GRID",
        "import os, signal; from labkit.research.sweep import Task; call, done = Task.__call__, []\n"
        "def counted(task, point):\n"
        "    done.append(point)\n"
        "    return os.kill(os.getpid(), signal.SIGKILL) if len(done) == 3 else call(task, point)\n"
        "Task.__call__ = counted\n"
        "sweep(GRID",
        1,
    )
    root = Path(__file__).resolve().parents[2]
    cut = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False
    )
    assert cut.returncode == -signal.SIGKILL
    assert Journal.open(journal, read_only=True).sequence == 2

    evaluated: list[object] = []
    call = Task.__call__
    monkeypatch.setattr(Task, "__call__", lambda task, point: evaluated.append(point) or call(task, point))
    again = sweep(GRID, data=market, trader=BASE, workers=0, journal=journal, progress=False)
    assert len(evaluated) == 4
    assert same(again, here)
    sweep(GRID, data=market, trader={**BASE, "cost_margin": 0.5}, workers=0, journal=journal, progress=False)
    assert len(evaluated) == 10  # other settings are another sweep, in the same journal


def test_a_setting_nobody_knows_is_told_before_anything_runs(market: Market) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        sweep({"horizon": [1, 2]}, data=market, workers=0, progress=False)


def test_a_heat_map_names_its_highest_point(here: SweepResult) -> None:
    picture = here.heat_map("horizon_minutes", "spread_bps", "trades")
    best = here.frame.sort_values("trades").iloc[-1]
    assert f"horizon_minutes {best['horizon_minutes']:.0f}" in picture.description
    assert picture._repr_png_()[0].startswith(b"\x89PNG")


def test_a_search_with_the_same_seed_visits_the_same_points_and_goes_on_from_its_journal(
    market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    space = {"horizon_minutes": (15, 120), "cost_margin": (0.0, 1.0)}
    first = search(space, data=market, trader=BASE, points=5, journal=tmp_path / "j.sqlite", progress=False)
    evaluated: list[object] = []
    call = Task.__call__
    monkeypatch.setattr(Task, "__call__", lambda task, point: evaluated.append(point) or call(task, point))
    more = search(space, data=market, trader=BASE, points=6, journal=tmp_path / "j.sqlite", progress=False)
    assert len(evaluated) == 1
    assert same(SweepResult(market, more.outcomes[:5]), first)
    assert all(isinstance(outcome.point["horizon_minutes"], int) for outcome in more.outcomes)


CLUSTER = """
    from distributed import LocalCluster
    from labkit.research.sweep import sweep
    from tests.research.test_sweep import BASE, GRID, make, same
    if __name__ == "__main__":
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            market = make()
            there = sweep(GRID, data=market, trader=BASE, scheduler=cluster.scheduler_address, progress=False)
        print(same(there, sweep(GRID, data=market, trader=BASE, workers=0, progress=False)))
"""


@pytest.mark.deep
def test_a_dask_cluster_makes_the_same_table(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    script = tmp_path / "cluster.py"
    script.write_text(textwrap.dedent(CLUSTER))
    root = Path(__file__).resolve().parents[2]
    told = subprocess.run(
        [sys.executable, script], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert told.stdout.strip().endswith("True"), told.stderr[-2000:]
