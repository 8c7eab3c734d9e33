"""A challenger is promoted by a rule stated before: rarely by luck, never by patience, and not at a deeper drawdown."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.errors import ConfigError
from labkit.trader.promotion import PromotionRule, promotion

RULE = PromotionRule()


def noise(seed: int, days: int = 240) -> np.ndarray:
    return 0.01 * np.random.default_rng(seed).standard_normal(days)


def test_a_clearly_better_challenger_is_promoted_at_the_first_look() -> None:
    verdict = promotion(noise(1, 30), noise(1, 30) + 0.005, RULE)
    assert verdict.promoted
    assert (verdict.looked_days, verdict.next_look_days) == (30, 60)
    assert verdict.words.startswith("Promoted after 30 days")


def test_before_the_first_look_nothing_is_promoted() -> None:
    verdict = promotion(noise(1, 29), noise(1, 29) + 0.05, RULE)
    assert not verdict.promoted
    assert (verdict.looked_days, verdict.words) == (0, "Too early: 29 days, the first look is after 30.")


def test_between_looks_nothing_changes() -> None:
    champion, challenger = noise(1), noise(2)
    at_look = promotion(champion[:60], challenger[:60], RULE)
    assert promotion(champion[:119], challenger[:119], RULE) == at_look
    assert promotion(champion[:120], challenger[:120], RULE).looked_days == 120


def test_a_better_challenger_with_a_deeper_fall_is_not_promoted() -> None:
    champion = np.full(60, 0.0)
    champion[10] = -0.02
    challenger = np.full(60, 0.01)
    challenger[20] = -0.03
    verdict = promotion(champion, challenger, RULE)
    assert not verdict.promoted
    assert "its deepest drawdown is 3.0% (at most 2.5%)" in verdict.words
    assert promotion(champion, challenger, PromotionRule(drawdown_ratio=2.0)).promoted


def test_a_challenger_that_does_the_same_is_not_promoted() -> None:
    verdict = promotion(noise(1), noise(1), RULE)
    assert (verdict.promoted, verdict.probability) == (False, 1.0)


def test_asking_every_day_for_a_year_promotes_noise_in_at_most_five_of_a_hundred() -> None:
    days = [30, 60, 120, 240]
    promoted = 0
    for seed in range(200):
        champion, challenger = noise(seed), noise(10_000 + seed)
        promoted += any(promotion(champion[:d], challenger[:d], RULE).promoted for d in days)
    assert promoted <= 10


def test_the_probability_of_luck_is_exact_for_few_blocks() -> None:
    # Six blocks that all favour the challenger: one of 64 ways to flip them is as good.
    challenger = np.repeat([0.01, 0.02, 0.03, 0.04, 0.05, 0.06], 5)
    assert promotion(np.zeros(30), challenger, RULE).probability == pytest.approx(1 / 64, abs=0.003)


def test_other_days_and_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="not the same days"):
        promotion(noise(1, 30), noise(1, 31), RULE)
    with pytest.raises(ConfigError, match="not finite"):
        promotion(noise(1, 30), np.full(30, np.nan), RULE)


def test_a_rule_that_could_show_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="six blocks"):
        PromotionRule(first_look_days=20)
    with pytest.raises(ConfigError, match="a probability"):
        PromotionRule(error=0.0)
