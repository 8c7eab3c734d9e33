"""Indicators by name for a whole table of candles, computed by TA-Lib: `indicators(klines, "EMA(20)", "RSI(14)")`.

Every function of TA-Lib can be named, with its parameters in TA-Lib's order or without; `indicator_names()` lists them.
Values are NaN for as long as an indicator has not seen enough bars; prices in, prices out (quote asset). The same
definitions bar by bar, for what decides live, are in `trader.indicators`: both agree to 1e-9 from the same first bar.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from labkit.errors import ConfigError
from labkit.research.units import PRICE

if TYPE_CHECKING:
    import pandas as pd

_NAME = re.compile(r"\s*([A-Za-z0-9_]+)\s*(?:\(([^()]*)\))?\s*")


def indicator_names() -> list[str]:
    """The functions of TA-Lib, e.g. `EMA`."""
    import talib

    library: Any = talib
    names: list[str] = sorted(library.get_functions())
    return names


def indicators(klines: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The indicators called `names` over `klines` (columns open, high, low, close, volume), row by row.

    An indicator with one output is a column of its name as given; one with several is a column for each, e.g.
    `MACD(12,26,9).macdsignal`. How many rows each column needs before its first value is in `.attrs["warm_up"]`, its
    unit in `.attrs["units"]`; a smoothed one goes on depending on its first bars, `labkit check warmup` tells for how
    long.
    Rows are taken as evenly spaced: candles that are missing (`klines.attrs["gaps"]`) are missing to TA-Lib too.

    Raises:
        ConfigError: no such indicator, wrong parameters, or a column it needs is not there.
    """
    import numpy as np
    import pandas as pd

    columns: dict[str, Any] = {}
    warm_up: dict[str, int] = {}
    units: dict[str, str] = {}
    for name in names:
        function = _function(name)
        inputs = {}
        for column in _inputs(function):
            if column not in klines.columns:
                raise ConfigError(f"{name}: needs a column {column}; there are {', '.join(klines.columns)}", field=name)
            inputs[column] = np.ascontiguousarray(klines[column], np.float64)
        outputs = function.output_names
        try:
            found = function(inputs)
        except Exception as error:
            # TA-Lib raises plain exceptions for parameters out of their range.
            raise ConfigError(f"{name}: {', '.join(function.parameters)}: {error}", field=name) from error
        for output, values in zip(outputs, [found] if len(outputs) == 1 else found, strict=True):
            label = name if len(outputs) == 1 else f"{name}.{output}"
            columns[label] = values
            warm_up[label] = function.lookback
            units[label] = _unit(function)
    frame = pd.DataFrame(columns, index=klines.index)
    frame.attrs |= {key: klines.attrs[key] for key in ("symbol", "interval", "gaps") if key in klines.attrs}
    frame.attrs |= {"warm_up": warm_up, "units": units}
    return frame


def _function(text: str) -> Any:
    """TA-Lib's function for `NAME` or `NAME(1,2)`, its parameters set."""
    import talib.abstract

    match = _NAME.fullmatch(text)
    known = indicator_names()
    if match is None or match[1].upper() not in known:
        near = difflib.get_close_matches((match[1] if match else text).upper(), known, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "indicator_names() lists them"
        raise ConfigError(f"indicator {text!r}: TA-Lib has none of that name; {hint}", field=text)
    library: Any = talib.abstract
    function = library.Function(match[1].upper())
    wanted = [part.strip() for part in (match[2] or "").split(",") if part.strip()]
    parameters = list(function.parameters)
    if len(wanted) > len(parameters):
        raise ConfigError(f"indicator {text!r}: takes {', '.join(parameters) or 'no parameters'}", field=text)
    try:
        values = [float(part) if isinstance(function.parameters[name], float) else int(part)
                  for name, part in zip(parameters, wanted, strict=False)]  # fmt: skip
        function.parameters = dict(zip(parameters, values, strict=False))
    except ValueError as error:
        raise ConfigError(f"indicator {text!r}: {', '.join(parameters)}: {error}", field=text) from error
    return function


def _unit(function: Any) -> str:
    """What an indicator is counted in: those drawn over prices are prices."""
    return PRICE if function.info["group"] == "Overlap Studies" else "as TA-Lib counts it"


def _inputs(function: Any) -> list[str]:
    """The columns a function reads."""
    return [
        column
        for wanted in function.input_names.values()
        for column in (wanted if isinstance(wanted, list | tuple) else [wanted])
    ]
