"""What a person hands to research, looked at before anything runs: a slip is one sentence and not a traceback."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from labkit.errors import ConfigError


def check_settings(**sections: object) -> None:
    """Settings are dictionaries, or nothing. Raises ConfigError."""
    for name, given in sections.items():
        if given is not None and not isinstance(given, Mapping):
            raise ConfigError(f"{name}: write a dictionary of settings, e.g. {name}={{...}}, not {given!r}", field=name)


def check_symbols(symbols: object) -> None:
    """A name, or several. Raises ConfigError."""
    if not isinstance(symbols, Collection) or not all(isinstance(symbol, str) for symbol in symbols):
        raise ConfigError(f"symbols: write a list of names, e.g. ['BTCUSDT'], not {symbols!r}", field="symbols")


def check_frames(frames: Mapping[str, object]) -> None:
    """A table of candles by symbol. Raises ConfigError."""
    for symbol, frame in frames.items():
        if not hasattr(frame, "columns"):
            raise ConfigError(f"data: {symbol} needs a DataFrame of candles, not {frame!r}", field="data")


def check_spread(spread_bps: object) -> None:
    """A number of basis points, not below 0. Raises ConfigError."""
    if not isinstance(spread_bps, int | float) or not math.isfinite(spread_bps) or spread_bps < 0:
        raise ConfigError(f"spread_bps: {spread_bps!r} is no number of basis points from 0 on", field="spread_bps")


def check_grid(grid: object) -> None:
    """Values to try by setting. Raises ConfigError."""
    example = 'e.g. {"horizon_minutes": [60, 120]}'
    if not isinstance(grid, Mapping):
        raise ConfigError(f"grid: write a dictionary of the values to try, {example}, not {grid!r}", field="grid")
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Collection) or not len(values):
            raise ConfigError(f"grid: {name} needs a list of values, {example}, not {values!r}", field="grid")


def check_space(space: object) -> None:
    """The lowest and the highest value by setting. Raises ConfigError."""
    example = 'e.g. {"horizon_minutes": (60, 240)}'
    if not isinstance(space, Mapping):
        raise ConfigError(f"space: write a dictionary of bounds, {example}, not {space!r}", field="space")
    for name, bounds in space.items():
        well = isinstance(bounds, Sequence) and len(bounds) == 2 and not isinstance(bounds, str)
        if not well or not bounds[0] <= bounds[1]:
            raise ConfigError(
                f"space: {name} needs its lowest and highest value, {example}, not {bounds!r}", field="space"
            )


def check_count(name: str, count: Any, least: int) -> None:
    """A whole number from `least` on. Raises ConfigError."""
    if not isinstance(count, int) or count < least:
        raise ConfigError(f"{name}: {count!r} is no whole number from {least} on", field=name)
