"""How good the day's data were: what was stale, what was cut off, what was asked for, and what that cost in decisions.

Used by the report notebook.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from labkit.domain.clock import MINUTE_MS, SECOND_MS
from labkit.domain.day_history import DayHistory, Outage
from labkit.domain.decisions import Action
from labkit.report.chart import INK, ORANGE, VERMILLION, Chart, days_since_1970, say_nothing, tidy, time_axis
from labkit.report.days import clock_text
from labkit.report.tables import frame_of

if TYPE_CHECKING:
    import pandas as pd

FEED_REASONS = frozenset({"bar_present", "quote_fresh", "features_sane", "breaker", "entries_allowed"})
"""Refusals that are about data, exchange or pauses and not about the market."""
BREAKER = "circuit breaker"
LEAST_SHOWN_MS = MINUTE_MS // 2
"""A shorter outage is drawn as if it had lasted so long, or nobody would see it."""


def feed_by_symbol(history: DayHistory) -> pd.DataFrame:
    """Stale quotes, minutes without a bar or a quote and decisions refused for them, by symbol."""
    feed, symbols = history.feed, history.symbols
    stale = {symbol: [outage for outage in feed.outages if outage.what == symbol] for symbol in symbols}
    refused = Counter(
        decision.symbol
        for decision in history.decisions
        if decision.action is Action.REFUSE and decision.primary_reason in FEED_REASONS
    )
    return frame_of(
        {
            "symbol": list(symbols),
            "stale": [len(stale[symbol]) for symbol in symbols],
            "together": [_seconds(sum(map(_length_ms, stale[symbol]))) for symbol in symbols],
            "longest": [_seconds(max(map(_length_ms, stale[symbol]), default=0)) for symbol in symbols],
            "no bar": [feed.without_bar.get(symbol, 0) for symbol in symbols],
            "no quote": [feed.without_quote.get(symbol, 0) for symbol in symbols],
            "refused for it": [refused[symbol] for symbol in symbols],
        },
        {"stale": "times", "together": "s", "longest": "s", "no bar": "min", "no quote": "min",
         "refused for it": "decisions"},
    )  # fmt: skip


def connections(history: DayHistory) -> pd.DataFrame:
    """What each connection carried, how often it was made anew, and how long it was known to be cut off."""
    rows = history.feed.connections
    cut = {row.name: [outage for outage in history.feed.outages if outage.what == row.name] for row in rows}
    return frame_of(
        {
            "connection": [row.name for row in rows],
            "frames": [row.frames for row in rows],
            "rejected": [row.rejected for row in rows],
            "reconnects": [row.reconnects for row in rows],
            "cut off": [_seconds(sum(map(_length_ms, cut[row.name]))) for row in rows],
        },
        {"cut off": "s"},
    )


def troubles(history: DayHistory) -> pd.DataFrame:
    """Everything that was out of order but the quotes of symbols, in the order it began: with its cause."""
    rows = [outage for outage in history.feed.outages if outage.what not in history.symbols]
    return frame_of(
        {
            "began": [clock_text(row.start_ms, seconds=True) for row in rows],
            "what": [row.what for row in rows],
            "lasted": [_seconds(_length_ms(row)) for row in rows],
            "cause": [row.cause for row in rows],
        },
        {"began": "UTC", "lasted": "s"},
    )


def service(history: DayHistory) -> pd.DataFrame:
    """The day's data in a few figures: minutes, delay, request weight, the circuit breaker."""
    feed = history.feed
    breaker = sum(_length_ms(outage) for outage in feed.outages if outage.what == BREAKER)
    refused = sum(
        decision.action is Action.REFUSE and decision.primary_reason in FEED_REASONS for decision in history.decisions
    )
    rows = {
        "minutes lived": f"{feed.minutes:,}",
        "of them too late to decide": f"{feed.missed_minutes:,}",
        "minutes the lab was off": f"{feed.minutes_off:,}",
        "delay of quotes, 99 %": f"{feed.latency_ms_p99:,.0f} ms" if feed.weight_limit else "not noted",
        "request weight, most in a minute": (
            f"{feed.weight_used:,} of {feed.weight_limit:,}" if feed.weight_limit else "not noted"
        ),
        "reconnects": f"{sum(row.reconnects for row in feed.connections):,}",
        "frames rejected": f"{sum(row.rejected for row in feed.connections):,}",
        "circuit breaker above NORMAL": f"{_seconds(breaker):,.1f} s",
        "decisions refused for data, exchange or pauses": f"{refused:,}",
    }
    return frame_of({"what": list(rows), "value": list(rows.values())}, {})


def outages(history: DayHistory) -> Chart:
    """When what was out of order; very short spells are drawn longer than they were."""
    found = history.feed.outages
    names = list(dict.fromkeys(outage.what for outage in found))
    told = "; ".join(_told(name, [outage for outage in found if outage.what == name]) for name in names)
    chart = Chart(0.9 + 0.3 * max(len(names), 1), f"Out of order on {history.day}: {told or 'nothing'}.")
    if not names:
        return say_nothing(chart, "nothing was out of order on this day")
    axes = chart.subplots()
    ordered = sorted(names, key=lambda name: (name in history.symbols, name), reverse=True)
    for outage in found:
        colour = ORANGE if outage.what in history.symbols else VERMILLION
        middle = (outage.start_ms + outage.end_ms) / 2
        reach = max(_length_ms(outage), LEAST_SHOWN_MS) / 2
        ends = [days_since_1970(round(middle - reach)), days_since_1970(round(middle + reach))]
        axes.plot(ends, [ordered.index(outage.what)] * 2, color=colour, linewidth=8, solid_capstyle="butt")
    axes.set_yticks(range(len(ordered)), ordered)
    axes.set_ylim(-0.7, len(ordered) - 0.3)
    time_axis(axes, history)
    axes.set_title("Out of order", loc="left", color=INK, fontsize=10, fontweight="bold")
    tidy(axes, grid="x")
    return chart


def _told(name: str, found: list[Outage]) -> str:
    times = "once" if len(found) == 1 else f"{len(found):,} times"
    return f"{name} {times}, {_seconds(sum(map(_length_ms, found))):,.1f} s together"


def _length_ms(outage: Outage) -> int:
    return outage.end_ms - outage.start_ms


def _seconds(milliseconds: int) -> float:
    return round(milliseconds / SECOND_MS, 1)
