"""The breaker's whole state space, walked to its end: every promise in every state that any history can lead to.

Time passes in steps of 2.5 s, what one good answer makes up for, so that all amounts of trouble are met. The walk ends
when no step leads to a state that was not seen: nothing is sampled and no depth is assumed. Each promise is broken
once by a breaker made wrong on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from labkit.exchange.circuit_breaker import (
    LONGEST_PROBE_MS,
    OPENINGS_APART_MS,
    POINT_MS,
    SUCCESS_RELIEF_MS,
    Action,
    BreakerLevel,
    BreakerState,
    CircuitBreaker,
    Fault,
    LevelChange,
)

STEP_MS = SUCCESS_RELIEF_MS
CALM_MS = 8 * POINT_MS
"""So long does all trouble take to be forgotten."""
SETTLED_PROBES = 6
"""After so many failed probes the next wait is the longest one for good."""

Changes = tuple[LevelChange, ...]
Event = Callable[[CircuitBreaker], Changes]


def opened(breaker: CircuitBreaker) -> Changes:
    if breaker.permits(Action.OPEN, 0) and not breaker.slow_ms(Action.OPEN, 0):
        breaker.observe_sending(0, Action.OPEN)
    return ()


EVENTS: dict[str, Event] = {
    **{f"success {action}": lambda b, a=action: b.observe_success(0, a) for action in Action},
    **{f"fault {fault}": lambda b, f=fault: b.observe_fault(0, f) for fault in Fault},
    "429 for 5 s": lambda b: b.observe_fault(0, Fault.RATE_LIMITED, 5_000),
    "opened": opened,
    "time": lambda b: b.observe_time(STEP_MS),
}


def seen_from(state: BreakerState, now_ms: int) -> BreakerState:
    """The state as it looks at `now_ms`, that being 0: two that can only behave alike are one."""
    opening_ms = None if state.last_opening_ms is None else state.last_opening_ms - now_ms
    return msgspec.structs.replace(
        state,
        since_ms=1 if state.since_ms else 0,
        cause="a cause" if state.cause else "",
        trouble_until_ms=max(0, state.trouble_until_ms - now_ms),
        silent_until_ms=max(0, state.silent_until_ms - now_ms),
        next_probe_ms=max(0, state.next_probe_ms - now_ms) if state.halted else 0,
        failed_probes=min(state.failed_probes, SETTLED_PROBES) if state.halted else 0,
        last_opening_ms=opening_ms if opening_ms is not None and opening_ms > -OPENINGS_APART_MS else None,
    )


def walk(make: type[CircuitBreaker]) -> Iterator[tuple[BreakerState, str, BreakerState, Changes]]:
    """Every (state, event, state after it, changes told) that can be reached from a fresh breaker."""
    fresh = BreakerState()
    seen, waiting = {fresh}, [fresh]
    while waiting:
        state = waiting.pop()
        for event, happen in EVENTS.items():
            breaker = make(state)
            changes = happen(breaker)
            after = seen_from(breaker.to_state(), STEP_MS if event == "time" else 0)
            yield state, event, after, changes
            if after not in seen:
                seen.add(after)
                waiting.append(after)


def broken_promises(make: type[CircuitBreaker]) -> Iterator[tuple[str, object]]:
    """Each promise that a reachable state or step breaks, with that state."""
    permitted: dict[BreakerLevel, set[Action]] = {level: set() for level in BreakerLevel}
    forbidden: dict[BreakerLevel, set[Action]] = {level: set() for level in BreakerLevel}
    looked_at: set[BreakerState] = set()
    for state, event, after, changes in walk(make):
        if state not in looked_at:
            looked_at.add(state)
            yield from ((promise, state) for promise, kept in promises_of_a_state(make, state) if not kept)
            if not state.silent_until_ms:
                breaker = make(state)
                for action in set(Action) - {Action.PROBE}:
                    (permitted if breaker.permits(action, 0) else forbidden)[breaker.level(0)].add(action)
        kept_or_not = promises_of_a_step(make, state, event, after, changes)
        yield from ((promise, (state, event)) for promise, kept in kept_or_not if not kept)
    for better in BreakerLevel:
        for worse in BreakerLevel:
            if better < worse and permitted[worse] & forbidden[better]:
                yield "a worse level never permits more", (better, worse)
    assert len(looked_at) > 5_000, "the walk ended too early to say anything"


def promises_of_a_state(make: type[CircuitBreaker], state: BreakerState) -> Iterator[tuple[str, bool]]:
    breaker = make(state)
    silent = state.silent_until_ms > 0
    for action in Action:
        permits = breaker.permits(action, 0)
        yield "silence is never broken", not (silent and permits)
        if not permits:
            wait_ms = breaker.retry_after_ms(action, 0)
            yield "a wait is told", wait_ms > 0 or breaker.permits(Action.PROBE, 0)
            yield "no longer a wait is told than needed", not breaker.permits(action, wait_ms - 1)
    probe_ms = breaker.retry_after_ms(Action.PROBE, 0)
    yield "a probe always comes", breaker.permits(Action.PROBE, probe_ms)
    yield "a probe comes in time", probe_ms <= max(state.silent_until_ms, LONGEST_PROBE_MS)
    yield "a cause is told", (state.cause == "") is (state.level is BreakerLevel.NORMAL)
    breaker.observe_success(probe_ms, Action.PROBE)
    breaker.observe_time(probe_ms + CALM_MS)
    yield "a good probe and calm lead back to normal", breaker.level(probe_ms + CALM_MS) is BreakerLevel.NORMAL


def promises_of_a_step(
    make: type[CircuitBreaker], state: BreakerState, event: str, after: BreakerState, changes: Changes
) -> Iterator[tuple[str, bool]]:
    before, now = make(state).level(0), make(after).level(0)
    elapsed_ms = STEP_MS if event == "time" else 0
    if before is BreakerLevel.HALTED and now is not BreakerLevel.HALTED:
        yield "only a good probe ends a halt", event == f"success {Action.PROBE}" and not state.silent_until_ms
    if event.startswith(("fault", "429")):
        yield "a fault never makes it better", now >= before
    if event in ("429 for 5 s", f"fault {Fault.BANNED}", f"fault {Fault.RATE_LIMITED}"):
        yield "a ban silences", after.silent_until_ms > 0 and now is BreakerLevel.HALTED
    yield "silence is never shortened", after.silent_until_ms >= state.silent_until_ms - elapsed_ms
    moved = after.level is not state.level or after.silent_until_ms > state.silent_until_ms
    yield "every change is told", bool(changes) is moved
    yield "the level is the one told", after.level is now
    if changes:
        restarted = seen_from(CircuitBreaker.after(changes[-1]).to_state(), elapsed_ms)
        for name in ("level", "halted", "silent_until_ms", "trouble_until_ms", "next_probe_ms"):
            yield "what is told survives a restart", getattr(restarted, name) == getattr(after, name)


def test_no_history_whatever_breaks_a_promise() -> None:
    assert list(broken_promises(CircuitBreaker)) == []


class TimeHeals(CircuitBreaker):
    def level(self, now_ms: int) -> BreakerLevel:
        state = self.to_state()
        forgotten = now_ms >= max(state.trouble_until_ms, state.silent_until_ms)
        return BreakerLevel.NORMAL if state.halted and forgotten else super().level(now_ms)


class AnyAnswerHeals(CircuitBreaker):
    def observe_success(self, now_ms: int, action: Action) -> Changes:
        return super().observe_success(now_ms, Action.PROBE)


class ClosesInSilence(CircuitBreaker):
    def permits(self, action: Action, now_ms: int) -> bool:
        return action is Action.CLOSE or super().permits(action, now_ms)


class OpensWhenItIsBad(CircuitBreaker):
    def permits(self, action: Action, now_ms: int) -> bool:
        level = self.level(now_ms)
        swapped = {BreakerLevel.CAUTIOUS: False, BreakerLevel.REDUCE_ONLY: True}
        usual = super().permits(action, now_ms)
        return swapped.get(level, usual) if action is Action.OPEN and now_ms >= self.silent_until_ms else usual


class NeverProbes(CircuitBreaker):
    def permits(self, action: Action, now_ms: int) -> bool:
        return super().permits(action, now_ms) and not (action is Action.PROBE and self.to_state().halted)


class ForgetsTheLongerBan(CircuitBreaker):
    def observe_fault(self, now_ms: int, fault: Fault, retry_after_ms: int = 0, cause: str = "") -> Changes:
        before = self.to_state().level
        return tuple(c for c in super().observe_fault(now_ms, fault, retry_after_ms, cause) if c.level is not before)


class LastWordCounts(CircuitBreaker):
    def observe_fault(self, now_ms: int, fault: Fault, retry_after_ms: int = 0, cause: str = "") -> Changes:
        if retry_after_ms:
            self._state = msgspec.structs.replace(self._state, silent_until_ms=0)
        return super().observe_fault(now_ms, fault, retry_after_ms, cause)


@pytest.mark.parametrize(
    ("wrong", "promise"),
    [
        (TimeHeals, "only a good probe ends a halt"),
        (AnyAnswerHeals, "only a good probe ends a halt"),
        (ClosesInSilence, "silence is never broken"),
        (OpensWhenItIsBad, "a worse level never permits more"),
        (NeverProbes, "a probe always comes"),
        (ForgetsTheLongerBan, "every change is told"),
        (LastWordCounts, "silence is never shortened"),
    ],
)
def test_a_breaker_made_wrong_on_purpose_is_caught(wrong: type[CircuitBreaker], promise: str) -> None:
    assert promise in (broken for broken, _ in broken_promises(wrong))
