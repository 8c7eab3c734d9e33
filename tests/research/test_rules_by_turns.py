"""A rule is traded by skipping bars on which nothing happens: it comes to what living through each of them would."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from labkit.config import Config, change_config
from labkit.research.markets import Market, market_of_arrays
from labkit.research.planted_markets import make_planted_market
from labkit.research.simulation import Costs, Run, follow

CONFIG = change_config(Config(), {"trader.horizon_minutes": 240, "risk.max_order_notional": "1000"})
COSTS = Costs(taker_fee=0.0005, slippage=0.0001, spread=0.0002)
HOUR_MS = 3_600_000


def holed(seed: int) -> Market:
    """Five days of two symbols with missing bars, missing minutes and funding."""
    planted = make_planted_market("momentum", seed, days=5, symbols=2)
    random = np.random.default_rng(seed)
    rows = planted.rows.copy()
    rows[random.random(rows.shape[:2]) < 0.03] = np.nan
    kept = random.random(rows.shape[0]) > 0.02
    times = np.arange(planted.start_ms, planted.end_ms, 8 * HOUR_MS)
    funding = {symbol: (times, random.normal(0.0, 1e-3, times.size)) for symbol in planted.symbols}
    return market_of_arrays(planted.symbols, planted.minutes[kept], rows[kept], funding=funding)


def random_orders(market: Market, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    shape = market.rows.shape[:2]
    return np.where(random.random(shape) < 0.01, random.choice([-1.0, 1.0], shape), 0.0), np.full(shape, 0.004)


def traded(market: Market, seed: int, *, symbol: int | None = None) -> Run:
    orders, distances = random_orders(market, seed)
    if symbol is not None:
        orders[:, 1 - symbol] = 0.0
    return follow(market, orders, distances, CONFIG, COSTS)


@pytest.mark.parametrize("seed", range(4))
def test_best_prices_passed_over_and_lived_through_arm_the_same_stops(seed: int) -> None:
    market = holed(seed)
    # Something finer, long before: each new best price is then lived through.
    before = {market.symbols[0]: (np.array([0]), np.ones((1, 4)))}
    columns = (market.symbols, market.minutes, market.rows)
    funding = {
        name: (market.funding_minutes[s, :-1] * 60_000, market.funding_rates[s, :-1])
        for s, name in enumerate(market.symbols)
    }
    guided = market_of_arrays(*columns, funding=funding, finer=before)
    one, other = traded(market, seed), traded(guided, seed)
    assert len(one.trades) > 60
    assert (one.trades["reason"] == one.trades["reason"][0]).mean() < 0.9
    assert one.trades.tobytes() == other.trades.tobytes()
    assert one.days.tobytes() == other.days.tobytes()


@pytest.mark.parametrize("seed", range(2))
def test_two_symbols_together_earn_every_day_what_they_earn_alone(seed: int) -> None:
    market = holed(10 + seed)
    both, *alone = (traded(market, seed), traded(market, seed, symbol=0), traded(market, seed, symbol=1))
    earned = sum(run.days["equity"] - 10_000 for run in alone)
    assert both.days["equity"] - 10_000 == pytest.approx(earned, abs=1e-8)
    assert np.abs(earned).min() > 0.01


def test_equity_at_midnight_is_cash_and_what_is_held_at_the_last_close_before() -> None:
    planted = make_planted_market("null", 3, days=2, symbols=1)
    planted.rows[1439] = np.nan
    orders = np.zeros(planted.rows.shape[:2])
    orders[1400, 0] = 0.5
    config = change_config(CONFIG, {"trader.trailing_start_fraction": 1.0})
    run = follow(planted, orders, np.full(orders.shape, 0.5), config, Costs(0.0, 0.0, 0.0))
    entered, marked = planted.rows[1401, 0, 0], planted.rows[1438, 0, 3]
    assert run.days["equity"][0] == pytest.approx(10_000 + 1_000 / planted.rows[1400, 0, 3] * (marked - entered))
