"""What no longer comes true shrinks the stakes, then ends them; what comes true again brings them back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_policy import common_with
from test_self_learning_trader import CONFIG, SYMBOLS, live

from labkit.config import TraderConfig
from labkit.domain.clock import MINUTE_MS
from labkit.domain.decisions import Action
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.trader.drift import DRIFT_STEPS, ENTERED_AT, LEFT_AT, MOST_NATS, STAKES, observe_drift
from labkit.trader.policies import Question
from labkit.trader.policy import judge
from labkit.trader.self_learning_trader import SelfLearningTrader
from labkit.trader.state import new_state, settings_of

SETTINGS = settings_of(TraderConfig(), 1)


def steps_after(*losses: float) -> list[str]:
    common = new_state(SETTINGS, 1).common[0]
    steps = []
    for loss in losses:
        observe_drift(common, -loss)
        steps.append(DRIFT_STEPS[int(common["drift_step"])])
    return steps


def test_a_loss_that_grows_leads_through_every_step_and_back_through_every_step() -> None:
    there = steps_after(*[1.0] * 20)
    assert list(dict.fromkeys(there)) == ["steady", "shrink", "hold", "bench"]
    back = steps_after(*[1.0] * 20, *[-1.0] * 20)[20:]
    assert list(dict.fromkeys(back)) == ["bench", "hold", "shrink", "steady"]


def test_a_step_is_not_left_where_it_was_entered() -> None:
    assert (LEFT_AT[1:] < ENTERED_AT[1:]).all()
    flutter = [0.6, -0.6] * 20
    for step in range(1, len(DRIFT_STEPS)):
        steps = steps_after(ENTERED_AT[step] - 0.5, *flutter)
        assert set(steps[1:]) == {DRIFT_STEPS[step]}


def test_skill_is_no_credit_for_later_losses() -> None:
    assert steps_after(-1_000.0, ENTERED_AT[1])[-1] == "shrink"


def test_the_way_back_from_the_bench_is_never_longer_than_from_the_most_that_counts() -> None:
    assert steps_after(1_000.0, LEFT_AT[3] - MOST_NATS)[-1] != "bench"


def test_the_step_scales_the_stake_and_nothing_else() -> None:
    full = judge(SETTINGS, common_with(), 0.8, 0.005, 0.0012, 0.0, 0.0)
    for step, share in enumerate(STAKES):
        common = common_with()
        common["drift_step"] = step
        verdict = judge(SETTINGS, common, 0.8, 0.005, 0.0012, 0.0, 0.0)
        assert verdict.leverage == pytest.approx(share * full.leverage)
        assert verdict.expected_value == full.expected_value


class Turncoat:
    """Says what the learner says, until it says the opposite."""

    name = "turncoat"
    turned = False

    def probability(self, question: Question) -> float:
        return 1.0 - question.learner_probability if self.turned else question.learner_probability


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("momentum", 61, days=7, symbols=len(SYMBOLS), b=0.2)


def test_predictions_that_turned_false_are_benched_and_true_ones_come_back(market: Market) -> None:
    policy = Turncoat()
    trader = SelfLearningTrader(CONFIG, policy=policy)

    def days(first: int, last: int) -> str:
        part = slice(first * 1440, last * 1440)
        trader.live_through_arrays(market.minutes[part] * MINUTE_MS, market.rows[part])
        return trader.drift_step

    assert days(0, 4) == "steady"
    labels = trader.learned_labels
    policy.turned = True
    assert days(4, 5) == "bench"
    made = live(trader, market, 5 * 1440, 5 * 1440 + 5)
    assert all(decision.action is Action.REFUSE for decision in made)
    assert not any(gate.passed for decision in made for gate in decision.gates if gate.name == "drift")
    assert trader.learned_labels > labels  # it goes on learning
    policy.turned = False
    assert days(5, 7) == "steady"


def test_a_learner_that_keeps_its_promises_is_left_alone(market: Market) -> None:
    trader = SelfLearningTrader(CONFIG)
    trader.live_through_arrays(market.minutes * MINUTE_MS, market.rows)
    learning = trader.learning()
    assert (learning.drift, trader.drift_step) == ("steady", "steady")
    assert 0.0 <= learning.drift_nats < ENTERED_AT[1]
    assert math.isfinite(learning.drift_nats)
    assert np.isfinite(STAKES).all()
