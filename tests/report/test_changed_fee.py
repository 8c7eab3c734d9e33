"""A fee that is changed by one constant is noticed: the daily report's stored outputs no longer agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOK = "90_daily_report.ipynb"
CONSTANT = re.compile(r'(class PaperConfig.*?taker_fee_rate: Decimal = Decimal\("0\.000)5("\))', re.DOTALL)


def copied(folder: Path) -> Path:
    """labkit, the report notebook and what pytest is configured with, in a folder of their own."""
    shutil.copytree(REPOSITORY / "labkit", folder / "labkit", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "notebooks").mkdir()
    shutil.copy(REPOSITORY / "notebooks" / NOTEBOOK, folder / "notebooks")
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    return folder


def strict_run(folder: Path) -> subprocess.CompletedProcess[str]:
    """The notebook of that folder run by nbval on that folder's labkit, every output compared."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "LABKIT_DATA_DIR": str(folder / "state")}
    options = ("--nbval", "--nbval-current-env", "--nbval-cell-timeout", "170", "-q", "-p", "no:cacheprovider")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder / "notebooks" / NOTEBOOK)],
        capture_output=True, text=True, check=False, cwd=folder, env=environment,
    )  # fmt: skip


@pytest.mark.deep
def test_a_changed_taker_fee_fails_the_report_notebook_and_an_unchanged_one_does_not(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    same = strict_run(folder)
    assert same.returncode == 0, same.stdout[-3_000:]
    config = folder / "labkit" / "config.py"
    changed, count = CONSTANT.subn(r"\g<1>4\g<2>", config.read_text())
    assert count == 1
    config.write_text(changed)
    different = strict_run(folder)
    assert different.returncode == 1, different.stdout[-3_000:]
    assert "Cell outputs differ" in different.stdout
