"""The laboratory cannot be fooled by noise, and is not blind either. Seeds 8xxx are used nowhere else.

`benchmarks/fooled.py` tells the figures on more and other seeds.
"""

from __future__ import annotations

import pytest

from labkit.research.noise_trials import (
    Floats,
    best_of_many,
    best_rule_on_noise,
    learner_on,
    planted_edge,
    promoted_noise,
    rules_on_noise,
    rules_promoted_on_noise,
)
from labkit.trader.promotion import PromotionRule


def test_the_best_of_five_hundred_random_strategies_is_not_significant() -> None:
    assert best_of_many(range(8_000, 8_005)).count == 0


@pytest.mark.deep
def test_the_best_of_five_hundred_is_not_significant_in_nineteen_of_twenty_seeds() -> None:
    assert best_of_many(range(8_000, 8_060)).fraction <= 0.05


def test_without_counting_the_trials_it_would_be_significant_in_many() -> None:
    assert best_of_many(range(8_000, 8_010), counted=False).fraction >= 0.3


@pytest.mark.deep
def test_a_planted_edge_is_found_among_twenty_trials_in_four_of_five_seeds() -> None:
    assert planted_edge(range(8_000, 8_050), sharpe=4.0).fraction >= 0.8


def test_no_edge_is_not_found() -> None:
    assert planted_edge(range(8_000, 8_010), sharpe=0.0).count <= 1


@pytest.mark.deep
def test_random_challengers_are_promoted_in_at_most_one_of_twenty() -> None:
    assert promoted_noise(range(8_000, 8_200)).fraction <= 0.05


@pytest.fixture(scope="module")
def tapes() -> list[Floats]:
    """200 markets without an edge, each with the daily returns of twelve rules that traded it."""
    return [rules_on_noise(seed, days=60, symbols=1) for seed in range(8_200, 8_400)]


@pytest.mark.deep
@pytest.mark.timeout(600)
def test_of_two_hundred_noise_tapes_at_most_one_in_twenty_is_promoted(tapes: list[Floats]) -> None:
    assert rules_promoted_on_noise(tapes).fraction <= 0.05
    assert rules_promoted_on_noise(tapes, PromotionRule(error=0.9999, drawdown_ratio=1e9)).fraction >= 0.3


@pytest.mark.deep
@pytest.mark.timeout(600)
def test_the_best_rule_of_a_noise_tape_is_claimed_in_at_most_one_of_twenty(tapes: list[Floats]) -> None:
    assert best_rule_on_noise(tapes).fraction <= 0.05
    assert best_rule_on_noise(tapes, counted=False).fraction >= 0.1


@pytest.mark.deep
@pytest.mark.timeout(600)
def test_the_trader_is_judged_by_what_was_planted() -> None:
    assert not any(learner_on("null", seed).evidence for seed in range(8_500, 8_505))
    assert sum(learner_on("momentum", seed).evidence for seed in range(8_500, 8_510)) >= 7
    assert sum(learner_on("momentum", seed, days=730).evidence for seed in range(8_500, 8_505)) >= 4
