"""What the tuner says of a run, in words and figures; and the same as HTML that needs no kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labkit.widgets.tuner_settings import Setting

FIGURES = (
    ("return", "Return", "{:+.2%}"),
    ("sharpe", "Sharpe ratio", "{:.2f}"),
    ("trades", "Trades", "{:,.0f}"),
    ("max_drawdown", "Max drawdown", "{:.2%}"),
    ("fees", "Fees", "{:.2%}"),
)


class Outcome(Protocol):
    """A run as `labkit.research.tuning.Look` tells it."""

    @property
    def number(self) -> int: ...
    @property
    def preview(self) -> bool: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    @property
    def error(self) -> str: ...
    @property
    def first_day_ms(self) -> int: ...
    @property
    def curves(self) -> dict[str, NDArray[np.float64]]: ...
    @property
    def figures(self) -> dict[str, float]: ...
    @property
    def compared(self) -> dict[str, float]: ...
    @property
    def baselines(self) -> dict[str, dict[str, float]]: ...
    @property
    def verdict(self) -> str: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...
    @property
    def trials(self) -> int: ...


def score_rows(look: Outcome, compared_name: str) -> list[list[str]]:
    """Name and figures, a row for this run, for what it is compared with and for each baseline."""
    rows = [["this run", *_cells(look.figures)], [compared_name, *_cells(look.compared)]]
    return rows + [[name, *_cells(figures)] for name, figures in look.baselines.items()]


def _cells(figures: Mapping[str, float]) -> list[str]:
    cells = []
    for name, _, form in FIGURES:
        value = figures.get(name, math.nan)
        text = "–" if math.isnan(value) else form.format(value)
        if name == "sharpe" and not math.isnan(figures.get("sharpe_low", math.nan)):
            text += f" ({figures['sharpe_low']:.2f} to {figures['sharpe_high']:.2f})"
        cells.append(text.replace("-", "−"))
    return cells


def shown(look: Outcome, compared_name: str) -> dict[str, Any]:
    """Everything of a run but its curves, as the page shows it."""
    days = look.curves["equity"].size if look.curves else 0
    return {
        "number": look.number,
        "preview": look.preview,
        "error": look.error,
        "first_day_ms": look.first_day_ms,
        "span": f"last {days} days, preview" if look.preview else f"all {days} days",
        "titles": ["", *(title for _, title, _ in FIGURES)],
        "rows": score_rows(look, compared_name) if look.figures else [],
        "verdict": look.verdict,
        "reasons": list(look.reasons),
        "trials": f"{ordinal(look.trials)} look at these {days} days" if look.trials else "",
    }


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def tuner_html(
    span: str, settings: tuple[Setting, ...], values: Mapping[str, float], said: Mapping[str, Any] | None
) -> str:
    """The tuner as a still picture: settings that differ from the defaults, and the score of the last run."""
    changed = [
        f"{setting.label} {values[setting.key]:g} {setting.unit}".strip()
        for setting in settings
        if values[setting.key] != setting.default
    ]
    parts = [f"<p><b>Tuner</b> (a still picture; run the cell to move it)<br>{escape(span)}</p>"]
    parts.append(f"<p>Changed from the defaults: {escape(', '.join(changed) or 'nothing')}.</p>")
    if said and said["rows"]:
        head = "".join(f"<th>{escape(title)}</th>" for title in said["titles"])
        rows = "".join(
            "<tr>" + "".join(f"<td style='text-align:right'>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in said["rows"]
        )
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in said["reasons"])
        parts.append(f"<p>{escape(said['span'])}; {escape(said['trials'])}.</p>")
        parts.append(f"<p><b>{escape(said['verdict'])}</b></p><ul>{reasons}</ul>")
    return "".join(parts)
