"""Risk gates: hard caps that hold whatever the trader wants (invariant I32).

Pure. Each gate looks at one planned entry and passes or refuses it; the first refusal becomes the decision's primary
reason, so that "why did it not trade?" always has one answer. Exits pass no gate: a position may always be closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from labkit.config import RiskConfig
from labkit.domain.decisions import Gate


class EntryContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the gates may know about one planned entry. Money in quote asset."""

    quantity: Decimal
    notional: Decimal
    entries_paused: str
    """Why entries are paused by a person or a fault; empty if they are not."""
    breaker_level: str
    open_positions: int
    symbol_busy: bool
    """A position is open or an order is under way on this symbol."""
    day_pnl: Decimal
    day_start_equity: Decimal
    orders_last_minute: int


def entry_gates(config: RiskConfig, context: EntryContext) -> Iterator[Gate]:
    """All gates of one entry, in the order in which they are named as reasons."""
    yield Gate("entries_allowed", not context.entries_paused, context.entries_paused or "entries are not paused")
    yield Gate(
        "breaker",
        context.breaker_level in ("NORMAL", "CAUTIOUS"),
        f"circuit breaker is {context.breaker_level}",
    )
    yield Gate("symbol_free", not context.symbol_busy, "no position and no order under way on this symbol")
    yield Gate(
        "open_positions",
        context.open_positions < config.max_open_positions,
        f"{context.open_positions} open, at most {config.max_open_positions}",
    )
    floor = -context.day_start_equity * Decimal(str(config.max_daily_loss_fraction))
    yield Gate("daily_loss", context.day_pnl > floor, f"day PnL {context.day_pnl:.2f}, floor {floor:.2f} USDT")
    yield Gate(
        "order_rate",
        context.orders_last_minute < config.max_orders_per_minute,
        f"{context.orders_last_minute} orders in the last minute, at most {config.max_orders_per_minute}",
    )
    yield Gate("order_size", context.quantity > 0, f"quantity {context.quantity} after rounding to the symbol's step")
    yield Gate(
        "position_cap",
        context.notional <= config.max_position_notional,
        f"notional {context.notional:.2f}, at most {config.max_position_notional} USDT",
    )
