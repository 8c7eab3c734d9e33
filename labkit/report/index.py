"""The index of all daily reports: one line a day, newest first. Pure; called by `DailyReporter`."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from html import escape

from labkit.report.headline import Figures
from labkit.report.notebook_run import page_around
from labkit.report.tables import QUOTE


def index_page(days: Sequence[tuple[str, Figures]]) -> str:
    """The page listing `days`: (file name beside the index, figures), in the order given."""
    largest = max((abs(figures.day_return) for _, figures in days), default=0.0)
    rows = "".join(_row(name, figures, largest) for name, figures in days)
    head = (
        f"<tr><th>Day</th><th>Result, {QUOTE}</th><th>Return</th><th class='bar'></th><th>Equity, {QUOTE}</th>"
        "<th>Max drawdown</th><th>Trades</th><th>Won</th><th>Decisions</th></tr>"
    )
    summary = _summary([figures for _, figures in days])
    table = f"<div class='labkit-scroll'><table class='days'><thead>{head}</thead><tbody>{rows}</tbody></table></div>"
    body = f"<main><h1>labkit · daily reports</h1>{summary}{table if days else ''}</main>"
    return page_around("labkit · daily reports", body)


def _summary(days: Sequence[Figures]) -> str:
    if not days:
        return "<p>No report has been written yet.</p>"
    result = sum((Decimal(figures.result) for figures in days), Decimal(0))
    won = sum(Decimal(figures.result) > 0 for figures in days)
    noun = "day" if len(days) == 1 else "days"
    return (
        f"<p>{len(days)} {noun}, {won} with a profit; together "
        f"<b class='{_tone(result)}'>{_signed(result)} {QUOTE}</b>. "
        "Each day is one UTC day, open positions valued at mark price.</p>"
    )


def _row(name: str, figures: Figures, largest: float) -> str:
    result = Decimal(figures.result)
    width = 50 * abs(figures.day_return) / largest if largest else 0.0
    notes = [
        *([] if figures.complete else ["<small>part of a day</small>"]),
        *([] if figures.books_agree else ["<span class='odd'>books differ</span>"]),
    ]
    cells = [
        f"<td><a href='{escape(name)}'>{escape(figures.day)}</a> {' '.join(notes)}</td>",
        f"<td class='{_tone(result)}'>{_signed(result)}</td>",
        f"<td class='{_tone(result)}'>{_signed(Decimal(100 * figures.day_return))} %</td>",
        f"<td class='bar'><span class='track'><i class='{_tone(result)}' style='width:{width:.1f}%'></i></span></td>",
        f"<td>{Decimal(figures.closing_equity):,.2f}</td>",
        f"<td>{100 * figures.max_drawdown:.2f} %</td>",
        f"<td>{figures.trades:,}</td>",
        f"<td>{'–' if figures.win_rate is None else f'{100 * figures.win_rate:.0f} %'}</td>",
        f"<td>{figures.decisions:,}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _signed(value: Decimal) -> str:
    text = f"{value:+,.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def _tone(value: Decimal) -> str:
    return "gain" if value > 0 else "loss" if value < 0 else ""
