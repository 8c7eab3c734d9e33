"""`%load_ext labkit` in a real IPython shell, on a real lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from labkit.errors import ConfigError
from labkit.lab import Lab
from labkit.magics import settings_of
from labkit.widgets.why import Why

SMALL = (
    "data_dir={folder} speed=60 symbols=BTCUSDT paper.history_days=1 trader.warm_up_minutes=600 "
    "trader.decision_every_minutes=1"
)


@pytest.fixture(scope="module")
def shell() -> Iterator[Any]:
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "labkit")
    yield shell
    InteractiveShell.clear_instance()


@pytest.fixture(scope="module")
def lab(shell: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = shell.run_line_magic("lab", SMALL.format(folder=tmp_path_factory.mktemp("magics")))
    yield lab
    lab.stop()


def test_without_a_lab_the_magics_say_how_to_start_one(shell: Any) -> None:
    for magic, line in (("why", "BTCUSDT"), ("report", ""), ("flatten", "")):
        with pytest.raises(UsageError, match="no lab runs in this kernel: %lab starts one"):
            shell.run_line_magic(magic, line)


def test_the_lab_that_was_started_is_found_again_and_has_a_name(shell: Any, lab: Lab) -> None:
    assert shell.user_ns["lab"] is lab
    assert shell.run_line_magic("lab", "") is lab


def test_why_answers_for_a_symbol_written_as_people_write_it(shell: Any, lab: Lab) -> None:
    lab.wait_for("decision", 90)
    assert isinstance(shell.run_line_magic("why", "btc/usdt"), Why)


def test_why_of_nothing_names_the_symbols(shell: Any, lab: Lab) -> None:
    with pytest.raises(UsageError, match="One of BTCUSDT"):
        shell.run_line_magic("why", "")


def test_flatten_pauses_entries(shell: Any, lab: Lab) -> None:
    assert "new entries are paused" in shell.run_line_magic("flatten", "")
    assert lab.snapshot().entries_paused == "flattened by hand"


def test_a_report_of_no_day_is_refused_in_one_sentence(shell: Any, lab: Lab) -> None:
    with pytest.raises(UsageError, match="tomorrow"):
        shell.run_line_magic("report", "tomorrow")


@pytest.mark.parametrize("line", ["speed", "speed=", "speed 60"])
def test_a_word_without_a_value_is_no_setting(line: str) -> None:
    with pytest.raises(ConfigError, match="write NAME=VALUE"):
        settings_of(line)


def test_lists_are_written_with_commas(tmp_path: Path) -> None:
    assert settings_of("symbols=BTCUSDT,ETHUSDT speed=60") == {"symbols": ["BTCUSDT", "ETHUSDT"], "speed": "60"}
