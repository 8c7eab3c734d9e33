"""Questions put to other models, and their probabilities issued in place of the learner's own."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.config import TraderConfig
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.trader.learner import log_loss
from labkit.trader.questions import QuestionsAndAnswers, foreign_of, questions_through
from labkit.trader.state import State, new_state, settings_of, to_bytes
from labkit.trader.step import LEAST_PROBABILITY, advance, nobody_else, scratch

SYMBOLS = 3
SETTINGS = settings_of(TraderConfig(), SYMBOLS)
MINUTES = 2 * 1440


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("momentum", 41, days=2, symbols=SYMBOLS, b=0.12)


@pytest.fixture(scope="module")
def noted(market: Market) -> QuestionsAndAnswers:
    return questions_through(SETTINGS, new_state(SETTINGS, SYMBOLS), market.minutes, market.rows)


def lived(market: Market, foreign: np.ndarray) -> State:
    state = new_state(SETTINGS, SYMBOLS)
    advance(SETTINGS, state, market.minutes, market.rows, foreign, *scratch())
    return state


def test_where_nobody_else_speaks_the_learner_does(market: Market) -> None:
    never = np.full((MINUTES, SYMBOLS), np.nan)
    assert to_bytes(lived(market, never)) == to_bytes(lived(market, nobody_else(SYMBOLS)))


def test_the_learners_own_probabilities_issued_as_a_foreigners_leave_the_same_bits(
    market: Market, noted: QuestionsAndAnswers
) -> None:
    foreign = foreign_of(noted.questions, noted.questions["p"], MINUTES, SYMBOLS)
    assert np.isfinite(foreign).any(axis=0).all()
    assert to_bytes(lived(market, foreign)) == to_bytes(lived(market, nobody_else(SYMBOLS)))


def test_living_through_questions_is_living(market: Market) -> None:
    state = new_state(SETTINGS, SYMBOLS)
    questions_through(SETTINGS, state, market.minutes, market.rows)
    assert to_bytes(state) == to_bytes(lived(market, nobody_else(SYMBOLS)))


def test_every_question_is_answered_once_and_never_before_it_was_put(noted: QuestionsAndAnswers) -> None:
    questions = {(int(q["symbol"]), int(q["minute"])) for q in noted.questions}
    answered = [(int(a["symbol"]), int(a["asked_minute"])) for a in noted.answers]
    assert len(set(answered)) == len(answered)
    assert set(answered) <= questions
    assert (noted.answers["minute"] > noted.answers["asked_minute"]).all()
    assert (np.diff(noted.answers["minute"]) >= 0).all()
    last = int(noted.questions["minute"].max())
    assert all(minute > last - SETTINGS.horizon - 1 for _, minute in questions - set(answered))


def test_what_is_issued_is_what_is_scored(market: Market, noted: QuestionsAndAnswers) -> None:
    random = np.random.Generator(np.random.PCG64(42))
    said = random.uniform(0.3, 0.7, noted.questions.size)
    state = lived(market, foreign_of(noted.questions, said, MINUTES, SYMBOLS))
    by_question = {(int(q["symbol"]), int(q["minute"])): p for q, p in zip(noted.questions, said, strict=True)}
    skill = sum(
        a["weight"] * (np.log(2.0) - log_loss(by_question[int(a["symbol"]), int(a["asked_minute"])], float(a["q"])))
        for a in noted.answers
    )
    assert float(state.common["skill"][0]) == pytest.approx(skill)
    assert skill < 0.0  # chance knows nothing: a learner's own probabilities were not scored


def test_the_experts_learn_the_same_whoever_speaks(market: Market, noted: QuestionsAndAnswers) -> None:
    foreign = foreign_of(noted.questions, np.full(noted.questions.size, 0.9), MINUTES, SYMBOLS)
    own, other = lived(market, nobody_else(SYMBOLS)), lived(market, foreign)
    for field in ("weights", "log_weights", "precision", "labels"):
        np.testing.assert_array_equal(own.common[field], other.common[field])
    assert float(own.common["slope_down"][0]) != float(other.common["slope_down"][0])


def test_nobody_is_taken_to_be_certain(market: Market, noted: QuestionsAndAnswers) -> None:
    sure = np.where(np.arange(noted.questions.size) % 2 == 0, 0.0, 1.0)
    state = lived(market, foreign_of(noted.questions, sure, MINUTES, SYMBOLS))
    assert np.isfinite(state.common["skill"]).all()
    assert set(state.symbols["p"].tolist()) <= {LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY}
