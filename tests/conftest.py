"""Fixtures every room may use."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of recorded market data, or a skip that says how to have one."""
    folder = Path(os.environ.get("LABKIT_REAL_DATA") or REPOSITORY / ".." / "shared" / "data").resolve()
    if not folder.is_dir():
        pytest.skip(f"no recorded market data at {folder}; set LABKIT_REAL_DATA to a folder of recordings")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where nothing may be missing, a test skipped for want of recordings or a browser has failed."""
    report = yield
    if report.skipped and os.environ.get("LABKIT_CI_NO_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the settings of whoever runs it."""
    for name in list(os.environ):
        if name.startswith("LABKIT_") and name not in ("LABKIT_REAL_DATA", "LABKIT_CI_NO_SKIPS"):
            monkeypatch.delenv(name)
