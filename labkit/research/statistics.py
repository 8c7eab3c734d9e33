"""What daily returns can tell, and how far luck alone would have come.

Arrays are float64[D] returns of whole UTC days, as fractions of the equity a day began with, or float64[D, N] for N
strategies over the same days. Sharpe ratios are annualised over 365 days where a name does not say `daily`; nothing is
subtracted as risk-free, idle cash of a futures account earns nothing. Confidence comes from one stationary bootstrap
(Politis and Romano 1994) with a fixed seed: the same returns always get the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.errors import ConfigError

Floats = NDArray[np.float64]

DAYS_PER_YEAR = 365
BLOCK_DAYS = 5
"""Mean length of a bootstrap block: longer than a position is held, so that what hangs together stays together."""
RESAMPLES = 2_000
SEED = 20_240_611
EULER_GAMMA = 0.5772156649015329
CSCV_BLOCKS = 12
"""924 ways to halve the days: the share of failures is known to two digits."""
LEAST_BLOCK_DAYS = 5

_NORMAL = NormalDist()


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


class Drawdown(NamedTuple):
    """The deepest fall from a peak, as a fraction of it, and the longest time below one, in days."""

    depth: float
    peak_day: int
    """Index of the last day at the peak; -1 is the beginning, before any return."""
    trough_day: int
    longest_days: int


# -- what happened ----------------------------------------------------------------------------------------------------


def daily_sharpe_ratio(daily_returns: Floats) -> float:
    """Mean over sample standard deviation, per day; 0 where nothing moved."""
    if daily_returns.size < 2:
        return 0.0
    deviation = float(daily_returns.std(ddof=1))
    return float(daily_returns.mean()) / deviation if deviation > 0.0 else 0.0


def sharpe_ratio(daily_returns: Floats) -> float:
    """Annualised Sharpe ratio; 0 where nothing moved."""
    return daily_sharpe_ratio(daily_returns) * math.sqrt(DAYS_PER_YEAR)


def skewness_and_kurtosis(daily_returns: Floats) -> tuple[float, float]:
    """Third and fourth standardised moments (of the population); 0 and 3, a normal's, where nothing moved."""
    centred = daily_returns - daily_returns.mean()
    variance = float(np.mean(centred**2))
    if variance <= 0.0:
        return 0.0, 3.0
    return float(np.mean(centred**3)) / variance**1.5, float(np.mean(centred**4)) / variance**2


def max_drawdown(daily_returns: Floats) -> Drawdown:
    """The deepest and the longest fall of compounded equity at the ends of days."""
    equity = np.concatenate(([1.0], np.cumprod(1.0 + daily_returns)))
    peaks = np.maximum.accumulate(equity)
    trough = int(np.argmax(1.0 - equity / peaks))
    peak = int(np.flatnonzero(equity[: trough + 1] == peaks[trough])[-1])
    at_peak = np.flatnonzero(equity == peaks)
    longest = int(np.diff(np.append(at_peak, equity.size)).max()) - 1
    return Drawdown(float(1.0 - equity[trough] / peaks[trough]), peak - 1, trough - 1, longest)


def walk_forward_efficiency(in_sample: Sequence[Floats], out_of_sample: Sequence[Floats]) -> float:
    """Mean daily return out of sample over that in sample (Pardo 2008): 1 keeps what it promised, 0 keeps nothing.

    One array per window on either side; NaN where nothing was promised (no gain in sample).
    """
    promised, kept = np.concatenate(in_sample).mean(), np.concatenate(out_of_sample).mean()
    return float(kept / promised) if promised > 0.0 else math.nan


# -- how sure one can be ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def resampling(days: int, block_days: int = BLOCK_DAYS, resamples: int = RESAMPLES) -> Floats:
    """How often each day occurs in each resample of the stationary bootstrap, over `days`: float64[resamples, days].

    Blocks begin anywhere, end with probability 1 / `block_days` after each day, and wrap around. `weights @ x` is then
    the mean of x in every resample, so that one matrix serves all series of the same length. Not to be written to.
    """
    chosen = block_draws(days, block_days, resamples) + days * np.arange(resamples)[:, None]
    weights = np.bincount(chosen.ravel(), minlength=resamples * days).reshape(resamples, days) / days
    weights.flags.writeable = False
    return weights


def block_draws(days: int, block_days: int = BLOCK_DAYS, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """The days of every resample in their order, int64[resamples, days]: what `resampling` counts."""
    random = np.random.default_rng(SEED)
    begins = random.random((resamples, days)) < 1.0 / block_days
    begins[:, 0] = True
    day = np.arange(days)
    block_begin = np.maximum.accumulate(np.where(begins, day, 0), axis=1)
    source = np.take_along_axis(random.integers(days, size=(resamples, days)), block_begin, axis=1)
    return np.asarray((source + day - block_begin) % days)


def sharpe_interval(daily_returns: Floats, confidence: float = 0.95) -> Interval:
    """Percentile interval of the annualised Sharpe ratio."""
    weights = resampling(daily_returns.size)
    means = weights @ daily_returns
    deviations = np.sqrt(np.maximum(weights @ daily_returns**2 - means**2, 0.0))
    ratios = np.divide(means, deviations, out=np.zeros_like(means), where=deviations > 0.0)
    return _percentiles(ratios * math.sqrt(DAYS_PER_YEAR), confidence)


def ratio_interval(numerators: Floats, denominators: Floats, confidence: float = 0.95) -> Interval:
    """Percentile interval of Σ numerators / Σ denominators over days: the skill per label, say.

    With ones below it is that of the mean.
    """
    weights = resampling(numerators.size)
    below = weights @ denominators
    ratios = np.divide(weights @ numerators, below, out=np.zeros_like(below), where=below > 0.0)
    return _percentiles(ratios, confidence)


def probabilistic_sharpe_ratio(
    daily_sharpe: float, days: int, skewness: float = 0.0, kurtosis: float = 3.0, *, benchmark: float = 0.0
) -> float:
    """Probability that the true daily Sharpe ratio exceeds `benchmark` (daily, too).

    Bailey and López de Prado, "The Sharpe Ratio Efficient Frontier" (2012), equation 11; returns need not be normal,
    but independent.
    """
    if days < 2:
        return math.nan
    return _NORMAL.cdf((daily_sharpe - benchmark) * math.sqrt(days - 1) / _spread(daily_sharpe, skewness, kurtosis))


def minimum_track_record(
    daily_sharpe: float,
    skewness: float = 0.0,
    kurtosis: float = 3.0,
    *,
    benchmark: float = 0.0,
    confidence: float = 0.95,
) -> float:
    """Days needed before a daily Sharpe ratio like this one is above `benchmark` with `confidence`; inf if it is not.

    Bailey and López de Prado (2012), equation 13.
    """
    if daily_sharpe <= benchmark:
        return math.inf
    spread = _spread(daily_sharpe, skewness, kurtosis)
    return 1.0 + (spread * _NORMAL.inv_cdf(confidence) / (daily_sharpe - benchmark)) ** 2


def _spread(daily_sharpe: float, skewness: float, kurtosis: float) -> float:
    """Standard deviation of an estimated Sharpe ratio, times √(days - 1)."""
    # Below zero only for moments that no returns can have together; a tiny sample may come near.
    return math.sqrt(max(1.0 - skewness * daily_sharpe + 0.25 * (kurtosis - 1.0) * daily_sharpe**2, 1e-12))


# -- how far luck would have come --------------------------------------------------------------------------------------


def expected_maximum_sharpe(trials: int, deviation: float) -> float:
    """The Sharpe ratio that the best of `trials` independent strategies without any skill is expected to show.

    `deviation` is the standard deviation of the Sharpe ratios across trials; the result is in its unit. Bailey and
    López de Prado, "The Deflated Sharpe Ratio" (2014), equation 1 with a mean of zero.
    """
    if trials < 2:
        return 0.0
    one, next_one = _NORMAL.inv_cdf(1.0 - 1.0 / trials), _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return deviation * ((1.0 - EULER_GAMMA) * one + EULER_GAMMA * next_one)


def deflated_sharpe_ratio(daily_returns: Floats, trials: int, deviation: float) -> float:
    """Probability that the true Sharpe ratio is above what the best of `trials` without skill would show.

    `deviation` is that of the *daily* Sharpe ratios across trials. Bailey and López de Prado (2014), equation 2.
    Trials that resemble each other are taken as independent, which errs on the side of doubt.
    """
    skewness, kurtosis = skewness_and_kurtosis(daily_returns)
    return probabilistic_sharpe_ratio(
        daily_sharpe_ratio(daily_returns),
        daily_returns.size,
        skewness,
        kurtosis,
        benchmark=expected_maximum_sharpe(trials, deviation),
    )


def probability_of_overfitting(daily_returns: Floats, blocks: int = CSCV_BLOCKS) -> float:
    """How often the best of one half of the days is no better than the median in the other half: PBO by CSCV.

    `daily_returns` is float64[D, N]. The days are cut into an even number of `blocks` (fewer where they would be
    shorter than 5 days), every half of which is the sample once. NaN for fewer than two strategies or four blocks.
    Bailey, Borwein, López de Prado and Zhu, "The Probability of Backtest Overfitting" (2017).
    """
    days, count = daily_returns.shape
    blocks = min(blocks, days // LEAST_BLOCK_DAYS) // 2 * 2
    if count < 2 or blocks < 4:
        return math.nan
    # Blocks of the same length; the days that are left over are the oldest.
    parts = daily_returns[days % blocks :].reshape(blocks, -1, count)
    sums, squares = parts.sum(axis=1), (parts**2).sum(axis=1)
    # The complement of a half is a half, too: those with the first block stand for all, each looked at both ways.
    halves = np.zeros((math.comb(blocks, blocks // 2) // 2, blocks))
    for row, others in enumerate(combinations(range(1, blocks), blocks // 2 - 1)):
        halves[row, [0, *others]] = 1.0
    half_days = parts.shape[1] * blocks // 2
    overfitted = 0
    for some in np.array_split(halves, 1 + halves.shape[0] * count // 1_000_000):
        one = _sharpe_of_sums(some @ sums, some @ squares, half_days)
        other = _sharpe_of_sums((1.0 - some) @ sums, (1.0 - some) @ squares, half_days)
        overfitted += _disappointments(one, other) + _disappointments(other, one)
    return overfitted / (2 * halves.shape[0])


def _disappointments(inside: Floats, outside: Floats) -> int:
    """In how many rows the best column `inside` ranks no higher than the median `outside`; equals share their ranks."""
    own = np.take_along_axis(outside, np.argmax(inside, axis=1)[:, None], axis=1)
    lower, equal = (outside < own).sum(axis=1), (outside == own).sum(axis=1)
    rank = lower + 0.5 * (equal + 1)
    return int((rank <= 0.5 * (outside.shape[1] + 1)).sum())


def _sharpe_of_sums(sums: Floats, squares: Floats, days: int) -> Floats:
    means = sums / days
    variances = squares / days - means**2
    moved = variances > 1e-14 * np.maximum(squares / days, 1e-300)
    return np.divide(means, np.sqrt(np.abs(variances)), out=np.zeros_like(means), where=moved)


def superiority_p_value(daily_returns: Floats, tried: Floats, benchmark: Floats) -> float:
    """How likely the best of all that was tried earns as much beyond `benchmark` as this strategy does, if none can.

    Hansen, "A Test for Superior Predictive Ability" (2005), consistently recentred, of what is left of each day's
    return after the part that goes with the benchmark is taken away (its alpha, Jensen 1968): holding the market with
    borrowed money, or short in a falling one, leaves nothing, and what has nothing to do with the market is not
    measured against the market's own large swings. Gains are compared per unit of their standard deviation (the plain
    one: one that minds correlations is itself so uncertain that the best of twenty without skill passed at 5 % in
    10 %). `tried` is float64[D, N], all candidates the strategy was chosen from (it may be among them or not);
    `benchmark` float64[D].
    """
    days = daily_returns.size
    gains = _beyond(np.column_stack([daily_returns, tried]), benchmark)
    deviations = gains.std(axis=0)
    moved = deviations > 1e-12
    if days < 3 or not moved[0]:
        return 1.0
    gains = gains[:, moved] / deviations[moved]
    means, resampled = gains.mean(axis=0), resampling(days) @ gains
    # What is far worse than the benchmark cannot have been the lucky one: it keeps its own mean.
    hopeless = means < -resampled.std(axis=0) * math.sqrt(2.0 * math.log(math.log(days)))
    centred = resampled - np.where(hopeless, 0.0, means)
    best_of_luck = centred.max(axis=1)
    # At least one resample counts: no finite number of them shows a probability of zero.
    return float((1 + (best_of_luck >= means[0]).sum()) / (1 + best_of_luck.size))


def _beyond(daily_returns: Floats, benchmark: Floats) -> Floats:
    """What float64[D, N] `daily_returns` earned beyond their exposure (beta, least squares) to `benchmark`."""
    swings = benchmark - benchmark.mean()
    variation = float(swings @ swings)
    exposure = swings @ daily_returns / variation if variation > 0.0 else np.zeros(daily_returns.shape[1])
    beyond: Floats = daily_returns - np.outer(benchmark, exposure)
    # What only follows the benchmark leaves rounding errors, which are no gain.
    beyond[:, beyond.std(axis=0) < 1e-9 * daily_returns.std(axis=0)] = 0.0
    return beyond


def _percentiles(values: Floats, confidence: float) -> Interval:
    low, high = np.quantile(values, [0.5 - confidence / 2.0, 0.5 + confidence / 2.0])
    return Interval(float(low), float(high))


def as_daily_returns(values: Sequence[float] | Floats, name: str = "daily returns") -> Floats:
    """`values` as float64[D].

    Raises:
        ConfigError: they are not one-dimensional, or one of them is not finite.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ConfigError(f"{name}: one number a day, not an array of shape {array.shape}")
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        raise ConfigError(f"{name}: day {wrong[0]} is {array[wrong[0]]}; a return is a finite fraction")
    return array
