"""A user's policy: put to the same test as the learner, live as in a batch, and never able to end the lab."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from test_self_learning_trader import CONFIG, DAY, SYMBOLS, live

from labkit.domain.clock import MINUTE_MS
from labkit.domain.decisions import Action
from labkit.domain.snapshot import LearningRow
from labkit.errors import ConfigError, RemoteProtocolError
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.trader.learner import calibration_slope, usable_slope
from labkit.trader.policies import Answer, Policy, Question, probabilities_through
from labkit.trader.policy_examples import MovingAverageTrend, ScikitLearnClassifier
from labkit.trader.self_learning_trader import SelfLearningTrader
from labkit.trader.state import new_state, settings_of, to_bytes
from labkit.trader.step import advance, scratch

SETTINGS = settings_of(CONFIG.trader, len(SYMBOLS))


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("momentum", 3, days=4, symbols=len(SYMBOLS), b=0.12)


class Says:
    """A policy that does whatever it is told to."""

    name = "says"

    def __init__(self, what: Callable[[Question], object]) -> None:
        self.what = what

    def probability(self, question: Question) -> float | None:
        return self.what(question)  # type: ignore[return-value]


class Pupil(Says):
    """Remembers what it was asked and taught, in order."""

    name = "pupil"

    def __init__(self) -> None:
        super().__init__(lambda question: 0.5)
        self.seen: list[tuple[str, str, int]] = []
        self.taught: list[tuple[Question, Answer]] = []
        self.asked: dict[tuple[str, int], Question] = {}

    def probability(self, question: Question) -> float:
        self.seen.append(("asked", question.symbol, question.time_ms))
        self.asked[question.symbol, question.time_ms] = question
        return 0.5 + 0.1 * math.tanh(0.001 * len(self.taught))

    def learn(self, question: Question, answer: Answer) -> None:
        self.seen.append(("taught", question.symbol, answer.time_ms))
        self.taught.append((question, answer))


def lived(market: Market, policy: Policy, minutes: int) -> SelfLearningTrader:
    trader = SelfLearningTrader(CONFIG, policy=policy)
    trader.live_through_arrays(market.minutes[:minutes] * MINUTE_MS, market.rows[:minutes])
    return trader


# -- the same step ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Pupil, MovingAverageTrend])
def test_a_policy_says_in_a_batch_what_it_said_live_bit_for_bit(market: Market, make: Callable[[], Policy]) -> None:
    one_by_one = lived(market, make(), 700)
    live(one_by_one, market, 700, 1_000)
    minutes, rows = market.minutes[:1_000], market.rows[:1_000]
    foreign = probabilities_through(make(), SETTINGS, new_state(SETTINGS, len(SYMBOLS)), SYMBOLS, minutes, rows)
    state = new_state(SETTINGS, len(SYMBOLS))
    advance(SETTINGS, state, minutes, rows, foreign, *scratch())
    assert one_by_one.state_bytes().endswith(to_bytes(state))
    assert one_by_one.learned_labels > 100


def test_the_probability_of_a_decision_is_the_policys(market: Market) -> None:
    trader = lived(market, Says(lambda question: 0.7), DAY)
    for decision in live(trader, market, DAY, DAY + 5):
        assert decision.policy == "says"
        assert (decision.side, decision.probability) == (1, 0.7)
        assert decision.contributions == {}


def test_a_policy_is_taught_each_answer_once_with_the_question_it_was_asked_and_before_the_next(market: Market) -> None:
    pupil = Pupil()
    lived(market, pupil, 600)
    assert len(pupil.taught) == sum(kind == "taught" for kind, _, _ in pupil.seen) > 300
    for question, answer in pupil.taught:
        assert pupil.asked[question.symbol, question.time_ms] == question
        assert answer.time_ms > question.time_ms
        assert 0.0 <= answer.label <= 1.0
    times = [time_ms for _, _, time_ms in pupil.seen]
    assert times == sorted(times)
    kinds_at = [(time_ms, kind == "asked") for kind, _, time_ms in pupil.seen]
    assert kinds_at == sorted(kinds_at)  # within a minute the answers come first


def test_what_it_is_taught_after_a_restart_is_what_it_would_have_been_taught(market: Market) -> None:
    through, before, after = Pupil(), Pupil(), Pupil()
    lived(market, through, 600)
    stored = lived(market, before, 500).state_bytes()
    trader = SelfLearningTrader(CONFIG, policy=after)
    trader.restore(stored)
    trader.live_through_arrays(market.minutes[500:600] * MINUTE_MS, market.rows[500:600])
    taught = [(q.symbol, q.time_ms, q.features, q.close, a) for q, a in through.taught]
    assert [(q.symbol, q.time_ms, q.features, q.close, a) for q, a in before.taught + after.taught] == taught


# -- what it does wrong -----------------------------------------------------------------------------------------------


def raises(question: Question) -> float:
    raise ZeroDivisionError("one over nothing")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        pytest.param(raises, "raised ZeroDivisionError: one over nothing", id="an exception"),
        pytest.param(lambda question: math.nan, "answered nan, which is no probability", id="NaN"),
        pytest.param(lambda question: 1.5, "answered 1.5, which is no probability", id="beyond certainty"),
        pytest.param(lambda question: -math.inf, "answered -inf, which is no probability", id="infinity"),
        pytest.param(lambda question: None, "has no opinion", id="nothing"),
        pytest.param(lambda question: "up", "raised ValueError", id="a word"),
    ],
)
def test_what_a_policy_cannot_answer_is_a_refusal_that_says_so(
    market: Market, what: Callable[[Question], object], told: str
) -> None:
    trader = lived(market, Says(lambda q: 0.9 if q.features["mom40"] > 0 else 0.1), 3 * DAY)
    slope = trader.learning().calibration_slope
    trader._desk._policy.what = what  # type: ignore[union-attr]
    decisions = live(trader, market, 3 * DAY, 3 * DAY + 10)
    assert len(decisions) == 2 * len(SYMBOLS)
    for decision in decisions:
        assert (decision.action, decision.primary_reason) == (Action.REFUSE, "policy")
        (gate,) = [gate for gate in decision.gates if gate.name == "policy"]
        assert told in gate.detail
        assert told in decision.smallest_change
    assert trader.learning().calibration_slope == pytest.approx(slope, abs=0.05)


def test_silence_is_counted_neither_for_nor_against_a_policy(market: Market) -> None:
    learning = lived(market, Says(raises), 600).learning()
    assert learning.labels > 300
    assert learning.skill_millinats == pytest.approx(0.0, abs=1e-12)
    assert learning.calibration_slope == 0.0


def test_a_policy_that_cannot_learn_is_refused_until_it_can(market: Market) -> None:
    class Slow(Pupil):
        broken = True

        def learn(self, question: Question, answer: Answer) -> None:
            if self.broken:
                raise MemoryError("too much to remember")

    slow = Slow()
    trader = lived(market, slow, 2 * DAY + 1440)
    reasons = {d.primary_reason: d for d in live(trader, market, 3 * DAY, 3 * DAY + 5)}
    assert set(reasons) == {"policy"}
    assert "could not learn: MemoryError: too much to remember" in reasons["policy"].smallest_change
    slow.broken = False
    live(trader, market, 3 * DAY + 5, 3 * DAY + 15)
    assert "policy" not in {d.primary_reason for d in live(trader, market, 3 * DAY + 15, 3 * DAY + 20)}


def test_a_held_position_outlives_a_policy_that_fell_silent(market: Market) -> None:
    trader = lived(market, Says(lambda question: None), DAY)
    decisions = live(trader, market, DAY, DAY + 5, **dict.fromkeys(SYMBOLS, 1))
    assert {d.action for d in decisions} == {Action.HOLD}


@pytest.mark.parametrize("policy", [object(), type("P", (), {"name": "P"})(), type("P", (), {"name": ""})()])
def test_what_is_no_policy_is_refused_by_name(policy: object) -> None:
    with pytest.raises(ConfigError, match=r"has no name|cannot be asked"):
        SelfLearningTrader(CONFIG, policy=policy)  # type: ignore[arg-type]


def test_the_memory_of_one_policy_is_not_anothers(market: Market) -> None:
    stored = lived(market, MovingAverageTrend(), 200).state_bytes()
    with pytest.raises(RemoteProtocolError, match="policy"):
        SelfLearningTrader(CONFIG).restore(stored)
    SelfLearningTrader(CONFIG, policy=MovingAverageTrend()).restore(stored)


# -- worked examples --------------------------------------------------------------------------------------------------


def refitted(kind: type[ScikitLearnClassifier] = ScikitLearnClassifier) -> ScikitLearnClassifier:
    linear_model = pytest.importorskip("sklearn.linear_model")
    return kind(lambda: linear_model.LogisticRegression(C=0.01), every=700, memory=1_500)


class Forgetful(ScikitLearnClassifier):
    state = restore = None  # type: ignore[assignment]


def stored_after_two_days(market: Market, policy: Policy) -> bytes:
    return lived(market, policy, 2 * DAY).state_bytes()


def gone_on(market: Market, policy: Policy, stored: bytes) -> SelfLearningTrader:
    trader = SelfLearningTrader(CONFIG, policy=policy)
    trader.restore(stored)
    trader.live_through_arrays(market.minutes * MINUTE_MS, market.rows)
    return trader


def test_what_a_policy_has_learned_outlives_a_restart_to_the_last_bit(market: Market) -> None:
    policy = refitted()
    never_ended = lived(market, policy, 4 * DAY)
    again = refitted()
    assert gone_on(market, again, stored_after_two_days(market, refitted())).state_hash() == never_ended.state_hash()
    assert again.fits == policy.fits > 5


def test_a_policy_that_keeps_nothing_begins_each_start_knowing_nothing(market: Market) -> None:
    never_ended = lived(market, refitted(), 4 * DAY)
    stored = stored_after_two_days(market, refitted(Forgetful))
    assert gone_on(market, refitted(Forgetful), stored).state_hash() != never_ended.state_hash()


def test_a_damaged_memory_of_a_policy_is_found_before_it_is_given_back(market: Market) -> None:
    stored = bytearray(stored_after_two_days(market, refitted()))
    stored[-100] ^= 1
    again = refitted()
    with pytest.raises(RemoteProtocolError, match="sha256"):
        SelfLearningTrader(CONFIG, policy=again).restore(bytes(stored))
    assert again.fits == 0


def test_a_policy_that_cannot_be_stored_does_not_stop_the_rest_from_it(market: Market) -> None:
    class Closed(Pupil):
        def state(self) -> bytes:
            raise OSError("no")

    trader = lived(market, Closed(), 3 * DAY)
    again = SelfLearningTrader(CONFIG, policy=Closed())
    again.restore(trader.state_bytes())
    assert again.state_hash() == trader.state_hash()
    told = [decision.smallest_change for decision in live(trader, market, 3 * DAY, 3 * DAY + 30)]
    assert any("pupil could not be stored: OSError: no" in words for words in told)


def test_all_at_once_the_trend_rule_says_what_it_says_one_by_one(market: Market) -> None:
    class OneByOne:
        name = "one by one"
        probability = MovingAverageTrend().probability

    args = (SYMBOLS, market.minutes[:600], market.rows[:600])
    at_once = probabilities_through(MovingAverageTrend(), SETTINGS, new_state(SETTINGS, len(SYMBOLS)), *args)
    one_by_one = probabilities_through(OneByOne(), SETTINGS, new_state(SETTINGS, len(SYMBOLS)), *args)
    np.testing.assert_array_equal(at_once, one_by_one)


def test_a_rule_that_fits_the_market_may_be_counted_on_and_its_mirror_image_may_not(market: Market) -> None:
    slopes = []
    for sign in (1.0, -1.0):
        state = new_state(SETTINGS, len(SYMBOLS))
        policy = MovingAverageTrend(boldness=0.2 * sign)
        foreign = probabilities_through(
            policy, SETTINGS, new_state(SETTINGS, len(SYMBOLS)), SYMBOLS, market.minutes, market.rows
        )
        advance(SETTINGS, state, market.minutes, market.rows, foreign, *scratch())
        slopes.append((calibration_slope(state.common[0]), usable_slope(state.common[0], 0.5)))
    (with_it, usable), (against_it, not_usable) = slopes
    assert with_it > 0.15
    assert usable > 0.0
    assert against_it == pytest.approx(-with_it, rel=0.01)
    assert not_usable == 0.0


def taught(kind: str, make: Callable[[], object]) -> tuple[LearningRow, int]:
    """A classifier's four days with three symbols."""
    market = make_planted_market(kind, 3, days=4, symbols=3, b=0.12)
    policy = ScikitLearnClassifier(make, every=500)
    trader = SelfLearningTrader(msgspec.structs.replace(CONFIG, symbols=SYMBOLS[:3]), policy=policy)
    trader.live_through_arrays(market.minutes * MINUTE_MS, market.rows)
    return trader.learning(), policy.fits


def test_a_classifier_learns_the_planted_edge_from_delayed_labels() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    learning, fits = taught("momentum", lambda: linear_model.LogisticRegression(C=0.1))
    assert fits >= 5
    assert learning.skill_millinats > 10
    assert learning.calibration_slope_lower > 0.5


def test_a_classifier_fitted_to_noise_may_not_be_counted_on() -> None:
    tree = pytest.importorskip("sklearn.tree")
    learning, _ = taught("null", lambda: tree.DecisionTreeClassifier(max_depth=8, random_state=0))
    assert learning.skill_millinats < -5  # it boasts
    assert learning.calibration_slope_lower < 0.1
