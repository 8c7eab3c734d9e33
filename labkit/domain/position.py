"""A position as a fold over fills (one-way mode).

The cost of what is open is kept as money, not as an average price, so that no division ever loses a digit: whatever
a reduction does not realise stays in the cost. Wallet plus unrealised PnL therefore equals deposits plus all cash
flows exactly (invariant I02).
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import msgspec

ZERO = Decimal(0)
MONEY_QUANTUM = Decimal("0.00000001")
"""The exchange books money in eight decimals."""


def quantize_money(amount: Decimal) -> Decimal:
    """`amount` in quote asset, rounded half-even to the exchange's eight decimals."""
    return amount.quantize(MONEY_QUANTUM, rounding=ROUND_HALF_EVEN)


class Position(msgspec.Struct, frozen=True):
    """A signed holding: `quantity` > 0 is long, < 0 short.

    `entry_cost` is the signed notional still invested: the sum of signed quantity times price of the fills that
    opened what is left.
    """

    symbol: str
    quantity: Decimal = ZERO
    entry_cost: Decimal = ZERO

    @property
    def is_open(self) -> bool:
        return self.quantity != 0

    @property
    def sign(self) -> int:
        """+1 long, -1 short, 0 flat."""
        return (self.quantity > 0) - (self.quantity < 0)

    @property
    def entry_price(self) -> Decimal:
        """Average entry price for showing; 0 when flat. Money is computed from `entry_cost`."""
        return self.entry_cost / self.quantity if self.quantity else ZERO

    def unrealized_pnl(self, price: Decimal) -> Decimal:
        """Unrealised profit or loss at `price`, in quote asset; exact."""
        return self.quantity * price - self.entry_cost

    def after_fill(self, signed_quantity: Decimal, price: Decimal) -> tuple[Position, Decimal]:
        """The position after one fill, and the profit the fill realised (before commission).

        Increase adds to the cost. Reduce releases the cost in proportion. A flip closes all, then opens the rest
        at `price` (rule R-ACC 17).
        """
        if self.quantity * signed_quantity >= 0:
            return (
                Position(self.symbol, self.quantity + signed_quantity, self.entry_cost + signed_quantity * price),
                ZERO,
            )
        closed = -signed_quantity if abs(signed_quantity) <= abs(self.quantity) else self.quantity
        left = self.quantity - closed
        proceeds = closed * price
        if left:
            realized = quantize_money(proceeds - self.entry_cost * closed / self.quantity)
            # What was not realised stays in the cost, to the last digit.
            return Position(self.symbol, left, self.entry_cost - proceeds + realized), realized
        opened = self.quantity + signed_quantity
        return Position(self.symbol, opened, opened * price), proceeds - self.entry_cost
