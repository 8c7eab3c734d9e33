"""Does a feature know the future? A function of candles is called again with the future taken away, and with another.

What it says of a candle may depend on that candle and earlier ones, and on nothing else. So for a number of moments
everything after the moment is cut off, and in a second trial replaced by a market that went elsewhere; a value before
the moment that changes has looked ahead. Finds shifts into the past, centred windows, statistics of the whole sample,
and resampled candles that bear the time of their beginning. Used by `labkit check lookahead` and from notebooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from labkit.errors import ConfigError
from labkit.research.candle_functions import CandleFunction, call, differing

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MOMENTS = 16
FEWEST_CANDLES = 100


class Peek(msgspec.Struct, frozen=True, kw_only=True):
    """A column that looks ahead. `example` is a candle whose value changed when what came after `moment` did."""

    column: str
    moments: int
    """At how many of the moments tried a value before them changed."""
    bars_ahead: int
    """It saw at least so many candles beyond the one it speaks of."""
    example: pd.Timestamp
    moment: pd.Timestamp

    def __str__(self) -> str:
        return (
            f"{self.column}: looks at least {self.bars_ahead:,} candles ahead; what it says of "
            f"{self.example:%Y-%m-%d %H:%M} changes with what comes after {self.moment:%Y-%m-%d %H:%M}"
        )


class LookAhead(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: `peeks` is empty if no column looks ahead; `unsteady` columns differ from call to call."""

    columns: tuple[str, ...]
    peeks: tuple[Peek, ...]
    unsteady: tuple[str, ...]
    moments: int

    @property
    def is_clean(self) -> bool:
        return not self.peeks and not self.unsteady


def look_ahead(function: CandleFunction, candles: pd.DataFrame, *, moments: int = MOMENTS, seed: int = 1) -> LookAhead:
    """Try `function` at so many moments of `candles`, chosen by `seed`, all in their second half.

    Raises:
        ConfigError: the function failed or returned something else than rows by these times, or there are too few
            candles to tell.
    """
    import numpy as np

    if len(candles) < FEWEST_CANDLES:
        raise ConfigError(f"{len(candles)} candles are too few to tell: give at least {FEWEST_CANDLES}", field="start")
    whole = call(function, candles)
    again = call(function, candles)
    columns = list(dict.fromkeys([*whole.columns, *again.columns]))
    unsteady = tuple(column for column in columns if differing(whole, again, column).any())
    random = np.random.default_rng(seed)
    half = len(candles) // 2
    chosen = np.sort(random.choice(np.arange(half, len(candles) - 1), min(moments, half - 1), replace=False))
    changes: dict[str, list[tuple[int, int]]] = {}
    for moment in chosen.tolist():
        before = whole.iloc[: moment + 1]
        seen = call(function, candles.iloc[: moment + 1])
        elsewhere = call(function, _another_future(candles, moment, random)).iloc[: moment + 1]
        for column in dict.fromkeys([*columns, *seen.columns, *elsewhere.columns]):
            changed = differing(before, seen, column) | differing(before, elsewhere, column)
            if column not in unsteady and changed.any():
                changes.setdefault(column, []).append((moment, int(changed.argmax())))
    peeks = []
    for column, found in changes.items():
        moment, row = max(found, key=lambda pair: pair[0] - pair[1])
        peeks.append(
            Peek(
                column=column,
                moments=len(found),
                bars_ahead=moment - row + 1,
                example=candles.index[row],
                moment=candles.index[moment],
            )
        )
    return LookAhead(columns=tuple(columns), peeks=tuple(peeks), unsteady=unsteady, moments=len(chosen))


def _another_future(candles: pd.DataFrame, moment: int, random: np.random.Generator) -> pd.DataFrame:
    """The same candles up to `moment`, and a market that went elsewhere after it: other prices, other volumes."""
    import numpy as np

    other = candles.copy()
    rows = len(candles) - moment - 1
    factor = np.exp(np.cumsum(random.normal(0, 0.01, rows)) + 0.05)
    for column in candles.columns:
        if np.issubdtype(candles[column].dtype, np.number):
            values = candles[column].to_numpy(np.float64).copy()
            values[moment + 1 :] *= factor
            other[column] = values
    return other
