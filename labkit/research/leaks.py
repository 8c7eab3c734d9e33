"""Leak detectors: does a learner know anything that it could not know yet?

Three ways to find out, for the trader's own learner and for whatever is brought beside it. Change the future: nothing
said before may change by a bit. Take all truth out of the labels: no skill may be left. Take all truth out of the bars:
no skill may be left either. A detector that cannot fire proves nothing, so a leak of one bar is planted beside them.

Minutes are int64[T], rising; rows float64[T, symbols, 6] (see `labkit.trader.features`); questions and answers are
records of `labkit.trader.questions`. Skill is in millinats a label.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.config import TraderConfig
from labkit.errors import ConfigError
from labkit.research.compiling import compiled
from labkit.research.statistics import Floats, Interval, ratio_interval
from labkit.research.verdict import Skill
from labkit.trader.features import MINUTES_PER_DAY
from labkit.trader.learner import EXPERT_COUNT, learn, predict, refit
from labkit.trader.questions import QuestionsAndAnswers, foreign_of, questions_through
from labkit.trader.state import new_state, settings_of
from labkit.trader.step import scratch

Minutes = NDArray[np.int64]
Records = NDArray[Any]
Say = Callable[[Minutes, Floats], Floats]
"""What is said at the end of every minute, float64[T, ...], given the bars of all of them; NaN for nothing."""

CONFIDENCE = 0.999
"""Of the skill's intervals: a leak shows by far, and a detector that often cries for nothing is soon ignored."""
LEAST_DAYS = 20
"""With fewer there are too few blocks for any interval."""
PRICES = slice(0, 4)
CLOSE_LOOK_MINUTES = 5
"""Horizon on mirrored bars: of so short a bracket one bar is a large part, so that a leak of one bar shows in days."""


class FutureLeak(NamedTuple):
    """A minute in which something was said that later bars had a part in."""

    minute: int
    cut_minute: int

    def __str__(self) -> str:
        return f"what was said in minute {self.minute} changes with the bars after minute {self.cut_minute}"


class Relearned(NamedTuple):
    """What the learner said to every question, and what that was worth on every day."""

    probabilities: Floats
    skill: Skill

    @property
    def millinats(self) -> float:
        """Per label, over all days."""
        labels = float(self.skill.labels.sum())
        return 1000.0 * float(self.skill.nats.sum()) / labels if labels > 0.0 else 0.0

    @property
    def interval(self) -> Interval:
        """99.9 % of the skill, in millinats a label."""
        low, high = ratio_interval(self.skill.nats, self.skill.labels, CONFIDENCE)
        return Interval(1000.0 * low, 1000.0 * high)


class LeakReport(NamedTuple):
    """What the detectors found. Intervals are 99.9 % of the skill, in millinats a label."""

    future: FutureLeak | None
    scrambled: Interval
    mirrored: Interval
    planted: Interval
    """With a leak of one bar put in on purpose: it must show, or the others could not have shown either."""

    @property
    def clean(self) -> bool:
        """True if nothing leaks, and a leak of one bar would have been seen."""
        return self.future is None and self.scrambled.low <= 0.0 and self.mirrored.low <= 0.0 < self.planted.low

    @property
    def words(self) -> str:
        """What was found, and what it was found by."""
        found = []
        if self.future:
            found.append(str(self.future))
        if self.scrambled.low > 0.0:
            found.append(f"skill {_between(self.scrambled)} on labels that mean nothing")
        if self.mirrored.low > 0.0:
            found.append(f"skill {_between(self.mirrored)} on bars that mean nothing")
        if found:
            return f"A leak: {'; '.join(found)}."
        if self.planted.low <= 0.0:
            return f"No answer: a planted leak of one bar does not show on so little data ({_between(self.planted)})."
        return f"No leak found; a planted one of a single bar shows as a skill {_between(self.planted)}."


def check_learner(minutes: Minutes, rows: Floats, config: TraderConfig, *, seed: int = 1) -> LeakReport:
    """Let every detector look at the trader's own learner on this history; takes a few passes through it.

    Raises:
        ConfigError: rows and minutes do not fit, or are less than 20 days.
    """
    if rows.ndim != 3 or rows.shape[0] != minutes.size:
        raise ConfigError(f"rows of shape {rows.shape} do not fit {minutes.size} minutes")
    if minutes.size < LEAST_DAYS * MINUTES_PER_DAY:
        raise ConfigError(f"{minutes.size} minutes: at least {LEAST_DAYS} days are needed to tell a leak from luck")
    close_look = TraderConfig(
        horizon_minutes=CLOSE_LOOK_MINUTES, decision_every_minutes=1, barrier_sigmas=config.barrier_sigmas
    )
    asked = questions_of(minutes, rows, config)
    without_edge = questions_of(minutes, mirrored(rows, seed), close_look)
    planted = without_edge._replace(questions=bars_later(without_edge.questions))
    return LeakReport(
        future=future_leak(own_learner(config), minutes, rows, minutes.size // 2, seed=seed),
        scrambled=relearn(minutes, asked._replace(answers=scrambled(asked.answers, seed))).interval,
        mirrored=relearn(minutes, without_edge).interval,
        planted=relearn(minutes, planted).interval,
    )


# -- change the future ------------------------------------------------------------------------------------------------


def future_leak(say: Say, minutes: Minutes, rows: Floats, cut: int, *, seed: int = 1) -> FutureLeak | None:
    """The first minute up to index `cut` in which `say` says something else if the bars after `cut` are others.

    The other bars walk away from the true ones by about a percent a bar. Bit for bit: a difference in the last digit
    is a leak. None if there is none.
    """
    if not 0 <= cut < minutes.size - 1:
        raise ConfigError(f"cut {cut}: must leave bars on both sides, of {minutes.size}", field="cut")
    random = np.random.default_rng(seed)
    other = rows.copy()
    later = other[cut + 1 :]
    away = np.exp(np.cumsum(0.01 * random.standard_normal(later.shape[:2]), axis=0))
    later[:, :, PRICES] *= away[:, :, None]
    later[:, :, PRICES.stop :] *= random.lognormal(size=later.shape[:2])[:, :, None]
    before, after = say(minutes, rows)[: cut + 1], say(minutes, other)[: cut + 1]
    same = np.asarray((before == after) | (np.isnan(before) & np.isnan(after))).reshape(cut + 1, -1)
    wrong = np.flatnonzero(~same.all(axis=1))
    return FutureLeak(int(minutes[wrong[0]]), int(minutes[cut])) if wrong.size else None


def own_learner(config: TraderConfig) -> Say:
    """What the trader's learner says: its probabilities and barriers, float64[T, symbols, 2]."""

    def say(minutes: Minutes, rows: Floats) -> Floats:
        questions = questions_of(minutes, rows, config).questions
        shape = (minutes.size, rows.shape[1])
        return np.stack([foreign_of(questions, questions[name], *shape) for name in ("p", "barrier")], axis=2)

    return say


def questions_of(minutes: Minutes, rows: Floats, config: TraderConfig) -> QuestionsAndAnswers:
    """What a new trader is asked and answered on this history."""
    settings = settings_of(config, rows.shape[1])
    # Memory that may not be written is another type to numba.
    own = np.require(rows, np.float64, ["C", "W"])
    return questions_through(settings, new_state(settings, rows.shape[1]), minutes, own)


# -- take the truth out -----------------------------------------------------------------------------------------------


def scrambled(answers: Records, seed: int) -> Records:
    """The same answers at the same times, each turned round by a coin: nothing can be learned from them."""
    other = answers.copy()
    turned = np.random.default_rng(seed).random(answers.size) < 0.5
    other["q"][turned] = 1.0 - other["q"][turned]
    return other


def mirrored(rows: Floats, seed: int) -> Floats:
    """The same bars, each minute turned upside down by a coin, for all symbols alike.

    Volatility, volume and correlations stay as they are; which way a bar goes can no longer be known from others.
    """
    coins = np.where(np.random.default_rng(seed).random(rows.shape[0]) < 0.5, -1.0, 1.0)
    log_prices: Floats = np.log(rows[:, :, PRICES])
    known = np.asarray(np.isfinite(log_prices).all(axis=2))
    # Each bar as distances from the close before it; a bar that is missing goes nowhere.
    close: Floats = np.where(known, log_prices[:, :, 3], np.nan)
    for symbol in range(rows.shape[1]):
        at = np.maximum.accumulate(np.where(known[:, symbol], np.arange(rows.shape[0]), -1))
        close[:, symbol] = np.where(at >= 0, close[np.maximum(at, 0), symbol], np.nan)
    first = np.take_along_axis(log_prices[:, :, 0], np.argmax(known, axis=0)[None, :], axis=0)
    before = np.vstack((first, close[:-1]))
    before = np.where(np.isnan(before), first, before)
    moves = coins[:, None, None] * (log_prices - before[:, :, None])
    ends = np.cumsum(np.where(known, moves[:, :, 3], 0.0), axis=0)
    starts = first + np.vstack((np.zeros((1, rows.shape[1])), ends[:-1]))
    turned = np.exp(starts[:, :, None] + moves)
    other = rows.copy()
    other[:, :, 0], other[:, :, 3] = turned[:, :, 0], turned[:, :, 3]
    other[:, :, 1], other[:, :, 2] = turned.max(axis=2), turned.min(axis=2)
    # Bought becomes sold.
    sold = rows[:, :, 4] - rows[:, :, 5]
    other[:, :, 5] = np.where(coins[:, None] < 0.0, sold, rows[:, :, 5])
    return other


def bars_later(questions: Records, bars: int = 1) -> Records:
    """The planted leak: every question bears the features its symbol had `bars` questions later.

    Asked every minute, that is a label that begins so many bars too early. The last ones keep their own.
    """
    other = questions.copy()
    for symbol in np.unique(questions["symbol"]):
        own = np.flatnonzero(questions["symbol"] == symbol)
        other["x"][own[:-bars]] = questions["x"][own[bars:]]
    return other


def relearn(minutes: Minutes, asked: QuestionsAndAnswers) -> Relearned:
    """Let a new learner live through these questions and answers, in the order and at the times the trader would.

    With what `questions_of` gives it says the very same, bit for bit.
    """
    questions, answers = asked
    symbols = int(questions["symbol"].max(initial=0)) + 1
    asked_at = questions["minute"] * symbols + questions["symbol"]
    which = np.searchsorted(asked_at, answers["asked_minute"] * symbols + answers["symbol"])
    state = new_state(settings_of(TraderConfig(), 1), 1)
    first_day = int(minutes[0]) // MINUTES_PER_DAY
    days = int(minutes[-1]) // MINUTES_PER_DAY - first_day + 1
    probabilities, experts = np.empty(questions.size), np.empty((questions.size, EXPERT_COUNT))
    nats, labels = np.zeros(days), np.zeros(days)
    _relearn(
        state.common, minutes, questions, answers, which, probabilities, experts, nats, labels, first_day, *scratch()
    )
    return Relearned(probabilities, Skill(nats, labels))


@compiled
def _relearn(
    commons: Any, minutes: Any, questions: Any, answers: Any, which: Any, probabilities: Any, experts: Any,
    nats: Any, labels: Any, first_day: Any, factor: Any, step: Any,
) -> None:  # fmt: skip
    common = commons[0]
    answered = 0
    asked = 0
    for t in range(minutes.size):
        minute = minutes[t]
        while answered < answers.size and answers[answered].minute == minute:
            answer = answers[answered]
            k = which[answered]
            before = common.skill
            learn(common, questions[k].x, answer.q, probabilities[k], experts[k], answer.weight)
            nats[minute // MINUTES_PER_DAY - first_day] += common.skill - before
            labels[minute // MINUTES_PER_DAY - first_day] += answer.weight
            answered += 1
        if minute // 60 != common.refit_hour:
            common.refit_hour = minute // 60
            refit(common, factor, step)
        while asked < questions.size and questions[asked].minute == minute:
            probabilities[asked] = predict(common, questions[asked].x, experts[asked])
            asked += 1


def _between(interval: Interval) -> str:
    return f"between {interval.low:+.2f} and {interval.high:+.2f}"
