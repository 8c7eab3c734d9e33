"""The tuner on a real lab: a slider redraws the curves, and what its buttons say happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.deep]

START = """
import labkit
lab = labkit.start(data_dir={folder!r}, speed=60, symbols=["BTCUSDT", "ETHUSDT"], paper={{"history_days": 100}},
                   trader={{"warm_up_minutes": 600}})
print(lab.wait_for("running", timeout_seconds=400))
"""
SLIDER = "[data-setting=barrier_sigmas]"
RUNNING = ".labkit-tuner [data-part=running]"
SHOWS = "([selector, value]) => document.querySelector(selector).valueAsNumber === value"

# What a screen reader calls each control, in the order of the page; the one in focus, and whether one sees that it is.
NAME = "(node.getAttribute('aria-label') ?? node.labels?.[0]?.textContent ?? node.textContent)"
CONTROLS = f"""() => [...document.querySelectorAll('.labkit-tuner input, .labkit-tuner button')]
    .filter(node => node.checkVisibility({{ visibilityProperty: true }})).map(node => {NAME})"""
FOCUSED = f"""() => {{
    const node = document.activeElement;
    const style = getComputedStyle(node);
    return [{NAME}, style.outlineStyle === 'solid' && parseFloat(style.outlineWidth) >= 2];
}}"""


@pytest.fixture(scope="module")
def notebook(
    open_notebook: Callable[[str], Any], new_notebook: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    folder = str(tmp_path_factory.mktemp("tuner") / "data")
    name = new_notebook(
        "tuner.ipynb",
        START.format(folder=folder),
        "tuner = lab.tuner(); tuner",
        "print(lab.challenge())",
        "lab.wait_for('running'); print(lab.config.trader.cost_margin, lab.snapshot().state)",
        f"print(open({folder!r} + '/configs/wide.toml').read())",
        "tuner.close(); lab.stop()",
        "import time; time.sleep(20)",
    )
    opened = open_notebook(name)
    # A hundred days of two symbols are made and lived through first.
    opened.run_cell(0, 420)
    opened.run_cell(1)
    opened.page.wait_for_selector(".labkit-tuner[data-number]", timeout=300_000)
    return opened


@pytest.fixture(scope="module")
def second(notebook: Any, open_notebook: Callable[[str], Any]) -> Any:
    """The same notebook, and so the same tuner, on another page."""
    notebook.execute("docmanager:save")
    notebook.page.wait_for_timeout(1_500)
    opened = open_notebook("tuner.ipynb")
    opened.page.wait_for_selector(".labkit-tuner[data-number]")
    return opened


def drag(notebook: Any, slider: Any, pixels: float, *, grip: bool = True, let_go: bool = True) -> None:
    """Take the knob of a slider with the mouse, move it that far from where it was taken, and let go."""
    box = slider.bounding_box()
    knob = slider.evaluate("node => (node.valueAsNumber - node.min) / (node.max - node.min)")
    mouse = notebook.page.mouse
    if grip:
        notebook.taken_at = box["x"] + 8 + knob * (box["width"] - 16)
        mouse.move(notebook.taken_at, box["y"] + box["height"] / 2)
        mouse.down()
    mouse.move(notebook.taken_at + pixels, box["y"] + box["height"] / 2, steps=4)
    if let_go:
        mouse.up()


def set_slider(notebook: Any, value: float, event: str, selector: str = SLIDER) -> None:
    notebook.page.locator(selector).evaluate(
        "(node, [value, event]) => { node.value = value; node.dispatchEvent(new Event(event, { bubbles: true })); }",
        [value, event],
    )


def test_a_drag_redraws_the_last_ninety_days_and_a_release_all(notebook: Any) -> None:
    chart = notebook.page.locator(".labkit-tuner canvas").first
    before = chart.evaluate("node => node.toDataURL()")
    set_slider(notebook, 1.6, "input")
    notebook.page.wait_for_selector(".labkit-tuner [data-part=span][data-preview=yes]")
    preview = chart.evaluate("node => node.toDataURL()")
    assert preview != before
    assert "90 days" in notebook.page.locator(".labkit-tuner [data-part=span]").inner_text()
    set_slider(notebook, 1.6, "change")
    notebook.page.wait_for_selector(".labkit-tuner [data-part=span][data-preview='']")
    assert chart.evaluate("node => node.toDataURL()") not in (before, preview)


@pytest.mark.parametrize(("theme", "width"), [("Light", 1380), ("Dark", 1380), ("Light", 1080), ("Dark", 760)])
def test_the_tuner_fits_the_page(notebook: Any, theme: str, width: int) -> None:
    notebook.page.set_viewport_size({"width": width, "height": 1100 if width > 1200 else 2000})
    notebook.execute("apputils:change-theme", {"theme": f"JupyterLab {theme}"})
    notebook.page.wait_for_timeout(1_500)
    notebook.photograph(f"tuner-{theme.lower()}-{width}", ".labkit-tuner")
    too_wide = """() => [...document.querySelectorAll('.labkit-tuner, .labkit-tuner label')]
        .filter(node => node.scrollWidth > node.clientWidth).map(node => node.textContent)"""
    assert notebook.page.evaluate(too_wide) == []


def test_tab_leads_through_every_control_as_one_reads_and_shows_where_it_is(notebook: Any) -> None:
    notebook.page.set_viewport_size({"width": 1380, "height": 1100})
    wanted = notebook.page.evaluate(CONTROLS)
    notebook.page.locator(".labkit-tuner input").first.focus()
    notebook.page.keyboard.press("Shift+Tab")
    seen = []
    for _ in wanted:
        notebook.page.keyboard.press("Tab")
        seen.append(notebook.page.evaluate(FOCUSED))
    assert seen == [[name, True] for name in wanted]


def test_a_reset_by_keyboard_leaves_the_focus_in_the_tuner(notebook: Any) -> None:
    set_slider(notebook, 1.6, "change")
    for selector in ("[aria-label='Reset Stop and target']", "[data-part=reset]"):
        set_slider(notebook, 1.6, "change")
        notebook.page.locator(f".labkit-tuner {selector}").press("Enter")
        assert notebook.page.locator(SLIDER).evaluate("node => node.valueAsNumber") == pytest.approx(1.0)
        assert notebook.page.evaluate("() => document.activeElement.closest('.labkit-tuner') !== null")
    set_slider(notebook, 1.6, "change")


def test_the_keyboard_moves_a_slider_a_step_and_a_number_is_typed(notebook: Any) -> None:
    notebook.page.set_viewport_size({"width": 1380, "height": 1100})
    set_slider(notebook, 1.6, "change")
    slider = notebook.page.locator(SLIDER)
    slider.focus()
    notebook.page.keyboard.press("ArrowRight")
    assert slider.evaluate("node => node.valueAsNumber") == pytest.approx(1.65)
    field = notebook.page.locator("[data-field=barrier_sigmas]")
    field.select_text()
    field.press_sequentially("1.6", delay=100)
    field.press("Enter")
    assert slider.evaluate("node => node.valueAsNumber") == pytest.approx(1.6)


# Two moves, the second before the kernel has heard of the first; then what the slider shows at every picture drawn.
MOVE_TWICE_AND_WATCH = """async selector => {
    const slider = document.querySelector(selector);
    for (const value of [1.2, 1.3]) {
        slider.value = value;
        slider.dispatchEvent(new Event("change", { bubbles: true }));
    }
    const seen = new Set();
    for (let until = performance.now() + 3000; performance.now() < until;) {
        seen.add(slider.valueAsNumber);
        await new Promise(requestAnimationFrame);
    }
    return [...seen];
}"""


def test_an_answer_to_an_older_move_does_not_pull_the_slider_back(notebook: Any) -> None:
    assert notebook.page.evaluate(MOVE_TWICE_AND_WATCH, SLIDER) == [1.3]
    set_slider(notebook, 1.6, "change")


def test_a_slider_answers_while_a_cell_is_busy(notebook: Any) -> None:
    notebook.start_cell(6)
    notebook.page.wait_for_timeout(500)
    number = notebook.page.locator(".labkit-tuner").get_attribute("data-number")
    set_slider(notebook, 0.4, "change", "[data-setting=cost_margin]")
    notebook.page.wait_for_selector(f".labkit-tuner:not([data-number='{number}'])")
    assert notebook.is_running(6)
    notebook.wait_for_cell(6)
    notebook.page.locator("[data-part=reset]").click()
    set_slider(notebook, 1.6, "change")


def test_a_kernel_that_does_not_answer_is_said_and_what_was_set_meanwhile_is_run(notebook: Any) -> None:
    message = notebook.page.locator(".labkit-tuner .labkit-message")
    with notebook.kernel_held_up():
        set_slider(notebook, 1.4, "change")
        notebook.page.wait_for_selector(".labkit-tuner .labkit-message:has-text('has not answered yet')")
        assert notebook.page.locator(SLIDER).evaluate("node => node.valueAsNumber") == pytest.approx(1.4)
        assert notebook.page.locator(RUNNING).is_visible()
    notebook.page.wait_for_selector(RUNNING, state="hidden")
    assert message.inner_text() == ""
    set_slider(notebook, 1.6, "change")


def test_a_slider_let_go_where_it_was_taken_up_is_run_over_everything(notebook: Any) -> None:
    slider = notebook.page.locator(SLIDER)
    slider.scroll_into_view_if_needed()
    drag(notebook, slider, 20, let_go=False)
    notebook.page.wait_for_selector(".labkit-tuner [data-part=span][data-preview=yes]")
    drag(notebook, slider, 0, grip=False)
    notebook.page.wait_for_selector(".labkit-tuner [data-part=span][data-preview='']")
    assert slider.evaluate("node => node.valueAsNumber") == pytest.approx(1.6)


def test_a_second_page_shows_the_same_values_and_figures(notebook: Any, second: Any) -> None:
    set_slider(notebook, 1.2, "change")
    second.page.wait_for_function(SHOWS, arg=[SLIDER, 1.2])
    for page in (notebook.page, second.page):
        page.wait_for_selector(RUNNING, state="hidden")
    rows = [page.locator(".labkit-tuner tbody").inner_text() for page in (notebook.page, second.page)]
    assert rows[0] == rows[1]
    set_slider(notebook, 1.6, "change")


def test_a_reloaded_page_goes_on_where_it_was(notebook: Any, second: Any) -> None:
    second.reload()
    second.page.wait_for_selector(".labkit-tuner[data-number]")
    slider = second.page.locator(SLIDER)
    assert slider.evaluate("node => node.valueAsNumber") == pytest.approx(1.6)
    drag(second, slider, 20)
    moved = slider.evaluate("node => node.valueAsNumber")
    assert moved > 1.6
    notebook.page.wait_for_function(SHOWS, arg=[SLIDER, moved])
    set_slider(notebook, 1.6, "change")


def test_two_pages_that_move_different_settings_at_once_keep_both(notebook: Any, second: Any) -> None:
    with notebook.kernel_held_up():
        set_slider(notebook, 0.45, "change", "[data-setting=kelly_fraction]")
        set_slider(second, 0.75, "change", "[data-setting=cost_margin]")
        second.page.wait_for_timeout(500)
    for page in (notebook.page, second.page):
        page.wait_for_selector(RUNNING, state="hidden")
        page.wait_for_function(SHOWS, arg=["[data-setting=kelly_fraction]", 0.45])
        page.wait_for_function(SHOWS, arg=["[data-setting=cost_margin]", 0.75])
    notebook.page.locator("[data-part=reset]").click()
    set_slider(notebook, 1.6, "change")


def test_settings_are_saved_under_a_name(notebook: Any) -> None:
    notebook.page.get_by_label("Name to save under").fill("wide")
    notebook.page.locator("[data-part=save]").click()
    notebook.page.wait_for_selector(".labkit-tuner .labkit-message[data-tone=good]")
    notebook.run_cell(4)
    assert "barrier_sigmas = 1.6" in notebook.output_text(4)


def test_what_shapes_learning_is_refused_to_a_challenger_in_words(notebook: Any) -> None:
    notebook.page.locator("[data-part=challenge]").click()
    notebook.page.wait_for_selector(".labkit-tuner .labkit-message[data-tone=bad]")
    assert "shapes what is learned" in notebook.page.locator(".labkit-tuner .labkit-message").inner_text()


def test_a_challenger_runs_with_what_differs(notebook: Any) -> None:
    notebook.page.locator("[data-part=reset]").click()
    set_slider(notebook, 0.5, "change", "[data-setting=cost_margin]")
    notebook.page.locator("[data-part=challenge]").click()
    notebook.page.wait_for_selector(".labkit-tuner .labkit-message[data-tone=good]")
    notebook.run_cell(2)
    assert "challenger with cost_margin 0.5" in notebook.output_text(2)
    assert "Challenger with cost_margin 0.5" in notebook.page.locator("[data-part=challenger]").inner_text()
    notebook.photograph("tuner-challenger", ".labkit-tuner")


def test_two_clicks_apply_and_the_same_lab_goes_on(notebook: Any) -> None:
    button = notebook.page.locator("[data-part=apply]")
    button.click()
    button.click()
    notebook.page.wait_for_selector(".labkit-tuner .labkit-message:has-text('started anew')")
    notebook.run_cell(3)
    assert notebook.output_text(3).startswith("0.5 running")
    notebook.run_cell(5)
