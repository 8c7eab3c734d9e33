"""The position inspector on a real lab: what is done on the page is in the ledger, as if a cell had asked for it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from labkit.domain import events as ev
from labkit.domain.symbol_rules import round_to_tick
from labkit.engine.ledger import Ledger
from labkit.paper.listings import LISTED_RULES

pytestmark = [pytest.mark.browser, pytest.mark.deep]

START = """
import time, labkit
lab = labkit.start(data_dir={folder!r}, speed=20, symbols=["BTCUSDT", "ETHUSDT", "SOLUSDT"],
                   paper={{"history_days": 4, "planted_edge": 0.8}}, trader={{
                       "warm_up_minutes": 600, "cold_start_labels": 100, "decision_every_minutes": 2,
                       "horizon_minutes": 240, "barrier_sigmas": 2.0, "trailing_start_fraction": 1.0}})
lab.wait_for("position_opened")
while len(lab.snapshot().positions) < 2:
    time.sleep(0.1)
symbol = lab.snapshot().positions[-1].symbol
lab.pause_entries("the test holds what there is")
print(symbol)
"""
ROW = "row = lab.position(symbol).row; print(symbol, row.stop_price, row.target_price, row.quantity)"
NOTEBOOK = "position_inspector.ipynb"
CHOSEN = ".labkit-positions .labkit-detail:visible"


class Inspected:
    """One notebook with the inspector on its page, and the ledger behind it."""

    def __init__(self, notebook: Any, folder: Path) -> None:
        self.notebook, self.page, self.folder = notebook, notebook.page, folder
        self.symbol = notebook.output_text(0).split()[0]

    def row(self) -> tuple[Decimal, Decimal, Decimal]:
        """Stop, target and quantity as a cell is told them."""
        self.notebook.run_cell(2)
        _, stop, target, quantity = self.notebook.output_text(2).split()
        return Decimal(stop), Decimal(target), Decimal(quantity)

    def further(self) -> Decimal:
        """A price on the ticks, somewhat further from the market than the stop."""
        stop, target, _ = self.row()
        return round_to_tick(stop - (target - stop) / 50, LISTED_RULES[self.symbol].tick_size)

    def ledger(self, kind: type[Any]) -> list[Any]:
        ledger = Ledger.open(self.folder, read_only=True)
        try:
            return [entry.event for entry in ledger.entries() if isinstance(entry.event, kind)]
        finally:
            ledger.close()

    def answered(self, words: str) -> None:
        self.page.wait_for_function(
            "words => document.querySelector('.labkit-answer').textContent.includes(words)", arg=words
        )

    def field(self, name: str) -> Any:
        return self.page.locator(f".labkit-field[data-exit={name}]")

    def handle(self, name: str) -> Any:
        return self.page.locator(f".labkit-chart-movable[data-level={name}]")

    def press_twice(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()
        self.page.locator(".labkit-close-row [data-phase=armed]").click()


@pytest.fixture(scope="module")
def inspected(
    open_notebook: Callable[[str], Any], new_notebook: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Inspected:
    folder = tmp_path_factory.mktemp("inspected") / "data"
    name = new_notebook(
        NOTEBOOK,
        START.format(folder=str(folder)),
        "lab.inspector()",
        ROW,
        "time.sleep(8)",
        "lab.stop()",
        "until = time.monotonic() + 8\nwhile time.monotonic() < until: pass",
    )
    notebook = open_notebook(name)
    notebook.run_cell(0)
    notebook.run_cell(1)
    found = Inspected(notebook, folder)
    found.page.wait_for_selector(f".labkit-positions tr[data-position={found.symbol}]")
    return found


def test_enter_on_a_row_opens_its_chart_and_its_receipt(inspected: Inspected) -> None:
    inspected.page.locator(f"tr[data-position={inspected.symbol}] .labkit-choose").focus()
    inspected.page.keyboard.press("Enter")
    inspected.page.wait_for_selector(CHOSEN)
    inspected.page.wait_for_selector(".labkit-chart-up[d^=M]", state="attached")
    assert inspected.page.locator(".labkit-contributions li").count() == 8
    assert "Went " in inspected.page.locator(".labkit-receipt").inner_text()


def test_arrow_keys_choose_the_row_above_and_come_back(inspected: Inspected) -> None:
    title = ".labkit-detail-title"
    inspected.page.locator(f"tr[data-position={inspected.symbol}] .labkit-choose").focus()
    inspected.page.keyboard.press("ArrowUp")
    inspected.page.wait_for_function(
        "own => !document.querySelector('.labkit-detail-title').textContent.startsWith(own)", arg=inspected.symbol
    )
    inspected.page.keyboard.press("ArrowDown")
    inspected.page.locator(title, has_text=inspected.symbol).wait_for()
    inspected.page.wait_for_selector(".labkit-chart-up[d^=M]", state="attached")


@pytest.mark.parametrize(("theme", "width"), [("Light", 1380), ("Dark", 1380), ("Light", 760), ("Dark", 760)])
def test_the_inspector_fits_the_page_and_keeps_exits_and_buttons_in_reach(
    inspected: Inspected, theme: str, width: int
) -> None:
    inspected.page.set_viewport_size({"width": width, "height": 1400})
    inspected.notebook.execute("apputils:change-theme", {"theme": f"JupyterLab {theme}"})
    inspected.page.wait_for_timeout(1_500)
    inspected.notebook.photograph(f"inspector-{theme.lower()}-{width}", ".labkit-positions")
    outside = inspected.page.evaluate(
        """() => {
            const root = document.querySelector('.labkit-positions');
            const edge = root.getBoundingClientRect().right;
            const needed = '.labkit-actions button, td.labkit-exits, td.labkit-pnl, .labkit-field, .labkit-chart';
            const nodes = [...root.querySelectorAll(needed)];
            const box = node => node.getBoundingClientRect();
            const cut = nodes.filter(node => !box(node).width || box(node).right > edge + 0.5);
            const covered = [...root.querySelectorAll('tr[data-position]')].filter(row =>
                box(row.querySelector('td.labkit-exits')).right > box(row.querySelector('.labkit-actions')).left + 0.5);
            const clipped = [...root.querySelectorAll('.labkit-contribution > span:first-child')].filter(node =>
                node.scrollWidth > node.clientWidth);
            const wide = root.scrollWidth - root.clientWidth;
            return [nodes.length > 5, cut.length, covered.length, clipped.map(node => node.textContent), wide];
        }"""
    )
    assert outside == [True, 0, 0, [], 0]


def test_a_stop_typed_into_its_field_is_in_the_ledger(inspected: Inspected) -> None:
    inspected.page.set_viewport_size({"width": 1380, "height": 1400})
    wanted = inspected.further()
    inspected.field("stop").fill(str(wanted))
    inspected.page.keyboard.press("Enter")
    inspected.answered("stop moved to")
    assert inspected.row()[0] == wanted
    assert inspected.ledger(ev.ExitsChanged)[-1].stop_price == wanted


def test_the_last_move_is_undone_by_a_button(inspected: Inspected) -> None:
    moved = inspected.row()[0]
    inspected.page.locator(".labkit-undo").click()
    inspected.answered("undone")
    assert inspected.row()[0] != moved
    assert inspected.ledger(ev.ExitsChanged)[-1].stop_price == inspected.row()[0]


def test_a_stop_on_the_wrong_side_is_refused_in_words_and_nothing_moves(inspected: Inspected) -> None:
    stop, target, _ = inspected.row()
    moves = len(inspected.ledger(ev.ExitsChanged))
    inspected.field("stop").fill(str(target))
    inspected.page.keyboard.press("Enter")
    inspected.answered("lies on the wrong side of")
    inspected.page.keyboard.press("Escape")
    assert inspected.field("stop").input_value() == str(stop)
    assert len(inspected.ledger(ev.ExitsChanged)) == moves


def test_a_stop_between_two_ticks_is_refused_with_the_nearest_on_them(inspected: Inspected) -> None:
    tick = LISTED_RULES[inspected.symbol].tick_size
    inspected.field("stop").fill(str(inspected.further() + tick / 2))
    inspected.page.keyboard.press("Enter")
    inspected.answered(f"a tick of {tick} apart")
    inspected.page.keyboard.press("Escape")


def test_the_line_of_the_stop_is_dragged_with_the_mouse(inspected: Inspected) -> None:
    stop, target, _ = inspected.row()
    box = inspected.handle("stop").bounding_box()
    away = 12 if target > stop else -12  # further from the market
    x, y = box["x"] + 30, box["y"] + box["height"] / 2
    inspected.page.mouse.move(x, y)
    inspected.page.mouse.down()
    inspected.page.mouse.move(x, y + away, steps=4)
    assert inspected.row()[0] == stop  # nothing is asked for before the line is let go
    inspected.page.mouse.up()
    inspected.answered("stop moved to")
    moved = inspected.row()[0]
    assert (moved - stop) * (target - stop) < 0
    assert inspected.ledger(ev.ExitsChanged)[-1].stop_price == moved


def test_the_line_of_the_target_is_moved_by_arrow_keys_and_enter(inspected: Inspected) -> None:
    _, target, _ = inspected.row()
    inspected.handle("target").focus()
    inspected.page.keyboard.press("Shift+ArrowUp")
    inspected.page.keyboard.press("Escape")
    assert inspected.row()[1] == target
    inspected.handle("target").focus()
    inspected.page.keyboard.press("Shift+ArrowUp")
    inspected.page.keyboard.press("Enter")
    inspected.answered("target moved to")
    assert inspected.row()[1] > target


def test_the_rehearsal_answers_for_the_percentage_that_is_set(inspected: Inspected) -> None:
    inspected.page.locator("[data-way=rises]").click()
    inspected.page.locator(".labkit-range").fill("30")
    inspected.page.wait_for_function(
        "() => document.querySelector('.labkit-percent').textContent === '+30 %'"
        " && document.querySelector('.labkit-rehearsal .labkit-figure-text').textContent !== ''"
    )
    assert "iquidated" in inspected.page.locator(".labkit-rehearsal").inner_text()


def test_tab_leads_through_every_control_which_has_a_name_and_shows_that_it_is_in_focus(inspected: Inspected) -> None:
    names = inspected.notebook.names_of_controls(".labkit-positions")
    assert all(names)
    seen = inspected.notebook.walk_by_tab(".labkit-positions")
    # The last one counts the virtual positions, which are more by now.
    assert seen[:-1] == [[name, True] for name in names[:-1]]
    assert "virtual positions" in seen[-1][0]
    assert seen[-1][1]


def test_a_stop_moved_while_the_kernel_is_held_up_is_moved_once_and_the_page_says_that_it_waits(
    inspected: Inspected,
) -> None:
    moves = len(inspected.ledger(ev.ExitsChanged))
    wanted = inspected.further()
    with inspected.notebook.kernel_held_up():
        inspected.field("stop").fill(str(wanted))
        inspected.page.keyboard.press("Enter")
        inspected.answered("has not answered yet")
        inspected.page.wait_for_selector(".labkit-positions .labkit-stale:visible")
    inspected.answered("stop moved to")
    assert inspected.row()[0] == wanted
    assert len(inspected.ledger(ev.ExitsChanged)) == moves + 1


def test_a_stop_is_moved_while_a_cell_computes(inspected: Inspected) -> None:
    wanted = inspected.further()
    inspected.notebook.start_cell(5)
    inspected.page.wait_for_timeout(500)
    inspected.field("stop").fill(str(wanted))
    inspected.page.keyboard.press("Enter")
    inspected.answered("stop moved to")
    assert inspected.notebook.is_running(5)
    inspected.notebook.wait_for_cell(5)


def test_a_choice_is_made_while_a_cell_sleeps(inspected: Inspected) -> None:
    inspected.notebook.start_cell(3)
    inspected.page.wait_for_timeout(500)
    inspected.page.get_by_role("button", name="Leave the detail").click()
    inspected.page.wait_for_selector(".labkit-positions .labkit-detail", state="hidden")
    inspected.page.locator(f"tr[data-position={inspected.symbol}] .labkit-choose").click()
    inspected.page.wait_for_selector(CHOSEN)
    assert inspected.notebook.is_running(3)
    inspected.notebook.wait_for_cell(3)


def test_a_second_browser_sees_the_same_position_and_what_it_does_shows_in_both(
    inspected: Inspected, open_notebook: Callable[[str], Any]
) -> None:
    inspected.notebook.execute("docmanager:save")
    inspected.page.wait_for_timeout(1_500)
    other = open_notebook(NOTEBOOK).page
    other.wait_for_selector(CHOSEN)
    stop, _, _ = inspected.row()
    moves = len(inspected.ledger(ev.ExitsChanged))
    wanted = str(inspected.further())
    other.locator(".labkit-field[data-exit=stop]").fill(wanted)
    other.keyboard.press("Enter")
    inspected.page.wait_for_function(
        "wanted => Number(document.querySelector('.labkit-field[data-exit=stop]').value) === Number(wanted)",
        arg=wanted,
    )
    assert inspected.row()[0] == Decimal(wanted)
    inspected.page.locator(".labkit-undo").click()
    other.wait_for_function(
        "stop => Number(document.querySelector('.labkit-field[data-exit=stop]').value) === Number(stop)",
        arg=str(stop),
    )
    other.close()
    assert [event.stop_price for event in inspected.ledger(ev.ExitsChanged)[moves:]] == [Decimal(wanted), stop]


def test_one_click_alone_closes_no_part(inspected: Inspected) -> None:
    button = inspected.page.get_by_role("button", name=f"Close 25 % of {inspected.symbol}", exact=True)
    button.click()
    inspected.page.wait_for_timeout(3_500)
    assert button.inner_text() == "25 %"
    assert inspected.ledger(ev.CloseRequested) == []


def test_half_of_it_is_closed_by_two_clicks(inspected: Inspected) -> None:
    quantity = inspected.row()[2]
    inspected.press_twice(f"Close 50 % of {inspected.symbol}")
    inspected.answered("closes 50 %")
    inspected.page.wait_for_function(
        "was => !document.querySelector('.labkit-detail-title').textContent.endsWith(' ' + was)",
        arg=f"{abs(quantity).normalize():f}",
    )
    left = inspected.row()[2]
    asked = inspected.ledger(ev.CloseRequested)[-1]
    assert asked.symbol == inspected.symbol
    assert abs(left) == abs(quantity) - asked.quantity
    assert abs(asked.quantity / abs(quantity) - Decimal("0.5")) < Decimal("0.05")


def test_the_detail_comes_back_after_a_reload_of_the_page(inspected: Inspected) -> None:
    inspected.notebook.execute("docmanager:save")
    inspected.page.wait_for_timeout(1_500)
    inspected.notebook.reload()
    inspected.page.wait_for_selector(CHOSEN)
    inspected.page.wait_for_selector(".labkit-chart-up[d^=M]", state="attached")


def test_all_of_it_is_closed_by_two_clicks_and_the_page_says_how_it_ended(inspected: Inspected) -> None:
    inspected.press_twice(f"Close 100 % of {inspected.symbol}")
    inspected.page.locator(".labkit-gone:visible", has_text="closed by hand").wait_for()
    asked = inspected.ledger(ev.CloseRequested)[-1]
    assert (asked.symbol, asked.quantity) == (inspected.symbol, None)
