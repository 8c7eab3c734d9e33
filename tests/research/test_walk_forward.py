"""walk_forward: what was chosen by then, traded afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.errors import ConfigError
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.research.sweep import Outcome, SweepResult
from labkit.research.walk_forward import WalkForwardResult, walk_forward

QUICK = {"decision_every_minutes": 15, "warm_up_minutes": 600, "cold_start_labels": 50}


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("momentum", 871, days=20, symbols=2, b=0.15)


def test_every_window_trades_the_setting_its_training_days_liked_best(market: Market) -> None:
    result = walk_forward(
        data=market,
        trader=QUICK,
        grid={"horizon_minutes": [30, 120]},
        train_days=6,
        test_days=4,
        workers=0,
        progress=False,
    )
    returns = result.points.daily_returns
    assert len(result.windows) == 4
    for number, row in result.windows.iterrows():
        start = 4 * int(str(number))
        train = returns[start : start + 6]
        best = int(np.argmax(train.mean(axis=0) / train.std(axis=0, ddof=1)))
        assert row["horizon_minutes"] == (30, 120)[best]
        assert row["return_test"] == pytest.approx(np.prod(1 + returns[start + 6 : start + 10, best]) - 1)
    assert result.daily_returns.size == 14
    assert result.plot()._repr_png_()[0].startswith(b"\x89PNG")
    assert "No evidence of edge" in result._repr_html_()


def test_without_a_grid_the_windows_divide_the_one_run(market: Market) -> None:
    result = walk_forward(data=market, trader={**QUICK, "horizon_minutes": 60}, train_days=10, test_days=5)
    assert np.array_equal(result.daily_returns, result.frozen.daily_returns[10:])


def test_what_happens_in_the_test_days_cannot_change_the_choice(market: Market) -> None:
    random = np.random.default_rng(1)
    returns = random.normal(0.0, 0.01, (20, 3))

    def walked(table: np.ndarray) -> WalkForwardResult:
        outcomes = [Outcome({"k": k}, "", {"sharpe": 0.0}, table[:, k].tobytes()) for k in range(3)]
        return WalkForwardResult(SweepResult(market, outcomes), 10, 10, None)  # type: ignore[arg-type]

    other = returns.copy()
    other[10:] = random.normal(0.0, 0.05, (10, 3))
    assert walked(returns).windows["k"][0] == walked(other).windows["k"][0]
    other[:10] = -returns[:10]
    assert walked(returns).windows["k"][0] != walked(other).windows["k"][0]


def test_efficiency_is_what_the_test_days_kept_of_the_promise(market: Market) -> None:
    table = np.concatenate((np.full((10, 1), 0.02), np.full((10, 1), 0.005)))
    table += 1e-6 * np.arange(20)[:, None]
    outcomes = [Outcome({"k": 0}, "", {"sharpe": 0.0}, table.tobytes())]
    result = WalkForwardResult(SweepResult(market, outcomes), 10, 10, None)  # type: ignore[arg-type]
    assert result.efficiency == pytest.approx(0.25, rel=0.01)


def test_too_short_a_history_is_told_in_words(market: Market) -> None:
    with pytest.raises(ConfigError, match="20 days of history do not hold 30 days of training"):
        walk_forward(data=market, trader=QUICK, train_days=30)
