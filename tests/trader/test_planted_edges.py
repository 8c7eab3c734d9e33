"""Does it learn, and does it keep its hands off when there is nothing to learn? (reference/self-learning §6)

Seeds 8xx are used nowhere else. The acceptance engine: horizon 240, a decision every 15 minutes, 12 bp a round trip,
no drawdown brake (the reference measured without one).
"""

from __future__ import annotations

import pytest
from planted_market import MOMENTUM, NULL, REGIME, make_market, oracle_skill, trade

from labkit.config import TraderConfig

CONFIG = TraderConfig(horizon_minutes=240, decision_every_minutes=15, drawdown_half=1.0, drawdown_stop=1.0)
ORACLE_SLOPE = 15.0
"""Fitted by the reference on seeds 1001 and 1002."""


@pytest.mark.deep
def test_a_year_of_noise_is_hardly_traded_and_costs_little() -> None:
    results = [trade(make_market(NULL, seed), CONFIG) for seed in range(801, 806)]
    trades = sorted(result.trades for result in results)
    assert trades[len(trades) // 2] <= 20  # A1
    assert trades[-1] <= 300
    finals = [float(result.equity[-1]) for result in results]
    assert sum(finals) / len(finals) >= 0.98  # A2
    assert min(finals) >= 0.90
    assert sum(result.millinats for result in results) / len(results) >= -0.20  # A3


@pytest.mark.deep
def test_of_a_planted_momentum_most_of_the_skill_and_of_the_sharpe_ratio_is_found() -> None:
    skill = oracle = sharpe = oracle_sharpe = 0.0
    for seed in range(811, 815):
        market = make_market(MOMENTUM, seed, b=0.02)
        own, knowing = trade(market, CONFIG), trade(market, CONFIG, oracle=ORACLE_SLOPE)
        skill, oracle = skill + own.millinats, oracle + oracle_skill(market, CONFIG, ORACLE_SLOPE)
        sharpe, oracle_sharpe = sharpe + own.sharpe, oracle_sharpe + knowing.sharpe
    assert skill / oracle >= 0.85  # B1
    assert sharpe / oracle_sharpe >= 0.70  # B2


@pytest.mark.deep
def test_of_an_edge_that_turns_round_every_45_days_half_the_skill_is_found() -> None:
    skill = oracle = 0.0
    for seed in range(821, 825):
        market = make_market(REGIME, seed, b=0.03)
        skill += trade(market, CONFIG).millinats
        oracle += oracle_skill(market, CONFIG, ORACLE_SLOPE)
    assert skill / oracle >= 0.50  # C1


def test_a_higher_cost_never_raises_the_number_of_trades() -> None:
    market = make_market(MOMENTUM, 831, days=30, b=0.12)
    trades = [trade(market, TraderConfig(), cost=cost).trades for cost in (0.0003, 0.0006, 0.0012, 0.0024)]
    assert trades == sorted(trades, reverse=True)
    assert trades[0] > trades[-1]
