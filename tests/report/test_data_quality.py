"""What the page says of the day's data is what the ledger holds of them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from labkit.domain.day_history import Connection, DayHistory, FeedQuality, Outage
from labkit.report import data_quality

MakeDay = Callable[..., DayHistory]


@pytest.fixture
def troubled(make_day: MakeDay) -> DayHistory:
    day = make_day()
    start_ms = day.start_ms
    return msgspec.structs.replace(
        day,
        feed=FeedQuality(
            outages=(
                Outage("BTCUSDT", "quote is 3001 ms old", start_ms, start_ms + 1_500),
                Outage("circuit breaker", "SHED: HTTP 429", start_ms + 5_000, start_ms + 25_000),
                Outage("BTCUSDT", "quote is 3001 ms old", start_ms + 60_000, start_ms + 64_000),
                Outage("public", "closed", start_ms + 70_000, start_ms + 72_000),
            ),
            connections=(Connection("market", 10, 0, 0), Connection("public", 1_000, 2, 3)),
            minutes=1_440,
            without_bar={"ETHUSDT": 2},
            without_quote={"ETHUSDT": 1},
            weight_used=77,
            weight_limit=1_920,
        ),
    )


def test_stale_seconds_stand_beside_their_symbol(troubled: DayHistory) -> None:
    table = data_quality.feed_by_symbol(troubled).set_index("symbol")
    assert list(table.loc["BTCUSDT", ["stale", "together", "longest", "no bar"]]) == [2, 5.5, 4.0, 0]
    assert list(table.loc["ETHUSDT", ["stale", "no bar", "no quote"]]) == [0, 2, 1]


def test_decisions_refused_for_the_feed_are_told_apart_from_those_the_market_refused(troubled: DayHistory) -> None:
    table = data_quality.feed_by_symbol(troubled)
    refused = [decision.primary_reason for decision in troubled.decisions if decision.action == "refuse"]
    assert table["refused for it"].sum() == refused.count("quote_fresh") > 0
    assert refused.count("quote_fresh") < len(refused)


def test_a_connection_tells_what_it_carried_and_how_long_it_was_cut_off(troubled: DayHistory) -> None:
    row = data_quality.connections(troubled).set_index("connection").loc["public"]
    assert list(row) == [1_000, 3, 2, 2.0]


def test_troubles_are_told_with_their_cause_and_symbols_have_a_table_of_their_own(troubled: DayHistory) -> None:
    table = data_quality.troubles(troubled)
    assert list(table["what"]) == ["circuit breaker", "public"]
    assert table["cause"].iloc[0] == "SHED: HTTP 429"


def test_an_old_ledger_says_that_weight_was_not_noted_rather_than_nothing(make_day: MakeDay) -> None:
    old = data_quality.service(make_day()).set_index("what")["value"]
    assert old["request weight, most in a minute"] == "not noted"


def test_the_figures_of_the_day_add_up_connections(troubled: DayHistory) -> None:
    table = data_quality.service(troubled).set_index("what")["value"]
    assert table["request weight, most in a minute"] == "77 of 1,920"
    assert (table["reconnects"], table["frames rejected"]) == ("2", "3")
    assert table["circuit breaker above NORMAL"] == "20.0 s"


def test_the_picture_says_in_words_what_was_out_of_order(troubled: DayHistory, make_day: MakeDay) -> None:
    assert "BTCUSDT 2 times, 5.5 s together; circuit breaker once, 20.0 s together" in repr(
        data_quality.outages(troubled)
    )
    assert data_quality.outages(troubled).png().startswith(b"\x89PNG")
    assert "nothing" in repr(data_quality.outages(make_day()))
