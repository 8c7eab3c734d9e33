"""Baselines: what each does, and that they are charged as the learner is."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.research import baselines
from labkit.research.backtest import BacktestResult, backtest
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.trader.questions import QuestionsAndAnswers
from tests.research.conftest import FIRST_MINUTE, bars_market

QUICK = {"horizon_minutes": 60, "decision_every_minutes": 15, "warm_up_minutes": 600, "cold_start_labels": 50}


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("momentum", 861, days=20, symbols=2, b=0.15)


@pytest.fixture(scope="module")
def result(market: Market) -> BacktestResult:
    return backtest(data=market, trader=QUICK)


@pytest.fixture(scope="module")
def asked(result: BacktestResult) -> QuestionsAndAnswers:
    return baselines.asked_through(result)


def test_they_stand_in_the_table_of_every_run_in_the_same_order(result: BacktestResult) -> None:
    names = ["learner", "cash", "buy and hold", "trend rule", "random entry", "frozen learner"]
    assert list(result.comparison.index) == names
    html = result._repr_html_()
    assert all(name in html for name in names)


def test_buy_and_hold_is_as_volatile_as_the_run_beside_it(result: BacktestResult) -> None:
    held = baselines.buy_and_hold(result)
    assert held.daily_returns.std() == pytest.approx(result.daily_returns.std(), rel=0.02)


def test_beside_a_run_that_did_nothing_the_whole_balance_is_held_and_pays_fee_and_funding() -> None:
    day = 1440
    bars = [(100.0, 100.0, 100.0, 100.0)] * day + [(110.0, 110.0, 110.0, 110.0)] * day
    settled = (np.array([(FIRST_MINUTE + day + 60) * 60_000]), np.array([0.01]))
    run = backtest(data=bars_market(*bars, funding={"A": settled}), spread_bps=0.0)
    held = baselines.buy_and_hold(run)
    assert run.run.account["entries"][0] == 0
    assert held.run.final_equity == pytest.approx(10_000 * (1 + 0.10 - 0.01) * (1 - 0.0005))
    assert held.run.days["equity"][0] == pytest.approx(10_000 * (1 - 0.0005))


def test_random_entries_find_nothing_in_a_market_without_edge_and_pay_for_it() -> None:
    noise = backtest(data=make_planted_market("null", 862, days=20, symbols=2), trader=QUICK)
    asked = baselines.asked_through(noise)
    rich, poor = (baselines.random_entries(noise, asked, seed) for seed in (1, 2))
    assert rich.run.final_equity != poor.run.final_equity
    assert 50 < len(rich.trades) <= 150
    assert rich.trades["commission"].sum() > 0


def test_the_frozen_learner_is_the_learner_until_it_freezes(result: BacktestResult, asked: QuestionsAndAnswers) -> None:
    frozen = baselines.frozen_learner(result, asked)
    until = result.market.minutes.size * baselines.FREEZE_AFTER
    freeze = result.market.minutes[int(until)]
    ours, theirs = result.run.decisions, frozen.run.decisions
    before = ours["minute"] < freeze
    assert np.array_equal(ours["p"][before], theirs["p"][before])
    # Just after, only the hourly refits tell them apart; later they have drifted apart.
    soon = (ours["minute"] >= freeze) & (ours["minute"] < freeze + 30)
    assert np.abs(ours["p"][soon] - theirs["p"][soon]).max() < 0.02
    assert np.abs(ours["p"][-200:] - theirs["p"][-200:]).max() > np.abs(ours["p"][soon] - theirs["p"][soon]).max()


def test_weekly_trees_never_see_a_label_before_it_is_known(result: BacktestResult, asked: QuestionsAndAnswers) -> None:
    pytest.importorskip("lightgbm")
    whole = baselines.lightgbm_probabilities(asked)
    questions, answers = asked
    monday = int(questions["minute"][0]) + 2 * baselines.WEEK_MINUTES
    later = answers["minute"] >= monday
    changed = answers.copy()
    changed["q"][later] = 1.0 - changed["q"][later]
    other = baselines.lightgbm_probabilities(QuestionsAndAnswers(questions, changed))
    until = questions["minute"] < monday + baselines.WEEK_MINUTES
    trained = until & (questions["minute"] >= monday)
    assert np.array_equal(whole[until], other[until])
    assert whole[trained].std() > 0.01
    # Negative control: what was known by then does change them.
    changed["q"] = 1.0 - answers["q"]
    assert not np.array_equal(
        whole[until], baselines.lightgbm_probabilities(QuestionsAndAnswers(questions, changed))[until]
    )


def test_trees_on_noise_lose_at_face_value_and_are_hardly_traded_through_our_slope() -> None:
    pytest.importorskip("lightgbm")
    noise = backtest(data=make_planted_market("null", 863, days=40, symbols=2), trader=QUICK)
    bare, calibrated = baselines.weekly_lightgbm(noise)
    assert bare.run.final_equity < 9_500
    assert calibrated.run.final_equity > 9_800
    assert len(calibrated.trades) < 0.2 * len(bare.trades)
