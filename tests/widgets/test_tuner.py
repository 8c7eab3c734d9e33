"""The tuner: what the page asks for is what runs, and what it is told is what came of it."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from labkit.config import Config, TraderConfig, saved_settings
from labkit.errors import ConfigError
from labkit.widgets.tuner import Tuner
from labkit.widgets.tuner_settings import trader_settings
from labkit.widgets.tuner_view import ordinal

pytestmark = pytest.mark.usefixtures("noted_comms")


class NotedRuns:
    """History that only takes notes of what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], bool]] = []
        self.closed = False

    def ask(self, settings: Mapping[str, Any], *, preview: bool) -> int:
        self.asked.append((dict(settings), preview))
        return len(self.asked)

    def close(self) -> None:
        self.closed = True


class NotedLab:
    def __init__(self) -> None:
        self.did: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()

    def challenge(self, trader: dict[str, Any]) -> str:
        self.did.put(("challenge", trader))
        return "a challenger"

    def apply_settings(self, trader: dict[str, Any]) -> None:
        self.did.put(("apply", trader))


def look(**differs: Any) -> Any:
    whole = {
        "number": 1,
        "preview": False,
        "settings": {},
        "error": "",
        "first_day_ms": 0,
        "curves": {"equity": np.array([1.0, 2.0])},
        "figures": {"return": 0.1, "sharpe": 1.0, "sharpe_low": -1.0, "sharpe_high": 3.0, "trades": 5.0},
        "compared": {"return": 0.0},
        "baselines": {"cash": {"return": 0.0}},
        "verdict": "No evidence of edge.",
        "trials": 173,
    }
    return SimpleNamespace(**whole | differs)


@pytest.fixture
def runs() -> NotedRuns:
    return NotedRuns()


@pytest.fixture
def lab() -> NotedLab:
    return NotedLab()


@pytest.fixture
def tuner(runs: NotedRuns, lab: NotedLab, tmp_path: Path) -> Any:
    widget = Tuner(lambda config, on_look: runs, Config(), tmp_path, "BTCUSDT, a year", lab)
    yield widget
    widget.close()


def until(widget: Any, kind: str) -> Any:
    while True:
        widget.comm.news.clear()
        said = [note["data"]["content"] for note in widget.comm.sent if (note["data"] or {}).get("method") == "custom"]
        if found := [content for content in said if content["kind"] == kind]:
            return found[-1]
        assert widget.comm.news.wait(10), "the widget has fallen silent"


def test_every_setting_of_the_trader_has_a_slider_with_its_default_on_it_and_a_meaning() -> None:
    settings = {setting.key: setting for setting in trader_settings()}
    assert list(sorted(settings)) == sorted(TraderConfig.__struct_fields__)
    for setting in settings.values():
        assert setting.low <= setting.default <= setting.high, setting.key
        assert setting.meaning.endswith((".", "it.")), setting.key


@pytest.mark.parametrize("end", ["low", "high"])
def test_a_slider_never_leaves_what_the_configuration_allows(end: str) -> None:
    values = {own.key: round(getattr(own, end)) if own.whole else getattr(own, end) for own in trader_settings()}
    assert msgspec.convert(values, TraderConfig)


def test_the_whole_history_is_run_at_first(tuner: Any, runs: NotedRuns) -> None:
    assert runs.asked == [({}, False)]


def test_a_drag_asks_for_a_preview_of_what_differs_and_a_release_for_all(tuner: Any, runs: NotedRuns) -> None:
    tuner.comm.say({"kind": "set", "values": {"horizon_minutes": 60.0, "cost_margin": 0.25}, "preview": True})
    tuner.comm.say({"kind": "set", "values": {"horizon_minutes": 90}, "preview": False})
    assert runs.asked[1:] == [({"horizon_minutes": 60}, True), ({"horizon_minutes": 90}, False)]


def test_a_look_reaches_the_page_with_its_curves_as_bytes_and_its_count(tuner: Any) -> None:
    tuner._take(look())
    said = until(tuner, "look")
    assert said["trials"] == "173rd look at these 2 days"
    assert said["rows"][0][:3] == ["this run", "+10.00%", "1.00 (−1.00 to 3.00)"]
    assert [row[0] for row in said["rows"]] == ["this run", "running now", "cash"]


def test_a_reloaded_page_is_told_the_last_look_again(tuner: Any) -> None:
    tuner._take(look(number=7))
    tuner.comm.sent.clear()
    tuner.comm.say({"kind": "hello"})
    assert until(tuner, "look")["number"] == 7


def test_an_impossible_setting_is_said_and_the_last_good_look_stays(tuner: Any) -> None:
    tuner._take(look(number=7))
    tuner._take(look(number=8, error="out of range", curves={}, figures={}))
    assert until(tuner, "look")["error"] == "out of range"
    assert tuner._last.number == 7


def test_what_is_saved_under_a_name_is_read_by_it(tuner: Any, tmp_path: Path) -> None:
    tuner.comm.say({"kind": "set", "values": {"horizon_minutes": 60}, "preview": False})
    tuner.comm.say({"kind": "wish", "wish": "save", "name": "calm"})
    assert until(tuner, "answer")["error"] == ""
    assert saved_settings(tmp_path, "calm")["trader.horizon_minutes"] == 60
    with pytest.raises(ConfigError, match="saved: calm"):
        saved_settings(tmp_path, "wild")


def test_a_name_that_leads_out_of_the_folder_is_refused(tuner: Any) -> None:
    tuner.comm.say({"kind": "wish", "wish": "save", "name": "../labkit"})
    assert "no name to save settings under" in until(tuner, "answer")["error"]


@pytest.mark.parametrize("wish", ["challenge", "apply"])
def test_the_lab_is_asked_for_what_differs(tuner: Any, lab: NotedLab, wish: str) -> None:
    tuner.comm.say({"kind": "set", "values": {"cost_margin": 0.5}, "preview": False})
    tuner.comm.say({"kind": "wish", "wish": wish})
    assert lab.did.get(timeout=10) == (wish, {"cost_margin": 0.5})
    assert until(tuner, "answer")["error"] == ""


def test_nothing_is_applied_where_nothing_differs(tuner: Any, lab: NotedLab) -> None:
    tuner.comm.say({"kind": "wish", "wish": "apply"})
    assert "nothing differs" in until(tuner, "answer")["error"]
    assert lab.did.empty()


def test_what_was_applied_is_compared_with_from_then_on(tuner: Any, runs: NotedRuns) -> None:
    tuner.comm.say({"kind": "set", "values": {"cost_margin": 0.5}, "preview": False})
    tuner.comm.say({"kind": "wish", "wish": "apply"})
    until(tuner, "answer")
    assert tuner.changes() == {}
    assert tuner.panel["running"]["cost_margin"] == 0.5


def test_closing_ends_the_runs(tuner: Any, runs: NotedRuns) -> None:
    tuner.close()
    assert runs.closed


def test_who_cannot_run_widgets_reads_the_score(tuner: Any) -> None:
    tuner._take(look())
    html = tuner._repr_mimebundle_()[0]["text/html"]
    assert "a still picture" in html
    assert "No evidence of edge." in html


@pytest.mark.parametrize(("number", "text"), [(1, "1st"), (12, "12th"), (22, "22nd"), (1173, "1,173rd")])
def test_looks_are_counted_as_people_count(number: int, text: str) -> None:
    assert ordinal(number) == text
