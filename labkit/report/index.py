"""The index of all daily reports: figures over all days, their equity as a line, and one row a day, newest first.

Pure; called by `DailyReporter`. Every day between the first and the last is accounted for: those without a report are
named as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from html import escape
from itertools import pairwise

from labkit.report.amounts import signed, tone
from labkit.report.headline import Figures
from labkit.report.notebook_run import page_around
from labkit.report.tables import QUOTE
from labkit.report.track_record import FEWEST_DAYS, TrackRecord, gaps, track_record

WIDTH, HEIGHT, INSET = 1000, 150, 8
"""The line of equity, in units of its own picture."""


def index_page(days: Sequence[tuple[str, Figures]]) -> str:
    """The page listing `days`: (file name beside the index, figures), newest first."""
    title = "labkit · daily reports"
    if not days:
        return page_around(title, f"<main><h1>{title}</h1><p>No report has been written yet.</p></main>")
    figures = [of_day for _, of_day in days]
    record, missing = track_record(figures), gaps([of_day.day for of_day in figures])
    body = (
        f"<main><h1>{title}</h1>{_heading(figures, record)}{_cards(record)}"
        f"{_equity_line(days, record) if len(days) > 1 else ''}{_table(days, missing)}</main>"
    )
    return page_around(title, body)


def _heading(figures: Sequence[Figures], record: TrackRecord) -> str:
    first, last = figures[-1].day, figures[0].day
    span = first if first == last else f"{first} to {last}"
    possible = (date.fromisoformat(last) - date.fromisoformat(first)).days + 1
    counted = f"{record.days} {'day' if record.days == 1 else 'days'}"
    if record.days < possible:
        counted += f", {possible - record.days} without a report"
    return f'<p class="labkit-day">{escape(span)}<small>UTC · {counted}</small></p>'


def _cards(record: TrackRecord) -> str:
    whole = f"needs {FEWEST_DAYS} whole days"
    ratio, error = record.sharpe_ratio, record.sharpe_error
    cards = [
        ("Result", signed(record.result), f"{QUOTE}, all days together", tone(record.result)),
        ("Return", f"{signed(Decimal(100 * record.total_return))} %", "compounded", tone(record.total_return)),
        ("Equity", f"{record.closing_equity:,.2f}", f"{QUOTE}, from {record.opening_equity:,.2f}", ""),
        ("Max drawdown", _percent(-record.max_drawdown, 2), "day to day or within one day", ""),
        (
            "Volatility",
            "–" if record.volatility is None else _percent(record.volatility, 1),
            whole if record.volatility is None else "of whole days, a 365-day year",
            "",
        ),
        (
            "Sharpe ratio",
            "–" if ratio is None else f"{ratio:.1f}".replace("-", "−"),
            whole if error is None else f"± {error:.1f} standard error, 365 days",
            "",
        ),
        ("Days with a profit", f"{record.days_won} of {record.days}", f"{record.trades:,} trades closed", ""),
        ("Fees", signed(record.fees), f"{QUOTE}; funding {signed(record.funding)}", tone(record.fees)),
    ]
    written = "".join(
        f'<div class="labkit-card"><dt>{escape(name)}</dt><dd class="{tone}">{escape(value)}</dd>'
        f"<small>{escape(note)}</small></div>"
        for name, value, note, tone in cards
    )
    return f'<dl class="labkit-cards">{written}</dl>'


def _equity_line(days: Sequence[tuple[str, Figures]], record: TrackRecord) -> str:
    """Equity at the end of each day on a true time axis; dashed across days without a report, each dot a link."""
    ordered = [(name, figures, date.fromisoformat(figures.day)) for name, figures in reversed(days)]
    before = ordered[0][2].toordinal() - 1
    points = [(before, float(record.opening_equity))]
    points += [(day.toordinal(), float(figures.closing_equity)) for _, figures, day in ordered]
    low, high = min(value for _, value in points), max(value for _, value in points)
    last = points[-1][0]

    def at(point: tuple[int, float]) -> tuple[float, float]:
        across = (point[0] - before) / (last - before)
        up = (point[1] - low) / (high - low) if high > low else 0.5
        return INSET + across * (WIDTH - 2 * INSET), HEIGHT - INSET - up * (HEIGHT - 2 * INSET)

    lines = "".join(
        f'<path class="line{" gap" if later[0] - earlier[0] > 1 else ""}" d="M{_xy(at(earlier))}L{_xy(at(later))}"/>'
        for earlier, later in pairwise(points)
    )
    (left, _), (right, _), base = at(points[0]), at(points[-1]), at(points[0])[1]
    outline = "L".join(_xy(at(point)) for point in points)
    area = f'<path class="area" d="M{left:.1f},{base:.1f}L{outline}L{right:.1f},{base:.1f}Z"/>'
    dots = "".join(
        f'<a href="{escape(name)}"><circle cx="{at(point)[0]:.1f}" cy="{at(point)[1]:.1f}" r="4"/>'
        f"<title>{escape(figures.day)}: {Decimal(figures.closing_equity):,.2f} {QUOTE} "
        f"({signed(Decimal(figures.result))})</title></a>"
        for (name, figures, _), point in zip(ordered, points[1:], strict=True)
    )
    words = (
        f"Equity from {record.opening_equity:,.2f} to {record.closing_equity:,.2f} {QUOTE}, "
        f"between {low:,.2f} and {high:,.2f}"
    )
    return (
        f'<figure class="labkit-chart"><figcaption><b>Equity at the end of each day</b>, {QUOTE}</figcaption>'
        f'<div class="plot"><span class="high">{high:,.2f}</span><span class="low">{low:,.2f}</span>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">'
        f'<path class="rule" d="M0,{INSET}H{WIDTH}M0,{HEIGHT - INSET}H{WIDTH}"/>'
        f'<path class="start" d="M0,{base:.1f}H{WIDTH}"/>{area}{lines}{dots}</svg></div>'
        f'<p class="ends"><span>{ordered[0][2]}</span><span>{ordered[-1][2]}</span></p></figure>'
    )


def _table(days: Sequence[tuple[str, Figures]], missing: Sequence[tuple[str, str]]) -> str:
    largest = max(abs(figures.day_return) for _, figures in days)
    rows = [(figures.day, _row(name, figures, largest)) for name, figures in days]
    for first, last in missing:
        span = first if first == last else f"{first} to {last}"
        rows.append((last, f"<tr class='none'><td colspan='9'>{span} · no report</td></tr>"))
    rows.sort(key=lambda row: row[0], reverse=True)
    head = (
        f"<tr><th>Day</th><th>Result<small>{QUOTE}</small></th><th>Return<small>%</small></th><th class='bar'></th>"
        f"<th>Equity<small>{QUOTE}</small></th><th>Max drawdown<small>%</small></th>"
        "<th>Trades<small>closed</small></th><th>Won<small>%</small></th><th>Decisions</th></tr>"
    )
    body = "".join(row for _, row in rows)
    return f"<div class='labkit-scroll'><table class='days'><thead>{head}</thead><tbody>{body}</tbody></table></div>"


def _row(name: str, figures: Figures, largest: float) -> str:
    result = Decimal(figures.result)
    width = 50 * abs(figures.day_return) / largest if largest else 0.0
    notes = [
        *([] if figures.complete else ["<small>part of a day</small>"]),
        *([] if figures.books_agree else ["<small class='odd'>books differ</small>"]),
    ]
    cells = [
        f"<td><a href='{escape(name)}'>{escape(figures.day)}</a>{''.join(notes)}</td>",
        f"<td class='{tone(result)}'>{signed(result)}</td>",
        f"<td class='{tone(result)}'>{signed(Decimal(100 * figures.day_return))}</td>",
        f"<td class='bar'><span class='track'><i class='{tone(result)}' style='width:{width:.1f}%'></i></span></td>",
        f"<td>{Decimal(figures.closing_equity):,.2f}</td>",
        f"<td>{100 * figures.max_drawdown:.2f}</td>",
        f"<td>{figures.trades:,}</td>",
        f"<td>{'–' if figures.win_rate is None else f'{100 * figures.win_rate:.0f}'}</td>",
        f"<td>{figures.decisions:,}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _xy(point: tuple[float, float]) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"


def _percent(fraction: float, places: int) -> str:
    return f"{100 * fraction:.{places}f} %".replace("-0.00", "0.00").replace("-", "−")
