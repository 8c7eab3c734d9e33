"""Tables of figures for a notebook: HTML that reads alike on light and dark pages, without scripts or style sheets.

Numbers stand on the right in figures of one width, what is not there is a dash. Used by the results of `backtest`,
`walk_forward` and `sweep`, and by the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from labkit.research.backtest import BacktestResult

SHOWN: Mapping[str, tuple[str, str]] = {
    "return": ("return", "{:+.2%}"),
    "sharpe": ("Sharpe", "{:.2f}"),
    "max_drawdown": ("drawdown", "{:.2%}"),
    "trades": ("trades", "{:,.0f}"),
    "winners": ("winners", "{:.0%}"),
    "fees": ("fees", "{:.2%}"),
    "funding": ("funding", "{:+.2%}"),
    "skill": ("skill, mnat", "{:+.2f}"),
    "sharpe_train": ("Sharpe in training", "{:.2f}"),
    "sharpe_test": ("in test", "{:.2f}"),
    "return_train": ("return in training", "{:+.2%}"),
    "return_test": ("in test", "{:+.2%}"),
}
"""Heading and format of the figures there are; anything else is a setting and stands as it was given."""

_LINE = "border-bottom:1px solid rgba(128,128,128,.28)"
_CELL = f"padding:.22em .75em;{_LINE};white-space:nowrap"


def number(text: str, value: float) -> str:
    """`value` by the format `text`, with a true minus sign; a dash if it is none."""
    if math.isnan(value):
        return "–"
    shown = text.format(value)
    # What rounds to nothing is not below it.
    return shown.replace("-", "−") if shown.strip("+-0.%") else shown.lstrip("+-")


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "", marked: int = -1) -> str:
    """A table whose first column names its rows; the row `marked` stands out. Every text is escaped."""
    titles = "".join(
        f'<th style="{_CELL};text-align:{"right" if i else "left"};font-weight:600">{escape(title)}</th>'
        for i, title in enumerate(head)
    )
    body = []
    for number_, row in enumerate(rows):
        weight = 600 if number_ == marked else 400
        cells = "".join(
            f'<{"td" if i else "th"} style="{_CELL};text-align:{"right" if i else "left"};font-weight:{weight}">'
            f"{escape(cell)}</{'td' if i else 'th'}>"
            for i, cell in enumerate(row)
        )
        body.append(f"<tr>{cells}</tr>")
    told = f'<div style="opacity:.75;margin:.2em 0 .3em .75em">{escape(caption)}</div>' if caption else ""
    return (
        f'{told}<div style="overflow-x:auto"><table style="border-collapse:collapse;font-variant-numeric:tabular-nums;'
        f'margin:0 0 .8em"><thead><tr>{titles}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def sentence_table(rows: Sequence[tuple[str, str, str]]) -> str:
    """Name, value and meaning, one a row: the value on the right of its column, the words beside it."""
    sides = ("left", "right", "left")
    body = "".join(
        "<tr>"
        + "".join(
            f'<{tag} style="{_CELL};text-align:{side};font-weight:400;white-space:{"normal" if i == 2 else "nowrap"}">'
            f"{escape(cell)}</{tag}>"
            for i, (tag, side, cell) in enumerate(zip(("th", "td", "td"), sides, row, strict=True))
        )
        + "</tr>"
        for row in rows
    )
    return (
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;font-variant-numeric:tabular-nums">'
        f"<tbody>{body}</tbody></table></div>"
    )


def comparison_html(results: Sequence[BacktestResult], caption: str) -> str:
    """Runs beside each other, one a row, the first set apart; fees and funding are fractions of the opening balance."""
    keys = ("return", "sharpe", "max_drawdown", "trades", "winners", "fees", "funding", "skill")
    rows = [[own.name, *(number(SHOWN[key][1], own.summary[key]) for key in keys)] for own in results]
    return html_table(["", *(SHOWN[key][0] for key in keys)], rows, caption=caption, marked=0)


def frame_html(frame: pd.DataFrame, *, caption: str = "", marked: int = -1) -> str:
    """A frame of settings and figures, one row each."""
    head = ["", *(SHOWN[name][0] if name in SHOWN else str(name) for name in frame.columns)]
    rows = [
        [str(at), *(_cell(name, value) for name, value in zip(frame.columns, row, strict=True))]
        for at, row in zip(frame.index, frame.itertuples(index=False), strict=True)
    ]
    return html_table(head, rows, caption=caption, marked=marked)


def _cell(name: str, value: object) -> str:
    if name in SHOWN:
        return number(SHOWN[name][1], float(value))  # type: ignore[arg-type]
    return f"{value:g}" if isinstance(value, float) else str(value)
