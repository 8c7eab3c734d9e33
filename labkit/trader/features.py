"""Sixteen causal features per symbol, each updated in constant time from one closed minute bar.

All are odd in the side (a short sees their negatives), dimensionless and of order one: `z` is a log return in units of
the fast volatility, clipped; momenta are tanh of exponentially weighted z scaled to unit variance on noise. Used by
the compiled step only. Half-lives are in minutes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from labkit.trader.compiling import compiled

FEATURE_NAMES = (
    "drift",
    "mom10",
    "mom40",
    "mom160",
    "mom640",
    "mkt160",
    "flow",
    "dev720",
    "mom10×vr",
    "mom40×vr",
    "mom160×vr",
    "mom640×vr",
    "mkt×vr",
    "tod_sin",
    "tod_cos",
    "mom160²",
)
FEATURE_COUNT = len(FEATURE_NAMES)

MOMENTUM_HALF_LIVES = (10.0, 40.0, 160.0, 640.0)
MINUTES_PER_DAY = 1440
DEVIATION_BOUND = 2.0

OPEN, HIGH, LOW, CLOSE, VOLUME, TAKER_BUY_VOLUME = range(6)
"""Columns of a bar row."""


def _rate(half_life: float) -> float:
    """Weight of the newest value in an exponentially weighted mean of this half-life."""
    return float(1.0 - 2.0 ** (-1.0 / half_life))


_MOMENTUM_RATES = np.array([_rate(half_life) for half_life in MOMENTUM_HALF_LIVES])
# On noise the variance of such a mean is rate / (2 - rate): its inverse root gives every momentum unit variance.
_MOMENTUM_SCALES = np.sqrt((2.0 - _MOMENTUM_RATES) / _MOMENTUM_RATES)
_FAST_RATE = _rate(240.0)
_SLOW_RATE = _rate(14_400.0)
_FLOW_RATE = _rate(30.0)
_MARKET_RATE = _rate(160.0)
_MARKET_SCALE = math.sqrt((2.0 - _MARKET_RATE) / _MARKET_RATE)
_LEVEL_RATE = _rate(720.0)
_LEVEL_SCALE = 1.0 / math.sqrt(720.0)
_TURN = 2.0 * math.pi / MINUTES_PER_DAY


@compiled
def is_usable(row: Any) -> bool:
    """True if a bar row holds a possible bar: finite, positive prices in order, no negative volume.

    Taker-buy volume may be missing (NaN): some histories do not tell it.
    """
    return (
        math.isfinite(row[HIGH])
        and row[LOW] > 0.0
        and row[LOW] <= row[OPEN] <= row[HIGH]
        and row[LOW] <= row[CLOSE] <= row[HIGH]
        and 0.0 <= row[VOLUME] < np.inf
    )


@compiled
def clip(value: float, bound: float) -> float:
    """`value` limited to ±`bound`."""
    return min(max(value, -bound), bound)


@compiled
def observe_bar(symbol: Any, minute: int, row: Any) -> None:
    """Take one closed bar into a symbol's running means; `symbol.z` is then its standardised return."""
    close = row[CLOSE]
    if symbol.bars == 0:
        symbol.level = math.log(close)
        symbol.z = 0.0
    else:
        # A return over a gap is spread over the minutes it took, so that a gap is no outburst of volatility.
        elapsed = max(1, minute - symbol.last_minute)
        change = math.log(close / symbol.last_close) / math.sqrt(elapsed)
        before = symbol.fast_variance
        # The means start as plain averages: a single first return must not stand for a day.
        symbol.fast_variance += max(_FAST_RATE, 1.0 / symbol.bars) * (change * change - symbol.fast_variance)
        symbol.slow_variance += max(_SLOW_RATE, 1.0 / symbol.bars) * (change * change - symbol.slow_variance)
        if before > 0.0:
            symbol.z = clip(change / math.sqrt(before), 6.0)
        else:
            symbol.z = 0.0
        symbol.level += _LEVEL_RATE * (math.log(close) - symbol.level)
        for i in range(_MOMENTUM_RATES.size):
            symbol.momentum[i] += _MOMENTUM_RATES[i] * (symbol.z - symbol.momentum[i])
    if row[VOLUME] > 0.0 and row[TAKER_BUY_VOLUME] >= 0.0:
        imbalance = clip(2.0 * row[TAKER_BUY_VOLUME] / row[VOLUME] - 1.0, 1.0)
        symbol.flow += _FLOW_RATE * (imbalance - symbol.flow)
        symbol.flow_bars += 1
    symbol.bars += 1
    symbol.last_minute = minute
    symbol.last_close = close


@compiled
def observe_market(common: Any, mean_z: float) -> None:
    """Take the cross-symbol mean of z of one minute into the market's momentum."""
    common.market += _MARKET_RATE * (mean_z - common.market)


@compiled
def write_features(symbol: Any, common: Any, minute: int) -> None:
    """Write the long side's features of this minute into `symbol.x`."""
    x = symbol.x
    ratio = 0.0
    deviation = 0.0
    if symbol.fast_variance > 0.0 and symbol.slow_variance > 0.0:
        ratio = clip(0.5 * math.log(symbol.fast_variance / symbol.slow_variance), 2.0)
        spread = math.log(symbol.last_close) - symbol.level
        deviation = clip(spread * _LEVEL_SCALE / math.sqrt(symbol.fast_variance), DEVIATION_BOUND)
    market = math.tanh(common.market * _MARKET_SCALE)
    x[0] = 1.0
    for i in range(_MOMENTUM_RATES.size):
        momentum = math.tanh(symbol.momentum[i] * _MOMENTUM_SCALES[i])
        x[1 + i] = momentum
        x[8 + i] = momentum * ratio
    x[5] = market
    x[6] = 4.0 * symbol.flow
    x[7] = deviation
    x[12] = market * ratio
    angle = _TURN * (minute % MINUTES_PER_DAY)
    x[13] = 0.7 * math.sin(angle)
    x[14] = 0.7 * math.cos(angle)
    x[15] = x[3] * abs(x[3])
