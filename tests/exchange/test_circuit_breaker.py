"""The breaker decides by a table: what each row and each step means. test_breaker_model walks its state space."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.exchange.circuit_breaker import (
    DEFAULT_SILENCE_MS,
    FIRST_PROBE_MS,
    LONGEST_PROBE_MS,
    OPENINGS_APART_MS,
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


def test_openings_are_slowed_while_cautious_and_nothing_else_is() -> None:
    breaker = CircuitBreaker()
    breaker.observe_sending(NOW, Action.OPEN)
    assert breaker.slow_ms(Action.OPEN, NOW) == 0
    for _ in range(3):
        breaker.observe_fault(NOW, Fault.SERVER)
    assert breaker.slow_ms(Action.OPEN, NOW + 500) == OPENINGS_APART_MS - 500
    assert {breaker.slow_ms(action, NOW + 500) for action in Action if action is not Action.OPEN} == {0}
    assert breaker.slow_ms(Action.OPEN, NOW + OPENINGS_APART_MS) == 0


def test_a_ban_that_grows_while_halted_is_told_again_since_the_halt_began() -> None:
    breaker = CircuitBreaker()
    breaker.observe_fault(NOW, Fault.RATE_LIMITED, 7_000, cause="429")
    (change,) = breaker.observe_fault(NOW + 8_000, Fault.BANNED, 120_000, cause="418")
    assert (change.before, change.level, change.cause) == (BreakerLevel.HALTED, BreakerLevel.HALTED, "418")
    assert (change.since_ms, change.silent_until_ms) == (NOW, NOW + 128_000)
    assert change.next_probe_ms == NOW + 128_000


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
    restored = CircuitBreaker(msgspec.json.decode(stored, type=BreakerState))
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
