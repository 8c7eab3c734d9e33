"""sweep: many settings over one market, on all local cores or on a Dask cluster, and what each came to.

    table = labkit.sweep({"horizon_minutes": [60, 120, 240], "cost_margin": [0.0, 0.25]}, symbols, start, end)
    table.frame, table.heat_map("horizon_minutes", "cost_margin")

Every point is one run of `backtest`, a pure function of settings and market: the table is the same from any number of
workers. A point that is done is on disk before the next one is told of: a killed worker costs the point it was at, a
power cut nothing that was told. `search` chooses its points itself (Optuna), over the same evaluation and journal.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from labkit.config import SECTIONS, Config, to_plain
from labkit.domain.decisions import LEARNER
from labkit.domain.moments import Moment
from labkit.domain.slips import slips_answered
from labkit.edge.progress import progress_bar
from labkit.errors import ConfigError, LabkitError
from labkit.market.lake import LAKE_FOLDER
from labkit.research import units
from labkit.research.arguments import check_count, check_grid, check_space, check_spread
from labkit.research.backtest import (
    DEFAULT_SPREAD_BPS,
    BacktestResult,
    Data,
    configured,
    data_folder,
    market_of,
    with_settings,
)
from labkit.research.brokerage import Finer
from labkit.research.markets import Market
from labkit.research.simulation import costs_of, simulate
from labkit.research.tables import frame_html
from labkit.research.trials import Kind, Trial, TrialLedger
from labkit.research.units import SUMMARY, with_units
from labkit.store.journal import Journal, Record

if TYPE_CHECKING:
    import pandas as pd

    from labkit.research.pictures import Picture

POINT = "SweepPoint"
GIVE_UP_AFTER = 3
"""So many times in a row the workers may die without finishing a single point."""

Point = Mapping[str, float]


class Outcome(msgspec.Struct, frozen=True):
    """What one point came to: the figures of `BacktestResult.summary` and float64[D] daily returns as bytes."""

    point: dict[str, int | float]
    config_hash: str
    summary: dict[str, float]
    daily_returns: bytes

    @property
    def returns(self) -> NDArray[np.float64]:
        return np.frombuffer(self.daily_returns, np.float64)


class SweepResult:
    """All points in the order of the grid (or of the search)."""

    def __init__(self, market: Market, outcomes: Sequence[Outcome]) -> None:
        self.market = market
        self.outcomes = tuple(outcomes)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per point: its settings, then the figures of `BacktestResult.summary`."""
        import pandas as pd

        table = pd.DataFrame([{**outcome.point, **outcome.summary} for outcome in self.outcomes])
        return with_units(table, units.SUMMARY, otherwise=units.SETTING)

    @property
    def daily_returns(self) -> NDArray[np.float64]:
        """float64[D, points]: what the verdict on the best of many is computed from."""
        return np.stack([outcome.returns for outcome in self.outcomes], axis=1)

    def best(self, by: str = "sharpe") -> dict[str, float]:
        """The settings of the point with the highest figure; the first of equals. The best of many is lucky too."""
        values = [outcome.summary[by] for outcome in self.outcomes]
        return dict(self.outcomes[int(np.nanargmax(values))].point)

    def heat_map(self, x: str, y: str, value: str = "sharpe") -> Picture:
        """`value` over two settings, averaged over the others."""
        from labkit.research.pictures import heat_map

        return heat_map(self.frame, x, y, value)

    def __repr__(self) -> str:
        return f"<SweepResult of {len(self.outcomes)} points over {self.market.span}>"

    def _repr_html_(self) -> str:
        frame = self.frame
        sharpe = frame["sharpe"].to_numpy()
        best = int(np.nanargmax(sharpe)) if np.isfinite(sharpe).any() else -1
        return frame_html(frame, caption=f"{len(frame)} points over {self.market.span}", marked=best)


@slips_answered(sections=SECTIONS)
def sweep(
    grid: Mapping[str, Sequence[float]],
    symbols: Sequence[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    *,
    data: Data = LAKE_FOLDER,
    interval: str = "1m",
    trader: Mapping[str, Any] | None = None,
    risk: Mapping[str, Any] | None = None,
    spread_bps: float = DEFAULT_SPREAD_BPS,
    workers: int | None = None,
    scheduler: str | None = None,
    journal: Path | str | None = None,
    progress: bool = True,
) -> SweepResult:
    """Backtest every combination of `grid`.

    Args:
        grid: values by setting: names of the section `trader` (`horizon_minutes`), dotted names of any other
            (`risk.max_open_positions`), or `spread_bps`.
        symbols, start, end, data, interval, trader, risk, spread_bps: as in `backtest`.
        workers: local processes; all cores if None, none at all (this very process) if 0.
        scheduler: address of a Dask cluster to use instead, e.g. `tcp://127.0.0.1:8786`.
        journal: file that keeps what is done, so that the same sweep goes on after a kill; nothing is kept if None.
        progress: show a bar, in a terminal or a notebook.

    Raises:
        ConfigError: a setting nobody knows; told before anything runs.
    """
    check_grid(grid)
    check_spread(spread_bps)
    if workers is not None:
        check_count("workers", workers, 0)
    config = configured(symbols, trader, risk)
    market = market_of(data, config, start, end, interval, given=symbols is not None)
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    task = Task(config, market, spread_bps)
    for point in points:
        task.check(point)
    with _kept(journal, task, "sweep") as done, progress_bar("sweep", "point", len(points), shown=progress) as bar:
        todo = [point for point in points if _key(point) not in done]
        bar.update(len(points) - len(todo))
        for outcome in _evaluated(task, todo, workers, scheduler):
            done.add(outcome)
            bar.update(1)
        return SweepResult(market, [done[_key(point)] for point in points])


@slips_answered(sections=SECTIONS)
def search(
    space: Mapping[str, tuple[float, float]],
    symbols: Sequence[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    *,
    points: int = 50,
    by: str = "sharpe",
    seed: int = 1,
    data: Data = LAKE_FOLDER,
    interval: str = "1m",
    trader: Mapping[str, Any] | None = None,
    risk: Mapping[str, Any] | None = None,
    spread_bps: float = DEFAULT_SPREAD_BPS,
    journal: Path | str | None = None,
    progress: bool = True,
) -> SweepResult:
    """Let Optuna choose `points` settings between the bounds of `space`, each after the last one's result.

    Whole bounds make whole numbers. One after the other in this process, so that a seed means the same points
    everywhere. Every point is a trial as in `sweep`.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("`search` needs Optuna: pip install optuna") from error
    check_space(space)
    check_spread(spread_bps)
    check_count("points", points, 1)
    if by not in SUMMARY:
        raise ConfigError(f"by: {by!r} is no figure of a backtest; one of {', '.join(SUMMARY)}", field="by")
    config = configured(symbols, trader, risk)
    market = market_of(data, config, start, end, interval, given=symbols is not None)
    task = Task(config, market, spread_bps)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    chosen: list[Outcome] = []
    with _kept(journal, task, "search") as done, progress_bar("search", "point", points, shown=progress) as bar:
        for _ in range(points):
            trial = study.ask()
            point: dict[str, float] = {}
            for name, (low, high) in space.items():
                if isinstance(low, int) and isinstance(high, int):
                    point[name] = trial.suggest_int(name, low, high)
                else:
                    point[name] = trial.suggest_float(name, low, high)
            if _key(point) not in done:
                done.add(task(point))
            outcome = done[_key(point)]
            study.tell(trial, outcome.summary[by])
            chosen.append(outcome)
            bar.update(1)
    return SweepResult(market, chosen)


class Task:
    """One market and the settings all points share: calling it with a point gives its outcome."""

    def __init__(self, config: Config, market: Market, spread_bps: float) -> None:
        self.config = config
        self.market = market
        self.spread_bps = spread_bps

    def check(self, point: Point) -> None:
        """Raise `ConfigError` for a point that no backtest could run."""
        self._of(point)

    def _of(self, point: Point) -> tuple[Config, float]:
        settings = dict(point)
        spread_bps = settings.pop("spread_bps", self.spread_bps)
        return with_settings(self.config, settings), spread_bps

    def __call__(self, point: Point) -> Outcome:
        config, spread_bps = self._of(point)
        costs = costs_of(config, spread_bps * 1e-4)
        run = simulate(self.market, config, costs)
        result = BacktestResult(LEARNER, self.market, config, costs, run)
        return Outcome(dict(point), result.config_hash, result.summary, result.daily_returns.tobytes())

    @property
    def fingerprint(self) -> str:
        """A hash of all that the points have in common."""
        plain = (self.market.data_hash, to_plain(self.config), self.spread_bps)
        return hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).hexdigest()[:32]


def _key(point: Point) -> str:
    return msgspec.json.encode(dict(point), order="deterministic").decode()


# -- where it runs ----------------------------------------------------------------------------------------------------


def _evaluated(task: Task, points: Sequence[Point], workers: int | None, scheduler: str | None) -> Iterator[Outcome]:
    if scheduler is not None:
        return _on_cluster(task, points, scheduler)
    count = min(len(points), workers if workers is not None else os.cpu_count() or 1)
    return _on_cores(task, points, count) if count > 0 else map(task, points)


def _on_cores(task: Task, points: Sequence[Point], workers: int) -> Iterator[Outcome]:
    """Processes of their own, so that one that dies takes only its point with it, which another then does again."""
    with tempfile.TemporaryDirectory(prefix="labkit-sweep-") as name:
        folder = Path(name)
        _write_market(folder, task.market)
        left = {_key(point): point for point in points}
        deaths = 0
        while left:
            # A new interpreter each: forking a kernel with threads would copy locked locks.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, context, _begin_work, (folder, task.config, task.spread_bps)) as pool:
                futures: dict[Future[Outcome], str] = {pool.submit(_work, point): key for key, point in left.items()}
                try:
                    for future in as_completed(futures):
                        outcome = future.result()
                        del left[futures[future]]
                        deaths = 0
                        yield outcome
                except BrokenProcessPool as error:
                    deaths += 1
                    if deaths >= GIVE_UP_AFTER:
                        raise LabkitError(
                            f"the workers died {deaths} times without finishing a point; {len(left)} points are left "
                            "(not enough memory? try fewer workers)"
                        ) from error


_task: Task | None = None


def _begin_work(folder: Path, config: Config, spread_bps: float) -> None:
    global _task
    _task = Task(config, _read_market(folder), spread_bps)


def _work(point: Point) -> Outcome:
    assert _task is not None
    return _task(point)


def _on_cluster(task: Task, points: Sequence[Point], address: str) -> Iterator[Outcome]:
    try:
        from distributed import Client
        from distributed import as_completed as as_done
    except ImportError as error:
        raise ConfigError("a `scheduler` needs Dask: pip install 'labkit[cluster]'", field="scheduler") from error
    try:
        client: Any = Client(address)  # type: ignore[no-untyped-call]
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"scheduler {address!r}: no Dask cluster answers there ({error}); `dask scheduler` prints its address",
            field="scheduler",
        ) from error
    with client:
        shared = client.scatter(task, broadcast=True)
        futures = [client.submit(_call, shared, point, pure=False, retries=GIVE_UP_AFTER) for point in points]
        for future in as_done(futures):  # type: ignore[no-untyped-call]
            yield future.result()


def _call(task: Task, point: Point) -> Outcome:
    return task(point)


_ARRAYS = ("minutes", "rows", "funding_minutes", "funding_rates")


def _write_market(folder: Path, market: Market) -> None:
    parts = {name: getattr(market, name) for name in _ARRAYS}
    parts |= market.finer._asdict() if market.finer else {}
    for name, part in parts.items():
        np.save(folder / f"{name}.npy", part)
    (folder / "market.json").write_bytes(msgspec.json.encode((market.symbols, market.span_minutes, market.source)))


def _read_market(folder: Path) -> Market:
    symbols, span_minutes, source = msgspec.json.decode((folder / "market.json").read_bytes())
    # Mapped, so that all workers share one copy; "c" because memory that may not be written is another type to numba.
    arrays = {path.stem: np.load(path, mmap_mode="c").view(np.ndarray) for path in folder.glob("*.npy")}
    finer = Finer(*(arrays[name] for name in Finer._fields)) if "time_ms" in arrays else None
    return Market(
        symbols=tuple(symbols),
        **{name: arrays[name] for name in _ARRAYS},
        span_minutes=span_minutes,
        finer=finer,
        source=source,
    )


# -- what is kept -----------------------------------------------------------------------------------------------------


class _Done:
    """Outcomes by point, on disk before they are told of where there is a journal."""

    def __init__(self, journal: Journal | None, task: Task) -> None:
        self._journal = journal
        self._task = task
        self._outcomes: dict[str, Outcome] = {}
        if journal is not None:
            prefix = self._record_key("")
            for record in journal.read():
                if record.kind == POINT and record.key.startswith(prefix):
                    outcome = msgspec.msgpack.decode(record.body, type=Outcome)
                    self._outcomes[_key(outcome.point)] = outcome

    def __contains__(self, key: str) -> bool:
        return key in self._outcomes

    def __getitem__(self, key: str) -> Outcome:
        return self._outcomes[key]

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self._outcomes.values())

    def add(self, outcome: Outcome) -> None:
        key = _key(outcome.point)
        if self._journal is not None:
            time_ms = self._task.market.end_ms  # of the market: whoever runs the sweep when, it is the same record
            record = Record(time_ms, POINT, self._record_key(key), msgspec.msgpack.encode(outcome))
            self._journal.append([record])
        self._outcomes[key] = outcome

    def _record_key(self, key: str) -> str:
        return f"{self._task.fingerprint}/{key}"


@contextlib.contextmanager
def _kept(path: Path | str | None, task: Task, kind: Kind) -> Iterator[_Done]:
    """What is done, from the journal and from now on; however this ends, every point of it has been counted."""
    folder, window = data_folder(task.config), task.market.window
    with TrialLedger(folder) as ledger:
        ledger.admit(window)
    with contextlib.ExitStack() as stack:
        journal = None
        if path is not None:
            journal = Journal.open(Path(path))
            stack.callback(journal.close)
        done = _Done(journal, task)
        try:
            yield done
        finally:
            trials = [Trial(window, kind, outcome.config_hash, outcome.returns) for outcome in done]
            with TrialLedger(folder) as ledger:
                ledger.record(*trials)
