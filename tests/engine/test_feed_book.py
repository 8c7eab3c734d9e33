"""What was out of order on a day, from the events of a ledger alone."""

from __future__ import annotations

from labkit.domain import events as ev
from labkit.domain.clock import DAY_MS, MINUTE_MS
from labkit.domain.day_history import Connection, FeedQuality, Outage
from labkit.engine.feed_book import FeedBook

DAY = 20 * DAY_MS
NOON = DAY + DAY_MS // 2
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def quality_of(*events: ev.Event) -> FeedQuality:
    book = FeedBook(DAY)
    for event in events:
        book.take_in(event, SYMBOLS)
    return book.quality()


def feed(time_ms: int, what: str, cause: str = "") -> ev.FeedChanged:
    return ev.FeedChanged(time_ms=time_ms, what=what, healthy=not cause, cause=cause)


def started(time_ms: int) -> ev.EngineStarted:
    return ev.EngineStarted(time_ms=time_ms, epoch=1, market="", disclosure="", symbols=SYMBOLS, config_hash="")


def counted(time_ms: int, frames: int, reconnects: int, weight: int = 5) -> ev.FeedObserved:
    return ev.FeedObserved(
        time_ms=time_ms,
        streams=(ev.StreamCounts("public", frames, reconnects, 1),),
        weight_used=weight,
        weight_limit=1920,
        latency_ms_p99=12.0,
    )


def minute(open_time_ms: int, **more: object) -> ev.MinuteClosed:
    return ev.MinuteClosed(
        time_ms=open_time_ms + MINUTE_MS, open_time_ms=open_time_ms, bars={}, quotes={}, marks={}, **more
    )  # type: ignore[arg-type]


def breaker(time_ms: int, level: str) -> ev.BreakerMoved:
    return ev.BreakerMoved(time_ms=time_ms, level=level, cause="HTTP 429", since_ms=time_ms)


def test_an_outage_lasts_until_what_was_out_of_order_tells_that_it_is_well() -> None:
    found = quality_of(feed(NOON, "BTCUSDT", "old"), feed(NOON + 3_000, "BTCUSDT"), feed(NOON + 4_000, "BTCUSDT"))
    assert found.outages == (Outage("BTCUSDT", "old", NOON, NOON + 3_000),)


def test_trouble_that_is_told_again_is_the_same_outage_and_another_cause_another() -> None:
    again = (feed(NOON, "ETHUSDT", "old"), feed(NOON + 9_000, "ETHUSDT", "old"), feed(NOON + 10_000, "ETHUSDT", "odd"))
    assert quality_of(*again, feed(NOON + 12_000, "ETHUSDT")).outages == (
        Outage("ETHUSDT", "old", NOON, NOON + 10_000),
        Outage("ETHUSDT", "odd", NOON + 10_000, NOON + 12_000),
    )


def test_an_outage_over_midnight_counts_on_each_day_for_its_part() -> None:
    over = (feed(DAY - 9_000, "public"), feed(DAY - 5_000, "public", "closed"), feed(DAY + 2_000, "public"))
    assert quality_of(*over).outages == (Outage("public", "closed", DAY, DAY + 2_000),)
    before = FeedBook(DAY - DAY_MS)
    for event in over[:2]:
        before.take_in(event, SYMBOLS)
    assert before.quality().outages == (Outage("public", "closed", DAY - 5_000, DAY - 5_000),)


def test_an_outage_of_the_day_before_is_none_of_this_one() -> None:
    assert quality_of(feed(DAY - 9, "public"), feed(DAY - 5, "public", "x"), feed(DAY - 2, "public")).outages == ()


def test_what_never_tells_that_it_is_well_has_no_length() -> None:
    found = quality_of(feed(NOON, "reconciliation", "no answer"), minute(NOON))
    assert found.outages == (Outage("reconciliation", "no answer", NOON, NOON),)


def test_a_lab_that_is_off_has_no_outage() -> None:
    # The negative control is the first test: without the new start it would last until the end.
    found = quality_of(
        feed(NOON - 9, "public"), feed(NOON, "public", "closed"), minute(NOON), started(NOON + 40 * MINUTE_MS)
    )
    assert found.outages == (Outage("public", "closed", NOON, NOON + MINUTE_MS),)


def test_the_breaker_is_out_of_order_until_it_is_normal_again_whatever_starts_meanwhile() -> None:
    found = quality_of(
        breaker(NOON, "SHED"), breaker(NOON + 5_000, "SILENT"), started(NOON + 7_000), breaker(NOON + 9_000, "NORMAL")
    )
    assert [(row.cause, row.end_ms - row.start_ms) for row in found.outages] == [
        ("SHED: HTTP 429", 5_000),
        ("SILENT: HTTP 429", 4_000),
    ]


def test_connections_count_what_came_on_the_day_over_restarts() -> None:
    found = quality_of(
        counted(DAY - MINUTE_MS, 100, 2),
        counted(DAY + MINUTE_MS, 150, 3, weight=40),
        started(NOON),
        counted(NOON + MINUTE_MS, 30, 0),
    )
    assert found.connections == (Connection("public", 80, 1, 1),)
    assert (found.weight_used, found.weight_limit) == (40, 1920)


def test_minutes_without_bar_or_quote_are_counted_by_symbol_and_late_ones_apart() -> None:
    found = quality_of(
        minute(NOON),
        minute(NOON + MINUTE_MS, entries_allowed=False, entries_refused_because="this minute was missed"),
        minute(NOON + 5 * MINUTE_MS),
    )
    assert (found.minutes, found.missed_minutes, found.minutes_off) == (3, 1, 3)
    assert found.without_bar == {"BTCUSDT": 3, "ETHUSDT": 3}
    assert found.without_quote == {"BTCUSDT": 2, "ETHUSDT": 2}
