"""What every view is made of: header, clock, figures, numbers and times as text, plain HTML.

Pure functions and plain records. `tone` is `good`, `bad`, `warn`, `muted` or empty; what it looks like is the style
sheet's business. Called by the views; knows none of them.
"""

from __future__ import annotations

import functools
import html
import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Protocol, TypeVar

import msgspec

from labkit.domain.snapshot import Snapshot, SymbolRow

Shown = TypeVar("Shown")
Made = TypeVar("Made")

MINUS = "−"
NOTHING = "–"
_HYPHEN_OF_A_NUMBER = re.compile(r"(?<![\w.])-(?=\d)")
FINAL_STATES = frozenset({"stopped", "failed"})
_STATE_TONES = {
    "running": "good",
    "starting": "warn",
    "warming_up": "warn",
    "stopping": "warn",
    "stopped": "muted",
    "failed": "bad",
}


class LabLike(Protocol):
    """The little of a lab a widget needs: looking at it, and four wishes."""

    def snapshot(self) -> Snapshot: ...

    def close_position(self, symbol: str, quantity: Decimal | None = None) -> None:
        """Ask for `symbol` to be closed (`quantity` of it if given). Raises `LabkitError` with a plain reason."""
        ...

    def pause_entries(self, reason: str) -> None: ...

    def resume_entries(self) -> None: ...


class Clock(msgspec.Struct, frozen=True):
    """Market time of a view (0 if not known yet), and how fast it runs on (0 if the browser must not count on)."""

    time_ms: int
    speed: float


class Header(msgspec.Struct, frozen=True, kw_only=True):
    market: str
    disclosure: str
    pace: str
    """How much faster than life, in words; empty at the speed of life."""
    state: str
    state_detail: str
    state_tone: str
    final: bool
    """True if nothing will ever change again: silence is then no fault."""
    entries_paused: str


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One labelled number of the account line."""

    key: str
    label: str
    text: str
    tone: str = ""
    title: str = ""


def remembered(view: Callable[[Shown], Made]) -> Callable[[Shown], Made]:
    """A pure view that is made anew only of another value than the last one.

    Decisions come once a minute, and a widget looks at them five times a second, each time at the trader's expense.
    """
    last: list[tuple[Shown, Made]] = []

    @functools.wraps(view)
    def look(value: Shown) -> Made:
        for before, made in last:
            if before == value:
                return made
        made = view(value)
        # Replaced as a whole: several widgets look, each on a thread of its own.
        last[:] = [(value, made)]
        return made

    return look


def clock_of(snapshot: Snapshot) -> Clock:
    """Market time to count on from; it stands still in a lab that has ended or runs in virtual time."""
    runs = snapshot.time_ms > 0 and snapshot.state not in FINAL_STATES and math.isfinite(snapshot.speed)
    return Clock(snapshot.time_ms, snapshot.speed if runs else 0.0)


def header_of(snapshot: Snapshot) -> Header:
    state, tone = words(snapshot.state), _STATE_TONES.get(snapshot.state, "warn")
    if snapshot.state == "running" and snapshot.symbols and all(row.stale_because for row in snapshot.symbols):
        # The engine is at work, but there is nothing yet (or no more) that it could decide on.
        state, tone = "waiting for quotes", "warn"
    return Header(
        market=snapshot.market,
        disclosure=snapshot.disclosure,
        pace=pace_in_words(snapshot.speed),
        state=state,
        state_detail=snapshot.state_detail,
        state_tone=tone,
        final=snapshot.state in FINAL_STATES,
        entries_paused=snapshot.entries_paused,
    )


def pace_in_words(speed: float) -> str:
    """`30× faster than life`; empty at speed 1."""
    if not math.isfinite(speed):
        return "as fast as possible"
    if speed == 1:
        return ""
    return f"{speed:g}× faster than life" if speed > 1 else f"{1 / speed:g}× slower than life"


def price_places(row: SymbolRow) -> int:
    """Decimals this symbol is quoted in, judged by its bid and ask."""
    return max((places_of(value) for value in (row.bid_price, row.ask_price) if value is not None), default=2)


def places_of(value: Decimal) -> int:
    """Decimals a value is written with: 0.10 has two."""
    text = str(value)
    if "E" not in text:
        # Read off its text: `as_tuple` makes a tuple of all digits, and a monitor asks this a thousand times a second.
        return len(text.partition(".")[2])
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def price(value: Decimal | None, places: int) -> str:
    return NOTHING if value is None else f"{value:,.{places}f}"


def money(amount: Decimal) -> str:
    """An amount in quote asset, two decimals."""
    return f"{amount:,.2f}".replace("-", MINUS)


def signed_money(amount: Decimal) -> str:
    """The same with its sign; what rounds to nothing has none."""
    text = f"{amount:+,.2f}"
    return text[1:] if text in ("+0.00", "-0.00") else text.replace("-", MINUS)


def true_minus(text: str) -> str:
    """A text of the ledger with the minus sign before its numbers; days and names keep their hyphens."""
    return _HYPHEN_OF_A_NUMBER.sub(MINUS, text)


def signed(value: float, places: int) -> str:
    text = f"{value:+.{places}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def rounded_parts(parts: Sequence[Decimal], quantum: Decimal) -> list[Decimal]:
    """`parts` on the grid of `quantum`, each off by less than one step, adding up to the rounded sum of all.

    The largest remainders are rounded up.
    """
    floors = [(part / quantum).to_integral_value(ROUND_FLOOR) for part in parts]
    missing = int((sum(parts, Decimal(0)) / quantum).to_integral_value() - sum(floors, Decimal(0)))
    by_remainder = sorted(range(len(parts)), key=lambda i: floors[i] - parts[i] / quantum)
    raised = set(by_remainder[:missing])
    return [(floor + (i in raised)) * quantum for i, floor in enumerate(floors)]


def percent(fraction: float) -> str:
    return f"{fraction * 100:.1f} %".replace("-", MINUS)


def basis_points(fraction: float) -> str:
    return f"{fraction * 10_000:.1f}".replace("-", MINUS)


def tone_of(value: Decimal | float) -> str:
    return "good" if value > 0 else "bad" if value < 0 else ""


def words(name: str) -> str:
    """A name of the code as words of a sentence: `warming_up` → `warming up`."""
    return name.replace("_", " ")


def utc_time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%H:%M:%S")


def utc_date_time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def page_head(title: str, header: Header, clock: Clock) -> str:
    """The first lines of any widget as plain HTML."""
    facts = [
        f"{header.market} market",
        header.pace,
        header.state,
        utc_date_time(clock.time_ms) if clock.time_ms else "",
    ]
    line = " · ".join(html.escape(fact) for fact in facts if fact)
    trouble = f"<br><b>{html.escape(header.state_detail)}</b>" if header.state == "failed" else ""
    return (
        f"<p><b>{title}</b> — {line}{trouble}<br><i>{html.escape(header.disclosure)}</i><br>"
        "<small>A still picture of that moment: run the cell again to see it live.</small></p>"
    )


def page_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain HTML table of escaped text. Words stand on the left; Jupyter puts all of a table on the right."""
    lines = [list(row) for row in rows]
    columns = zip(*lines, strict=True) if lines else ((),) * len(titles)
    styles = ["" if all(map(_is_figure, column)) else ' style="text-align:left"' for column in columns]
    head = "".join(f"<th{style}>{html.escape(title)}</th>" for title, style in zip(titles, styles, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{style}>{html.escape(cell)}</td>" for cell, style in zip(line, styles, strict=True))
        + "</tr>"
        for line in lines
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _is_figure(cell: str) -> bool:
    return cell in ("", "–") or any(character.isdigit() for character in cell)
