"""walk_forward: would the settings one would have chosen then have earned afterwards?

    result = labkit.walk_forward(["BTCUSDT"], "2023-01-01", "2025-07-01", interval="1h",
                                 grid={"horizon_minutes": [720, 1440]}, train_days=180, test_days=30)

The trader learns online and predicts before it learns, so one run over the whole history is honest for every setting.
What must not look ahead is the choice between settings: in every window it is made by what the training days showed,
and traded in the test days after them. Without a grid the configuration is frozen, and the windows only divide the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labkit.config import SECTIONS
from labkit.domain.clock import DAY_MS
from labkit.domain.moments import Moment, moment_text
from labkit.domain.slips import slips_answered
from labkit.errors import ConfigError
from labkit.market.lake import LAKE_FOLDER
from labkit.research import units
from labkit.research.backtest import (
    DEFAULT_SPREAD_BPS,
    BacktestResult,
    Data,
    backtest,
    configured,
    data_folder,
    market_of,
)
from labkit.research.baselines import SKILLED
from labkit.research.statistics import DAYS_PER_YEAR, sharpe_ratio, walk_forward_efficiency
from labkit.research.sweep import SweepResult, sweep
from labkit.research.tables import frame_html
from labkit.research.trials import Trial, TrialLedger
from labkit.research.units import with_units
from labkit.research.verdict import Verdict, judge

if TYPE_CHECKING:
    import pandas as pd

    from labkit.research.pictures import Picture


class WalkForwardResult:
    """Test windows one after the other, each traded with what its training days had chosen."""

    def __init__(self, points: SweepResult, train_days: int, test_days: int, frozen: BacktestResult) -> None:
        self.points = points
        self.train_days = train_days
        self.test_days = test_days
        self.frozen = frozen
        """The configuration itself, unchanged over the whole history, with its baselines."""
        self._first_day = points.market.start_ms // DAY_MS

    @cached_property
    def windows(self) -> pd.DataFrame:
        """One row per window: its days, the settings chosen, and Sharpe ratio and return in training and in test."""
        import pandas as pd

        rows = []
        for train, test, chosen in self._walk():
            inside, outside = (self.points.daily_returns[span, chosen] for span in (train, test))
            rows.append(
                {
                    "train": self._day(train.start),
                    "test": self._day(test.start),
                    "end": self._day(test.stop),
                    **self.points.outcomes[chosen].point,
                    "sharpe_train": sharpe_ratio(inside),
                    "sharpe_test": sharpe_ratio(outside),
                    "return_train": float(np.prod(1.0 + inside) - 1.0),
                    "return_test": float(np.prod(1.0 + outside) - 1.0),
                }
            )
        table = pd.DataFrame(rows)
        return with_units(table, {"train": "", "test": "", "end": "", **units.WINDOWS}, otherwise=units.SETTING)

    @cached_property
    def daily_returns(self) -> NDArray[np.float64]:
        """float64[D]: the test windows' days, one after the other: what following the procedure would have brought."""
        return np.concatenate([self.points.daily_returns[test, chosen] for _, test, chosen in self._walk()])

    @property
    def window_days(self) -> list[int]:
        """How many days each test window has."""
        return [test.stop - test.start for _, test, _ in self._walk()]

    @property
    def days(self) -> NDArray[np.datetime64]:
        """datetime64[D]: the UTC days of `daily_returns`."""
        first = self.points.daily_returns.shape[0] - self.daily_returns.size + self._first_day
        return np.arange(first, first + self.daily_returns.size).astype("M8[D]")

    @property
    def efficiency(self) -> float:
        """Walk-forward efficiency: mean return a day in the test windows over that in the training windows.

        1 is as good as promised, 0 is nothing of it; not a number where training promised nothing.
        """
        returns = self.points.daily_returns
        walk = self._walk()
        return walk_forward_efficiency(
            [returns[train, chosen] for train, _, chosen in walk], [returns[test, chosen] for _, test, chosen in walk]
        )

    @property
    def sharpe(self) -> float:
        """Annualised Sharpe ratio of all test days."""
        return sharpe_ratio(self.daily_returns)

    @cached_property
    def verdict(self) -> Verdict:
        """Is there an edge in following the procedure? In words, after all that was ever tried on this history."""
        first = self.points.daily_returns.shape[0] - self.daily_returns.size
        with TrialLedger(data_folder(self.frozen.config)) as ledger:
            trials = ledger.trials(self.points.market.window)
        tested = replace(trials, daily_returns=trials.daily_returns[first:])
        others = {own.name: own.daily_returns[first:] for own in self.frozen.baselines}
        return judge(self.daily_returns, others, tested, skilled=SKILLED)

    def plot(self) -> Picture:
        """Equity of the test windows, and Sharpe ratios in training and test side by side."""
        from labkit.research.pictures import walk_forward_picture

        return walk_forward_picture(self)

    def __repr__(self) -> str:
        annual = float(np.prod(1.0 + self.daily_returns)) ** (DAYS_PER_YEAR / self.daily_returns.size) - 1.0
        return (
            f"<WalkForwardResult {self.points.market.span}: {len(self.windows)} windows, Sharpe {self.sharpe:.2f}, "
            f"{annual:+.1%} a year, efficiency {self.efficiency:.2f}>"
        )

    def _repr_html_(self) -> str:
        return frame_html(self.windows, caption=self.points.market.span) + self.verdict._repr_html_()

    def _walk(self) -> list[tuple[slice, slice, int]]:
        returns = self.points.daily_returns
        found = []
        for start in range(0, returns.shape[0] - self.train_days, self.test_days):
            train = slice(start, start + self.train_days)
            test = slice(train.stop, min(train.stop + self.test_days, returns.shape[0]))
            scores = [sharpe_ratio(returns[train, k]) for k in range(returns.shape[1])]
            found.append((train, test, int(np.argmax(scores))))
        return found

    def _day(self, index: int) -> str:
        return moment_text((self._first_day + index) * DAY_MS)


@slips_answered(sections=SECTIONS)
def walk_forward(
    symbols: Sequence[str] | None = None,
    start: Moment | None = None,
    end: Moment | None = None,
    *,
    grid: Mapping[str, Sequence[float]] | None = None,
    train_days: int = 60,
    test_days: int = 30,
    data: Data = LAKE_FOLDER,
    interval: str = "1m",
    trader: Mapping[str, Any] | None = None,
    risk: Mapping[str, Any] | None = None,
    spread_bps: float = DEFAULT_SPREAD_BPS,
    workers: int | None = None,
    scheduler: str | None = None,
    journal: Path | str | None = None,
    progress: bool = True,
) -> WalkForwardResult:
    """Choose by the last `train_days`, trade the next `test_days`, and so on to the end.

    Args:
        grid: settings to choose between, as in `sweep`; the configuration alone if None.
        progress: show bars, in a terminal or a notebook.
        The rest is as in `backtest` and `sweep`.

    Raises:
        ConfigError: a history too short for one window.
    """
    config = configured(symbols, trader, risk)
    market = market_of(data, config, start, end, interval, given=symbols is not None)
    common: dict[str, Any] = {"data": market, "trader": trader, "risk": risk, "spread_bps": spread_bps}
    days = market.end_ms // DAY_MS - market.start_ms // DAY_MS
    if train_days < 2 or test_days < 1 or days <= train_days:
        raise ConfigError(
            f"{days} days of history do not hold {train_days} days of training and a test after them",
            field="train_days",
        )
    points = sweep(
        grid or {},
        **common,
        workers=workers if grid else 0,
        scheduler=scheduler if grid else None,
        journal=journal,
        progress=progress and bool(grid),
    )
    result = WalkForwardResult(points, train_days, test_days, backtest(**common, progress=progress))
    procedure = ([outcome.config_hash for outcome in points.outcomes], train_days, test_days)
    digest = hashlib.sha256(repr(procedure).encode()).hexdigest()[:16]
    untested = np.zeros(points.daily_returns.shape[0] - result.daily_returns.size)
    whole = np.concatenate((untested, result.daily_returns))
    with TrialLedger(data_folder(config)) as ledger:
        ledger.record(Trial(market.window, "walk_forward", digest, whole))
    return result
