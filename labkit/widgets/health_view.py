"""Snapshot and weather → what the health panel shows: the breaker's ladder, limits, connections, loops, faults.

Pure, like `views`; the words and tones are its business, the looks are the style sheet's.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import msgspec

from labkit.domain.snapshot import BreakerRow, LoopRow, Snapshot, StreamRow
from labkit.exchange.circuit_breaker import WORST_LEVEL_FOR, Action, BreakerLevel
from labkit.exchange.rate_limits import LANE_CEILING
from labkit.paper.truth_table import IntentTruth
from labkit.paper.weather.script import WEATHERS
from labkit.widgets.view_parts import (
    NOTHING,
    Clock,
    Figure,
    Header,
    header_of,
    page_head,
    page_table,
    utc_time,
    words,
)
from labkit.wire.endpoints import Lane

_LEVEL_WORDS = {
    BreakerLevel.NORMAL: "everything is permitted",
    BreakerLevel.CAUTIOUS: "nothing that can wait",
    BreakerLevel.REDUCE_ONLY: "nothing new is opened",
    BreakerLevel.HALTED: "only closing, and a probe now and then",
}
_LEVEL_TONES = {
    BreakerLevel.NORMAL: "good",
    BreakerLevel.CAUTIOUS: "warn",
    BreakerLevel.REDUCE_ONLY: "warn",
    BreakerLevel.HALTED: "bad",
}
_LANE_WORDS = {
    Lane.CLOSE: "closing",
    Lane.CANCEL_QUERY: "cancelling and asking",
    Lane.OPEN: "opening",
    Lane.HISTORY: "history",
}
_SHOWN_ACTIONS = (Action.OPEN, Action.HISTORY, Action.QUERY, Action.CANCEL, Action.CLOSE)


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One level of the breaker."""

    key: str
    label: str
    meaning: str
    permits: str
    here: bool
    tone: str
    story: str
    """Since when, why and what next, on the rung it stands on."""


class LaneGauge(msgspec.Struct, frozen=True, kw_only=True):
    """How much request weight one lane may still use this minute."""

    key: str
    label: str
    share: float
    """Of its own ceiling, in [0, 1]."""
    text: str
    tone: str


class StreamHealth(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    state: str
    tone: str
    frames: str
    heard_ms: int | None
    troubles: str
    cause: str


class LoopHealth(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    runs: str
    late: str
    tone: str
    next_ms: int | None


class WeatherChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A ready-made weather and whether it is the present one."""

    key: str
    description: str
    here: bool


class Strike(msgspec.Struct, frozen=True, kw_only=True):
    """How often one fault of the present weather struck."""

    key: str
    times: str


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """All that the health panel shows."""

    header: Header
    rungs: tuple[Rung, ...]
    lanes: tuple[LaneGauge, ...]
    streams: tuple[StreamHealth, ...]
    loops: tuple[LoopHealth, ...]
    weather: str
    weathers: tuple[WeatherChoice, ...]
    strikes: tuple[Strike, ...]
    score: tuple[Figure, ...]
    stamp: tuple[Figure, ...]
    open_positions: int


def health_view(
    snapshot: Snapshot, weather: Mapping[str, Any], truth: Mapping[str, IntentTruth] | None, stamp: Mapping[str, str]
) -> HealthView:
    """The health panel's view of one moment.

    Args:
        snapshot: the lab.
        weather: `lab.weather.status()`; empty where the exchange was never asked.
        truth: `lab.weather.executions()`; None where it was never asked.
        stamp: where this lab lives, in words.
    """
    present = weather.get("weather") or ""
    strikes: Mapping[str, int] = weather.get("strikes") or {}
    return HealthView(
        header=header_of(snapshot),
        rungs=rungs_of(snapshot.breaker),
        lanes=lanes_of(snapshot.breaker),
        streams=tuple(_stream(row, snapshot.time_ms) for row in snapshot.streams),
        loops=tuple(_loop(row) for row in snapshot.loops),
        weather=f"{words(present)}, seed {weather.get('seed')}" if present else "fair" if weather else NOTHING,
        weathers=tuple(
            WeatherChoice(key=script.name, description=script.description, here=script.name == present)
            for script in WEATHERS.values()
        ),
        strikes=tuple(Strike(key=name, times=f"{count:,}×") for name, count in strikes.items() if count),
        score=_score(snapshot, strikes, truth),
        stamp=(
            *(Figure(key=name, label=name, text=text) for name, text in stamp.items()),
            Figure(
                key="ledger",
                label="Ledger",
                text=f"{snapshot.ledger_sequence:,} events, {snapshot.ledger_hash[:12] or NOTHING}",
                title="Number of events, and the hash that stands for all of them",
            ),
        ),
        open_positions=len(snapshot.positions),
    )


def rungs_of(row: BreakerRow | None) -> tuple[Rung, ...]:
    """The breaker's levels from well to worst, the present one with its story."""
    here = None if row is None else BreakerLevel[row.level]
    return tuple(
        Rung(
            key=level.name,
            label=words(level.name.lower()),
            meaning=_LEVEL_WORDS[level],
            permits=", ".join(action.value for action in _SHOWN_ACTIONS if level <= WORST_LEVEL_FOR[action]),
            here=level is here,
            tone=_LEVEL_TONES[level] if level is here else "muted",
            story=_story(row) if row is not None and level is here else "",
        )
        for level in BreakerLevel
    )


def _story(row: BreakerRow) -> str:
    told = [f"since {utc_time(row.since_ms)}"] if row.since_ms else []
    told += [row.cause] if row.cause else []
    told += [f"next probe {utc_time(row.next_probe_ms)}"] if row.next_probe_ms is not None else []
    return " · ".join(told)


def lanes_of(row: BreakerRow | None) -> tuple[LaneGauge, ...]:
    """What each lane may still ask for this minute, in request weight."""
    if row is None:
        return ()
    gauges = []
    for lane, ceiling in LANE_CEILING.items():
        room = int(row.weight_limit * ceiling)
        left = max(0, room - row.weight_used)
        share = min(1.0, row.weight_used / room) if room else 1.0
        gauges.append(
            LaneGauge(
                key=lane.name,
                label=_LANE_WORDS[lane],
                share=round(share, 3),
                text=f"{left:,} of {room:,} left",
                tone="bad" if not left else "warn" if share > 0.8 else "good",
            )
        )
    return tuple(gauges)


def _stream(row: StreamRow, time_ms: int) -> StreamHealth:
    healthy = not row.cause
    return StreamHealth(
        key=row.name,
        state=words(row.state),
        tone="good" if healthy else "warn",
        frames=f"{row.frames:,}",
        heard_ms=None if row.age_ms is None else time_ms - row.age_ms,
        troubles=f"{row.rejected:,} refused, {row.reconnects:,} reconnects",
        cause=row.cause,
    )


def _loop(row: LoopRow) -> LoopHealth:
    late = row.missed + row.overruns
    return LoopHealth(
        key=words(row.name),
        runs=f"{row.runs:,}",
        late=f"{row.missed:,} missed, {row.overruns:,} too long",
        tone="warn" if late else "",
        next_ms=row.next_run_ms,
    )


def _score(
    snapshot: Snapshot, strikes: Mapping[str, int], truth: Mapping[str, IntentTruth] | None
) -> tuple[Figure, ...]:
    """What the weather did, and what became of the account: the two columns that must not meet."""
    twice = 0 if truth is None else sum(each.executions > 1 for each in truth.values())
    refused = sum(row.rejected for row in snapshot.streams)
    return (
        Figure(key="strikes", label="Faults struck", text=NOTHING if truth is None else f"{sum(strikes.values()):,}"),
        Figure(key="refused", label="Frames refused", text=f"{refused:,}", title="Nothing refused is ever decided on"),
        Figure(key="reconnects", label="Reconnects", text=f"{snapshot.counts.reconnects:,}"),
        Figure(
            key="intents",
            label="Orders meant",
            text=NOTHING if truth is None else f"{len(truth):,}",
            title="Client order ids in the exchange's own books",
        ),
        Figure(
            key="twice",
            label="Executed twice",
            text=NOTHING if truth is None else f"{twice:,}",
            tone="" if truth is None else "bad" if twice else "good",
            title="By the exchange's own books; must be 0 in any weather",
        ),
    )


def health_html(view: HealthView, clock: Clock) -> str:
    """The panel as plain HTML without script or buttons."""
    rungs = page_table(
        ("Level", "Permits", ""), [(f"▶ {r.label}" if r.here else r.label, r.permits, r.story) for r in view.rungs]
    )
    lanes = page_table(("Lane", "Request weight"), [(lane.label, lane.text) for lane in view.lanes])
    streams = page_table(
        ("Stream", "State", "Frames", "Troubles", "Cause"),
        [(s.key, s.state, s.frames, s.troubles, s.cause) for s in view.streams],
    )
    strikes = page_table(("Fault", "Struck"), [(strike.key, strike.times) for strike in view.strikes])
    stamp = " · ".join(f"{html.escape(each.label)} {html.escape(each.text)}" for each in (*view.score, *view.stamp))
    return (
        page_head("Health and weather", view.header, clock)
        + rungs
        + lanes
        + streams
        + f"<p>Weather: <b>{html.escape(view.weather)}</b></p>"
        + (strikes if view.strikes else "")
        + f"<p><small>{stamp}</small></p>"
    )
