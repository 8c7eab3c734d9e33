"""The weather as a person asks for it: from a notebook and on the command line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

import labkit
from labkit.errors import ConfigError
from labkit.paper.weather.faults import FAULTS
from labkit.paper.weather.script import WEATHERS
from tests.lab.conftest import live

STORMY = ("storm", "storm", "drizzle")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labkit.cli", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_running_lab_is_given_weather_and_fair_weather_again(tmp_path: Path) -> None:
    lab = labkit.start(
        data_dir=str(tmp_path),
        speed=10,
        symbols=["BTCUSDT"],
        paper={"history_days": 1},
        trader={"warm_up_minutes": 600},
    )
    try:
        lab.wait_for("running", 60)
        assert lab.weather.status()["weather"] is None
        assert "drizzle" in repr(lab.weather("drizzle", seed=3))
        assert lab.weather.status()["seed"] == 3
        with pytest.raises(ConfigError, match="did you mean 'storm'"):
            lab.weather("strom")
        assert lab.weather.status()["weather"] == "drizzle"
        assert lab.weather.clear().status()["faults_now"] == []
        assert lab.weather.executions() == {}
    finally:
        lab.stop()


def test_every_weather_and_fault_is_listed() -> None:
    done = command("weather", "ls")
    assert done.returncode == 0, done.stderr
    assert {*WEATHERS, *FAULTS} <= set(done.stdout.split())


def test_a_setting_gives_a_lab_its_weather_and_it_is_the_same_twice(tmp_path: Path) -> None:
    runs = [live(tmp_path / name, 3, **{"paper.weather": weather}) for name, weather in zip("abc", STORMY, strict=True)]
    assert runs[0].ledger_hash == runs[1].ledger_hash != runs[2].ledger_hash
    assert runs[0].counts.reconnects > 0


async def test_an_exchange_of_its_own_has_the_weather_it_was_told() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "labkit.cli", "exchange", "--weather", "storm"),
        *("--set", "paper.weather_after_seconds=0", "--set", "paper.history_days=1"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        address = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        async with (
            aiohttp.ClientSession(headers={"X-MBX-APIKEY": address["api_key"]}) as session,
            session.get(f"{address['rest']}/labkit/weather") as answer,
        ):
            assert (await answer.json())["weather"] == "storm"
    finally:
        process.terminate()
        assert await process.wait() == 0


@pytest.mark.parametrize("which", ["run", "exchange"])
def test_a_weather_nobody_knows_is_one_clear_line(which: str, tmp_path: Path) -> None:
    done = command(which, "--weather", "strom", "--data-dir", str(tmp_path / "state"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'storm'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "state").exists()
