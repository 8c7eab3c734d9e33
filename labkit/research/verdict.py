"""judge: what daily returns prove, after all that was tried and beside what needs no skill. In numbers and words.

"No evidence of edge" is a verdict like any other, and the usual one. An edge is claimed only if each of these holds:
the 95 % interval of the skill lies above zero (of the Sharpe ratio where there is no learner), the deflated Sharpe
ratio with all counted trials is at least 0.95, and what was earned beyond the exposure to each baseline cannot
plausibly be the luck of the best of all that was tried (Hansen's SPA). What has a skill of its own, such as a learner
that was frozen, is shown beside but asked nothing of: an edge is not less of one because another finds it too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import numpy as np

from labkit.errors import ConfigError
from labkit.research import statistics
from labkit.research.statistics import DAYS_PER_YEAR, Drawdown, Floats, Interval
from labkit.research.tables import number, sentence_table
from labkit.research.trials import NO_TRIALS, Trials

LEAST_DAYS = 60
"""A dozen blocks of the bootstrap: with fewer its intervals are too narrow to be believed."""
LEAST_DEFLATED_SHARPE = 0.95
LARGEST_P_VALUE = 0.05
CASH, BUY_AND_HOLD = "cash", "buy and hold"


class Skill(NamedTuple):
    """What a learner knew, per UTC day: log-loss saved against a coin (nats) and the labels it was scored on, both
    weighted by uniqueness; float64[D] each."""

    nats: Floats
    labels: Floats


def skill_of(days: Any) -> Skill:
    """The skill per day in the books of a simulated run (`simulation.Run.days`), which hold the sums so far."""
    return Skill(np.diff(days["skill"], prepend=0.0), np.diff(days["weight"], prepend=0.0))


class Requirement(NamedTuple):
    """One thing an edge must show."""

    name: str
    met: bool
    words: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The numbers behind the words. Sharpe ratios are annualised, `skill` is in millinats per label."""

    days: int
    sharpe: float
    sharpe_interval: Interval
    deflated_sharpe: float
    """Probability that the true Sharpe ratio is above `luck`."""
    luck: float
    """The Sharpe ratio the best of all trials would be expected to show without skill."""
    trials: int
    asked: int
    overfitting: float
    """PBO over the trials that lived through all these days; NaN for fewer than two."""
    p_values: dict[str, float]
    """By baseline: how plausible it is that what was earned beyond it is luck (SPA)."""
    baselines: dict[str, float]
    """Their Sharpe ratios."""
    skilled: frozenset[str]
    """Those that need not be beaten."""
    skill: float
    skill_interval: Interval
    """NaN where there is no learner."""
    drawdown: Drawdown
    needed_days: float
    """How many days a Sharpe ratio like this needs before it is above `luck` with 95 % confidence."""
    requirements: tuple[Requirement, ...]

    @property
    def evidence(self) -> bool:
        """True if an edge may be claimed."""
        return all(requirement.met for requirement in self.requirements)

    @property
    def finding(self) -> str:
        """The verdict without its reasons."""
        return f"{'Evidence of an edge' if self.evidence else 'No evidence of edge'}: {self._performance()}"

    @property
    def reasons(self) -> tuple[str, ...]:
        """What an edge rests on, or what is missing, one reason each."""
        return tuple(own.words for own in self.requirements if own.met == self.evidence)

    @property
    def words(self) -> str:
        """The verdict as a person would say it."""
        return f"{self.finding}. {_sentence(self.reasons)}"

    def __str__(self) -> str:
        return self.words

    def __repr__(self) -> str:
        return f"<Verdict: {self.words}>"

    def _repr_html_(self) -> str:
        return f"<p><b>{escape(self.words)}</b></p>{sentence_table(self.rows())}"

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value and meaning of every figure."""
        shown = [
            ("Sharpe ratio", _ratio(self.sharpe), f"95 %: {_between(self.sharpe_interval)}; {self.days} days"),
            ("trials counted", f"{self.trials:,}", f"on overlapping data; asked for {_counted(self.asked, 'time')}"),
            ("Sharpe of the luckiest", _ratio(self.luck), "expected of the best trial if none had skill"),
            ("deflated Sharpe ratio", f"{self.deflated_sharpe:.3f}", f"{LEAST_DEFLATED_SHARPE} or more is needed"),
            ("probability of overfitting", _ratio(self.overfitting), "the best in one half fails in the other"),
        ]
        if not math.isnan(self.skill):
            meaning = f"millinats a label; 95 %: {_between(self.skill_interval)}"
            shown.append(("skill", number("{:+.3f}", self.skill), meaning))
        for name, p_value in self.p_values.items():
            needed = "" if name in self.skilled else f"; at most {LARGEST_P_VALUE} is needed"
            meaning = f"p-value {p_value:.3f} that what was earned beyond it is luck{needed}"
            shown.append((f"beside {name}", f"Sharpe {_ratio(self.baselines[name])}", meaning))
        longest = f"{_counted(self.drawdown.longest_days, 'day')} below a peak at the longest"
        shown.append(("deepest drawdown", f"{self.drawdown.depth:.1%}", longest))
        needed = "no length" if math.isinf(self.needed_days) else f"{self.needed_days:,.0f} days"
        shown.append(("track record needed", needed, "to be above the luckiest with 95 % confidence"))
        return shown

    def _performance(self) -> str:
        return f"Sharpe ratio {_ratio(self.sharpe)} ({_between(self.sharpe_interval)}) over {self.days} days"


def judge(
    daily_returns: Floats,
    baselines: Mapping[str, Floats],
    trials: Trials = NO_TRIALS,
    skill: Skill | None = None,
    *,
    skilled: frozenset[str] = frozenset(),
) -> Verdict:
    """Judge a strategy by float64[D] daily returns.

    Args:
        daily_returns: out of sample, after all costs.
        baselines: what anybody could have done, by name, on the same days. Cash is always among them.
        skilled: those of them that have a skill of their own; they need not be beaten.
        trials: all that was tried on this window (`TrialLedger.trials`), this strategy included.
        skill: of a learner.

    Raises:
        ConfigError: the arrays do not have one finite number a day for the same days.
    """
    own = statistics.as_daily_returns(daily_returns)
    beside = {CASH: np.zeros(own.size)} | {
        name: statistics.as_daily_returns(values, name) for name, values in baselines.items()
    }
    for name, length in [(name, values.size) for name, values in beside.items()] + (
        [("skill", skill.nats.size)] if skill else []
    ):
        if length != own.size:
            raise ConfigError(f"{name} has {length} days, the strategy {own.size}: they must be the same days")
    if own.size < 2:
        raise ConfigError(f"{own.size} days of returns: at least two are needed to compute anything")
    tried = trials.daily_returns if trials.daily_returns.size else np.empty((own.size, 0))
    if tried.shape[0] != own.size:
        raise ConfigError(f"the trials have {tried.shape[0]} days, the strategy {own.size}: ask for its own window's")

    count = max(1, trials.count)
    daily_sharpe = statistics.daily_sharpe_ratio(own)
    skewness, kurtosis = statistics.skewness_and_kurtosis(own)
    luck = statistics.expected_maximum_sharpe(count, trials.deviation)
    interval = statistics.sharpe_interval(own)
    deflated = statistics.deflated_sharpe_ratio(own, count, trials.deviation)
    p_values = {name: statistics.superiority_p_value(own, tried, values) for name, values in beside.items()}
    known = statistics.ratio_interval(skill.nats, skill.labels) if skill else Interval(math.nan, math.nan)
    return Verdict(
        days=own.size,
        sharpe=statistics.sharpe_ratio(own),
        sharpe_interval=interval,
        deflated_sharpe=deflated,
        luck=luck * math.sqrt(DAYS_PER_YEAR),
        trials=count,
        asked=max(1, trials.asked),
        overfitting=statistics.probability_of_overfitting(tried),
        p_values=p_values,
        baselines={name: statistics.sharpe_ratio(values) for name, values in beside.items()},
        skilled=skilled,
        skill=1000.0 * float(skill.nats.sum() / max(skill.labels.sum(), 1e-300)) if skill else math.nan,
        skill_interval=Interval(1000.0 * known.low, 1000.0 * known.high),
        drawdown=statistics.max_drawdown(own),
        needed_days=statistics.minimum_track_record(daily_sharpe, skewness, kurtosis, benchmark=luck),
        requirements=_requirements(
            own.size,
            interval,
            known if skill else None,
            deflated,
            luck,
            count,
            {name: p_value for name, p_value in p_values.items() if name not in skilled},
        ),
    )


def _requirements(
    days: int,
    sharpe: Interval,
    skill: Interval | None,
    deflated: float,
    luck: float,
    trials: int,
    p_values: Mapping[str, float],
) -> tuple[Requirement, ...]:
    worst = max(p_values, key=lambda name: p_values[name])
    if skill is None:
        known = Requirement("sharpe", sharpe.low > 0.0, f"the Sharpe ratio may be anything {_between(sharpe)}")
    else:
        millinats = Interval(1000.0 * skill.low, 1000.0 * skill.high)
        known = Requirement("skill", skill.low > 0.0, f"the skill is {_between(millinats)} millinats a label")
    return (
        Requirement("days", days >= LEAST_DAYS, f"there are {days} days and {LEAST_DAYS} are the least to judge by"),
        known,
        Requirement(
            "deflated_sharpe",
            deflated >= LEAST_DEFLATED_SHARPE,
            f"after {_counted(trials, 'trial')} the best without skill would show "
            f"{luck * math.sqrt(DAYS_PER_YEAR):.2f}, and the probability to be above that is {deflated:.3f} "
            f"where {LEAST_DEFLATED_SHARPE} is asked",
        ),
        Requirement(
            "superiority",
            p_values[worst] <= LARGEST_P_VALUE,
            f"that what it earned beyond {worst} is luck has a p-value of {p_values[worst]:.3f} where "
            f"{LARGEST_P_VALUE} is the most",
        ),
    )


def _sentence(reasons: tuple[str, ...]) -> str:
    said = "; ".join(reasons)
    return f"{said[0].upper()}{said[1:]}."


def _between(interval: Interval) -> str:
    return f"between {_ratio(interval.low)} and {_ratio(interval.high)}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _ratio(value: float) -> str:
    return number("{:.2f}", value)
