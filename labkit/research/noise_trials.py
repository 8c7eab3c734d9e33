"""Noise trials: the laboratory's own judgement, tried on what knows nothing and on what knows something.

How often is an edge claimed, or a challenger promoted, where there is none? How often is a real one found? First on
daily returns made up in bulk, then on whole markets lived through bar by bar. Everything is seeded: a share is a fact
about its seeds. Used by `benchmarks/fooled.py` and the deep tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from labkit.config import Config, TraderConfig
from labkit.research.planted_markets import make_planted_market
from labkit.research.simulation import Costs, Run, costs_of, follow, settings_for, simulate
from labkit.research.statistics import DAYS_PER_YEAR, Floats, daily_sharpe_ratio
from labkit.research.trials import Trials
from labkit.research.verdict import Verdict, judge, skill_of
from labkit.trader.features import FEATURE_NAMES
from labkit.trader.promotion import PromotionRule, promotion
from labkit.trader.questions import questions_through
from labkit.trader.state import new_state

RULE_FEATURES = ("mom40", "mom160", "mom640", "mkt160", "dev720", "flow")
"""Rules for noise tapes: with each of these, and against each."""
LEARNING = TraderConfig(horizon_minutes=240, decision_every_minutes=15, drawdown_half=1.0, drawdown_stop=1.0)
"""As the reference judges a learner: no drawdown brake, four hours, every quarter of an hour."""


@dataclass(frozen=True)
class Share:
    """How often something happened."""

    count: int
    of: int

    @property
    def fraction(self) -> float:
        return self.count / self.of

    def __str__(self) -> str:
        return f"{self.count} of {self.of} ({self.fraction:.1%})"


# -- daily returns in bulk --------------------------------------------------------------------------------------------


def market_returns(seed: int, days: int) -> Floats:
    """Daily returns without direction: fat tails (Student's t with 4 degrees), volatility that comes in spells."""
    random = np.random.default_rng(seed)
    spells = np.zeros(days)
    for day in range(1, days):
        spells[day] = 0.95 * spells[day - 1] + 0.12 * random.standard_normal()
    fat: Floats = 0.01 * np.exp(spells) * random.standard_t(4, days) / math.sqrt(2.0)
    return fat


def random_strategies(seed: int, count: int, days: int) -> tuple[Floats, Floats]:
    """Strategies that go long, short or flat by a coin, hold for one to thirty days, and trade one market.

    Returns their daily returns, float64[days, count], and the market's.
    """
    random = np.random.default_rng(seed)
    market = market_returns(seed, days)
    change = random.random((days, count)) < 1.0 / random.integers(1, 31, count)
    change[0] = True
    wish = random.integers(-1, 2, (days, count))
    decided = np.maximum.accumulate(np.where(change, np.arange(days)[:, None], 0), axis=0)
    return np.take_along_axis(wish, decided, axis=0) * market[:, None], market


def best_of_many(seeds: Iterable[int], *, strategies: int = 500, days: int = 365, counted: bool = True) -> Share:
    """How often the best of many random strategies is claimed to have an edge.

    Without `counted` the judge is told of the best only, as if nothing else had been tried: the negative control.
    """
    claimed = total = 0
    for seed in seeds:
        tried, market = random_strategies(seed, strategies, days)
        claimed += _judge_best(tried, {"buy and hold": market}, counted=counted).evidence
        total += 1
    return Share(claimed, total)


def planted_edge(seeds: Iterable[int], *, sharpe: float, days: int = 730, strategies: int = 20) -> Share:
    """How often a strategy with this true Sharpe ratio is claimed to have an edge, found among random ones."""
    claimed = total = 0
    for seed in seeds:
        tried, market = random_strategies(seed, strategies, days)
        tried[:, 0] = market_returns(1_000_000 + seed, days)
        tried[:, 0] += sharpe / math.sqrt(DAYS_PER_YEAR) * tried[:, 0].std()
        claimed += judge(tried[:, 0], {"buy and hold": market}, trials_of(tried)).evidence
        total += 1
    return Share(claimed, total)


def promoted_noise(seeds: Iterable[int], *, days: int = 240, rule: PromotionRule | None = None) -> Share:
    """How often a random challenger is promoted over a random champion on the same market, asked about every day."""
    promoted = total = 0
    for seed in seeds:
        pair, _ = random_strategies(seed, 2, days)
        promoted += ever_promoted(pair[:, 0], pair[:, 1], rule or PromotionRule())
        total += 1
    return Share(promoted, total)


def ever_promoted(champion: Floats, challenger: Floats, rule: PromotionRule) -> bool:
    """True if any day's look would have promoted the challenger."""
    looks = [days for days in range(1, champion.size + 1) if days % rule.first_look_days == 0]
    return any(promotion(champion[:days], challenger[:days], rule).promoted for days in looks)


def trials_of(daily_returns: Floats) -> Trials:
    """All of float64[D, N] as trials counted on their own days."""
    sharpes = np.array([daily_sharpe_ratio(column) for column in daily_returns.T])
    return Trials(sharpes.size, sharpes.size, sharpes, daily_returns)


def _judge_best(tried: Floats, baselines: dict[str, Floats], *, counted: bool) -> Verdict:
    trials = trials_of(tried)
    best = int(np.argmax(trials.daily_sharpes))
    return judge(tried[:, best], baselines, trials if counted else trials_of(tried[:, [best]]))


# -- whole markets ----------------------------------------------------------------------------------------------------


def rules_on_noise(seed: int, *, days: int = 120, symbols: int = 2) -> Floats:
    """Twelve trading rules lived through a market without an edge, at no cost: float64[days, 12] daily returns.

    Costs would only make it easier to refuse them.
    """
    market = make_planted_market("null", seed, days=days, symbols=symbols)
    config = Config(trader=LEARNING)
    free = Costs(0.0, 0.0, 0.0)
    settings = settings_for(market, config)
    questions, _ = questions_through(settings, new_state(settings, symbols), market.minutes, market.rows)
    at = questions["t"], questions["symbol"]
    found = []
    for name in RULE_FEATURES:
        side = np.sign(questions["x"][:, FEATURE_NAMES.index(name)])
        for way in (1.0, -1.0):
            orders, distances = np.zeros((2, *market.rows.shape[:2]))
            orders[at], distances[at] = way * side * LEARNING.max_leverage_per_symbol, questions["barrier"]
            found.append(_daily_returns(follow(market, orders, distances, config, free), config))
    return np.column_stack(found)


def best_rule_on_noise(tapes: Iterable[Floats], *, counted: bool = True) -> Share:
    """How often the best of the rules of a noise tape is claimed to have an edge."""
    verdicts = [_judge_best(tape, {}, counted=counted).evidence for tape in tapes]
    return Share(sum(verdicts), len(verdicts))


def rules_promoted_on_noise(tapes: Iterable[Floats], rule: PromotionRule | None = None) -> Share:
    """How often the last rule of a noise tape is promoted over the first."""
    promoted = [ever_promoted(tape[:, 0], tape[:, -1], rule or PromotionRule()) for tape in tapes]
    return Share(sum(promoted), len(promoted))


def learner_on(kind: str, seed: int, *, days: int = 365, symbols: int = 5, b: float = 0.02) -> Verdict:
    """The verdict on the trader after a year of a planted market, at the reference's costs, beside buy and hold."""
    market = make_planted_market(kind, seed, days=days, symbols=symbols, b=b)
    config = Config(trader=LEARNING)
    run = simulate(market, config, costs_of(config, 2e-4))
    closes = market.rows[1439::1440, :, 3]
    held = np.mean(closes / np.vstack((market.rows[:1, :, 0], closes[:-1])) - 1.0, axis=1)
    own = _daily_returns(run, config)
    return judge(own, {"buy and hold": held}, trials_of(own[:, None]), skill_of(run.days))


def _daily_returns(run: Run, config: Config) -> Floats:
    equity = run.days["equity"]
    before = np.concatenate(([float(config.paper.opening_balance)], equity[:-1]))
    return np.asarray(equity / before - 1.0)
