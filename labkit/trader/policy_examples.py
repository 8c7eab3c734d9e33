"""Two policies to start from: a rule, and a scikit-learn classifier that is fitted again as answers come in."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.trader.features import FEATURE_NAMES
from labkit.trader.policies import Answer, Question


class MovingAverageTrend:
    """Above its moving average of half a day a price is said to go on rising, below it to go on falling.

    `boldness` is the most it says beyond one half. Being too bold does no harm: the calibration slope cuts it down.
    """

    name = "moving-average trend"

    def __init__(self, boldness: float = 0.2) -> None:
        self.boldness = boldness

    def probability(self, question: Question) -> float:
        return 0.5 + self.boldness * float(np.tanh(question.features["dev720"]))

    def probabilities(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """All at once: float64[n, features] to float64[n]."""
        return 0.5 + self.boldness * np.tanh(values[:, FEATURE_NAMES.index("dev720")])


class ScikitLearnClassifier:
    """A classifier of scikit-learn (or LightGBM's) on the features, fitted again after every `every` answers.

    Args:
        make: gives a fresh classifier with `fit(X, y, sample_weight=...)` and `predict_proba(X)`.
        every: answers between two fits; nothing is said before the first.
        memory: the latest answers a fit is made of.
    """

    name = "scikit-learn classifier"

    def __init__(self, make: Callable[[], Any], *, every: int = 2_000, memory: int = 20_000) -> None:
        self.make = make
        self.every = every
        self.fits = 0
        self._memory = memory
        # As many more as may come before the next fit: from these the latest one can be made again.
        self._known: deque[tuple[list[float], float, float]] = deque(maxlen=memory + every)
        self._since_fit = 0
        self._model: Any = None

    def probability(self, question: Question) -> float | None:
        if self._model is None:
            return None
        return float(self._model.predict_proba(np.array([question.values]))[0, 1])

    def learn(self, question: Question, answer: Answer) -> None:
        self._known.append((question.values, answer.label, answer.weight))
        self._since_fit += 1
        if self._since_fit >= self.every:
            self._since_fit = 0
            self._fit()
            self.fits += 1

    def state(self) -> bytes:
        """The answers that are known and how many fits were made of them; the model follows from these."""
        kept = io.BytesIO()
        rows = np.array([(*values, label, weight) for values, label, weight in self._known])
        np.savez(kept, rows=rows, since_fit=self._since_fit, fits=self.fits)
        return kept.getvalue()

    def restore(self, stored: bytes) -> None:
        kept = np.load(io.BytesIO(stored), allow_pickle=False)
        self._known.clear()
        self._known.extend((row[:-2], row[-2], row[-1]) for row in kept["rows"].tolist())
        self._since_fit, self.fits = int(kept["since_fit"]), int(kept["fits"])
        if self.fits:
            self._fit()

    def _fit(self) -> None:
        """Fit on what was known at the latest fit."""
        end = len(self._known) - self._since_fit
        known = list(self._known)[max(0, end - self._memory) : end]
        x = np.array([values for values, _, _ in known])
        label = np.array([label for _, label, _ in known])
        weight = np.array([weight for _, _, weight in known])
        # A soft label is a share of both outcomes: each row counts twice, by what it says for either side.
        outcome = np.repeat([1, 0], label.size)
        shares = np.concatenate([weight * label, weight * (1.0 - label)])
        says = shares > 0.0
        self._model = self.make().fit(np.concatenate([x, x])[says], outcome[says], sample_weight=shares[says])
