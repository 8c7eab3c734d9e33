"""Tuning: what a tuner shows of each run: its curves beside those of the settings it is compared with, and the score.

Works on the thread of the slider's engine (`slider.Rerun`). What does not depend on a slider is computed once: the runs
of the compared settings, and the baselines beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from labkit.config import Config
from labkit.domain.decisions import LEARNER
from labkit.research.backtest import DEFAULT_SPREAD_BPS, BacktestResult, data_folder
from labkit.research.baselines import asked_through, buy_and_hold, cash, trend_rule
from labkit.research.markets import Market
from labkit.research.simulation import costs_of, simulate
from labkit.research.slider import Answer, Rerun
from labkit.research.statistics import sharpe_interval
from labkit.research.trials import Trial, TrialLedger
from labkit.research.verdict import judge, skill_of

Floats = NDArray[np.float64]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What request `number` came to. Arrays are float64[D] by UTC day, but those of reliability by bin."""

    number: int
    preview: bool
    settings: dict[str, Any]
    error: str = ""
    first_day_ms: int = 0
    curves: dict[str, Floats] = {}
    """`equity`, `compared` (equity of the settings compared with), `drawdown` (fractions of the peak, at most 0),
    `skill` (millinats a label), `said` and `came_true` (probabilities) with the `error` of the latter."""
    figures: dict[str, float] = {}
    """As `BacktestResult.summary`, with the 95 % interval of the Sharpe ratio (`sharpe_low`, `sharpe_high`)."""
    compared: dict[str, float] = {}
    baselines: dict[str, dict[str, float]] = {}
    """The figures of cash, buy and hold and the trend rule; whole runs only."""
    verdict: str = ""
    """What was found, and why: whole runs only."""
    reasons: tuple[str, ...] = ()
    trials: int = 0


class Tuning:
    """Runs `market` under ever new settings of the trader, beside those of `config`.

    Args:
        on_look: called from the engine's thread.

    Raises:
        LockBoxClosed: part of this history is kept for a last look.
    """

    def __init__(self, market: Market, config: Config, on_look: Callable[[Look], None]) -> None:
        self._config = config
        self._on_look = on_look
        self._compared: dict[bool, BacktestResult] = {}
        self._baselines: list[BacktestResult] = []
        self._reliability: dict[bool, tuple[NDArray[Any], dict[str, Floats]]] = {}
        self._rerun = Rerun(market, config, self._answered, spread_bps=DEFAULT_SPREAD_BPS)

    def ask(self, settings: Mapping[str, Any], *, preview: bool) -> int:
        """Run with these settings of the trader; returns the number the look will bear."""
        return self._rerun.ask(settings, preview=preview)

    def close(self) -> None:
        """Look at nothing any more and end the thread."""
        self._rerun.close()

    def _answered(self, answer: Answer) -> None:
        look = Look(number=answer.number, preview=answer.preview, settings=answer.settings, trials=answer.trials)
        if answer.result is None:
            self._on_look(msgspec.structs.replace(look, error=str(answer.error)))
            return
        result = answer.result
        compared = self._compared_with(result, answer)
        if not answer.preview:
            verdict, reasons = self._verdict(result, compared)
            beside = {own.name: own.summary for own in self._beside(compared)}
            look = msgspec.structs.replace(look, verdict=verdict, reasons=reasons, baselines=beside)
        self._on_look(
            msgspec.structs.replace(
                look,
                first_day_ms=int(result.daily.index[0].value // 1_000_000),
                curves={**curves_of(result, compared), **self._reliability_of(result, answer.preview)},
                figures=figures_of(result),
                compared=figures_of(compared),
            )
        )

    def _reliability_of(self, result: BacktestResult, preview: bool) -> dict[str, Floats]:
        answers, known = self._reliability.get(preview, (None, {}))
        if answers is not result.run.answers:
            # The very same answers are those of the very same questions (`lessons`): no need to count them again.
            known = reliability_of(result)
            self._reliability[preview] = (result.run.answers, known)
        return known

    def _compared_with(self, result: BacktestResult, answer: Answer) -> BacktestResult:
        if answer.preview not in self._compared:
            market, config = result.market, self._config
            if config.trader == result.config.trader:
                self._compared[answer.preview] = result
            else:
                costs = costs_of(config, DEFAULT_SPREAD_BPS * 1e-4)
                own = BacktestResult(LEARNER, market, config, costs, simulate(market, config, costs))
                with TrialLedger(data_folder(config)) as trials:
                    trials.record(Trial(market.window, "slider", own.config_hash, own.daily_returns))
                self._compared[answer.preview] = own
        return self._compared[answer.preview]

    def _beside(self, compared: BacktestResult) -> list[BacktestResult]:
        if not self._baselines:
            trend = trend_rule(compared, asked_through(compared))
            self._baselines = [cash(compared), buy_and_hold(compared), trend]
        return self._baselines

    def _verdict(self, result: BacktestResult, compared: BacktestResult) -> tuple[str, tuple[str, ...]]:
        if result.daily_returns.size < 2:
            return "One day is no track record: there is nothing to judge", ()
        with TrialLedger(data_folder(self._config)) as ledger:
            trials = ledger.trials(result.market.window)
        others = {own.name: own.daily_returns for own in self._beside(compared)}
        verdict = judge(result.daily_returns, others, trials, skill_of(result.run.days))
        return verdict.finding, verdict.reasons


def curves_of(result: BacktestResult, compared: BacktestResult) -> dict[str, Floats]:
    """The curves of a run by day, as in `Look`."""
    equity = result.daily["equity"].to_numpy(np.float64)
    opening = float(result.config.paper.opening_balance)
    peak = np.maximum(np.maximum.accumulate(equity), opening)
    return {
        "equity": equity,
        "compared": compared.daily["equity"].to_numpy(np.float64),
        "drawdown": equity / peak - 1.0,
        "skill": result.daily["skill"].to_numpy(np.float64),
    }


def reliability_of(result: BacktestResult) -> dict[str, Floats]:
    """The curves of reliability, as in `Look`."""
    calibration = result.calibration
    return {name: calibration[name].to_numpy(np.float64) for name in ("said", "came_true", "error")}


def figures_of(result: BacktestResult) -> dict[str, float]:
    """The figures of a run, as in `Look`."""
    low, high = sharpe_interval(result.daily_returns) if result.daily_returns.size > 1 else (math.nan, math.nan)
    return {**result.summary, "sharpe_low": low, "sharpe_high": high}
