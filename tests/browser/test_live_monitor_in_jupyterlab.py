"""The live monitor with 400 symbols in a real browser: sorted, filtered, scrolled, reloaded, and in two browsers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

SEEDED_LAB = Path(__file__).resolve().parents[1] / "widgets" / "seeded_lab.py"
NAME = "monitor_of_400_symbols.ipynb"
OPEN_THE_LAB = f"""
import runpy, time
from labkit.edge.clocks import SystemClock
from labkit.widgets.live_monitor import LiveMonitor
lab = runpy.run_path({str(SEEDED_LAB)!r})["SeededLab"](
    1, SystemClock(speed=30, start_ms=1_767_571_200_000), symbols=400
)
"""
ROWS = ".labkit-symbols tr[data-symbol]"
SHOWN = "() => [...document.querySelectorAll('.labkit-symbols tr[data-symbol]')].map(row => row.dataset.symbol)"
OVERFLOW = """() => [...document.querySelectorAll('.labkit-monitor, .labkit-box')]
    .map(node => node.scrollWidth - node.clientWidth)"""


@pytest.fixture(scope="module")
def notebook(open_notebook: Callable[[str], Any], new_notebook: Callable[..., str]) -> Any:
    new_notebook(NAME, OPEN_THE_LAB, "monitor = LiveMonitor(lab); monitor", "time.sleep(6); print('awake')")
    opened = open_notebook(NAME)
    opened.run_cell(0)
    opened.run_cell(1)
    opened.page.wait_for_selector(ROWS)
    return opened


@pytest.fixture
def page(notebook: Any) -> Any:
    """The page with the table as it opens."""
    page = notebook.page
    yield page
    page.set_viewport_size({"width": 1380, "height": 1000})
    page.fill(".labkit-filter", "")
    for button in page.locator(".labkit-tools button[aria-pressed=true]").all():
        button.click()
    while page.locator("[aria-sort=ascending], [aria-sort=descending]").count():
        page.locator("[aria-sort=ascending] button, [aria-sort=descending] button").first.click()
    page.evaluate("() => { document.querySelector('.labkit-box').scrollTop = 0; }")


def settle(page: Any) -> list[str]:
    """The symbols of the rows in the page, once two frames have been painted."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    shown: list[str] = page.evaluate(SHOWN)
    return shown


def numbers(page: Any, cell: str) -> list[float]:
    texts = page.locator(f"{ROWS} [data-cell={cell}]").all_inner_texts()
    return [float(text.replace(",", "").replace("−", "-").split()[0]) for text in texts]


def test_of_400_symbols_only_what_is_in_sight_is_in_the_page(page: Any) -> None:
    assert "400 symbols" in page.locator(".labkit-tools").inner_text()
    assert 16 <= len(settle(page)) <= 26


@pytest.mark.parametrize("width", [1380, 1240, 760])
def test_scrolling_to_the_end_shows_the_last_symbol(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    page.wait_for_timeout(500)
    page.evaluate("() => { const box = document.querySelector('.labkit-box'); box.scrollTop = box.scrollHeight; }")
    assert settle(page)[-1] == "COIN393USDT"
    assert page.locator(ROWS).last.get_attribute("aria-rowindex") == "401"


def test_a_click_on_a_head_sorts_by_it_a_second_turns_it_a_third_undoes_it(page: Any) -> None:
    head = page.get_by_role("button", name="Bid", exact=True)
    head.click()
    assert settle(page)[:4] == ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"]
    head.click()
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Bid")
    assert settle(page)[0] == "DOGEUSDT"
    head.click()
    assert settle(page)[:2] == ["BTCUSDT", "ETHUSDT"]
    assert page.locator("th[aria-sort=none]").count() == 10


def test_the_table_is_sorted_by_the_keyboard_alone(page: Any) -> None:
    page.get_by_role("button", name="Symbol", exact=True).focus()
    page.keyboard.press("Enter")
    assert settle(page)[0] == "BNBUSDT"
    page.keyboard.press("Enter")
    assert settle(page)[0] == "XRPUSDT"


def test_the_keys_that_scroll_stay_in_the_table(page: Any) -> None:
    before = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex")
    page.locator(".labkit-box").focus()
    page.keyboard.press("End")
    page.wait_for_selector("tr[data-symbol=COIN393USDT]")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex") == before


def test_typing_filters_and_says_how_many_are_left(page: Any) -> None:
    page.fill(".labkit-filter", "coin1")
    assert set(settle(page)) <= {f"COIN{number}USDT" for number in range(100, 200)}
    assert "100 of 400 symbols" in page.locator(".labkit-tools").inner_text()
    page.fill(".labkit-filter", "no such")
    assert settle(page) == []
    assert "No symbol is like that" in page.locator(".labkit-monitor").inner_text()


def test_only_held_and_only_stale_symbols_are_shown_on_demand(page: Any) -> None:
    held = page.get_by_role("button", name="Only held")
    held.click()
    assert settle(page) == ["BTCUSDT", "SOLUSDT", "BNBUSDT"]
    held.click()
    page.get_by_role("button", name="Only stale").click()
    assert settle(page) == ["XRPUSDT"]


def test_sorting_answers_while_a_cell_sleeps(notebook: Any, page: Any) -> None:
    notebook.start_cell(2)
    page.wait_for_timeout(500)
    page.get_by_role("button", name="24 h").click()
    changes = settle(page) and numbers(page, "change")
    assert notebook.is_running(2)
    assert changes == sorted(changes, reverse=True)
    notebook.wait_for_cell(2)


@pytest.mark.parametrize(("theme", "width"), [("Light", 1380), ("Dark", 1380), ("Light", 760), ("Dark", 760)])
def test_400_symbols_fit_the_page(notebook: Any, page: Any, theme: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    notebook.execute("apputils:change-theme", {"theme": f"JupyterLab {theme}"})
    page.wait_for_timeout(1_500)
    notebook.photograph(f"monitor-400-{theme.lower()}-{width}", ".labkit-monitor")
    assert page.evaluate(OVERFLOW) == [0, 0]


CUT = """() => [...document.querySelectorAll(".labkit-symbols th, .labkit-symbols td")]
    .filter(cell => cell.offsetWidth && cell.scrollWidth > cell.clientWidth).map(cell => cell.textContent)"""


def test_beside_the_file_browser_of_an_ordinary_screen_all_columns_stand_uncut(notebook: Any, page: Any) -> None:
    page.set_viewport_size({"width": 1380, "height": 1000})
    page.wait_for_timeout(500)
    heads = page.locator(".labkit-symbols thead th")
    assert [head.is_visible() for head in heads.all()] == [True] * 11
    assert page.evaluate(CUT) == []


def rows_told_to_a_screen_reader(page: Any) -> dict[str, str]:
    """All text of each row of prices in the browser's accessibility tree, by symbol."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    by_id = {node["nodeId"]: node for node in nodes}

    def text(node: dict[str, Any]) -> list[str]:
        inner = [word for child in node.get("childIds", ()) for word in text(by_id[child])]
        return inner if inner or node.get("ignored") else [node["name"]["value"]]

    rows = [" ".join(text(node)) for node in nodes if node.get("role", {}).get("value") == "row"]
    return {row.split()[0]: row for row in rows}


@pytest.mark.parametrize("width", [1380, 1240, 1000, 760])
def test_every_figure_of_a_row_is_shown_and_told_to_a_screen_reader_however_narrow(
    notebook: Any, page: Any, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    page.wait_for_timeout(500)
    row = page.locator("tr[data-symbol=DOGEUSDT]")
    cells = row.locator("[data-cell], .labkit-liquidity")
    assert [cell.is_visible() for cell in cells.all()] == [True] * 9
    told = rows_told_to_a_screen_reader(page)["DOGEUSDT"]
    assert [text in told for text in ("0.32", "liquidity 40 %", "+0.50 %", "−0.0042 %", " h ")] == [True] * 5
    assert page.evaluate(CUT) == []
    assert page.evaluate(OVERFLOW) == [0, 0]
    notebook.photograph(f"monitor-figures-{width}", ".labkit-monitor")


def test_a_second_browser_shows_the_same_run(notebook: Any, open_notebook: Callable[[str], Any]) -> None:
    notebook.execute("docmanager:save")
    notebook.page.wait_for_timeout(1_500)
    second = open_notebook(NAME).page
    second.wait_for_selector(ROWS)
    second.wait_for_selector(".labkit-state:visible")
    clock = ".labkit-monitor .labkit-time"
    first_time, second_time = (each.locator(clock).inner_text() for each in (notebook.page, second))
    hours, minutes = (
        abs(int(a) - int(b)) for a, b in zip(first_time.split(":")[:2], second_time.split(":"), strict=False)
    )
    assert (hours, minutes) <= (0, 1)
    second.fill(".labkit-filter", "BTC")
    assert settle(second) == ["BTCUSDT"]
    assert len(settle(notebook.page)) > 10


def test_a_reloaded_page_finds_the_monitor_alive(notebook: Any, page: Any) -> None:
    notebook.reload()
    page.wait_for_selector(ROWS)
    page.wait_for_selector(".labkit-state:visible")
    before = page.locator("tr[data-symbol=BTCUSDT] [data-cell=bid]").inner_text()
    page.wait_for_function(
        "before => document.querySelector('tr[data-symbol=BTCUSDT] [data-cell=bid]').textContent !== before",
        arg=before,
    )
