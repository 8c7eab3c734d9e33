"""What a lab and its weather look like as the last line of a cell: a few lines of HTML that need no kernel."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from labkit.domain.snapshot import Snapshot
from labkit.paper.weather.script import WEATHERS
from labkit.widgets.view_parts import clock_of, header_of, page_table, utc_date_time, words
from labkit.widgets.views import account_figures

NEXT_STEPS = (
    ("lab.monitor()", "watch prices, account and health"),
    ("lab.inspector()", "open positions and their exits"),
    ("lab.health()", "the breaker, limits, and faults on demand"),
    ("lab.why('SYMBOL')", "why it was traded, or was not"),
    ("lab.stop()", "end cleanly"),
)


def lab_card(snapshot: Snapshot, folder: str) -> str:
    """How the lab stands, and what may be asked of it next."""
    header, clock = header_of(snapshot), clock_of(snapshot)
    facts = [f"{header.market} market", header.pace, header.state, header.state_detail]
    facts += [utc_date_time(clock.time_ms)] if clock.time_ms else []
    figures = [(figure.label, figure.text) for figure in account_figures(snapshot.account)]
    return (
        f"<p><b>Lab</b> — {html.escape(' · '.join(fact for fact in facts if fact))}<br>"
        f"<small>{html.escape(folder)}</small></p>"
        + (page_table([label for label, _ in figures], [[text for _, text in figures]]) if figures else "")
        + page_table(("Next", "What it gives"), NEXT_STEPS)
    )


def weather_card(status: Mapping[str, Any]) -> str:
    """The weather there is, how often each fault struck, and the weathers that could be had."""
    now = status["weather"] or "fair"
    strikes = [(words(fault), str(count)) for fault, count in sorted(status["strikes"].items())]
    return (
        f"<p><b>Weather</b> — {html.escape(now)}</p>"
        + (page_table(("Fault", "Struck"), strikes) if strikes else "")
        + page_table(
            ("lab.weather(...)", "What it brings"),
            [(repr(name), script.description) for name, script in WEATHERS.items()],
        )
    )
