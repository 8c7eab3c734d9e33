"""What a tuner shows of a run: the numbers of a backtest, and the count of all that was looked at."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit.errors import LockBoxClosed
from labkit.research.backtest import BacktestResult, backtest, configured
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.research.statistics import sharpe_interval
from labkit.research.trials import TrialLedger
from labkit.research.tuning import Look, Tuning

QUICK = {"decision_every_minutes": 15, "warm_up_minutes": 600, "cold_start_labels": 50}
MOVED = {"cost_margin": 0.5, "kelly_fraction": 0.4}
PATIENCE = 60


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder of its own for every test: trials count from one."""
    return tmp_path


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("momentum", 883, days=95, symbols=2, b=0.1)


@pytest.fixture
def looks() -> queue.Queue[Look]:
    return queue.Queue()


@pytest.fixture
def tuning(market: Market, looks: queue.Queue[Look]) -> Iterator[Tuning]:
    made = Tuning(market, configured(None, QUICK), looks.put)
    yield made
    made.close()


def look_at(tuning: Tuning, looks: queue.Queue[Look], settings: dict[str, Any], *, preview: bool = False) -> Look:
    number = tuning.ask(settings, preview=preview)
    look = looks.get(timeout=PATIENCE)
    assert (look.number, look.error) == (number, "")
    return look


def assert_shows(look: Look, result: BacktestResult, compared: BacktestResult) -> None:
    """Every number of the look is bit by bit that of the backtests."""
    low, high = sharpe_interval(result.daily_returns)
    np.testing.assert_equal(look.figures, {**result.summary, "sharpe_low": low, "sharpe_high": high})
    equity = result.run.days["equity"]
    peaks = np.maximum(np.maximum.accumulate(equity), float(result.config.paper.opening_balance))
    expected = {
        "equity": equity,
        "compared": compared.run.days["equity"],
        "drawdown": equity / peaks - 1.0,
        "skill": result.daily["skill"],
        **{name: result.calibration[name] for name in ("said", "came_true", "error")},
    }
    assert list(look.curves) == list(expected)
    for name, values in expected.items():
        assert np.array_equal(look.curves[name], np.asarray(values), equal_nan=True), name


def test_a_look_shows_bit_by_bit_what_a_backtest_of_its_settings_comes_to(
    tuning: Tuning, market: Market, looks: queue.Queue[Look]
) -> None:
    look = look_at(tuning, looks, MOVED)
    own, compared = backtest(data=market, trader={**QUICK, **MOVED}), backtest(data=market, trader=QUICK)
    assert_shows(look, own, compared)
    with pytest.raises(AssertionError):
        assert_shows(look, compared, own)
    beside = {result.name: result.summary for result in compared.baselines}
    np.testing.assert_equal(look.baselines, {name: beside[name] for name in ("cash", "buy and hold", "trend rule")})


def test_a_preview_shows_bit_by_bit_what_a_backtest_of_its_days_comes_to(
    tuning: Tuning, market: Market, looks: queue.Queue[Look]
) -> None:
    look = look_at(tuning, looks, MOVED, preview=True)
    last = market.between(start=market.end_ms - 90 * 86_400_000)
    assert_shows(look, backtest(data=last, trader={**QUICK, **MOVED}), backtest(data=last, trader=QUICK))
    assert (look.verdict, look.baselines) == ("", {})


def test_what_only_sizes_and_gates_and_what_shapes_learning_show_the_same_bits_in_any_order(
    tuning: Tuning, market: Market, looks: queue.Queue[Look]
) -> None:
    compared = backtest(data=market, trader=QUICK)
    for settings in (
        {"cost_margin": 0.6},
        {"prior_confidence_z": 1.0, "evidence_nats": 1.0, "slippage_rate": 0.0002},
        {"trailing_start_fraction": 0.2, "drawdown_half": 0.01, "drawdown_stop": 0.02, "warm_up_minutes": 3_000},
        {"barrier_sigmas": 1.5},
        {"barrier_sigmas": 1.5, "kelly_fraction": 1.0, "max_leverage_per_symbol": 2.0},
        {"horizon_minutes": 60},
        {},
    ):
        look = look_at(tuning, looks, settings)
        assert_shows(look, backtest(data=market, trader={**QUICK, **settings}), compared)


def test_the_count_rises_with_every_setting_that_was_not_looked_at_before(
    tuning: Tuning, looks: queue.Queue[Look]
) -> None:
    asked: list[dict[str, Any]] = [{}, {"cost_margin": 0.5}, {"cost_margin": 0.6}, {"cost_margin": 0.5}, {}]
    assert [look_at(tuning, looks, settings).trials for settings in asked] == [1, 2, 3, 3, 3]


def test_the_verdict_speaks_of_all_looks_and_of_the_settings_compared_with(
    tuning: Tuning, market: Market, looks: queue.Queue[Look], data_dir: Path
) -> None:
    look_at(tuning, looks, {"cost_margin": 0.5})
    look = look_at(tuning, looks, {"cost_margin": 0.6, "kelly_fraction": 0.0})
    with TrialLedger(data_dir) as ledger:
        assert ledger.count(market.window) == 3
    assert look.verdict.startswith("No evidence of edge")
    assert look.reasons[0].startswith("after 3 trials")


def test_a_history_kept_for_a_last_look_is_not_tuned_on(
    market: Market, looks: queue.Queue[Look], data_dir: Path
) -> None:
    recorded = Market(market.symbols, market.minutes, market.rows, market.funding_minutes, market.funding_rates)
    with TrialLedger(data_dir) as ledger:
        ledger.lock_away(recorded.end_ms - 86_400_000, recorded.end_ms)
    with pytest.raises(LockBoxClosed):
        Tuning(recorded, configured(None, QUICK), looks.put)
    with TrialLedger(data_dir) as ledger:
        assert ledger.count(recorded.window) == 0


def test_a_setting_out_of_range_is_answered_in_words(tuning: Tuning, looks: queue.Queue[Look]) -> None:
    tuning.ask({"kelly_fraction": 7}, preview=False)
    look = looks.get(timeout=PATIENCE)
    assert "kelly_fraction" in look.error
    assert (look.curves, look.figures) == ({}, {})
