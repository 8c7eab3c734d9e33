"""Markets with a planted, known edge (reference/self-learning, Appendix A) and an account that trades them.

Bars only, seeded, float64. `make_market` is the exact generator; `trade` lets the trader of `labkit.trader` live
through it with the product's own step and policy, positions closed by the bars (stop first, gaps at the open) and by
the model's flip. `oracle` replaces the learner's probability by one that knows the true drift of the next bar.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.config import TraderConfig
from labkit.research.planted_markets import KINDS, make_planted_market
from labkit.trader.compiling import compiled
from labkit.trader.features import CLOSE, HIGH, LOW, OPEN
from labkit.trader.policy import judge, prefers_other_side
from labkit.trader.state import State, new_state, settings_of
from labkit.trader.step import is_due, live_minute, nobody_else, scratch

NULL, MOMENTUM, REGIME, CONTEXT = range(len(KINDS))


class Market(NamedTuple):
    """`rows` is float64[T, symbols, 6] (see labkit.trader.features); `drift[t]` is planted in bar t."""

    minutes: NDArray[np.int64]
    rows: NDArray[np.float64]
    drift: NDArray[np.float64]


class Result(NamedTuple):
    equity: NDArray[np.float64]
    """At the close of every minute, marked to market, starting from 1."""
    rounds: NDArray[np.float64]
    """Closed trades, one a row: entry minute, exit minute (both from the market's first), side, notional, result in
    barrier units."""
    skill: NDArray[np.float64]
    """Cumulative weighted log-loss saved against a coin (nats), after every minute."""
    weight: float
    state: State

    @property
    def trades(self) -> int:
        return len(self.rounds)

    @property
    def sharpe(self) -> float:
        """Annualised Sharpe ratio of daily equity returns."""
        daily = np.concatenate(([1.0], self.equity[1439::1440]))
        returns = daily[1:] / daily[:-1] - 1.0
        return float(returns.mean() / returns.std() * np.sqrt(365)) if returns.std() > 0 else 0.0

    @property
    def millinats(self) -> float:
        return 1000.0 * float(self.skill[-1]) / self.weight


def make_market(
    kind: int, seed: int, *, days: int = 365, symbols: int = 5, b: float = 0.02, half_life: float = 120.0
) -> Market:
    """A market of `labkit.research.planted_markets`, as plain arrays."""
    planted = make_planted_market(KINDS[kind], seed, days=days, symbols=symbols, b=b, half_life=half_life)
    assert planted.drift is not None
    return Market(planted.minutes, planted.rows, planted.drift)


def trade(
    market: Market, config: TraderConfig, *, cost: float = 0.0012, oracle: float = 0.0, trade_from: int = 0
) -> Result:
    """Live through `market` and trade it at `cost` per round trip (a fraction of notional).

    With `oracle` = a > 0 decisions use p = 1/(1 + exp(-a·drift of the next bar)), taken at full value. Entries begin
    at minute `trade_from`, and after the warm-up.
    """
    symbols = market.rows.shape[1]
    settings = settings_of(config, symbols)
    state = new_state(settings, symbols)
    count = market.minutes.size
    equity, skill = np.empty(count), np.empty(count)
    rounds = np.empty((count // config.decision_every_minutes * symbols, 5))
    start = max(trade_from, config.warm_up_minutes)
    trades = _trade(
        settings, state, market.minutes, market.rows, market.drift, cost, oracle, start, equity, rounds, skill,
        nobody_else(symbols)[0], *scratch(),
    )  # fmt: skip
    weight = float(state.common["weight"][0])
    return Result(equity, rounds[:trades], skill, weight, state)


@compiled
def _trade(
    settings: Any, state: Any, minutes: Any, rows: Any, drift: Any, cost: Any, oracle: Any, start: Any,
    equity: Any, rounds: Any, skill: Any, foreign: Any, factor: Any, step: Any,
) -> int:  # fmt: skip
    count, symbols = drift.shape
    side, pending = np.zeros(symbols, np.int64), np.zeros(symbols, np.int64)
    stake, entry, barrier = np.zeros(symbols), np.zeros(symbols), np.zeros(symbols)
    entered, due = np.zeros(symbols, np.int64), np.zeros(symbols, np.int64)
    wish, leaving = np.zeros(symbols), np.zeros(symbols, np.int64)
    cash, peak, trades = 1.0, 1.0, 0
    for t in range(count):
        open_profit = 0.0
        for s in range(symbols):
            row = rows[t, s]
            if pending[s] != 0:
                side[s], entry[s], stake[s] = pending[s], row[OPEN], wish[s]
                entered[s], due[s] = t, t + settings.horizon - 1
                pending[s] = 0
                cash -= cost * stake[s]
            if side[s] != 0:
                stop, target = entry[s] * (1.0 - side[s] * barrier[s]), entry[s] * (1.0 + side[s] * barrier[s])
                adverse, favourable = (row[LOW], row[HIGH]) if side[s] > 0 else (row[HIGH], row[LOW])
                price = 0.0
                if leaving[s] == 1 or side[s] * (row[OPEN] - stop) <= 0.0 or side[s] * (row[OPEN] - target) >= 0.0:
                    price = row[OPEN]
                elif side[s] * (adverse - stop) <= 0.0:
                    price = stop
                elif side[s] * (favourable - target) >= 0.0:
                    price = target
                elif t >= due[s]:
                    price = row[CLOSE]
                if price > 0.0:
                    gross = side[s] * (price / entry[s] - 1.0)
                    cash += stake[s] * gross
                    rounds[trades, 0], rounds[trades, 1], rounds[trades, 2] = entered[s], t, side[s]
                    rounds[trades, 3], rounds[trades, 4] = stake[s], gross / barrier[s]
                    trades += 1
                    side[s] = 0
                else:
                    open_profit += stake[s] * side[s] * (row[CLOSE] / entry[s] - 1.0)
            leaving[s] = 0
        worth = cash + open_profit
        equity[t] = worth
        peak = max(peak, worth)
        live_minute(settings, state, minutes[t], rows[t], foreign, factor, step)
        common = state.common[0]
        skill[t] = common.skill
        if t < start or t + 1 >= count:
            continue
        for s in range(symbols):
            symbol = state.symbols[s]
            if symbol.asked_minute != minutes[t] or not is_due(settings, minutes[t], s):
                continue
            p = symbol.p
            if oracle > 0.0:
                p = 1.0 / (1.0 + np.exp(-oracle * drift[t + 1, s]))
            if side[s] != 0:
                leaving[s] = 1 if prefers_other_side(p, side[s]) else 0
                continue
            verdict = judge(settings, common, p, symbol.barrier, cost, 0.0, 1.0 - worth / peak)
            way, leverage = verdict.side, verdict.leverage
            if oracle > 0.0:
                # The oracle needs neither calibration nor a ramp.
                way = 1 if p >= 0.5 else -1
                value = abs(2.0 * p - 1.0) * symbol.barrier - cost
                leverage = 0.0
                if value > settings.cost_margin * cost:
                    spread = symbol.barrier * symbol.barrier * 0.7
                    leverage = min(settings.max_leverage, settings.kelly_fraction * value / spread)
            elif verdict.expected_value <= verdict.threshold:
                leverage = 0.0
            if leverage > 0.0:
                pending[s], wish[s], barrier[s] = way, leverage * worth, symbol.barrier
    return trades


def oracle_skill(market: Market, config: TraderConfig, a: float) -> float:
    """Weighted log-loss per label (millinats) the oracle saves on the very labels a trader with `config` learns."""
    symbols = market.rows.shape[1]
    settings = settings_of(config, symbols)
    state = new_state(settings, symbols)
    saved = _oracle_skill(
        settings, state, market.minutes, market.rows, market.drift, a, nobody_else(symbols)[0], *scratch()
    )
    return 1000.0 * saved / float(state.common["weight"][0])


@compiled
def _oracle_skill(
    settings: Any, state: Any, minutes: Any, rows: Any, drift: Any, a: Any, foreign: Any, factor: Any, step: Any
) -> float:
    # The trader's own step runs with the learner's forecast replaced when the question is asked: what it then scores
    # is the oracle, on exactly its labels and weights.
    for t in range(minutes.size - 1):
        live_minute(settings, state, minutes[t], rows[t], foreign, factor, step)
        for s in range(drift.shape[1]):
            symbol = state.symbols[s]
            if symbol.pending == 1 and symbol.asked_minute == minutes[t]:
                state.pairs[s][symbol.pairs - 1].p = 1.0 / (1.0 + np.exp(-a * drift[t + 1, s]))
    return float(state.common[0].skill)
