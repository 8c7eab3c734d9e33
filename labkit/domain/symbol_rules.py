"""What an exchange allows on one symbol: tick and step sizes, minimum notional, and the filter checks.

Pure functions over Decimal. Filters and their error codes are those of `exchangeInfo` (state of 2026).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

ZERO = Decimal(0)
MARGIN_ASSET: Final = "USDT"
"""The one asset that margin, profit and fees are counted in here."""


class SymbolRules(msgspec.Struct, frozen=True, kw_only=True):
    """Trading rules of one perpetual contract, as listed by `exchangeInfo`.

    `market_take_bound` is the fraction from mark price at which a MARKET order stops filling.
    `liquidation_fee` is a fraction of the liquidated notional.
    """

    symbol: str
    base_asset: str
    quote_asset: str
    tick_size: Decimal
    step_size: Decimal
    min_price: Decimal
    max_price: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    market_max_quantity: Decimal
    min_notional: Decimal
    price_multiplier_up: Decimal = Decimal("1.05")
    price_multiplier_down: Decimal = Decimal("0.95")
    market_take_bound: Decimal = Decimal("0.05")
    liquidation_fee: Decimal = Decimal("0.0125")
    max_open_orders: int = 200
    status: str = "TRADING"


class Violation(msgspec.Struct, frozen=True):
    """Why an order does not fit: the exchange's error code and a sentence."""

    code: int
    message: str


def round_down_to_step(quantity: Decimal, step_size: Decimal) -> Decimal:
    """The largest multiple of `step_size` that is at most `quantity` (quantity ≥ 0)."""
    return quantity // step_size * step_size


def round_to_tick(price: Decimal, tick_size: Decimal) -> Decimal:
    """The multiple of `tick_size` nearest to `price`."""
    return (price / tick_size).to_integral_value() * tick_size


def why_no_price(rules: SymbolRules, price: Decimal) -> str:
    """Why nothing can ever trade at `price` (above 0), with the nearest prices that something can; else empty."""
    tick = rules.tick_size
    if not tick <= price <= rules.max_price:
        return f"is not between {tick} and {rules.max_price}, the lowest and the highest price there are"
    if is_multiple(price, tick):
        return ""
    below = price // tick * tick
    return f"lies between two prices: the nearest are {below} and {below + tick}, a tick of {tick} apart"


def quantity_for(notional: Decimal, price: Decimal, step_size: Decimal) -> Decimal:
    """The largest quantity on the step grid whose notional is at most `notional`."""
    return notional // (price * step_size) * step_size


def is_multiple(value: Decimal, quantum: Decimal) -> bool:
    return value % quantum == 0


def decimals_of(quantum: Decimal) -> int:
    """Number of decimals a value on this grid needs: 0.0100 needs 2."""
    exponent = quantum.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def check_limit_order(
    rules: SymbolRules, *, is_buy: bool, price: Decimal, quantity: Decimal, mark_price: Decimal, reduce_only: bool
) -> Violation | None:
    """The first filter a LIMIT order breaks, in the exchange's order, or None."""
    if price < rules.min_price:
        return Violation(-4013, f"Price less than min price {rules.min_price}.")
    if price > rules.max_price:
        return Violation(-4002, f"Price greater than max price {rules.max_price}.")
    if not is_multiple(price - rules.min_price, rules.tick_size):
        return Violation(-4014, "Price not increased by tick size.")
    if is_buy and price > mark_price * rules.price_multiplier_up:
        return Violation(-4016, "Limit price can't be higher than the percent-price band allows.")
    if not is_buy and price < mark_price * rules.price_multiplier_down:
        return Violation(-4024, "Limit price can't be lower than the percent-price band allows.")
    return _check_quantity(rules, quantity, rules.max_quantity) or _check_notional(
        rules, price * quantity, reduce_only=reduce_only
    )


def check_market_order(
    rules: SymbolRules, *, quantity: Decimal, mark_price: Decimal, reduce_only: bool
) -> Violation | None:
    """The first filter a MARKET order breaks, in the exchange's order, or None."""
    return _check_quantity(rules, quantity, rules.market_max_quantity) or _check_notional(
        rules, mark_price * quantity, reduce_only=reduce_only
    )


def _check_quantity(rules: SymbolRules, quantity: Decimal, max_quantity: Decimal) -> Violation | None:
    if quantity <= ZERO:
        return Violation(-4003, "Quantity less than or equal to zero.")
    if quantity < rules.min_quantity:
        return Violation(-4004, f"Quantity less than min quantity {rules.min_quantity}.")
    if quantity > max_quantity:
        return Violation(-4005, f"Quantity greater than max quantity {max_quantity}.")
    if decimals_of(quantity) > decimals_of(rules.step_size):
        return Violation(-1111, "Precision is over the maximum defined for this asset.")
    if not is_multiple(quantity - rules.min_quantity, rules.step_size):
        return Violation(-4023, "Quantity not increased by step size.")
    return None


def _check_notional(rules: SymbolRules, notional: Decimal, *, reduce_only: bool) -> Violation | None:
    if notional < rules.min_notional and not reduce_only:
        return Violation(
            -4164,
            f"Order's notional must be no smaller than {rules.min_notional} (unless you choose reduce only).",
        )
    return None
