"""The trader as a whole: one step for life and history, honest decisions, a memory checked before it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from facts import bar_of, mark_of, quote_of

from labkit.config import Config, TraderConfig
from labkit.domain.clock import MINUTE_MS
from labkit.domain.decisions import Action, Decision
from labkit.domain.market_events import Bar, Quote
from labkit.errors import LocalProtocolError, RemoteProtocolError
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.research.simulation import Costs, simulate
from labkit.trader.features import CLOSE, FEATURE_NAMES
from labkit.trader.self_learning_trader import SelfLearningTrader, compile_ahead

CONFIG = Config()
COSTS = Costs(taker_fee=0.0005, slippage=0.0, spread=1.5e-4)
SYMBOLS = CONFIG.symbols
DAY = 1440


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    compile_ahead()


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("momentum", 1, days=23, symbols=len(SYMBOLS), b=0.12)


@pytest.fixture(scope="module")
def experience(market: Market) -> bytes:
    """What a trader knows after 21 days."""
    trader = SelfLearningTrader(CONFIG)
    assert trader.live_through_arrays(market.minutes[: 21 * DAY] * MINUTE_MS, market.rows[: 21 * DAY]) == 21 * DAY
    return trader.state_bytes()


def experienced(experience: bytes, config: Config = CONFIG) -> SelfLearningTrader:
    trader = SelfLearningTrader(config)
    trader.restore(experience)
    return trader


def bars_at(market: Market, t: int) -> dict[str, Bar]:
    return {symbol: bar_of(symbol, int(market.minutes[t]), market.rows[t, s]) for s, symbol in enumerate(SYMBOLS)}


def quotes_at(market: Market, t: int) -> dict[str, Quote]:
    return {symbol: quote_of(symbol, market.rows[t, s, CLOSE], 0.01) for s, symbol in enumerate(SYMBOLS)}


def live(trader: SelfLearningTrader, market: Market, start: int, stop: int, **held: int) -> list[Decision]:
    decisions: list[Decision] = []
    for t in range(start, stop):
        decisions += trader.step(
            int(market.minutes[t]) * MINUTE_MS,
            bars_at(market, t),
            quotes=quotes_at(market, t),
            marks={},
            held=held,
            equity_drawdown=0.0,
        )
    return decisions


# -- the same step ----------------------------------------------------------------------------------------------------


def test_minutes_lived_one_by_one_leave_the_same_bits_as_minutes_lived_at_once(market: Market) -> None:
    at_once, one_by_one = SelfLearningTrader(CONFIG), SelfLearningTrader(CONFIG)
    times = market.minutes[:600] * MINUTE_MS
    at_once.live_through_arrays(times, market.rows[:600])
    one_by_one.live_through_arrays(times[:200], market.rows[:200])
    live(one_by_one, market, 200, 600)
    assert at_once.learned_labels > 100
    assert one_by_one.state_hash() == at_once.state_hash()


def test_a_trader_restored_in_the_middle_ends_with_the_same_bits(market: Market) -> None:
    whole = SelfLearningTrader(CONFIG)
    whole.live_through_arrays(market.minutes[: 3 * DAY] * MINUTE_MS, market.rows[: 3 * DAY])
    trader = SelfLearningTrader(CONFIG)
    for start in range(0, 3 * DAY, 997):
        part = slice(start, min(start + 997, 3 * DAY))
        trader.live_through_arrays(market.minutes[part] * MINUTE_MS, market.rows[part])
        trader = experienced(trader.state_bytes())
    assert trader.state_hash() == whole.state_hash()


def test_bars_and_arrays_are_the_same_history(market: Market) -> None:
    from_arrays, from_bars = SelfLearningTrader(CONFIG), SelfLearningTrader(CONFIG)
    from_arrays.live_through_arrays(market.minutes[:300] * MINUTE_MS, market.rows[:300])
    per_minute = [bars_at(market, t) for t in range(300)]
    assert from_bars.live_through({symbol: [bars[symbol] for bars in per_minute] for symbol in SYMBOLS}) == 300
    assert from_bars.state_hash() == from_arrays.state_hash()


def test_no_decision_depends_on_a_bar_that_had_not_closed(market: Market, experience: bytes) -> None:
    t = 21 * DAY
    other_future = replace(market, rows=market.rows.copy())
    other_future.rows[t + 30 :] *= 1.5
    first = live(experienced(experience), market, t, t + 60)
    second = live(experienced(experience), other_future, t, t + 60)
    moment = int(market.minutes[t + 30]) * MINUTE_MS
    assert [d for d in first if d.time_ms <= moment] == [d for d in second if d.time_ms <= moment]
    assert first != second


def test_what_is_traded_does_not_change_what_is_learned(market: Market, experience: bytes) -> None:
    flat, holding = experienced(experience), experienced(experience)
    live(flat, market, 21 * DAY, 21 * DAY + 60)
    live(holding, market, 21 * DAY, 21 * DAY + 60, **dict.fromkeys(SYMBOLS, 1))
    assert flat.state_hash() == holding.state_hash()


# -- history with holes -----------------------------------------------------------------------------------------------


def test_history_that_overlaps_is_lived_once(market: Market) -> None:
    trader = SelfLearningTrader(CONFIG)
    trader.live_through_arrays(market.minutes[:100] * MINUTE_MS, market.rows[:100])
    assert trader.live_through_arrays(market.minutes[50:150] * MINUTE_MS, market.rows[50:150]) == 50
    assert trader.last_open_time_ms == int(market.minutes[149]) * MINUTE_MS


def test_missing_minutes_are_counted_and_are_no_outburst_of_volatility(market: Market) -> None:
    whole, holed = SelfLearningTrader(CONFIG), SelfLearningTrader(CONFIG)
    end = 2 * DAY
    keep = np.ones(end, bool)
    keep[end - 181 : end - 1] = False
    whole.live_through_arrays(market.minutes[:end] * MINUTE_MS, market.rows[:end])
    # The price comes back from the gap 1.5 % away: not much for three hours, very much for a minute.
    rows = market.rows[:end][keep]
    rows[-1] = rows[-2, :, [CLOSE]].T * 1.015
    holed.live_through_arrays(market.minutes[:end][keep] * MINUTE_MS, rows)
    assert holed.missing_minutes == 180
    own_future = replace(market, rows=market.rows.copy())
    own_future.rows[end:] *= (rows[-1, :, CLOSE] / market.rows[end - 1, :, CLOSE])[:, None]
    before = live(whole, market, end, end + 5)[0].stop_distance
    after = live(holed, own_future, end, end + 5)[0].stop_distance
    assert after == pytest.approx(before, rel=0.1)


def test_a_row_that_is_no_possible_bar_is_skipped(market: Market) -> None:
    rows = market.rows[:300].copy()
    rows[100, 0] = np.nan
    rows[101, 1, CLOSE] *= 2  # closes above its high
    rows[102, 2, 0] = -1.0
    trader = SelfLearningTrader(CONFIG)
    trader.live_through_arrays(market.minutes[:300] * MINUTE_MS, rows)
    assert trader.virtual_closed == trader.learned_labels > 0
    assert all(np.isfinite(list(trader.learning().expert_weights.values())))


def test_a_minute_cannot_be_lived_twice(market: Market) -> None:
    trader = SelfLearningTrader(CONFIG)
    live(trader, market, 0, 1)
    before = trader.state_hash()
    with pytest.raises(LocalProtocolError, match="lived already"):
        live(trader, market, 0, 1)
    assert trader.state_hash() == before


@pytest.mark.parametrize(
    ("times", "shape"),
    [
        pytest.param([2, 1], (2, 6, 6), id="times fall"),
        pytest.param([1, 1], (2, 6, 6), id="a time twice"),
        pytest.param([1, 2], (2, 5, 6), id="a symbol too few"),
        pytest.param([1, 2], (3, 6, 6), id="a row too many"),
    ],
)
def test_history_that_does_not_fit_is_refused(times: list[int], shape: tuple[int, ...]) -> None:
    with pytest.raises(LocalProtocolError):
        SelfLearningTrader(CONFIG).live_through_arrays(np.array(times) * MINUTE_MS, np.ones(shape))


# -- decisions --------------------------------------------------------------------------------------------------------


def test_every_symbol_is_decided_on_once_in_every_cadence(market: Market, experience: bytes) -> None:
    decisions = live(experienced(experience), market, 21 * DAY, 21 * DAY + 10)
    assert sorted(d.symbol for d in decisions) == sorted(SYMBOLS * 2)
    assert len({d.time_ms for d in decisions}) >= 5  # symbols take turns


def test_a_planted_edge_is_traded_often_and_with_profit(market: Market) -> None:
    begin_ms = int(market.minutes[21 * DAY]) * MINUTE_MS
    run = simulate(market, CONFIG, COSTS, trade_from_ms=begin_ms)
    assert len(run.trades) / 48 >= 4  # per market hour
    assert run.final_equity > 1.02 * float(CONFIG.paper.opening_balance)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_market_without_an_edge_is_hardly_traded(seed: int) -> None:
    market = make_planted_market("null", seed, days=23, symbols=len(SYMBOLS))
    assert len(simulate(market, CONFIG, COSTS).trades) <= 5


def test_every_receipt_names_exactly_one_reason_and_it_is_the_first_failed_gate(
    market: Market, experience: bytes
) -> None:
    decisions = live(experienced(experience), market, 21 * DAY, 21 * DAY + 120, BTCUSDT=1)
    actions = {d.action for d in decisions}
    assert Action.REFUSE in actions
    assert actions & {Action.ENTER_LONG, Action.ENTER_SHORT}
    for decision in decisions:
        failed = [gate.name for gate in decision.gates if not gate.passed]
        if decision.action is Action.REFUSE:
            assert decision.primary_reason == failed[0]
        elif decision.symbol == "BTCUSDT":
            assert decision.primary_reason in ("holding", "model_flip")
        else:
            assert failed == []
            assert decision.primary_reason == "expected_value"
        assert decision.smallest_change
        assert (decision.leverage > 0) == (decision.action in (Action.ENTER_LONG, Action.ENTER_SHORT))


def test_a_receipt_adds_up(market: Market, experience: bytes) -> None:
    for decision in live(experienced(experience), market, 21 * DAY, 21 * DAY + 30):
        costs = (
            decision.fee_cost
            + decision.spread_cost
            + decision.slippage_cost
            + decision.funding_cost
            + decision.execution_gap_cost
        )
        assert decision.expected_value == pytest.approx(decision.edge - costs, abs=1e-12)
        assert decision.edge == pytest.approx(
            decision.calibration_slope * (2 * decision.probability - 1) * decision.stop_distance, abs=1e-12
        )
        mixture = sum(decision.expert_weights[name] * p for name, p in decision.expert_probabilities.items())
        assert decision.probability == pytest.approx(mixture, abs=1e-12)
        assert tuple(decision.features) == FEATURE_NAMES == tuple(decision.contributions)
        assert decision.stop_distance == decision.target_distance > 0
        assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"bars": {}}, "bar_present", id="no bar"),
        pytest.param({"quotes": {}}, "quote_fresh", id="no fresh quote"),
        pytest.param({"equity_drawdown": 0.2}, "drawdown", id="drawdown"),
    ],
)
def test_what_is_missing_becomes_the_reason_of_the_refusal(
    market: Market, experience: bytes, change: dict[str, object], reason: str
) -> None:
    trader = experienced(experience)
    for t in range(21 * DAY, 21 * DAY + 5):
        minute = {
            "bars": bars_at(market, t),
            "quotes": quotes_at(market, t),
            "marks": {},
            "held": {},
            "equity_drawdown": 0.0,
        } | change
        for decision in trader.step(int(market.minutes[t]) * MINUTE_MS, **minute):
            assert (decision.action, decision.primary_reason) == (Action.REFUSE, reason)


def test_a_trader_that_has_lived_too_little_refuses_and_says_how_much_is_missing(market: Market) -> None:
    trader = SelfLearningTrader(CONFIG)
    decisions = live(trader, market, 0, 80)
    assert {d.primary_reason for d in decisions} == {"warm"}
    assert not trader.is_warm
    last = decisions[-1]
    assert last.smallest_change == f"{CONFIG.trader.warm_up_minutes - 80} more bars of history."
    assert trader.virtual_positions()  # but it has begun to ask


def test_a_price_that_never_moves_is_refused_for_want_of_volatility() -> None:
    trader = SelfLearningTrader(CONFIG)
    minutes = CONFIG.trader.warm_up_minutes
    trader.live_through_arrays(np.arange(minutes) * MINUTE_MS, np.ones((minutes, len(SYMBOLS), 6)))
    bars = {s: bar_of(s, minutes, np.ones(6)) for s in SYMBOLS}
    (decision, *_) = trader.step(minutes * MINUTE_MS, bars, quotes={}, marks={}, held={}, equity_drawdown=0.0)
    assert decision.primary_reason == "volatility"
    assert trader.learned_labels == 0


def test_a_held_side_the_model_turned_against_is_closed_and_the_other_is_kept(
    market: Market, experience: bytes
) -> None:
    longs = live(experienced(experience), market, 21 * DAY, 21 * DAY + 30, **dict.fromkeys(SYMBOLS, 1))
    shorts = live(experienced(experience), market, 21 * DAY, 21 * DAY + 30, **dict.fromkeys(SYMBOLS, -1))
    assert {d.action for d in longs} <= {Action.EXIT, Action.HOLD}
    for long, short in zip(longs, shorts, strict=True):
        assert {long.action, short.action} == {Action.EXIT, Action.HOLD}
        assert {long.primary_reason, short.primary_reason} == {"model_flip", "holding"}


def test_a_poor_execution_makes_the_next_entry_dearer(market: Market, experience: bytes) -> None:
    trader = experienced(experience)
    for _ in range(50):
        trader.observe_execution("BTCUSDT", -0.0004)
        trader.observe_execution("ETHUSDT", 0.0004)
    decisions = {d.symbol: d for d in live(trader, market, 21 * DAY, 21 * DAY + 5)}
    assert decisions["BTCUSDT"].execution_gap_cost == pytest.approx(0.0004, rel=0.01)
    assert decisions["ETHUSDT"].execution_gap_cost == 0.0  # luck is no discount


@pytest.mark.parametrize(("foreseen", "beyond"), [(0.0, 0.0004), (0.0001, 0.0002), (0.0002, 0.0), (0.0005, 0.0)])
def test_slippage_that_was_foreseen_is_not_charged_again_when_fills_show_it(
    market: Market, experience: bytes, foreseen: float, beyond: float
) -> None:
    trader = experienced(experience, Config(trader=TraderConfig(slippage_rate=foreseen)))
    for _ in range(200):
        trader.observe_execution("BTCUSDT", -0.0004)
    decision = next(d for d in live(trader, market, 21 * DAY, 21 * DAY + 5) if d.symbol == "BTCUSDT")
    assert decision.slippage_cost == 2 * foreseen
    assert decision.execution_gap_cost == pytest.approx(beyond, abs=1e-12)


def test_funding_within_the_horizon_is_a_cost_to_one_side_and_a_gain_to_the_other(
    market: Market, experience: bytes
) -> None:
    t = 21 * DAY
    soon = int(market.minutes[t]) * MINUTE_MS + 10 * MINUTE_MS
    for minutes_ahead, expected in ((0, 0.0002), (500, 0.0)):
        trader = experienced(experience)
        marks = {s: mark_of(s, 100.0, "0.0002", soon + minutes_ahead * MINUTE_MS) for s in SYMBOLS}
        (decision, *_) = trader.step(
            int(market.minutes[t]) * MINUTE_MS,
            bars_at(market, t),
            quotes=quotes_at(market, t),
            marks=marks,
            held={},
            equity_drawdown=0.0,
        )
        assert decision.funding_cost == pytest.approx(decision.side * expected)


# -- what is shown ----------------------------------------------------------------------------------------------------


def test_showing_and_marking_virtual_positions_changes_nothing_that_is_learned(
    market: Market, experience: bytes
) -> None:
    trader = experienced(experience)
    before = trader.state_hash()
    trader.mark_virtual({"BTCUSDT": quote_of("BTCUSDT", 1_000, 1)})
    rows = trader.virtual_positions()
    assert {row.symbol for row in rows} == set(SYMBOLS)
    assert all(row.last_price == 1_000 for row in rows if row.symbol == "BTCUSDT")
    for row in rows:
        assert (row.target_price - row.entry_price) * row.side > 0
        assert (row.entry_price - row.stop_price) * row.side > 0
        assert row.due_ms - row.opened_ms == CONFIG.trader.horizon_minutes * MINUTE_MS
        assert row.result == pytest.approx(row.side * (row.last_price / row.entry_price - 1))
    assert trader.state_hash() == before


CHANGES_OF_WHAT_IS_SHOWN: dict[str, Callable[[SelfLearningTrader, Market, bytes], object]] = {
    "a mark": lambda trader, market, _: trader.mark_virtual({"BTCUSDT": quote_of("BTCUSDT", 1_000, 1)}),
    "a minute": lambda trader, market, _: live(trader, market, 21 * DAY, 21 * DAY + 1),
    "history": lambda trader, market, _: trader.live_through_arrays(
        market.minutes[21 * DAY : 22 * DAY] * MINUTE_MS, market.rows[21 * DAY : 22 * DAY]
    ),
    "another memory": lambda trader, _, memory: trader.restore(memory),
}


@pytest.mark.parametrize("change", CHANGES_OF_WHAT_IS_SHOWN.values(), ids=CHANGES_OF_WHAT_IS_SHOWN)
def test_virtual_positions_that_were_looked_at_are_shown_as_they_are_after_a_change(
    market: Market, experience: bytes, change: Callable[[SelfLearningTrader, Market, bytes], object]
) -> None:
    later = experienced(experience)
    live(later, market, 21 * DAY, 21 * DAY + 60)
    looked_at, never_looked_at = experienced(experience), experienced(experience)
    before = looked_at.virtual_positions()
    for trader in (looked_at, never_looked_at):
        change(trader, market, later.state_bytes())
    assert looked_at.virtual_positions() == never_looked_at.virtual_positions() != before


def test_a_learner_that_found_the_edge_says_so(experience: bytes) -> None:
    row = experienced(experience).learning()
    assert row.labels > 30_000
    assert row.skill_millinats > 20
    assert 0.8 < row.calibration_slope_lower <= 1.0
    assert row.calibration_slope < 1.3
    assert sum(row.expert_weights.values()) == pytest.approx(1.0)
    assert row.expert_weights["null"] < 0.05


# -- memory -----------------------------------------------------------------------------------------------------------


def flip_a_bit(stored: bytes) -> bytes:
    return stored[:-5] + bytes([stored[-5] ^ 1]) + stored[-4:]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip_a_bit, id="one bit"),
        pytest.param(lambda stored: stored[:-1], id="shortened"),
        pytest.param(lambda stored: stored + b"\0", id="lengthened"),
        pytest.param(lambda stored: b"", id="empty"),
        pytest.param(lambda stored: b"\x80\x04" + stored, id="foreign"),
        pytest.param(lambda stored: stored.replace(b'"version":', b'"version":9', 1), id="another version"),
    ],
)
def test_a_memory_that_does_not_fit_is_refused_and_nothing_changes(experience: bytes, damage) -> None:  # type: ignore[no-untyped-def]
    trader = SelfLearningTrader(CONFIG)
    before = trader.state_hash()
    with pytest.raises(RemoteProtocolError):
        trader.restore(damage(experience))
    assert trader.state_hash() == before


@pytest.mark.parametrize(
    ("config", "named"),
    [
        pytest.param(msgspec.structs.replace(CONFIG, symbols=SYMBOLS[::-1]), "symbols", id="other symbols"),
        pytest.param(
            msgspec.structs.replace(CONFIG, trader=TraderConfig(barrier_sigmas=1.1)), "learning", id="other labels"
        ),
    ],
)
def test_a_memory_of_another_question_is_refused_by_name(experience: bytes, config: Config, named: str) -> None:
    with pytest.raises(RemoteProtocolError, match=named):
        SelfLearningTrader(config).restore(experience)


def test_a_memory_outlives_a_change_of_costs_and_caps(experience: bytes) -> None:
    dearer = TraderConfig(taker_fee_rate=0.001, max_leverage_per_symbol=0.1, cost_margin=1.0)
    trader = experienced(experience, msgspec.structs.replace(CONFIG, trader=dearer))
    assert trader.learned_labels > 0
