"""Snapshot: all that a widget, a report or a person may see of the running lab, in one immutable value.

Widgets and notebooks read snapshots and send events; they never hold a reference to anything that moves.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from labkit.domain.decisions import Decision, VirtualPosition
from labkit.domain.moments import moment_text


class SymbolRow(msgspec.Struct, frozen=True, kw_only=True):
    """One traded symbol. Missing values are None; `age_ms` is market time since the last quote."""

    symbol: str
    bid_price: Decimal | None = None
    bid_quantity: Decimal | None = None
    ask_price: Decimal | None = None
    ask_quantity: Decimal | None = None
    mark_price: Decimal | None = None
    funding_rate: Decimal | None = None
    next_funding_time_ms: int | None = None
    change_24h: float | None = None
    """Fraction: 0.01 is +1 %."""
    liquidity_score: float = 0.0
    age_ms: int | None = None
    stale_because: str = ""
    """Empty when the quote may be used for decisions."""


class PositionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One open position with its exits. Prices in quote asset, times in UTC milliseconds."""

    symbol: str
    quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal | None
    """What closing now would pay: bid for a long, ask for a short."""
    mark_price: Decimal | None
    unrealized_pnl: Decimal
    stop_price: Decimal | None
    target_price: Decimal | None
    trailing_stop_price: Decimal | None
    liquidation_price: Decimal | None
    opened_ms: int
    due_ms: int | None
    """Time-out of the bracket."""
    entry_reason: str
    closing: bool
    """True while a closing order is under way."""


class ClosedTrade(msgspec.Struct, frozen=True, kw_only=True):
    """One round trip from flat to flat. `net_pnl` = `realized_pnl` − `commission` + `funding`.

    `slippage`, in quote asset, is the part of `realized_pnl` that its fills paid better (positive) or worse than the
    quotes its orders were decided on.
    """

    symbol: str
    side: str
    quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal
    opened_ms: int
    closed_ms: int
    realized_pnl: Decimal
    slippage: Decimal
    commission: Decimal
    funding: Decimal
    net_pnl: Decimal
    exit_reason: str
    entry_order: str
    exit_order: str


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    wallet_balance: Decimal
    equity: Decimal
    """Wallet balance plus unrealised PnL at mark."""
    available_balance: Decimal
    margin_ratio: float
    """Maintenance margin over margin balance; 1 is liquidation."""
    day_pnl: Decimal
    deposits: Decimal
    realized_pnl: Decimal
    commissions: Decimal
    funding: Decimal


class BreakerRow(msgspec.Struct, frozen=True, kw_only=True):
    level: str
    cause: str
    since_ms: int
    next_probe_ms: int | None
    weight_used: int
    weight_limit: int


class LoopRow(msgspec.Struct, frozen=True, kw_only=True):
    """One loop of the scheduler."""

    name: str
    runs: int
    missed: int
    overruns: int
    last_run_ms: int | None
    next_run_ms: int | None


class StreamRow(msgspec.Struct, frozen=True, kw_only=True):
    """One WebSocket connection."""

    name: str
    state: str
    frames: int
    reconnects: int
    rejected: int
    age_ms: int | None
    cause: str


class EventRow(msgspec.Struct, frozen=True):
    """One line of the event log."""

    time_ms: int
    severity: str
    text: str


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    frames: int = 0
    decisions: int = 0
    orders: int = 0
    fills: int = 0
    positions_closed: int = 0
    virtual_closed: int = 0
    learned_labels: int = 0
    reconnects: int = 0


class LearningRow(msgspec.Struct, frozen=True, kw_only=True):
    """How the learner stands. `skill_millinats` is mean log-loss saved against a coin, per label."""

    labels: int
    calibration_slope: float
    calibration_slope_lower: float
    skill_millinats: float
    expert_weights: dict[str, float]
    drift: str = "steady"
    """What drift has led to: `steady`, `shrink`, `hold` or `bench`."""
    drift_nats: float = 0.0
    """Log-loss lost against a coin since the best moment."""
    evidence_nats: float = 0.0
    """Log-loss saved against a coin within memory: what stakes grow with."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The lab at one moment of market time."""

    time_ms: int
    state: str
    """`starting`, `warming_up`, `running`, `stopping`, `stopped` or `failed`."""
    state_detail: str
    market: str
    disclosure: str
    """What is not real here, in one sentence; shown wherever the market is shown."""
    speed: float
    symbols: tuple[SymbolRow, ...]
    positions: tuple[PositionRow, ...]
    virtual_positions: tuple[VirtualPosition, ...]
    closed_trades: tuple[ClosedTrade, ...]
    """The latest ones, newest last."""
    decisions: tuple[Decision, ...]
    """The latest decision of each symbol."""
    account: AccountRow | None
    breaker: BreakerRow | None
    learning: LearningRow | None
    loops: tuple[LoopRow, ...]
    streams: tuple[StreamRow, ...]
    events: tuple[EventRow, ...]
    counts: Counts
    loop_lag_ms_p50: float
    loop_lag_ms_p99: float
    feed_latency_ms_p50: float = 0.0
    """From the exchange's time of a quote to its arrival here, in market milliseconds."""
    feed_latency_ms_p99: float = 0.0
    feed_handling_ms_p50: float = 0.0
    """From the arrival of frames to their facts in the cache, in market milliseconds."""
    feed_handling_ms_p99: float = 0.0
    entries_paused: str
    """Why new entries are paused; empty when they are allowed."""
    ledger_sequence: int
    ledger_hash: str

    def __repr__(self) -> str:
        """A line; every number is in the attributes."""
        equity = f"equity {self.account.equity:,.2f} USDT" if self.account else "no account yet"
        return (
            f"Snapshot({moment_text(self.time_ms)}, {self.state}, {len(self.positions)} open, "
            f"{len(self.closed_trades)} latest closed trades, {equity})"
        )
