"""Weather scripts: what they say is checked word by word, and the same seed gives the same weather."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from labkit.errors import ConfigError
from labkit.paper.weather.faults import FAULTS
from labkit.paper.weather.policy import Ending, Farewell, Weather
from labkit.paper.weather.script import WEATHERS, Match, Script, Spell, find_script, read_script
from labkit.wire.transport import HttpRequest

ORDER = HttpRequest(method="POST", path="/fapi/v1/order", body="symbol=BTCUSDT&newClientOrderId=a")
TOML = """
name = "a bad minute"
seed = 7
[[spell]]
fault = "unknown-executed"
start_seconds = 10
duration_seconds = 60
probability = 0.5
match = { method = "POST", path = "/fapi/v1/order" }
[[spell]]
fault = "frame-delay"
parameters = { delay_ms = 50 }
"""


def under(*spells: Spell, seed: int = 1, patience: float = 1.0) -> Weather:
    weather = Weather(patience)
    weather.begin(Script(name="t", seed=seed, spells=spells), 0)
    weather.turns(0)
    return weather


def endings(weather: Weather, count: int = 200) -> list[Ending]:
    return [weather.on_request(ORDER, 0).ending for _ in range(count)]


def frames_through(weather: Weather, count: int) -> list[bytes]:
    out: list[bytes] = []
    gate = weather.add("public", 0, out.append, lambda reason, farewell: None)
    for number in range(count):
        out += weather.pass_on(gate, "btcusdt@bookTicker", "", b"%d" % number)
    return out


def test_a_script_is_read_from_toml_and_from_json(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(TOML)
    script = find_script(str(tmp_path / "bad.toml"))
    assert (script.seed, [spell.fault for spell in script.spells]) == (7, ["unknown-executed", "frame-delay"])
    assert script.spells[1].number("jitter_ms") == 0
    (tmp_path / "bad.json").write_bytes(msgspec.json.encode(script))
    assert find_script(str(tmp_path / "bad.json")) == script
    assert find_script(str(tmp_path / "bad.json"), seed=9).seed == 9


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"name": "x", "spell": [{"fault": "frame-dorp"}]}, "did you mean 'frame-drop'"),
        ({"name": "x", "spell": [{"fault": "ban", "parameters": {"secnods": 3}}]}, "did you mean 'seconds'"),
        ({"name": "x", "spell": [{"fault": "ban", "parameters": {"seconds": "3"}}]}, "must be a number"),
        ({"name": "x", "spell": [{"fault": "ban", "probability": 2}]}, "probability"),
        ({"name": "x", "spell": [{"fault": "ban", "macth": {}}]}, "macth"),
        ({"spell": []}, "name"),
    ],
)
def test_a_slip_in_a_script_is_told_with_the_right_word(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_script(values)


@pytest.mark.parametrize(
    ("name", "told"),
    [("strom", "did you mean 'storm'"), ("nothing.toml", "No such file"), ("x.yaml", "a .toml or .json file")],
)
def test_a_weather_that_does_not_exist_is_told(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        find_script(name)


def test_a_file_that_is_no_script_is_told(tmp_path: Path) -> None:
    for name, text in (("a.toml", "= 3"), ("a.json", "{"), ("b.json", "[1]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=name):
            find_script(str(tmp_path / name))


@pytest.mark.parametrize("script", WEATHERS.values(), ids=lambda script: script.name)
def test_every_ready_made_weather_is_a_sound_script(script: Script) -> None:
    assert read_script(msgspec.to_builtins(script)) == script


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.name)
def test_every_fault_can_be_cast_with_its_defaults_alone(fault: Any) -> None:
    weather = under(Spell(fault=fault.name))
    frames_through(weather, 3)
    weather.on_request(ORDER, 0)
    weather.on_handshake("public", 0)
    weather.turns(3_600_000)
    weather.clear(3_600_000)
    assert not weather.spells_now()


def test_the_same_seed_strikes_the_same_requests_and_another_seed_others() -> None:
    spell = Spell(fault="drop-before-execute", probability=0.5)
    assert endings(under(spell)) == endings(under(spell))
    assert endings(under(spell)) != endings(under(spell, seed=2))
    assert 60 < endings(under(spell)).count(Ending.LOST) < 140


def test_what_happens_elsewhere_does_not_change_the_draw() -> None:
    spell = Spell(fault="drop-before-execute", probability=0.5)
    disturbed = under(spell)
    told = []
    for _ in range(50):
        disturbed.on_request(HttpRequest(method="GET", path="/fapi/v1/time"), 0)
        told.append(disturbed.on_request(ORDER, 0).ending)
    assert told == endings(under(spell), 50)


def test_a_spell_holds_only_in_its_time_and_strikes_only_so_often() -> None:
    spell = Spell(fault="drop-before-execute", start_seconds=10, duration_seconds=5, skip=1, times=2)
    weather = Weather()
    weather.begin(Script(name="t", spells=(spell,)), 0)
    struck = []
    for now_ms in range(0, 20_000, 1_000):
        weather.turns(now_ms)
        if weather.on_request(ORDER, now_ms).ending is Ending.LOST:
            struck.append(now_ms)
    assert struck == [11_000, 12_000]
    assert weather.next_due_ms() is None


def test_scripts_are_told_in_the_time_of_life() -> None:
    weather = under(Spell(fault="reply-delay", parameters={"delay_ms": 100}), patience=30)
    assert weather.on_request(ORDER, 0).answered_after_ms == 3_000


def test_a_spell_strikes_only_what_it_matches() -> None:
    weather = under(Spell(fault="drop-before-execute", match=Match(method="GET", symbol="ETHUSDT")))
    assert weather.on_request(ORDER, 0).ending is Ending.WHOLE
    asked = HttpRequest(method="GET", path="/fapi/v1/depth", query="symbol=ETHUSDT")
    assert weather.on_request(asked, 0).ending is Ending.LOST


def test_delayed_frames_keep_their_order_and_overtaken_ones_do_not() -> None:
    out: list[bytes] = []
    weather = under(Spell(fault="frame-delay", parameters={"delay_ms": 10, "jitter_ms": 500}))
    gate = weather.add("public", 0, out.append, lambda reason, farewell: None)
    for number in range(20):
        assert weather.pass_on(gate, "btcusdt@bookTicker", "", b"%d" % number) == []
    due = []
    while (due_ms := weather.next_due_ms()) is not None:
        due.append(due_ms)
        weather.turns(due_ms)
    assert out == [b"%d" % number for number in range(20)]
    assert due == sorted(due)
    overtaken = frames_through(under(Spell(fault="frame-reorder", times=1)), 3)
    assert overtaken == [b"1", b"0", b"2"]


def test_a_frame_nobody_overtakes_comes_all_the_same() -> None:
    out: list[bytes] = []
    weather = under(Spell(fault="frame-reorder", times=1))
    gate = weather.add("public", 0, out.append, lambda reason, farewell: None)
    weather.pass_on(gate, "btcusdt@bookTicker", "", b"alone")
    weather.turns(999)
    assert out == []
    weather.turns(1_000)
    assert out == [b"alone"]


def test_clearing_lets_go_of_what_was_held_back() -> None:
    out: list[bytes] = []
    weather = under(Spell(fault="frame-delay", parameters={"delay_ms": 60_000}))
    gate = weather.add("public", 0, out.append, lambda reason, farewell: None)
    weather.pass_on(gate, "btcusdt@bookTicker", "", b"held")
    weather.clear(1)
    weather.turns(1)
    assert out == [b"held"]
    assert not weather.stirring


def test_x09_every_request_inside_the_window_is_refused_and_counted() -> None:
    weather = under(Spell(fault="rate-limited", times=1))
    first = weather.on_request(ORDER, 0).answer
    assert first is not None
    assert (first.status, first.headers["retry-after"]) == (429, "7")
    again = weather.on_request(HttpRequest(method="GET", path="/fapi/v1/time"), 6_999).answer
    assert again is not None
    assert (again.status, again.headers["retry-after"]) == (429, "1")
    assert weather.requests_in_silence == 1
    assert weather.on_request(ORDER, 7_000).answer is None


def test_a_connection_ends_as_its_fault_says() -> None:
    for fault, farewell in (("reset", Farewell.RESET), ("vanish", Farewell.VANISH), ("daily-cut", Farewell.CLOSE)):
        told: list[Farewell] = []
        weather = Weather()
        weather.add("public", 0, lambda frame: None, lambda reason, how, told=told: told.append(how))
        weather.begin(Script(name="t", spells=(Spell(fault=fault),)), 0)
        weather.turns(0)
        assert told == [farewell]
