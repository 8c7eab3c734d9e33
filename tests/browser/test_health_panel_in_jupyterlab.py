"""The health panel on a real lab: what one does on the page happens in the lab, and shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.browser

START = """
import labkit
lab = labkit.start(data_dir={folder!r}, speed=60, symbols=["BTCUSDT", "ETHUSDT"], paper={{"history_days": 1}},
                   trader={{"warm_up_minutes": 600}})
print(lab.wait_for("running"))
"""


@pytest.fixture(scope="module")
def notebook(
    open_notebook: Callable[[str], Any], new_notebook: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    folder = str(tmp_path_factory.mktemp("health") / "data")
    name = new_notebook(
        "health_and_weather.ipynb",
        START.format(folder=folder),
        "lab.health()",
        "print(lab.weather)",
        "print(lab.snapshot().entries_paused, len(lab.snapshot().positions))",
        "lab.stop()",
    )
    opened = open_notebook(name)
    opened.run_cell(0)
    opened.run_cell(1)
    opened.page.wait_for_selector(".labkit-health [data-rung=NORMAL][data-here=yes]")
    return opened


def test_weather_chosen_on_the_page_is_the_weather_of_the_exchange_and_strikes(notebook: Any) -> None:
    notebook.page.locator(".labkit-health [data-weather=storm]").click()
    notebook.page.wait_for_selector(".labkit-health [data-weather=storm][aria-pressed=true]")
    notebook.page.wait_for_selector(".labkit-health [data-strike]", timeout=20_000)
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


def test_fair_weather_comes_back_by_a_button(notebook: Any) -> None:
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


def test_two_clicks_flatten_and_pause(notebook: Any) -> None:
    button = notebook.page.locator(".labkit-red")
    button.click()
    button.click()
    notebook.page.wait_for_selector(".labkit-health .labkit-paused:visible")
    notebook.run_cell(3)
    assert notebook.output_text(3).strip() == "flattened by hand in the health panel 0"


def test_entries_are_allowed_again_by_a_button(notebook: Any) -> None:
    notebook.page.locator(".labkit-health").get_by_role("button", name="Allow new entries").click()
    notebook.page.wait_for_selector(".labkit-health .labkit-paused", state="hidden")
    notebook.run_cell(4)
