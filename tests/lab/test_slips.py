"""A person's slip in a call of the lab: one sentence that says what was wrong and what to do next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.config import load_config
from labkit.errors import LabkitError
from labkit.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """One that has not been started."""
    return Lab(load_config({"data_dir": str(tmp_path)}, environ={}))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda lab: lab.why(3), "3 is not traded here; symbols: BTCUSDT"),
        (lambda lab: lab.why("BTC"), "'BTC' is not traded here; symbols: BTCUSDT"),
        (lambda lab: lab.why("btc/usdt"), "nothing has been decided on BTCUSDT yet"),
        (lambda lab: lab.at("yesterday"), "moment 'yesterday': write a UTC day or time"),
        (lambda lab: lab.at("2026-01-05"), "run a lab with this data folder first"),
        (lambda lab: lab.decision_history("NOPE"), "'NOPE' is not traded here"),
        (lambda lab: lab.close_position("BTCUSDT", -1), "quantity: -1 is not a number above 0"),
        (lambda lab: lab.move_exits("BTCUSDT", stop_price="low"), "stop_price: 'low' is not a number above 0"),
        (lambda lab: lab.what_if("much"), "percent: 'much' is not a number"),
        (lambda lab: lab.weather(3), "unknown weather '3'; known: bad-prices"),
        (lambda lab: lab.weather("stormy"), "did you mean 'storm'"),
        (lambda lab: lab.wait_for("runing"), "one of running, decision, position_opened, position_closed"),
        (lambda lab: lab.wait_for("running", "x"), "timeout_seconds: 'x' is not a number of seconds from 0 on"),
        (lambda lab: lab.wait_for("running", -1), "timeout_seconds: -1 is not a number of seconds"),
        (
            lambda lab: lab.wait_for("running", timeout=1),
            "takes no 'timeout'; did you mean timeout_seconds",
        ),
        (lambda lab: lab.report(timeout_seconds="x"), "timeout_seconds: 'x' is not a number of seconds"),
        (lambda lab: lab.candles("BTCUSDT", "1m", -3), "count: -3 is no whole number from 1 on"),
        (lambda lab: lab.why(), r"missing a required argument: 'symbol'; write why\(symbol, at=None\)"),
        (lambda lab: lab.trades(10), r"too many positional arguments; write trades\(\)"),
        (lambda lab: lab.challenge(cost_margin=0.5), r"write trader=\{\"cost_margin\": 0\.5\}$"),
        (lambda lab: lab.apply_settings(cost_margin=0.5), r"write trader=\{\"cost_margin\": 0\.5\}$"),
        (lambda lab: lab.weather(), r"write lab\.weather\(name_or_path, seed=None\)"),
        (lambda lab: lab.weather(sed=3), r"^lab\.weather\(\) takes no 'sed'; did you mean seed\?"),
        (lambda lab: lab.close("BTCUSDT"), r"lab has no 'close'; did you mean lab\.close_all or lab\.close_position\?"),
        (lambda lab: lab.candels("BTCUSDT"), r"lab has no 'candels'; did you mean lab\.candles\?"),
        (lambda lab: lab.candles("BTCUSDT"), r"the lab is not running: labkit\.start\(\) starts it"),
        (lambda lab: lab.close_all(), r"the lab is not running: labkit\.start\(\) starts it"),
    ],
)
def test_a_lab_says_what_was_wrong(lab: Lab, call: Callable[[Lab], Any], said: str) -> None:
    with pytest.raises(LabkitError, match=said):
        call(lab)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sped": 60}, "unknown setting 'sped' .*did you mean 'speed'"),
        ({"horizon_minutes": 60}, r"unknown setting 'horizon_minutes' .*; write trader=\{\"horizon_minutes\": 60\}$"),
        ({"horizon": 60}, r"write trader=\{\"horizon_minutes\": 60\}$"),
        ({"history_days": 4}, r"write paper=\{\"history_days\": 4\}$"),
        ({"horizon_minutes": "60"}, r"did you mean 'trader\.horizon_minutes'\?$"),
        ({"speed": "fast"}, "'fast' is neither a number of market seconds per second nor 'max'"),
        ({"speed": -1}, "setting speed: Expected `float` > 0"),
        ({"symbols": 3}, "setting symbols: Expected `array`, got `int`"),
        ({"trader": "patient"}, r"setting 'trader' .*is a section: give it as a dictionary, e\.g\. trader="),
        ({"trader": {"horizon": 60}}, r"did you mean 'trader\.horizon_minutes'"),
        ({"data_dir": "/dev/null"}, "setting data_dir: cannot keep state in /dev/null"),
        ({"config": "mine"}, "no settings are saved as 'mine'"),
    ],
)
def test_a_start_says_what_was_wrong(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(LabkitError, match=said):
        labkit.start(**{"data_dir": str(tmp_path)} | settings)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda folder: labkit.rehearse(minutes=-1), "minutes: -1 of market time is nothing to live through"),
        (lambda folder: labkit.rehearse(minuts=1), "unknown setting 'minuts'"),
        (lambda folder: labkit.start(60), r"start\(\): too many positional arguments; write start\(policy=None"),
        (lambda folder: labkit.tune(dat="simulated"), r"tune\(\) takes no 'dat'; did you mean data\?"),
        (lambda folder: labkit.backtset, r"labkit has no 'backtset'; did you mean labkit\.backtest\?"),
        (lambda folder: labkit.load_day(folder), "run a lab with this data folder first"),
        (lambda folder: labkit.load_day(folder, "Monday"), "day: 'Monday' is not a UTC day written YYYY-MM-DD"),
        (lambda folder: labkit.read_day(str(folder), "2026-01-05"), "run a lab with this data folder first"),
        (lambda folder: labkit.tune(data="nowhere"), "data: there is no file or folder nowhere"),
        (lambda folder: labkit.tune(data="simulted"), "did you mean simulated"),
        (lambda folder: labkit.tune(data=folder), "say from when to when"),
        (
            lambda folder: labkit.DataService(lake=folder).klines("BTCUSDT", "1m", "2024-01-01", "2024-01-02"),
            "labkit data pull BTCUSDT --interval 1m --start DATE brings it",
        ),
        (
            lambda folder: labkit.DataService().klines("BTCUSDT", "1m", "2024-01-01", "2024-01-02"),
            "this DataService keeps nothing: give it a lake",
        ),
    ],
)
def test_what_needs_no_lab_says_what_was_wrong(tmp_path: Path, call: Callable[[Path], Any], said: str) -> None:
    with pytest.raises(LabkitError, match=said):
        call(tmp_path)
