"""The learner alone, on labels whose true probability is known."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.config import TraderConfig
from labkit.trader.features import FEATURE_COUNT, FEATURE_NAMES
from labkit.trader.learner import (
    EXPERT_COUNT,
    EXPERTS,
    calibration_slope,
    learn,
    predict,
    refit,
    usable_slope,
    weights_by_feature,
)
from labkit.trader.state import State, new_state, settings_of
from labkit.trader.step import scratch


def a_learner() -> State:
    return new_state(settings_of(TraderConfig(), 1), 1)


def teach(state: State, weights: dict[str, float], labels: int, seed: int, said_times: float = 1.0) -> None:
    """Show `labels` answers drawn from the logistic model `weights`; a batch of 60 per refit."""
    random = np.random.Generator(np.random.PCG64(seed))
    true = np.array([weights.get(name, 0.0) for name in FEATURE_NAMES])
    common, expert_p, space = state.common[0], np.empty(EXPERT_COUNT), scratch()
    for i in range(labels):
        x = np.clip(random.standard_normal(FEATURE_COUNT), -4, 4)
        q = float(random.random() < 1 / (1 + np.exp(-true @ x)))
        p = predict(common, x, expert_p)
        learn(common, x, q, min(max(0.5 + said_times * (p - 0.5), 0.01), 0.99), expert_p, 1.0)
        if i % 60 == 59:
            refit(common, *space)


def test_before_the_first_label_it_believes_nothing() -> None:
    state = a_learner()
    expert_p = np.empty(EXPERT_COUNT)
    assert predict(state.common[0], np.ones(FEATURE_COUNT), expert_p) == pytest.approx(0.5)
    assert usable_slope(state.common[0], 0.5) == 0.0


def test_it_finds_the_weights_that_made_the_labels() -> None:
    state = a_learner()
    teach(state, {"mom160": 0.5, "mom640": -0.3}, 12_000, seed=1)
    full = [expert.name for expert in EXPERTS].index("full")
    found = weights_by_feature(full, state.common[0]["weights"][full])
    assert found["mom160"] == pytest.approx(0.5, abs=0.12)
    assert found["mom640"] == pytest.approx(-0.3, abs=0.12)
    assert max(abs(found[name]) for name in FEATURE_NAMES if name not in ("mom160", "mom640")) < 0.12


def test_an_honest_forecast_has_a_slope_of_one_and_may_be_counted_on() -> None:
    state = a_learner()
    teach(state, {"mom40": 0.4, "mom160": 0.4}, 12_000, seed=2)
    assert calibration_slope(state.common[0]) == pytest.approx(1.0, abs=0.2)
    assert usable_slope(state.common[0], 0.5) > 0.7


def test_a_boastful_forecast_is_cut_down_to_what_came_true() -> None:
    state = a_learner()
    teach(state, {"mom40": 0.4, "mom160": 0.4}, 12_000, seed=3, said_times=2.0)
    assert calibration_slope(state.common[0]) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_on_noise_it_loses_little_and_lets_little_be_counted_on(seed: int) -> None:
    state = a_learner()
    teach(state, {}, 8_000, seed)
    common = state.common[0]
    assert float(common["skill"]) > -12.0  # nats, over all labels
    assert usable_slope(common, 0.5) < 0.6


def test_after_the_world_turned_round_it_comes_round() -> None:
    state = a_learner()
    teach(state, {"mom40": 0.4, "mom160": 0.4}, 6_000, seed=7)
    teach(state, {"mom40": -0.4, "mom160": -0.4}, 6_000, seed=8)
    before = float(state.common["skill"][0])
    teach(state, {"mom40": -0.4, "mom160": -0.4}, 2_000, seed=9)
    assert float(state.common["skill"][0]) - before > 2_000 * 0.5 * 0.035  # half of what the truth would save


def test_what_no_evidence_renews_is_forgotten_towards_nothing() -> None:
    state = a_learner()
    teach(state, {"mom40": 0.8, "mom160": 0.8}, 3_000, seed=10)
    fast = [expert.name for expert in EXPERTS].index("mom40+160 fast")
    common, space = state.common[0], scratch()
    known = np.abs(common["weights"][fast]).max()
    x, expert_p = np.zeros(FEATURE_COUNT), np.full(EXPERT_COUNT, 0.5)
    for i in range(int(8 * EXPERTS[fast].half_life)):
        learn(common, x, 0.5, 0.5, expert_p, 1.0)
        if i % 60 == 59:
            refit(common, *space)
    assert known > 0.4
    assert np.abs(common["weights"][fast]).max() < 0.15 * known


def test_experts_see_only_known_features() -> None:
    for expert in EXPERTS:
        assert set(expert.features) <= set(FEATURE_NAMES)
        assert len(set(expert.features)) == len(expert.features)
    assert len({expert.name for expert in EXPERTS}) == len(EXPERTS)
