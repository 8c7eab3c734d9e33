"""Stakes grow with evidence, and luck seldom has any."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.config import TraderConfig
from labkit.trader.evidence import evidence_stake, observe_evidence
from labkit.trader.learner import learn
from labkit.trader.state import new_state, settings_of

CONFIG = TraderConfig()
SETTINGS = settings_of(CONFIG, 6)
COIN = np.full(10, 0.5)
FEATURES = np.zeros(16)


def common_of(evidence: float = 0.0) -> np.void:
    common = new_state(SETTINGS, 1).common[0]
    common["evidence"] = evidence
    return common


def told(answers: list[float], probabilities: list[float]) -> float:
    """The evidence after these answers to these forecasts, by a learner whose slope is trusted."""
    common = common_of()
    for q, p in zip(answers, probabilities, strict=True):
        common["slope_up"] = common["slope_down"] = 1e9
        learn(common, FEATURES, q, p, COIN, 1.0)
    return float(common["evidence"])


@pytest.mark.parametrize(("nats", "share"), [(-5.0, 0.0), (0.0, 0.0), (3.0, 0.0), (6.0, 0.5), (9.0, 1.0), (90.0, 1.0)])
def test_a_stake_begins_at_a_third_of_the_evidence_for_a_whole_one(nats: float, share: float) -> None:
    assert evidence_stake(common_of(nats), 9.0) == pytest.approx(share)


def test_who_asks_for_no_evidence_gets_whole_stakes() -> None:
    assert evidence_stake(common_of(-5.0), 0.0) == 1.0


def test_forecasts_that_come_true_are_evidence_and_the_opposite_is_its_loss() -> None:
    # 0.7 against a coin: log(1.4) won when true, log(0.6) lost when not.
    assert told([1.0] * 10, [0.7] * 10) == pytest.approx(10 * np.log(1.4), rel=1e-2)
    assert told([0.0] * 10, [0.7] * 10) == pytest.approx(10 * np.log(0.6), rel=1e-2)


def test_a_forecast_without_an_opinion_is_no_evidence() -> None:
    assert told([1.0, 0.0, 1.0], [0.5, 0.5, 0.5]) == 0.0


def test_old_evidence_is_forgotten() -> None:
    common = common_of(8.0)
    observe_evidence(common, 0.0, 0.5)
    assert common["evidence"] == 4.0


def test_luck_seldom_reaches_a_first_stake() -> None:
    # Forecasts that know nothing, each right or wrong by a coin: exp(-3) bounds how many ever reach three nats.
    random = np.random.default_rng(81)
    reached = 0
    for _ in range(200):
        said = 0.5 + 0.08 * random.standard_normal(600).clip(-3, 3)
        came = random.integers(0, 2, said.size)
        common = common_of()
        for saved in np.log(2.0 * np.where(came == 1, said, 1.0 - said)):
            observe_evidence(common, saved, 1.0)
            if evidence_stake(common, CONFIG.evidence_nats) > 0.0:
                reached += 1
                break
    assert 0 < reached <= 0.05 * 200 + 6
