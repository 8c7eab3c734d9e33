"""A lab started with settings that were saved under a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.config import load_saved_config, save_settings, to_plain
from labkit.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    settings: dict[str, Any] = {**to_plain(labkit.Config().trader), "cost_margin": 0.5, "warm_up_minutes": 600}
    save_settings(tmp_path, "calm", settings)
    return tmp_path


def test_a_lab_starts_with_the_settings_saved_under_a_name(folder: Path) -> None:
    small: dict[str, Any] = {"symbols": ["BTCUSDT"], "speed": 60, "paper": {"history_days": 1}}
    lab = labkit.start(config="calm", data_dir=str(folder), **small)
    lab.wait_for("running", 90)
    assert lab.trader_settings().cost_margin == 0.5
    assert labkit.start(config="calm", data_dir=str(folder), **small) is lab
    lab.stop()


def test_a_name_under_which_nothing_was_saved_is_answered_with_those_there_are(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"no settings are saved as 'wild'.*saved: calm"):
        labkit.start(config="wild", data_dir=str(folder))


def test_what_is_given_goes_before_what_was_saved(folder: Path) -> None:
    config = load_saved_config("calm", {"data_dir": str(folder), "trader": {"cost_margin": 0.75}})
    assert (config.trader.cost_margin, config.trader.warm_up_minutes) == (0.75, 600)


@pytest.mark.parametrize("saved_speed", ["", "speed = 60\n"])
def test_a_live_market_runs_as_fast_as_life_whatever_was_saved(folder: Path, saved_speed: str) -> None:
    path = folder / "configs" / "calm.toml"
    path.write_text(saved_speed + path.read_text())
    config = load_saved_config("calm", {"data_dir": str(folder), "market": "live"})
    assert (config.speed, config.trader.cost_margin) == (1.0, 0.5)


def test_a_speed_asked_for_beside_a_live_market_is_still_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="as fast as life"):
        load_saved_config("calm", {"data_dir": str(folder), "market": "live", "speed": 60})
