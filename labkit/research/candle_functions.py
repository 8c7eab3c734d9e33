"""Functions of candles to be checked: finding one in a file, and calling it so that what it does can be compared.

A function takes a table of candles (`DataService.klines`) and returns a Series or a DataFrame by the same times. Used
by `look_ahead` and `warm_up`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TOLERANCE = 1e-9
"""Numbers closer than this part of their size are the same: sums may be formed in another order."""

CandleFunction = Callable[["pd.DataFrame"], Any]


def load_function(where: str) -> CandleFunction:
    """The function `NAME` of the Python file `FILE`, from `FILE:NAME`. Raises `ConfigError` if there is none."""
    file, colon, name = where.rpartition(":")
    if not colon or not name.isidentifier():
        raise ConfigError(f"{where!r}: write FILE:FUNCTION, e.g. my_features.py:features", field="function")
    path = Path(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"{file}: no such Python file", field="function")
    module = importlib.util.module_from_spec(spec)
    # Files that belong together import each other by name.
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{file}: cannot be imported: {type(error).__name__}: {error}", field="function") from error
    finally:
        sys.path.pop(0)
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f"{file}: has no function {name}; there are {', '.join(known) or 'none'}", field="function")
    found: CandleFunction = function
    return found


def call(function: CandleFunction, candles: pd.DataFrame) -> pd.DataFrame:
    """What `function` makes of a copy of `candles`, row for row; rows it leaves out are NaN.

    Raises:
        ConfigError: it failed, or returned something else than a Series or DataFrame by these times.
    """
    import pandas as pd

    given = candles.copy()
    given.attrs = dict(candles.attrs)
    try:
        answer = function(given)
    except Exception as error:
        raise ConfigError(
            f"the function failed on {len(candles):,} candles: {type(error).__name__}: {error}", field="function"
        ) from error
    if isinstance(answer, pd.Series):
        answer = answer.to_frame(answer.name if answer.name is not None else "value")
    if not isinstance(answer, pd.DataFrame):
        raise ConfigError(
            f"the function returned {type(answer).__name__}: return a Series or a DataFrame by the candles' times",
            field="function",
        )
    if answer.index.has_duplicates or not answer.index.isin(candles.index).all():
        raise ConfigError(
            "the function returned rows that are not the candles it was given: keep their index", field="function"
        )
    answer.columns = [str(column) for column in answer.columns]
    return answer.reindex(candles.index)


def differing(
    left: pd.DataFrame, right: pd.DataFrame, column: str, tolerance: float = TOLERANCE
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """In which rows of the same times two answers tell a column differently; a column only one has differs wholly."""
    import numpy as np
    import pandas as pd

    if column not in left.columns or column not in right.columns:
        return np.ones(len(left), bool)
    one, other = left[column], right[column]
    if pd.api.types.is_numeric_dtype(one) and pd.api.types.is_numeric_dtype(other):
        first, second = one.to_numpy(np.float64, na_value=np.nan), other.to_numpy(np.float64, na_value=np.nan)
        with np.errstate(invalid="ignore"):
            near = np.abs(first - second) <= tolerance * np.maximum(np.abs(first), np.abs(second))
        same = near | (first == second) | (np.isnan(first) & np.isnan(second))
    else:
        same = ((one == other) | (one.isna() & other.isna())).fillna(False).to_numpy(bool)
    unlike: np.ndarray[Any, np.dtype[np.bool_]] = ~same
    return unlike
