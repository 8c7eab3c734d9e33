"""The first notebook as a newcomer lives it: JupyterLab, a real lab behind it, a real browser before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.browser.conftest import PATIENCE_SECONDS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

OWN_CELLS = {
    "busy": "import time; time.sleep(12)",
    # Else the trader may open the same position again, at this pace within a moment of its closing.
    "pause": "lab.pause_entries('the test looks at what is closed')",
    "reasons": "print([trade.exit_reason for trade in lab.snapshot().closed_trades])",
    "resume": "lab.resume_entries()",
}
COUNT_CHANGES = """() => {
    const node = document.querySelector('.labkit-monitor tr[data-symbol=BTCUSDT] [data-cell=bid]');
    window.labkitChanges = 0;
    new MutationObserver(() => { window.labkitChanges += 1; })
        .observe(node, { characterData: true, childList: true, subtree: true });
}"""


class StartHere:
    """The open notebook, its cells found by name."""

    def __init__(self, notebook: Any, cells: list[str]) -> None:
        self.notebook = notebook
        self.page = notebook.page
        self._cells = cells

    def number(self, name: str) -> int:
        return self._cells.index(name)

    def run(self, name: str, timeout_seconds: float = PATIENCE_SECONDS) -> str:
        """Run one cell to its end; its text output."""
        self.notebook.run_cell(self.number(name), timeout_seconds)
        text: str = self.notebook.output_text(self.number(name))
        return text


@pytest.fixture(scope="module")
def start_here(notebook_folder: Path, open_notebook: Callable[[str], Any]) -> StartHere:
    """The notebook with cells of the test's own at its end, the lab started and its monitor on the page."""
    path = notebook_folder / "00_start_here.ipynb"
    document = nbformat.read(path, as_version=4)
    for name, source in OWN_CELLS.items():
        cell = nbformat.v4.new_code_cell(source)
        cell["id"] = name
        document.cells.append(cell)
    nbformat.write(document, path)
    opened = StartHere(open_notebook("00_start_here.ipynb"), [cell["id"] for cell in document.cells])
    opened.run("start")
    opened.run("monitor")
    opened.run("prices")
    opened.page.wait_for_selector(".labkit-monitor tr[data-symbol=BTCUSDT]")
    return opened


def test_prices_change_ten_times_in_ten_seconds_while_a_cell_sleeps(start_here: StartHere) -> None:
    start_here.page.evaluate(COUNT_CHANGES)
    start_here.notebook.start_cell(start_here.number("busy"))
    start_here.page.wait_for_timeout(10_000)
    assert start_here.notebook.is_running(start_here.number("busy"))
    assert start_here.page.evaluate("() => window.labkitChanges") >= 10


def test_the_market_says_that_it_is_not_real(start_here: StartHere) -> None:
    disclosure = start_here.page.locator(".labkit-monitor .labkit-disclosure").inner_text()
    assert "not real" in disclosure or "imulated" in disclosure


def test_a_decision_is_shown_with_its_reason(start_here: StartHere) -> None:
    start_here.run("decisions")
    assert "Would flip it" in start_here.run("why")
    start_here.notebook.photograph("start-here-monitor", ".labkit-monitor")


STILL_ASKS = """symbol => /^(Close|Really)/.test(
    document.querySelector(`tr[data-position=${symbol}] button.labkit-button`)?.getAttribute("aria-label") ?? "")"""


def test_close_closes_the_position_and_the_ledger_knows_who_did_it(start_here: StartHere) -> None:
    start_here.run("opened", timeout_seconds=200)
    start_here.run("inspector")
    start_here.run("pause")
    row = start_here.page.locator(".labkit-positions tr[data-position]").last
    symbol = row.get_attribute("data-position")
    held = start_here.page.locator(f".labkit-positions tr[data-position={symbol}]")
    start_here.notebook.photograph("start-here-positions", ".labkit-positions")
    for _ in range(3):
        held.locator("button.labkit-button").click()
        held.locator("button.labkit-button").click()
        # A machine with much to do may need longer between the two than the button stays armed.
        if not start_here.page.evaluate(STILL_ASKS, symbol):
            break
    held.wait_for(state="detached")
    assert "user" in start_here.run("reasons")
    start_here.run("resume")


def test_the_rest_of_the_notebook_runs_to_a_sealed_ledger(start_here: StartHere) -> None:
    start_here.run("closed", timeout_seconds=200)
    assert "Report of" in start_here.run("report", timeout_seconds=200)
    start_here.notebook.photograph("start-here-page")
    start_here.run("stop")
    assert "stopped" in start_here.run("stopped")
