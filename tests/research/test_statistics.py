"""The statistics agree with published examples, closed forms, simulation and other implementations."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from labkit.errors import ConfigError
from labkit.research.statistics import (
    BLOCK_DAYS,
    as_daily_returns,
    daily_sharpe_ratio,
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    max_drawdown,
    minimum_track_record,
    probabilistic_sharpe_ratio,
    probability_of_overfitting,
    ratio_interval,
    resampling,
    sharpe_interval,
    sharpe_ratio,
    superiority_p_value,
    walk_forward_efficiency,
)


def noise(seed: int, days: int = 365, count: int = 1) -> np.ndarray:
    return 0.01 * np.random.default_rng(seed).standard_normal((days, count))


def test_a_sharpe_ratio_is_annualised_over_365_days() -> None:
    returns = np.array([0.01, 0.03, -0.01, 0.01])
    assert sharpe_ratio(returns) == pytest.approx(0.01 / math.sqrt(8e-4 / 3) * math.sqrt(365))


def test_an_idle_account_has_a_sharpe_ratio_of_zero_and_no_interval() -> None:
    idle = np.zeros(100)
    assert sharpe_ratio(idle) == 0.0
    assert sharpe_interval(idle) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("trials", "skewness", "kurtosis", "published"),
    [(100, -3.0, 10.0, 0.9004), (46, -3.0, 10.0, 0.9505), (88, 0.0, 3.0, 0.9505)],
)
def test_the_deflated_sharpe_ratio_is_that_of_the_paper(
    trials: int, skewness: float, kurtosis: float, published: float
) -> None:
    # Bailey and López de Prado (2014): five years of daily data, annual Sharpe 2.5, variance across trials 1/2.
    luck = expected_maximum_sharpe(trials, math.sqrt(0.5 / 250))
    probability = probabilistic_sharpe_ratio(2.5 / math.sqrt(250), 1250, skewness, kurtosis, benchmark=luck)
    assert probability == pytest.approx(published, abs=5e-5)


def test_the_luck_of_a_hundred_trials_is_that_of_the_paper() -> None:
    assert expected_maximum_sharpe(100, math.sqrt(0.5 / 250)) == pytest.approx(0.1132, abs=5e-5)


@pytest.mark.parametrize(("skewness", "kurtosis", "published"), [(0.0, 3.0, 0.982), (-2.448, 10.164, 0.913)])
def test_the_probabilistic_sharpe_ratio_is_that_of_the_paper(
    skewness: float, kurtosis: float, published: float
) -> None:
    # Bailey and López de Prado (2012): two years of monthly data.
    assert probabilistic_sharpe_ratio(0.458, 24, skewness, kurtosis) == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize(
    ("per_year", "skewness", "kurtosis", "published"),
    [(252, 0.0, 3.0, 2.73), (52, 0.0, 3.0, 2.83), (12, 0.0, 3.0, 3.24), (12, -0.72, 5.78, 4.99)],
)
def test_the_minimum_track_record_is_that_of_the_paper(
    per_year: int, skewness: float, kurtosis: float, published: float
) -> None:
    # Years until an annual Sharpe ratio of 2 is known to be above 1.
    needed = minimum_track_record(
        2 / math.sqrt(per_year), skewness, kurtosis, benchmark=1 / math.sqrt(per_year), confidence=0.95
    )
    assert needed / per_year == pytest.approx(published, abs=0.005)


def test_no_track_record_is_long_enough_for_a_sharpe_ratio_below_the_benchmark() -> None:
    assert minimum_track_record(0.05, benchmark=0.06) == math.inf


@pytest.mark.parametrize("trials", [10, 100, 500])
def test_the_expected_luck_is_what_simulation_gives(trials: int) -> None:
    best = np.random.default_rng(1).standard_normal((5_000, trials)).max(axis=1)
    assert expected_maximum_sharpe(trials, 1.0) == pytest.approx(best.mean(), rel=0.03)


def test_one_trial_is_deflated_by_nothing() -> None:
    returns = noise(3)[:, 0] + 0.001
    assert deflated_sharpe_ratio(returns, 1, 0.05) > deflated_sharpe_ratio(returns, 2, 0.05)
    assert deflated_sharpe_ratio(returns, 1, 0.05) == deflated_sharpe_ratio(returns, 1, 5.0)


def test_every_resample_has_as_many_days_as_there_are_and_each_day_its_turn() -> None:
    weights = resampling(100)
    assert np.allclose(weights.sum(axis=1), 1.0)
    assert np.allclose(weights.mean(axis=0), 0.01, rtol=0.1)


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    returns = noise(4)[:, 0]
    low, high = ratio_interval(returns, np.ones(returns.size))
    # The variance of a stationary bootstrap of independent days is the plain one, up to the sample's own correlations.
    assert (high - low) / (2 * 1.96 * returns.std() / math.sqrt(returns.size)) == pytest.approx(1.0, abs=0.12)


def test_days_that_hang_together_widen_the_interval() -> None:
    shocks = noise(5)[:, 0]
    returns = np.zeros(365)
    for day in range(1, 365):
        returns[day] = 0.7 * returns[day - 1] + shocks[day]

    def width(block_days: int) -> float:
        return float((resampling(365, block_days) @ returns).std())

    assert width(BLOCK_DAYS) > 1.5 * width(1)


def test_a_sharpe_interval_holds_the_truth_nearly_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(100):
        low, high = sharpe_interval(noise(seed)[:, 0] + 0.001)
        inside += low <= 0.1 * math.sqrt(365) <= high
    assert 88 <= inside <= 99


def test_pure_noise_overfits_about_half_the_time_and_more_often_than_a_real_edge() -> None:
    matrix = noise(6, count=20)
    noisy = probability_of_overfitting(matrix)
    matrix[:, 7] += 0.004
    assert 0.25 < noisy < 0.85
    assert probability_of_overfitting(matrix) < 0.02


def test_strategies_that_only_fit_the_past_overfit_always() -> None:
    # Each earns in one block and loses it all over the others: the best inside is the worst outside.
    matrix = np.full((120, 12), -0.01) + 0.0001 * noise(7, 120, 12)
    for strategy in range(12):
        matrix[10 * strategy : 10 * strategy + 10, strategy] += 0.05
    assert probability_of_overfitting(matrix) > 0.95


def test_overfitting_agrees_with_the_definition_done_slowly() -> None:
    matrix = noise(8, 60, 5)
    blocks = np.array_split(np.arange(60), 6)
    failed = total = 0
    for chosen in combinations(range(6), 3):
        inside = np.concatenate([blocks[b] for b in chosen])
        outside = np.setdiff1d(np.arange(60), inside)
        sharpe_in = [daily_sharpe_ratio(matrix[inside, n]) for n in range(5)]
        sharpe_out = [daily_sharpe_ratio(matrix[outside, n]) for n in range(5)]
        rank = sorted(sharpe_out).index(sharpe_out[int(np.argmax(sharpe_in))]) + 1
        failed += math.log(rank / (6 - rank)) <= 0.0
        total += 1
    assert probability_of_overfitting(matrix, blocks=6) == pytest.approx(failed / total)


def test_too_few_strategies_or_days_have_no_probability_of_overfitting() -> None:
    assert math.isnan(probability_of_overfitting(noise(1, 365, 1)))
    assert math.isnan(probability_of_overfitting(noise(1, 19, 5)))


@pytest.mark.deep
@pytest.mark.filterwarnings("default")  # of the libraries arch itself uses
def test_superiority_agrees_with_arch() -> None:
    from arch.bootstrap import SPA

    # arch compares plain means: with unit variances that is the same test, on other resamples.
    for seed, edge in ((0, 0.0), (1, 0.0002), (2, 0.0001), (3, 0.0002)):
        gains = noise(seed, 250, 8) + edge * np.arange(8)
        gains /= gains.std(axis=0)
        best = int(np.argmax(gains.mean(axis=0)))
        other = SPA(np.zeros(250), -gains, block_size=BLOCK_DAYS, reps=2_000, seed=seed)
        other.compute()
        own = superiority_p_value(gains[:, best], gains, np.zeros(250))
        assert own == pytest.approx(other.pvalues["consistent"], abs=0.04)


@pytest.mark.deep
def test_the_best_of_twenty_without_skill_is_rarely_superior() -> None:
    superior = 0
    for seed in range(200):
        tried = noise(seed, 365, 20)
        best = tried[:, int(np.argmax(tried.mean(axis=0) / tried.std(axis=0)))]
        superior += superiority_p_value(best, tried, np.zeros(365)) <= 0.05
    assert superior <= 16  # 5 % are 10, and a one-sided bound for luck


def test_of_the_best_of_twenty_alone_most_would_be_called_superior() -> None:
    # The negative control: what the test above protects from.
    superior = 0
    for seed in range(50):
        tried = noise(seed, 365, 20)
        best = tried[:, int(np.argmax(tried.mean(axis=0) / tried.std(axis=0)))]
        superior += superiority_p_value(best, np.empty((365, 0)), np.zeros(365)) <= 0.05
    assert superior >= 25


def test_the_more_was_tried_the_less_superior_is_the_same_result() -> None:
    returns, cash = noise(9)[:, 0] + 0.0015, np.zeros(365)
    alone = superiority_p_value(returns, np.empty((365, 0)), cash)
    among_many = superiority_p_value(returns, noise(10, count=200), cash)
    assert alone < 0.05 < among_many


def test_leverage_makes_nobody_superior() -> None:
    market = noise(11)[:, 0] + 0.001
    assert superiority_p_value(3.0 * market, np.empty((365, 0)), market) == 1.0


def test_going_short_in_a_falling_market_is_superior_to_nothing() -> None:
    falling = noise(11)[:, 0] - 0.002
    assert superiority_p_value(-falling, np.empty((365, 0)), falling) == 1.0


def test_what_has_nothing_to_do_with_a_wild_market_is_measured_without_its_swings() -> None:
    # Beside a market with ten times its risk the same steady gain is as superior as beside cash.
    own, market = noise(9)[:, 0] + 0.0015, 10.0 * noise(12)[:, 0]
    beside_cash = superiority_p_value(own, np.empty((365, 0)), np.zeros(365))
    assert superiority_p_value(own, np.empty((365, 0)), market) == pytest.approx(beside_cash, abs=0.02)


def test_what_never_moved_is_superior_to_nothing() -> None:
    assert superiority_p_value(np.zeros(100), np.empty((100, 0)), np.zeros(100)) == 1.0


def test_a_drawdown_is_told_with_its_depth_days_and_length() -> None:
    deepest = max_drawdown(np.array([0.10, -0.10, -0.10, 0.30, -0.05, 0.02]))
    assert deepest.depth == pytest.approx(1 - 0.9 * 0.9)
    assert (deepest.peak_day, deepest.trough_day, deepest.longest_days) == (0, 2, 2)


def test_without_a_loss_there_is_no_drawdown() -> None:
    assert max_drawdown(np.array([0.01, 0.0, 0.02])) == (0.0, -1, -1, 0)


def test_walk_forward_efficiency_is_what_was_kept_of_what_was_promised() -> None:
    promised, kept = [np.full(60, 0.004), np.full(60, 0.002)], [np.full(20, 0.001), np.full(20, 0.002)]
    assert walk_forward_efficiency(promised, kept) == pytest.approx(0.5)
    assert math.isnan(walk_forward_efficiency([np.full(10, -0.001)], kept))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.01, math.nan], "day 1 is nan"),
        ([-math.inf], "day 0 is -inf"),
        (np.zeros((3, 2)), "one number a day"),
    ],
)
def test_returns_that_are_none_are_refused_by_their_day(values: list[float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        as_daily_returns(values)
