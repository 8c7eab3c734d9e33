"""The feature gate: a feature that is no number, stands still or lies where it never lay stops entries, by name.

Per symbol and feature the gate keeps a short memory (how it has been lately) and the range that memory has had over
weeks (what was learned from; never narrower than the order of one all features are made to have). Ranges rather than
standard deviations, because slow features are far from their mean for hours by nature. What is odd for long becomes
the new normal, slowly. Memories are in questions of a symbol, a decision cycle apart. Used by the compiled step only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from labkit.trader.compiling import compiled
from labkit.trader.features import DEVIATION_BOUND, FEATURE_COUNT, FEATURE_NAMES

SANE, NOT_A_NUMBER, CONSTANT, SHIFTED, SPREAD = range(5)
FAULT_WORDS = (
    "is sane",
    "is not a number",
    "has stood still",
    "has lately been off what was learned from",
    "has lately been wider than what was learned from",
)

STANDING_STILL = 60
"""A feature that bears the same bits in so many questions is stuck."""
QUESTIONS_TO_LEARN = 200
"""Before this many questions a range is not known well enough to be left."""

_CONSTANT_BY_DESIGN = np.array([name == "drift" for name in FEATURE_NAMES])
_FLOW = FEATURE_NAMES.index("flow")
_BOUND = np.array([DEVIATION_BOUND if name == "dev720" else 1.0 for name in FEATURE_NAMES])
_LATELY = 1.0 - 2.0 ** (-1.0 / 8.0)
_FORGETTING = 1.0 - 2.0 ** (-1.0 / 4_000.0)
_WIDENING = 1.0 - 2.0 ** (-1.0 / 50.0)
"""How fast the range follows what lies a little outside it: slower than lately changes, or nothing were ever odd."""
_GETTING_USED = 1.0 - 2.0 ** (-1.0 / 300.0)
"""How fast it follows what is odd."""
_MARGIN = 0.25
"""Of the range's own width: how far beyond it is odd."""
_ORDER = np.array([1.5 if name == "dev720" else 1.0 for name in FEATURE_NAMES])
"""What is expected before anything is learned: momenta end at 1, the distance from the average at 2."""


@compiled
def inspect(symbol: Any) -> bool:
    """Look at the features of one question: `symbol.suspect` is then the first odd one's number from 1 (0: none).

    Returns False if any is not a number: the question must not be put, since its answer would be learned from.
    """
    symbol.suspect = 0
    symbol.fault = SANE
    for i in range(FEATURE_COUNT):
        if not math.isfinite(symbol.x[i]):
            symbol.suspect = i + 1
            symbol.fault = NOT_A_NUMBER
            return False
    symbol.inspected += 1
    for i in range(FEATURE_COUNT):
        fault = _inspect_one(symbol, i, symbol.x[i])
        if fault != SANE and symbol.suspect == 0:
            symbol.suspect = i + 1
            symbol.fault = fault
    return True


@compiled
def _inspect_one(symbol: Any, i: int, x: float) -> int:
    fault = SANE
    if x != symbol.x_latest[i] or _may_stand_still(symbol, i, x):
        symbol.x_still[i] = 0
    else:
        symbol.x_still[i] += 1
        if symbol.x_still[i] >= STANDING_STILL:
            fault = CONSTANT
    symbol.x_latest[i] = x
    if symbol.inspected == 1:
        symbol.x_mean[i], symbol.x_square[i] = x, x * x
        symbol.x_low[i], symbol.x_high[i], symbol.x_widest[i] = -_ORDER[i], _ORDER[i], _ORDER[i]
    symbol.x_mean[i] += _LATELY * (x - symbol.x_mean[i])
    symbol.x_square[i] += _LATELY * (x * x - symbol.x_square[i])
    mean, width = symbol.x_mean[i], math.sqrt(symbol.x_square[i])
    low, high, widest = symbol.x_low[i], symbol.x_high[i], symbol.x_widest[i]
    if symbol.inspected <= QUESTIONS_TO_LEARN:
        symbol.x_low[i], symbol.x_high[i], symbol.x_widest[i] = min(low, mean), max(high, mean), max(widest, width)
        return fault
    margin = _MARGIN * (high - low)
    if mean < low - margin or mean > high + margin:
        fault = SHIFTED
    elif width > (1.0 + 2.0 * _MARGIN) * widest:
        fault = SPREAD
    symbol.x_low[i] = -_followed(-low, -mean, mean < low - margin, _ORDER[i])
    symbol.x_high[i] = _followed(high, mean, mean > high + margin, _ORDER[i])
    symbol.x_widest[i] = _followed(widest, width, fault == SPREAD, _ORDER[i])
    return fault


@compiled
def _may_stand_still(symbol: Any, i: int, x: float) -> bool:
    if i == _FLOW:
        # A history that never told of taker volume has no flow: nothing was learned from it, nothing is lost.
        return bool(symbol.flow_bars == 0)
    # In a long trend a momentum and the distance from the average rest at their bounds.
    return bool(_CONSTANT_BY_DESIGN[i] or abs(x) == _BOUND[i])


@compiled
def _followed(bound: float, value: float, odd: bool, least: float) -> float:
    """The upper bound of a range after `value`: pushed out slowly, drawn in very slowly, to `least`."""
    rate = _FORGETTING
    if odd:
        rate = _GETTING_USED
    elif value > bound:
        rate = _WIDENING
    return max(least, bound + rate * (value - bound))
