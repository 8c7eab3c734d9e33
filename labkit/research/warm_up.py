"""How much history does a feature need? A function of candles is called again with less and less of the past.

A window needs its length, a smoothing several times that, a running total everything there ever was. What a live
feature says is only what the backtest said if it was given that much history. Used by `labkit check warmup` and from
notebooks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from labkit.errors import ConfigError
from labkit.research.candle_functions import CandleFunction, call

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-6
"""A value that is wrong by less than this part of the column's usual size counts as settled."""
PROBES = 8
FEWEST_CANDLES = 100


class WarmUp(msgspec.Struct, frozen=True, kw_only=True):
    """What one column needs: `bars` of history, the candle itself included; None if all there was did not do.

    `errors` tells for each history tried (in candles) by how much the column was wrong at worst, as a part of its
    usual size; infinite where it had no value at all.
    """

    column: str
    bars: int | None
    errors: tuple[tuple[int, float], ...]

    def __str__(self) -> str:
        longest, error = self.errors[-1]
        if self.bars is None and math.isinf(error):
            return f"{self.column}: has no value at the last of {longest:,} candles; does it look ahead?"
        if self.bars is None:
            return f"{self.column}: depends on where history begins; still off by {error:.2g} after {longest:,} candles"
        return f"{self.column}: needs {self.bars:,} candles"


def warm_up(function: CandleFunction, candles: pd.DataFrame, *, tolerance: float = TOLERANCE) -> list[WarmUp]:
    """What each column of `function` needs, tried with up to half of `candles`; columns in their order.

    Raises:
        ConfigError: the function failed or returned something else than rows by these times, or there are too few
            candles to tell. A function may fail on short histories: those do not suffice, then.
    """
    import numpy as np

    if len(candles) < FEWEST_CANDLES:
        raise ConfigError(f"{len(candles)} candles are too few to tell: give at least {FEWEST_CANDLES}", field="start")
    whole = call(function, candles)
    longest = len(candles) // 2
    ends = np.unique(np.linspace(longest, len(candles), PROBES).astype(int)).tolist()
    tried: dict[int, dict[str, float]] = {}

    def errors(bars: int) -> dict[str, float]:
        if bars not in tried:
            tried[bars] = _errors(function, candles, whole, ends, bars)
        return tried[bars]

    ladder = _ladder(longest)
    for bars in ladder:
        errors(bars)
    found = []
    for column in whole.columns:
        # Settled is what stays settled: a short history may be right by chance.
        failing = [bars for bars in ladder if errors(bars)[column] > tolerance]
        needed: int | None = 1
        if failing:
            later = [bars for bars in ladder if bars > failing[-1]]
            needed = None
            if later:
                low, needed = failing[-1], later[0]
                while needed - low > 1:
                    middle = (low + needed) // 2
                    low, needed = (low, middle) if errors(middle)[column] <= tolerance else (middle, needed)
        told = tuple((bars, errors(bars)[column]) for bars in ladder)
        found.append(WarmUp(column=str(column), bars=needed, errors=told))
    return found


def _ladder(longest: int) -> list[int]:
    """1, 2, 3, 5, 8 … candles, up to `longest`."""
    steps: list[int] = []
    bars = 1.0
    while bars < longest:
        if not steps or int(bars) > steps[-1]:
            steps.append(int(bars))
        bars *= 1.6
    return [*steps, longest]


def _errors(
    function: CandleFunction, candles: pd.DataFrame, whole: pd.DataFrame, ends: list[int], bars: int
) -> dict[str, float]:
    """By how much each column is wrong at worst when only the last `bars` candles before each end are known."""
    import numpy as np

    worst: dict[str, float] = dict.fromkeys(map(str, whole.columns), 0.0)
    for end in ends:
        try:
            seen = call(function, candles.iloc[end - bars : end])
        except ConfigError:
            return dict.fromkeys(worst, np.inf)
        for column in whole.columns:
            error = _error(whole[column], seen[column] if column in seen.columns else None, end - 1)
            worst[str(column)] = max(worst[str(column)], error)
    return worst


def _error(whole: pd.Series[float], seen: pd.Series[float] | None, row: int) -> float:
    """By how much the last value seen is wrong, as a part of the column's usual size."""
    import numpy as np
    import pandas as pd

    if seen is None:
        return float(np.inf)
    true, told = whole.iloc[row], seen.iloc[-1]
    if pd.isna(true) or pd.isna(told):
        return 0.0 if pd.isna(true) and pd.isna(told) else float(np.inf)
    if not pd.api.types.is_numeric_dtype(whole):
        return 0.0 if true == told else float(np.inf)
    if true == told:
        return 0.0
    size = float(np.nanmedian(np.abs(whole.to_numpy(np.float64, na_value=np.nan))))
    return float(abs(told - true) / max(abs(true), size))
