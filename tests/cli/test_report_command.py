"""`labkit report`: a slip is one clear line, told before a notebook is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.cli import main
from tests.lab.conftest import live


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One in which a lab lived for two minutes of 2026-01-05."""
    folder = tmp_path_factory.mktemp("lived")
    live(folder, 2)
    return folder


@pytest.mark.parametrize("day", ["2026-01-09", "yesterday"])
def test_a_day_the_ledger_knows_nothing_of_is_answered_with_those_it_knows(
    folder: Path, day: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--data-dir", str(folder), day]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"labkit: day {day!r}: {folder / 'ledger.sqlite'} tells of 2026-01-05 to 2026-01-05"
    assert not (folder / "reports").exists()


def test_a_folder_without_a_ledger_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--data-dir", str(tmp_path), "2026-01-05"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("run a lab with this data folder first")
    assert list(tmp_path.iterdir()) == []
