"""Bracketed margin arithmetic for USDⓈ-M perpetuals.

Pure functions over Decimal: notional in quote asset, quantity in base asset, rates as fractions. Formulas: the
exchange's liquidation FAQ (protocol reference §7.6); rules R-ACC 19 and R-LIQ 29.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

ZERO = Decimal(0)


class LeverageBracket(msgspec.Struct, frozen=True):
    """One row of a symbol's bracket table; `maintenance_amount` is what the exchange calls `cum`."""

    bracket: int
    initial_leverage: int
    notional_floor: Decimal
    notional_cap: Decimal
    maintenance_margin_ratio: Decimal
    maintenance_amount: Decimal


def bracket_for(notional: Decimal, brackets: Sequence[LeverageBracket]) -> LeverageBracket:
    """The bracket with floor < notional ≤ cap; beyond the last cap, the last bracket."""
    for bracket in brackets:
        if notional <= bracket.notional_cap:
            return bracket
    return brackets[-1]


def maintenance_margin(notional: Decimal, brackets: Sequence[LeverageBracket]) -> Decimal:
    """Maintenance margin of `notional` at mark: notional · ratio − maintenance amount; continuous at the edges."""
    bracket = bracket_for(notional, brackets)
    return notional * bracket.maintenance_margin_ratio - bracket.maintenance_amount


def max_notional(leverage: int, brackets: Sequence[LeverageBracket]) -> Decimal:
    """The largest notional the table allows at `leverage`."""
    return max((b.notional_cap for b in brackets if b.initial_leverage >= leverage), default=ZERO)


def liquidation_price(
    *,
    quantity: Decimal,
    entry_cost: Decimal,
    margin_balance: Decimal,
    brackets: Sequence[LeverageBracket],
) -> Decimal:
    """Mark price at which margin equals maintenance margin, or 0 where no such price exists.

    LP = (WB − TMM₁ + UPNL₁ + cum − S·Q·EP) / (Q·MMR − S·Q), the bracket being that of the notional at LP.

    Args:
        quantity: signed position.
        entry_cost: signed notional of the entries (S·Q·EP).
        margin_balance: wallet that carries the position: isolated wallet, or cross wallet minus the maintenance
            margin plus the unrealised PnL of all other cross positions.
    """
    size = abs(quantity)
    if size == 0:
        return ZERO
    for bracket in brackets:
        price = (margin_balance + bracket.maintenance_amount - entry_cost) / (
            size * bracket.maintenance_margin_ratio - quantity
        )
        if price <= 0:
            continue
        if bracket_for(price * size, brackets) is bracket:
            return price
    return ZERO
