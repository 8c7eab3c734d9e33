"""What enters the cache, what is refused, and when a quote is too old to decide on."""

from __future__ import annotations

from decimal import Decimal

import pytest

from labkit.domain.market_events import MarkPrice, Quote
from labkit.market.quotes import QuoteCache

NOW_MS = 1_767_571_200_000


def quote(
    update_id: int = 1, *, bid: str = "100.0", ask: str = "100.1", at_ms: int = NOW_MS, **changes: object
) -> Quote:
    facts: dict[str, object] = {
        "symbol": "BTCUSDT",
        "bid_price": Decimal(bid),
        "bid_quantity": Decimal(1),
        "ask_price": Decimal(ask),
        "ask_quantity": Decimal(1),
        "update_id": update_id,
        "event_time_ms": at_ms,
        "received_ns": at_ms * 1_000_000,
    }
    return Quote(**(facts | changes))  # type: ignore[arg-type]


def mark(price: str, at_ms: int = NOW_MS) -> MarkPrice:
    return MarkPrice("BTCUSDT", Decimal(price), Decimal(price), Decimal(0), at_ms + 1, at_ms, at_ms * 1_000_000)


@pytest.fixture
def cache() -> QuoteCache:
    return QuoteCache(("BTCUSDT",), stale_after_ms=3_000)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (quote(bid="0"), "price not positive"),
        (quote(bid="-1", ask="1"), "price not positive"),
        (quote(bid="1", ask="0"), "price not positive"),
        (quote(bid_quantity=Decimal(0)), "one-sided book"),
        (quote(ask_quantity=Decimal(-1)), "one-sided book"),
        (quote(bid="100.2", ask="100.1"), "crossed book"),
        (quote(symbol="ETHUSDT"), "unasked symbol"),
    ],
)
def test_an_impossible_quote_is_refused_and_counted_by_reason(cache: QuoteCache, bad: Quote, reason: str) -> None:
    assert not cache.accept_quote(bad, epoch=1)
    assert cache.rejected == {reason: 1}
    assert cache.quote("BTCUSDT") is None


def test_a_locked_book_is_a_valid_quote(cache: QuoteCache) -> None:
    assert cache.accept_quote(quote(bid="100", ask="100"), epoch=1)


@pytest.mark.parametrize("update_id", [5, 4, 0])
def test_an_update_id_that_does_not_rise_within_an_epoch_is_refused(cache: QuoteCache, update_id: int) -> None:
    cache.accept_quote(quote(5), epoch=1)
    assert not cache.accept_quote(quote(update_id, bid="99"), epoch=1)
    assert cache.rejected == {"update id did not rise": 1}


def test_of_two_overlapping_connections_the_higher_update_id_wins_and_nothing_counts_as_refused(
    cache: QuoteCache,
) -> None:
    for update_id, epoch, taken in [(5, 1, True), (5, 2, False), (6, 2, True), (6, 1, False), (7, 1, True)]:
        assert cache.accept_quote(quote(update_id), epoch) is taken
    assert not cache.rejected


def test_update_ids_may_start_again_low_once_the_old_connection_is_gone(cache: QuoteCache) -> None:
    cache.accept_quote(quote(5_000), epoch=1)
    assert not cache.accept_quote(quote(3), epoch=2)
    cache.end_epoch(1)
    assert cache.accept_quote(quote(3), epoch=2)


def test_one_wild_tick_is_held_back_and_forgotten(cache: QuoteCache) -> None:
    cache.accept_quote(quote(1), epoch=1)
    assert not cache.accept_quote(quote(2, bid="150", ask="151"), epoch=1)
    assert cache.accept_quote(quote(3), epoch=1)
    assert not cache.accept_quote(quote(4, bid="150", ask="151"), epoch=1)
    assert cache.quote("BTCUSDT") == quote(3)


def test_a_jump_is_believed_after_two_quotes_that_repeat_it(cache: QuoteCache) -> None:
    cache.accept_quote(quote(1), epoch=1)
    taken = [cache.accept_quote(quote(number, bid="150", ask="151"), epoch=1) for number in (2, 3, 4, 5)]
    assert taken == [False, False, True, True]
    assert cache.rejected == {"price jump not yet confirmed": 2}


def test_a_jump_that_the_mark_price_shares_is_believed_at_once(cache: QuoteCache) -> None:
    cache.accept_quote(quote(1), epoch=1)
    cache.accept_mark_price(mark("149"))
    assert cache.accept_quote(quote(2, bid="150", ask="151"), epoch=1)


def test_a_first_quote_far_from_the_mark_price_must_be_confirmed(cache: QuoteCache) -> None:
    cache.accept_mark_price(mark("100"))
    assert [cache.accept_quote(quote(n, bid="50", ask="51"), epoch=1) for n in (1, 2, 3)] == [False, False, True]


def test_age_counts_from_the_older_of_the_two_times(cache: QuoteCache) -> None:
    cache.accept_quote(quote(1, at_ms=NOW_MS, received_ns=(NOW_MS + 900) * 1_000_000), epoch=1)
    assert cache.quote_age_ms("BTCUSDT", NOW_MS + 1_000) == 1_000
    cache.accept_quote(quote(2, at_ms=NOW_MS + 2_000, received_ns=NOW_MS * 1_000_000), epoch=1)
    assert cache.quote_age_ms("BTCUSDT", NOW_MS + 1_000) == 1_000


def test_a_quote_is_usable_up_to_the_limit_and_not_beyond(cache: QuoteCache) -> None:
    cache.accept_quote(quote(), epoch=1)
    assert cache.fresh_quote("BTCUSDT", NOW_MS + 3_000) == quote()
    assert cache.fresh_quote("BTCUSDT", NOW_MS + 3_001) is None
    assert "3001 ms old" in cache.why_stale("BTCUSDT", NOW_MS + 3_001)


def test_a_correct_quote_that_comes_thirty_seconds_late_is_stale(cache: QuoteCache) -> None:
    cache.accept_quote(quote(received_ns=(NOW_MS + 30_000) * 1_000_000), epoch=1)
    assert cache.fresh_quote("BTCUSDT", NOW_MS + 30_000) is None


def test_an_exchange_time_in_the_future_does_not_make_a_quote_fresh_for_an_hour(cache: QuoteCache) -> None:
    cache.accept_quote(quote(at_ms=NOW_MS + 3_600_000, received_ns=NOW_MS * 1_000_000), epoch=1)
    assert "ahead of our clock" in cache.why_stale("BTCUSDT", NOW_MS)
    assert cache.quote_age_ms("BTCUSDT", NOW_MS + 5_000) == 5_000


def test_a_lost_connection_makes_its_quotes_stale_until_another_one_speaks(cache: QuoteCache) -> None:
    cache.accept_quote(quote(1), epoch=1)
    cache.end_epoch(1, "connection lost: reset")
    assert cache.why_stale("BTCUSDT", NOW_MS) == "connection lost: reset"
    cache.accept_quote(quote(2), epoch=2)
    assert cache.why_stale("BTCUSDT", NOW_MS) == ""


def test_an_older_mark_price_does_not_replace_a_newer_one(cache: QuoteCache) -> None:
    cache.accept_mark_price(mark("101", NOW_MS + 1_000))
    assert not cache.accept_mark_price(mark("100", NOW_MS))
    assert cache.fresh_mark_price("BTCUSDT", NOW_MS + 1_000) == mark("101", NOW_MS + 1_000)
    assert cache.fresh_mark_price("BTCUSDT", NOW_MS + 4_001) is None


def test_a_symbol_nobody_watches_has_no_price_and_a_reason(cache: QuoteCache) -> None:
    assert cache.quote("DOGEUSDT") is None
    assert cache.why_stale("DOGEUSDT", NOW_MS) == "not watched"
