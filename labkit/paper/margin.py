"""Margin of the paper account: what is set aside, what is free, and when a position is lost.

Pure functions over Decimal, amounts in quote asset (rules R-ACC 19-21, R-LIQ 28-29; protocol §7.5, §7.6). Shown
figures are quantised to eight decimals; comparisons that decide are exact. Called by `order_desk` and
`account_answers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from labkit.domain import leverage_brackets
from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.orders import Side
from labkit.domain.position import ZERO, quantize_money
from labkit.paper.account import Holding, PaperAccount

MARKET_BUY_SURCHARGE = Decimal("1.0005")
"""A market buy is assumed to pay this much of the ask."""
SHORT_SURCHARGE = Decimal("1.0015")
"""A short is assumed to be opened at this much of the best price at least."""


class OpenNotional(msgspec.Struct, frozen=True):
    """Notional (price · open quantity) of the resting orders of one symbol that could open a position."""

    bids: Decimal = ZERO
    asks: Decimal = ZERO


class PositionMargin(msgspec.Struct, frozen=True):
    """Margin of one symbol; `margin_balance` is the isolated wallet plus profit, 0 in cross mode."""

    symbol: str
    notional: Decimal
    unrealized_pnl: Decimal
    position_initial_margin: Decimal
    open_order_initial_margin: Decimal
    maintenance_margin: Decimal
    liquidation_price: Decimal


class AccountMargin(msgspec.Struct, frozen=True):
    """Margin of the whole account and of every symbol with a position or an open order."""

    unrealized_pnl: Decimal
    cross_unrealized_pnl: Decimal
    position_initial_margin: Decimal
    open_order_initial_margin: Decimal
    maintenance_margin: Decimal
    cross_maintenance_margin: Decimal
    available_balance: Decimal
    max_withdraw: Decimal
    positions: dict[str, PositionMargin]


Brackets = Mapping[str, Sequence[LeverageBracket]]


def initial_margin(notional: Decimal, leverage: int) -> Decimal:
    """Notional over leverage."""
    return quantize_money(abs(notional) / leverage)


def order_margin(position_notional: Decimal, orders: OpenNotional, leverage: int) -> Decimal:
    """Margin the resting orders add to the position's: the worse of "all bids fill" and "all asks fill".

    `position_notional` is signed. An order that only reduces the position therefore reserves nothing.
    """
    worst = max(abs(position_notional + orders.bids), abs(position_notional - orders.asks), abs(position_notional))
    return initial_margin(worst, leverage) - initial_margin(position_notional, leverage)


def assumed_price(side: Side, *, limit_price: Decimal | None, best_price: Decimal, mark_price: Decimal) -> Decimal:
    """The price an order's cost is reckoned at before it is accepted (R-ACC 20).

    `best_price` is the ask for a buy and the bid for a sell.
    """
    if side is Side.BUY:
        return best_price * MARKET_BUY_SURCHARGE if limit_price is None else limit_price
    return max(best_price * SHORT_SURCHARGE, mark_price, limit_price or ZERO)


def order_cost(
    holding: Holding,
    orders: OpenNotional,
    *,
    side: Side,
    quantity: Decimal,
    price: Decimal,
    mark_price: Decimal,
    fee_rate: Decimal,
) -> Decimal:
    """What accepting an order takes from the available balance: added margin, opening loss and its fee.

    Only the part that would open a position, after netting the holding, can lose or add margin.
    """
    position_notional = holding.position.quantity * mark_price
    added = (
        OpenNotional(orders.bids + price * quantity, orders.asks)
        if side is Side.BUY
        else OpenNotional(orders.bids, orders.asks + price * quantity)
    )
    margin = order_margin(position_notional, added, holding.leverage) - order_margin(
        position_notional, orders, holding.leverage
    )
    opening = max(ZERO, quantity - max(ZERO, -side.sign * holding.position.quantity))
    loss = opening * max(ZERO, side.sign * (price - mark_price))
    fee = opening * price * fee_rate
    return margin + loss + fee


def cross_balance(account: PaperAccount, marks: Mapping[str, Decimal]) -> Decimal:
    """Cross wallet plus the unrealised profit of all cross positions."""
    return account.cross_wallet + sum(
        (h.position.unrealized_pnl(marks[h.position.symbol]) for h in account.open_holdings() if not h.isolated), ZERO
    )


def maintenance(holding: Holding, mark_price: Decimal, brackets: Sequence[LeverageBracket]) -> Decimal:
    """Maintenance margin of a holding at mark."""
    if not holding.position.quantity:
        return ZERO
    return leverage_brackets.maintenance_margin(abs(holding.position.quantity) * mark_price, brackets)


def is_isolated_lost(holding: Holding, mark_price: Decimal, brackets: Sequence[LeverageBracket]) -> bool:
    """True if an isolated position must be liquidated at this mark."""
    margin_balance = holding.isolated_wallet + holding.position.unrealized_pnl(mark_price)
    return margin_balance <= maintenance(holding, mark_price, brackets)


def is_cross_lost(account: PaperAccount, marks: Mapping[str, Decimal], brackets: Brackets) -> bool:
    """True if the cross positions must be liquidated at these marks."""
    cross = [h for h in account.open_holdings() if not h.isolated]
    needed = sum(
        (maintenance(h, marks[h.position.symbol], brackets[h.position.symbol]) for h in cross),
        ZERO,
    )
    return bool(cross) and cross_balance(account, marks) <= needed


def liquidation_price(account: PaperAccount, symbol: str, marks: Mapping[str, Decimal], brackets: Brackets) -> Decimal:
    """Mark price at which `symbol` would be liquidated, all else equal; 0 where there is none."""
    holding = account.holdings[symbol]
    if not holding.position.quantity:
        return ZERO
    if holding.isolated:
        balance = holding.isolated_wallet
    else:
        others = [h for h in account.open_holdings() if not h.isolated and h is not holding]
        balance = account.cross_wallet + sum(
            (
                h.position.unrealized_pnl(marks[h.position.symbol])
                - maintenance(h, marks[h.position.symbol], brackets[h.position.symbol])
                for h in others
            ),
            ZERO,
        )
    return quantize_money(
        leverage_brackets.liquidation_price(
            quantity=holding.position.quantity,
            entry_cost=holding.position.entry_cost,
            margin_balance=balance,
            brackets=brackets[symbol],
        )
    )


def account_margin(
    account: PaperAccount,
    marks: Mapping[str, Decimal],
    brackets: Brackets,
    open_orders: Mapping[str, OpenNotional],
) -> AccountMargin:
    """All margin figures at these marks. `open_orders` holds the symbols with resting orders that may open."""
    positions: dict[str, PositionMargin] = {}
    cross_initial = ZERO
    cross_pnl = ZERO
    cross_maintenance = ZERO
    for symbol, holding in account.holdings.items():
        orders = open_orders.get(symbol)
        if not holding.position.quantity and orders is None:
            continue
        # A symbol may have resting orders before its first mark; its position is then 0 and the mark plays no part.
        mark_price = marks.get(symbol, ZERO)
        notional = holding.position.quantity * mark_price
        margin = PositionMargin(
            symbol=symbol,
            notional=notional,
            unrealized_pnl=holding.position.unrealized_pnl(mark_price),
            position_initial_margin=initial_margin(notional, holding.leverage),
            open_order_initial_margin=order_margin(notional, orders or OpenNotional(), holding.leverage),
            maintenance_margin=maintenance(holding, mark_price, brackets[symbol]),
            liquidation_price=liquidation_price(account, symbol, marks, brackets),
        )
        positions[symbol] = margin
        cross_initial += margin.open_order_initial_margin
        if not holding.isolated:
            cross_initial += margin.position_initial_margin
            cross_pnl += margin.unrealized_pnl
            cross_maintenance += margin.maintenance_margin
    return AccountMargin(
        unrealized_pnl=sum((m.unrealized_pnl for m in positions.values()), ZERO),
        cross_unrealized_pnl=cross_pnl,
        position_initial_margin=sum((m.position_initial_margin for m in positions.values()), ZERO),
        open_order_initial_margin=sum((m.open_order_initial_margin for m in positions.values()), ZERO),
        maintenance_margin=sum((m.maintenance_margin for m in positions.values()), ZERO),
        cross_maintenance_margin=cross_maintenance,
        available_balance=max(ZERO, account.cross_wallet + cross_pnl - cross_initial),
        max_withdraw=max(ZERO, account.cross_wallet + min(ZERO, cross_pnl) - cross_initial),
        positions=positions,
    )
