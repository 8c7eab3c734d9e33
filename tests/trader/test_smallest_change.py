"""The smallest change is put to the test: applied in replay, it flips the decision."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from facts import mark_of, quote_of
from test_self_learning_trader import CONFIG, DAY, SYMBOLS, bars_at

from labkit.config import Config, TraderConfig
from labkit.domain.clock import MINUTE_MS
from labkit.domain.decisions import Action, Change, Decision
from labkit.domain.market_events import MarkPrice, Quote
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.trader.drift import ENTERED_AT
from labkit.trader.features import CLOSE
from labkit.trader.self_learning_trader import SelfLearningTrader
from labkit.trader.smallest_change import MISSING

START = 14 * DAY


class Moment(msgspec.Struct):
    """One minute's context, and the state before it."""

    config: Config
    state: bytes
    t: int
    spread: float
    funding: float
    drawdown: float
    held: int
    quoted: bool = True
    with_bars: bool = True

    def decide(self, market: Market, changes: dict[str, Change] | None = None, side: int = 0) -> dict[str, Decision]:
        """Replay the minute, with `changes` (of the decision towards `side`) applied to its inputs."""
        changes = changes or {}
        trader = SelfLearningTrader(self.config)
        trader.restore(self.state)
        common, spread, drawdown = trader._state.common, self.spread, self.drawdown
        quoted, with_bars = self.quoted or "quote_fresh" in changes, self.with_bars or "bar_present" in changes
        for name, change in changes.items():
            match name:
                case "probability":
                    trader._foreign[:] = change.needed if side > 0 else 1.0 - change.needed
                case "cost":
                    spread += change.needed - change.now
                case "drawdown":
                    drawdown = change.needed
                case "slope":
                    common["slope_down"], common["slope_up"] = 1e12, 1e12 * change.needed
                case "drift_step":
                    common["drift_step"], common["drift"] = int(change.needed), ENTERED_AT[int(change.needed)]
                case "evidence":
                    # The minute's own labels are taken in before it is asked for.
                    common["evidence"] = change.needed + 1.0
                case "labels":
                    common["weight"] = change.needed
                case "barrier":
                    trader._state.symbols["fast_variance"] *= (change.needed / change.now) ** 2 * 1.02
                case _:
                    assert name in ("quote_fresh", "bar_present"), name
        decisions = trader.step(
            int(market.minutes[self.t]) * MINUTE_MS,
            bars_at(market, self.t) if with_bars else {},
            quotes=self._quotes(market, spread) if quoted else {},
            marks=self._marks(market),
            held=dict.fromkeys(SYMBOLS, self.held) if self.held else {},
            equity_drawdown=drawdown,
        )
        return {decision.symbol: decision for decision in decisions}

    def _quotes(self, market: Market, spread: float) -> dict[str, Quote]:
        mids = {symbol: float(market.rows[self.t, s, CLOSE]) for s, symbol in enumerate(SYMBOLS)}
        return {s: quote_of(s, f"{mid:.12f}", f"{mid * spread:.15f}") for s, mid in mids.items()}

    def _marks(self, market: Market) -> dict[str, MarkPrice]:
        soon = (int(market.minutes[self.t]) + 5) * MINUTE_MS
        return {symbol: mark_of(symbol, 100.0, repr(self.funding), soon) for symbol in SYMBOLS}


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("momentum", 71, days=16, symbols=len(SYMBOLS), b=0.15)


@pytest.fixture(scope="module")
def moments(market: Market) -> list[Moment]:
    """Minutes of a seeded market under all sorts of circumstances."""
    random = np.random.Generator(np.random.PCG64(72))
    trader = SelfLearningTrader(CONFIG)
    trader.live_through_arrays(market.minutes[:START] * MINUTE_MS, market.rows[:START])
    sampled, t = [], START
    for _ in range(160):
        state = trader.state_bytes()
        other = SelfLearningTrader(CONFIG)
        other.restore(state)
        kind = int(random.integers(0, 10))
        if kind == 0:
            other._state.common["slope_up"] = 0.0
        elif kind == 1:
            other._state.common["drift_step"], other._state.common["drift"] = 2, 12.0
        elif kind == 2:
            other._state.common["weight"] = 0.0
        elif kind == 3:
            other._state.common["evidence"] = 0.0
        dear = float(random.choice([0.0005, 0.0005, 0.004]))
        sampled.append(
            Moment(
                config=msgspec.structs.replace(CONFIG, trader=TraderConfig(taker_fee_rate=dear)),
                state=other.state_bytes(),
                t=t,
                spread=float(random.choice([0.0, 0.0002, 0.002])),
                funding=float(random.choice([0.0, 0.0, 0.0003, -0.0003])),
                drawdown=0.25 if kind == 3 else 0.0,
                held=int(random.choice([1, -1])) if kind in (4, 5) else 0,
                quoted=kind != 6,
                with_bars=kind != 7,
            )
        )
        lived = int(random.integers(1, 14))
        trader.live_through_arrays(market.minutes[t : t + lived] * MINUTE_MS, market.rows[t : t + lived])
        t += lived
    return sampled


def flipped(before: Decision, after: Decision) -> bool:
    if before.primary_reason in MISSING:
        return after.primary_reason != before.primary_reason
    return after.action is not before.action


def test_applied_in_replay_the_smallest_change_flips_the_decision(market: Market, moments: list[Moment]) -> None:
    outcomes: list[tuple[bool, Decision]] = []
    for moment in moments:
        for symbol, decision in moment.decide(market).items():
            if decision.action is Action.HOLD and not decision.changes:
                continue  # nothing could have been decided
            changes = {change.name: change for change in decision.changes}
            assert changes, decision.smallest_change
            after = moment.decide(market, changes, decision.side)[symbol]
            outcomes.append((flipped(decision, after), decision))
    share = sum(done for done, _ in outcomes) / len(outcomes)
    reasons = {decision.primary_reason for _, decision in outcomes}
    inputs = {change.name for _, decision in outcomes for change in decision.changes}
    assert len(outcomes) >= 150
    assert share >= 0.99, [d.smallest_change for done, d in outcomes if not done][:5]
    assert {
        "bar_present",
        "quote_fresh",
        "drawdown",
        "drift",
        "calibrated",
        "expected_value",
        "model_flip",
        "holding",
    } <= (reasons)
    assert {"probability", "cost", "slope", "drawdown", "drift_step", "evidence", "barrier"} <= inputs


def test_a_change_half_as_large_does_not_flip_it(market: Market, moments: list[Moment]) -> None:
    stood = []
    for moment in moments:
        for symbol, decision in moment.decide(market).items():
            names = [change.name for change in decision.changes]
            if names not in (["probability"], ["cost"]):
                continue
            (change,) = decision.changes
            half = Change(change.name, change.now, 0.5 * (change.now + change.needed))
            after = moment.decide(market, {change.name: half}, decision.side)[symbol]
            stood.append(not flipped(decision, after))
    assert len(stood) > 50
    assert all(stood)


def test_one_decision_a_symbol_and_cycle_each_with_one_reason_also_when_data_is_missing(
    market: Market, moments: list[Moment]
) -> None:
    for moment in moments:
        for gone in (False, True):
            bare = msgspec.structs.replace(moment, quoted=not gone, with_bars=not gone)
            decisions = bare.decide(market)
            minute = int(market.minutes[moment.t])
            stagger = max(1, CONFIG.trader.decision_every_minutes // len(SYMBOLS))
            due = [
                s for i, s in enumerate(SYMBOLS) if (minute + stagger * i) % CONFIG.trader.decision_every_minutes == 0
            ]
            assert sorted(decisions) == sorted(due)
            assert all(decision.primary_reason for decision in decisions.values())
