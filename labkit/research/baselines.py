"""Baselines: what anybody could have done instead, over the same bars at the same costs. They stand beside every score.

`cheap_baselines` are those a table always shows: cash, buy and hold at the risk of the run beside it, a fixed trend
rule, entries at random, and the learner frozen after its first weeks. `weekly_lightgbm` retrains gradient-boosted trees
every week, as many do; it takes minutes where the others take a second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import ConfigError
from labkit.research.backtest import BacktestResult
from labkit.research.markets import Market, whole_days
from labkit.research.simulation import DECISION, OUTCOMES, Run, follow, new_books, settings_for, simulate
from labkit.research.verdict import BUY_AND_HOLD
from labkit.trader.features import CLOSE, FEATURE_NAMES, MINUTES_PER_DAY
from labkit.trader.learner import EXPERTS
from labkit.trader.questions import QuestionsAndAnswers, foreign_of, questions_through
from labkit.trader.state import ANSWER, State, new_state

TREND_FEATURE = "mom160"
FROZEN_LEARNER, LIGHTGBM, CALIBRATED_LIGHTGBM = "frozen learner", "weekly LightGBM", "weekly LightGBM, calibrated"
SKILLED = frozenset({FROZEN_LEARNER, LIGHTGBM, CALIBRATED_LIGHTGBM})
"""Baselines that learn: an edge they find too is an edge."""
FREEZE_AFTER = 0.25
"""The frozen learner learns in this share of the history."""
WEEK_MINUTES = 7 * MINUTES_PER_DAY
TRAINING_MINUTES = 60 * MINUTES_PER_DAY
LEAST_LABELS = 500
TREES, LEAVES, LEARNING_RATE = 100, 15, 0.1


def cheap_baselines(result: BacktestResult, seed: int = 1) -> list[BacktestResult]:
    """Cash, buy and hold, the trend rule, random entries and the frozen learner, beside `result`."""
    asked = asked_through(result)
    return [
        cash(result),
        buy_and_hold(result),
        trend_rule(result, asked),
        random_entries(result, asked, seed),
        frozen_learner(result, asked),
    ]


def asked_through(result: BacktestResult) -> QuestionsAndAnswers:
    """Every question the market of `result` puts under its settings, with its answer."""
    market = result.market
    settings = settings_for(market, result.config)
    return questions_through(settings, new_state(settings, len(market.symbols)), market.minutes, market.rows)


def cash(result: BacktestResult) -> BacktestResult:
    """Do nothing."""
    return _beside(result, "cash", _run_of_equity(result, np.zeros(result.run.days.size), 0.0))


def buy_and_hold(result: BacktestResult) -> BacktestResult:
    """Long in equal parts of every symbol from the first bar on, rebalanced every day, at the size that makes daily
    returns as volatile as those of `result`; the whole balance where that did not trade."""
    market, costs = result.market, result.costs
    closes = _daily_closes(market)
    returns = np.mean(closes[1:] / closes[:-1] - 1.0, axis=1)
    paid = np.zeros(returns.size)
    first_day = market.minutes[0] // MINUTES_PER_DAY
    for times, rates in zip(market.funding_minutes, market.funding_rates, strict=True):
        held = (times > market.minutes[0]) & (times <= market.minutes[-1])
        np.add.at(paid, times[held] // MINUTES_PER_DAY - first_day, rates[held] / len(market.symbols))
    own, wanted = (returns - paid).std(), result.daily_returns.std()
    size = float(wanted / own) if wanted > 0.0 and own > 0.0 else 1.0
    entry = size * (costs.taker_fee + costs.slippage + 0.5 * float(np.mean(costs.spread)))
    path = np.cumprod(1.0 + size * (returns - paid)) * (1.0 - entry) - 1.0
    return _beside(result, BUY_AND_HOLD, _run_of_equity(result, path, entry, -size * float(paid.sum())))


def trend_rule(result: BacktestResult, asked: QuestionsAndAnswers) -> BacktestResult:
    """Always with the last hours' trend, at full size: the same brackets and exits, no model and no thrift."""
    questions = asked.questions
    side = np.sign(questions["x"][:, FEATURE_NAMES.index(TREND_FEATURE)])
    return _followed(result, "trend rule", asked, side * result.config.trader.max_leverage_per_symbol)


def random_entries(result: BacktestResult, asked: QuestionsAndAnswers, seed: int = 1) -> BacktestResult:
    """At most as many entries as `result` made (a hundred where it made none), at random times, on random sides."""
    random = np.random.Generator(np.random.PCG64(seed))
    count = int(result.run.account["entries"][0]) or 100
    size = asked.questions.size
    chosen = random.random(size) < count / max(1, size)
    side = np.where(random.random(size) < 0.5, -1.0, 1.0)
    leverage = chosen * side * result.config.trader.max_leverage_per_symbol
    return _followed(result, "random entry", asked, leverage)


def frozen_learner(result: BacktestResult, asked: QuestionsAndAnswers) -> BacktestResult:
    """The learner as it stood after the first quarter of the history; its calibration slope goes on being measured."""
    market = result.market
    until = int(market.minutes.size * FREEZE_AFTER)
    settings = settings_for(market, result.config)
    state = new_state(settings, len(market.symbols))
    questions_through(settings, state, market.minutes[:until], market.rows[:until])
    later = asked.questions[asked.questions["t"] >= until]
    return _trading(result, FROZEN_LEARNER, foreign_of(later, _mixture(state, later["x"]), *market.rows.shape[:2]))


def weekly_lightgbm(result: BacktestResult) -> list[BacktestResult]:
    """Gradient-boosted trees on the same features, trained every week on the labels of the last 60 days: once at face
    value, once through our calibration slope, ramp and all.

    A label counts as known only when its bracket has ended (that is the purge).

    Raises:
        ConfigError: LightGBM is not installed.
    """
    asked = asked_through(result)
    foreign = foreign_of(asked.questions, lightgbm_probabilities(asked), *result.market.rows.shape[:2])
    return [
        _trading(result, LIGHTGBM, foreign, trust=True),
        _trading(result, CALIBRATED_LIGHTGBM, foreign),
    ]


def lightgbm_probabilities(asked: QuestionsAndAnswers) -> NDArray[np.float64]:
    """The probability of every question's long bracket by the trees of its week; ½ before there are any."""
    try:
        import lightgbm
    except ImportError as error:
        raise ConfigError("this baseline needs LightGBM: pip install lightgbm") from error
    questions, answers = asked.questions, asked.answers
    symbols = int(questions["symbol"].max(initial=0)) + 1
    key = questions["minute"] * symbols + questions["symbol"]
    rows = np.searchsorted(key, answers["asked_minute"] * symbols + answers["symbol"])
    probabilities = np.full(questions.size, 0.5)
    if not questions.size:
        return probabilities
    parameters = {
        "objective": "cross_entropy", "num_leaves": LEAVES, "learning_rate": LEARNING_RATE, "num_threads": 1,
        "deterministic": True, "force_row_wise": True, "verbosity": -1, "seed": 1,
    }  # fmt: skip
    for monday in range(int(questions["minute"][0]) + WEEK_MINUTES, int(questions["minute"][-1]), WEEK_MINUTES):
        known = (answers["minute"] < monday) & (answers["asked_minute"] >= monday - TRAINING_MINUTES)
        if known.sum() < LEAST_LABELS:
            continue
        data = lightgbm.Dataset(questions["x"][rows[known]], answers["q"][known], weight=answers["weight"][known])
        trees = lightgbm.train(parameters, data, TREES)
        week = (questions["minute"] >= monday) & (questions["minute"] < monday + WEEK_MINUTES)
        probabilities[week] = trees.predict(questions["x"][week])
    return probabilities


# -- how they are traded ----------------------------------------------------------------------------------------------


def _beside(result: BacktestResult, name: str, run: Run) -> BacktestResult:
    return BacktestResult(name, result.market, result.config, result.costs, run)


def _trading(result: BacktestResult, name: str, foreign: NDArray[np.float64], *, trust: bool = False) -> BacktestResult:
    run = simulate(result.market, result.config, result.costs, foreign=foreign, trust=trust, keep_decisions=True)
    return _beside(result, name, run)


def _followed(result: BacktestResult, name: str, asked: QuestionsAndAnswers, leverage: NDArray[Any]) -> BacktestResult:
    orders, distances = np.zeros((2, *result.market.rows.shape[:2]))
    at = asked.questions["t"], asked.questions["symbol"]
    orders[at], distances[at] = leverage, asked.questions["barrier"]
    return _beside(result, name, follow(result.market, orders, distances, result.config, result.costs))


def _mixture(state: State, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the learner of `state` would say to these questions."""
    common = state.common[0]
    trust = np.exp(common["log_weights"])
    said = np.zeros(len(x))
    for k, expert in enumerate(EXPERTS):
        columns = [FEATURE_NAMES.index(name) for name in expert.features]
        logit = x[:, columns] @ common["weights"][k, : len(columns)]
        said += trust[k] / (1.0 + np.exp(-np.clip(logit, -10.0, 10.0)))
    return said


def _last_bars(market: Market) -> NDArray[np.int64]:
    """int64[D]: the last bar that had closed by the end of each day."""
    days = market.minutes[0] // MINUTES_PER_DAY + np.arange(whole_days(market))
    ended = (market.minutes + market.span_minutes - 1) // MINUTES_PER_DAY
    return np.asarray(np.searchsorted(ended, days, side="right") - 1)


def _daily_closes(market: Market) -> NDArray[np.float64]:
    """float64[1 + D, S]: the first open, then the last close of every day known by its end."""
    closes = market.rows[:, :, CLOSE].copy()
    for s in range(closes.shape[1]):
        known = np.flatnonzero(~np.isnan(closes[:, s]))
        at = np.searchsorted(known, np.arange(closes.shape[0]), side="right") - 1
        closes[:, s] = np.where(at >= 0, closes[known[np.maximum(at, 0)], s], closes[known[0], s])
    opens = market.rows[:, :, 0]
    first = np.array([own[np.flatnonzero(~np.isnan(own))[0]] for own in opens.T])
    return np.vstack((first, closes[_last_bars(market)]))


def _run_of_equity(result: BacktestResult, path: NDArray[np.float64], fees: float, funding: float = 0.0) -> Run:
    """A run that is only an equity curve: `path` is float64[D], gains so far as fractions of the opening balance."""
    market = result.market
    account, _, days = new_books(market, 1.0)
    opening = float(result.config.paper.opening_balance)
    days["day"] = result.run.days["day"]
    days["equity"] = opening * (1.0 + path)
    peak = np.maximum.accumulate(np.concatenate(([1.0], 1.0 + path)))
    account["worst_drawdown"] = float((1.0 - np.concatenate(([1.0], 1.0 + path)) / peak).max())
    account["commission"], account["funding"] = opening * fees, opening * funding
    settings = settings_for(market, result.config)
    return Run(
        trades=result.run.trades[:0],
        days=days,
        counts=np.zeros(len(OUTCOMES), np.int64),
        decisions=np.empty(0, DECISION),
        answers=np.empty(0, ANSWER),
        account=account,
        state=new_state(settings, len(market.symbols)),
        final_equity=float(days["equity"][-1]),
    )
