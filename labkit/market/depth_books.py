"""DepthBooks: whole order books, each kept from a snapshot and its stream of changes, and why one may not be used.

A book is worthless from the moment a change was missed: it is emptied, said to be broken, and made anew from the next
snapshot, which is fetched no oftener than a back-off with full jitter allows. Fed by `WebSocketMonitor`. Times in
market milliseconds; the back-off in milliseconds of life.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from labkit.config import MonitorConfig
from labkit.domain.clock import Clock
from labkit.domain.market_events import DepthDiff
from labkit.errors import BookGap, LabkitError
from labkit.market.order_book import OrderBook
from labkit.wire.rest_market import DepthSnapshot

FetchSnapshot = Callable[[str], Awaitable[DepthSnapshot]]
"""Brings the book of a symbol over REST, e.g. `BinanceClient.depth`."""

NOBODY = -1


class _Kept:
    def __init__(self, symbol: str) -> None:
        self.book = OrderBook(symbol)
        self.cause = "no change of the book has come yet"
        self.connection = NOBODY
        self.failures = 0
        self.known_since_ms: int | None = None
        self.last: DepthDiff | None = None
        self.fetching: asyncio.Task[None] | None = None


class DepthBooks:
    """The books of some symbols.

    Args:
        fetch: where snapshots come from.
        clock: market time.
        config: the back-off.
        on_change: called as `(symbol, usable, cause)` when a book becomes usable or ceases to be.
        seed: of the back-off's jitter.
    """

    def __init__(
        self,
        fetch: FetchSnapshot,
        *,
        clock: Clock,
        config: MonitorConfig,
        on_change: Callable[[str, bool, str], None],
        seed: int = 0,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._config = config
        self._on_change = on_change
        self._random = random.Random(seed)
        self._kept: dict[str, _Kept] = {}

    def keep(self, symbol: str) -> None:
        """Begin a book with the next change."""
        self._kept[symbol] = _Kept(symbol)

    def drop(self, symbol: str) -> None:
        """Keep this book no more."""
        kept = self._kept.pop(symbol, None)
        if kept is not None and kept.fetching is not None:
            kept.fetching.cancel()

    def take(self, diff: DepthDiff, connection: int) -> None:
        """Apply a change that came over `connection`."""
        kept = self._kept[diff.symbol]
        kept.connection, kept.last = connection, diff
        try:
            if kept.book.apply(diff):
                self._refuse_crossed(kept)
        except BookGap as gap:
            self._break(kept, str(gap))
        if not kept.book.is_synchronized and kept.fetching is None:
            task = asyncio.create_task(self._make(kept), name=f"order book of {diff.symbol}")
            kept.fetching = task
            task.add_done_callback(lambda done: self._made(kept, done))

    def lost(self, connection: int, cause: str) -> None:
        """What came after the last change over `connection` will not be heard."""
        for kept in self._kept.values():
            if kept.connection == connection and kept.book.is_synchronized:
                self._break(kept, cause)

    def book(self, symbol: str) -> OrderBook | None:
        """The book, complete as far as it has been told; None if it is not."""
        kept = self._kept.get(symbol)
        return kept.book if kept is not None and kept.book.is_synchronized else None

    def why_unusable(self, symbol: str, now_ms: int, stale_after_ms: int) -> str:
        """Why the book may not be used for a decision; empty if it may."""
        kept = self._kept.get(symbol)
        if kept is None:
            return "no book is kept"
        if not kept.book.is_synchronized or kept.last is None:
            return kept.cause
        heard_ms = min(kept.last.received_ns // 1_000_000, kept.last.event_time_ms)
        if now_ms - heard_ms > stale_after_ms:
            return f"book is {now_ms - heard_ms} ms old (limit {stale_after_ms})"
        return ""

    def stop(self) -> list[asyncio.Task[None]]:
        """Fetch nothing more, until changes come again; the tasks that are ending."""
        for kept in self._kept.values():
            kept.book.forget()
            kept.cause, kept.known_since_ms = "the monitor is stopped", None
        ending = [kept.fetching for kept in self._kept.values() if kept.fetching is not None]
        for task in ending:
            task.cancel()
        return ending

    # Inside.

    async def _make(self, kept: _Kept) -> None:
        """Fetch snapshots until one fits what has come since."""
        while not kept.book.is_synchronized:
            if kept.failures:
                bound_ms = min(self._config.backoff_cap_ms, self._config.backoff_first_ms * 2 ** (kept.failures - 1))
                await asyncio.sleep(self._random.uniform(0, bound_ms) / 1000)
            kept.failures = min(kept.failures + 1, 30)
            try:
                snapshot = await self._fetch(kept.book.symbol)
                kept.book.load_snapshot(snapshot.last_update_id, snapshot.bids, snapshot.asks)
                self._refuse_crossed(kept)
            except LabkitError as error:
                kept.cause = f"no book yet: {error}"
        kept.known_since_ms = self._clock.now_ms()
        self._on_change(kept.book.symbol, True, "")

    def _made(self, kept: _Kept, task: asyncio.Task[None]) -> None:
        kept.fetching = None
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug of ours or of whoever fetches: said aloud; the next change tries again.
            kept.cause = f"no book yet: internal error: {error!r}"
            context = {"message": "an order book could not be made", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)

    def _refuse_crossed(self, kept: _Kept) -> None:
        bid, ask = kept.book.best_bid(), kept.book.best_ask()
        if bid is not None and ask is not None and bid[0] >= ask[0]:
            kept.book.forget()
            raise BookGap(f"{kept.book.symbol}: bid {bid[0]} and ask {ask[0]} cross: changes were missed or untrue")

    def _break(self, kept: _Kept, cause: str) -> None:
        was_known, kept.cause = kept.known_since_ms is not None, cause
        if kept.known_since_ms is not None:
            # Only a book that lasted forgives earlier failures.
            lasted_ms = self._clock.now_ms() - kept.known_since_ms
            kept.failures = 0 if lasted_ms >= self._config.backoff_reset_after_ms else kept.failures
        kept.known_since_ms = None
        if kept.book.is_synchronized:
            kept.book.forget()
        if was_known:
            self._on_change(kept.book.symbol, False, cause)
