"""The engine behind a slider: newest request wins, and what it answers is what a backtest would."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import numpy as np
import pytest

from labkit.config import TraderConfig
from labkit.errors import ConfigError
from labkit.research.backtest import backtest, configured
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.research.simulation import costs_of, simulate
from labkit.research.slider import Answer, Rerun

QUICK = {"decision_every_minutes": 15, "warm_up_minutes": 600, "cold_start_labels": 50}
PATIENCE = 60


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("momentum", 881, days=100, symbols=2, b=0.1)


@pytest.fixture
def answers() -> queue.Queue[Answer]:
    return queue.Queue()


@pytest.fixture
def rerun(market: Market, answers: queue.Queue[Answer]) -> Iterator[Rerun]:
    engine = Rerun(market, configured(None, QUICK), answers.put)
    yield engine
    engine.close()


def test_a_release_runs_everything_and_a_drag_the_last_ninety_days(
    rerun: Rerun, market: Market, answers: queue.Queue[Answer]
) -> None:
    number = rerun.ask({"horizon_minutes": 60}, preview=False)
    whole = answers.get(timeout=PATIENCE)
    assert whole.number == number
    assert whole.result is not None
    expected = backtest(data=market, trader={**QUICK, "horizon_minutes": 60})
    assert np.array_equal(whole.result.daily_returns, expected.daily_returns)
    rerun.ask({"horizon_minutes": 60}, preview=True)
    last = answers.get(timeout=PATIENCE)
    assert last.result is not None
    assert len(last.result.daily) == 90
    assert last.result.market.end_ms == market.end_ms


def test_of_many_requests_only_the_newest_need_be_answered_and_it_is_the_last(
    rerun: Rerun, answers: queue.Queue[Answer]
) -> None:
    numbers = [rerun.ask({"cost_margin": 0.01 * step}, preview=False) for step in range(40)]
    told = []
    while not told or told[-1].number != numbers[-1]:
        told.append(answers.get(timeout=PATIENCE))
    assert [answer.number for answer in told] == sorted(answer.number for answer in told)
    assert len(told) < 10
    assert told[-1].settings == {"cost_margin": 0.39}
    with pytest.raises(queue.Empty):
        answers.get_nowait()


def test_an_impossible_setting_is_answered_with_its_error_and_the_next_one_runs(
    rerun: Rerun, answers: queue.Queue[Answer]
) -> None:
    rerun.ask({"horizon_minutes": 1}, preview=True)
    wrong = answers.get(timeout=PATIENCE)
    assert isinstance(wrong.error, ConfigError)
    rerun.ask({"spread_bps": 3.0}, preview=True)
    right = answers.get(timeout=PATIENCE)
    assert right.result is not None
    assert right.result.costs.spread == pytest.approx(3e-4)


def test_a_run_that_is_told_to_stop_ends_with_its_day(market: Market) -> None:
    config = configured(None, QUICK)
    stopped = simulate(market, config, costs_of(config), stop=np.ones(1, np.int64))
    assert np.count_nonzero(stopped.days["day"]) == 1
    assert stopped.state.common["minutes"][0] < 2 * 1440


def test_after_closing_nothing_is_answered(market: Market, answers: queue.Queue[Answer]) -> None:
    engine = Rerun(market, configured(None, QUICK), answers.put)
    engine.ask({"horizon_minutes": TraderConfig().horizon_minutes}, preview=False)
    engine.close()
    assert not engine._thread.is_alive()
    assert answers.qsize() <= 1
