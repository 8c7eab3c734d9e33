"""Orders from intent to final state, spelt as the exchange spells them."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

ZERO = Decimal(0)


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """+1 for BUY, -1 for SELL."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    LIMIT = "LIMIT"
    MARKET = "MARKET"
    LIQUIDATION = "LIQUIDATION"


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTX = "GTX"


class OrderStatus(StrEnum):
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"

    @property
    def is_final(self) -> bool:
        return not _NEXT_STATUS[self]


_NEXT_STATUS: dict[OrderStatus, frozenset[OrderStatus]] = {
    OrderStatus.NEW: frozenset(
        {
            OrderStatus.PARTIALLY_FILLED,
            OrderStatus.FILLED,
            OrderStatus.CANCELED,
            OrderStatus.EXPIRED,
            OrderStatus.EXPIRED_IN_MATCH,
        }
    ),
    OrderStatus.PARTIALLY_FILLED: frozenset(
        {
            OrderStatus.PARTIALLY_FILLED,
            OrderStatus.FILLED,
            OrderStatus.CANCELED,
            OrderStatus.EXPIRED,
            OrderStatus.EXPIRED_IN_MATCH,
        }
    ),
    OrderStatus.FILLED: frozenset(),
    OrderStatus.CANCELED: frozenset(),
    OrderStatus.EXPIRED: frozenset(),
    OrderStatus.EXPIRED_IN_MATCH: frozenset(),
}


def may_become(status: OrderStatus, following: OrderStatus) -> bool:
    """True if an order in `status` may move to `following`. Final states never change (invariant I07)."""
    return following in _NEXT_STATUS[status]


class IntentState(StrEnum):
    """The life of an order from our side: every intent ends in exactly one final state (invariant I06)."""

    SAVED = "SAVED"
    """Committed to the ledger; it may or may not have been sent."""
    ACKED = "ACKED"
    """The exchange answered that it has the order."""
    REJECTED = "REJECTED"
    """A definite no."""
    UNKNOWN = "UNKNOWN"
    """Sent, outcome not known: being settled by asking."""
    NOT_PLACED = "NOT_PLACED"
    """Proven by the fence rule to have never reached the book."""
    DONE = "DONE"
    """The order is in a final state and all its fills are booked."""

    @property
    def is_final(self) -> bool:
        return self in (IntentState.REJECTED, IntentState.NOT_PLACED, IntentState.DONE)


class OrderIntent(msgspec.Struct, frozen=True, kw_only=True):
    """What we want from the exchange, with the identity it keeps for life.

    `reason` is why, in the trader's words (`entry`, `stop_loss`, `take_profit`, `trailing_stop`, `model_flip`,
    `max_holding`, `user`, …); it stays on our side and is never sent.
    """

    client_order_id: str
    symbol: str
    side: Side
    order_type: OrderType
    quantity: Decimal
    price: Decimal | None = None
    time_in_force: TimeInForce | None = None
    reduce_only: bool = False
    reason: str = ""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the exchange tells it."""

    symbol: str
    order_id: int
    client_order_id: str
    side: Side
    order_type: OrderType
    status: OrderStatus
    price: Decimal
    original_quantity: Decimal
    executed_quantity: Decimal
    average_price: Decimal = ZERO
    time_in_force: TimeInForce = TimeInForce.GTC
    reduce_only: bool = False
    update_time_ms: int = 0


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One execution. Natural key: `(symbol, trade_id)`.

    `commission` is in quote asset and positive when paid; `realized_pnl` is before commission.
    """

    symbol: str
    trade_id: int
    order_id: int
    client_order_id: str
    side: Side
    price: Decimal
    quantity: Decimal
    commission: Decimal
    realized_pnl: Decimal
    maker: bool
    trade_time_ms: int

    @property
    def signed_quantity(self) -> Decimal:
        return self.quantity * self.side.sign
