"""Bars of long work: there is one for a person who looks, and not a byte of it in a log."""

from __future__ import annotations

import os
import subprocess
import sys
import termios
from pathlib import Path

import pytest

LONG_WORK = """
from labkit.edge import progress
progress.WAIT_SECONDS, progress.LOOK_SECONDS = 0.0, 0.001
import labkit
from labkit.research.planted_markets import make_planted_market
market = make_planted_market("momentum", 5, days=40, symbols=2, b=0.05)
labkit.backtest(data=market{quiet})
labkit.sweep({{"cost_margin": [0.0, 0.25]}}, data=market, workers=0{quiet})
"""

SHORT_WORK = """
import itertools, threading
from labkit.edge import progress
progress.LOOK_SECONDS = 0.001
looks, looked_at = itertools.count(), threading.Event()
def done():
    if next(looks) == 20: looked_at.set()
    return 0.0
with progress.followed(done, "work", "day", 3.0): looked_at.wait()
"""


def on_a_terminal(code: str, folder: Path) -> str:
    """What Python shows on the terminal while it runs `code`."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (25, 100))
    environment = os.environ | {"LABKIT_DATA_DIR": str(folder)}
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs, stdout=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65_536):
                shown += part
        except OSError:
            pass  # Linux ends a terminal whose other side is gone with an error.
        finally:
            os.close(ours)
        assert process.wait(60) == 0, shown.decode()
    return shown.decode()


def test_a_person_at_a_terminal_sees_how_far_it_is(tmp_path: Path) -> None:
    shown = on_a_terminal(LONG_WORK.format(quiet=""), tmp_path)
    assert "living through history" in shown
    assert "/40 [" in shown
    assert "sweep" in shown
    assert "/2 [" in shown


def test_work_that_is_done_at_once_leaves_no_bar_behind(tmp_path: Path) -> None:
    assert on_a_terminal(SHORT_WORK, tmp_path) == ""


def test_whoever_asks_for_none_sees_none(tmp_path: Path) -> None:
    assert on_a_terminal(LONG_WORK.format(quiet=", progress=False"), tmp_path) == ""


def test_a_log_gets_none(tmp_path: Path) -> None:
    environment = os.environ | {"LABKIT_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-c", LONG_WORK.format(quiet="")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stderr + done.stdout == ""


@pytest.mark.filterwarnings("ignore")
def test_the_cell_of_a_notebook_shows_them() -> None:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    said: list[dict[str, str]] = []
    code = "with progress.progress_bar('work', 'day', 3) as bar: bar.update(2)"
    try:
        client.execute_interactive("from labkit.edge import progress; progress.WAIT_SECONDS = 0", timeout=60)
        client.execute_interactive(code, output_hook=lambda message: said.append(message["content"]), timeout=60)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    told = [content for content in said if "name" in content]
    assert "work" in "".join(content["text"] for content in told)
    assert {content["name"] for content in told} == {"stdout"}, "a notebook lays red under the other one"
