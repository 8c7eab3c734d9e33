"""Matching against what the market showed: best bid and ask with sizes, and prints.

Prices in quote asset, quantities in base asset. Pure: quotes, prints and orders come in, executions come out; money
and order states are `order_desk`'s. The model (rules R-FIL 9-13):

- Taker: the displayed size at the best price, then one tick worse for every further displayed size. What was taken
  is remembered per level until the market shows another price or size on that side.
- Maker: filled when the opposite side reaches the order's price (up to the size shown there), or when prints at the
  price exceed the queue that stood ahead at arrival, or when a print goes through the price. Always at its own price.
- Nothing fills against a missing, one-sided or crossed quote.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from labkit.domain.market_events import Quote, Trade
from labkit.domain.orders import Side
from labkit.domain.position import ZERO

DEEPEST_LEVEL = 200
"""The book is taken to end after so many levels: what is left of a taker finds nobody."""


class Execution(msgspec.Struct, frozen=True):
    """A quantity done at a price."""

    price: Decimal
    quantity: Decimal


class RestingOrder(msgspec.Struct):
    """An order in the book. `queue_ahead` is None while nobody knows what stands before it."""

    order_id: int
    side: Side
    price: Decimal
    remaining: Decimal
    queue_ahead: Decimal | None = None


MakerFilled = Callable[[RestingOrder, Decimal], Decimal]
"""Called with an order and the quantity the market offers it; returns the quantity really executed."""


class MatchingBook:
    """The market of one symbol as the venue's orders meet it."""

    def __init__(self, tick_size: Decimal) -> None:
        self.quote: Quote | None = None
        self.resting: dict[int, RestingOrder] = {}
        self._tick_size = tick_size
        self._taken: dict[Side, dict[Decimal, Decimal]] = {Side.BUY: {}, Side.SELL: {}}

    @property
    def usable_quote(self) -> Quote | None:
        """The quote, if orders may be filled against it."""
        quote = self.quote
        if (
            quote is None
            or quote.bid_price <= 0
            or quote.ask_price <= quote.bid_price
            or quote.bid_quantity <= 0
            or quote.ask_quantity <= 0
        ):
            return None
        return quote

    def best_price(self, taker: Side) -> Decimal | None:
        """The price a taker meets first, or None where nothing may fill."""
        quote = self.usable_quote
        if quote is None:
            return None
        return quote.ask_price if taker is Side.BUY else quote.bid_price

    def crosses(self, side: Side, price: Decimal) -> bool:
        """True if a limit order at `price` would take liquidity now."""
        best = self.best_price(side)
        return best is not None and (price - best) * side.sign >= 0

    def walk(self, taker: Side, quantity: Decimal, worst_price: Decimal) -> list[Execution]:
        """What a taker of `quantity` would get, level by level, no worse than `worst_price`. Changes nothing."""
        quote = self.usable_quote
        if quote is None:
            return []
        best, displayed = (
            (quote.ask_price, quote.ask_quantity) if taker is Side.BUY else (quote.bid_price, quote.bid_quantity)
        )
        taken = self._taken[taker]
        executions: list[Execution] = []
        left = quantity
        for level in range(DEEPEST_LEVEL):
            price = best + taker.sign * level * self._tick_size
            if left <= 0 or price <= 0 or (price - worst_price) * taker.sign > 0:
                break
            here = min(left, displayed - taken.get(price, ZERO))
            if here > 0:
                executions.append(Execution(price, here))
                left -= here
        return executions

    def take(self, taker: Side, execution: Execution) -> None:
        """Remember that this liquidity is gone."""
        taken = self._taken[taker]
        taken[execution.price] = taken.get(execution.price, ZERO) + execution.quantity

    def rest(self, order: RestingOrder) -> None:
        """Put an order into the book, behind everything shown at its price."""
        order.queue_ahead = self._queue_at_arrival(order)
        self.resting[order.order_id] = order

    def remove(self, order_id: int) -> None:
        self.resting.pop(order_id, None)

    def on_quote(self, quote: Quote, fill: MakerFilled) -> None:
        """The market shows a new best bid and ask; resting orders it reaches are offered to `fill`."""
        previous = self.quote
        self.quote = quote
        if previous is not None:
            if (quote.ask_price, quote.ask_quantity) != (previous.ask_price, previous.ask_quantity):
                self._taken[Side.BUY].clear()
            if (quote.bid_price, quote.bid_quantity) != (previous.bid_price, previous.bid_quantity):
                self._taken[Side.SELL].clear()
        if not self.resting or self.usable_quote is None:
            return
        for order in self._by_priority():
            if order.side is Side.BUY:
                touched, same_side, shown = quote.ask_price <= order.price, quote.bid_price, quote.bid_quantity
                opposite = Execution(quote.ask_price, quote.ask_quantity)
            else:
                touched, same_side, shown = quote.bid_price >= order.price, quote.ask_price, quote.ask_quantity
                opposite = Execution(quote.bid_price, quote.bid_quantity)
            if touched:
                taken = self._taken[order.side]
                offered = min(order.remaining, opposite.quantity - taken.get(opposite.price, ZERO))
                if offered > 0 and (done := fill(order, offered)) > 0:
                    self.take(order.side, Execution(opposite.price, done))
            elif same_side == order.price:
                # Cancels are taken to happen behind us, but never more can stand ahead than is shown.
                order.queue_ahead = shown if order.queue_ahead is None else min(order.queue_ahead, shown)
            elif (order.price - same_side) * order.side.sign > 0:
                order.queue_ahead = ZERO

    def on_trade(self, trade: Trade, fill: MakerFilled) -> None:
        """The market printed; resting orders on the maker's side of the print share its quantity in book order."""
        if not self.resting:
            return
        maker = Side.BUY if trade.buyer_is_maker else Side.SELL
        done = ZERO
        for order in self._by_priority():
            through = (order.price - trade.price) * maker.sign
            if order.side is not maker or through < 0:
                continue
            ahead = ZERO
            if through == 0:
                if order.queue_ahead is None:
                    continue
                ahead = min(order.queue_ahead, trade.quantity)
                order.queue_ahead -= ahead
            offered = min(order.remaining, trade.quantity - ahead - done)
            if offered > 0:
                done += fill(order, offered)

    def _queue_at_arrival(self, order: RestingOrder) -> Decimal | None:
        quote = self.usable_quote
        if quote is None:
            return None
        best, shown = (
            (quote.bid_price, quote.bid_quantity) if order.side is Side.BUY else (quote.ask_price, quote.ask_quantity)
        )
        if order.price == best:
            return shown
        return ZERO if (order.price - best) * order.side.sign > 0 else None

    def _by_priority(self) -> list[RestingOrder]:
        """Own orders, best price first, then first come: a copy, since filling removes from the book."""
        return sorted(self.resting.values(), key=lambda order: (-order.side.sign * order.price, order.order_id))
