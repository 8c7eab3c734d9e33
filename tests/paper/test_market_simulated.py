"""The simulated market: reproducible, consistent with itself to the last digit, and roughly as it claims to be."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import defaultdict
from decimal import Decimal

import numpy as np
import pytest

from labkit.domain.clock import DAY_MS, HOUR_MS, MINUTE_MS
from labkit.domain.market_events import Bar, MarkPrice, Quote, Trade
from labkit.domain.symbol_rules import is_multiple
from labkit.errors import UnknownSymbol
from labkit.paper import market_simulated
from labkit.paper.listings import MADE_UP_SYMBOLS, SIMULATED_STARTS, simulated_listing
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.market_source import SourceEvent

START_MS = 1_767_571_200_000
"""2026-01-05T00:00:00Z"""
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def market(symbols: tuple[str, ...] = SYMBOLS, **changes: float) -> SimulatedMarket:
    settings: dict[str, float] = {
        "seed": 1,
        "start_ms": START_MS,
        "history_days": 2,
        "planted_edge": 0.12,
        "quotes_per_second": 1.0,
    }
    return SimulatedMarket(symbols, **(settings | changes))  # type: ignore[arg-type]


def lived(source: SimulatedMarket, from_ms: int, minutes: float) -> list[SourceEvent]:
    end_ms = from_ms + int(minutes * MINUTE_MS)
    return list(itertools.takewhile(lambda event: event.time_ms < end_ms, source.events(from_ms)))


def bars_from(events: list[SourceEvent], symbol: str) -> list[Bar]:
    """Candles made of nothing but the trades."""
    minutes: dict[int, list[Trade]] = defaultdict(list)
    for event in events:
        if isinstance(event.fact, Trade) and event.fact.symbol == symbol:
            minutes[event.time_ms - event.time_ms % MINUTE_MS].append(event.fact)
    return [
        Bar(
            symbol=symbol,
            interval="1m",
            open_time_ms=open_time_ms,
            close_time_ms=open_time_ms + MINUTE_MS - 1,
            open=trades[0].price,
            high=max(trade.price for trade in trades),
            low=min(trade.price for trade in trades),
            close=trades[-1].price,
            volume=sum((t.quantity for t in trades), Decimal(0)),
            quote_volume=sum((t.quantity * t.price for t in trades), Decimal(0)),
            trade_count=len(trades),
            taker_buy_volume=sum((t.quantity for t in trades if not t.buyer_is_maker), Decimal(0)),
            taker_buy_quote_volume=sum((t.quantity * t.price for t in trades if not t.buyer_is_maker), Decimal(0)),
        )
        for open_time_ms, trades in minutes.items()
    ]


def test_the_same_seed_gives_the_same_events() -> None:
    assert lived(market(), START_MS, 3) == lived(market(), START_MS, 3)


def test_another_seed_gives_another_market() -> None:
    assert lived(market(seed=2), START_MS, 1) != lived(market(), START_MS, 1)


def test_a_restart_from_the_middle_continues_identically() -> None:
    middle_ms = START_MS + 7 * MINUTE_MS + 12_345
    whole = lived(market(), START_MS, 10)
    rest = lived(market(), middle_ms, 10 - 7 - 12_345 / MINUTE_MS)
    assert rest == [event for event in whole if event.time_ms >= middle_ms]


def test_the_market_goes_on_over_midnight() -> None:
    midnight_ms = START_MS + DAY_MS
    source = market()
    across = lived(source, midnight_ms - MINUTE_MS, 2)
    assert across[-1].time_ms > midnight_ms
    assert [e for e in across if e.time_ms >= midnight_ms] == lived(market(), midnight_ms, 1)


def test_asking_out_of_order_changes_nothing() -> None:
    source = market()
    later = source.history("ETHUSDT", START_MS + DAY_MS, START_MS + DAY_MS + HOUR_MS)
    lived(source, START_MS + 5 * MINUTE_MS, 1)
    earlier = source.history("ETHUSDT", START_MS - HOUR_MS, START_MS)
    fresh = market()
    assert fresh.history("ETHUSDT", START_MS - HOUR_MS, START_MS) == earlier
    assert fresh.history("ETHUSDT", START_MS + DAY_MS, START_MS + DAY_MS + HOUR_MS) == later


def test_a_symbol_does_not_depend_on_its_company() -> None:
    alone = market(("SOLUSDT",)).history("SOLUSDT", START_MS - HOUR_MS, START_MS)
    assert alone == market().history("SOLUSDT", START_MS - HOUR_MS, START_MS)


@pytest.mark.parametrize("quotes_per_second", [0.3, 1.0, 7.0, 50.0])
@pytest.mark.parametrize("start_ms", [START_MS, START_MS + DAY_MS - 2 * MINUTE_MS], ids=["start", "over midnight"])
def test_bars_equal_the_ticks_to_the_last_digit(quotes_per_second: float, start_ms: int) -> None:
    source = market(quotes_per_second=quotes_per_second)
    events = lived(source, start_ms, 4)
    for symbol in SYMBOLS:
        assert bars_from(events, symbol) == source.history(symbol, start_ms, start_ms + 4 * MINUTE_MS)


@pytest.mark.parametrize("quotes_per_second", [0.3, 1.0, 7.0, 50.0])
def test_events_come_in_time_order(quotes_per_second: float) -> None:
    times = [event.time_ms for event in lived(market(quotes_per_second=quotes_per_second), START_MS, 3)]
    assert times == sorted(times)


def test_simultaneous_events_come_in_the_order_of_the_symbols() -> None:
    events = lived(market(), START_MS, 1)
    marks = [e.fact.symbol for e in events if isinstance(e.fact, MarkPrice) and e.time_ms == START_MS]
    assert marks == list(SYMBOLS)


def test_an_event_tells_the_time_at_which_it_happens() -> None:
    for event in lived(market(), START_MS, 1):
        assert event.fact.event_time_ms == event.time_ms
        assert event.stream.startswith(f"{event.fact.symbol.lower()}@")


@pytest.mark.parametrize("quotes_per_second", [0.5, 1.0, 5.0, 50.0])
def test_every_symbol_is_quoted_as_often_as_asked(quotes_per_second: float) -> None:
    events = lived(market(quotes_per_second=quotes_per_second), START_MS, 2)
    for symbol in SYMBOLS:
        quotes = [e for e in events if isinstance(e.fact, Quote) and e.fact.symbol == symbol]
        assert len(quotes) == 120 * quotes_per_second
        assert len({quote.fact.update_id for quote in quotes if isinstance(quote.fact, Quote)}) == len(quotes)


@pytest.mark.parametrize("symbol", [*SIMULATED_STARTS, "SIM001USDT", "SIM400USDT"])
def test_prices_and_quantities_are_on_their_grids(symbol: str) -> None:
    rules = simulated_listing(symbol)[0]
    for event in lived(market((symbol,)), START_MS, 2):
        match event.fact:
            case Quote() as quote:
                prices: tuple[Decimal, ...] = (quote.bid_price, quote.ask_price)
                quantities: tuple[Decimal, ...] = (quote.bid_quantity, quote.ask_quantity)
                assert quote.bid_price < quote.ask_price
            case Trade() as trade:
                prices, quantities = (trade.price,), (trade.quantity,)
            case _:
                continue
        assert all(is_multiple(price, rules.tick_size) and rules.min_price <= price for price in prices)
        assert all(is_multiple(q, rules.step_size) and q >= rules.min_quantity for q in quantities)


@pytest.mark.parametrize("quotes_per_second", [1.0, 50.0])
def test_trades_print_at_the_bid_or_ask_last_seen(quotes_per_second: float) -> None:
    quotes: dict[str, Quote] = {}
    for event in lived(market(quotes_per_second=quotes_per_second), START_MS, 3):
        if isinstance(event.fact, Quote):
            quotes[event.fact.symbol] = event.fact
        elif isinstance(event.fact, Trade):
            quote = quotes[event.fact.symbol]
            assert event.fact.price == (quote.bid_price if event.fact.buyer_is_maker else quote.ask_price)


def test_trade_ids_are_consecutive_over_minutes() -> None:
    events = lived(market(), START_MS, 3)
    ids = [e.fact.trade_id for e in events if isinstance(e.fact, Trade) and e.fact.symbol == "BTCUSDT"]
    assert ids == list(range(ids[0], ids[0] + 180))


def test_the_lived_market_opens_at_the_listed_price() -> None:
    first = next(e.fact for e in market().events(START_MS) if isinstance(e.fact, Quote))
    assert float(first.mid_price) == pytest.approx(SIMULATED_STARTS["BTCUSDT"].price, rel=0.002)


def test_history_has_no_hole_and_ends_where_it_is_asked_to() -> None:
    source = market()
    bars = source.history("BTCUSDT", 0, START_MS + MINUTE_MS)
    times = [bar.open_time_ms for bar in bars]
    assert times == list(range(START_MS - 2 * DAY_MS, START_MS + MINUTE_MS, MINUTE_MS))


def test_arrays_and_bars_tell_the_same() -> None:
    source = market()
    bars = source.history("ETHUSDT", START_MS - DAY_MS - HOUR_MS, START_MS - HOUR_MS)
    arrays = source.history_arrays("ETHUSDT", START_MS - DAY_MS - HOUR_MS, START_MS - HOUR_MS)
    assert arrays.open_time_ms.tolist() == [bar.open_time_ms for bar in bars]
    for name in ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume"):
        np.testing.assert_allclose(getattr(arrays, name), [float(getattr(bar, name)) for bar in bars], rtol=1e-12)


def test_marks_come_every_second_and_stay_near_the_book() -> None:
    events = lived(market(), START_MS, 2)
    marks = [e for e in events if isinstance(e.fact, MarkPrice) and e.fact.symbol == "BTCUSDT"]
    assert [mark.time_ms - START_MS for mark in marks] == list(range(0, 120_000, 1_000))
    mids = {
        e.time_ms // 1000: e.fact.mid_price for e in events if isinstance(e.fact, Quote) and e.fact.symbol == "BTCUSDT"
    }
    for event in marks[1:]:
        assert isinstance(event.fact, MarkPrice)
        assert float(event.fact.mark_price / mids[event.time_ms // 1000 - 1]) == pytest.approx(1, abs=5e-4)
        assert float(event.fact.mark_price / event.fact.index_price) == pytest.approx(1, abs=4e-3)


def test_funding_is_announced_for_the_next_eighth_hour() -> None:
    source = market()
    for from_ms in (START_MS, START_MS + 8 * HOUR_MS - MINUTE_MS, START_MS + 8 * HOUR_MS):
        marks = [e.fact for e in lived(source, from_ms, 1) if isinstance(e.fact, MarkPrice)]
        assert {mark.next_funding_time_ms for mark in marks} == {(from_ms // (8 * HOUR_MS) + 1) * 8 * HOUR_MS}


def test_funding_leaves_its_resting_rate_at_times_but_not_wildly() -> None:
    source = market(SYMBOLS, history_days=1)
    rates = [
        next(e.fact.funding_rate for e in source.events(time_ms - 2_000) if isinstance(e.fact, MarkPrice))
        for time_ms in range(START_MS + 8 * HOUR_MS, START_MS + 8 * DAY_MS, 8 * HOUR_MS)
    ]
    assert rates.count(Decimal("0.00010000")) > len(rates) / 3
    assert len(set(rates)) > 2
    assert all(abs(rate) < Decimal("0.003") for rate in rates)


def returns(source: SimulatedMarket, days: int) -> np.ndarray:
    """One-minute log returns, one row per symbol."""
    closes = [source.history_arrays(s, START_MS - days * DAY_MS, START_MS).close for s in source.symbols]
    moves: np.ndarray = np.diff(np.log(closes), axis=1)
    return moves


@pytest.fixture(scope="module")
def calm_returns() -> np.ndarray:
    return returns(market(history_days=12, planted_edge=0.0), 12)


def test_symbols_move_together_by_about_a_half(calm_returns: np.ndarray) -> None:
    correlation = np.corrcoef(calm_returns)[np.triu_indices(len(SYMBOLS), 1)]
    assert np.all((correlation > 0.4) & (correlation < 0.58))


def test_a_minute_moves_by_about_ten_basis_points(calm_returns: np.ndarray) -> None:
    assert np.all((calm_returns.std(axis=1) > 0.0008) & (calm_returns.std(axis=1) < 0.0016))


def test_volatility_comes_in_clusters(calm_returns: np.ndarray) -> None:
    for moves in np.abs(calm_returns):
        hours = moves[: len(moves) // 60 * 60].reshape(-1, 60).mean(axis=1)
        assert np.corrcoef(hours[:-1], hours[1:])[0, 1] > 0.4


def test_jumps_are_rare_but_happen(calm_returns: np.ndarray) -> None:
    large = np.abs(calm_returns) > 0.006
    assert 0 < large.sum() < 40


def oracle_gain(moves: np.ndarray) -> float:
    """t-value of the next minute's return in the direction of a momentum that anyone can compute from closes."""
    gain = 1 - 2 ** (-1 / 120)
    total = []
    for row in moves:
        shocks = np.clip(row / row.std(), -6, 6)
        momentum, signs = 0.0, []
        for shock in shocks.tolist():
            signs.append(np.sign(momentum))
            momentum += gain * (shock - momentum)
        total.append(shocks * np.array(signs))
    gains = np.mean(total, axis=0)[720:]
    return float(gains.mean() / gains.std() * np.sqrt(len(gains)))


def test_the_planted_edge_pays_who_follows_momentum() -> None:
    assert oracle_gain(returns(market(history_days=12, planted_edge=0.12), 12)) > 6


def test_a_negative_edge_pays_who_fades_momentum() -> None:
    assert oracle_gain(returns(market(history_days=12, planted_edge=-0.12), 12)) < -3


def test_without_a_planted_edge_momentum_pays_nothing(calm_returns: np.ndarray) -> None:
    assert abs(oracle_gain(calm_returns)) < 3


@pytest.mark.parametrize("edge", [0.12, -0.12])
def test_the_planted_edge_does_not_carry_prices_away(edge: float) -> None:
    source = market(history_days=60, planted_edge=edge)
    for symbol in SYMBOLS:
        days = range(START_MS - 60 * DAY_MS, START_MS, 10 * DAY_MS)
        opens = [source.history_arrays(symbol, day_ms, day_ms + MINUTE_MS).open[0] for day_ms in days]
        assert max(opens) / min(opens) < 4


def test_the_book_is_wider_and_thinner_when_prices_move_fast() -> None:
    source = market(("BTCUSDT",), history_days=1)
    figures = []
    for hour in range(0, 96, 4):
        moves = np.diff(
            np.log(source.history_arrays("BTCUSDT", START_MS + hour * HOUR_MS, START_MS + (hour + 1) * HOUR_MS).close)
        )
        quotes = [e.fact for e in lived(source, START_MS + hour * HOUR_MS, 5) if isinstance(e.fact, Quote)]
        spread = np.mean([float(quote.spread / quote.mid_price) for quote in quotes])
        depth = np.mean([float(quote.bid_quantity) for quote in quotes])
        figures.append((moves.std(), spread, depth))
    correlation = np.corrcoef(np.array(figures).T)
    assert correlation[0, 1] > 0.4
    assert correlation[0, 2] < -0.2


def test_an_unknown_symbol_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UnknownSymbol, match="BTCUSD is not listed; did you mean BTCUSDT"):
        market(("BTCUSD",))


@pytest.mark.parametrize(("edge", "text"), [(0.12, "momentum drift of 0.12"), (0.0, "No edge is planted")])
def test_the_disclosure_tells_the_planted_edge(edge: float, text: str) -> None:
    disclosure = market(planted_edge=edge).disclosure
    assert text in disclosure
    assert "every price is made up" in disclosure


def test_a_start_inside_a_minute_begins_with_that_minute() -> None:
    assert market(start_ms=START_MS + 12_345).start_ms == START_MS


def test_after_midnight_the_day_before_is_let_go_of() -> None:
    """Of 400 symbols a day more, second by second, would be another gigabyte."""
    source = market(("BTCUSDT",), start_ms=START_MS - 61 * MINUTE_MS)
    tracemalloc.start()
    try:
        lived(source, source.start_ms, 63)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 4_500_000


@pytest.fixture
def days_made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One number more for each day of a symbol that is made second by second."""
    made: list[int] = []

    def counting(*key: int) -> np.random.Generator:
        if key[-1] == market_simulated._SECOND_DRAWS:
            made.append(key[1])
        return drawing(*key)

    drawing = market_simulated._random
    monkeypatch.setattr(market_simulated, "_random", counting)
    return made


def test_a_look_at_another_day_does_not_cost_the_day_that_is_lived_through(days_made: list[int]) -> None:
    source = market(SYMBOLS)
    events = source.events(START_MS)
    next(events)
    for symbol in SYMBOLS:
        source.history(symbol, START_MS - 2 * DAY_MS, START_MS)
    days_made.clear()
    assert next(event for event in events if event.time_ms >= START_MS + MINUTE_MS)
    assert days_made == []


def test_the_next_day_is_made_before_midnight_a_few_symbols_a_minute(days_made: list[int]) -> None:
    midnight_ms = START_MS // DAY_MS * DAY_MS + DAY_MS
    source = market(MADE_UP_SYMBOLS[:62], start_ms=midnight_ms - 61 * MINUTE_MS, quotes_per_second=0.02)
    made_by_minute = []
    minute_ms = source.start_ms
    for event in source.events(minute_ms):
        if event.time_ms >= minute_ms:
            made_by_minute.append(len(days_made))
            days_made.clear()
            minute_ms += MINUTE_MS
        if minute_ms > midnight_ms:
            break
    assert made_by_minute[1:-1] == [2] * 2 + [1] * 58
    assert made_by_minute[-1] == 0
