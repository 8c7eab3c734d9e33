"""Each leak detector is silent on the trader's learner and fires on a leak put in on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.config import TraderConfig
from labkit.errors import ConfigError
from labkit.research.leaks import (
    FutureLeak,
    LeakReport,
    bars_later,
    check_learner,
    future_leak,
    mirrored,
    own_learner,
    questions_of,
    relearn,
    scrambled,
)
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.research.statistics import Floats, Interval

CONFIG = TraderConfig(horizon_minutes=30, decision_every_minutes=5)


@pytest.fixture(scope="module")
def market() -> Market:
    """Twenty days with an edge, so that there is truth to be taken out."""
    return make_planted_market("momentum", 41, days=20, symbols=2, b=0.15)


def test_no_leak_is_found_in_the_learner_though_it_finds_an_edge(market: Market) -> None:
    assert relearn(market.minutes, questions_of(market.minutes, market.rows, CONFIG)).interval.low > 0.0
    report = check_learner(market.minutes, market.rows, CONFIG)
    assert report.clean, report.words
    assert report.words.startswith("No leak found; a planted one of a single bar shows as a skill between +")


def test_relearning_says_what_the_trader_said_bit_for_bit(market: Market) -> None:
    asked = questions_of(market.minutes, market.rows, CONFIG)
    assert (relearn(market.minutes, asked).probabilities == asked.questions["p"]).all()


def next_close(minutes: np.ndarray, rows: Floats) -> Floats:
    """Looks one bar ahead."""
    return np.vstack((rows[1:, :, 3], rows[-1:, :, 3]))


def scaled_by_all(minutes: np.ndarray, rows: Floats) -> Floats:
    """Standardised by a mean over all of history, as tidy notebooks do."""
    return np.asarray(rows[:, :, 3] / rows[:, :, 3].mean(axis=0))


def test_changing_the_future_changes_nothing_the_learner_said_before(market: Market) -> None:
    say = own_learner(CONFIG)
    for cut in (200, 7_000, market.minutes.size - 2):
        assert future_leak(say, market.minutes, market.rows, cut) is None


def test_a_look_at_the_next_bar_is_found_in_the_minute_it_happens(market: Market) -> None:
    leak = future_leak(next_close, market.minutes, market.rows, 500)
    assert leak == FutureLeak(int(market.minutes[500]), int(market.minutes[500]))
    assert str(market.minutes[500]) in str(leak)


def test_a_scale_made_of_all_of_history_is_found_at_once(market: Market) -> None:
    leak = future_leak(scaled_by_all, market.minutes, market.rows, 500)
    assert leak is not None
    assert leak.minute == market.minutes[0]


def test_a_future_must_be_left_to_be_changed(market: Market) -> None:
    with pytest.raises(ConfigError, match="must leave bars on both sides"):
        future_leak(next_close, market.minutes, market.rows, market.minutes.size - 1)


def test_scrambled_labels_leave_no_skill(market: Market) -> None:
    asked = questions_of(market.minutes, market.rows, CONFIG)
    for seed in range(5):
        assert relearn(market.minutes, asked._replace(answers=scrambled(asked.answers, seed))).interval.low <= 0.0


def test_features_that_hold_their_own_label_show_skill_even_when_it_means_nothing(market: Market) -> None:
    asked = questions_of(market.minutes, market.rows, CONFIG)
    answers, questions = scrambled(asked.answers, 1), asked.questions.copy()
    place = {(int(q["minute"]), int(q["symbol"])): i for i, q in enumerate(questions)}
    for answer in answers:
        questions["x"][place[int(answer["asked_minute"]), int(answer["symbol"])], 3] = 2.0 * answer["q"] - 1.0
    assert relearn(market.minutes, asked._replace(questions=questions, answers=answers)).interval.low > 10.0


def test_labels_that_begin_one_bar_early_show_skill_on_bars_without_any(market: Market) -> None:
    close_look = TraderConfig(horizon_minutes=5, decision_every_minutes=1)
    asked = questions_of(market.minutes, mirrored(market.rows, 1), close_look)
    assert relearn(market.minutes, asked).interval.low <= 0.0
    early = asked._replace(questions=bars_later(asked.questions))
    assert relearn(market.minutes, early).interval.low > 1.0


def test_mirrored_bars_move_as_far_the_other_way(market: Market) -> None:
    other = mirrored(market.rows, 1)
    moves = [np.diff(np.log(rows[:, :, 3]), axis=0) for rows in (market.rows, other)]
    assert np.allclose(np.abs(moves[0]), np.abs(moves[1]), atol=1e-9)
    turned = (moves[0] * moves[1] < 0.0).mean()
    assert 0.47 < turned < 0.53
    assert (other[:, :, 2] <= other[:, :, [0, 3]].min(axis=2)).all()
    assert (other[:, :, 1] >= other[:, :, [0, 3]].max(axis=2)).all()


def test_missing_bars_stay_missing_when_mirrored(market: Market) -> None:
    rows = market.rows[:200].copy()
    rows[:5, 0] = rows[50:60, 0] = np.nan
    other = mirrored(rows, 1)
    assert (np.isnan(other) == np.isnan(rows)).all()
    across = np.log([rows[60, 0, 3] / rows[49, 0, 3], other[60, 0, 3] / other[49, 0, 3]])
    assert abs(across[0]) == pytest.approx(abs(across[1]))


def test_too_little_data_are_refused(market: Market) -> None:
    with pytest.raises(ConfigError, match="at least 20 days"):
        check_learner(market.minutes[:1_440], market.rows[:1_440], CONFIG)


def test_a_planted_leak_that_does_not_show_is_no_clean_bill() -> None:
    none = Interval(-1.0, 1.0)
    report = LeakReport(None, none, none, none)
    assert not report.clean
    assert report.words.startswith("No answer: a planted leak of one bar does not show on so little data")


def test_every_detector_that_fires_is_named() -> None:
    skilled, none = Interval(1.0, 2.0), Interval(-1.0, 1.0)
    report = LeakReport(FutureLeak(7, 9), skilled, none, skilled)
    assert not report.clean
    assert report.words == (
        "A leak: what was said in minute 7 changes with the bars after minute 9; "
        "skill between +1.00 and +2.00 on labels that mean nothing."
    )
