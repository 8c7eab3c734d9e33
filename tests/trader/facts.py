"""Small builders of market facts for the trader's tests."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from labkit.domain.clock import MINUTE_MS
from labkit.domain.market_events import Bar, MarkPrice, Quote
from labkit.domain.symbol_rules import SymbolRules


def bar_of(symbol: str, minute: int, row: NDArray[np.float64]) -> Bar:
    open_, high, low, close, volume, taker_buy_volume = (Decimal(repr(float(value))) for value in row)
    return Bar(
        symbol=symbol,
        interval="1m",
        open_time_ms=minute * MINUTE_MS,
        close_time_ms=(minute + 1) * MINUTE_MS - 1,
        open=open_,
        high=high,
        low=low,
        close=close,
        volume=volume,
        quote_volume=volume * close,
        trade_count=1,
        taker_buy_volume=taker_buy_volume,
        taker_buy_quote_volume=taker_buy_volume * close,
    )


def quote_of(
    symbol: str, mid: float | str | Decimal, spread: float | str | Decimal = "0.01", time_ms: int = 0
) -> Quote:
    middle, half = Decimal(str(mid)), Decimal(str(spread)) / 2
    return Quote(symbol, middle - half, Decimal(5), middle + half, Decimal(5), 1, time_ms)


def mark_of(symbol: str, price: float, funding_rate: str, next_funding_time_ms: int) -> MarkPrice:
    mark = Decimal(str(price))
    return MarkPrice(symbol, mark, mark, Decimal(funding_rate), next_funding_time_ms, 0)


def rules_of(
    symbol: str = "BTCUSDT", *, tick: str = "0.10", step: str = "0.001", min_notional: str = "100"
) -> SymbolRules:
    return SymbolRules(
        symbol=symbol,
        base_asset=symbol.removesuffix("USDT"),
        quote_asset="USDT",
        tick_size=Decimal(tick),
        step_size=Decimal(step),
        min_price=Decimal(tick),
        max_price=Decimal(1_000_000),
        min_quantity=Decimal(step),
        max_quantity=Decimal(1000),
        market_max_quantity=Decimal(120),
        min_notional=Decimal(min_notional),
    )
