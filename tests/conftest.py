"""Fixtures every room may use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples every time, and no clock: a busy machine is not a failed claim.
settings.register_profile("labkit", deadline=None, derandomize=True)
settings.load_profile("labkit")

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of recorded market data, or a skip that says how to have one."""
    folder = Path(os.environ.get("LABKIT_REAL_DATA") or REPOSITORY / ".." / "shared" / "data").resolve()
    if not folder.is_dir():
        pytest.skip(f"no recorded market data at {folder}; set LABKIT_REAL_DATA to a folder of recordings")
    return folder


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One headless Chromium for all browser tests of a process, or a skip that says how to have one."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium on this machine; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


TOO_BUSY = "the machine is too busy"
"""How a deep test says that lags of today would be the machine's, not labkit's."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where nothing may be missing, a test skipped for want of anything has failed. Want of time is another matter."""
    report = yield
    if (
        report.skipped
        and TOO_BUSY not in str(report.longrepr)
        and os.environ.get("LABKIT_CI_NO_SKIPS")
        and not hasattr(report, "wasxfail")
    ):
        report.outcome = "failed"
    return report


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the settings of whoever runs it."""
    for name in list(os.environ):
        if name.startswith("LABKIT_") and name not in ("LABKIT_REAL_DATA", "LABKIT_CI_NO_SKIPS"):
            monkeypatch.delenv(name)
