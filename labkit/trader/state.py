"""The trader's whole memory: plain numpy records that the compiled step reads and writes in place.

`Settings` are the numbers of `TraderConfig` the compiled code needs; `State` is everything that changes. Times are
minutes since 1970 (open time of a bar), prices are in quote asset, variances per minute, distances fractions of price.
A state is bytes: it can be hashed, stored and compared bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.config import TraderConfig
from labkit.trader.features import FEATURE_COUNT, MOMENTUM_HALF_LIVES
from labkit.trader.learner import EXPERT_COUNT, start_learner

SYMBOL = np.dtype(
    [
        ("bars", "i8"),
        ("skipped", "i8"),
        ("last_minute", "i8"),
        ("last_close", "f8"),
        ("fast_variance", "f8"),
        ("slow_variance", "f8"),
        ("level", "f8"),
        ("flow", "f8"),
        ("flow_bars", "i8"),
        ("z", "f8"),
        ("momentum", "f8", (len(MOMENTUM_HALF_LIVES),)),
        ("x", "f8", (FEATURE_COUNT,)),
        # The feature gate's memory: how each feature has been lately, and the range that had.
        ("inspected", "i8"),
        ("suspect", "i8"),
        ("fault", "i8"),
        ("x_latest", "f8", (FEATURE_COUNT,)),
        ("x_still", "i8", (FEATURE_COUNT,)),
        ("x_mean", "f8", (FEATURE_COUNT,)),
        ("x_square", "f8", (FEATURE_COUNT,)),
        ("x_low", "f8", (FEATURE_COUNT,)),
        ("x_high", "f8", (FEATURE_COUNT,)),
        ("x_widest", "f8", (FEATURE_COUNT,)),
        # The latest question asked: what a decision is made of.
        ("asked_minute", "i8"),
        ("p", "f8"),
        ("learner_p", "f8"),
        ("barrier", "f8"),
        ("expert_p", "f8", (EXPERT_COUNT,)),
        # The virtual book's bounds: a bar inside them cannot change anything.
        ("pairs", "i8"),
        ("nearest_above", "f8"),
        ("nearest_below", "f8"),
        ("next_due", "i8"),
        ("pending", "i8"),
        # Mean of (real result - virtual twin), written between steps.
        ("execution_gap", "f8"),
    ]
)

PAIR = np.dtype(
    [
        ("asked_minute", "i8"),
        ("entry_minute", "i8"),
        ("due", "i8"),
        ("entry", "f8"),
        ("barrier", "f8"),
        ("weight", "f8"),
        ("close", "f8"),
        ("p", "f8"),
        ("learner_p", "f8"),
        ("expert_p", "f8", (EXPERT_COUNT,)),
        ("x", "f8", (FEATURE_COUNT,)),
    ]
)

ANSWER = np.dtype(
    [
        ("minute", "i8"),
        ("symbol", "i8"),
        ("asked_minute", "i8"),
        ("q", "f8"),
        ("weight", "f8"),
        ("close", "f8"),
        ("barrier", "f8"),
        ("learner_p", "f8"),
        ("x", "f8", (FEATURE_COUNT,)),
    ]
)
"""The label of one pair, with its question: `q` in [0, 1] is what the long bracket came to, known after `minute`."""

COMMON = np.dtype(
    [
        ("minute", "i8"),
        ("minutes", "i8"),
        ("missing_minutes", "i8"),
        ("closed", "i8"),
        ("refit_hour", "i8"),
        ("market", "f8"),
        ("labels", "i8"),
        ("weight", "f8"),
        ("skill", "f8"),
        ("drift", "f8"),
        ("drift_step", "i8"),
        ("evidence", "f8"),
        ("batch_weight", "f8"),
        ("slope_up", "f8"),
        ("slope_down", "f8"),
        ("square_up", "f8"),
        ("square_down", "f8"),
        ("log_weights", "f8", (EXPERT_COUNT,)),
        ("weights", "f8", (EXPERT_COUNT, FEATURE_COUNT)),
        ("gradient", "f8", (EXPERT_COUNT, FEATURE_COUNT)),
        ("precision", "f8", (EXPERT_COUNT, FEATURE_COUNT, FEATURE_COUNT)),
        ("gram", "f8", (FEATURE_COUNT, FEATURE_COUNT)),
    ]
)


class Settings(NamedTuple):
    """What the compiled code needs to know of `TraderConfig`, in its own types."""

    horizon: int
    cadence: int
    stagger: int
    barrier_sigmas: float
    confidence_z: float
    cost_margin: float
    kelly_fraction: float
    max_leverage: float
    cold_start_weight: float
    evidence_nats: float
    drawdown_half: float
    drawdown_stop: float


class State(NamedTuple):
    """Everything that changes.

    One record per symbol, its open virtual pairs, what all symbols share (length 1), and the latest answers: answer
    number n (from 0; `common.closed` so far) lies at n modulo the length, which holds those of more than a minute.
    """

    symbols: NDArray[Any]
    pairs: NDArray[Any]
    common: NDArray[Any]
    answers: NDArray[Any]


def settings_of(config: TraderConfig, symbol_count: int) -> Settings:
    """The compiled code's settings; symbols take turns within the cadence as evenly as they can."""
    return Settings(
        horizon=config.horizon_minutes,
        cadence=config.decision_every_minutes,
        stagger=max(1, config.decision_every_minutes // symbol_count),
        barrier_sigmas=config.barrier_sigmas,
        confidence_z=config.prior_confidence_z,
        cost_margin=config.cost_margin,
        kelly_fraction=config.kelly_fraction,
        max_leverage=config.max_leverage_per_symbol,
        cold_start_weight=config.cold_start_labels,
        evidence_nats=config.evidence_nats,
        drawdown_half=config.drawdown_half,
        drawdown_stop=config.drawdown_stop,
    )


def new_state(settings: Settings, symbol_count: int) -> State:
    """The state before the first bar.

    A symbol holds one pair per decision within a horizon; the two more are the pending one and one a gap held up.
    """
    slots = settings.horizon // settings.cadence + 3
    state = State(
        np.zeros(symbol_count, SYMBOL),
        np.zeros((symbol_count, slots), PAIR),
        np.zeros(1, COMMON),
        np.zeros(symbol_count * slots, ANSWER),
    )
    state.symbols["asked_minute"] = -1
    state.symbols["last_minute"] = -1
    state.common["minute"] = -1
    state.common["refit_hour"] = -1
    start_learner(state.common)
    return state


def to_bytes(state: State) -> bytes:
    """All of the state, in order."""
    return b"".join(part.tobytes() for part in state)


def from_bytes(payload: bytes, like: State) -> State:
    """A state of the layout of `like`. Raises `ValueError` if the length does not fit."""
    if len(payload) != sum(part.nbytes for part in like):
        raise ValueError(f"{len(payload)} bytes do not fit a state of {sum(part.nbytes for part in like)}")
    parts, start = [], 0
    for part in like:
        parts.append(np.frombuffer(payload, part.dtype, part.size, start).reshape(part.shape).copy())
        start += part.nbytes
    return State(*parts)
