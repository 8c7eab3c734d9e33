"""Facts about the market, as immutable events.

Prices are in quote asset, quantities in base asset, both `Decimal` from the exchange's strings. Each event carries
the exchange's time (`event_time_ms`) and ours (`received_ns`, market time). `wire` makes them; everybody reads them.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec


class Quote(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask of one symbol. A long is valued and exited at the bid, a short at the ask."""

    symbol: str
    bid_price: Decimal
    bid_quantity: Decimal
    ask_price: Decimal
    ask_quantity: Decimal
    update_id: int
    event_time_ms: int
    received_ns: int = 0

    @property
    def mid_price(self) -> Decimal:
        return (self.bid_price + self.ask_price) / 2

    @property
    def spread(self) -> Decimal:
        return self.ask_price - self.bid_price


class MarkPrice(msgspec.Struct, frozen=True, gc=False):
    """Mark price, index price and the funding rate being accrued (a fraction per interval)."""

    symbol: str
    mark_price: Decimal
    index_price: Decimal
    funding_rate: Decimal
    next_funding_time_ms: int
    event_time_ms: int
    received_ns: int = 0


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One print (or one aggregate of prints by one taker)."""

    symbol: str
    trade_id: int
    price: Decimal
    quantity: Decimal
    buyer_is_maker: bool
    trade_time_ms: int
    event_time_ms: int
    received_ns: int = 0


class Bar(msgspec.Struct, frozen=True, gc=False):
    """One candle. `closed` is False while its interval is still running."""

    symbol: str
    interval: str
    open_time_ms: int
    close_time_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    trade_count: int
    taker_buy_volume: Decimal
    taker_buy_quote_volume: Decimal
    closed: bool = True


class DepthDiff(msgspec.Struct, frozen=True, gc=False):
    """A change of an order book: absolute quantities per level; zero removes the level."""

    symbol: str
    first_update_id: int
    final_update_id: int
    previous_final_update_id: int
    bids: tuple[tuple[Decimal, Decimal], ...]
    asks: tuple[tuple[Decimal, Decimal], ...]
    event_time_ms: int
    received_ns: int = 0


class PartialDepth(msgspec.Struct, frozen=True, gc=False):
    """The best levels of an order book, best first: whole in itself, not a change of what came before."""

    symbol: str
    update_id: int
    bids: tuple[tuple[Decimal, Decimal], ...]
    asks: tuple[tuple[Decimal, Decimal], ...]
    event_time_ms: int
    received_ns: int = 0


INTERVAL_MS = {
    "1m": 60_000,
    "3m": 180_000,
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": 3_600_000,
    "2h": 7_200_000,
    "4h": 14_400_000,
    "6h": 21_600_000,
    "8h": 28_800_000,
    "12h": 43_200_000,
    "1d": 86_400_000,
}
"""Length of each candle interval that has a fixed one, in milliseconds."""
