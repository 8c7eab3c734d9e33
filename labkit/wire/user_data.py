"""Events of the user-data stream ⇄ what happened to the account (protocol §3.13).

Money in the margin asset, quantities signed for positions and positive for orders, times in UTC ms. Decoded by the
exchange client's user stream, encoded by the paper exchange.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct

from labkit.domain.orders import Fill, Order, OrderStatus, OrderType, Side, TimeInForce
from labkit.domain.symbol_rules import MARGIN_ASSET
from labkit.errors import LocalProtocolError, RemoteProtocolError
from labkit.wire.numbers import Int64, NumberText, format_decimal
from labkit.wire.shapes import Shape, decode_json, encode_json

ZERO = Decimal(0)
_FILLING: Final = ("TRADE", "CALCULATED")


class OrderTradeUpdate(Struct, frozen=True, kw_only=True):
    """An order changed. `fill` is present when this change was an execution.

    `execution_type` is NEW, CANCELED, CALCULATED (liquidation), EXPIRED, TRADE or AMENDMENT; `expiry_reason` is the
    exchange's number, "0" for none.
    """

    order: Order
    fill: Fill | None = None
    execution_type: str
    event_time_ms: int
    transaction_time_ms: int
    expiry_reason: str = "0"


class BalanceChange(Struct, frozen=True):
    """A wallet after a change; `change` is the part not caused by profit, loss or commission."""

    wallet_balance: Decimal
    cross_wallet_balance: Decimal
    change: Decimal = ZERO


class PositionChange(Struct, frozen=True, kw_only=True):
    """A position after a change; `quantity` is signed, `margin_type` is `cross` or `isolated`."""

    symbol: str
    quantity: Decimal
    entry_price: Decimal
    unrealized_pnl: Decimal
    margin_type: str = "cross"
    isolated_wallet: Decimal = ZERO
    break_even_price: Decimal = ZERO
    accumulated_realized: Decimal = ZERO
    position_side: str = "BOTH"
    """BOTH in one-way mode; LONG or SHORT in hedge mode, which labkit does not trade in."""


class AccountUpdate(Struct, frozen=True, kw_only=True):
    """Balances and positions that changed, and why: ORDER, FUNDING_FEE, INSURANCE_CLEAR, DEPOSIT, …

    `symbol` names the contract of a funding payment where the exchange tells it, else it is empty.
    """

    reason: str
    balances: dict[str, BalanceChange] = {}
    positions: tuple[PositionChange, ...] = ()
    symbol: str = ""
    event_time_ms: int
    transaction_time_ms: int


class ListenKeyExpired(Struct, frozen=True):
    """This stream will say no more; the socket stays open."""

    listen_key: str
    event_time_ms: int


class AccountConfigUpdate(Struct, frozen=True):
    """The leverage of a symbol was set."""

    symbol: str
    leverage: int
    event_time_ms: int


class MarginCallPosition(Struct, frozen=True, kw_only=True):
    """A position in danger; `margin_type` is `CROSSED` or `ISOLATED` here."""

    symbol: str
    quantity: Decimal
    margin_type: str
    isolated_wallet: Decimal = ZERO
    mark_price: Decimal
    unrealized_pnl: Decimal
    maintenance_margin: Decimal
    position_side: str = "BOTH"


class MarginCall(Struct, frozen=True, kw_only=True):
    """The margin ratio is high. `cross_wallet_balance` is None where only isolated positions are concerned."""

    positions: tuple[MarginCallPosition, ...]
    cross_wallet_balance: Decimal | None = None
    event_time_ms: int


UserEvent = OrderTradeUpdate | AccountUpdate | ListenKeyExpired | AccountConfigUpdate | MarginCall

# --------------------------------------------------------------------------------------------------------- the frames

_POSITION = Shape(
    PositionChange,
    {
        "symbol": "s",
        "quantity": "pa",
        "entry_price": "ep",
        "break_even_price": "bep",
        "accumulated_realized": "cr",
        "unrealized_pnl": "up",
        "margin_type": "mt",
        "isolated_wallet": "iw",
        "position_side": "ps",
    },
)
_CALLED_POSITION = Shape(
    MarginCallPosition,
    {
        "symbol": "s",
        "position_side": "ps",
        "quantity": "pa",
        "margin_type": "mt",
        "isolated_wallet": "iw",
        "mark_price": "mp",
        "unrealized_pnl": "up",
        "maintenance_margin": "mm",
    },
)


class _Order(Struct, frozen=True):
    symbol: str = msgspec.field(name="s")
    client_order_id: str = msgspec.field(name="c")
    side: Side = msgspec.field(name="S")
    order_type: OrderType = msgspec.field(name="o")
    time_in_force: TimeInForce = msgspec.field(name="f")
    original_quantity: NumberText = msgspec.field(name="q")
    price: NumberText = msgspec.field(name="p")
    average_price: NumberText = msgspec.field(name="ap")
    execution_type: str = msgspec.field(name="x")
    status: OrderStatus = msgspec.field(name="X")
    order_id: Int64 = msgspec.field(name="i")
    last_quantity: NumberText = msgspec.field(name="l")
    executed_quantity: NumberText = msgspec.field(name="z")
    last_price: NumberText = msgspec.field(name="L")
    time_ms: Int64 = msgspec.field(name="T")
    trade_id: Int64 = msgspec.field(name="t")
    maker: bool = msgspec.field(name="m")
    reduce_only: bool = msgspec.field(name="R")
    realized_pnl: NumberText = msgspec.field(name="rp")
    # Absent when there is no fee.
    commission: NumberText | None = msgspec.field(name="n", default=None)
    expiry_reason: str | None = msgspec.field(name="er", default=None)


class _OrderTradeUpdate(Struct, frozen=True, tag_field="e", tag="ORDER_TRADE_UPDATE"):
    event_time_ms: Int64 = msgspec.field(name="E")
    transaction_time_ms: Int64 = msgspec.field(name="T")
    order: _Order = msgspec.field(name="o")

    def event(self) -> OrderTradeUpdate:
        told = self.order
        order = Order(
            symbol=told.symbol,
            order_id=told.order_id,
            client_order_id=told.client_order_id,
            side=told.side,
            order_type=told.order_type,
            status=told.status,
            price=Decimal(told.price),
            original_quantity=Decimal(told.original_quantity),
            executed_quantity=Decimal(told.executed_quantity),
            average_price=Decimal(told.average_price),
            time_in_force=told.time_in_force,
            reduce_only=told.reduce_only,
            update_time_ms=told.time_ms,
        )
        fill = None
        if told.execution_type in _FILLING and Decimal(told.last_quantity) > 0:
            fill = Fill(
                symbol=told.symbol,
                trade_id=told.trade_id,
                order_id=told.order_id,
                client_order_id=told.client_order_id,
                side=told.side,
                price=Decimal(told.last_price),
                quantity=Decimal(told.last_quantity),
                commission=Decimal(told.commission or 0),
                realized_pnl=Decimal(told.realized_pnl),
                maker=told.maker,
                trade_time_ms=told.time_ms,
            )
        return OrderTradeUpdate(
            order=order,
            fill=fill,
            execution_type=told.execution_type,
            event_time_ms=self.event_time_ms,
            transaction_time_ms=self.transaction_time_ms,
            expiry_reason=told.expiry_reason or "0",
        )


class _Balance(Struct, frozen=True):
    asset: str = msgspec.field(name="a")
    wallet_balance: NumberText = msgspec.field(name="wb")
    cross_wallet_balance: NumberText = msgspec.field(name="cw")
    change: NumberText = msgspec.field(name="bc", default="0")


class _Account(Struct, frozen=True):
    reason: str = msgspec.field(name="m")
    balances: tuple[_Balance, ...] = msgspec.field(name="B", default=())
    positions: tuple[_POSITION.wire_type, ...] = msgspec.field(name="P", default=())  # type: ignore[name-defined]
    symbol: str = msgspec.field(name="S", default="")


class _AccountUpdate(Struct, frozen=True, tag_field="e", tag="ACCOUNT_UPDATE"):
    event_time_ms: Int64 = msgspec.field(name="E")
    transaction_time_ms: Int64 = msgspec.field(name="T")
    account: _Account = msgspec.field(name="a")

    def event(self) -> AccountUpdate:
        return AccountUpdate(
            reason=self.account.reason,
            balances={
                balance.asset: BalanceChange(
                    Decimal(balance.wallet_balance), Decimal(balance.cross_wallet_balance), Decimal(balance.change)
                )
                for balance in self.account.balances
            },
            positions=tuple(_POSITION.read(position) for position in self.account.positions),
            symbol=self.account.symbol,
            event_time_ms=self.event_time_ms,
            transaction_time_ms=self.transaction_time_ms,
        )


class _ListenKeyExpired(Struct, frozen=True, tag_field="e", tag="listenKeyExpired"):
    event_time_ms: Int64 = msgspec.field(name="E")
    listen_key: str = msgspec.field(name="listenKey")

    def event(self) -> ListenKeyExpired:
        return ListenKeyExpired(self.listen_key, self.event_time_ms)


class _Leverage(Struct, frozen=True):
    symbol: str = msgspec.field(name="s")
    leverage: Int64 = msgspec.field(name="l")


class _AccountConfigUpdate(Struct, frozen=True, tag_field="e", tag="ACCOUNT_CONFIG_UPDATE"):
    event_time_ms: Int64 = msgspec.field(name="E")
    # Absent when the change was of the multi-assets mode.
    leverage: _Leverage | None = msgspec.field(name="ac", default=None)

    def event(self) -> AccountConfigUpdate | None:
        if self.leverage is None:
            return None
        return AccountConfigUpdate(self.leverage.symbol, self.leverage.leverage, self.event_time_ms)


class _MarginCall(Struct, frozen=True, tag_field="e", tag="MARGIN_CALL"):
    event_time_ms: Int64 = msgspec.field(name="E")
    positions: tuple[_CALLED_POSITION.wire_type, ...] = msgspec.field(name="p")  # type: ignore[name-defined]
    cross_wallet_balance: NumberText | None = msgspec.field(name="cw", default=None)

    def event(self) -> MarginCall:
        return MarginCall(
            positions=tuple(_CALLED_POSITION.read(position) for position in self.positions),
            cross_wallet_balance=None if self.cross_wallet_balance is None else Decimal(self.cross_wallet_balance),
            event_time_ms=self.event_time_ms,
        )


_Frame = _OrderTradeUpdate | _AccountUpdate | _ListenKeyExpired | _AccountConfigUpdate | _MarginCall
_KINDS: Final = frozenset(
    str(kind.__struct_config__.tag)
    for kind in (_OrderTradeUpdate, _AccountUpdate, _ListenKeyExpired, _AccountConfigUpdate, _MarginCall)
)


class _Outline(Struct, frozen=True):
    """Just enough of a frame to tell what it is: bare, or wrapped with the listen key as its stream."""

    event: str | None = msgspec.field(name="e", default=None)
    data: msgspec.Raw = msgspec.Raw()


_outline = msgspec.json.Decoder(_Outline)
_event: msgspec.json.Decoder[_Frame] = msgspec.json.Decoder(_Frame)


def decode_user_event(frame: bytes) -> UserEvent | None:
    """The event in a user-data frame, bare or combined; None for kinds labkit does not use (TRADE_LITE, …).

    Raises `RemoteProtocolError` for everything that is no user-data event, or one with values labkit does not know.
    """
    body = frame
    outline = decode_json(_outline, frame)
    if outline.event is None and bytes(outline.data):
        body = bytes(outline.data)
        outline = decode_json(_outline, body)
    if outline.event is None:
        raise RemoteProtocolError("not an event of a user-data stream")
    if outline.event not in _KINDS:
        return None
    return decode_json(_event, body).event()


# ----------------------------------------------------------------------------------------------------------- encoding


def encode_order_trade_update(update: OrderTradeUpdate) -> bytes:
    """The bare event. Raises `LocalProtocolError` if the fill is not one of the order at its update time."""
    order, fill = update.order, update.fill
    told: dict[str, Any] = {
        "s": order.symbol,
        "c": order.client_order_id,
        "S": order.side,
        "o": order.order_type,
        "f": order.time_in_force,
        "q": format_decimal(order.original_quantity),
        "p": format_decimal(order.price),
        "ap": format_decimal(order.average_price),
        "sp": "0",
        "x": update.execution_type,
        "X": order.status,
        "i": order.order_id,
        "l": "0",
        "z": format_decimal(order.executed_quantity),
        "L": "0",
        "T": order.update_time_ms,
        "t": 0,
        "b": "0",
        "a": "0",
        "m": False,
        "R": order.reduce_only,
        "wt": "CONTRACT_PRICE",
        "ot": order.order_type,
        "ps": "BOTH",
        "cp": False,
        "rp": "0",
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": "EXPIRE_MAKER",
        "pm": "NONE",
        "gtd": 0,
        "er": update.expiry_reason,
    }
    if fill is not None:
        _check_belongs(fill, update)
        told |= {
            "l": format_decimal(fill.quantity),
            "L": format_decimal(fill.price),
            "t": fill.trade_id,
            "m": fill.maker,
            "rp": format_decimal(fill.realized_pnl),
        }
        if fill.commission:
            told |= {"N": MARGIN_ASSET, "n": format_decimal(fill.commission)}
    return encode_json(
        {"e": "ORDER_TRADE_UPDATE", "E": update.event_time_ms, "T": update.transaction_time_ms, "o": told}
    )


def _check_belongs(fill: Fill, update: OrderTradeUpdate) -> None:
    """The frame says these things once for both, so they must not differ."""
    order = update.order
    of_fill = (fill.symbol, fill.order_id, fill.client_order_id, fill.side, fill.trade_time_ms)
    of_order = (order.symbol, order.order_id, order.client_order_id, order.side, order.update_time_ms)
    if of_fill != of_order or update.execution_type not in _FILLING or fill.quantity <= 0:
        raise LocalProtocolError(f"fill {fill.trade_id} does not belong to this {update.execution_type} update")


def encode_account_update(update: AccountUpdate) -> bytes:
    account: dict[str, Any] = {
        "m": update.reason,
        "B": [
            {
                "a": asset,
                "wb": format_decimal(balance.wallet_balance),
                "cw": format_decimal(balance.cross_wallet_balance),
                "bc": format_decimal(balance.change),
            }
            for asset, balance in update.balances.items()
        ],
        "P": [_POSITION.to_object(position) for position in update.positions],
    }
    if update.symbol:
        account["S"] = update.symbol
    return encode_json(
        {"e": "ACCOUNT_UPDATE", "E": update.event_time_ms, "T": update.transaction_time_ms, "a": account}
    )


def encode_listen_key_expired(expired: ListenKeyExpired) -> bytes:
    return encode_json({"e": "listenKeyExpired", "E": expired.event_time_ms, "listenKey": expired.listen_key})


def encode_account_config_update(update: AccountConfigUpdate) -> bytes:
    return encode_json(
        {
            "e": "ACCOUNT_CONFIG_UPDATE",
            "E": update.event_time_ms,
            "T": update.event_time_ms,
            "ac": {"s": update.symbol, "l": update.leverage},
        }
    )


def encode_margin_call(call: MarginCall) -> bytes:
    told: dict[str, Any] = {"e": "MARGIN_CALL", "E": call.event_time_ms}
    if call.cross_wallet_balance is not None:
        told["cw"] = format_decimal(call.cross_wallet_balance)
    told["p"] = [_CALLED_POSITION.to_object(position) for position in call.positions]
    return encode_json(told)


def encode_user_event(event: UserEvent) -> bytes:
    """The bare frame of any user event."""
    match event:
        case OrderTradeUpdate():
            return encode_order_trade_update(event)
        case AccountUpdate():
            return encode_account_update(event)
        case ListenKeyExpired():
            return encode_listen_key_expired(event)
        case AccountConfigUpdate():
            return encode_account_config_update(event)
        case MarginCall():
            return encode_margin_call(event)
