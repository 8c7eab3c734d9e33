"""The feed's and the client's targets, measured; and each judge says no where the protection is off."""

from __future__ import annotations

import asyncio

import pytest

from labkit.config import MonitorConfig
from labkit.errors import ConfigError
from labkit.market import session
from labkit.research.targets import ambiguous_sends, feed_fuzz, feed_reconnects, feed_rotation, feed_silence
from labkit.research.targets.figure import Figure, quantile
from labkit.research.targets.table import measured


def failed(figures: list[Figure]) -> list[str]:
    return [f"{figure.name}: {figure.value:g}" for figure in figures if not figure.holds]


def test_g5_a_few_hundred_mutants_are_refused_and_the_next_sound_frame_is_shown() -> None:
    json = asyncio.run(feed_fuzz.mutated_json(count=400))
    framing = asyncio.run(feed_fuzz.broken_framing(count=40))
    assert failed(json.figures("json")) == failed(framing.figures("framing")) == [], json.examples + framing.examples


def test_g5_control_a_trusting_feed_offers_nonsense_and_dies() -> None:
    outcome = asyncio.run(feed_fuzz.mutated_json(feed_fuzz.TrustingFeed, count=200))
    assert outcome.invalid_offered > 0
    assert outcome.task_deaths > 0


@pytest.mark.parametrize(
    "told",
    [
        b'"b":"91234.50","b":"91234.51"',
        b'"b":"NaN"',
        b'"b":91234.5',
        b'"b":"1e5"',
        b'"b":"-1"',
        b'"b":"99999.00"',
        b'"b":" 1"',
        b'"\xff":1,"b":"91234.50"',
    ],
)
def test_g5_the_oracle_refuses_what_is_no_quote(told: bytes) -> None:
    sound = (
        b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":7,"s":"BTCUSDT","b":"91234.50","B":"1",'
        b'"a":"91234.60","A":"1","T":1,"E":1}}'
    )
    assert feed_fuzz.read_strictly(sound) is not None
    assert feed_fuzz.read_strictly(sound.replace(b'"b":"91234.50"', told)) is None


@pytest.mark.deep
def test_g5_ten_thousand_mutants_and_a_thousand_broken_frames() -> None:
    assert failed(feed_fuzz.figures()) == []


@pytest.mark.deep
def test_g6_silence_is_noticed_and_nothing_old_is_decided_on() -> None:
    # The median's aim is 2.5 s; with a limit of 3 s for every quote it cannot be met, and is told as it is.
    assert failed(feed_silence.figures()) == []


@pytest.mark.deep
def test_g6_control_with_a_limit_of_ten_seconds_old_quotes_are_decided_on() -> None:
    assert len(failed(feed_silence.figures(rounds=1, stale_after_ms=10_000))) == 3


@pytest.mark.deep
def test_g7_five_hundred_cuts_and_forty_outages() -> None:
    assert failed(feed_reconnects.figures()) == []


def test_g7_control_a_slow_back_off_and_attempts_without_a_limit_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = feed_reconnects.cuts(6, config=MonitorConfig(backoff_first_ms=20_000))
    assert quantile(slow, 0.5) > 500
    monkeypatch.setattr(session, "ATTEMPTS_PER_MINUTE", 10_000)
    _, most = feed_reconnects.outages(1, config=MonitorConfig(backoff_first_ms=100, backoff_cap_ms=100))
    # A keeper that does not wake for the next attempt would make one each five seconds.
    assert most > 100


@pytest.mark.deep
def test_g8_a_hundred_doubtful_sends_of_each_kind_are_executed_once_at_most() -> None:
    assert failed(ambiguous_sends.figures()) == []


def test_g8_control_a_blind_resend_is_seen() -> None:
    assert len(failed(ambiguous_sends.figures(resends=True))) == 2


@pytest.mark.deep
def test_g10_a_week_of_rotations_misses_no_update() -> None:
    assert failed(feed_rotation.figures()) == []


@pytest.mark.deep
def test_g10_control_a_cut_before_the_rotation_misses_updates() -> None:
    names = [told.partition(":")[0] for told in failed(feed_rotation.figures(days=1, cut_before=True))]
    assert "updates missed" in names


def test_a_quantile_is_one_of_the_values() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [quantile(values, share) for share in (0.01, 0.5, 0.6, 0.99, 1.0)] == [1.0, 3.0, 3.0, 5.0, 5.0]
    with pytest.raises(ValueError, match="nothing was measured"):
        quantile([], 0.5)


def test_a_target_nobody_measures_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="no figures of 'G99'"):
        list(measured(["G99"]))
