"""What can be seen of one open position beyond its row, and what a sudden move of prices would do to all of them."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from labkit.domain.decisions import Decision
from labkit.domain.orders import Fill
from labkit.domain.snapshot import PositionRow


class PositionPnl(msgspec.Struct, frozen=True, kw_only=True):
    """What a position has earned so far, closed parts included, in quote asset; the parts add up exactly."""

    price: Decimal
    """What the prices at hand when its orders were decided on have earned, marked at the mark price."""
    slippage: Decimal
    """What its fills paid better (positive) or worse than those prices."""
    fees: Decimal
    """Commissions, negative."""
    funding: Decimal
    """Negative if paid."""

    @property
    def net(self) -> Decimal:
        return self.price + self.slippage + self.fees + self.funding


class PositionDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One open position: its row, where its result comes from, its fills and the decision that opened it."""

    row: PositionRow
    pnl: PositionPnl
    fills: tuple[Fill, ...]
    """Oldest first."""
    decision: Decision | None
    """None if no decision of this lab opened it."""
    tick_size: Decimal
    """Prices of the symbol lie on multiples of this."""
    step_size: Decimal
    """Quantities of the symbol lie on multiples of this."""

    def __repr__(self) -> str:
        """A line; every number is in the attributes."""
        row, pnl = self.row, self.pnl
        side = "long" if row.quantity > 0 else "short"
        return (
            f"Position({row.symbol} {side} {abs(row.quantity).normalize():f} at {row.entry_price:.8g}, "
            f"net {pnl.net:.4f} USDT = price {pnl.price:.4f}, slippage {pnl.slippage:.4f}, fees {pnl.fees:.4f}, "
            f"funding {pnl.funding:.4f})"
        )


class PositionAfter(msgspec.Struct, frozen=True, kw_only=True):
    """One position after a sudden move."""

    symbol: str
    mark_price: Decimal
    unrealized_pnl: Decimal
    stop_passed: bool
    """The price has jumped over its stop."""
    beyond_stop: Decimal
    """What that costs beyond what a stop filled at its price would have, in quote asset; 0 or negative."""


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """The account as it is, and as it would be if every mark price moved by `fraction` at once. Nothing is done."""

    fraction: float
    equity_before: Decimal
    equity: Decimal
    margin_ratio_before: float
    margin_ratio: float
    """Maintenance margin over margin balance; 1 is liquidation."""
    liquidated: bool
    positions: tuple[PositionAfter, ...]

    def __repr__(self) -> str:
        """Two lines; every number is in the attributes."""
        verdict = "the account would be liquidated" if self.liquidated else "no liquidation"
        passed = ", ".join(position.symbol for position in self.positions if position.stop_passed)
        return (
            f"All prices {self.fraction:+.1%} at once: equity {self.equity_before:,.2f} → {self.equity:,.2f} USDT, "
            f"margin ratio {self.margin_ratio_before:.1%} → {self.margin_ratio:.1%}: {verdict}\n"
            f"Stops jumped over: {passed or 'none'}"
        )
