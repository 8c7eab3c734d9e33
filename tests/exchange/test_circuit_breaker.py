"""The breaker decides by a table; its whole small state space is walked through here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.exchange.circuit_breaker import (
    DEFAULT_SILENCE_MS,
    FIRST_PROBE_MS,
    FLOOR_POINTS,
    LONGEST_PROBE_MS,
    POINT_MS,
    WORST_LEVEL_FOR,
    Action,
    BreakerLevel,
    BreakerState,
    CircuitBreaker,
    Fault,
)

NOW = 1_000_000
MINOR_FAULTS = (Fault.TRANSPORT, Fault.SERVER)

Step = tuple[str, Callable[[CircuitBreaker, int], object]]
STEPS: list[Step] = [
    *((f"success {a}", lambda b, t, a=a: b.observe_success(t, a)) for a in (Action.QUERY, Action.CLOSE, Action.PROBE)),
    *((f"fault {f}", lambda b, t, f=f: b.observe_fault(t, f)) for f in Fault),
    ("429 for 7 s", lambda b, t: b.observe_fault(t, Fault.RATE_LIMITED, 7_000)),
    ("time", lambda b, t: b.observe_time(t)),
]
PAUSES_MS = (0, 500, 5_000, 7_000, 60_000)


def normalized(state: BreakerState, now_ms: int) -> BreakerState:
    """The state as seen from now: two histories that can only behave alike are one state."""
    return msgspec.structs.replace(
        state,
        since_ms=0,
        cause="a cause" if state.cause else "",
        trouble_until_ms=max(0, state.trouble_until_ms - now_ms),
        silent_until_ms=max(0, state.silent_until_ms - now_ms),
        next_probe_ms=max(0, state.next_probe_ms - now_ms) if state.halted else 0,
        failed_probes=min(state.failed_probes, 7),
    )


def reachable(depth: int) -> Iterator[tuple[BreakerState, str, int, CircuitBreaker]]:
    """Every (state at time 0, step, moment of the step, breaker after it) within `depth` steps of a fresh breaker."""
    seen = {BreakerState()}
    frontier = [BreakerState()]
    for _ in range(depth):
        following = []
        for state in frontier:
            for pause_ms in PAUSES_MS:
                for name, step in STEPS:
                    breaker = CircuitBreaker(state)
                    step(breaker, pause_ms)
                    yield state, name, pause_ms, breaker
                    after = normalized(breaker.to_state(), pause_ms)
                    if after not in seen:
                        seen.add(after)
                        following.append(after)
        frontier = following


def test_every_reachable_state_keeps_the_promises() -> None:
    """Model check: all states within five steps, each promise at each of them."""
    visited = 0
    for state, step, now_ms, after in reachable(5):
        before = CircuitBreaker(state)
        visited += 1
        context = (state, step, now_ms)
        silent = now_ms < after.silent_until_ms
        for action in Action:
            permitted = after.permits(action, now_ms)
            assert not (silent and permitted), context
            if action is Action.CLOSE:
                assert permitted is not silent, context
            if permitted:
                assert after.retry_after_ms(action, now_ms) == 0, context
            else:
                # The promised moment is the first one: not a millisecond earlier.
                wait_ms = after.retry_after_ms(action, now_ms)
                assert wait_ms > 0 or after.permits(Action.PROBE, now_ms), context
                assert not after.permits(action, now_ms + wait_ms - 1), context
        if before.level(now_ms) is BreakerLevel.HALTED and after.level(now_ms) is not BreakerLevel.HALTED:
            assert step == f"success {Action.PROBE}", context
        if step.startswith(("fault", "429")):
            assert after.level(now_ms) >= before.level(now_ms), context
        if step in ("fault rate_limited", "fault banned", "429 for 7 s"):
            assert after.level(now_ms) is BreakerLevel.HALTED, context
            assert silent, context
        assert after.silent_until_ms >= before.silent_until_ms, context
        assert after.to_state().level is after.level(now_ms), context
        assert (after.cause == "") is (after.level(now_ms) is BreakerLevel.NORMAL), context
    assert visited > 10_000


def test_every_reachable_state_comes_back_to_normal_when_the_exchange_does() -> None:
    """If every permitted probe succeeds, no state is a trap."""
    for _, _, now_ms, breaker in reachable(3):
        moment = now_ms
        for _ in range(4):
            if breaker.level(moment) is BreakerLevel.HALTED:
                moment += breaker.retry_after_ms(Action.PROBE, moment)
                assert breaker.permits(Action.PROBE, moment)
                breaker.observe_success(moment, Action.PROBE)
                assert breaker.level(moment) is BreakerLevel.REDUCE_ONLY
            moment += FLOOR_POINTS[BreakerLevel.HALTED] * POINT_MS
            breaker.observe_time(moment)
        assert breaker.level(moment) is BreakerLevel.NORMAL


def test_a_worse_level_never_permits_more() -> None:
    permitted = [{a for a, worst in WORST_LEVEL_FOR.items() if level <= worst} for level in BreakerLevel]
    for better, worse in pairwise(permitted):
        assert worse < better


def test_every_action_has_a_row_in_the_table() -> None:
    assert set(WORST_LEVEL_FOR) == set(Action)


@pytest.mark.parametrize(
    ("faults", "level"),
    [(1, BreakerLevel.NORMAL), (2, BreakerLevel.CAUTIOUS), (4, BreakerLevel.REDUCE_ONLY), (8, BreakerLevel.HALTED)],
)
def test_faults_in_a_row_climb_the_ladder(faults: int, level: BreakerLevel) -> None:
    breaker = CircuitBreaker()
    for _ in range(faults):
        breaker.observe_fault(NOW, Fault.TRANSPORT)
    assert breaker.level(NOW) is level


def test_trouble_is_forgotten_with_time_alone() -> None:
    breaker = CircuitBreaker()
    for _ in range(7):
        breaker.observe_fault(NOW, Fault.SERVER)
    levels = [breaker.level(NOW + seconds * 1_000) for seconds in (0, 30, 31, 50, 51)]
    assert levels == [2, 2, 1, 1, 0]


def test_a_halt_is_not_forgotten_with_time_alone() -> None:
    breaker = CircuitBreaker()
    for _ in range(8):
        breaker.observe_fault(NOW, Fault.SERVER)
    assert breaker.level(NOW + 86_400_000) is BreakerLevel.HALTED


def test_an_exchange_that_answers_nine_times_in_ten_is_never_halted() -> None:
    breaker = CircuitBreaker()
    for call in range(1_000):
        moment = NOW + call * 100
        if call % 10 == 0:
            breaker.observe_fault(moment, Fault.TRANSPORT)
        else:
            breaker.observe_success(moment, Action.QUERY)
        assert breaker.level(moment) is BreakerLevel.NORMAL


def test_429_silences_everything_for_exactly_the_window_of_the_server() -> None:
    breaker = CircuitBreaker()
    breaker.observe_fault(NOW, Fault.RATE_LIMITED, 7_000)
    assert not any(breaker.permits(action, NOW + 6_999) for action in Action)
    assert {action for action in Action if breaker.permits(action, NOW + 7_000)} == {Action.CLOSE, Action.PROBE}


@pytest.mark.parametrize("fault", list(DEFAULT_SILENCE_MS))
def test_a_ban_without_a_window_is_given_one(fault: Fault) -> None:
    breaker = CircuitBreaker()
    breaker.observe_fault(NOW, fault)
    assert breaker.silent_until_ms == NOW + DEFAULT_SILENCE_MS[fault]


def test_an_answer_that_was_under_way_does_not_lift_a_ban() -> None:
    breaker = CircuitBreaker()
    breaker.observe_fault(NOW, Fault.BANNED, 120_000)
    breaker.observe_success(NOW + 1, Action.PROBE)
    assert not any(breaker.permits(action, NOW + 119_999) for action in Action)


def test_overload_stops_opening_at_once_and_nothing_else_that_matters() -> None:
    breaker = CircuitBreaker()
    breaker.observe_fault(NOW, Fault.OVERLOADED)
    permitted = {action for action in Action if breaker.permits(action, NOW)}
    assert permitted == {Action.CLOSE, Action.CANCEL, Action.QUERY, Action.PROBE}


def test_overload_however_often_told_never_halts() -> None:
    breaker = CircuitBreaker()
    for _ in range(100):
        breaker.observe_fault(NOW, Fault.OVERLOADED)
    assert breaker.level(NOW) is BreakerLevel.REDUCE_ONLY


def test_a_close_that_gets_through_brings_the_probe_forward_but_lifts_nothing() -> None:
    breaker = CircuitBreaker()
    for _ in range(8):
        breaker.observe_fault(NOW, Fault.TRANSPORT)
    breaker.observe_success(NOW + 10, Action.CLOSE)
    assert breaker.level(NOW + 10) is BreakerLevel.HALTED
    assert breaker.next_probe_ms == NOW + 10


def test_failed_probes_come_rarer_and_rarer_up_to_a_minute() -> None:
    breaker = CircuitBreaker()
    for _ in range(8):
        breaker.observe_fault(NOW, Fault.TRANSPORT)
    waits = []
    moment = NOW
    for _ in range(9):
        wait_ms = breaker.retry_after_ms(Action.PROBE, moment)
        waits.append(wait_ms)
        moment += wait_ms
        breaker.observe_fault(moment, Fault.TRANSPORT)
    assert waits == [FIRST_PROBE_MS * factor for factor in (1, 2, 4, 8, 16, 32)] + [LONGEST_PROBE_MS] * 3


def test_requests_under_way_when_the_halt_begins_do_not_postpone_the_probe() -> None:
    breaker = CircuitBreaker()
    for _ in range(12):
        breaker.observe_fault(NOW, Fault.TRANSPORT)
    assert breaker.next_probe_ms == NOW + FIRST_PROBE_MS


def test_each_change_of_level_is_told_once_with_cause_and_next_probe() -> None:
    breaker = CircuitBreaker()
    told = [
        change
        for second in range(10)
        for change in breaker.observe_fault(NOW + second, Fault.TRANSPORT, cause="connection refused")
    ]
    assert [(change.before, change.level) for change in told] == [(0, 1), (1, 2), (2, 3)]
    assert {change.cause for change in told} == {"connection refused"}
    assert [change.next_probe_ms for change in told] == [None, None, breaker.next_probe_ms]
    assert breaker.since_ms == told[-1].time_ms


def test_a_level_lowered_by_time_is_told_by_the_next_observation() -> None:
    breaker = CircuitBreaker()
    breaker.observe_fault(NOW, Fault.SERVER)
    breaker.observe_fault(NOW, Fault.SERVER)
    (change,) = breaker.observe_time(NOW + 60_000)
    assert (change.before, change.level) == (BreakerLevel.CAUTIOUS, BreakerLevel.NORMAL)
    assert breaker.cause == ""


steps = st.lists(st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 200_000)), max_size=30)


@given(steps, steps)
def test_a_saved_breaker_behaves_like_one_that_never_stopped(
    before: list[tuple[int, int]], after: list[tuple[int, int]]
) -> None:
    lived = CircuitBreaker()
    moment = NOW
    for index, pause_ms in before:
        moment += pause_ms
        STEPS[index][1](lived, moment)
    stored = msgspec.json.encode(lived.to_state())
    restored = CircuitBreaker.from_state(msgspec.json.decode(stored, type=BreakerState))
    for index, pause_ms in after:
        moment += pause_ms
        assert STEPS[index][1](lived, moment) == STEPS[index][1](restored, moment)
    assert lived.to_state() == restored.to_state()


@given(st.lists(st.tuples(st.sampled_from(MINOR_FAULTS), st.integers(0, 60_000)), min_size=1, max_size=50))
def test_the_level_never_falls_at_the_moment_of_a_fault(faults: list[tuple[Fault, int]]) -> None:
    breaker = CircuitBreaker()
    moment = NOW
    for fault, pause_ms in faults:
        moment += pause_ms
        before = breaker.level(moment)
        breaker.observe_fault(moment, fault)
        assert breaker.level(moment) >= before
