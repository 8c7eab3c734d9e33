"""Every widget where no JupyterLab lends its colours, where VS Code lends others, and in JupyterLab's own themes."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from labkit.config import Config
from labkit.domain.snapshot import BreakerRow, Snapshot
from labkit.edge.clocks import SystemClock
from labkit.paper.truth_table import IntentTruth
from labkit.research.tuning import Look
from labkit.widgets.health_panel import HealthPanel
from labkit.widgets.live_monitor import LiveMonitor
from labkit.widgets.position_inspector import PositionInspector
from labkit.widgets.tuner import Tuner
from labkit.widgets.tuner_view import shown
from tests.widgets.test_position_inspector import DeskLab

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent
ARTIFACTS = HERE.parents[1] / ".artifacts"
SEEDED_LAB = HERE.parent / "widgets" / "seeded_lab.py"
THEMES = Path(sys.prefix) / "share" / "jupyter" / "lab" / "themes" / "@jupyterlab"
LEAST_CONTRAST = 4.5
LEAST_CONTRAST_OF_A_PICTURE = 3.0
"""What WCAG 2.2 asks of text, and of graphics that carry meaning (level AA)."""

VS_CODE = """:root {{ --vscode-editor-background: {0}; --vscode-editor-foreground: {1}; --vscode-panel-border: {2};
--vscode-textLink-foreground: {3}; }} body {{ background: {0}; }}"""
"""The variables VS Code sets on the page of an output, of those the widgets read."""

FRONT_ENDS = {
    "bare": ("", ""),
    "vscode-light": ("class=vscode-light", VS_CODE.format("#fff", "#3b3b3b", "#e5e5e5", "#005fb8")),
    "vscode-dark": ("class=vscode-dark", VS_CODE.format("#1f1f1f", "#ccc", "#2b2b2b", "#4daafc")),
    "vscode-high-contrast": ("class=vscode-high-contrast", VS_CODE.format("#000", "#fff", "#6fc3df", "#21a6ff")),
    "vscode-high-contrast-light": (
        "class='vscode-high-contrast vscode-high-contrast-light'",
        VS_CODE.format("#fff", "#292929", "#0f4a85", "#0f4a85"),
    ),
    "jupyterlab-light": ("data-jp-theme-light=true", "theme-light-extension"),
    "jupyterlab-dark": ("data-jp-theme-light=false", "theme-dark-extension"),
    "jupyterlab-high-contrast": ("data-jp-theme-light=false", "theme-dark-high-contrast-extension"),
}
"""What each puts on the body of the page, and its style sheet, or the folder it is installed in."""


class StormyLab(runpy.run_path(str(SEEDED_LAB))["SeededLab"]):  # type: ignore[misc]
    """A seeded lab with a halted breaker under a storm, so that every colour of the health panel is on the page."""

    folder = "data"

    @property
    def weather(self) -> StormyLab:
        return self

    def snapshot(self) -> Snapshot:
        seen: Snapshot = super().snapshot()
        halted = BreakerRow(
            level="HALTED",
            cause="418 banned",
            since_ms=seen.time_ms,
            next_probe_ms=seen.time_ms + 120_000,
            weight_used=1_200,
            weight_limit=1_920,
        )
        return msgspec.structs.replace(seen, breaker=halted, entries_paused="a test holds them")

    def status(self) -> dict[str, Any]:
        return {"weather": "storm", "seed": 3, "strikes": {"price-nan": 2}}

    def executions(self) -> dict[str, IntentTruth]:
        return {"a": IntentTruth(orders=1, executions=1), "b": IntentTruth(orders=2, executions=2)}


class NoRuns:
    """Runs that never end: what they came to is told by the test."""

    def ask(self, settings: object, *, preview: bool) -> int:
        return 0

    def close(self) -> None: ...


class StillLab:
    """As much of a lab as a tuner's buttons need."""

    def trader_settings(self) -> Any:
        return Config().trader

    def challenge(self, trader: dict[str, Any] | None = None) -> str:
        return "a challenger with cost_margin 0.5 has run for 3 days"

    def apply_settings(self, trader: dict[str, Any]) -> None: ...


def a_look() -> Look:
    days = np.arange(40.0)
    return Look(
        number=1,
        preview=False,
        settings={},
        first_day_ms=1_767_571_200_000,
        curves={
            "equity": 10_000 + 40 * np.sin(days),
            "compared": 10_000 - days,
            "drawdown": -np.abs(np.sin(days)) / 100,
            "skill": np.cos(days),
            "said": np.linspace(0.4, 0.6, 8),
            "came_true": np.linspace(0.45, 0.55, 8),
            "error": np.full(8, 0.02),
        },
        figures={"return": 0.012, "sharpe": 1.1, "trades": 120, "max_drawdown": -0.02, "fees": 0.001},
        compared={"return": -0.01, "sharpe": -0.4, "trades": 90, "max_drawdown": -0.04, "fees": 0.001},
        verdict="No evidence of an edge.",
        reasons=("the interval of the Sharpe ratio contains nought",),
        trials=2,
    )


def opened(kind: str, folder: Path) -> tuple[Any, list[Any]]:
    """A widget and the messages its page gets after it has been drawn."""
    lab = StormyLab(1, SystemClock(speed=30, start_ms=1_767_571_200_000))
    match kind:
        case "monitor":
            return LiveMonitor(lab), []
        case "health":
            return HealthPanel(lab), []
        case "inspector":
            inspector = PositionInspector(DeskLab(), chosen="BTCUSDT")
            inspector._fetch_candles("BTCUSDT", 0)
            inspector._resync_wanted = True
            inspector._look()
            return inspector, []
    tuner: Any = Tuner(lambda config, on_look: NoRuns(), Config(), folder, "40 days of a planted market", StillLab())
    tuner.values = {**tuner.values, "cost_margin": 0.5}
    look = a_look()
    told = {"kind": "look", "curves": list(look.curves), **shown(look, "running now")}
    return tuner, [[told, [curve.tolist() for curve in look.curves.values()]]]


@pytest.fixture(scope="module")
def page(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1100, "height": 900})
    yield context.new_page()
    context.close()


def read_in(page: Any, front_end: str, kind: str, folder: Path, css: str = "") -> Any:
    """Every text of the widget and every picture, each with its contrast."""
    attributes, styles = FRONT_ENDS[front_end]
    if styles.startswith("theme-"):
        styles = (THEMES / styles / "index.css").read_text(encoding="utf-8")
    page.goto("about:blank")
    page.set_content(f"<!doctype html><style>{styles}</style><body {attributes}></body>")
    widget, messages = opened(kind, folder)
    try:
        state = {name: value for name, value in widget.get_state().items() if isinstance(value, str | dict | list)}
    finally:
        widget.close()
    state["_css"] += css
    return page.evaluate((HERE / "bare_page.js").read_text(encoding="utf-8"), {"state": state, "messages": messages})


def hard_to_read(told: Any) -> list[Any]:
    return [(text, ratio) for text, ratio in told["texts"] if ratio < LEAST_CONTRAST]


@pytest.mark.parametrize("kind", ["monitor", "inspector", "health", "tuner"])
@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_every_text_stands_off_its_ground(page: Any, front_end: str, kind: str, tmp_path: Path) -> None:
    told = read_in(page, front_end, kind, tmp_path)
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=str(ARTIFACTS / f"{kind}-in-{front_end}.png"), full_page=True)
    assert len(told["texts"]) > 70
    assert hard_to_read(told) == []


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_every_picture_of_the_tuner_stands_off_its_ground(page: Any, front_end: str, tmp_path: Path) -> None:
    pictures = read_in(page, front_end, "tuner", tmp_path)["pictures"]
    assert len(pictures) == 4
    assert [picture for picture in pictures if picture[1] < LEAST_CONTRAST_OF_A_PICTURE] == []


@pytest.mark.parametrize(
    ("front_end", "mistake"),
    [
        ("bare", "--labkit-soft: var(--labkit-line)"),
        ("jupyterlab-dark", "opacity: 0.4"),
        ("vscode-dark", "--labkit-text: var(--nobody-sets-this)"),
        ("jupyterlab-light", "--labkit-soft: transparent"),
    ],
)
def test_a_colour_that_cannot_be_read_is_found(page: Any, front_end: str, mistake: str, tmp_path: Path) -> None:
    assert hard_to_read(read_in(page, front_end, "health", tmp_path, css=f".labkit {{ {mistake}; }}"))
