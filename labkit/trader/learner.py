"""The learner: logistic experts with different views and memories, mixed by their record, kept honest by a slope.

A question is (features at entry); its answer is the soft label q in [0, 1] of the bracket that was asked about, so
that E[result in barrier units] = 2p - 1, time-outs included. Answers are accumulated as they mature and taken in by
one damped Newton step an hour that forgets towards the prior. Memory half-lives are in weighted labels (the weight of
a label is its uniqueness). Used by the compiled step only.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.trader.compiling import compiled
from labkit.trader.drift import observe_drift
from labkit.trader.evidence import observe_evidence
from labkit.trader.features import FEATURE_COUNT, FEATURE_NAMES


class Expert(NamedTuple):
    """One logistic model: the features it sees, its memory in weighted labels, and its prior variance per weight."""

    name: str
    features: tuple[str, ...]
    half_life: float
    prior_variance: float


_WEIGHTED_BY_VOLATILITY = ("mom10×vr", "mom40×vr", "mom160×vr", "mom640×vr", "mkt×vr")

EXPERTS = (
    # Believes in nothing. Cheap insurance: the mixture can always fall back on a coin.
    Expert("null", (), 12_000.0, 1.0),
    # Wide and slow is precise ...
    Expert("full", FEATURE_NAMES, 12_000.0, 0.005),
    Expert("trend", ("mom40", "mom160", "mom640", "mkt160", "dev720"), 12_000.0, 0.01),
    Expert("context", _WEIGHTED_BY_VOLATILITY, 6_000.0, 0.01),
    # ... narrow and fast adapts.
    Expert("mom40+160 fast", ("mom40", "mom160"), 300.0, 0.02),
    Expert("mom40+160", ("mom40", "mom160"), 2_000.0, 0.03),
    Expert("mom160+640 fast", ("mom160", "mom640"), 300.0, 0.02),
    Expert("mom160+640", ("mom160", "mom640"), 2_000.0, 0.03),
    Expert("mom40+160×vr", ("mom40×vr", "mom160×vr"), 6_000.0, 0.03),
    Expert("mom160+640×vr", ("mom160×vr", "mom640×vr"), 6_000.0, 0.03),
)
EXPERT_COUNT = len(EXPERTS)

_WIDTHS = np.array([len(expert.features) for expert in EXPERTS])
_COLUMNS = np.zeros((EXPERT_COUNT, FEATURE_COUNT), np.int64)
for _k, _expert in enumerate(EXPERTS):
    _COLUMNS[_k, : len(_expert.features)] = [FEATURE_NAMES.index(name) for name in _expert.features]
_HALF_LIVES = np.array([expert.half_life for expert in EXPERTS])
_PRIOR_PRECISIONS = np.array([1.0 / expert.prior_variance for expert in EXPERTS])

_LEARNING_RATE = 1.0
"""Of the mixture: log-loss is exp-concave, at rate 1 the regret against the best expert is at most log(experts)."""
_SHARE = 5e-5
"""Weight that flows back to all experts per weighted label, so that a forgotten one can return."""
_SLOPE_HALF_LIFE = 6_000.0
_SLOPE_RIDGE = 0.1
"""Pulls the calibration slope to 0 while there is no evidence."""
_LOG_2 = math.log(2.0)


def weights_by_feature(expert: int, weights: Any) -> dict[str, float]:
    """An expert's weights (a row of `common.weights`) by feature name."""
    return {name: float(weights[i]) for i, name in enumerate(EXPERTS[expert].features)}


@compiled
def log_loss(probability: float, q: float) -> float:
    """Cross-entropy of a forecast against a soft label, in nats."""
    return -(q * math.log(probability) + (1.0 - q) * math.log(1.0 - probability))


def start_learner(common: NDArray[Any]) -> None:
    """Every expert at its prior, all equally trusted. `common` is the state's record array of length 1."""
    common["log_weights"] = -math.log(EXPERT_COUNT)
    for k, width in enumerate(_WIDTHS):
        own = np.arange(width)
        common["precision"][0, k, own, own] = _PRIOR_PRECISIONS[k]


@compiled
def predict(common: Any, x: Any, expert_p: Any) -> float:
    """Probability of the long bracket by the mixture; each expert's own goes into `expert_p`."""
    mixture = 0.0
    for k in range(EXPERT_COUNT):
        logit = 0.0
        for a in range(_WIDTHS[k]):
            logit += common.weights[k, a] * x[_COLUMNS[k, a]]
        expert_p[k] = 1.0 / (1.0 + math.exp(-min(max(logit, -10.0), 10.0)))
        mixture += math.exp(common.log_weights[k]) * expert_p[k]
    return mixture


@compiled
def learn(common: Any, x: Any, q: float, p: float, expert_p: Any, weight: float) -> None:
    """Take in one answer: score what was said when the question was asked, then accumulate for the next refit.

    `p` and `expert_p` are the probabilities issued at entry (prequential), `weight` the label's uniqueness.
    """
    common.skill += weight * (_LOG_2 - log_loss(p, q))
    # What the slope cuts off a boast was never staked: drift is about what is left.
    counted_on = 0.5 + min(max(calibration_slope(common), 0.0), 1.0) * (p - 0.5)
    saved = weight * (_LOG_2 - log_loss(counted_on, q))
    observe_drift(common, saved)
    common.weight += weight
    common.labels += 1

    highest = -1e300
    for k in range(EXPERT_COUNT):
        common.log_weights[k] -= _LEARNING_RATE * weight * log_loss(expert_p[k], q)
        highest = max(highest, common.log_weights[k])
    total = 0.0
    for k in range(EXPERT_COUNT):
        total += math.exp(common.log_weights[k] - highest)
    share = _SHARE * weight
    for k in range(EXPERT_COUNT):
        trust = math.exp(common.log_weights[k] - highest) / total
        common.log_weights[k] = math.log((1.0 - share) * trust + share / EXPERT_COUNT)

    for k in range(EXPERT_COUNT):
        logit = 0.0
        for a in range(_WIDTHS[k]):
            logit += common.weights[k, a] * x[_COLUMNS[k, a]]
        error = weight * (q - 1.0 / (1.0 + math.exp(-min(max(logit, -10.0), 10.0))))
        for a in range(_WIDTHS[k]):
            common.gradient[k, a] += error * x[_COLUMNS[k, a]]
    for i in range(FEATURE_COUNT):
        for j in range(i + 1):
            common.gram[i, j] += 0.25 * weight * x[i] * x[j]
    common.batch_weight += weight

    # The calibration slope: how much of the predicted edge has been coming true, as a regression through the origin.
    keep = 2.0 ** (-weight / _SLOPE_HALF_LIFE)
    observe_evidence(common, saved, keep)
    said = p - 0.5
    result = 2.0 * q - 1.0
    common.slope_up = keep * common.slope_up + weight * said * (q - 0.5)
    common.slope_down = keep * common.slope_down + weight * said * said
    common.square_up = keep * common.square_up + weight * result * result
    common.square_down = keep * common.square_down + weight


@compiled
def mean_square_result(common: Any) -> float:
    """E[R²] of the brackets, R in barrier units; 1 (every bracket hits) until something is known."""
    return float((common.square_up + 1.0) / (common.square_down + 1.0))


@compiled
def calibration_slope(common: Any) -> float:
    """Slope of results on predictions: 1 is honest, 0 is noise."""
    return float(common.slope_up / (common.slope_down + _SLOPE_RIDGE))


@compiled
def usable_slope(common: Any, confidence_z: float) -> float:
    """The share of a predicted edge that may be counted on: `confidence_z` standard errors below, within [0, 1]."""
    # Twice the plain variance: overlapping labels on correlated symbols are less independent than their weights say.
    error = math.sqrt(0.5 * mean_square_result(common) / (common.slope_down + _SLOPE_RIDGE))
    return min(max(calibration_slope(common) - confidence_z * error, 0.0), 1.0)


@compiled
def refit(common: Any, factor: Any, step: Any) -> None:
    """One damped Newton step per expert on what has matured since the last one, forgetting towards the prior.

    `factor` and `step` are scratch, overwritten before they are read.
    """
    if common.batch_weight <= 0.0:
        return
    for k in range(EXPERT_COUNT):
        n = _WIDTHS[k]
        keep = 2.0 ** (-common.batch_weight / _HALF_LIVES[k])
        prior = (1.0 - keep) * _PRIOR_PRECISIONS[k]
        for a in range(n):
            for b in range(a + 1):
                i, j = _COLUMNS[k, a], _COLUMNS[k, b]
                common.precision[k, a, b] = keep * common.precision[k, a, b] + common.gram[max(i, j), min(i, j)]
            common.precision[k, a, a] += prior
            step[a] = common.gradient[k, a] - prior * common.weights[k, a]
            common.gradient[k, a] = 0.0
        _solve(common.precision[k], step, n, factor)
        for a in range(n):
            common.weights[k, a] += step[a]
    for i in range(FEATURE_COUNT):
        for j in range(i + 1):
            common.gram[i, j] = 0.0
    common.batch_weight = 0.0


@compiled
def _solve(matrix: Any, vector: Any, n: int, factor: Any) -> None:
    """Solve `matrix` · v = `vector` in place by Cholesky; only the lower triangle is read."""
    for a in range(n):
        for b in range(a + 1):
            total = matrix[a, b]
            for c in range(b):
                total -= factor[a, c] * factor[b, c]
            if a == b:
                factor[a, a] = math.sqrt(total)
            else:
                factor[a, b] = total / factor[b, b]
    for a in range(n):
        total = vector[a]
        for c in range(a):
            total -= factor[a, c] * vector[c]
        vector[a] = total / factor[a, a]
    for a in range(n - 1, -1, -1):
        total = vector[a]
        for c in range(a + 1, n):
            total -= factor[c, a] * vector[c]
        vector[a] = total / factor[a, a]
