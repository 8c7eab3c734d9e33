"""A real lab of 400 symbols at the pace of life: each one priced on the page, sorted and filtered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.deep]

SYMBOLS = [f"SIM{number:03}USDT" for number in range(1, 401)]
START = f"""
import time, labkit
lab = labkit.start(data_dir={{folder!r}}, symbols={SYMBOLS}, speed=1, paper={{{{"history_days": 1}}}},
                   trader={{{{"warm_up_minutes": 60}}}})
"""
WAIT = """
while sum(row.bid_price is not None and not row.stale_because for row in lab.snapshot().symbols) < 400:
    time.sleep(0.5)
"""
ROWS = ".labkit-symbols tr[data-symbol]"
LOOK = f"""() => [...document.querySelectorAll({ROWS!r})].map(row => [row.dataset.symbol, ...["bid", "ask"].map(
    cell => row.querySelector(`[data-cell=${{cell}}]`).textContent)])"""
PRICED = f"() => {{ const rows = ({LOOK})(); return rows.length && rows.every(row => !row.includes('–')); }}"
SCROLL = """async top => {
    const box = document.querySelector(".labkit-box");
    box.scrollTop = top;
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    return box.scrollTop + box.clientHeight >= box.scrollHeight - 1;
}"""


@pytest.fixture(scope="module")
def notebook(
    open_notebook: Callable[[str], Any], new_notebook: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    start = START.format(folder=str(tmp_path_factory.mktemp("400") / "data"))
    opened = open_notebook(new_notebook("lab_of_400_symbols.ipynb", start, "lab.monitor()", WAIT, "lab.stop()"))
    for index in range(3):
        opened.run_cell(index)
    opened.page.wait_for_function(PRICED)
    yield opened
    opened.run_cell(3)


def all_rows(page: Any) -> dict[str, tuple[str, str]]:
    """Bid and ask of every row of the table, read while it is scrolled from the first to the last."""
    seen: dict[str, tuple[str, str]] = {}
    top, is_end = 0, False
    while not is_end:
        is_end = page.evaluate(SCROLL, top)
        seen |= {symbol: (bid, ask) for symbol, bid, ask in page.evaluate(LOOK)}
        top += 400
    page.evaluate(SCROLL, 0)
    return seen


def test_each_of_400_symbols_is_priced(notebook: Any) -> None:
    rows = all_rows(notebook.page)
    assert sorted(rows) == SYMBOLS
    assert all(0 < float(bid.replace(",", "")) < float(ask.replace(",", "")) for bid, ask in rows.values())


def test_none_of_them_is_stale(notebook: Any) -> None:
    only_stale = notebook.page.get_by_role("button", name="Only stale")
    only_stale.click()
    notebook.page.locator(".labkit-tools", has_text="0 of 400 symbols").wait_for()
    only_stale.click()


def test_they_are_sorted_by_price_and_filtered_by_name(notebook: Any) -> None:
    page = notebook.page
    head = page.get_by_role("button", name="Ask", exact=True)
    head.click()
    page.evaluate(SCROLL, 0)
    asks = [float(ask.replace(",", "")) for _, _, ask in page.evaluate(LOOK)]
    assert len(asks) >= 16
    assert asks[0] > asks[-1]
    page.fill(".labkit-filter", "sim12")
    page.evaluate(SCROLL, 0)
    assert sorted(symbol for symbol, _, _ in page.evaluate(LOOK)) == SYMBOLS[119:129]
    page.fill(".labkit-filter", "")
    head.click()
    head.click()


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_what_is_shown_of_them_fits_the_page(notebook: Any, theme: str) -> None:
    notebook.execute("apputils:change-theme", {"theme": f"JupyterLab {theme}"})
    notebook.page.wait_for_timeout(1_500)
    notebook.photograph(f"lab-of-400-{theme.lower()}", ".labkit-monitor")
    cut = """() => [...document.querySelectorAll(".labkit-symbols tbody :is(th, td)")]
        .filter(cell => cell.offsetWidth && cell.scrollWidth > cell.clientWidth).map(cell => cell.textContent)"""
    assert notebook.page.evaluate(cut) == []
