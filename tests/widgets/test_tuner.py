"""The tuner on real history and a real lab: what the page asks for is what runs, and it is told what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import labkit
from labkit.config import Config, TraderConfig, change_config, saved_settings, to_plain
from labkit.domain import events as ev
from labkit.engine.ledger import Ledger
from labkit.errors import ConfigError
from labkit.lab import Lab
from labkit.research.backtest import BacktestResult, backtest
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.research.tuning import Tuning
from labkit.widgets.tuner import Tuner
from labkit.widgets.tuner_settings import trader_settings
from labkit.widgets.tuner_view import FIGURES, ordinal

pytestmark = pytest.mark.usefixtures("noted_comms")

SELDOM = {"decision_every_minutes": 60, "horizon_minutes": 60, "warm_up_minutes": 600, "cold_start_labels": 50}
PATIENCE_SECONDS = 30


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("momentum", 881, days=92, symbols=1, b=0.1)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return change_config(Config(), {"data_dir": str(tmp_path), "trader": SELDOM})


@pytest.fixture
def tuned(market: Market) -> Iterator[Callable[..., Any]]:
    made: list[Tuner] = []

    def tuner_of(config: Config, lab: Lab | None = None) -> Any:
        folder = Path(config.data_dir)
        made.append(Tuner(lambda compared, on_look: Tuning(market, compared, on_look), config, folder, "a span", lab))
        return made[-1]

    yield tuner_of
    for tuner in made:
        tuner.close()


@pytest.fixture
def tuner(tuned: Callable[..., Any], config: Config) -> Any:
    """A tuner whose first run, of the whole history, has come."""
    widget = tuned(config)
    until(widget, "look")
    return widget


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = str(tmp_path_factory.mktemp("lab"))
    running = labkit.start(data_dir=folder, symbols=["BTCUSDT"], speed=60, paper={"history_days": 2}, trader=SELDOM)
    running.wait_for("running", 90)
    yield running
    running.stop()


def until(widget: Any, kind: str, wanted: Callable[[dict[str, Any]], bool] = lambda content: True) -> Any:
    """The latest message of that kind to the page that is wanted; waits for it."""
    while True:
        widget.comm.news.clear()
        said = [note["data"]["content"] for note in widget.comm.sent if (note["data"] or {}).get("method") == "custom"]
        if found := [content for content in said if content["kind"] == kind and wanted(content)]:
            return found[-1]
        assert widget.comm.news.wait(PATIENCE_SECONDS), "the widget has fallen silent"


def until_panel(widget: Any, wanted: Callable[[dict[str, Any]], bool]) -> None:
    while not wanted(widget.panel):
        widget.comm.news.clear()
        assert wanted(widget.panel) or widget.comm.news.wait(PATIENCE_SECONDS), "the widget has fallen silent"


def until_state(widget: Any, name: str, value: object) -> None:
    while getattr(widget, name) != value:
        widget.comm.news.clear()
        assert getattr(widget, name) == value or widget.comm.news.wait(PATIENCE_SECONDS), "the widget has fallen silent"


def answer_to(widget: Any, **wish: Any) -> Any:
    widget.comm.sent.clear()
    widget.comm.say({"kind": "wish", **wish})
    return until(widget, "answer")


def set_to(widget: Any, preview: bool = False, **values: float) -> Any:
    """Move sliders and wait for what it came to."""
    widget.comm.sent.clear()
    widget.comm.say({"kind": "set", "values": values, "preview": preview, "move": ["a page", 1]})
    return until(widget, "look")


def cells_of(result: BacktestResult) -> list[str]:
    shown = [form.format(result.summary[name]).replace("-", "−") for name, _, form in FIGURES]
    return [*shown[:1], *shown[2:]]


def events_of(lab: Lab, kind: type[Any]) -> list[Any]:
    ledger = Ledger.open(lab.folder, read_only=True)
    try:
        return [entry.event for entry in ledger.entries() if isinstance(entry.event, kind)]
    finally:
        ledger.close()


def test_every_setting_of_the_trader_has_a_slider_a_name_of_its_own_and_a_tooltip_that_tells_range_and_unit() -> None:
    settings = {setting.key: setting for setting in trader_settings()}
    assert list(sorted(settings)) == sorted(TraderConfig.__struct_fields__)
    for setting in settings.values():
        assert setting.low <= setting.default <= setting.high, setting.key
        meaning, span = setting.tooltip.split("\n")
        assert meaning.endswith("."), setting.key
        assert span.startswith(f"{setting.low:g} to {setting.high:g} {setting.unit}, by default"), setting.key
    assert len({setting.label for setting in settings.values()}) == len(settings)


@pytest.mark.parametrize("end", ["low", "high"])
def test_a_slider_never_leaves_what_the_configuration_allows(end: str) -> None:
    values = {own.key: round(getattr(own, end)) if own.whole else getattr(own, end) for own in trader_settings()}
    assert msgspec.convert(values, TraderConfig)


def test_the_whole_history_is_run_at_first(tuner: Any) -> None:
    said = until(tuner, "look")
    assert (said["preview"], said["span"]) == (False, "all 92 days")


def test_a_drag_runs_the_last_ninety_days_and_a_release_all(tuner: Any) -> None:
    assert set_to(tuner, preview=True, horizon_minutes=120.0)["span"] == "last 90 days, preview"
    assert set_to(tuner, preview=False, horizon_minutes=120.0)["span"] == "all 92 days"


def test_what_the_page_is_told_is_what_a_backtest_of_the_same_settings_comes_to(
    tuner: Any, market: Market, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = set_to(tuner, cost_margin=0.5, kelly_fraction=0.5)
    monkeypatch.setenv("LABKIT_DATA_DIR", str(tmp_path))
    expected = backtest(data=market, trader={**SELDOM, "cost_margin": 0.5, "kelly_fraction": 0.5})
    before = backtest(data=market, trader=SELDOM)
    names = [row[0] for row in said["rows"]]
    assert names == ["this run", "compared with", "cash", "buy and hold", "trend rule"]
    for row, result in zip(said["rows"][:2], [expected, before], strict=True):
        assert [row[1], *row[3:]] == cells_of(result)
    assert cells_of(expected) != cells_of(before)


def test_the_curves_travel_as_the_bytes_of_their_numbers(tuner: Any) -> None:
    notes = [note["data"] for note in tuner.comm.sent if (note["data"] or {}).get("content", {}).get("kind") == "look"]
    assert notes[-1]["content"]["curves"][:2] == ["equity", "compared"]
    assert tuner._last.curves["equity"].size == 92


def test_every_new_setting_is_one_look_more(tuner: Any) -> None:
    assert set_to(tuner, cost_margin=0.5)["trials"] == "2nd look at these 92 days"
    assert set_to(tuner, cost_margin=0.6)["trials"] == "3rd look at these 92 days"
    assert set_to(tuner, cost_margin=0.5)["trials"] == "3rd look at these 92 days"


def test_the_page_is_told_while_a_run_is_under_way_and_that_it_has_ended(tuner: Any) -> None:
    set_to(tuner, cost_margin=0.5)
    until_state(tuner, "running", False)
    states = [note["data"]["state"] for note in tuner.comm.sent if (note["data"] or {}).get("method") == "update"]
    assert [state["running"] for state in states if "running" in state] == [True, False]


def test_a_move_sets_what_it_names_and_leaves_what_another_page_has_set(tuner: Any) -> None:
    set_to(tuner, kelly_fraction=0.5)
    set_to(tuner, cost_margin=0.75)
    assert tuner.changes() == {"kelly_fraction": 0.5, "cost_margin": 0.75}


def test_a_reloaded_page_is_told_the_last_look_again(tuner: Any) -> None:
    number = set_to(tuner, cost_margin=0.5)["number"]
    tuner.comm.sent.clear()
    tuner.comm.say({"kind": "hello"})
    assert until(tuner, "look")["number"] == number
    assert tuner.values["cost_margin"] == 0.5


def test_an_impossible_setting_is_said_and_the_last_good_look_stays(tuner: Any) -> None:
    good = set_to(tuner, cost_margin=0.5)["number"]
    assert "horizon_minutes" in set_to(tuner, horizon_minutes=1)["error"]
    assert tuner._last.number == good


def test_what_is_saved_under_a_name_is_read_by_it(tuner: Any, tmp_path: Path) -> None:
    set_to(tuner, horizon_minutes=120)
    assert answer_to(tuner, wish="save", name="calm")["error"] == ""
    saved = saved_settings(tmp_path, "calm")
    assert saved == {f"trader.{name}": value for name, value in {**tuner.values, "horizon_minutes": 120}.items()}
    with pytest.raises(ConfigError, match="saved: calm"):
        saved_settings(tmp_path, "wild")


def test_a_name_that_leads_out_of_the_folder_is_refused(tuner: Any) -> None:
    assert "no name to save settings under" in answer_to(tuner, wish="save", name="../labkit")["error"]


def test_a_tuner_without_a_lab_says_that_it_cannot_apply(tuner: Any) -> None:
    assert "cannot do 'apply'" in answer_to(tuner, wish="apply")["error"]


def test_a_challenger_from_the_page_is_the_one_of_the_api_and_is_listed(
    tuned: Callable[..., Any], config: Config, lab: Lab
) -> None:
    tuner = tuned(change_config(config, {"trader": to_plain(lab.trader_settings())}), lab)
    set_to(tuner, cost_margin=0.75)
    assert answer_to(tuner, wish="challenge")["error"] == ""
    assert events_of(lab, ev.ChallengeStarted)[-1].changes == {"cost_margin": 0.75}
    assert "challenger with cost_margin 0.75" in tuner.panel["challenge"]
    assert "a challenge is under way" in answer_to(tuner, wish="challenge")["error"]
    lab.end_challenge()
    tuner.comm.say({"kind": "news"})
    until_panel(tuner, lambda panel: panel["challenge"] == "no challenge is under way")


def test_what_the_page_applies_is_what_the_lab_starts_with_and_is_compared_with_from_then_on(
    tuned: Callable[..., Any], config: Config, lab: Lab
) -> None:
    tuner = tuned(change_config(config, {"trader": to_plain(lab.trader_settings())}), lab)
    assert "nothing differs" in answer_to(tuner, wish="apply")["error"]
    set_to(tuner, cost_margin=0.5)
    assert answer_to(tuner, wish="apply")["error"] == ""
    assert events_of(lab, ev.EngineStarted)[-1].settings["trader"] == tuner.values
    assert lab.trader_settings().cost_margin == 0.5
    assert tuner.changes() == {}
    assert tuner.panel["running"]["cost_margin"] == 0.5


def test_what_a_challenger_won_is_compared_with_and_a_slider_that_was_moved_stays(
    tuned: Callable[..., Any], config: Config, lab: Lab
) -> None:
    tuner = tuned(change_config(config, {"trader": to_plain(lab.trader_settings())}), lab)
    set_to(tuner, kelly_fraction=0.5)
    lab.challenge({"cost_margin": 0.9})
    lab._submit(
        ev.ChallengeJudged(time_ms=lab._now_ms(), promoted=True, looked_days=20, probability=0.99, words="promoted")
    )
    tuner.comm.say({"kind": "news"})
    until_panel(tuner, lambda panel: panel["running"]["cost_margin"] == 0.9)
    assert tuner.changes() == {"kelly_fraction": 0.5}
    lab.roll_back_promotion()


def test_closing_ends_the_runs(tuner: Any) -> None:
    thread = tuner._runs._rerun._thread
    tuner.close()
    assert not thread.is_alive()


def test_who_cannot_run_widgets_reads_the_score(tuner: Any) -> None:
    html = tuner._repr_mimebundle_()[0]["text/html"]
    assert "a still picture" in html
    assert "Evidence of an edge" in html


@pytest.mark.parametrize(("number", "text"), [(1, "1st"), (12, "12th"), (22, "22nd"), (1173, "1,173rd")])
def test_looks_are_counted_as_people_count(number: int, text: str) -> None:
    assert ordinal(number) == text
