"""From a leverage to a quantity the exchange takes."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import numpy as np
import pytest
from facts import bar_of, quote_of, rules_of
from hypothesis import given
from hypothesis import strategies as st
from test_exits import decision_with

from labkit.config import RiskConfig
from labkit.domain.symbol_rules import is_multiple
from labkit.trader.sizing import bars_to_arrays, order_quantity, to_decimal

RISK = RiskConfig()
QUOTE = quote_of("BTCUSDT", 50_000, 2)


def quantity(leverage: float, equity: str | Decimal, *, side: int = 1, risk: RiskConfig = RISK) -> Decimal:
    decision = msgspec.structs.replace(decision_with(0.01, side), leverage=leverage)
    return order_quantity(decision, Decimal(equity), QUOTE, rules_of(), risk)


@pytest.mark.parametrize(
    ("leverage", "equity", "expected"),
    [
        pytest.param(0.5, "10000", "0.099", id="rounded down at the ask of 50001"),
        pytest.param(0.0, "10000", "0", id="no leverage"),
        pytest.param(0.5, "0", "0", id="no equity"),
        pytest.param(0.5, "-5", "0", id="less than none"),
        pytest.param(0.01, "10000", "0", id="one step is below the minimum notional"),
        pytest.param(0.02, "7600", "0.003", id="just above the minimum notional"),
        pytest.param(5.0, "100000", "0.499", id="capped by the largest order"),
    ],
)
def test_a_stake_becomes_this_quantity(leverage: float, equity: str, expected: str) -> None:
    assert quantity(leverage, equity) == Decimal(expected)


def test_a_short_is_sized_at_the_bid() -> None:
    assert quantity(0.49999, "10000", side=-1) == Decimal("0.100")
    assert quantity(0.49999, "10000", side=1) == Decimal("0.099")


def test_no_order_is_larger_than_the_exchange_takes_at_market() -> None:
    risk = RiskConfig(max_order_notional=Decimal(10**9), max_position_notional=Decimal(10**9))
    assert quantity(1.0, str(10**9), risk=risk) == rules_of().market_max_quantity


@given(st.floats(0, 20), st.decimals(0, 10_000_000, places=8, allow_nan=False))
def test_a_quantity_is_on_the_grid_and_within_every_budget(leverage: float, equity: Decimal) -> None:
    rules = rules_of()
    result = quantity(leverage, equity)
    assert is_multiple(result, rules.step_size)
    notional = result * QUOTE.ask_price
    assert notional <= min(equity * to_decimal(leverage), RISK.max_order_notional, RISK.max_position_notional)
    assert result == 0 or notional >= rules.min_notional


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_statistic_reads_back_as_itself(value: float) -> None:
    assert float(to_decimal(value)) == value


def test_bars_of_different_minutes_meet_on_one_grid() -> None:
    row = np.array([1.0, 2.0, 0.5, 1.5, 10.0, 4.0])
    bars = {"A": [bar_of("A", 3, row), bar_of("A", 5, row)], "B": [bar_of("B", 4, row), bar_of("B", 5, row)]}
    times, rows = bars_to_arrays(bars, ("A", "B", "C"))
    assert (times // 60_000).tolist() == [3, 4, 5]
    assert np.isfinite(rows[..., 0]).tolist() == [[True, False, False], [False, True, False], [True, True, False]]
    assert rows[2, 1].tolist() == row.tolist()


def test_a_running_bar_is_not_history() -> None:
    row = np.ones(6)
    running = msgspec.structs.replace(bar_of("A", 4, row), closed=False)
    times, _ = bars_to_arrays({"A": [bar_of("A", 3, row), running]}, ("A",))
    assert (times // 60_000).tolist() == [3]


def test_no_bars_at_all_are_an_empty_history() -> None:
    times, rows = bars_to_arrays({}, ("A", "B"))
    assert times.shape == (0,)
    assert rows.shape == (0, 2, 6)
