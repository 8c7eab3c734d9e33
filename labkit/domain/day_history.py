"""DayHistory: one UTC day of a lab, folded from its ledger. What a report is made of."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from labkit.domain.decisions import Action, Decision
from labkit.domain.orders import Fill
from labkit.domain.snapshot import AccountRow, ClosedTrade, EventRow, LearningRow, PositionRow


class EquityPoint(msgspec.Struct, frozen=True):
    """The account at one moment, in quote asset; equity is at mark price."""

    time_ms: int
    wallet_balance: Decimal
    equity: Decimal


class FundingPayment(msgspec.Struct, frozen=True):
    """One settlement; negative amounts were paid."""

    time_ms: int
    symbol: str
    amount: Decimal


class PricePoint(msgspec.Struct, frozen=True):
    """The last price of one minute, at its end."""

    time_ms: int
    price: Decimal


class LearningPoint(msgspec.Struct, frozen=True):
    time_ms: int
    learning: LearningRow


class Outage(msgspec.Struct, frozen=True):
    """Something was out of order for a while: a symbol's quotes, a connection, the circuit breaker, a request."""

    what: str
    cause: str
    start_ms: int
    end_ms: int
    """As `start_ms` for what happens at once and never tells that it is well again."""


class Connection(msgspec.Struct, frozen=True):
    """What one connection carried on the day."""

    name: str
    frames: int
    reconnects: int
    rejected: int
    """Frames that could not be understood."""


class FeedQuality(msgspec.Struct, frozen=True, kw_only=True):
    """How good the data of one day were."""

    outages: tuple[Outage, ...] = ()
    """By their beginning; only the part that lies in the day."""
    connections: tuple[Connection, ...] = ()
    minutes: int = 0
    """Minutes that were closed, `missed_minutes` among them."""
    missed_minutes: int = 0
    """Lived through too late to decide anything."""
    minutes_off: int = 0
    """Minutes between the first and the last in which the lab did not run and that it did not catch up on."""
    without_bar: dict[str, int] = {}
    """By symbol: minutes without a usable bar."""
    without_quote: dict[str, int] = {}
    """By symbol: minutes that had no usable quote when it was decided, not even one asked for."""
    weight_used: int = 0
    """The most request weight a minute took."""
    weight_limit: int = 0
    """What labkit allows itself; 0 if it was not noted."""
    latency_ms_p99: float = 0.0
    """The worst that was noted, from the exchange's time of a quote to its arrival; market milliseconds."""


class VirtualResult(msgspec.Struct, frozen=True, kw_only=True):
    """A position that was only imagined, on the side the trader held for the better one, from decision to end.

    Fractions are of the entry price. It was entered at the open after its decision and left at its target, its stop or
    its time-out; what was really traded has one too.
    """

    symbol: str
    side: str
    """`long` or `short`."""
    asked_ms: int
    closed_ms: int
    action: Action
    """What was decided, and `reason`: its primary reason."""
    reason: str
    chance: float
    """Said of its target being reached first."""
    came_to: float
    """1 target first, 0 stop first, in between by the result at time-out."""
    barrier: float
    """Distance of target and stop."""
    cost: float
    """Of the round trip, as reckoned when it was decided on."""
    weight: float
    """Its uniqueness: those that overlap share one observation."""

    @property
    def gross(self) -> float:
        """What it earned before costs."""
        return (2.0 * self.came_to - 1.0) * self.barrier

    @property
    def net(self) -> float:
        return self.gross - self.cost


class SymbolMove(msgspec.Struct, frozen=True):
    """The first price a symbol was seen at on a day (open of its first bar) and the last (close of its last)."""

    first: Decimal
    last: Decimal


class DaySummary(msgspec.Struct, frozen=True, kw_only=True):
    """One UTC day of a ledger in a few figures, money in quote asset. What was paid is negative, fees included."""

    day: str
    opening_equity: Decimal
    closing_equity: Decimal
    """At mark price, as opening equity; of the last moment the ledger knows of the day."""
    deposits: Decimal
    fees: Decimal
    funding: Decimal
    trades: int
    """Round trips closed."""
    decisions: int
    taken: int
    """Decisions that opened a trade."""
    refused: dict[str, int]
    """Refusals by primary reason, the most frequent first."""
    learning: LearningRow | None
    """How the learner stood when it was last noted on the day."""
    moves: dict[str, SymbolMove]
    settings: dict[str, Any]
    """`risk` and `trader` as they stood at the end of the day, by `section.name`."""
    config_fingerprint: str
    version: str
    """Of labkit; empty if it was not recorded yet."""

    @property
    def result(self) -> Decimal:
        """What the day earned or lost; deposits are not a result."""
        return self.closing_equity - self.opening_equity - self.deposits

    @property
    def day_return(self) -> float:
        """Result over the capital at work: opening equity plus the day's deposits."""
        capital = self.opening_equity + self.deposits
        return float(self.result / capital) if capital else 0.0


class DayHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one UTC day, in time order. The day may still be running: `end_ms` is the last moment known."""

    day: str
    """`YYYY-MM-DD`, UTC."""
    start_ms: int
    end_ms: int
    market: str
    disclosure: str
    symbols: tuple[str, ...]
    config_fingerprint: str
    account_at_start: AccountRow
    account_at_end: AccountRow
    equity: tuple[EquityPoint, ...]
    fills: tuple[Fill, ...]
    slippage: tuple[Decimal, ...]
    """For each fill what it booked of slippage, in quote asset: its own and its share of the entry's. Negative if worse
    than the quotes the orders were decided on; zero for a fill that only opens, which books nothing."""
    funding: tuple[FundingPayment, ...]
    trades: tuple[ClosedTrade, ...]
    """Round trips closed on this day."""
    entry_decisions: dict[str, Decision]
    """What opened them, perhaps the day before, by the id of the entry order; a trade a person opened has none."""
    open_positions: tuple[PositionRow, ...]
    prices: dict[str, tuple[PricePoint, ...]]
    """Minute by minute, of every symbol that was traded on this day; they begin some hours before it."""
    decisions: tuple[Decision, ...]
    learning: tuple[LearningPoint, ...]
    virtual: tuple[VirtualResult, ...] = ()
    """What was imagined and is known of by now, in the order it ended; those of the last minutes are told later."""
    feed: FeedQuality = FeedQuality()
    days: tuple[DaySummary, ...] = ()
    """Every day the ledger knows of up to this one, which is the last."""
    virtual_closed: int
    events: tuple[EventRow, ...]
    """Breaker, feed, refusals, user actions: what a person should know of."""
    first_sequence: int
    last_sequence: int
    ledger_hash: str
