"""What a person reads is exactly what the snapshot says."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.domain.snapshot import EventRow, LoopRow, SymbolRow
from labkit.widgets import position_view, view_parts, views


def test_prices_are_written_with_the_decimals_the_symbol_is_quoted_in(lab: Any) -> None:
    line = views.symbol_line(SymbolRow(symbol="A", bid_price=Decimal("1234.50"), ask_price=Decimal("1234.6")), 0)
    assert (line.bid, line.ask) == ("1,234.50", "1,234.60")


def test_a_symbol_without_a_quote_shows_dashes_and_no_age() -> None:
    line = views.symbol_line(SymbolRow(symbol="A"), 0)
    assert (line.bid, line.spread, line.funding, line.quoted_ms) == (view_parts.NOTHING,) * 3 + (None,)


def test_the_moment_of_a_quote_stays_the_same_while_it_ages() -> None:
    young = views.symbol_line(SymbolRow(symbol="A", bid_price=Decimal(1), age_ms=100), 5_000)
    old = views.symbol_line(SymbolRow(symbol="A", bid_price=Decimal(1), age_ms=2_100), 7_000)
    assert young == old


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=-(10**9), max_value=10**9))
def test_an_amount_can_be_read_back_to_the_cent(amount: Decimal) -> None:
    text = view_parts.signed_money(amount).replace(",", "").replace(view_parts.MINUS, "-")
    assert abs(Decimal(text) - amount) <= Decimal("0.005")


@given(st.floats(-0.004, 0.004))
def test_what_rounds_to_nothing_has_no_sign(value: float) -> None:
    assert view_parts.signed(value, 2) == "0.00"
    assert view_parts.signed_money(Decimal(value)) == "0.00"


def test_the_disclosure_is_on_every_view(lab: Any) -> None:
    snapshot = lab.snapshot()
    clock = view_parts.clock_of(snapshot)
    for text in (
        views.monitor_view(snapshot).header.disclosure,
        position_view.positions_view(snapshot).header.disclosure,
        views.monitor_html(views.monitor_view(snapshot), clock),
        position_view.positions_html(position_view.positions_view(snapshot), clock),
    ):
        assert snapshot.disclosure in text


def test_a_market_faster_than_life_says_so(lab: Any) -> None:
    assert views.monitor_view(lab.snapshot()).header.pace == "30× faster than life"


@pytest.mark.parametrize(
    ("speed", "said"), [(1.0, ""), (0.5, "2× slower than life"), (float("inf"), "as fast as possible")]
)
def test_the_pace_of_a_market_is_said_in_words(speed: float, said: str) -> None:
    assert view_parts.pace_in_words(speed) == said


@pytest.mark.parametrize(("state", "speed"), [("stopped", 30.0), ("failed", 30.0), ("running", float("inf"))])
def test_the_browser_does_not_count_on_where_time_stands_still(lab: Any, state: str, speed: float) -> None:
    snapshot = msgspec.structs.replace(lab.snapshot(), state=state, speed=speed)
    assert view_parts.clock_of(snapshot).speed == 0


def test_a_market_that_has_not_begun_has_no_running_clock(lab: Any) -> None:
    snapshot = msgspec.structs.replace(lab.snapshot(), time_ms=0, state="starting", account=None, breaker=None)
    assert view_parts.clock_of(snapshot) == view_parts.Clock(0, 0.0)
    assert "1970" not in views.monitor_html(views.monitor_view(snapshot), view_parts.clock_of(snapshot))


def test_a_stream_that_has_come_back_no_longer_complains_of_its_past(lab: Any) -> None:
    snapshot = lab.snapshot()
    lost, back = (
        msgspec.structs.replace(snapshot.streams[0], state=state, cause="connection lost")
        for state in ("reconnecting", "live")
    )
    chips = views.chips_of(msgspec.structs.replace(snapshot, streams=(lost, back)))
    assert [(chip.text, chip.tone) for chip in chips[:2]] == [
        ("reconnecting: connection lost", "warn"),
        ("live", "good"),
    ]


def test_the_breakers_cause_is_on_its_chip(lab: Any) -> None:
    snapshot = lab.snapshot()
    breaker = msgspec.structs.replace(snapshot.breaker, level="HALTED", cause="banned for 2 minutes")
    chips = {chip.key: chip for chip in views.chips_of(msgspec.structs.replace(snapshot, breaker=breaker))}
    assert (chips["breaker"].text, chips["breaker"].tone) == ("halted: banned for 2 minutes", "bad")


def test_decisions_are_shown_newest_first(lab: Any) -> None:
    times = [line.time_ms for line in views.monitor_view(lab.snapshot()).decisions]
    assert times == sorted(times, reverse=True)


def test_a_refusal_tells_the_numbers_its_gate_compared(lab: Any) -> None:
    reasons = {line.action: line.reason for line in views.monitor_view(lab.snapshot()).decisions}
    assert reasons["no trade"] == "edge below cost: 7.6 bps after cost, must be above 2.5 bps"
    assert reasons["buy"] == "edge above cost"


def test_a_remembered_view_is_made_anew_only_of_another_value() -> None:
    made_of = []
    view = view_parts.remembered(lambda value: made_of.append(value) or f"seen {value}")
    assert [view((1, 2)), view((1, 2)), view((1, 3)), view((1, 2))] == [
        "seen (1, 2)", "seen (1, 2)", "seen (1, 3)", "seen (1, 2)"
    ]  # fmt: skip
    assert made_of == [(1, 2), (1, 3), (1, 2)]


def test_an_event_is_read_with_a_minus_sign() -> None:
    (line,) = views.event_lines((EventRow(1, "info", "closed BTCUSDT, net -13.79"),))
    assert line.text == "closed BTCUSDT, net −13.79"


def test_two_equal_events_of_one_moment_are_one_line(lab: Any) -> None:
    lines = views.event_lines((EventRow(1, "info", "a"), EventRow(1, "info", "a"), EventRow(2, "alarm", "b")))
    assert [(line.text, line.tone) for line in lines] == [("b", "bad"), ("a", "")]


def test_a_view_can_be_sent_as_json(lab: Any) -> None:
    view = views.monitor_view(lab.snapshot())
    assert msgspec.json.decode(msgspec.json.encode(view), type=views.MonitorView) == view


@pytest.mark.parametrize(
    ("state", "median_ms", "p99_ms", "tone"),
    [
        ("warming_up", 30, 600, "muted"),
        ("running", 1, 600, "warn"),
        ("running", 1, 20, "good"),
        ("running", 80, 600, "bad"),
        ("running", 1, 3_000, "bad"),
    ],
)
def test_a_lag_is_a_fault_when_it_lasts_and_never_while_warming_up(
    lab: Any, state: str, median_ms: float, p99_ms: float, tone: str
) -> None:
    late = msgspec.structs.replace(lab.snapshot(), state=state, loop_lag_ms_p50=median_ms, loop_lag_ms_p99=p99_ms)
    assert {chip.key: chip.tone for chip in views.chips_of(late)}["loop lag"] == tone


@pytest.mark.parametrize(("runs", "missed", "tone"), [(58, 5, "muted"), (58, 11, "warn"), (1_000, 15, "muted")])
def test_a_few_late_runs_of_a_start_are_counted_without_alarm(lab: Any, runs: int, missed: int, tone: str) -> None:
    loop = LoopRow(name="real_loop", runs=runs, missed=missed, overruns=0, last_run_ms=None, next_run_ms=None)
    chips = {chip.key: chip for chip in views.chips_of(msgspec.structs.replace(lab.snapshot(), loops=(loop,)))}
    assert (chips["scheduler"].text, chips["scheduler"].tone) == (str(missed), tone)


def test_a_lab_that_runs_without_one_fresh_quote_says_that_it_waits(lab: Any) -> None:
    snapshot = lab.snapshot()
    stale = tuple(msgspec.structs.replace(row, stale_because="no quote yet") for row in snapshot.symbols)
    assert views.monitor_view(msgspec.structs.replace(snapshot, symbols=stale)).header.state == "waiting for quotes"
    one_fresh = (snapshot.symbols[0], *stale[1:])
    assert views.monitor_view(msgspec.structs.replace(snapshot, symbols=one_fresh)).header.state == "running"


def test_the_side_of_a_position_stands_at_its_symbol(lab: Any) -> None:
    held = {line.key: line.held for line in views.monitor_view(lab.snapshot()).symbols}
    assert (held["BTCUSDT"], held["SOLUSDT"], held["ETHUSDT"]) == ("long", "short", "")


def test_a_still_picture_of_many_symbols_stays_short(lab: Any, clock: Any) -> None:
    snapshot = type(lab)(seed=7, clock=clock, symbols=400).snapshot()
    still = views.monitor_html(views.monitor_view(snapshot), view_parts.clock_of(snapshot))
    assert "and 360 more symbols" in still
    assert "COIN300USDT" not in still
