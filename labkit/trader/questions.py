"""Every question a stretch of history puts, and every answer it gives: what another model learns from and is asked.

A question is a symbol's features at the end of a minute, the bracket around it and the learner's own probability; its
answer is the label of that bracket and the minute it was known. Neither depends on whose probability is issued, so a
model without a memory answers all questions in one go, and one with a memory is shown them in the order of time. The
result goes back through `step.advance` as `foreign`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.trader.compiling import compiled
from labkit.trader.features import FEATURE_COUNT
from labkit.trader.state import ANSWER, Settings, State
from labkit.trader.step import live_minute, nobody_else, scratch

QUESTION = np.dtype(
    [
        ("t", "i8"),
        ("minute", "i8"),
        ("symbol", "i8"),
        ("close", "f8"),
        ("barrier", "f8"),
        ("p", "f8"),
        ("x", "f8", (FEATURE_COUNT,)),
    ]
)
"""`t` is the row of `minutes`; `p` the learner's own probability of the long bracket, `x` the long side's features."""


class QuestionsAndAnswers(NamedTuple):
    """Both in the order of time, symbols in their order within a minute (records `QUESTION`, `state.ANSWER`)."""

    questions: NDArray[Any]
    answers: NDArray[Any]


def questions_through(
    settings: Settings, state: State, minutes: NDArray[np.int64], rows: NDArray[np.float64]
) -> QuestionsAndAnswers:
    """Live `state` through `minutes` (int64[T], rising) with `rows` (float64[T, symbols, 6]) and note what was asked.

    Answers to questions from before are among the answers; questions still open at the end have none.
    """
    symbols = state.symbols.size
    turns = (minutes[:, None] + settings.stagger * np.arange(symbols)) % settings.cadence == 0
    questions = np.empty(int(turns.sum()), QUESTION)
    answers = np.empty(questions.size + int(state.symbols["pairs"].sum()), ANSWER)
    asked, answered = _note(settings, state, minutes, rows, nobody_else(symbols)[0], questions, answers, *scratch())
    return QuestionsAndAnswers(questions[:asked], answers[:answered])


@compiled
def _note(
    settings: Any, state: Any, minutes: Any, rows: Any, foreign: Any, questions: Any, answers: Any,
    factor: Any, step: Any,
) -> tuple[int, int]:  # fmt: skip
    common = state.common[0]
    asked = answered = 0
    for t in range(minutes.size):
        before = common.closed
        live_minute(settings, state, minutes[t], rows[t], foreign, factor, step)
        for n in range(before, common.closed):
            answers[answered] = state.answers[n % state.answers.size]
            answered += 1
        for s in range(state.symbols.size):
            symbol = state.symbols[s]
            if symbol.asked_minute != minutes[t]:
                continue
            question = questions[asked]
            question.t, question.minute, question.symbol = t, minutes[t], s
            question.close, question.barrier, question.p = symbol.last_close, symbol.barrier, symbol.p
            question.x[:] = symbol.x
            asked += 1
    return asked, answered


def foreign_of(
    questions: NDArray[Any], probabilities: NDArray[np.float64], minute_count: int, symbol_count: int
) -> NDArray[np.float64]:
    """The probabilities given to `questions` as `step.advance` takes them: float64[T, symbols], NaN where none."""
    foreign = np.full((minute_count, symbol_count), np.nan)
    foreign[questions["t"], questions["symbol"]] = probabilities
    return foreign
