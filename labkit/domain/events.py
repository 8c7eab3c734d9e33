"""Everything that can happen to the engine, as immutable events (the only way its state may change).

Each event has `time_ms`, the market time at which the engine met it. `labkit.engine.engine.Engine.apply` is a plain
function of these; the ledger stores them and every past state is a fold over them.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

from labkit.domain.decisions import Label
from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.market_events import Bar, MarkPrice, Quote
from labkit.domain.orders import Fill, Order
from labkit.domain.snapshot import LearningRow
from labkit.domain.symbol_rules import SymbolRules


class Loop(StrEnum):
    """The deadlines the scheduler keeps."""

    REAL = "real_loop"
    """Every 60 s, just after the minute closes: context, decision, orders."""
    VIRTUAL = "virtual_loop"
    """Every 10 s: virtual positions are re-marked."""
    MONITOR = "position_monitor"
    """Every second: exits of open positions."""
    REPORT = "daily_report"
    """Once a day at the set UTC time."""


class EngineEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all events; `time_ms` is the market time in UTC milliseconds."""

    time_ms: int


class EngineStarted(EngineEvent, frozen=True, kw_only=True):
    """A new epoch begins: one owner, one number, written before anything else (invariant I26)."""

    epoch: int
    market: str
    disclosure: str
    symbols: tuple[str, ...]
    config_hash: str
    settings: dict[str, Any] = {}
    """The sections `risk` and `trader` this epoch decides by; the past is always replayed with the settings it had."""
    version: str = ""
    """Of labkit; empty in ledgers of versions that did not note it."""


class EngineStopped(EngineEvent, frozen=True, kw_only=True):
    reason: str


class AccountObserved(EngineEvent, frozen=True, kw_only=True):
    """A reconciling look at the exchange's account (wallet and signed positions)."""

    wallet_balance: Decimal
    positions: dict[str, Decimal]
    open_client_order_ids: tuple[str, ...] = ()


class Deposited(EngineEvent, frozen=True, kw_only=True):
    """Money that came from outside: the opening balance or a transfer. `key` makes it happen once."""

    amount: Decimal
    key: str


class RulesObserved(EngineEvent, frozen=True, kw_only=True):
    """What the exchange allows: symbol rules and leverage brackets, as listed when the engine looked."""

    rules: dict[str, SymbolRules]
    brackets: dict[str, tuple[LeverageBracket, ...]]


class TraderCheckpointed(EngineEvent, frozen=True, kw_only=True):
    """The trader's state up to the bar of `last_open_time_ms` lies in the checkpoint of that hash.

    Written after the trader has lived through history (`lived_minutes` of it, no decisions), and now and then so that
    a restart need not start from the beginning.
    """

    state_hash: str
    last_open_time_ms: int
    lived_minutes: int = 0


class LearningObserved(EngineEvent, frozen=True, kw_only=True):
    """How the learner stands, noted now and then so that its course can be read back."""

    learning: LearningRow
    virtual_closed: int
    labels: tuple[Label, ...] = ()
    """What decisions of this ledger have come to since the last note; what fell due while the lab stood still is not
    told. Empty in ledgers of versions that did not note it."""


class DriftMoved(EngineEvent, frozen=True, kw_only=True):
    """What is predicted comes true less than it did, or does again: the step this has led to.

    `steady`: full stakes; `shrink`: half; `hold` and `bench`: no entries. The trader acts on it by itself, since it is
    a function of its labels; this tells of it.
    """

    step: str
    nats: float
    """Log-loss lost against a coin since the best moment."""


class ShadowOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order of champion or challenger on paper, filled at `price` (quote asset); `quantity` is signed."""

    book: str
    symbol: str
    quantity: Decimal
    price: Decimal
    plan: dict[str, Any] = {}
    """The exits of a position it opens (`labkit.trader.exits.ExitPlan`); empty if it closes one."""


class ChallengeStarted(EngineEvent, frozen=True, kw_only=True):
    """Changed settings of the trader are to be tried beside the running ones, by a rule stated now."""

    changes: dict[str, Any]
    rule: dict[str, Any]


class ShadowTraded(EngineEvent, frozen=True, kw_only=True):
    """What champion and challenger did on paper."""

    orders: tuple[ShadowOrder, ...]


class ChallengeJudged(EngineEvent, frozen=True, kw_only=True):
    """The rule's verdict at a look: the challenger takes the champion's place, or goes on challenging."""

    promoted: bool
    looked_days: int
    probability: float
    words: str


class ChallengeEnded(EngineEvent, frozen=True, kw_only=True):
    """The challenge is over without a promotion."""

    reason: str


class PromotionRolledBack(EngineEvent, frozen=True, kw_only=True):
    """The settings from before the promotions are in force again."""

    reason: str


class MinuteClosed(EngineEvent, frozen=True, kw_only=True):
    """The real loop's context: the bars of one closed minute and the quotes and marks at hand.

    A symbol missing from `bars` had no usable bar; one missing from `quotes` had no fresh quote. `stale` names why.
    """

    open_time_ms: int
    bars: dict[str, Bar]
    quotes: dict[str, Quote]
    marks: dict[str, MarkPrice]
    stale: dict[str, str] = {}
    entries_allowed: bool = True
    entries_refused_because: str = ""


class MonitorTicked(EngineEvent, frozen=True, kw_only=True):
    """The position monitor's look at the symbols with an open position. `quotes` holds fresh quotes only."""

    quotes: dict[str, Quote]


class VirtualTicked(EngineEvent, frozen=True, kw_only=True):
    """The virtual loop's look at the quotes: re-marks virtual positions."""

    quotes: dict[str, Quote]


class OrderChanged(EngineEvent, frozen=True, kw_only=True):
    """The exchange told the state of an order, and possibly one fill (stream or query; applying twice = once)."""

    order: Order
    fill: Fill | None = None


class OrderRefused(EngineEvent, frozen=True, kw_only=True):
    """A definite no to an intent."""

    client_order_id: str
    code: int
    message: str


class OrderInDoubt(EngineEvent, frozen=True, kw_only=True):
    """An intent was sent and its outcome is unknown; it is being settled by asking."""

    client_order_id: str
    cause: str


class OrderNeverPlaced(EngineEvent, frozen=True, kw_only=True):
    """The fence rule proved that an intent never reached the book."""

    client_order_id: str
    evidence: str


class FundingPaid(EngineEvent, frozen=True, kw_only=True):
    """A funding settlement hit the wallet: negative amounts are paid. Key: (symbol, funding_time_ms)."""

    symbol: str
    funding_time_ms: int
    amount: Decimal


class WalletAdjusted(EngineEvent, frozen=True, kw_only=True):
    """Another change of the wallet the exchange told us of (liquidation fee, insurance, transfer). `key` is unique."""

    amount: Decimal
    cause: str
    key: str


class CloseRequested(EngineEvent, frozen=True, kw_only=True):
    """A person asked to close (part of) a position, or all of them with `symbol=""`."""

    symbol: str
    quantity: Decimal | None = None
    source: str = "user"


class ExitsChanged(EngineEvent, frozen=True, kw_only=True):
    """A person moved the stop or the target of an open position; None leaves it as it is."""

    symbol: str
    stop_price: Decimal | None = None
    target_price: Decimal | None = None


class EntriesPaused(EngineEvent, frozen=True, kw_only=True):
    """A person (or a fault) stopped or resumed new entries; exits always go on."""

    paused: bool
    reason: str


class BreakerMoved(EngineEvent, frozen=True, kw_only=True):
    """The circuit breaker changed its level, or its silence became longer: the next start goes on from here.

    Times are market ms: at `level` since `since_ms`, nothing sent before `silent_until_ms`, all trouble forgotten at
    `trouble_until_ms`; `until_ms` is the next probe of a halted exchange.
    """

    level: str
    cause: str
    until_ms: int | None = None
    since_ms: int | None = None
    """None in ledgers of versions that did not go on from here."""
    silent_until_ms: int = 0
    trouble_until_ms: int = 0


class FeedChanged(EngineEvent, frozen=True, kw_only=True):
    """A stream connected, was lost, or a symbol turned stale or fresh."""

    what: str
    healthy: bool
    cause: str


class StreamCounts(msgspec.Struct, frozen=True):
    """What one connection has carried since the engine started."""

    name: str
    frames: int
    reconnects: int
    rejected: int
    """Frames that could not be understood."""


class FeedObserved(EngineEvent, frozen=True, kw_only=True):
    """How connections and request limits stand, noted now and then so that a day's course can be read back."""

    streams: tuple[StreamCounts, ...]
    weight_used: int
    """The most request weight a minute took since the last note."""
    weight_limit: int
    latency_ms_p99: float
    """From the exchange's time of a quote to its arrival, market milliseconds."""


class ReportWritten(EngineEvent, frozen=True, kw_only=True):
    """The report of one UTC day (`YYYY-MM-DD`) was written, or failed."""

    day: str
    path: str
    error: str = ""


Event = (
    EngineStarted
    | EngineStopped
    | AccountObserved
    | Deposited
    | RulesObserved
    | TraderCheckpointed
    | LearningObserved
    | DriftMoved
    | ChallengeStarted
    | ShadowTraded
    | ChallengeJudged
    | ChallengeEnded
    | PromotionRolledBack
    | MinuteClosed
    | MonitorTicked
    | VirtualTicked
    | OrderChanged
    | OrderRefused
    | OrderInDoubt
    | OrderNeverPlaced
    | FundingPaid
    | WalletAdjusted
    | CloseRequested
    | ExitsChanged
    | EntriesPaused
    | BreakerMoved
    | FeedChanged
    | FeedObserved
    | ReportWritten
)
