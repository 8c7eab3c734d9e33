"""REST replies about the market: what can be traded, books, candles, tickers, funding, open interest, trades.

Money and prices are Decimal in quote asset, quantities in base asset, times UTC ms. `decode_*` raises
`RemoteProtocolError` for a body that is not the reply it should be; `encode_*` is the paper exchange's side. Where
the exchange answers one object or an array, `decode_*` gives a tuple either way and `encode_*` follows its argument:
one struct makes an object, several make an array.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct

from labkit.domain.market_events import Bar, MarkPrice, Quote, Trade
from labkit.domain.symbol_rules import MARGIN_ASSET, SymbolRules, decimals_of
from labkit.wire.numbers import Int64, NumberText, format_decimal
from labkit.wire.shapes import Shape, decode_json, encode_json

ZERO = Decimal(0)


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


class _ServerTime(Struct):
    server_time_ms: Int64 = msgspec.field(name="serverTime")


_server_time = msgspec.json.Decoder(_ServerTime)


def decode_server_time(body: bytes) -> int:
    """The exchange's clock in UTC ms."""
    return int(decode_json(_server_time, body).server_time_ms)


def encode_server_time(now_ms: int) -> bytes:
    return encode_json({"serverTime": now_ms})


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
