"""OrderBook: one symbol's book kept from a snapshot and the diff stream, or refused. No I/O.

Prices in quote asset, quantities in base asset. The rule is that of USDⓈ-M futures: ids are not consecutive, each
diff names the final id of the one before it (`pu`), and a broken chain makes the whole book worthless. Fed by whoever
subscribes to a depth stream; fetching the snapshot is the caller's work.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from decimal import Decimal

from labkit.domain.market_events import DepthDiff
from labkit.errors import BookGap, RemoteProtocolError

Level = tuple[Decimal, Decimal]
"""Price and quantity."""

WAITING_DIFFS = 10_000
"""So many diffs are held while the snapshot is fetched; older ones would make it unusable anyway."""


class OrderBook:
    """The displayed book of `symbol`. Diffs that come before the snapshot wait for it."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}
        self._best_bid: Decimal | None = None
        self._best_ask: Decimal | None = None
        self._update_id: int | None = None
        self._chained = False
        self._waiting: deque[DepthDiff] = deque(maxlen=WAITING_DIFFS)

    @property
    def is_synchronized(self) -> bool:
        """True once a snapshot is loaded and no diff has been missed since."""
        return self._update_id is not None

    @property
    def update_id(self) -> int | None:
        """The id up to which the book is known; None without a snapshot."""
        return self._update_id

    def load_snapshot(self, update_id: int, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Start from a snapshot, then apply the diffs that waited.

        Raises:
            BookGap: the waiting diffs do not reach back to the snapshot; fetch a newer one.
        """
        waiting = list(self._waiting)
        self.forget()
        self._update_id = update_id
        self._bids = {price: quantity for price, quantity in bids if quantity}
        self._asks = {price: quantity for price, quantity in asks if quantity}
        self._best_bid = max(self._bids, default=None)
        self._best_ask = min(self._asks, default=None)
        for index, diff in enumerate(waiting):
            try:
                self.apply(diff)
            except BookGap:
                # `apply` kept the diff that did not fit; the ones behind it must wait as well.
                self._waiting.extend(waiting[index + 1 :])
                raise

    def apply(self, diff: DepthDiff) -> bool:
        """Apply one diff; False if it waits for the snapshot or is older than it.

        Raises:
            BookGap: diffs were missed. The book is empty now, this diff waits, and a new snapshot is needed.
            RemoteProtocolError: the diff is of another symbol.
        """
        if diff.symbol != self.symbol:
            raise RemoteProtocolError(f"a depth diff of {diff.symbol} came for the book of {self.symbol}")
        if self._update_id is None:
            self._waiting.append(diff)
            return False
        if diff.final_update_id < self._update_id or (self._chained and diff.final_update_id == self._update_id):
            return False
        fits = (
            diff.previous_final_update_id == self._update_id
            if self._chained
            else diff.first_update_id <= self._update_id <= diff.final_update_id
            # A diff that follows the snapshot without overlap chains to it just as well.
            or diff.previous_final_update_id == self._update_id
        )
        if not fits:
            known = self._update_id
            self.forget()
            self._waiting.append(diff)
            raise BookGap(f"{self.symbol}: book known up to {known}, next diff follows {diff.previous_final_update_id}")
        for price, quantity in diff.bids:
            self._set_bid(price, quantity)
        for price, quantity in diff.asks:
            self._set_ask(price, quantity)
        self._update_id = diff.final_update_id
        self._chained = True
        return True

    def best_bid(self) -> Level | None:
        """Highest bid, or None if there is none."""
        return None if self._best_bid is None else (self._best_bid, self._bids[self._best_bid])

    def best_ask(self) -> Level | None:
        """Lowest ask, or None if there is none."""
        return None if self._best_ask is None else (self._best_ask, self._asks[self._best_ask])

    def bids(self, levels: int) -> list[Level]:
        """The best `levels` bids, best first."""
        return [(price, self._bids[price]) for price in heapq.nlargest(levels, self._bids)]

    def asks(self, levels: int) -> list[Level]:
        """The best `levels` asks, best first."""
        return [(price, self._asks[price]) for price in heapq.nsmallest(levels, self._asks)]

    def forget(self) -> None:
        """Empty the book: a new snapshot is needed."""
        self._bids, self._asks = {}, {}
        self._best_bid = self._best_ask = None
        self._update_id = None
        self._chained = False
        self._waiting.clear()

    def _set_bid(self, price: Decimal, quantity: Decimal) -> None:
        if quantity:
            self._bids[price] = quantity
            if self._best_bid is None or price > self._best_bid:
                self._best_bid = price
        elif self._bids.pop(price, None) is not None and price == self._best_bid:
            self._best_bid = max(self._bids, default=None)

    def _set_ask(self, price: Decimal, quantity: Decimal) -> None:
        if quantity:
            self._asks[price] = quantity
            if self._best_ask is None or price < self._best_ask:
                self._best_ask = price
        elif self._asks.pop(price, None) is not None and price == self._best_ask:
            self._best_ask = min(self._asks, default=None)
