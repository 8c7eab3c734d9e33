"""Lessons: what the learner knew at every decision of a history, kept while only money is handled otherwise.

What is learned does not depend on what is traded (`labkit.trader.step`), so settings that only gate, size, guard or
charge meet the same learner at every decision. A run notes here what its decisions read of the learner; the next one
with the same settings of learning reads it back instead of learning all over again, and comes to the same bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.research.compiling import compiled
from labkit.trader.learner import EXPERT_COUNT
from labkit.trader.state import Settings, State

MOST_DECISIONS = 1_000_000
"""Some 120 MB; what decides more often learns anew every time."""

_LEARNER = [
    ("skill", "f8"),
    ("weight", "f8"),
    ("labels", "i8"),
    ("drift_step", "i8"),
    ("evidence", "f8"),
    ("slope_up", "f8"),
    ("slope_down", "f8"),
    ("square_up", "f8"),
    ("square_down", "f8"),
]
KNOWN = np.dtype(
    [
        *_LEARNER,
        ("bars", "i8"),
        ("last_minute", "i8"),
        ("asked_minute", "i8"),
        ("suspect", "i8"),
        ("p", "f8"),
        ("barrier", "f8"),
        ("last_close", "f8"),
    ]
)
"""What a decision reads of the learner and of its symbol."""
LEARNED = np.dtype([*_LEARNER, ("log_weights", "f8", (EXPERT_COUNT,))])
"""What the end of a day tells of the learner."""


class Notes(NamedTuple):
    """What a compiled run writes down, or reads where `known_already`; empty arrays where nothing is kept."""

    known_already: bool
    decisions: NDArray[Any]
    days: NDArray[Any]


class Lessons:
    """What was learned from one market at the settings of learning it was last lived through with."""

    def __init__(self) -> None:
        self._learned_by: tuple[Any, ...] | None = None
        self._notes = NO_NOTES
        self._kept: tuple[NDArray[Any], State] | None = None

    def notes(self, settings: Settings, decisions: int, days: int) -> Notes:
        """To be read back if these settings learn as the noted ones do, else to be written."""
        if self._learned_by == learning_settings(settings):
            return self._notes._replace(known_already=True)
        self._learned_by = None
        kept = decisions <= MOST_DECISIONS
        self._notes = Notes(False, np.zeros(decisions, KNOWN), np.zeros(days, LEARNED)) if kept else NO_NOTES
        return self._notes

    def keep(self, settings: Settings, answers: NDArray[Any], state: State) -> None:
        """The notes are whole: the run has lived to the end."""
        if self._notes.days.size:
            self._learned_by, self._kept = learning_settings(settings), (answers, state)

    def recall(self, state: State) -> tuple[NDArray[Any], State]:
        """The answers, and the state learning ended in, with what `state` measured of its own trades."""
        assert self._kept is not None
        answers, learned = self._kept
        symbols = learned.symbols.copy()
        symbols["execution_gap"] = state.symbols["execution_gap"]
        return answers, learned._replace(symbols=symbols)


def learning_settings(settings: Settings) -> tuple[Any, ...]:
    """Those of the compiled settings that shape what is learned and when it is asked."""
    return settings.horizon, settings.cadence, settings.stagger, settings.barrier_sigmas


NO_NOTES = Notes(False, np.empty(0, KNOWN), np.empty(0, LEARNED))


@compiled
def note_decision(note: Any, common: Any, symbol: Any) -> None:
    """Write down what the decision on `symbol` is about to read."""
    _copy_learner(note, common)
    note.bars, note.last_minute, note.asked_minute = symbol.bars, symbol.last_minute, symbol.asked_minute
    note.suspect, note.p, note.barrier = symbol.suspect, symbol.p, symbol.barrier
    note.last_close = symbol.last_close


@compiled
def recall_decision(note: Any, common: Any, symbol: Any) -> None:
    """Put it back where the decision reads it."""
    _copy_learner(common, note)
    symbol.bars, symbol.last_minute, symbol.asked_minute = note.bars, note.last_minute, note.asked_minute
    symbol.suspect, symbol.p, symbol.barrier = note.suspect, note.p, note.barrier
    symbol.last_close = note.last_close


@compiled
def note_learned(note: Any, common: Any) -> None:
    """Write down how the learner stands at the end of a day."""
    _copy_learner(note, common)
    note.log_weights[:] = common.log_weights


@compiled
def recall_learned(note: Any, common: Any) -> None:
    """Put it back."""
    _copy_learner(common, note)
    common.log_weights[:] = note.log_weights


@compiled
def _copy_learner(to: Any, source: Any) -> None:
    to.skill, to.weight, to.labels = source.skill, source.weight, source.labels
    to.drift_step, to.evidence = source.drift_step, source.evidence
    to.slope_up, to.slope_down = source.slope_up, source.slope_down
    to.square_up, to.square_down = source.square_up, source.square_down
