"""Policy: another's probabilities in place of the learner's own, a rule or a model brought from a notebook cell.

    class Momentum:
        name = "momentum"

        def probability(self, question):
            return 0.5 + 0.1 * question.features["mom160"]

    labkit.start(policy=Momentum())

What a policy says is put to the same test as everything else: virtual pairs on every question, the calibration slope
that cuts a boast down to what came true, costs, sizes, exits, receipts. It never sees the future: a question is made of
closed bars, and an answer is handed over when the bracket has ended. Whatever a policy does wrong (an exception, no
number) is a refusal with that reason, never the end of the lab; such a question counts neither for nor against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from labkit.domain.clock import MINUTE_MS
from labkit.domain.decisions import LEARNER
from labkit.errors import ConfigError
from labkit.trader.features import FEATURE_NAMES
from labkit.trader.questions import foreign_of, questions_through
from labkit.trader.state import Settings, State

NO_OPINION = 0.5
"""Issued for a policy that gave no usable answer: neither skill nor slope counts it."""
_TOLD_AT_MOST = 200


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which way will this bracket end? Asked of one symbol at the close of one minute."""

    symbol: str
    time_ms: int
    """End of the latest closed bar, UTC milliseconds; nothing later is in the question."""
    close: float
    """In quote asset."""
    barrier: float
    """Stop and target of the bracket, as a fraction of the price, either way."""
    features: dict[str, float]
    """The long side's, by name (`labkit.trader.features.FEATURE_NAMES`); dimensionless, of order one."""
    learner_probability: float
    """What the built-in learner would say."""

    @property
    def values(self) -> list[float]:
        """The features in their order: a row for a model."""
        return list(self.features.values())


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How the bracket ended."""

    label: float
    """What the long side came to: 1 target first, 0 stop first, between them by the result at time-out."""
    weight: float
    """Uniqueness: overlapping brackets share it."""
    time_ms: int
    """End of the bar it was known by, UTC milliseconds."""


class Policy(Protocol):
    """What a user writes. Four methods more are used where a policy has them.

    `learn(question, answer)` is called once for every bracket that ended, before the next question; a policy with it is
    asked and taught in the order of time. `probabilities(values)`, float64[n, features] to float64[n], may answer many
    questions at once in a backtest; it must say what `probability` says.

    `state()`, bytes, and `restore(stored)`: what it has learned, kept in the trader's checkpoints and given back when a
    lab goes on where it ended; the answers since the checkpoint are then taught again. A policy with `learn` but
    without them begins each start of a lab knowing nothing, while the calibration goes on trusting what it once knew.
    """

    @property
    def name(self) -> str: ...

    def probability(self, question: Question) -> float | None:
        """Probability in [0, 1] that the long bracket pays (soft: 2p - 1 is its expected result); None for none."""
        ...


class PolicyDesk:
    """Asks and teaches one policy, and keeps what it does wrong from everybody else.

    Raises:
        ConfigError: `policy` has no name or cannot be asked.
    """

    def __init__(self, policy: Policy, symbols: Sequence[str]) -> None:
        self.name: str = getattr(policy, "name", "")
        if not isinstance(self.name, str) or not self.name or self.name == LEARNER:
            raise ConfigError(f'policy {policy!r} has no name of its own: give it `name = "..."`', field="policy")
        if not callable(getattr(policy, "probability", None)):
            raise ConfigError(
                f"policy {self.name!r} cannot be asked: give it `def probability(self, question)`", field="policy"
            )
        self._policy = policy
        self._symbols = tuple(symbols)
        self._learn = getattr(policy, "learn", None)
        self._could_not_learn = ""
        self._could_not_keep = ""
        self._trouble: dict[str, str] = {}

    def trouble(self, symbol: str) -> str:
        """Why the latest answer on `symbol` could not be used; empty if it could."""
        return self._trouble.get(symbol, "") or self._could_not_learn or self._could_not_keep

    def ask(self, symbol_index: int, minute: int, record: Any) -> float:
        """The policy's probability for the question in `record` (a `state.SYMBOL` or `questions.QUESTION`)."""
        symbol = self._symbols[symbol_index]
        self._trouble.pop(symbol, None)
        close = record["last_close"] if "last_close" in record.dtype.names else record["close"]
        question = self._question(symbol, minute, record, float(close), float(record["p"]))
        try:
            said = self._policy.probability(question)
            p = NO_OPINION if said is None else float(said)
        except Exception as error:  # whatever a user's code may raise
            self._trouble[symbol] = _told(f"{self.name} raised {type(error).__name__}: {error}")
            return NO_OPINION
        if said is None:
            self._trouble[symbol] = f"{self.name} has no opinion"
        elif not 0.0 <= p <= 1.0:
            self._trouble[symbol] = f"{self.name} answered {p}, which is no probability"
            return NO_OPINION
        return p

    def teach(self, answer: Any) -> None:
        """Hand over one answer (a record `state.ANSWER`)."""
        if self._learn is None:
            return
        symbol = self._symbols[int(answer["symbol"])]
        question = self._question(
            symbol, int(answer["asked_minute"]), answer, float(answer["close"]), float(answer["learner_p"])
        )
        time_ms = (int(answer["minute"]) + 1) * MINUTE_MS
        try:
            self._learn(question, Answer(label=float(answer["q"]), weight=float(answer["weight"]), time_ms=time_ms))
        except Exception as error:  # whatever a user's code may raise
            self._could_not_learn = _told(f"{self.name} could not learn: {type(error).__name__}: {error}")
        else:
            self._could_not_learn = ""

    def memory(self) -> bytes:
        """What the policy has learned, in its own bytes; empty if it keeps nothing or fails to tell it."""
        tell = getattr(self._policy, "state", None)
        if not callable(tell):
            return b""
        try:
            kept = bytes(tell())
        except Exception as error:  # whatever a user's code may raise
            self._could_not_keep = _told(f"{self.name} could not be stored: {type(error).__name__}: {error}")
            return b""
        self._could_not_keep = ""
        return kept

    def remember(self, stored: bytes) -> None:
        """Give the policy back what its `memory` was."""
        take = getattr(self._policy, "restore", None)
        if not callable(take) or not stored:
            return
        try:
            take(stored)
        except Exception as error:  # whatever a user's code may raise
            self._could_not_keep = _told(f"{self.name} could not be restored: {type(error).__name__}: {error}")

    def _question(self, symbol: str, minute: int, record: Any, close: float, learner_p: float) -> Question:
        return Question(
            symbol=symbol,
            time_ms=(minute + 1) * MINUTE_MS,
            close=close,
            barrier=float(record["barrier"]),
            features=dict(zip(FEATURE_NAMES, record["x"].tolist(), strict=True)),
            learner_probability=learner_p,
        )


def probabilities_through(
    policy: Policy,
    settings: Settings,
    state: State,
    symbols: Sequence[str],
    minutes: NDArray[np.int64],
    rows: NDArray[np.float64],
    *,
    tell: Callable[[int, int], object] = lambda done, of: None,
) -> NDArray[np.float64]:
    """What `policy` would have said live, as `step.advance` takes it: float64[T, symbols], NaN where nothing is asked.

    `state` is lived through `minutes` (int64[T], rising) with `rows` (float64[T, symbols, 6]). `tell` hears how
    many questions of how many were asked, where they are asked one after the other.

    Raises:
        ConfigError: the policy cannot be asked, or its `probabilities` is of another length.
    """
    desk = PolicyDesk(policy, symbols)
    questions, answers = questions_through(settings, state, minutes, rows)
    at_once = getattr(policy, "probabilities", None)
    if at_once is not None and not hasattr(policy, "learn"):
        said = np.asarray(at_once(questions["x"]), np.float64)
        if said.shape != questions.shape:
            raise ConfigError(
                f"policy {desk.name!r}: probabilities() answered {said.shape} to {questions.size} questions",
                field="policy",
            )
        said = np.where((said >= 0.0) & (said <= 1.0), said, NO_OPINION)
    else:
        said = np.empty(questions.size)
        told = 0
        for i, question in enumerate(questions):
            minute = int(question["minute"])
            while told < answers.size and answers["minute"][told] <= minute:
                desk.teach(answers[told])
                told += 1
            said[i] = desk.ask(int(question["symbol"]), minute, question)
            tell(i + 1, questions.size)
    return foreign_of(questions, said, minutes.size, len(symbols))


def _told(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TOLD_AT_MOST else line[: _TOLD_AT_MOST - 1] + "…"
