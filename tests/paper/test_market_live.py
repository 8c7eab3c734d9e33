"""A live market: the venue lives through what has arrived, and its candles are the exchange's own."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from labkit.domain.clock import MINUTE_MS
from labkit.domain.market_events import Bar, MarkPrice, Quote, Trade
from labkit.paper.listings import LISTED_RULES
from labkit.paper.market_live import LiveMarket
from labkit.paper.paper_exchange import StoredVenueJournal
from labkit.wire.streams import decode_frame
from tests.paper.conftest import START_MS, Counter

D = Decimal


def bar(minute: int, close: str, *, symbol: str = "BTCUSDT") -> Bar:
    open_time_ms = START_MS + minute * MINUTE_MS
    return Bar(
        symbol=symbol,
        interval="1m",
        open_time_ms=open_time_ms,
        close_time_ms=open_time_ms + MINUTE_MS - 1,
        open=D("90000"),
        high=D("90100"),
        low=D("89900"),
        close=D(close),
        volume=D("12.5"),
        quote_volume=D("1125000"),
        trade_count=40,
        taker_buy_volume=D("6"),
        taker_buy_quote_volume=D("540000"),
        closed=True,
    )


def quote(update_id: int, bid: str = "90000.0", ask: str = "90000.1") -> Quote:
    return Quote("BTCUSDT", D(bid), D("3"), D(ask), D("2"), update_id, START_MS)


@pytest.fixture
def live() -> LiveMarket:
    market = LiveMarket({"BTCUSDT": LISTED_RULES["BTCUSDT"]}, funding_hours={"BTCUSDT": 4}, start_ms=START_MS)
    market.remember([bar(-2, "90010"), bar(-3, "90005"), bar(-1, "90020")])
    return market


@pytest.fixture
def counter(live: LiveMarket) -> Counter:
    return Counter(live)  # type: ignore[arg-type]


def test_a_market_that_has_been_silent_goes_on(live: LiveMarket, counter: Counter) -> None:
    counter.venue.advance(START_MS + 5_000)
    live.push(quote(1), START_MS + 5_100)
    counter.venue.advance(START_MS + 5_100)
    assert counter.get("/fapi/v1/ticker/bookTicker", 5_200, symbol="BTCUSDT")["bidPrice"] == "90000.0"


def test_it_never_ends_while_nothing_arrives(counter: Counter) -> None:
    counter.venue.advance(START_MS + 5_000)
    assert counter.venue.next_event_ms() == START_MS + 6_000


def test_an_order_is_filled_at_the_live_quote(live: LiveMarket, counter: Counter) -> None:
    live.push(quote(1, ask="90123.4"), START_MS + 10)
    live.push(MarkPrice("BTCUSDT", D("90100"), D("90100"), D("0.0001"), START_MS + 28_800_000, START_MS), START_MS + 11)
    status, order = counter.order(20)
    assert status == 200, order
    fills = counter.get("/fapi/v1/userTrades", 40, symbol="BTCUSDT")
    assert [(fill["orderId"], fill["price"]) for fill in fills] == [(order["orderId"], "90123.40")]


def test_klines_are_the_bars_the_exchange_told_and_no_others(live: LiveMarket, counter: Counter) -> None:
    live.push(Trade("BTCUSDT", 1, D("95000"), D("1"), False, START_MS + 10, START_MS + 10), START_MS + 10)
    counter.venue.advance(START_MS + MINUTE_MS + 50)
    assert [row[4] for row in counter.get("/fapi/v1/klines", MINUTE_MS + 50, symbol="BTCUSDT", interval="1m")][:3] == [
        "90005",
        "90010",
        "90020",
    ]
    live.push(bar(0, "90030"), START_MS + MINUTE_MS + 80)
    closes = [
        row[4]
        for row in counter.get("/fapi/v1/klines", MINUTE_MS + 90, symbol="BTCUSDT", interval="1m", endTime=START_MS)
    ]
    assert closes == ["90005", "90010", "90020", "90030"]


def test_a_told_bar_goes_out_on_its_stream_as_it_is_with_the_longer_ones_it_completes(
    live: LiveMarket, counter: Counter
) -> None:
    live.remember([bar(minute, "90000") for minute in range(4)])
    session = counter.venue.open_stream("/market/stream?streams=btcusdt@kline_1m/btcusdt@kline_5m", START_MS)
    live.push(bar(4, "90044"), START_MS + 5 * MINUTE_MS + 40)
    counter.venue.advance(START_MS + 5 * MINUTE_MS + 40)
    told = [decode_frame(frame, 0) for frame in session.outgoing]
    closed = [fact for fact in told if isinstance(fact, Bar) and fact.closed]
    assert [(fact.interval, fact.close) for fact in closed] == [("1m", D("90044")), ("5m", D("90044"))]
    assert closed[0] == bar(4, "90044")


def test_a_bar_that_was_missed_and_fetched_later_stands_in_its_place_once(live: LiveMarket) -> None:
    live.push(bar(1, "90050"), START_MS)
    live.remember([bar(0, "90040"), bar(1, "1")])
    kept = live.history("BTCUSDT", START_MS, START_MS + 2 * MINUTE_MS)
    assert [each.close for each in kept] == [D("90040"), D("90050")]


def test_funding_is_due_as_often_as_the_exchange_says(live: LiveMarket) -> None:
    assert live.funding_interval_hours("BTCUSDT") == 4


def test_an_account_that_was_away_goes_on_now_and_not_where_it_left(live: LiveMarket, tmp_path: Path) -> None:
    journal = StoredVenueJournal(tmp_path)
    Counter(live, journal=journal).venue.close()  # type: ignore[arg-type]
    journal.close()
    later = LiveMarket(live.rules(), funding_hours={}, start_ms=START_MS + 90 * MINUTE_MS)
    journal = StoredVenueJournal(tmp_path)
    assert Counter(later, journal=journal).venue.start_ms == later.start_ms  # type: ignore[arg-type]
    journal.close()
