"""What the venue answers about orders: placing, asking, cancelling, what was filled.

The parameters are judged here, in the exchange's words; the order itself by the order desk. Called by `rest_routes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from labkit.domain.clock import DAY_MS
from labkit.domain.orders import Fill, OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from labkit.domain.position import ZERO
from labkit.errors import ExchangeError
from labkit.paper.order_desk import OrderEntry, refused
from labkit.paper.request_parameters import Parameters, page
from labkit.wire.rest_account import (
    encode_order,
    encode_order_ack,
    encode_orders,
    encode_success,
    encode_user_trades,
)

if TYPE_CHECKING:
    from labkit.paper.venue import Venue

CONDITIONAL_TYPES = frozenset({"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"})
LONGEST_WINDOW_MS = 7 * DAY_MS
_CLIENT_ORDER_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}\Z")


class OrderAnswers:
    """The orders of one venue, as they are told on HTTP."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def _intent(self, parameters: Parameters) -> OrderIntent:
        symbol = parameters.symbol()
        side = parameters.choice("side", Side, -1117)
        kind = parameters.text("type")
        if kind in CONDITIONAL_TYPES:
            raise refused(
                -4120, "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead."
            )
        if kind not in (OrderType.LIMIT, OrderType.MARKET):
            raise refused(-1116, "Invalid orderType.")
        if parameters.values.get("positionSide", "BOTH") != "BOTH":
            raise refused(-4061, "Order's position side does not match user's setting.")
        price: Decimal | None = None
        time_in_force: TimeInForce | None = None
        if kind == OrderType.LIMIT:
            time_in_force = parameters.choice("timeInForce", TimeInForce, -1115)
            price = parameters.decimal("price")
        elif parameters.values.get("price"):
            raise refused(-1106, "Parameter 'price' sent when not required.")
        if parameters.values.get("newOrderRespType", "ACK") not in ("ACK", "RESULT"):
            raise refused(-1136, "Invalid newOrderRespType.")
        client_order_id = parameters.values.get("newClientOrderId") or self._venue.desk.next_client_order_id()
        if not _CLIENT_ORDER_ID.match(client_order_id):
            if len(client_order_id) > 36:
                raise refused(-4015, "Client order id length should not be more than 36 chars")
            raise refused(-1100, "Illegal characters found in parameter 'newClientOrderId'.")
        return OrderIntent(
            client_order_id=client_order_id,
            symbol=symbol,
            side=side,
            order_type=OrderType(kind),
            quantity=parameters.decimal("quantity"),
            price=price,
            time_in_force=time_in_force,
            reduce_only=parameters.flag("reduceOnly"),
        )

    def place_order(self, parameters: Parameters, now_ms: int) -> bytes:
        order = self._venue.desk.place(self._intent(parameters), now_ms).order
        if parameters.values.get("newOrderRespType") != "RESULT":
            # An acknowledgement is written before the matching engine has done anything.
            order = msgspec.structs.replace(order, status=OrderStatus.NEW, executed_quantity=ZERO)
        return encode_order_ack(order)

    def test_order(self, parameters: Parameters, now_ms: int) -> bytes:
        self._venue.desk.check(self._intent(parameters))
        return b"{}"

    def _find(self, parameters: Parameters) -> OrderEntry:
        symbol = parameters.symbol()
        order_id = parameters.integer("orderId")
        client_order_id = parameters.values.get("origClientOrderId") or None
        if order_id is None and client_order_id is None:
            raise refused(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
        return self._venue.desk.find(symbol, order_id=order_id, client_order_id=client_order_id)

    def query_order(self, parameters: Parameters, now_ms: int) -> bytes:
        entry = self._find(parameters)
        return encode_order(entry.order, created_ms=entry.created_ms)

    def query_open_order(self, parameters: Parameters, now_ms: int) -> bytes:
        entry = self._find(parameters)
        if entry.order.status.is_final:
            raise refused(-2013, "Order does not exist.")
        return encode_order(entry.order, created_ms=entry.created_ms)

    def cancel_order(self, parameters: Parameters, now_ms: int) -> bytes:
        try:
            entry = self._find(parameters)
        except ExchangeError as error:
            if error.code == -2013:
                raise refused(-2011, "Unknown order sent.") from error
            raise
        self._venue.desk.cancel(entry, now_ms)
        return encode_order_ack(entry.order)

    def cancel_all_orders(self, parameters: Parameters, now_ms: int) -> bytes:
        self._venue.desk.cancel_all(parameters.symbol(), now_ms)
        return encode_success("The operation of cancel all open order is done.")

    def open_orders(self, parameters: Parameters, now_ms: int) -> bytes:
        return _told(self._venue.desk.open_orders(parameters.optional_symbol()))

    def all_orders(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        from_id = parameters.integer("orderId")
        entries = [
            entry
            for entry in self._venue.desk.orders.values()
            if (symbol is None or entry.order.symbol == symbol) and (from_id is None or entry.order.order_id >= from_id)
        ]
        return _told(page(entries, parameters, 500, lambda entry: entry.created_ms, from_the_start=from_id is not None))

    def user_trades(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.symbol()
        order_id, from_id = parameters.integer("orderId"), parameters.integer("fromId")
        start_ms, end_ms = parameters.window()
        if start_ms is not None and end_ms is not None and end_ms - start_ms > LONGEST_WINDOW_MS:
            raise refused(-4165, "Invalid time interval.")

        def is_asked(fill: Fill) -> bool:
            return (
                fill.symbol == symbol
                and (order_id is None or fill.order_id == order_id)
                and (from_id is None or fill.trade_id >= from_id)
            )

        fills = [fill for fill in self._venue.desk.fills if is_asked(fill)]
        return encode_user_trades(
            page(fills, parameters, 500, lambda fill: fill.trade_time_ms, from_the_start=from_id is not None)
        )


def _told(entries: Iterable[OrderEntry]) -> bytes:
    return encode_orders((entry.order, entry.created_ms) for entry in entries)
