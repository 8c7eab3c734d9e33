"""The health panel on a real lab: what one does on the page happens in the lab, and shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit.domain import events as ev
from labkit.engine.ledger import Ledger

pytestmark = pytest.mark.browser

NOTEBOOK = "health_and_weather.ipynb"
SILENT = ".labkit-health .labkit-message:has-text('has not answered yet')"

START = """
import time, labkit
lab = labkit.start(data_dir={folder!r}, speed=60, symbols=["BTCUSDT", "ETHUSDT"], paper={{"history_days": 1}},
                   trader={{"warm_up_minutes": 600}})
print(lab.wait_for("running"))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("health") / "data"


@pytest.fixture(scope="module")
def notebook(open_notebook: Callable[[str], Any], new_notebook: Callable[..., str], folder: Path) -> Any:
    name = new_notebook(
        NOTEBOOK,
        START.format(folder=str(folder)),
        "lab.health()",
        "print(lab.weather)",
        "print(lab.snapshot().entries_paused, len(lab.snapshot().positions))",
        "lab.stop()",
        "until = time.monotonic() + 5\nwhile time.monotonic() < until: pass",
    )
    opened = open_notebook(name)
    opened.run_cell(0)
    opened.run_cell(1)
    opened.page.wait_for_selector(".labkit-health [data-rung=NORMAL][data-here=yes]")
    return opened


@pytest.fixture(scope="module")
def second(notebook: Any, open_notebook: Callable[[str], Any]) -> Any:
    """The same notebook, and so the same panel, on another page."""
    notebook.execute("docmanager:save")
    notebook.page.wait_for_timeout(1_000)
    opened = open_notebook(NOTEBOOK)
    opened.page.wait_for_selector(".labkit-health [data-weather=storm]")
    return opened


def wait_for_weather(notebook: Any, name: str, *, here: bool) -> None:
    notebook.page.wait_for_selector(f".labkit-health [data-weather={name}][aria-pressed={str(here).lower()}]")


def pauses(folder: Path) -> list[bool]:
    """Every stop (True) and resumption (False) of new entries in the ledger."""
    ledger = Ledger.open(folder, read_only=True)
    try:
        return [entry.event.paused for entry in ledger.entries() if isinstance(entry.event, ev.EntriesPaused)]
    finally:
        ledger.close()


def test_weather_chosen_on_the_page_is_the_weather_of_the_exchange_and_strikes(notebook: Any) -> None:
    notebook.page.locator(".labkit-health [data-weather=storm]").click()
    notebook.page.wait_for_selector(".labkit-health [data-weather=storm][aria-pressed=true]")
    notebook.page.wait_for_selector(".labkit-health [data-strike]")
    notebook.run_cell(2)
    assert notebook.output_text(2).startswith("Weather(storm")


@pytest.mark.parametrize(("theme", "width"), [("Light", 1380), ("Dark", 1380), ("Light", 760)])
def test_the_panel_fits_the_page(notebook: Any, theme: str, width: int) -> None:
    notebook.page.set_viewport_size({"width": width, "height": 1100})
    notebook.execute("apputils:change-theme", {"theme": f"JupyterLab {theme}"})
    notebook.page.wait_for_timeout(1_500)
    notebook.photograph(f"health-{theme.lower()}-{width}", ".labkit-health")
    overflow = notebook.page.evaluate(
        "() => { const node = document.querySelector('.labkit-health'); return node.scrollWidth - node.clientWidth; }"
    )
    assert overflow == 0


def test_tab_leads_through_every_button_which_has_a_name_and_shows_that_it_is_in_focus(notebook: Any) -> None:
    names = notebook.names_of_controls(".labkit-health")
    assert all(names)
    assert notebook.walk_by_tab(".labkit-health") == [[name, True] for name in names]


@pytest.mark.deep
def test_weather_begun_on_one_page_shows_on_the_other_which_can_end_it(notebook: Any, second: Any) -> None:
    notebook.page.locator(".labkit-health [data-weather=storm]").click()
    wait_for_weather(second, "storm", here=True)
    notebook.page.locator(".labkit-health [data-weather=drizzle]").click()
    wait_for_weather(second, "drizzle", here=True)
    second.page.locator(".labkit-health [data-weather=storm]").click()
    wait_for_weather(notebook, "storm", here=True)


@pytest.mark.deep
def test_a_reloaded_page_shows_figures_that_move_and_its_buttons_work(notebook: Any, second: Any) -> None:
    second.reload()
    second.page.wait_for_selector(".labkit-health [data-weather=storm][aria-pressed=true]")
    second.page.wait_for_selector(".labkit-health .labkit-stale", state="hidden")
    clock = second.page.locator(".labkit-health .labkit-time").inner_text()
    second.page.wait_for_function(
        "was => document.querySelector('.labkit-health .labkit-time').textContent !== was", arg=clock
    )
    second.page.locator(".labkit-health [data-weather=drizzle]").click()
    wait_for_weather(notebook, "drizzle", here=True)


def test_fair_weather_comes_back_by_a_button(notebook: Any) -> None:
    notebook.page.locator(".labkit-health [data-weather=storm]").click()
    wait_for_weather(notebook, "storm", here=True)
    notebook.page.get_by_role("button", name="Fair weather").click()
    notebook.page.wait_for_selector(".labkit-health [data-weather=storm][aria-pressed=false]")
    notebook.run_cell(2)
    assert notebook.output_text(2).startswith("Weather(fair")


def test_nothing_was_executed_twice(notebook: Any) -> None:
    assert notebook.page.locator(".labkit-health [data-figure=twice] .labkit-figure-text").inner_text() == "0"


def test_one_click_on_the_red_button_does_nothing(notebook: Any) -> None:
    notebook.page.locator(".labkit-red").click()
    notebook.page.wait_for_timeout(3_500)
    notebook.run_cell(3)
    assert notebook.output_text(3).startswith(" ")


def test_two_clicks_flatten_and_pause_once_even_if_the_kernel_is_held_up_which_is_said(
    notebook: Any, folder: Path
) -> None:
    button = notebook.page.locator(".labkit-red")
    with notebook.kernel_held_up():
        button.click()
        button.click()
        notebook.page.wait_for_selector(SILENT)
        notebook.page.wait_for_selector(".labkit-health .labkit-stale:visible")
    notebook.page.wait_for_selector(".labkit-health .labkit-paused:visible")
    notebook.page.wait_for_selector(SILENT, state="detached")
    notebook.run_cell(3)
    assert notebook.output_text(3).strip() == "flattened by hand in the health panel 0"
    assert pauses(folder) == [True]


def test_entries_are_allowed_again_by_a_button_while_a_cell_computes(notebook: Any, folder: Path) -> None:
    notebook.start_cell(5)
    notebook.page.wait_for_timeout(500)
    notebook.page.locator(".labkit-health").get_by_role("button", name="Allow new entries").click()
    notebook.page.wait_for_selector(".labkit-health .labkit-paused", state="hidden")
    assert notebook.is_running(5)
    notebook.wait_for_cell(5)
    assert pauses(folder) == [True, False]


def test_the_panel_of_a_stopped_lab_shows_the_score_it_ended_with(notebook: Any) -> None:
    strikes = notebook.page.locator(".labkit-health [data-figure=strikes] .labkit-figure-text")
    struck = int(strikes.inner_text().replace(",", ""))
    notebook.run_cell(4)
    notebook.page.wait_for_selector(".labkit-health .labkit-state:has-text('stopped')")
    assert int(strikes.inner_text().replace(",", "")) == struck > 0
