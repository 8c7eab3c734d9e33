"""The paper account: wallet, positions, isolated margin and the sums that prove them.

Money is Decimal in quote asset, quantities in base asset. The account only books what it is told (fills, funding,
charges, deposits) and never decides; `PaperAccount.check_invariants` holds two independent books against each other
(I01, I02, I03, I08, I14 of the reliability reference). Called by `labkit.paper.order_desk`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from labkit.domain.orders import Fill, Side
from labkit.domain.position import ZERO, Position, quantize_money
from labkit.errors import LedgerImbalance

DEFAULT_LEVERAGE = 20


class Holding(msgspec.Struct):
    """What the account has of one symbol, and how it is carried.

    `bought`, `sold` (base asset) and `cash_flow` (quote asset, −Σ signed quantity · price) are kept beside the
    position only to prove it.
    """

    position: Position
    leverage: int
    isolated: bool
    isolated_wallet: Decimal = ZERO
    bought: Decimal = ZERO
    sold: Decimal = ZERO
    cash_flow: Decimal = ZERO
    update_time_ms: int = 0


class PaperAccount:
    """One margin account in one-way mode.

    Args:
        symbols: every symbol that can be held.
        isolated: margin mode all symbols start in.
        max_leverage: the largest leverage each symbol's bracket table allows.
    """

    def __init__(self, symbols: Iterable[str], *, isolated: bool, max_leverage: Mapping[str, int]) -> None:
        self.holdings = {
            symbol: Holding(
                position=Position(symbol), leverage=min(DEFAULT_LEVERAGE, max_leverage[symbol]), isolated=isolated
            )
            for symbol in symbols
        }
        self.wallet_balance = ZERO
        self.cross_wallet = ZERO
        self.deposits = ZERO
        self.realized_pnl = ZERO
        self.commissions = ZERO
        self.funding = ZERO
        self.liquidation_fees = ZERO
        self.insurance = ZERO
        self.update_time_ms = 0

    def position(self, symbol: str) -> Position:
        return self.holdings[symbol].position

    def open_holdings(self) -> list[Holding]:
        """Holdings with an open position, in the order symbols were listed."""
        return [holding for holding in self.holdings.values() if holding.position.quantity]

    def deposit(self, amount: Decimal, time_ms: int) -> None:
        """Money from outside."""
        self.deposits += amount
        self._credit_cross(amount, time_ms)

    def price_fill(
        self, symbol: str, side: Side, price: Decimal, quantity: Decimal, fee_rate: Decimal
    ) -> tuple[Decimal, Decimal]:
        """What a fill would realise (before commission) and its commission, both in quote asset."""
        _, realized = self.holdings[symbol].position.after_fill(side.sign * quantity, price)
        return realized, quantize_money(price * quantity * fee_rate)

    def book_fill(self, fill: Fill) -> None:
        """Book one execution: position, realised profit, commission, isolated margin.

        Raises:
            LedgerImbalance: the fill's realised profit is not what the position says.
        """
        holding = self.holdings[fill.symbol]
        before = holding.position
        after, realized = before.after_fill(fill.signed_quantity, fill.price)
        if realized != fill.realized_pnl:
            raise LedgerImbalance(
                f"{fill.symbol} trade {fill.trade_id}: realised {fill.realized_pnl}, the position says {realized}"
            )
        holding.position = after
        holding.cash_flow -= fill.signed_quantity * fill.price
        if fill.side is Side.BUY:
            holding.bought += fill.quantity
        else:
            holding.sold += fill.quantity
        holding.update_time_ms = fill.trade_time_ms
        self.realized_pnl += realized
        self.commissions += fill.commission
        self._credit_cross(realized - fill.commission, fill.trade_time_ms)
        if holding.isolated:
            self._move_isolated_margin(holding, before, fill, realized)

    def book_funding(self, symbol: str, amount: Decimal, time_ms: int) -> None:
        """A funding payment (negative = paid), from the wallet that carries the position."""
        self.funding += amount
        holding = self.holdings[symbol]
        if holding.isolated:
            self.wallet_balance += amount
            holding.isolated_wallet += amount
            self.update_time_ms = time_ms
        else:
            self._credit_cross(amount, time_ms)

    def book_liquidation(self, fee: Decimal, insurance: Decimal, time_ms: int) -> None:
        """The end of a liquidation: its fee, and what the insurance fund paid so that nobody owes anything."""
        self.liquidation_fees += fee
        self.insurance += insurance
        self._credit_cross(insurance - fee, time_ms)

    def unrealized_pnl(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Sum over all open positions at mark, in quote asset."""
        return sum(
            (h.position.unrealized_pnl(marks[h.position.symbol]) for h in self.open_holdings()),
            ZERO,
        )

    def check_invariants(self, marks: Mapping[str, Decimal]) -> None:
        """Hold the books against each other, exactly.

        Raises:
            LedgerImbalance: which law broke, and both sides of it.
        """
        outside = self.deposits - self.commissions + self.funding - self.liquidation_fees + self.insurance
        _require("I01 wallet = deposits + all bookings", self.wallet_balance, outside + self.realized_pnl)
        cash = sum((h.cash_flow for h in self.holdings.values()), ZERO)
        worth = sum((h.position.quantity * marks[h.position.symbol] for h in self.open_holdings()), ZERO)
        _require(
            "I02 equity = deposits + cash flows + worth of positions",
            self.wallet_balance + self.unrealized_pnl(marks),
            outside + cash + worth,
        )
        isolated = sum((h.isolated_wallet for h in self.holdings.values()), ZERO)
        _require("I14 wallet = cross + isolated wallets", self.wallet_balance, self.cross_wallet + isolated)
        for symbol, holding in self.holdings.items():
            quantity = holding.position.quantity
            _require(f"I03 {symbol}: position = sum of fills", quantity, holding.bought - holding.sold)
            if quantity == 0:
                _require(f"I08 {symbol}: flat means no cost", holding.position.entry_cost, ZERO)
            if quantity == 0 or not holding.isolated:
                _require(f"I08 {symbol}: isolated wallet released", holding.isolated_wallet, ZERO)

    def _credit_cross(self, amount: Decimal, time_ms: int) -> None:
        self.wallet_balance += amount
        self.cross_wallet += amount
        self.update_time_ms = time_ms

    def _move_isolated_margin(self, holding: Holding, before: Position, fill: Fill, realized: Decimal) -> None:
        """Between cross and isolated wallet: what closes is released, what opens is set aside at fill price.

        A loss of the isolated position is paid by its own margin first (I13).
        """
        opened = fill.quantity
        if before.sign * fill.side.sign < 0:
            closed = min(fill.quantity, abs(before.quantity))
            opened -= closed
            released = (
                holding.isolated_wallet
                if closed == abs(before.quantity)
                else quantize_money(holding.isolated_wallet * closed / abs(before.quantity))
            )
            # The profit was credited to cross; a loss beyond the released share comes from the share that stays.
            shortfall = max(ZERO, -(released + realized))
            released += min(shortfall, holding.isolated_wallet - released)
            holding.isolated_wallet -= released
            self.cross_wallet += released
        if opened:
            margin = quantize_money(opened * fill.price / holding.leverage)
            holding.isolated_wallet += margin
            self.cross_wallet -= margin


def _require(law: str, left: Decimal, right: Decimal) -> None:
    if left != right:
        raise LedgerImbalance(f"{law}: {left} against {right}")
