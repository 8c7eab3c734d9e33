"""How a pair of virtual brackets ends, bar by bar."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.config import TraderConfig
from labkit.trader.state import State, new_state, settings_of
from labkit.trader.virtual_positions import ask, settle

HORIZON = 5
ENTRY = (100.0, 100.2, 99.8, 100.0)
STILL = (100.0, 100.1, 99.9, 100.0)
SETTINGS = settings_of(TraderConfig(horizon_minutes=HORIZON, decision_every_minutes=1), 1)


def a_pair_of_one_percent() -> State:
    """One pair asked at minute 0, to be filled at the open of the next bar."""
    state = new_state(SETTINGS, 1)
    symbol = state.symbols[0]
    symbol["barrier"], symbol["p"] = 0.01, 0.5
    symbol["expert_p"] = 0.5
    ask(symbol, state.pairs[0], 0)
    return state


def meet(state: State, minute: int, bar: tuple[float, ...]) -> None:
    row = np.array([*bar, 1.0, 0.5])
    settle(state.common[0], state.symbols[0], state.pairs[0], state.answers, 0, minute, row, HORIZON)


def squared_result_of(state: State) -> float | None:
    """R² of the only pair, read back from what was learned; None while it is open."""
    common = state.common[0]
    if common["labels"] == 0:
        return None
    return float(common["square_up"] / common["square_down"])


@pytest.mark.parametrize(
    ("bars", "squared_result"),
    [
        pytest.param([ENTRY, (100.0, 101.0, 99.9, 100.9)], 1.0, id="target first"),
        pytest.param([ENTRY, (100.0, 100.1, 99.0, 99.1)], 1.0, id="stop first"),
        pytest.param([ENTRY, (100.0, 101.0, 99.0, 100.0)], 0.0, id="both in one bar cancel"),
        pytest.param(
            [ENTRY, (102.0, 102.0, 98.0, 100.0)], 1.0, id="a gap at the open decides before the rest of the bar"
        ),
        pytest.param([(100.0, 101.0, 99.5, 100.0)], 1.0, id="the entry bar itself"),
        pytest.param([ENTRY, STILL, STILL, STILL, (100.0, 100.6, 99.9, 100.5)], 0.25, id="time-out at the close"),
        pytest.param([ENTRY, STILL, STILL, STILL], None, id="still open one bar before"),
    ],
)
def test_a_pair_ends_as_its_bars_say(bars: list[tuple[float, ...]], squared_result: float | None) -> None:
    state = a_pair_of_one_percent()
    for minute, bar in enumerate(bars, start=1):
        meet(state, minute, bar)
    result = squared_result_of(state)
    assert result == (None if squared_result is None else pytest.approx(squared_result))
    assert int(state.symbols["pairs"][0]) == (1 if squared_result is None else 0)


def test_a_time_out_within_missing_minutes_is_settled_at_the_next_open() -> None:
    state = a_pair_of_one_percent()
    meet(state, 1, ENTRY)
    meet(state, 100, (100.5, 103.0, 97.0, 100.0))
    assert squared_result_of(state) == pytest.approx(0.25)


def test_a_pair_is_filled_at_the_open_of_the_next_bar_however_late_it_comes() -> None:
    state = a_pair_of_one_percent()
    meet(state, 50, (250.0, 250.1, 249.9, 250.0))
    pair = state.pairs[0, 0]
    assert (float(pair["entry"]), int(pair["due"])) == (250.0, 50 + HORIZON - 1)


def test_pairs_that_go_on_keep_their_order_when_one_between_them_ends() -> None:
    state = new_state(SETTINGS, 1)
    symbol = state.symbols[0]
    for minute, barrier in enumerate((0.05, 0.002, 0.04)):
        symbol["barrier"], symbol["p"] = barrier, 0.5
        symbol["expert_p"] = 0.5
        ask(symbol, state.pairs[0], minute)
        meet(state, minute + 1, (100.0, 100.1, 99.9, 100.0))
    meet(state, 4, (100.0, 101.0, 99.9, 100.0))
    assert [float(pair["barrier"]) for pair in state.pairs[0, : int(symbol["pairs"])]] == [0.05, 0.04]
    assert int(state.common["closed"][0]) == 1


def test_labels_that_overlap_weigh_less() -> None:
    state = new_state(SETTINGS, 1)
    symbol = state.symbols[0]
    for minute in range(3):
        symbol["barrier"], symbol["p"] = 0.05, 0.5
        symbol["expert_p"] = 0.5
        ask(symbol, state.pairs[0], minute)
        meet(state, minute + 1, STILL)
    assert [float(weight) for weight in state.pairs["weight"][0, :3]] == pytest.approx([1.0, 1 / 2, 1 / 3])
