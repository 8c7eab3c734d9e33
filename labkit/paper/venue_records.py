"""Everything that can change the venue's account, as immutable records; its journal is a list of them.

The venue decides, writes a record, applies it, and tells its sessions, in one step. Restoring is applying the same
records again, so the account after a crash is the account before it. Times are market milliseconds, money is in
quote asset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from enum import IntEnum
from typing import Protocol

import msgspec

from labkit.domain.orders import Fill, Order, OrderStatus
from labkit.errors import LedgerDamaged


class ExpiryReason(IntEnum):
    """Why an order expired, as the user stream numbers it (`er`)."""

    NONE = 0
    SELF_TRADE = 1
    IMMEDIATE_OR_CANCEL = 2
    REDUCE_ONLY_DISPLACED = 4
    LIQUIDATION = 5
    MARKET_REMAINDER = 9


class Deposited(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Money from outside: the opening balance."""

    time_ms: int
    amount: Decimal


class OrderAccepted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    time_ms: int
    order: Order


class OrderFilled(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    time_ms: int
    fill: Fill


class OrderEnded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The order left the book unfilled, or with a remainder."""

    time_ms: int
    order_id: int
    status: OrderStatus
    reason: ExpiryReason = ExpiryReason.NONE


class FundingSettled(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One funding payment; `amount` is negative when paid."""

    time_ms: int
    symbol: str
    funding_time_ms: int
    funding_rate: Decimal
    mark_price: Decimal
    amount: Decimal


class PositionLiquidated(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The end of a liquidation: the fee charged and what the insurance fund paid."""

    time_ms: int
    symbol: str
    order_id: int
    fee: Decimal
    insurance: Decimal


class LeverageSet(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    time_ms: int
    symbol: str
    leverage: int


class MarginTypeSet(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    time_ms: int
    symbol: str
    isolated: bool


class MarketReached(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The market was lived through up to here; a restart goes on from the latest record's time.

    `marks` are the mark prices of the open positions, so that they are valued at once after a restart.
    """

    time_ms: int
    marks: dict[str, Decimal] = {}


VenueRecord = (
    Deposited
    | OrderAccepted
    | OrderFilled
    | OrderEnded
    | FundingSettled
    | PositionLiquidated
    | LeverageSet
    | MarginTypeSet
    | MarketReached
)


class JournalEntry(msgspec.Struct, frozen=True):
    """A record as it is stored; `key` is its natural identity, so that storing it twice stores it once."""

    time_ms: int
    kind: str
    key: str
    body: bytes


class VenueJournal(Protocol):
    """Where records survive. One call is one durable step: all of its entries or none."""

    def append(self, entries: Sequence[JournalEntry]) -> None:
        """Return once the entries are durable."""
        ...

    def replay(self) -> Iterator[JournalEntry]:
        """All entries, oldest first."""
        ...


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[VenueRecord] = msgspec.json.Decoder(VenueRecord)


def to_entry(record: VenueRecord, number: int) -> JournalEntry:
    """`number` counts the account's records; it names those that have no natural key of their own."""
    return JournalEntry(record.time_ms, type(record).__name__, _key(record, number), _encoder.encode(record))


def from_entry(entry: JournalEntry) -> VenueRecord:
    """Raises `LedgerDamaged` if the entry is not one of ours."""
    try:
        return _decoder.decode(entry.body)
    except msgspec.DecodeError as error:
        raise LedgerDamaged(f"the exchange's journal has an entry {entry.kind} {entry.key} it cannot read") from error


def _key(record: VenueRecord, number: int) -> str:
    match record:
        case OrderAccepted():
            return f"accepted/{record.order.order_id}"
        case OrderFilled():
            return f"fill/{record.fill.symbol}/{record.fill.trade_id}"
        case OrderEnded():
            return f"ended/{record.order_id}"
        case FundingSettled():
            return f"funding/{record.symbol}/{record.funding_time_ms}"
        case PositionLiquidated():
            return f"liquidated/{record.order_id}"
        case _:
            return f"record/{number}"
