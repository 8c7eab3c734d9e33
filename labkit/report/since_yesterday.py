"""What changed since the day before, in a few plain sentences. Pure; used by the report notebook."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from html import escape
from typing import Any

from labkit.domain.day_history import DayHistory, DaySummary
from labkit.domain.reasons import because
from labkit.domain.snapshot import LearningRow
from labkit.report.amounts import signed
from labkit.report.tables import QUOTE

UNKNOWN = "The ledger knows nothing of a day before this one."
SETTINGS_TOLD = 6


class SinceYesterday:
    """The sentences, as a list in HTML and as lines of text."""

    def __init__(self, history: DayHistory) -> None:
        self.sentences = sentences_of(history.days[-2], history.days[-1]) if len(history.days) > 1 else [UNKNOWN]

    def __repr__(self) -> str:
        return "\n".join(self.sentences)

    def _repr_html_(self) -> str:
        return f'<ul class="labkit-words">{"".join(f"<li>{escape(sentence)}</li>" for sentence in self.sentences)}</ul>'


def sentences_of(before: DaySummary, now: DaySummary) -> list[str]:
    """What differs between two days of one ledger; the result, trades and fees in any case."""
    gap = (date.fromisoformat(now.day) - date.fromisoformat(before.day)).days
    then = "the day before" if gap == 1 else f"on {before.day}, the last day there is"
    told = [
        f"The account {_result(now)}, after it had {_result(before)} {then}.",
        f"{_trades(now)} closed after {before.trades:,}; fees {signed(now.fees)} after {signed(before.fees)} {QUOTE}.",
        _refusals(before, now),
        _learning(before.learning, now.learning),
        _settings(before.settings, now.settings),
    ]
    if now.deposits:
        told.append(f"{now.deposits:,.2f} {QUOTE} were deposited, which is not a result.")
    if before.version != now.version:
        told.append(f"labkit {before.version or 'of an unknown version'} became labkit {now.version}.")
    return [sentence for sentence in told if sentence]


def _result(day: DaySummary) -> str:
    way = "gained" if day.result > 0 else "lost" if day.result < 0 else "neither gained nor lost"
    return way if not day.result else f"{way} {abs(day.result):,.2f} {QUOTE} ({signed(100 * day.day_return)} %)"


def _trades(day: DaySummary) -> str:
    return "1 trade" if day.trades == 1 else f"{day.trades:,} trades"


def _refusals(before: DaySummary, now: DaySummary) -> str:
    if not now.refused:
        return "No entry was refused." if before.refused else ""
    reason, count = next(iter(now.refused.items()))
    told = f"Entries were refused most often because {because(reason)} ({count:,} of {sum(now.refused.values()):,})"
    earlier = next(iter(before.refused), None)
    if earlier is None:
        return f"{told}; none was refused before."
    return f"{told}, as before." if earlier == reason else f"{told}; before, because {because(earlier)}."


def _learning(before: LearningRow | None, now: LearningRow | None) -> str:
    if before is None or now is None:
        return ""
    return (
        f"{now.labels - before.labels:,} labels were learned from; skill {signed(before.skill_millinats)} → "
        f"{signed(now.skill_millinats)} millinats a label, calibration slope {before.calibration_slope:.2f} → "
        f"{now.calibration_slope:.2f}."
    )


def _settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    changed = [
        f"{name} {before.get(name, 'unset')} → {now.get(name, 'unset')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if not changed:
        return "No setting was changed."
    more = f" and {len(changed) - SETTINGS_TOLD} more" if len(changed) > SETTINGS_TOLD else ""
    return f"Settings changed: {', '.join(changed[:SETTINGS_TOLD])}{more}."
