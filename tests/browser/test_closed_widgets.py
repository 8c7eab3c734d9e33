"""What a closed widget leaves on the page: JupyterLab keeps the model of every comm there was, so it must be empty."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.deep]

SEEDED_LAB = Path(__file__).resolve().parents[1] / "widgets" / "seeded_lab.py"
NAME = "a_monitor_is_closed.ipynb"
SHOW = f"""
import runpy
from labkit.edge.clocks import SystemClock
from labkit.widgets.live_monitor import LiveMonitor
SeededLab = runpy.run_path({str(SEEDED_LAB)!r})["SeededLab"]
monitor = LiveMonitor(SeededLab(1, SystemClock(speed=30, start_ms=1_767_571_200_000), symbols=400))
monitor
"""
SHOWN = {f"COIN{number:03}USDT" for number in range(394)}


def texts_kept_by(page: Any) -> set[str]:
    """Every text the page's JavaScript holds once its garbage is collected."""
    session = page.context.new_cdp_session(page)
    chunks: list[str] = []
    session.on("HeapProfiler.addHeapSnapshotChunk", lambda told: chunks.append(told["chunk"]))
    session.send("HeapProfiler.collectGarbage")
    session.send("HeapProfiler.takeHeapSnapshot", {"reportProgress": False})
    page.wait_for_timeout(100)
    session.detach()
    return set(json.loads("".join(chunks))["strings"])


def test_of_what_a_monitor_showed_the_page_keeps_nothing_once_it_is_closed(
    open_notebook: Callable[[str], Any], new_notebook: Callable[..., str]
) -> None:
    notebook = open_notebook(new_notebook(NAME, SHOW, "monitor.close()"))
    notebook.run_cell(0)
    # A handle of an element, as wait_for_selector gives one, would keep the element and all that it knows.
    notebook.page.locator(".labkit-symbols tr[data-symbol]").first.wait_for()
    assert texts_kept_by(notebook.page) >= SHOWN
    notebook.run_cell(1)
    notebook.page.locator(".labkit-monitor").wait_for(state="detached")
    assert not texts_kept_by(notebook.page) & SHOWN
