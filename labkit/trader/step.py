"""The one step everything takes: live once a minute, history and replay in a loop of the very same lines.

`advance` lives through closed minutes: settle and learn, take in the bars, refit on the hour, ask the symbols whose
turn it is. It never decides on money (see `policy`), so what is learned is independent of what is traded.

Another's probability may be issued in place of the learner's own: it is then what the virtual pairs, the skill and the
calibration slope are about, while the experts go on learning from the same labels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.trader.compiling import compiled
from labkit.trader.feature_gate import inspect
from labkit.trader.features import FEATURE_COUNT, is_usable, observe_bar, observe_market, write_features
from labkit.trader.learner import predict, refit
from labkit.trader.virtual_positions import ask, settle

FIRST_QUESTION_BARS = 60
"""Before this many bars the volatility is not known well enough to place a barrier."""

LEAST_PROBABILITY = 1.0 / (1.0 + math.exp(10.0))
"""Nobody is taken to be surer than an expert may be (log-odds of 10)."""


@compiled
def is_due(settings: Any, minute: int, symbol_index: int) -> bool:
    """True if it is this symbol's turn to be decided on after the bar of `minute`."""
    return bool((minute + settings.stagger * symbol_index) % settings.cadence == 0)


@compiled
def take_in(settings: Any, state: Any, minute: int, rows: Any, factor: Any, step: Any) -> int:
    """The first half of a minute: what its bars answer and teach, and the features of the symbols whose turn it is.

    A symbol that can be asked bears `asked_minute == minute` then, and the learner's own probability; returns how
    many do.
    """
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
        settle(common, symbol, state.pairs[s], state.answers, s, minute, rows[s], settings.horizon)
        observe_bar(symbol, minute, rows[s])
        z_sum += symbol.z
        present += 1
    if present > 0:
        observe_market(common, z_sum / present)

    if minute // 60 != common.refit_hour:
        common.refit_hour = minute // 60
        refit(common, factor, step)

    asked = 0
    for s in range(count):
        symbol = state.symbols[s]
        if symbol.last_minute != minute or not is_due(settings, minute, s):
            continue
        write_features(symbol, common, minute)
        symbol.barrier = settings.barrier_sigmas * np.sqrt(symbol.fast_variance * settings.horizon)
        if symbol.bars >= FIRST_QUESTION_BARS and 0.0 < symbol.barrier < 1.0 and inspect(symbol):
            symbol.learner_p = predict(common, symbol.x, symbol.expert_p)
            symbol.p = symbol.learner_p
            symbol.asked_minute = minute
            asked += 1
    return asked


@compiled
def put_questions(state: Any, minute: int, foreign: Any) -> None:
    """The second half of a minute: issue a probability for every symbol that is asked, and open its virtual pair.

    `foreign` is float64[symbols], probabilities of the long bracket; NaN lets the learner's own stand.
    """
    for s in range(state.symbols.size):
        symbol = state.symbols[s]
        if symbol.asked_minute != minute:
            continue
        if not np.isnan(foreign[s]):
            symbol.p = min(max(foreign[s], LEAST_PROBABILITY), 1.0 - LEAST_PROBABILITY)
        ask(symbol, state.pairs[s], minute)


@compiled
def live_minute(settings: Any, state: Any, minute: int, rows: Any, foreign: Any, factor: Any, step: Any) -> None:
    """One closed minute.

    `rows` is float64[symbols, 6]; a row that is no possible bar is skipped and counted. `foreign` is float64[symbols]
    as for `put_questions`.
    """
    if take_in(settings, state, minute, rows, factor, step) > 0:
        put_questions(state, minute, foreign)


@compiled
def advance(settings: Any, state: Any, minutes: Any, rows: Any, foreign: Any, factor: Any, step: Any) -> None:
    """Live through `minutes` (int64[T], rising) with `rows` (float64[T, symbols, 6]).

    `foreign` is float64[T, symbols], or [1, symbols] for the same in every minute (see `nobody_else`).
    """
    last = foreign.shape[0] - 1
    for t in range(minutes.size):
        live_minute(settings, state, minutes[t], rows[t], foreign[min(t, last)], factor, step)


def nobody_else(symbol_count: int) -> NDArray[np.float64]:
    """No foreign probabilities: the learner's own are issued."""
    return np.full((1, symbol_count), np.nan)


def scratch() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Working space of a refit. Filled with NaN: whoever reads before writing is found out."""
    return np.full((FEATURE_COUNT, FEATURE_COUNT), np.nan), np.full(FEATURE_COUNT, np.nan)
