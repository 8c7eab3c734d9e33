"""REST replies about the account: orders, fills, balances, positions, leverage, fees, cash flows, listen keys.

Money and prices are Decimal in quote asset, quantities in base asset, times UTC ms. `decode_*` raises
`RemoteProtocolError` for a body that is not the reply it should be; `encode_*` is the paper exchange's side. Where
the exchange answers one object or an array, `decode_*` gives a tuple either way and `encode_*` follows its argument:
one struct makes an object, several make an array.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.orders import Fill, Order
from labkit.domain.symbol_rules import MARGIN_ASSET
from labkit.errors import RemoteProtocolError
from labkit.wire.numbers import Int64, format_decimal
from labkit.wire.shapes import Shape, decode_json, encode_json

ZERO = Decimal(0)


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


class _Success(Struct):
    # 200, which some endpoints write as text.
    code: Annotated[int, Meta(ge=200, le=200)] | Annotated[str, Meta(pattern=r"^200\Z")]
    message: str = msgspec.field(name="msg")


_success = msgspec.json.Decoder(_Success)


def decode_success(body: bytes) -> str:
    """The text of a "done" answer (`margin_type`, `cancel_all_orders`)."""
    return str(decode_json(_success, body).message)


def encode_success(message: str = "success") -> bytes:
    return encode_json({"code": 200, "msg": message})


class _PositionMode(Struct):
    dual: bool = msgspec.field(name="dualSidePosition")


_position_mode = msgspec.json.Decoder(_PositionMode)


def decode_position_mode(body: bytes) -> bool:
    """True in hedge mode."""
    return bool(decode_json(_position_mode, body).dual)


def encode_position_mode(*, dual: bool) -> bytes:
    return encode_json({"dualSidePosition": dual})


_LISTEN_KEY = Shape(ListenKey, {"listen_key": "listenKey"})
decode_listen_key = _LISTEN_KEY.decode
encode_listen_key = _LISTEN_KEY.encode

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
