"""Ten times what the exchange allows is asked for: it never has to complain, and closing never waits (G9)."""

from __future__ import annotations

import pytest

from labkit.exchange import rate_limits
from labkit.exchange.circuit_breaker import CircuitBreaker
from labkit.exchange.rate_limits import RateLimits
from labkit.paper.weather.script import Spell
from labkit.research.limit_trials import (
    ALLOWED_SHARE,
    ORDER_LIMIT,
    URGENT_WITHIN_MS,
    WEIGHT_LIMIT,
    Figures,
    asked_weight,
    run,
    table,
)

SECONDS = 8
BANNED_AT_ONCE = Spell(fault="ban", start_seconds=2, times=1, parameters={"seconds": 5.0})


@pytest.fixture(scope="module")
def load() -> Figures:
    return run(seconds=SECONDS)


def test_g9_the_trial_asks_for_ten_times_the_weight_there_is() -> None:
    assert asked_weight() == 10 * WEIGHT_LIMIT


def test_g9_the_exchange_never_has_to_complain(load: Figures) -> None:
    assert load.statuses.keys() == {200}


def test_g9_the_share_labkit_allows_itself_is_used_and_not_passed(load: Figures) -> None:
    assert 0.6 < load.most_weight / WEIGHT_LIMIT <= ALLOWED_SHARE
    assert load.most_orders / ORDER_LIMIT <= ALLOWED_SHARE


def test_g9_closing_and_cancelling_go_through_as_if_nothing_were(load: Figures) -> None:
    assert (load.urgent, load.refused_urgent) == (2 * SECONDS, 0)
    assert load.urgent_p99_ms <= URGENT_WITHIN_MS


def test_g9_not_one_request_arrives_in_the_window_of_a_ban() -> None:
    figures = run(BANNED_AT_ONCE, seconds=SECONDS)
    assert figures.statuses[418] >= 1
    assert figures.within_silence == 0


def test_g9_without_limits_the_exchange_complains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RateLimits, "earliest_ms", lambda self, call, now_ms: now_ms)
    assert run(seconds=SECONDS).statuses[429] > 0


def test_g9_without_the_breaker_requests_arrive_in_the_window_of_a_ban(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CircuitBreaker, "permits", lambda self, action, now_ms: True)
    assert run(BANNED_AT_ONCE, seconds=SECONDS).within_silence > 0


def test_g9_without_room_of_their_own_cancels_would_wait_behind_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "CANCEL_CEILING", 0.9)
    figures = run(seconds=2 * SECONDS)
    assert figures.refused_urgent > 0 or figures.urgent_p99_ms > URGENT_WITHIN_MS


@pytest.mark.deep
def test_g9_the_whole_table_is_well() -> None:
    assert [line for line, well in table() if not well] == []
