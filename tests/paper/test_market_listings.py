"""The listings: tables that agree with themselves, and rules told from samples."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.domain.leverage_brackets import LeverageBracket, max_notional
from labkit.domain.symbol_rules import is_multiple
from labkit.paper.listings import (
    LISTED_BRACKETS,
    LISTED_RULES,
    MADE_UP_SYMBOLS,
    SIMULATED_STARTS,
    brackets_of,
    infer_rules,
    simulated_listing,
)

PAIRS = [
    pytest.param(lower, upper, id=f"{symbol}-{upper.bracket}")
    for symbol, brackets in LISTED_BRACKETS.items()
    for lower, upper in pairwise(brackets)
]


@pytest.mark.parametrize(("lower", "upper"), PAIRS)
def test_maintenance_amounts_make_the_margin_continuous(lower: LeverageBracket, upper: LeverageBracket) -> None:
    step = upper.maintenance_margin_ratio - lower.maintenance_margin_ratio
    assert upper.maintenance_amount == upper.notional_floor * step + lower.maintenance_amount


@pytest.mark.parametrize(("lower", "upper"), PAIRS)
def test_brackets_join_and_grow_stricter(lower: LeverageBracket, upper: LeverageBracket) -> None:
    assert upper.notional_floor == lower.notional_cap
    assert upper.initial_leverage < lower.initial_leverage
    assert upper.maintenance_margin_ratio > lower.maintenance_margin_ratio


def test_every_listed_symbol_can_be_simulated() -> None:
    assert LISTED_RULES.keys() == SIMULATED_STARTS.keys()


@pytest.mark.parametrize("symbol", LISTED_RULES)
def test_a_symbol_starts_inside_its_price_filter_and_can_be_bought(symbol: str) -> None:
    rules, price = LISTED_RULES[symbol], Decimal(str(SIMULATED_STARTS[symbol].price))
    assert rules.min_price < price < rules.max_price
    assert is_multiple(price, rules.tick_size)
    assert rules.min_notional < rules.market_max_quantity * price
    assert max_notional(20, brackets_of(symbol)) > 100_000


def test_every_made_up_symbol_is_on_its_grid_and_can_be_bought() -> None:
    for symbol in MADE_UP_SYMBOLS:
        rules, start = simulated_listing(symbol)
        price = Decimal(str(start.price))
        assert is_multiple(price, rules.tick_size)
        assert Decimal("0.00001") <= rules.tick_size / price <= Decimal("0.0001")
        assert rules.min_quantity * price < rules.min_notional < rules.market_max_quantity * price


def test_a_made_up_symbol_is_the_same_whenever_it_is_asked_for_and_unlike_the_next() -> None:
    assert simulated_listing("SIM017USDT") == simulated_listing("SIM017USDT")
    assert len({simulated_listing(symbol)[1].price for symbol in MADE_UP_SYMBOLS}) == len(MADE_UP_SYMBOLS)


@pytest.mark.parametrize(
    ("prices", "tick"),
    [
        pytest.param(["7.6110", "7.6120"], "0.001", id="trailing zeros do not count"),
        pytest.param(["0.01731", "0.0174"], "0.00001", id="the finest sample decides"),
        pytest.param(["28145", "28100"], "1", id="whole prices"),
    ],
)
def test_a_tick_is_one_unit_of_the_last_decimal_in_use(prices: list[str], tick: str) -> None:
    rules = infer_rules("SUSHIUSDT", prices=[Decimal(p) for p in prices], quantities=[Decimal("2")])
    assert rules.tick_size == Decimal(tick)
    assert (rules.base_asset, rules.quote_asset, rules.step_size) == ("SUSHI", "USDT", Decimal(1))


samples = st.lists(st.decimals(min_value="0.0001", max_value="99999", places=4), min_size=1)


@given(prices=samples, quantities=samples)
def test_every_sample_fits_the_inferred_grids(prices: list[Decimal], quantities: list[Decimal]) -> None:
    rules = infer_rules("CTKUSDT", prices=prices, quantities=quantities)
    assert all(is_multiple(price, rules.tick_size) for price in prices)
    assert all(is_multiple(quantity, rules.step_size) for quantity in quantities)
