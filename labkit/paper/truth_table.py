"""The truth table: what the exchange's own books say became of every order, by the id its client gave it.

A client may be in doubt; this is not. "At most one execution per intent" is read off here.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from labkit.domain.position import ZERO
from labkit.paper.order_desk import OrderDesk


class IntentTruth(msgspec.Struct, kw_only=True):
    """One client order id."""

    orders: int = 0
    """How often an order of this id was accepted. More than one: the client sent it again."""
    executions: int = 0
    """How many of those traded."""
    executed_quantity: Decimal = ZERO


def truth_table(desk: OrderDesk) -> dict[str, IntentTruth]:
    """Every client order id the exchange ever accepted an order of."""
    table: dict[str, IntentTruth] = {}
    for entry in desk.orders.values():
        truth = table.setdefault(entry.order.client_order_id, IntentTruth())
        truth.orders += 1
        truth.executions += entry.order.executed_quantity > 0
        truth.executed_quantity += entry.order.executed_quantity
    return table
