"""The one step everything takes: live once a minute, history and replay in a loop of the very same lines.

`advance` lives through closed minutes: settle and learn, take in the bars, refit on the hour, ask the symbols whose
turn it is. It never decides on money (see `policy`), so what is learned is independent of what is traded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.trader.compiling import compiled
from labkit.trader.features import FEATURE_COUNT, is_usable, observe_bar, observe_market, write_features
from labkit.trader.learner import predict, refit
from labkit.trader.virtual_positions import ask, settle

FIRST_QUESTION_BARS = 60
"""Before this many bars the volatility is not known well enough to place a barrier."""


@compiled
def is_due(settings: Any, minute: int, symbol_index: int) -> bool:
    """True if it is this symbol's turn to be decided on after the bar of `minute`."""
    return bool((minute + settings.stagger * symbol_index) % settings.cadence == 0)


@compiled
def live_minute(settings: Any, state: Any, minute: int, rows: Any, factor: Any, step: Any) -> None:
    """One closed minute. `rows` is float64[symbols, 6]; a row that is no possible bar is skipped and counted."""
    common = state.common[0]
    count = state.symbols.size
    if common.minute >= 0:
        common.missing_minutes += minute - common.minute - 1
    common.minute = minute
    common.minutes += 1

    present = 0
    z_sum = 0.0
    for s in range(count):
        symbol = state.symbols[s]
        if not is_usable(rows[s]):
            symbol.skipped += 1
            continue
        settle(common, symbol, state.pairs[s], minute, rows[s], settings.horizon)
        observe_bar(symbol, minute, rows[s])
        z_sum += symbol.z
        present += 1
    if present > 0:
        observe_market(common, z_sum / present)

    if minute // 60 != common.refit_hour:
        common.refit_hour = minute // 60
        refit(common, factor, step)

    for s in range(count):
        symbol = state.symbols[s]
        if symbol.last_minute != minute or not is_due(settings, minute, s):
            continue
        write_features(symbol, common, minute)
        symbol.barrier = settings.barrier_sigmas * np.sqrt(symbol.fast_variance * settings.horizon)
        if symbol.bars >= FIRST_QUESTION_BARS and 0.0 < symbol.barrier < 1.0:
            symbol.p = predict(common, symbol.x, symbol.expert_p)
            symbol.asked_minute = minute
            ask(symbol, state.pairs[s], minute)


@compiled
def advance(settings: Any, state: Any, minutes: Any, rows: Any, factor: Any, step: Any) -> None:
    """Live through `minutes` (int64[T], rising) with `rows` (float64[T, symbols, 6])."""
    for t in range(minutes.size):
        live_minute(settings, state, minutes[t], rows[t], factor, step)


def scratch() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Working space of a refit. Filled with NaN: whoever reads before writing is found out."""
    return np.full((FEATURE_COUNT, FEATURE_COUNT), np.nan), np.full(FEATURE_COUNT, np.nan)
