"""The simulation decides as the lab does: a lab lived in virtual time, beside a simulation of its market's bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from labkit.config import Config
from labkit.domain import events as ev
from labkit.domain.clock import MINUTE_MS
from labkit.domain.decisions import Action, Decision
from labkit.domain.snapshot import ClosedTrade
from labkit.engine.ledger import Ledger
from labkit.engine.recovery import fold
from labkit.paper.listings import LISTED_RULES
from labkit.research.markets import Market, market_of_arrays, market_of_simulation
from labkit.research.planted_markets import make_planted_market
from labkit.research.simulation import OUTCOMES, Run, costs_of, simulate
from labkit.trader.exits import EXIT_REASONS
from labkit.trader.features import CLOSE, HIGH, LOW, OPEN
from tests.lab.conftest import live, small_config

MINUTES = 100
Lived = tuple[list[ev.MinuteClosed], list[Decision], list[ClosedTrade]]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    folder = tmp_path_factory.mktemp("parity")
    live(folder, MINUTES)
    ledger = Ledger.open(folder, read_only=True)
    entries = list(ledger.entries())
    closed = [entry.event for entry in entries if isinstance(entry.event, ev.MinuteClosed)]
    return closed, [d for e in entries for d in e.decisions], list(fold(Config(), ledger).closed_trades)


def simulated(lived: Lived, config: Config) -> tuple[Market, Run]:
    """The same minutes as bars, at the spreads the lab saw when it decided."""
    minutes, _, _ = lived
    market = market_of_simulation(small_config(), end=minutes[-1].open_time_ms + MINUTE_MS)
    spread = np.zeros(market.rows.shape[:2])
    seen = {event.open_time_ms // MINUTE_MS: event.quotes for event in minutes}
    for t, minute in enumerate(market.minutes.tolist()):
        for symbol, quote in seen.get(minute, {}).items():
            ask, bid = float(quote.ask_price), float(quote.bid_price)
            spread[t, market.symbols.index(symbol)] = (ask - bid) / (0.5 * (ask + bid))
    run = simulate(
        market,
        config,
        costs_of(config, spread),
        trade_from_ms=minutes[0].open_time_ms + MINUTE_MS,
        rules=LISTED_RULES,
        keep_decisions=True,
    )
    return market, run


def paired(lived: Lived, market: Market, run: Run) -> Iterator[tuple[Decision, Any]]:
    by_moment = {(int(d["minute"] + 1) * MINUTE_MS, market.symbols[d["symbol"]]): d for d in run.decisions}
    _, decisions, _ = lived
    assert len(by_moment) == len(decisions) > MINUTES // 2
    for decision in decisions:
        yield decision, by_moment[decision.time_ms, decision.symbol]


def same_entries(lived: Lived, market: Market, run: Run) -> tuple[list[tuple[ClosedTrade, Any]], int]:
    """Trades of both that began in the same minute, and how many the lab closed."""
    found = {
        (int(trade["entry_ms"]) // MINUTE_MS, market.symbols[trade["symbol"]], int(trade["side"])): trade
        for trade in run.trades
    }
    keys = [(t, (t.opened_ms // MINUTE_MS, t.symbol, 1 if t.side == "long" else -1)) for t in lived[2]]
    return [(trade, found[key]) for trade, key in keys if key in found], len(keys)


def test_probability_bracket_and_calibration_of_every_decision_are_the_same_bits(lived: Lived) -> None:
    market, run = simulated(lived, small_config())
    for decision, own in paired(lived, market, run):
        p = own["p"] if own["side"] > 0 else 1.0 - own["p"]
        assert (p, own["barrier"], own["slope"]) == (
            decision.probability,
            decision.stop_distance,
            decision.calibration_slope,
        )


def test_expected_values_differ_by_what_fills_have_taught_and_by_nothing_else(lived: Lived) -> None:
    market, run = simulated(lived, small_config())
    for decision, own in paired(lived, market, run):
        paid = decision.fee_cost + decision.spread_cost + decision.slippage_cost + decision.funding_cost
        gap = own["cost"] - paid
        assert own["expected_value"] + gap == pytest.approx(
            decision.expected_value + decision.execution_gap_cost, abs=1e-15
        )


def test_a_decision_comes_to_the_same_wherever_both_hold_the_same(lived: Lived) -> None:
    market, run = simulated(lived, small_config())
    compared = differing = 0
    for decision, own in paired(lived, market, run):
        outcome = OUTCOMES[own["outcome"]]
        if (decision.action in (Action.HOLD, Action.EXIT)) != (outcome in ("holding", "model_flip")):
            continue  # one of them was stopped out some seconds earlier
        entered = decision.action in (Action.ENTER_LONG, Action.ENTER_SHORT)
        compared += 1
        differing += outcome != ("entered" if entered else decision.primary_reason)
    assert compared > 0.8 * len(lived[1])
    assert differing <= 0.01 * compared


@pytest.mark.parametrize("slippage", [0.0, 0.0002, 0.001])
@pytest.mark.parametrize("foreseen", [0.0, 0.0002])
def test_what_the_broker_slips_is_expected_once_whether_foreseen_or_learned(slippage: float, foreseen: float) -> None:
    planted = make_planted_market("momentum", 7, symbols=1, days=20)
    rows = planted.rows.copy()
    # Every bar opens where the last one closed: fills differ from the prices decided at by slippage alone.
    rows[1:, :, OPEN] = rows[:-1, :, CLOSE]
    rows[:, :, HIGH], rows[:, :, LOW] = rows[:, :, :4].max(axis=2), rows[:, :, :4].min(axis=2)
    market = market_of_arrays(planted.symbols, planted.minutes, rows)
    config = small_config(**{"trader.slippage_rate": foreseen, "trader.trailing_start_fraction": 1.0})
    costs = costs_of(config)._replace(slippage=slippage)
    oracle = np.where(np.arange(rows.shape[0])[:, None] // 240 % 2, 0.95, 0.05)
    run = simulate(market, config, costs, foreign=oracle, trust=True, keep_decisions=True)
    learned = int(np.searchsorted(run.decisions["minute"], run.trades["exit_ms"][100] // MINUTE_MS + 1))
    expected = 2 * config.trader.taker_fee_rate + 2 * max(slippage, foreseen)
    assert run.decisions["cost"][learned:] == pytest.approx(expected, rel=0.01)


def test_most_trades_are_the_same_trades_with_the_same_end(lived: Lived) -> None:
    market, run = simulated(lived, small_config())
    both, count = same_entries(lived, market, run)
    assert count >= 15
    assert len(both) >= 0.8 * count
    same_end = [(a, b) for a, b in both if a.exit_reason == EXIT_REASONS[b["reason"]]]
    assert len(same_end) >= 0.9 * len(both)
    for ours, theirs in same_end:
        # Two seconds of market lie between a simulated and a lived fill.
        risk = float(ours.quantity * ours.entry_price) * theirs["distance"]
        assert float(theirs["net_pnl"]) == pytest.approx(float(ours.net_pnl), abs=0.25 * risk)


def test_another_horizon_is_noticed(lived: Lived) -> None:
    market, run = simulated(lived, small_config(**{"trader.horizon_minutes": 14}))
    pairs = list(paired(lived, market, run))
    assert sum(d.stop_distance != own["barrier"] for d, own in pairs) > 0.9 * len(pairs)
    both, count = same_entries(lived, market, run)
    assert len(both) < 0.8 * count
