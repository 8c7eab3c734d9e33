"""Does it learn, and does it keep its hands off when there is nothing to learn? (reference/self-learning §6)

Seeds 8xx are used nowhere else; `benchmarks/learning.py` is the whole table, and how a market is judged.
"""

from __future__ import annotations

import pytest

from benchmarks import learning
from labkit.config import Config, change_config
from labkit.research.planted_markets import make_planted_market
from labkit.research.simulation import Costs, simulate


@pytest.mark.deep
def test_a_year_of_noise_is_hardly_traded_and_costs_little() -> None:
    runs = [simulate(make_planted_market("null", seed), learning.CONFIG, learning.COSTS) for seed in range(801, 806)]
    trades = sorted(len(run.trades) for run in runs)
    assert trades[len(trades) // 2] <= 20  # A1
    assert trades[-1] <= 300
    finals = [run.final_equity / 10_000.0 for run in runs]
    assert sum(finals) / len(finals) >= 0.98  # A2
    assert min(finals) >= 0.90
    lost = [-1000.0 * float(run.days["skill"][-1] / run.days["weight"][-1]) for run in runs]
    assert sum(lost) / len(lost) <= 0.20  # A3


@pytest.mark.deep
def test_of_a_planted_momentum_most_of_the_skill_and_of_the_sharpe_ratio_is_found() -> None:
    pairs = [learning.live_both("momentum", seed, b=0.02) for seed in range(811, 815)]
    assert learning.skill_share(pairs) >= 0.85  # B1
    assert learning.sharpe_share(pairs) >= 0.70  # B2


@pytest.mark.deep
def test_of_an_edge_that_turns_round_every_45_days_half_the_skill_is_found() -> None:
    pairs = [learning.live_both("regime", seed, b=0.03) for seed in range(821, 825)]
    assert learning.skill_share(pairs) >= 0.50  # C1


def test_a_higher_fee_never_raises_the_number_of_trades() -> None:
    market = make_planted_market("momentum", 831, days=30, b=0.12)
    trades = []
    for fee in (0.00005, 0.0002, 0.0005, 0.0011):
        config = change_config(Config(), {"trader.taker_fee_rate": fee})
        trades.append(len(simulate(market, config, Costs(fee, 0.0, 2e-4)).trades))
    assert trades == sorted(trades, reverse=True)
    assert trades[0] > trades[-1]
