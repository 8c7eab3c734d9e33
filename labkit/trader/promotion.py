"""The rule a challenger must pass to take the champion's place, stated before anything is seen.

A pure function of the daily returns of both, after all costs, on the same days. It looks on few days that are fixed
beforehand, and each look may err half as often as the one before: whoever asks every day cannot promote noise by
patience. Used by whatever runs a challenger beside the trader.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from labkit.errors import ConfigError

FLIPS = 10_000
SEED = 20_240_611


class PromotionRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked of a challenger.

    It is looked at after `first_look_days`, and whenever twice as many days have passed. Over all looks together a
    challenger that is no better is promoted with a probability of at most `error`. Days are taken in blocks of
    `block_days`, longer than a position is held. Its deepest drawdown may be at most `drawdown_ratio` times the
    champion's.
    """

    first_look_days: int = 30
    error: float = 0.05
    block_days: int = 5
    drawdown_ratio: float = 1.25

    def __post_init__(self) -> None:
        if self.block_days < 1 or self.first_look_days < 6 * self.block_days:
            raise ConfigError(
                f"first_look_days {self.first_look_days}: six blocks of block_days {self.block_days} are the least "
                "that can show anything",
                field="first_look_days",
            )
        if not 0.0 < self.error < 1.0:
            raise ConfigError(f"error {self.error}: a probability between 0 and 1", field="error")
        if not self.drawdown_ratio >= 0.0:
            raise ConfigError(f"drawdown_ratio {self.drawdown_ratio}: at least 0", field="drawdown_ratio")


class PromotionVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of the latest look."""

    promoted: bool
    looked_days: int
    """How many days the latest look took in; 0 before the first."""
    next_look_days: int
    probability: float
    """That a challenger no better than the champion would look as good as this; 1 before the first look."""
    words: str


def promotion(
    champion_daily: NDArray[np.float64], challenger_daily: NDArray[np.float64], rule: PromotionRule
) -> PromotionVerdict:
    """Judge the challenger by the latest look that is due.

    The differences of daily returns are summed in blocks, and the signs of the blocks flipped at random: were the
    challenger no better, either sign would be as likely, so the share of flips with as high a sum is its probability
    (Fisher's randomisation test; it needs no normal returns and no large numbers).

    Args:
        champion_daily, challenger_daily: float64[D] returns of whole days, as fractions, on the same days.

    Raises:
        ConfigError: they are not equally long, or not finite.
    """
    if champion_daily.shape != challenger_daily.shape or champion_daily.ndim != 1:
        raise ConfigError(f"champion {champion_daily.shape} and challenger {challenger_daily.shape}: not the same days")
    if not (np.isfinite(champion_daily).all() and np.isfinite(challenger_daily).all()):
        raise ConfigError("a daily return of champion or challenger is not finite")
    days, error = rule.first_look_days, rule.error / 2.0
    if champion_daily.size < days:
        words = f"Too early: {champion_daily.size} days, the first look is after {days}."
        return PromotionVerdict(promoted=False, looked_days=0, next_look_days=days, probability=1.0, words=words)
    while 2 * days <= champion_daily.size:
        days, error = 2 * days, error / 2.0
    champion, challenger = champion_daily[:days], challenger_daily[:days]
    probability = _probability_by_luck(challenger - champion, rule.block_days)
    fall, allowed = _deepest_fall(challenger), rule.drawdown_ratio * _deepest_fall(champion)
    better, safe = probability <= error, fall <= allowed
    return PromotionVerdict(
        promoted=better and safe,
        looked_days=days,
        next_look_days=2 * days,
        probability=probability,
        words=(
            f"{'Promoted' if better and safe else 'Not promoted'} after {days} days: as good a challenger by luck has "
            f"a probability of {probability:.4f} (at most {error:.4f}); its deepest drawdown is {fall:.1%} (at most "
            f"{allowed:.1%}). The next look is after {2 * days} days."
        ),
    )


def _probability_by_luck(differences: NDArray[np.float64], block_days: int) -> float:
    blocks = differences.size // block_days
    # The days that are left over are the oldest: what is nearest to now is never left out.
    sums = differences[differences.size - blocks * block_days :].reshape(blocks, block_days).sum(axis=1)
    if not sums.any():
        return 1.0
    signs = _signs(blocks)
    # The signs that happened are one of the flips; a hair of tolerance keeps equal sums equal.
    as_good = int((signs @ sums >= sums.sum() - 1e-12 * np.abs(sums).sum()).sum())
    return (1 + as_good) / (1 + FLIPS)


@lru_cache(maxsize=4)
def _signs(blocks: int) -> NDArray[np.float64]:
    return 2.0 * np.random.default_rng(SEED).integers(0, 2, (FLIPS, blocks)).astype(np.float64) - 1.0


def _deepest_fall(daily: NDArray[np.float64]) -> float:
    equity = np.concatenate(([1.0], np.cumprod(1.0 + daily)))
    return float((1.0 - equity / np.maximum.accumulate(equity)).max())
