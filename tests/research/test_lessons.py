"""What was learned is not learned again where only money is handled otherwise, and nothing differs by a bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labkit.config import Config
from labkit.research.backtest import configured
from labkit.research.lessons import Lessons
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.research.simulation import Run, costs_of, settings_for, simulate

LEARNING: dict[str, Any] = {"decision_every_minutes": 15, "warm_up_minutes": 600, "cold_start_labels": 50}


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("momentum", 884, days=20, symbols=2, b=0.2)


def lived(market: Market, config: Config, lessons: Lessons | None, **more: Any) -> Run:
    return simulate(market, config, costs_of(config, 1e-4), keep_decisions=True, lessons=lessons, **more)


def is_known(market: Market, lessons: Lessons, config: Config) -> bool:
    return lessons.notes(settings_for(market, config), 1, 1).known_already


def assert_same_bits(one: Run, other: Run) -> None:
    for name in ("trades", "days", "counts", "decisions", "answers", "account"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    assert one.state.common.tobytes() == other.state.common.tobytes()
    assert one.state.symbols.tobytes() == other.state.symbols.tobytes()
    assert one.final_equity == other.final_equity


@pytest.mark.parametrize(
    "changed",
    [
        {"cost_margin": 0.0, "prior_confidence_z": 0.0, "evidence_nats": 0.0},
        {"kelly_fraction": 1.0, "max_leverage_per_symbol": 3.0, "drawdown_half": 0.01, "drawdown_stop": 0.03},
        {"trailing_start_fraction": 0.1, "trailing_gap_fraction": 0.9, "warm_up_minutes": 4_000},
        {"slippage_rate": 0.0003, "taker_fee_rate": 0.0001, "cold_start_labels": 2_000},
    ],
)
def test_a_run_on_what_was_learned_before_is_bit_by_bit_one_that_learns(
    market: Market, changed: dict[str, Any]
) -> None:
    lessons = Lessons()
    before = lived(market, configured(None, LEARNING), lessons)
    config = configured(None, {**LEARNING, **changed})
    assert is_known(market, lessons, config)
    again = lived(market, config, lessons)
    assert_same_bits(again, lived(market, config, None))
    assert again.decisions.tobytes() != before.decisions.tobytes()


@pytest.mark.parametrize("changed", [{"barrier_sigmas": 1.5}, {"horizon_minutes": 60}, {"decision_every_minutes": 30}])
def test_what_shapes_learning_is_learned_anew(market: Market, changed: dict[str, Any]) -> None:
    lessons = Lessons()
    lived(market, configured(None, LEARNING), lessons)
    config = configured(None, {**LEARNING, **changed})
    assert not is_known(market, lessons, config)
    assert_same_bits(lived(market, config, lessons), lived(market, config, None))


def test_a_run_that_was_interrupted_leaves_nothing_to_go_by(market: Market) -> None:
    lessons, config = Lessons(), configured(None, LEARNING)
    lived(market, config, lessons, stop=np.ones(1, np.int64))
    assert not is_known(market, lessons, config)
    assert_same_bits(lived(market, config, lessons), lived(market, config, None))


def test_anothers_probabilities_neither_teach_nor_learn_here(market: Market) -> None:
    lessons, config = Lessons(), configured(None, LEARNING)
    lived(market, config, lessons)
    foreign = np.full((1, 2), 0.6)
    assert_same_bits(lived(market, config, lessons, foreign=foreign), lived(market, config, None, foreign=foreign))
