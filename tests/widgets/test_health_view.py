"""What the health panel says of a breaker, its limits, and the weather's score."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from labkit.domain.snapshot import BreakerRow
from labkit.paper.truth_table import IntentTruth
from labkit.widgets.health_view import HealthView, health_html, health_view, lanes_of, rungs_of
from labkit.widgets.view_parts import clock_of

HALTED = BreakerRow(
    level="HALTED",
    cause="418 banned",
    since_ms=1_767_571_200_000,
    next_probe_ms=1_767_571_320_000,
    weight_used=1_200,
    weight_limit=1_920,
)


def view_of(lab: Any, weather: dict[str, Any] | None = None, truth: dict[str, IntentTruth] | None = None) -> HealthView:
    return health_view(lab.snapshot(), weather or {}, truth, {"Process": "4711"})


def test_the_present_rung_tells_since_when_why_and_what_next() -> None:
    (here,) = [rung for rung in rungs_of(HALTED) if rung.here]
    assert (here.key, here.tone) == ("HALTED", "bad")
    assert here.story == "since 00:00:00 · 418 banned · next probe 00:02:00"


def test_a_worse_rung_never_permits_more() -> None:
    permitted = [set(rung.permits.split(", ")) for rung in rungs_of(HALTED)]
    assert all(worse <= better for better, worse in pairwise(permitted))


def test_a_lane_counts_what_is_left_below_its_own_ceiling() -> None:
    left = {lane.label: (lane.text, lane.tone) for lane in lanes_of(HALTED)}
    assert left["closing"] == ("720 of 1,920 left", "good")
    assert left["history"] == ("0 of 1,152 left", "bad")


def test_an_order_executed_twice_is_the_one_thing_shown_in_red(lab: Any) -> None:
    truth = {"a": IntentTruth(orders=1, executions=1), "b": IntentTruth(orders=2, executions=2)}
    score = {figure.key: (figure.text, figure.tone) for figure in view_of(lab, truth=truth).score}
    assert score["twice"] == ("1", "bad")
    assert score["intents"] == ("2", "")


def test_the_present_weather_is_the_one_pressed_button(lab: Any) -> None:
    view = view_of(lab, {"weather": "storm", "seed": 3, "strikes": {"price-nan": 2, "frame-drop": 0}})
    assert [choice.key for choice in view.weathers if choice.here] == ["storm"]
    assert view.weather == "storm, seed 3"
    assert [(strike.key, strike.times) for strike in view.strikes] == [("price-nan", "2×")]


def test_without_an_exchange_to_ask_the_rest_is_still_shown(lab: Any) -> None:
    assert len(view_of(lab).streams) == 2


def test_without_an_exchange_to_ask_nothing_is_claimed_of_its_weather_or_its_books(lab: Any) -> None:
    view = view_of(lab)
    assert view.weather == "–"
    score = {figure.key: (figure.text, figure.tone) for figure in view.score}
    assert {key: score[key] for key in ("strikes", "intents", "twice")} == dict.fromkeys(
        ("strikes", "intents", "twice"), ("–", "")
    )


def test_an_exchange_without_weather_is_fair(lab: Any) -> None:
    assert view_of(lab, {"weather": None, "seed": None, "strikes": {}}, {}).weather == "fair"


@pytest.mark.parametrize("text", ["normal", "closing", "user data", "Executed twice", "4711"])
def test_whoever_cannot_run_widgets_reads_the_same(lab: Any, text: str) -> None:
    assert text in health_html(view_of(lab), clock_of(lab.snapshot()))


def test_the_view_can_be_sent_as_json(lab: Any) -> None:
    assert msgspec.json.decode(msgspec.json.encode(view_of(lab)))["open_positions"] == len(lab.snapshot().positions)
