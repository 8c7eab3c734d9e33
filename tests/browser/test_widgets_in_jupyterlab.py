"""The widgets in a real browser, on a lab that is only a seeded random walk."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

SEEDED_LAB = Path(__file__).resolve().parents[1] / "widgets" / "seeded_lab.py"
OPEN_THE_LAB = f"""
import runpy, time
from labkit.edge.clocks import SystemClock
from labkit.widgets.live_monitor import LiveMonitor
from labkit.widgets.position_inspector import PositionInspector
lab = runpy.run_path({str(SEEDED_LAB)!r})["SeededLab"](1, SystemClock(speed=30, start_ms=1_767_571_200_000))
"""
BLOCK = "time.sleep({seconds}); print('awake')"

# Counts how often the text of a cell changes, in the page, so that nothing is missed between two looks.
COUNT_CHANGES = """selector => {
    const node = document.querySelector(selector);
    window.labkitChanges = 0;
    new MutationObserver(() => { window.labkitChanges += 1; })
        .observe(node, { characterData: true, childList: true, subtree: true });
}"""


@pytest.fixture(scope="module")
def notebook(open_notebook: Callable[[str], Any], new_notebook: Callable[..., str]) -> Any:
    name = new_notebook(
        "widgets_on_a_random_walk.ipynb",
        OPEN_THE_LAB,
        "monitor = LiveMonitor(lab); monitor",
        "table = PositionInspector(lab); table",
        BLOCK.format(seconds=10),
        BLOCK.format(seconds=6),
        "lab.state = 'failed'",
        "lab.state = 'running'",
        "for _ in range(10): LiveMonitor(lab).close(); time.sleep(0.05)",
    )
    opened = open_notebook(name)
    for index in range(3):
        opened.run_cell(index)
    opened.page.wait_for_selector(".labkit-monitor tr[data-symbol=BTCUSDT]")
    opened.page.wait_for_selector(".labkit-positions tr[data-position=BTCUSDT]")
    return opened


def is_inside(inner: dict[str, float], outer: dict[str, float]) -> bool:
    return outer["x"] <= inner["x"] and inner["x"] + inner["width"] <= outer["x"] + outer["width"]


def test_the_page_imports_the_code_of_a_widget_once_however_often_it_is_opened(notebook: Any) -> None:
    notebook.run_cell(7)
    assert notebook.page.evaluate("() => globalThis.labkitWidgets.size") == 2


def test_prices_go_on_changing_while_a_cell_sleeps(notebook: Any) -> None:
    notebook.page.evaluate(COUNT_CHANGES, ".labkit-monitor tr[data-symbol=BTCUSDT] [data-cell=bid]")
    notebook.start_cell(3)
    notebook.page.wait_for_timeout(8_000)
    assert notebook.is_running(3)
    assert notebook.page.evaluate("() => window.labkitChanges") >= 10


def test_the_monitor_is_not_called_stale_while_a_cell_sleeps(notebook: Any) -> None:
    notebook.wait_for_cell(3)
    notebook.start_cell(4)
    notebook.page.wait_for_timeout(4_000)
    assert notebook.is_running(4)
    assert not notebook.page.locator(".labkit-stale:visible").count()


CELLS = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
IS_SAVED = "() => !window.jupyterapp.shell.currentWidget.context.model.dirty"


def test_a_plain_key_pressed_at_a_button_does_nothing_to_the_cells(notebook: Any) -> None:
    page = notebook.page
    cells = page.evaluate(CELLS)
    page.locator(".labkit-positions .labkit-choose").first.focus()
    page.keyboard.press("b")
    assert page.evaluate(CELLS) == cells
    # The control: at a cell the same key adds one.
    notebook.execute("notebook:enter-command-mode")
    page.locator(".jp-Notebook .jp-Cell").last.focus()
    page.keyboard.press("b")
    assert page.evaluate(CELLS) == cells + 1
    page.keyboard.press("d")
    page.keyboard.press("d")
    assert page.evaluate(CELLS) == cells


def test_jupyterlabs_own_shortcuts_work_with_a_button_in_focus(notebook: Any) -> None:
    page = notebook.page
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.context.model.dirty = true; }")
    page.locator(".labkit-positions .labkit-choose").first.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Control+s")
    page.wait_for_function(IS_SAVED)


@pytest.mark.parametrize(("theme", "width"), [("Light", 1380), ("Dark", 1380), ("Light", 760), ("Dark", 760)])
def test_the_widgets_fit_the_page_and_keep_their_buttons_in_reach(notebook: Any, theme: str, width: int) -> None:
    notebook.page.set_viewport_size({"width": width, "height": 1000})
    notebook.execute("apputils:change-theme", {"theme": f"JupyterLab {theme}"})
    notebook.page.wait_for_timeout(1_500)
    notebook.photograph(f"monitor-{theme.lower()}-{width}", ".labkit-monitor")
    notebook.photograph(f"positions-{theme.lower()}-{width}", ".labkit-positions")
    for button in notebook.page.locator(".labkit-actions button").all():
        assert is_inside(button.bounding_box(), notebook.page.locator(".labkit-positions").bounding_box())
    overflow = notebook.page.evaluate(
        "() => [...document.querySelectorAll('.labkit')].map(node => node.scrollWidth - node.clientWidth)"
    )
    assert overflow == [0, 0]


def test_a_refused_close_says_why_in_the_table(notebook: Any) -> None:
    button = notebook.page.locator(".labkit-positions tr[data-position=BNBUSDT] .labkit-actions button")
    button.click()
    button.click()
    notebook.page.wait_for_selector(".labkit-message[data-tone=bad]")
    assert "the breaker lets nothing through" in notebook.page.locator(".labkit-message").inner_text()


def test_one_click_alone_closes_nothing(notebook: Any) -> None:
    button = notebook.page.locator(".labkit-positions tr[data-position=SOLUSDT] .labkit-actions button")
    button.click()
    notebook.page.wait_for_timeout(3_500)
    assert button.inner_text() == "Close"


def test_two_key_presses_close_the_position_even_while_a_cell_sleeps(notebook: Any) -> None:
    notebook.start_cell(3)
    notebook.page.wait_for_timeout(1_000)
    button = notebook.page.locator(".labkit-positions tr[data-position=SOLUSDT] .labkit-actions button")
    button.focus()
    notebook.page.keyboard.press("Enter")
    notebook.page.keyboard.press("Enter")
    notebook.page.wait_for_selector(".labkit-positions tr[data-position=SOLUSDT]", state="detached")
    assert notebook.is_running(3)


def test_entries_are_paused_by_one_button(notebook: Any) -> None:
    notebook.page.get_by_role("button", name="Pause new entries").click()
    notebook.page.wait_for_selector(".labkit-paused:visible")


def test_a_lab_that_failed_says_why_on_the_panel(notebook: Any) -> None:
    assert not notebook.page.locator(".labkit-monitor .labkit-failure:visible").count()
    notebook.run_cell(5)
    notebook.page.wait_for_selector(".labkit-monitor .labkit-failure:visible")
    assert notebook.page.locator(".labkit-monitor .labkit-failure").inner_text() == "everything is well"
    notebook.run_cell(6)
    notebook.page.wait_for_selector(".labkit-monitor .labkit-failure", state="hidden")


def test_a_dead_kernel_is_called_stale_within_three_seconds(notebook: Any) -> None:
    # Judged by the page's own clock, at the moment the badge appears: this machine may be busy with other tests.
    notebook.page.evaluate(
        """() => {
            const badge = document.querySelector('.labkit-monitor .labkit-stale');
            new MutationObserver(() => {
                if (!badge.hidden && badge.textContent) window.firstStale ??= badge.textContent;
            }).observe(badge, { attributes: true, childList: true, characterData: true, subtree: true });
        }"""
    )
    notebook.kill_the_kernel()
    first = notebook.page.wait_for_function("window.firstStale").json_value()
    assert float(re.search(r"no news for ([\d.]+) s", first).group(1)) <= 3.0  # type: ignore[union-attr]
    notebook.page.get_by_role("button", name="Ok").click()
    notebook.page.set_viewport_size({"width": 1380, "height": 1000})
    notebook.photograph("monitor-stale", ".labkit-monitor")
