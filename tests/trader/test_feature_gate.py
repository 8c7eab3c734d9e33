"""Every fault a feature can have is found within a hundred questions and named; what is only unusual is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from test_self_learning_trader import CONFIG, SYMBOLS, live

from labkit.config import TraderConfig
from labkit.domain.clock import MINUTE_MS
from labkit.domain.decisions import Action, Decision
from labkit.research.markets import Market
from labkit.research.planted_markets import make_planted_market
from labkit.trader.feature_gate import CONSTANT, NOT_A_NUMBER, SANE, SHIFTED, SPREAD, inspect
from labkit.trader.features import FEATURE_NAMES, TAKER_BUY_VOLUME, VOLUME
from labkit.trader.questions import questions_through
from labkit.trader.self_learning_trader import SelfLearningTrader
from labkit.trader.state import new_state, settings_of

LEARNED = 1_000
CYCLES = 100
CAN_FAIL = tuple(name for name in FEATURE_NAMES if name != "drift")
SETTINGS = settings_of(TraderConfig(), 1)


@pytest.fixture(scope="module")
def asked() -> np.ndarray:
    """The features of one symbol at its questions, float64[n, features]."""
    market = make_planted_market("null", 51, days=8, symbols=1)
    return questions_through(SETTINGS, new_state(SETTINGS, 1), market.minutes, market.rows).questions["x"]


def suspicions(x: np.ndarray) -> list[tuple[str, int]]:
    """The feature suspected at each question and its fault; an empty name for none."""
    symbol = new_state(SETTINGS, 1).symbols[0]
    symbol["flow_bars"] = 1
    found = []
    for values in x:
        symbol["x"] = values
        inspect(symbol)
        found.append((("", *FEATURE_NAMES)[int(symbol["suspect"])], int(symbol["fault"])))
    return found


def test_nothing_is_suspected_where_nothing_is_wrong(asked: np.ndarray) -> None:
    assert len(asked) > LEARNED + CYCLES
    assert set(suspicions(asked)) == {("", SANE)}


@pytest.mark.parametrize("name", CAN_FAIL)
@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        pytest.param(lambda x: np.full_like(x, x[0]), CONSTANT, id="constant"),
        pytest.param(lambda x: np.where(np.arange(x.size) % 7 == 6, np.nan, x), NOT_A_NUMBER, id="NaN now and then"),
        pytest.param(lambda x: np.full_like(x, np.inf), NOT_A_NUMBER, id="infinite"),
        pytest.param(lambda x: x + 4.0, SHIFTED, id="shifted up"),
        pytest.param(lambda x: x - 4.0, SHIFTED, id="shifted down"),
        pytest.param(
            lambda x: 3.0 * np.sign(np.sin(9.7 * np.arange(x.size) ** 2)), SPREAD, id="skewed: to its ends and beyond"
        ),
    ],
)
def test_a_fault_is_found_within_a_hundred_cycles_and_named(
    asked: np.ndarray, name: str, spoil: Callable[[np.ndarray], np.ndarray], fault: int
) -> None:
    x = asked[: LEARNED + CYCLES].copy()
    column = FEATURE_NAMES.index(name)
    x[LEARNED:, column] = spoil(x[LEARNED:, column])
    found = suspicions(x)
    assert set(found[:LEARNED]) == {("", SANE)}
    assert {suspect for suspect, _ in found[LEARNED:]} <= {"", name}
    assert (name, fault) in found[LEARNED:]


def test_a_constant_from_the_first_question_on_is_found_too(asked: np.ndarray) -> None:
    x = asked[:CYCLES].copy()
    x[:, FEATURE_NAMES.index("mom40")] = 0.25
    assert suspicions(x)[-1] == ("mom40", CONSTANT)


def test_what_was_odd_for_weeks_is_the_new_normal(asked: np.ndarray) -> None:
    symbol = new_state(SETTINGS, 1).symbols[0]
    column, faults = FEATURE_NAMES.index("mom10"), []
    for i in range(4 * LEARNED):
        symbol["x"] = asked[i % LEARNED]
        symbol["x"][column] += 4.0 * (i >= LEARNED)
        symbol["flow_bars"] = 1
        inspect(symbol)
        faults.append(int(symbol["fault"]))
    assert SHIFTED in faults[LEARNED : LEARNED + CYCLES]
    assert set(faults[-500:]) == {SANE}


# -- through bars, into decisions -------------------------------------------------------------------------------------

DAYS = 14


@pytest.fixture(scope="module")
def market() -> Market:
    return make_planted_market("momentum", 52, days=DAYS + 1, symbols=len(SYMBOLS), b=0.15)


def decisions_with(market: Market, spoil: Callable[[np.ndarray], None], cycles: int = CYCLES) -> list[Decision]:
    """Decisions on the first symbol, whose bars are spoiled after all but the last day."""
    start = DAYS * 1440
    spoiled = replace(market, rows=market.rows.copy())
    spoil(spoiled.rows[start:, 0])
    trader = SelfLearningTrader(CONFIG)
    trader.live_through_arrays(market.minutes[:start] * MINUTE_MS, market.rows[:start])
    made = live(trader, spoiled, start, start + cycles * CONFIG.trader.decision_every_minutes)
    return [decision for decision in made if decision.symbol == SYMBOLS[0]]


def lose_taker_volume(rows: np.ndarray) -> None:
    rows[:, TAKER_BUY_VOLUME] = np.nan


def take_all_for_buying(rows: np.ndarray) -> None:
    rows[:, TAKER_BUY_VOLUME] = rows[:, VOLUME]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lose_taker_volume, "flow has stood still", id="taker volume is lost"),
        pytest.param(take_all_for_buying, "flow has lately been off", id="all volume is taken for buying"),
    ],
)
def test_bars_that_spoil_a_feature_stop_entries_by_its_name(
    market: Market, spoil: Callable[[np.ndarray], None], words: str
) -> None:
    made = decisions_with(market, spoil)
    assert len(made) == CYCLES
    last = made[-1]
    assert (last.action, last.primary_reason) == (Action.REFUSE, "features_sane")
    assert words in next(gate.detail for gate in last.gates if gate.name == "features_sane")
    assert words in last.smallest_change


def test_bars_that_are_not_spoiled_stop_nothing(market: Market) -> None:
    made = decisions_with(market, lambda rows: None)
    assert "features_sane" not in {decision.primary_reason for decision in made}
    assert {Action.ENTER_LONG, Action.ENTER_SHORT} & {decision.action for decision in made}


def test_a_history_that_never_told_of_taker_volume_may_be_traded(market: Market) -> None:
    silent = replace(market, rows=market.rows.copy())
    silent.rows[..., TAKER_BUY_VOLUME] = np.nan
    made = decisions_with(silent, lambda rows: None)
    assert "features_sane" not in {decision.primary_reason for decision in made}


def test_a_feature_that_is_no_number_is_never_learned_from(market: Market) -> None:
    trader = SelfLearningTrader(CONFIG)
    trader.live_through_arrays(market.minutes[:2_000] * MINUTE_MS, market.rows[:2_000])
    trader._state.symbols["flow"][0] = np.nan  # as only a fault in the program could
    made = live(trader, market, 2_000, 3_000)
    broken = [decision for decision in made if decision.symbol == SYMBOLS[0]]
    assert "flow is not a number" in broken[0].gates[2].detail
    assert all(decision.action is Action.REFUSE for decision in broken)
    assert "flow" not in broken[0].features
    assert np.isfinite(trader._state.common["weights"]).all()
    assert np.isfinite(trader.learning().skill_millinats)
