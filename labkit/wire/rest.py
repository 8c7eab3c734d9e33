"""REST: the endpoints labkit uses with their costs, and their replies in both directions (protocol §4, §5).

Money and prices are Decimal in quote asset, quantities in base asset, times UTC ms. `decode_*` raises
`RemoteProtocolError` for a body that is not the reply it should be; `encode_*` is the paper exchange's side. Where
the exchange answers one object or an array, `decode_*` gives a tuple either way and `encode_*` follows its argument:
one struct makes an object, several make an array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
from msgspec import Meta, Struct

from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.market_events import Bar, MarkPrice, Quote, Trade
from labkit.domain.orders import Fill, Order, OrderIntent
from labkit.domain.symbol_rules import SymbolRules, decimals_of
from labkit.errors import RemoteProtocolError
from labkit.wire.numbers import Int64, NumberText, format_decimal
from labkit.wire.shapes import Shape, decode_json, encode_json

ZERO = Decimal(0)
MARGIN_ASSET: Final = "USDT"

# --------------------------------------------------------------------------------------------------------- endpoints


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


# --------------------------------------------------------------------------------- structs the domain has no word for


class RateLimit(Struct, frozen=True):
    """`kind` is REQUEST_WEIGHT or ORDERS; at most `limit` in every interval of `interval_count` × `interval`."""

    kind: str
    interval: str
    interval_count: int
    limit: int

    @property
    def interval_ms(self) -> int:
        return (
            self.interval_count
            * {"SECOND": 1_000, "MINUTE": 60_000, "HOUR": 3_600_000, "DAY": 86_400_000}[self.interval]
        )


class ExchangeInfo(Struct, frozen=True):
    """What the exchange lists: perpetual contracts with all the filters that `SymbolRules` needs."""

    server_time_ms: int
    rate_limits: tuple[RateLimit, ...]
    symbols: dict[str, SymbolRules]


class DepthSnapshot(Struct, frozen=True):
    """An order book: (price, quantity) levels, best first."""

    last_update_id: int
    bids: tuple[tuple[Decimal, Decimal], ...]
    asks: tuple[tuple[Decimal, Decimal], ...]
    event_time_ms: int
    transaction_time_ms: int


class PremiumIndex(Struct, frozen=True, kw_only=True):
    """Mark price and what is made of it; `funding_rate` is the one being accrued."""

    symbol: str
    mark_price: Decimal
    index_price: Decimal
    estimated_settle_price: Decimal
    funding_rate: Decimal
    interest_rate: Decimal
    next_funding_time_ms: int
    time_ms: int

    def mark(self, received_ns: int = 0) -> MarkPrice:
        """The same as a market event."""
        return MarkPrice(
            self.symbol,
            self.mark_price,
            self.index_price,
            self.funding_rate,
            self.next_funding_time_ms,
            self.time_ms,
            received_ns,
        )


class Ticker24h(Struct, frozen=True, kw_only=True):
    """The last 24 hours of one symbol, rolling; `price_change_percent` is in percent."""

    symbol: str
    price_change: Decimal
    price_change_percent: Decimal
    weighted_average_price: Decimal
    last_price: Decimal
    last_quantity: Decimal
    open_price: Decimal
    high_price: Decimal
    low_price: Decimal
    volume: Decimal
    quote_volume: Decimal
    open_time_ms: int
    close_time_ms: int
    first_trade_id: int
    last_trade_id: int
    trade_count: int


class TickerPrice(Struct, frozen=True):
    symbol: str
    price: Decimal
    time_ms: int


class FundingRate(Struct, frozen=True, kw_only=True):
    """One settled rate, a fraction of notional; `mark_price` is 0 where the exchange did not keep it."""

    symbol: str
    funding_time_ms: int
    funding_rate: Decimal
    mark_price: Decimal = ZERO
    rate_type: str = "Regular"


class OpenInterest(Struct, frozen=True, kw_only=True):
    """All contracts of one symbol that are open at `time_ms`, in base asset."""

    symbol: str
    open_interest: Decimal
    time_ms: int


class OpenInterestStatistic(Struct, frozen=True, kw_only=True):
    """Open interest of one period, in base and in quote asset.

    Which end of the period `label_ms` names has changed before; it was known a whole period after it at the latest.
    """

    symbol: str
    open_interest: Decimal
    open_interest_value: Decimal
    label_ms: int


class FundingInfo(Struct, frozen=True, kw_only=True):
    """Funding terms of one symbol; cap and floor are fractions per interval."""

    symbol: str
    rate_cap: Decimal
    rate_floor: Decimal
    interval_hours: int


class AccountPosition(Struct, frozen=True, kw_only=True):
    """One position (or a symbol with open orders) within the account reply; `quantity` is signed."""

    symbol: str
    quantity: Decimal
    unrealized_pnl: Decimal
    notional: Decimal = ZERO
    initial_margin: Decimal = ZERO
    maintenance_margin: Decimal = ZERO
    isolated_margin: Decimal = ZERO
    isolated_wallet: Decimal = ZERO
    update_time_ms: int = 0
    position_side: str = "BOTH"


class AccountInfo(Struct, frozen=True, kw_only=True):
    """The account in single-asset mode, in USDT. `margin_balance` is wallet plus unrealised PnL."""

    wallet_balance: Decimal
    unrealized_pnl: Decimal
    margin_balance: Decimal
    maintenance_margin: Decimal
    initial_margin: Decimal
    available_balance: Decimal
    position_initial_margin: Decimal = ZERO
    open_order_initial_margin: Decimal = ZERO
    cross_wallet_balance: Decimal = ZERO
    cross_unrealized_pnl: Decimal = ZERO
    max_withdraw_amount: Decimal = ZERO
    positions: tuple[AccountPosition, ...] = ()


class Balance(Struct, frozen=True, kw_only=True):
    """One asset of the futures wallet."""

    asset: str
    balance: Decimal
    cross_wallet_balance: Decimal
    cross_unrealized_pnl: Decimal
    available_balance: Decimal
    max_withdraw_amount: Decimal
    update_time_ms: int = 0


class PositionRisk(Struct, frozen=True, kw_only=True):
    """One position with its margins; `quantity` is signed, `liquidation_price` 0 where there is none."""

    symbol: str
    quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal
    unrealized_pnl: Decimal
    liquidation_price: Decimal
    break_even_price: Decimal = ZERO
    isolated_margin: Decimal = ZERO
    notional: Decimal = ZERO
    isolated_wallet: Decimal = ZERO
    initial_margin: Decimal = ZERO
    maintenance_margin: Decimal = ZERO
    position_initial_margin: Decimal = ZERO
    open_order_initial_margin: Decimal = ZERO
    bid_notional: Decimal = ZERO
    ask_notional: Decimal = ZERO
    adl: int = 0
    update_time_ms: int = 0
    position_side: str = "BOTH"


class LeverageSet(Struct, frozen=True):
    symbol: str
    leverage: int
    max_notional: Decimal


class SymbolConfig(Struct, frozen=True):
    """`margin_type` is CROSSED or ISOLATED."""

    symbol: str
    margin_type: str
    leverage: int
    max_notional: Decimal


class CommissionRate(Struct, frozen=True):
    """Fees as fractions of notional."""

    symbol: str
    maker: Decimal
    taker: Decimal


class Income(Struct, frozen=True, kw_only=True):
    """One cash flow; negative was paid. `symbol` and `trade_id` are empty where the kind has none."""

    symbol: str
    income_type: str
    amount: Decimal
    asset: str
    info: str = ""
    time_ms: int
    transaction_id: int
    trade_id: str = ""


class ListenKey(Struct, frozen=True):
    """The name of an account's user-data stream, valid for 60 minutes."""

    listen_key: str


# ------------------------------------------------------------------------------------------------------ plain replies


def _value(body: bytes, kind: type[Struct], name: str) -> Any:
    return getattr(decode_json(msgspec.json.Decoder(kind), body), name)


class _ServerTime(Struct):
    server_time_ms: Int64 = msgspec.field(name="serverTime")


def decode_server_time(body: bytes) -> int:
    """The exchange's clock in UTC ms."""
    return int(_value(body, _ServerTime, "server_time_ms"))


def encode_server_time(now_ms: int) -> bytes:
    return encode_json({"serverTime": now_ms})


class _Success(Struct):
    # 200, which some endpoints write as text.
    code: Annotated[int, Meta(ge=200, le=200)] | Annotated[str, Meta(pattern=r"^200\Z")]
    message: str = msgspec.field(name="msg")


def decode_success(body: bytes) -> str:
    """The text of a "done" answer (`margin_type`, `cancel_all_orders`)."""
    return str(_value(body, _Success, "message"))


def encode_success(message: str = "success") -> bytes:
    return encode_json({"code": 200, "msg": message})


class _PositionMode(Struct):
    dual: bool = msgspec.field(name="dualSidePosition")


def decode_position_mode(body: bytes) -> bool:
    """True in hedge mode."""
    return bool(_value(body, _PositionMode, "dual"))


def encode_position_mode(*, dual: bool) -> bytes:
    return encode_json({"dualSidePosition": dual})


_LISTEN_KEY = Shape(ListenKey, {"listen_key": "listenKey"})
decode_listen_key = _LISTEN_KEY.decode
encode_listen_key = _LISTEN_KEY.encode

# -------------------------------------------------------------------------------------------------------- market data


class _Filter(Struct, frozen=True):
    kind: str = msgspec.field(name="filterType")
    min_price: NumberText = msgspec.field(name="minPrice", default="0")
    max_price: NumberText = msgspec.field(name="maxPrice", default="0")
    tick_size: NumberText = msgspec.field(name="tickSize", default="0")
    min_quantity: NumberText = msgspec.field(name="minQty", default="0")
    max_quantity: NumberText = msgspec.field(name="maxQty", default="0")
    step_size: NumberText = msgspec.field(name="stepSize", default="0")
    limit: Int64 = 0
    notional: NumberText = "0"
    multiplier_up: NumberText = msgspec.field(name="multiplierUp", default="0")
    multiplier_down: NumberText = msgspec.field(name="multiplierDown", default="0")


class _Symbol(Struct, frozen=True):
    symbol: str
    contract_type: str = msgspec.field(name="contractType")
    status: str
    base_asset: str = msgspec.field(name="baseAsset")
    quote_asset: str = msgspec.field(name="quoteAsset")
    liquidation_fee: NumberText = msgspec.field(name="liquidationFee")
    market_take_bound: NumberText = msgspec.field(name="marketTakeBound")
    filters: tuple[_Filter, ...]


class _Limit(Struct, frozen=True):
    kind: str = msgspec.field(name="rateLimitType")
    interval: str
    interval_count: Int64 = msgspec.field(name="intervalNum")
    limit: Int64


class _ExchangeInfo(Struct, frozen=True):
    server_time_ms: Int64 = msgspec.field(name="serverTime")
    rate_limits: tuple[_Limit, ...] = msgspec.field(name="rateLimits")
    symbols: tuple[_Symbol, ...]


_exchange_info = msgspec.json.Decoder(_ExchangeInfo)
_NEEDED_FILTERS: Final = frozenset(
    {"PRICE_FILTER", "LOT_SIZE", "MARKET_LOT_SIZE", "MAX_NUM_ORDERS", "MIN_NOTIONAL", "PERCENT_PRICE"}
)


def decode_exchange_info(body: bytes) -> ExchangeInfo:
    """What can be traded; dated contracts and listings without all their filters yet are left out."""
    told = decode_json(_exchange_info, body)
    return ExchangeInfo(
        told.server_time_ms,
        tuple(RateLimit(limit.kind, limit.interval, limit.interval_count, limit.limit) for limit in told.rate_limits),
        {
            symbol.symbol: _rules(symbol)
            for symbol in told.symbols
            if symbol.contract_type.endswith("PERPETUAL") and {f.kind for f in symbol.filters} >= _NEEDED_FILTERS
        },
    )


def _rules(symbol: _Symbol) -> SymbolRules:
    filters = {f.kind: f for f in symbol.filters}
    price, lot, percent = filters["PRICE_FILTER"], filters["LOT_SIZE"], filters["PERCENT_PRICE"]
    return SymbolRules(
        symbol=symbol.symbol,
        base_asset=symbol.base_asset,
        quote_asset=symbol.quote_asset,
        tick_size=Decimal(price.tick_size),
        step_size=Decimal(lot.step_size),
        min_price=Decimal(price.min_price),
        max_price=Decimal(price.max_price),
        min_quantity=Decimal(lot.min_quantity),
        max_quantity=Decimal(lot.max_quantity),
        market_max_quantity=Decimal(filters["MARKET_LOT_SIZE"].max_quantity),
        min_notional=Decimal(filters["MIN_NOTIONAL"].notional),
        price_multiplier_up=Decimal(percent.multiplier_up),
        price_multiplier_down=Decimal(percent.multiplier_down),
        market_take_bound=Decimal(symbol.market_take_bound),
        liquidation_fee=Decimal(symbol.liquidation_fee),
        max_open_orders=filters["MAX_NUM_ORDERS"].limit,
        status=symbol.status,
    )


def encode_exchange_info(info: ExchangeInfo) -> bytes:
    """The whole reply, with the keys that other clients look for besides ours."""
    return encode_json(
        {
            "timezone": "UTC",
            "serverTime": info.server_time_ms,
            "futuresType": "U_MARGINED",
            "rateLimits": [
                {
                    "rateLimitType": limit.kind,
                    "interval": limit.interval,
                    "intervalNum": limit.interval_count,
                    "limit": limit.limit,
                }
                for limit in info.rate_limits
            ],
            "exchangeFilters": [],
            "assets": [{"asset": MARGIN_ASSET, "marginAvailable": True, "autoAssetExchange": "-10000"}],
            "symbols": [_symbol_object(rules) for rules in info.symbols.values()],
        }
    )


def _symbol_object(rules: SymbolRules) -> dict[str, Any]:
    lot = {"minQty": format_decimal(rules.min_quantity), "stepSize": format_decimal(rules.step_size)}
    return {
        "symbol": rules.symbol,
        "pair": rules.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
        "status": rules.status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": rules.base_asset,
        "quoteAsset": rules.quote_asset,
        "marginAsset": rules.quote_asset,
        "pricePrecision": decimals_of(rules.tick_size),
        "quantityPrecision": decimals_of(rules.step_size),
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": format_decimal(rules.liquidation_fee),
        "marketTakeBound": format_decimal(rules.market_take_bound),
        "maxMoveOrderLimit": 10000,
        # PRICE_FILTER stays first: a client in the wild reads filters[0].tickSize.
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": format_decimal(rules.min_price),
                "maxPrice": format_decimal(rules.max_price),
                "tickSize": format_decimal(rules.tick_size),
            },
            {"filterType": "LOT_SIZE", **lot, "maxQty": format_decimal(rules.max_quantity)},
            {"filterType": "MARKET_LOT_SIZE", **lot, "maxQty": format_decimal(rules.market_max_quantity)},
            {"filterType": "MAX_NUM_ORDERS", "limit": rules.max_open_orders},
            {"filterType": "MIN_NOTIONAL", "notional": format_decimal(rules.min_notional)},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": format_decimal(rules.price_multiplier_up),
                "multiplierDown": format_decimal(rules.price_multiplier_down),
                "multiplierDecimal": "4",
            },
            {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
        ],
        "orderTypes": ["LIMIT", "MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        "permissionSets": ["GRID"],
    }


_Levels = tuple[tuple[NumberText, NumberText], ...]


class _Depth(Struct, frozen=True):
    last_update_id: Int64 = msgspec.field(name="lastUpdateId")
    event_time_ms: Int64 = msgspec.field(name="E")
    transaction_time_ms: Int64 = msgspec.field(name="T")
    bids: _Levels
    asks: _Levels


_depth = msgspec.json.Decoder(_Depth)


def decode_depth(body: bytes) -> DepthSnapshot:
    told = decode_json(_depth, body)
    return DepthSnapshot(
        told.last_update_id,
        tuple([(Decimal(price), Decimal(quantity)) for price, quantity in told.bids]),
        tuple([(Decimal(price), Decimal(quantity)) for price, quantity in told.asks]),
        told.event_time_ms,
        told.transaction_time_ms,
    )


def encode_depth_snapshot(book: DepthSnapshot) -> bytes:
    return encode_json(
        {
            "lastUpdateId": book.last_update_id,
            "E": book.event_time_ms,
            "T": book.transaction_time_ms,
            "bids": [(format_decimal(price), format_decimal(quantity)) for price, quantity in book.bids],
            "asks": [(format_decimal(price), format_decimal(quantity)) for price, quantity in book.asks],
        }
    )


_KlineRow = tuple[
    Int64,
    NumberText,
    NumberText,
    NumberText,
    NumberText,
    NumberText,
    Int64,
    NumberText,
    Int64,
    NumberText,
    NumberText,
    NumberText,
]
_klines = msgspec.json.Decoder(list[_KlineRow])


def decode_klines(body: bytes, *, symbol: str, interval: str, now_ms: int) -> list[Bar]:
    """Bars, oldest first. The last is usually still running: `closed` is false where its close time is not past."""
    return [
        Bar(
            symbol,
            interval,
            open_time_ms,
            close_time_ms,
            Decimal(open_),
            Decimal(high),
            Decimal(low),
            Decimal(close),
            Decimal(volume),
            Decimal(quote_volume),
            trade_count,
            Decimal(taker_buy_volume),
            Decimal(taker_buy_quote_volume),
            close_time_ms < now_ms,
        )
        for (
            open_time_ms,
            open_,
            high,
            low,
            close,
            volume,
            close_time_ms,
            quote_volume,
            trade_count,
            taker_buy_volume,
            taker_buy_quote_volume,
            _,
        ) in decode_json(_klines, body)
    ]


def encode_klines(bars: Iterable[Bar]) -> bytes:
    return encode_json(
        [
            (
                bar.open_time_ms,
                format_decimal(bar.open),
                format_decimal(bar.high),
                format_decimal(bar.low),
                format_decimal(bar.close),
                format_decimal(bar.volume),
                bar.close_time_ms,
                format_decimal(bar.quote_volume),
                bar.trade_count,
                format_decimal(bar.taker_buy_volume),
                format_decimal(bar.taker_buy_quote_volume),
                "0",
            )
            for bar in bars
        ]
    )


_PREMIUM_INDEX = Shape(
    PremiumIndex,
    {
        "symbol": "symbol",
        "mark_price": "markPrice",
        "index_price": "indexPrice",
        "estimated_settle_price": "estimatedSettlePrice",
        "funding_rate": "lastFundingRate",
        "interest_rate": "interestRate",
        "next_funding_time_ms": "nextFundingTime",
        "time_ms": "time",
    },
)
decode_premium_index = _PREMIUM_INDEX.decode_some
encode_premium_index = _PREMIUM_INDEX.encode_some

_TICKER_24HR = Shape(
    Ticker24h,
    {
        "symbol": "symbol",
        "price_change": "priceChange",
        "price_change_percent": "priceChangePercent",
        "weighted_average_price": "weightedAvgPrice",
        "last_price": "lastPrice",
        "last_quantity": "lastQty",
        "open_price": "openPrice",
        "high_price": "highPrice",
        "low_price": "lowPrice",
        "volume": "volume",
        "quote_volume": "quoteVolume",
        "open_time_ms": "openTime",
        "close_time_ms": "closeTime",
        "first_trade_id": "firstId",
        "last_trade_id": "lastId",
        "trade_count": "count",
    },
)
decode_ticker_24hr = _TICKER_24HR.decode_some
encode_ticker_24hr = _TICKER_24HR.encode_some

_TICKER_PRICE = Shape(TickerPrice, {"symbol": "symbol", "price": "price", "time_ms": "time"})
decode_ticker_price = _TICKER_PRICE.decode_some
encode_ticker_price = _TICKER_PRICE.encode_some

_TICKER_BOOK = Shape(
    Quote,
    {
        "symbol": "symbol",
        "bid_price": "bidPrice",
        "bid_quantity": "bidQty",
        "ask_price": "askPrice",
        "ask_quantity": "askQty",
        "event_time_ms": "time",
        "update_id": "lastUpdateId",
    },
    optional={"update_id": 0},
)


def decode_ticker_book(body: bytes, received_ns: int = 0) -> tuple[Quote, ...]:
    """Best bids and asks. `update_id` is 0 where the exchange does not tell it."""
    return _TICKER_BOOK.decode_some(body, received_ns=received_ns)


encode_ticker_book = _TICKER_BOOK.encode_some

_FUNDING_RATE = Shape(
    FundingRate,
    {
        "symbol": "symbol",
        "funding_time_ms": "fundingTime",
        "funding_rate": "fundingRate",
        "mark_price": "markPrice",
        "rate_type": "rateType",
    },
)
decode_funding_rate = _FUNDING_RATE.decode_list
encode_funding_rate = _FUNDING_RATE.encode_some

_FUNDING_INFO = Shape(
    FundingInfo,
    {
        "symbol": "symbol",
        "rate_cap": "adjustedFundingRateCap",
        "rate_floor": "adjustedFundingRateFloor",
        "interval_hours": "fundingIntervalHours",
    },
    constants={"disclaimer": False, "updateTime": None},
)
decode_funding_info = _FUNDING_INFO.decode_list
encode_funding_info = _FUNDING_INFO.encode_some


_OPEN_INTEREST = Shape(OpenInterest, {"symbol": "symbol", "open_interest": "openInterest", "time_ms": "time"})
decode_open_interest = _OPEN_INTEREST.decode
encode_open_interest = _OPEN_INTEREST.encode

_OPEN_INTEREST_HISTORY = Shape(
    OpenInterestStatistic,
    {
        "symbol": "symbol",
        "open_interest": "sumOpenInterest",
        "open_interest_value": "sumOpenInterestValue",
        "label_ms": "timestamp",
    },
)
decode_open_interest_history = _OPEN_INTEREST_HISTORY.decode_list
encode_open_interest_history = _OPEN_INTEREST_HISTORY.encode_some


class _RecentTrade(Struct, frozen=True):
    trade_id: Int64 = msgspec.field(name="id")
    price: NumberText
    quantity: NumberText = msgspec.field(name="qty")
    time_ms: Int64 = msgspec.field(name="time")
    buyer_is_maker: bool = msgspec.field(name="isBuyerMaker")


class _AggregateTrade(Struct, frozen=True):
    trade_id: Int64 = msgspec.field(name="a")
    price: NumberText = msgspec.field(name="p")
    quantity: NumberText = msgspec.field(name="q")
    time_ms: Int64 = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")


_recent_trades = msgspec.json.Decoder(list[_RecentTrade])
_aggregate_trades = msgspec.json.Decoder(list[_AggregateTrade])


def _trades_of(rows: Sequence[_RecentTrade] | Sequence[_AggregateTrade], symbol: str) -> list[Trade]:
    return [
        Trade(
            symbol,
            row.trade_id,
            Decimal(row.price),
            Decimal(row.quantity),
            row.buyer_is_maker,
            row.time_ms,
            row.time_ms,
        )
        for row in rows
    ]


def decode_trades(body: bytes, *, symbol: str) -> list[Trade]:
    """Recent prints, oldest first. REST tells one time, used as trade time and event time."""
    return _trades_of(decode_json(_recent_trades, body), symbol)


def encode_trades(trades: Iterable[Trade]) -> bytes:
    return encode_json(
        [
            {
                "id": trade.trade_id,
                "price": format_decimal(trade.price),
                "qty": format_decimal(trade.quantity),
                "quoteQty": format_decimal(trade.price * trade.quantity),
                "time": trade.trade_time_ms,
                "isBuyerMaker": trade.buyer_is_maker,
                "isRPITrade": False,
            }
            for trade in trades
        ]
    )


def decode_agg_trades(body: bytes, *, symbol: str) -> list[Trade]:
    """Aggregated prints, oldest first; `trade_id` is the aggregate's."""
    return _trades_of(decode_json(_aggregate_trades, body), symbol)


def encode_agg_trades(trades: Iterable[Trade]) -> bytes:
    return encode_json(
        [
            {
                "a": trade.trade_id,
                "p": format_decimal(trade.price),
                "q": format_decimal(trade.quantity),
                "nq": format_decimal(trade.quantity),
                "f": trade.trade_id,
                "l": trade.trade_id,
                "T": trade.trade_time_ms,
                "m": trade.buyer_is_maker,
            }
            for trade in trades
        ]
    )


# ------------------------------------------------------------------------------------------------ orders and account

_ORDER = Shape(
    Order,
    {
        "order_id": "orderId",
        "symbol": "symbol",
        "status": "status",
        "client_order_id": "clientOrderId",
        "price": "price",
        "average_price": "avgPrice",
        "original_quantity": "origQty",
        "executed_quantity": "executedQty",
        "time_in_force": "timeInForce",
        "order_type": "type",
        "reduce_only": "reduceOnly",
        "side": "side",
        "update_time_ms": "updateTime",
    },
    constants={
        "closePosition": False,
        "positionSide": "BOTH",
        "stopPrice": "0.00",
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
    },
)

decode_order = _ORDER.decode
"""An order from an acknowledgement or a query. An acknowledgement carries no average price: it reads as 0 there."""
decode_orders = _ORDER.decode_list


def encode_order_ack(order: Order) -> bytes:
    """The answer to placing or cancelling: without average price and quote sum (as since mid-2026)."""
    told = _ORDER.to_object(order, origType=order.order_type, cumQty=format_decimal(order.executed_quantity))
    del told["avgPrice"]
    return encode_json(told)


def _queried(order: Order, created_ms: int) -> dict[str, object]:
    return _ORDER.to_object(
        order,
        origType=order.order_type,
        cumQuote=format_decimal(order.average_price * order.executed_quantity),
        time=created_ms,
    )


def encode_order(order: Order, *, created_ms: int) -> bytes:
    """The answer to a query."""
    return encode_json(_queried(order, created_ms))


def encode_orders(orders: Iterable[tuple[Order, int]]) -> bytes:
    """Open or all orders: each with the time it was placed."""
    return encode_json([_queried(order, created_ms) for order, created_ms in orders])


_USER_TRADE = Shape(
    Fill,
    {
        "symbol": "symbol",
        "trade_id": "id",
        "order_id": "orderId",
        "side": "side",
        "price": "price",
        "quantity": "qty",
        "commission": "commission",
        "realized_pnl": "realizedPnl",
        "maker": "maker",
        "trade_time_ms": "time",
    },
    constants={"commissionAsset": MARGIN_ASSET, "marginAsset": MARGIN_ASSET, "positionSide": "BOTH", "baseQty": "0"},
)


def decode_user_trades(body: bytes) -> tuple[Fill, ...]:
    """Own fills, oldest first. The exchange does not repeat the client order id here: it is empty."""
    return _USER_TRADE.decode_list(body, client_order_id="")


def encode_user_trades(fills: Iterable[Fill]) -> bytes:
    return encode_json(
        [
            _USER_TRADE.to_object(
                fill,
                quoteQty=format_decimal(fill.price * fill.quantity),
                buyer=fill.side.sign > 0,
                pair=fill.symbol,
            )
            for fill in fills
        ]
    )


_ACCOUNT_POSITION = Shape(
    AccountPosition,
    {
        "symbol": "symbol",
        "position_side": "positionSide",
        "quantity": "positionAmt",
        "unrealized_pnl": "unrealizedProfit",
        "isolated_margin": "isolatedMargin",
        "notional": "notional",
        "isolated_wallet": "isolatedWallet",
        "initial_margin": "initialMargin",
        "maintenance_margin": "maintMargin",
        "update_time_ms": "updateTime",
    },
)
_ACCOUNT = Shape(
    AccountInfo,
    {
        "initial_margin": "totalInitialMargin",
        "maintenance_margin": "totalMaintMargin",
        "wallet_balance": "totalWalletBalance",
        "unrealized_pnl": "totalUnrealizedProfit",
        "margin_balance": "totalMarginBalance",
        "position_initial_margin": "totalPositionInitialMargin",
        "open_order_initial_margin": "totalOpenOrderInitialMargin",
        "cross_wallet_balance": "totalCrossWalletBalance",
        "cross_unrealized_pnl": "totalCrossUnPnl",
        "available_balance": "availableBalance",
        "max_withdraw_amount": "maxWithdrawAmount",
    },
)


class _Positions(Struct):
    positions: list[_ACCOUNT_POSITION.wire_type]  # type: ignore[name-defined]


_positions = msgspec.json.Decoder(_Positions)


def decode_account(body: bytes) -> AccountInfo:
    positions = decode_json(_positions, body).positions
    return _ACCOUNT.decode(body, positions=tuple(_ACCOUNT_POSITION.read(position) for position in positions))


def encode_account(account: AccountInfo, *, update_time_ms: int = 0) -> bytes:
    """The v3 reply: totals, the one asset, positions."""
    total = _ACCOUNT.to_object(account)
    asset = {
        "asset": MARGIN_ASSET,
        "walletBalance": total["totalWalletBalance"],
        "unrealizedProfit": total["totalUnrealizedProfit"],
        "marginBalance": total["totalMarginBalance"],
        "maintMargin": total["totalMaintMargin"],
        "initialMargin": total["totalInitialMargin"],
        "positionInitialMargin": total["totalPositionInitialMargin"],
        "openOrderInitialMargin": total["totalOpenOrderInitialMargin"],
        "crossWalletBalance": total["totalCrossWalletBalance"],
        "crossUnPnl": total["totalCrossUnPnl"],
        "availableBalance": total["availableBalance"],
        "maxWithdrawAmount": total["maxWithdrawAmount"],
        "updateTime": update_time_ms,
    }
    return encode_json(
        {
            **total,
            "assets": [asset],
            "positions": [_ACCOUNT_POSITION.to_object(position) for position in account.positions],
        }
    )


_BALANCE = Shape(
    Balance,
    {
        "asset": "asset",
        "balance": "balance",
        "cross_wallet_balance": "crossWalletBalance",
        "cross_unrealized_pnl": "crossUnPnl",
        "available_balance": "availableBalance",
        "max_withdraw_amount": "maxWithdrawAmount",
        "update_time_ms": "updateTime",
    },
    constants={"accountAlias": "labkit", "marginAvailable": True},
)
decode_balance = _BALANCE.decode_list


def encode_balance(balances: Sequence[Balance]) -> bytes:
    return _BALANCE.encode_some(balances)


_POSITION_RISK = Shape(
    PositionRisk,
    {
        "symbol": "symbol",
        "position_side": "positionSide",
        "quantity": "positionAmt",
        "entry_price": "entryPrice",
        "break_even_price": "breakEvenPrice",
        "mark_price": "markPrice",
        "unrealized_pnl": "unRealizedProfit",
        "liquidation_price": "liquidationPrice",
        "isolated_margin": "isolatedMargin",
        "notional": "notional",
        "isolated_wallet": "isolatedWallet",
        "initial_margin": "initialMargin",
        "maintenance_margin": "maintMargin",
        "position_initial_margin": "positionInitialMargin",
        "open_order_initial_margin": "openOrderInitialMargin",
        "adl": "adl",
        "bid_notional": "bidNotional",
        "ask_notional": "askNotional",
        "update_time_ms": "updateTime",
    },
    constants={"marginAsset": MARGIN_ASSET},
)
decode_position_risk = _POSITION_RISK.decode_list
"""Positions from the v3 reply, or from v2 where margins that v2 does not tell read as 0."""
_V2_KEYS: Final = (
    "symbol",
    "positionAmt",
    "entryPrice",
    "breakEvenPrice",
    "markPrice",
    "unRealizedProfit",
    "liquidationPrice",
    "isolatedMargin",
    "positionSide",
    "notional",
    "isolatedWallet",
    "updateTime",
)


def encode_position_risk(positions: Sequence[PositionRisk]) -> bytes:
    """The v3 reply."""
    return _POSITION_RISK.encode_some(positions)


def encode_position_risk_v2(positions: Iterable[tuple[PositionRisk, SymbolConfig]]) -> bytes:
    """The v2 reply: fewer margins, but leverage (as text) and margin type of every symbol."""
    rows: list[dict[str, object]] = []
    for position, config in positions:
        told = _POSITION_RISK.to_object(position)
        rows.append(
            {key: told[key] for key in _V2_KEYS}
            | {
                "leverage": str(config.leverage),
                "maxNotionalValue": format_decimal(config.max_notional),
                "marginType": "cross" if config.margin_type == "CROSSED" else "isolated",
                "isAutoAddMargin": "false",
            }
        )
    return encode_json(rows)


_LEVERAGE = Shape(LeverageSet, {"leverage": "leverage", "max_notional": "maxNotionalValue", "symbol": "symbol"})
decode_leverage = _LEVERAGE.decode
encode_leverage = _LEVERAGE.encode

_SYMBOL_CONFIG = Shape(
    SymbolConfig,
    {"symbol": "symbol", "margin_type": "marginType", "leverage": "leverage", "max_notional": "maxNotionalValue"},
    constants={"isAutoAddMargin": False},
)
decode_symbol_config = _SYMBOL_CONFIG.decode_list


def encode_symbol_config(configs: Sequence[SymbolConfig]) -> bytes:
    return _SYMBOL_CONFIG.encode_some(configs)


_COMMISSION_RATE = Shape(
    CommissionRate,
    {"symbol": "symbol", "maker": "makerCommissionRate", "taker": "takerCommissionRate"},
    constants={"rpiCommissionRate": "0.000050"},
)
decode_commission_rate = _COMMISSION_RATE.decode
encode_commission_rate = _COMMISSION_RATE.encode

_INCOME = Shape(
    Income,
    {
        "symbol": "symbol",
        "income_type": "incomeType",
        "amount": "income",
        "asset": "asset",
        "info": "info",
        "time_ms": "time",
        "transaction_id": "tranId",
        "trade_id": "tradeId",
    },
)
decode_income = _INCOME.decode_list


def encode_income(rows: Sequence[Income]) -> bytes:
    return _INCOME.encode_some(rows)


# The one reply that writes numbers as JSON numbers.
class _Bracket(Struct, frozen=True):
    bracket: Int64
    initial_leverage: Int64 = msgspec.field(name="initialLeverage")
    notional_floor: Decimal = msgspec.field(name="notionalFloor")
    notional_cap: Decimal = msgspec.field(name="notionalCap")
    maintenance_margin_ratio: Decimal = msgspec.field(name="maintMarginRatio")
    maintenance_amount: Decimal = msgspec.field(name="cum")


class _Brackets(Struct, frozen=True):
    symbol: str
    brackets: tuple[_Bracket, ...]


_brackets = msgspec.json.Decoder(_Brackets | list[_Brackets])


def decode_leverage_bracket(body: bytes) -> dict[str, tuple[LeverageBracket, ...]]:
    """The bracket tables by symbol, lowest notional first."""
    told: _Brackets | list[_Brackets] = decode_json(_brackets, body)
    return {
        table.symbol: tuple(sorted((_bracket(row) for row in table.brackets), key=lambda row: row.notional_floor))
        for table in ([told] if isinstance(told, _Brackets) else told)
    }


def _bracket(row: _Bracket) -> LeverageBracket:
    numbers = (row.notional_floor, row.notional_cap, row.maintenance_margin_ratio, row.maintenance_amount)
    if not all(number.is_finite() and (not number or abs(number.adjusted()) < 20) for number in numbers):
        raise RemoteProtocolError(f"leverage bracket {row.bracket} holds an absurd number")
    return LeverageBracket(row.bracket, row.initial_leverage, *numbers)


def encode_leverage_bracket(tables: Mapping[str, Sequence[LeverageBracket]]) -> bytes:
    return encode_json(
        [
            {
                "symbol": symbol,
                "brackets": [
                    {
                        "bracket": row.bracket,
                        "initialLeverage": row.initial_leverage,
                        "notionalCap": _json_number(row.notional_cap),
                        "notionalFloor": _json_number(row.notional_floor),
                        "maintMarginRatio": _json_number(row.maintenance_margin_ratio),
                        "cum": _json_number(row.maintenance_amount),
                    }
                    for row in rows
                ],
            }
            for symbol, rows in tables.items()
        ]
    )


def _json_number(value: Decimal) -> msgspec.Raw:
    # The last bracket has no real cap: the exchange writes 2**63 there, more than the grammar of digit texts allows.
    return msgspec.Raw(format(value, "f").encode())
