"""The acceptance table on a few of its markets; `benchmarks/learning.py` is the whole of it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import learning
from labkit.research.planted_markets import make_planted_market, oracle
from labkit.research.simulation import simulate

# Judged on fewer markets than the table, so only rows that keep some distance from their limit are held to it.


@pytest.mark.deep
def test_of_a_planted_momentum_most_is_found_and_sooner_than_its_flip_is_forgotten() -> None:
    rows = [*learning.momentum_rows(2), *learning.stream_rows(4)]
    assert [row for row in rows if not row.passed] == []


@pytest.mark.deep
def test_a_higher_cost_never_brings_more_trades() -> None:
    rows = list(learning.cost_rows(1))
    assert len(rows) == 2
    assert all(row.passed for row in rows)


@pytest.fixture(scope="module")
def whole() -> float:
    return mean_sharpe(learning.ABLATIONS[0])


def mean_sharpe(ablation: learning.Ablation) -> float:
    return float(np.mean([sharpe for kind, _, sharpe, _ in learning._figures_of(ablation, 1) if kind != "null"]))


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["no overlap weight", "learn from executed trades only"])
def test_without_one_of_its_parts_the_trader_earns_less(name: str, whole: float) -> None:
    (part,) = (ablation for ablation in learning.ABLATIONS if ablation.name == name)
    assert mean_sharpe(part) < whole


def test_an_oracle_earns_what_a_coin_cannot() -> None:
    market = make_planted_market("momentum", 891, days=20, symbols=2, b=0.1)
    known = oracle(market, 15.0)
    knowing = simulate(market, learning.CONFIG, learning.COSTS, foreign=known, trust=True)
    blind = simulate(market, learning.CONFIG, learning.COSTS, foreign=np.full_like(known, 0.5), trust=True)
    assert knowing.days["skill"][-1] > 0.0
    assert knowing.final_equity > 12_000
    assert len(blind.trades) == 0
