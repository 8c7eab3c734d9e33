"""What a trial is: one fault, how it is lived through, what is told of it, and how that is judged.

A trial lives through a fair beginning, one fault, and what comes after; its result says how often the fault struck,
whether and when it was noticed, whether and when all was well again, and what must never have happened but did. The
same trial in fair weather is its own negative control: then nothing may be noticed. Times in milliseconds, virtual
ones unless the trial is `in_real_time`, counted from the fault's beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from labkit.edge.clocks import VirtualTimeLoop, run_in_virtual_time

STALE_WITHIN_MS = 4_000
"""Any silent stream must be noticed within this (target G6)."""
WELL_WITHIN_MS = 60_000


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one trial went. `harm` names what must never happen; empty is good."""

    injected: int
    detected_ms: int | None
    recovered_ms: int | None
    harm: str = ""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, what rows of the catalogue it stands for, and how it is lived through."""

    ids: str
    name: str
    attempt: Callable[[bool], Coroutine[Any, Any, Result]]
    """Lives through it; with True, without the fault."""
    way: str
    """How it is lived through: trials of one way share their negative control."""
    in_real_time: bool = False
    """On real sockets, not in virtual time."""
    detect_within_ms: int | None = 10_000
    """None where there is nothing to be noticed: the exchange is free to do that."""
    recover_within_ms: int = WELL_WITHIN_MS


def run(trial: Trial, *, fair: bool = False) -> Result:
    """Live one trial; in fair weather it is its own control."""
    if trial.in_real_time:
        return asyncio.run(trial.attempt(fair))
    return run_in_virtual_time(trial.attempt(fair), VirtualTimeLoop())


def judge(trial: Trial, result: Result) -> str:
    """What was not as it must be; empty if all was."""
    if not result.injected:
        return "the fault did not strike"
    if result.harm:
        return result.harm
    limit_ms = trial.detect_within_ms
    if limit_ms is not None and (result.detected_ms is None or result.detected_ms > limit_ms):
        return f"noticed {in_seconds(result.detected_ms)}, allowed are {limit_ms / 1000:g} s"
    if result.recovered_ms is None or result.recovered_ms > trial.recover_within_ms:
        return f"well {in_seconds(result.recovered_ms)}, allowed are {trial.recover_within_ms / 1000:g} s"
    return ""


def in_seconds(milliseconds: int | None) -> str:
    """For reading."""
    return "never" if milliseconds is None else f"{milliseconds / 1000:.2f} s"
