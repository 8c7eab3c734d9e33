"""The prices there are: on the ticks of a symbol and nowhere else."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.domain.symbol_rules import SymbolRules, why_no_price
from labkit.paper.listings import LISTED_RULES

listed = st.sampled_from(list(LISTED_RULES.values()))
BTC = LISTED_RULES["BTCUSDT"]


@given(listed, st.integers(1, 100_000_000))
def test_whatever_lies_on_the_ticks_is_a_price(rules: SymbolRules, ticks: int) -> None:
    assert why_no_price(rules, rules.tick_size * ticks) == ""


@given(listed, st.integers(1, 90_000_000), st.decimals("0.0001", "0.9999", places=4))
def test_what_lies_between_two_ticks_is_answered_with_both(rules: SymbolRules, ticks: int, share: Decimal) -> None:
    price = rules.tick_size * (ticks + share)
    told = re.search(r"the nearest are (\S+) and (\S+), a tick of (\S+) apart$", why_no_price(rules, price))
    assert told is not None
    below, above, tick = (Decimal(number) for number in told.groups())
    assert below < price < above == below + tick == below + rules.tick_size
    assert why_no_price(rules, below) == why_no_price(rules, above) == ""


@pytest.mark.parametrize("price", ["0.01", "10000000.10", "1e40"])
def test_what_no_market_can_reach_is_no_price(price: str) -> None:
    assert why_no_price(BTC, Decimal(price)).startswith("is not between 0.10 and 10000000.00")
