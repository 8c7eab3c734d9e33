"""What the engine keeps of orders, of round trips in progress and of the money. Decimal, in quote asset."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from labkit.domain.decisions import Decision
from labkit.domain.orders import Fill, IntentState, OrderIntent, OrderStatus
from labkit.domain.snapshot import ClosedTrade
from labkit.errors import LedgerImbalance
from labkit.trader.exits import ExitPlan

ZERO = Decimal(0)


class IntentRecord(msgspec.Struct):
    """The life of one order intent as far as it is known."""

    intent: OrderIntent
    state: IntentState
    created_ms: int
    decision: Decision | None = None
    expected_price: Decimal | None = None
    """What the quote at hand promised when the order was decided on."""
    order_id: int = 0
    order_status: OrderStatus | None = None
    original_quantity: Decimal = ZERO
    executed_quantity: Decimal = ZERO
    """As the exchange told it."""
    booked_quantity: Decimal = ZERO
    """Sum of the fills we have seen."""

    @property
    def is_final(self) -> bool:
        return self.state.is_final

    def slippage(self, fill: Fill) -> Decimal:
        """What `fill` paid better (positive) or worse than the quote the order was decided on, in quote asset.

        Zero where no quote was looked at: an order of a person, or of somebody else.
        """
        return ZERO if self.expected_price is None else (self.expected_price - fill.price) * fill.signed_quantity


class OpenTrade(msgspec.Struct):
    """One round trip in progress: from flat to flat."""

    symbol: str
    opened_ms: int
    entry_order: str
    entry_reason: str
    plan: ExitPlan | None
    slippage: Decimal = ZERO
    """What its fills paid better (positive) or worse than the quotes they were decided on, in quote asset."""
    entry_quantity: Decimal = ZERO
    entry_notional: Decimal = ZERO
    exit_quantity: Decimal = ZERO
    exit_notional: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    commission: Decimal = ZERO
    funding: Decimal = ZERO
    fills: list[Fill] = []

    def extend(self, fill: Fill, quantity: Decimal) -> None:
        """Book the part of `fill` that opened or enlarged the position."""
        self.fills.append(fill)
        self.entry_quantity += quantity
        self.entry_notional += quantity * fill.price

    def reduce(self, fill: Fill, quantity: Decimal, realized_pnl: Decimal) -> None:
        """Book the part of `fill` that closed some of the position."""
        self.fills.append(fill)
        self.exit_quantity += quantity
        self.exit_notional += quantity * fill.price
        self.realized_pnl += realized_pnl

    def bear(self, fill: Fill, slippage: Decimal) -> None:
        """Book what `fill` cost beside its price; once a fill, by the round trip it closed if it flipped the side."""
        self.commission += fill.commission
        self.slippage += slippage

    def closed(self, side: int, exit_order: OrderIntent, closed_ms: int) -> ClosedTrade:
        """The round trip as it ended; `side` is 1 for long, -1 for short."""
        return ClosedTrade(
            symbol=self.symbol,
            side="long" if side > 0 else "short",
            quantity=self.entry_quantity,
            entry_price=self.entry_notional / self.entry_quantity,
            exit_price=self.exit_notional / self.exit_quantity,
            opened_ms=self.opened_ms,
            closed_ms=closed_ms,
            realized_pnl=self.realized_pnl,
            slippage=self.slippage,
            commission=self.commission,
            funding=self.funding,
            net_pnl=self.realized_pnl - self.commission + self.funding,
            exit_reason=exit_order.reason,
            entry_order=self.entry_order,
            exit_order=exit_order.client_order_id,
        )


class Account(msgspec.Struct):
    """The money, from two sides: what is booked, and what flowed in cash (invariants I01 and I02)."""

    deposits: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    commissions: Decimal = ZERO
    funding: Decimal = ZERO
    adjustments: Decimal = ZERO
    trade_cash: Decimal = ZERO
    """Sum of minus signed quantity times price over all fills."""

    @property
    def wallet_balance(self) -> Decimal:
        return self.deposits + self.realized_pnl - self.commissions + self.funding + self.adjustments

    def check(self, entry_costs: Decimal) -> None:
        """Hold the two sides against each other, to the last digit.

        Booked side: wallet plus unrealised PnL. Cash side: deposits plus all cash flows plus positions at mark. The
        mark price cancels out, so any price serves, and what is left of the positions is `entry_costs`, signed.

        Raises:
            LedgerImbalance: they differ.
        """
        booked = self.wallet_balance - entry_costs
        cash = self.deposits + self.trade_cash - self.commissions + self.funding + self.adjustments
        if booked != cash:
            raise LedgerImbalance(f"booked {booked} USDT, cash flows {cash} USDT: they differ by {booked - cash}")
