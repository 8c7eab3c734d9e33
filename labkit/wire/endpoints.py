"""The REST endpoints labkit uses, with what each costs, and how their parameters travel (protocol §4, §5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, StrEnum
from urllib.parse import parse_qsl, quote, urlencode

from msgspec import Struct

from labkit.domain.orders import OrderIntent
from labkit.wire.numbers import format_decimal


class Security(StrEnum):
    NONE = "none"
    API_KEY = "api_key"
    """The key in a header, nothing signed."""
    SIGNED = "signed"
    """Key, timestamp and signature."""


class Lane(Enum):
    """Who goes first when limits are tight, most urgent first."""

    CLOSE = 1
    """Reduces a position: chosen by the client, order by order."""
    CANCEL_QUERY = 2
    OPEN = 3
    HISTORY = 4


class OwnPool(Enum):
    """A pool some endpoints share beside the weight: so many calls in five minutes, per address."""

    FUNDING = 500
    FUTURES_DATA = 1_000


Weight = Callable[[Mapping[str, str]], int]


class Endpoint(Struct, frozen=True):
    """One way to ask. `weight` tells the request weight for given parameters; `order_cost` counts against ORDERS."""

    name: str
    method: str
    path: str
    security: Security
    lane: Lane
    weight: Weight
    order_cost: int = 0
    own_pool: OwnPool | None = None

    @property
    def cancels(self) -> bool:
        """It ends orders."""
        return self.method == "DELETE" and self.security is Security.SIGNED


def _fixed(weight: int) -> Weight:
    return lambda parameters: weight


def _cheaper_with_symbol(one: int, every: int) -> Weight:
    return lambda parameters: one if parameters.get("symbol") else every


def _by_limit(default: int, steps: Sequence[tuple[int, int]], beyond: int) -> Weight:
    """Weight by the `limit` parameter: the first step (largest limit, weight) that covers it, else `beyond`."""

    def weight(parameters: Mapping[str, str]) -> int:
        text = parameters.get("limit", "")
        limit = int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else default
        return next((cost for largest, cost in steps if limit <= largest), beyond)

    return weight


_DEPTH_WEIGHT = _by_limit(500, ((50, 2), (100, 5), (500, 10)), 20)
_KLINES_WEIGHT = _by_limit(500, ((99, 1), (499, 2), (1000, 5)), 10)


def _market(
    name: str, path: str, weight: Weight, lane: Lane = Lane.CANCEL_QUERY, own_pool: OwnPool | None = None
) -> Endpoint:
    return Endpoint(name, "GET", path, Security.NONE, lane, weight, own_pool=own_pool)


def _signed(name: str, method: str, path: str, lane: Lane, weight: Weight, order_cost: int = 0) -> Endpoint:
    return Endpoint(name, method, path, Security.SIGNED, lane, weight, order_cost)


ENDPOINTS: dict[str, Endpoint] = {
    endpoint.name: endpoint
    for endpoint in (
        _market("ping", "/fapi/v1/ping", _fixed(1)),
        _market("time", "/fapi/v1/time", _fixed(1)),
        _market("exchange_info", "/fapi/v1/exchangeInfo", _fixed(1)),
        _market("depth", "/fapi/v1/depth", _DEPTH_WEIGHT),
        _market("klines", "/fapi/v1/klines", _KLINES_WEIGHT, Lane.HISTORY),
        _market("mark_price_klines", "/fapi/v1/markPriceKlines", _KLINES_WEIGHT, Lane.HISTORY),
        _market("index_price_klines", "/fapi/v1/indexPriceKlines", _KLINES_WEIGHT, Lane.HISTORY),
        _market("premium_index", "/fapi/v1/premiumIndex", _cheaper_with_symbol(1, 10)),
        _market("ticker_24hr", "/fapi/v1/ticker/24hr", _cheaper_with_symbol(1, 40)),
        _market("ticker_price", "/fapi/v2/ticker/price", _cheaper_with_symbol(1, 2)),
        _market("ticker_book", "/fapi/v1/ticker/bookTicker", _cheaper_with_symbol(2, 5)),
        # Funding history costs no weight.
        _market("funding_rate", "/fapi/v1/fundingRate", _fixed(0), Lane.HISTORY, OwnPool.FUNDING),
        _market("funding_info", "/fapi/v1/fundingInfo", _fixed(0), Lane.HISTORY, OwnPool.FUNDING),
        _market("open_interest", "/fapi/v1/openInterest", _fixed(1)),
        _market(
            "open_interest_history", "/futures/data/openInterestHist", _fixed(0), Lane.HISTORY, OwnPool.FUTURES_DATA
        ),
        _market("trades", "/fapi/v1/trades", _fixed(5), Lane.HISTORY),
        _market("agg_trades", "/fapi/v1/aggTrades", _fixed(20), Lane.HISTORY),
        _signed("place_order", "POST", "/fapi/v1/order", Lane.OPEN, _fixed(0), order_cost=1),
        _signed("query_order", "GET", "/fapi/v1/order", Lane.CANCEL_QUERY, _fixed(1)),
        _signed("cancel_order", "DELETE", "/fapi/v1/order", Lane.CANCEL_QUERY, _fixed(1)),
        _signed("cancel_all_orders", "DELETE", "/fapi/v1/allOpenOrders", Lane.CANCEL_QUERY, _fixed(1)),
        _signed("open_orders", "GET", "/fapi/v1/openOrders", Lane.CANCEL_QUERY, _cheaper_with_symbol(1, 40)),
        _signed("all_orders", "GET", "/fapi/v1/allOrders", Lane.HISTORY, _fixed(5)),
        _signed("user_trades", "GET", "/fapi/v1/userTrades", Lane.CANCEL_QUERY, _fixed(5)),
        _signed("account", "GET", "/fapi/v3/account", Lane.CANCEL_QUERY, _fixed(5)),
        _signed("balance", "GET", "/fapi/v3/balance", Lane.CANCEL_QUERY, _fixed(5)),
        _signed("position_risk", "GET", "/fapi/v3/positionRisk", Lane.CANCEL_QUERY, _fixed(5)),
        # Settings open nothing: an exchange that is not well must not keep a lab from starting.
        _signed("leverage", "POST", "/fapi/v1/leverage", Lane.CANCEL_QUERY, _fixed(1)),
        _signed("margin_type", "POST", "/fapi/v1/marginType", Lane.CANCEL_QUERY, _fixed(1)),
        _signed("position_mode", "GET", "/fapi/v1/positionSide/dual", Lane.CANCEL_QUERY, _fixed(30)),
        _signed("leverage_bracket", "GET", "/fapi/v1/leverageBracket", Lane.CANCEL_QUERY, _fixed(1)),
        _signed("commission_rate", "GET", "/fapi/v1/commissionRate", Lane.CANCEL_QUERY, _fixed(20)),
        _signed("symbol_config", "GET", "/fapi/v1/symbolConfig", Lane.CANCEL_QUERY, _fixed(5)),
        _signed("income", "GET", "/fapi/v1/income", Lane.CANCEL_QUERY, _fixed(30)),
        Endpoint("listen_key_create", "POST", "/fapi/v1/listenKey", Security.API_KEY, Lane.CANCEL_QUERY, _fixed(1)),
        Endpoint("listen_key_renew", "PUT", "/fapi/v1/listenKey", Security.API_KEY, Lane.CANCEL_QUERY, _fixed(1)),
        Endpoint("listen_key_close", "DELETE", "/fapi/v1/listenKey", Security.API_KEY, Lane.CANCEL_QUERY, _fixed(1)),
    )
}
"""Every request labkit makes, by name."""


def encode_query(parameters: Mapping[str, str]) -> str:
    """`parameters` percent-encoded as UTF-8, in their order. Sign exactly this text."""
    return urlencode(parameters, quote_via=quote, safe="")


def decode_query(query: str) -> dict[str, str]:
    """The parameters of a query or form body; of a name given twice the last counts."""
    return dict(parse_qsl(query, keep_blank_values=True))


def order_parameters(intent: OrderIntent) -> dict[str, str]:
    """The parameters of `place_order` for this intent, without timestamp and signature.

    A LIMIT order without a time in force is sent as GTC; the answer asked for is RESULT.
    """
    parameters = {
        "symbol": intent.symbol,
        "side": intent.side.value,
        "type": intent.order_type.value,
        "quantity": format_decimal(intent.quantity),
    }
    if intent.price is not None:
        parameters["price"] = format_decimal(intent.price)
        parameters["timeInForce"] = intent.time_in_force.value if intent.time_in_force else "GTC"
    if intent.reduce_only:
        parameters["reduceOnly"] = "true"
    return parameters | {"newClientOrderId": intent.client_order_id, "newOrderRespType": "RESULT"}
