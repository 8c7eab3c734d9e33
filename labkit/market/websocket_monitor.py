"""WebSocketMonitor: live prices of the watched symbols, and whether they may be trusted right now.

It is the shell of `MarketSession`: it opens connections, reads frames, fills the `QuoteCache` and calls its listeners
in frame order, synchronously, on the loop it was started on. Prices are in quote asset, times in market milliseconds.
Everyone asks it for prices first. A bad frame is counted and dropped; a lost connection comes back by itself.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from functools import partial

import msgspec
import numpy as np
import numpy.typing as npt

from labkit.config import MonitorConfig
from labkit.domain.clock import Clock
from labkit.domain.market_events import INTERVAL_MS, Bar, DepthDiff, MarkPrice, PartialDepth, Quote, Trade
from labkit.domain.snapshot import StreamRow, SymbolRow
from labkit.edge.clocks import SystemClock
from labkit.edge.websocket import SocketStreams
from labkit.errors import ConfigError, RemoteProtocolError
from labkit.market.added_streams import AddedStreams, Use
from labkit.market.depth_books import DepthBooks, FetchSnapshot
from labkit.market.order_book import OrderBook
from labkit.market.quotes import QuoteCache
from labkit.market.session import Action, Close, Health, MarketSession, Open, Send
from labkit.wire.frames import Frames
from labkit.wire.streams import (
    ControlReply,
    ServerShutdown,
    Ticker,
    book_ticker_stream,
    decode_frame,
    kline_stream,
    mark_price_stream,
    mini_ticker_stream,
)
from labkit.wire.transport import ConnectionLost, HandshakeRefused, NotSent, StreamConnection, StreamTransport

PUBLIC_STREAMS = "wss://fstream.binance.com"
"""Where live market data of the real exchange comes from; needs no key."""
KEPT_BARS = 10
KEPT_HANDLINGS = 1_024
READS_PER_MEASUREMENT = 16
"""Asking the time again after every read would cost as much as the quote in it."""

BARRED = (403, 418, 429, 451)
"""HTTP answers to a handshake that mean: stay away. Anything else may be over in a moment."""

_KIND = {
    Quote: "bookTicker",
    MarkPrice: "markPrice",
    Bar: "kline",
    Ticker: "miniTicker",
    Trade: "trade",
    DepthDiff: "depth",
    PartialDepth: "partialDepth",
    ControlReply: "control",
    ServerShutdown: "serverShutdown",
}


class _Traffic(msgspec.Struct):
    """What went over the connections of one slot."""

    frames: int = 0
    rejected: int = 0


def _is_barred(error: Exception) -> bool:
    return isinstance(error, HandshakeRefused) and error.http_status in BARRED


def _median_and_p99(measured: npt.NDArray[np.int64]) -> tuple[float, float]:
    if not measured.size:
        return 0.0, 0.0
    places = [min(measured.size - 1, int(quantile * measured.size)) for quantile in (0.50, 0.99)]
    # Not sorted as a whole: a widget asks five times a second, on the loop that trades.
    parted = np.partition(measured, places)
    return float(parted[places[0]]), float(parted[places[1]])


def _no_listener(*_facts: object) -> None:
    """Nobody listens yet."""


class WebSocketMonitor:
    """Live quotes, mark prices and closed bars of `symbols`.

    `WebSocketMonitor(symbols)` alone listens to the public hosts of the real exchange.

    Args:
        symbols: e.g. `["BTCUSDT", "ETHUSDT"]`.
        streams: how connections are opened; sockets to the real exchange if None.
        clock: market time; the machine's if None.
        config: limits and scales.
        intervals: which closed candles are kept and told.
        fetch_snapshot: brings a whole order book, e.g. `BinanceClient.depth`; without it none is kept (`get_book`).
        seed: of the reconnection jitter.

    Raises:
        ConfigError: a symbol or an interval that cannot exist.
    """

    def __init__(
        self,
        symbols: Iterable[str],
        *,
        streams: StreamTransport | None = None,
        clock: Clock | None = None,
        config: MonitorConfig | None = None,
        intervals: Sequence[str] = ("1m",),
        fetch_snapshot: FetchSnapshot | None = None,
        seed: int = 0,
    ) -> None:
        for interval in intervals:
            if interval not in INTERVAL_MS:
                raise ConfigError(f"interval {interval!r}: must be one of {', '.join(INTERVAL_MS)}", field="intervals")
        self._transport = streams
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._config = config if config is not None else MonitorConfig()
        self._intervals = tuple(intervals)
        # Limits are meant in the time of life. Virtual time keeps every deadline exactly, so market time will do.
        speed = self._clock.speed
        self._speed = speed if math.isfinite(speed) else 1.0
        self._patience = max(1.0, self._speed)
        self._cache = QuoteCache(stale_after_ms=round(self._config.stale_after_ms * self._patience))
        self._session = MarketSession(self._config, patience=self._patience, seed=seed)
        self._symbols: dict[str, None] = {}
        self._bars: dict[tuple[str, str], dict[int, Bar]] = {}
        self._added = AddedStreams()
        self._levels: dict[str, PartialDepth] = {}
        self._books = fetch_snapshot and DepthBooks(
            fetch_snapshot, clock=self._clock, config=self._config, on_change=self._tell_book, seed=seed
        )
        self._stale: set[str] = set()
        self._listened_to: frozenset[str] | None = None
        self._handlings_ns: deque[int] = deque(maxlen=KEPT_HANDLINGS)
        self._reads = 0
        self._traffic: dict[str, _Traffic] = {}
        self._kinds_of_strict_frames: Counter[str] = Counter()
        self._connections: dict[int, StreamConnection] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._sends: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

        self.on_quote: Callable[[Quote], None] = _no_listener
        """Called with each accepted quote of the symbols that are listened to (see `listen_to`)."""
        self.on_mark: Callable[[MarkPrice], None] = _no_listener
        """Called with each accepted mark price."""
        self.on_bar: Callable[[Bar], None] = _no_listener
        """Called once with each closed bar."""
        self.on_trade: Callable[[Trade], None] = _no_listener
        """Called once with each trade of an added aggTrade stream."""
        self.on_depth: Callable[[DepthDiff], None] = _no_listener
        """Called once with each change of a book of an added depth stream; the book itself is changed by then."""
        self.on_partial_depth: Callable[[PartialDepth], None] = _no_listener
        """Called once with the best levels of each message of an added depth5, depth10 or depth20 stream."""
        self.on_health: Callable[[str, bool, str], None] = _no_listener
        """Called as `(what, healthy, cause)` when a connection, a symbol or a book turns good or bad."""
        self.add_symbols(symbols)

    # Life.

    async def start(self) -> None:
        """Begin to listen, on the running loop. Returns at once, whether or not the exchange can be reached."""
        if self._keeper is not None:
            return
        # An event belongs to one loop; a monitor may be stopped on one and started on another.
        self._wake = asyncio.Event()
        if self._transport is None:
            self._transport = SocketStreams(PUBLIC_STREAMS, open_timeout_ms=self._config.open_timeout_ms)
        self._perform(self._plan.add_streams(self._wanted_streams(self._symbols), self._clock.now_ms()))
        self._keeper = self._start_keeper()

    async def stop(self) -> None:
        """Close everything. The last prices stay readable and grow old."""
        if self._keeper is None:
            return
        keeper, self._keeper = self._keeper, None
        keeper.cancel()
        ended = [keeper, *self._tasks.values(), *self._sends, *(self._books.stop() if self._books else ())]
        self._perform(self._plan.shut_down())
        await asyncio.gather(*ended, return_exceptions=True)

    def add_symbols(self, symbols: Iterable[str]) -> None:
        """Watch these symbols too."""
        added = [symbol for symbol in dict.fromkeys(symbols) if symbol not in self._symbols]
        for symbol in added:
            if not symbol or symbol != symbol.upper() or not symbol.replace("_", "").isalnum():
                raise ConfigError(f"symbol {symbol!r}: must be upper case letters and digits", field="symbols")
        for symbol in added:
            self._symbols[symbol] = None
            self._stale.add(symbol)
            self._cache.add(symbol)
            self._cache.listen(symbol, self._listened_to is None or symbol in self._listened_to)
            self._bars |= {(symbol, interval): {} for interval in self._intervals}
        if self._keeper is not None:
            self._perform(self._plan.add_streams(self._wanted_streams(added), self._clock.now_ms()))

    def remove_symbols(self, symbols: Iterable[str]) -> None:
        """Watch these symbols no more; unknown ones are ignored."""
        removed = [symbol for symbol in symbols if symbol in self._symbols]
        self.remove_streams(self._added.of_symbols(removed))
        for symbol in removed:
            del self._symbols[symbol]
            self._stale.discard(symbol)
            self._cache.remove(symbol)
            for interval in self._intervals:
                del self._bars[symbol, interval]
        if self._keeper is not None:
            self._perform(self._plan.remove_streams(self._wanted_streams(removed), self._clock.now_ms()))

    def add_streams(self, streams: Iterable[str]) -> None:
        """Listen to more of watched symbols, e.g. `["btcusdt@aggTrade", "btcusdt@depth@100ms", "btcusdt@kline_5m"]`.

        Trades are told to `on_trade`, changes of a book to `on_depth`, its best levels (`btcusdt@depth20`) to
        `on_partial_depth`, closed candles to `on_bar`. Streams that are there already are ignored.

        Raises:
            ConfigError: an unknown kind of stream, a symbol that is not watched, or a second stream for the same use.
        """
        wanted = set(self._wanted_streams(self._symbols))
        added = self._added.add([stream for stream in streams if stream not in wanted], self._symbols)
        for symbol, use, interval in added.values():
            if use is Use.CANDLES:
                self._bars[symbol, interval] = {}
            elif use is Use.CHANGES and self._books:
                self._books.keep(symbol)
        if self._keeper is not None:
            self._perform(self._plan.add_streams(added, self._clock.now_ms()))

    def remove_streams(self, streams: Iterable[str]) -> None:
        """Drop streams that were added; others are ignored."""
        removed = []
        for stream in streams:
            if (added := self._added.remove(stream)) is None:
                continue
            removed.append(stream)
            symbol, use, interval = added
            if use is Use.CANDLES:
                del self._bars[symbol, interval]
            elif use is Use.LEVELS:
                self._levels.pop(symbol, None)
            elif use is Use.CHANGES and self._books:
                self._books.drop(symbol)
        if self._keeper is not None:
            self._perform(self._plan.remove_streams(removed, self._clock.now_ms()))

    def listen_to(self, symbols: Iterable[str]) -> None:
        """Call `on_quote` for these symbols only, watched already or not; at first it is called for all.

        Of all other symbols only the latest quote is kept, which costs a small part of telling each.
        """
        listened_to = frozenset(symbols)
        if listened_to == self._listened_to:
            return
        self._listened_to = listened_to
        for symbol in self._symbols:
            self._cache.listen(symbol, symbol in listened_to)

    # Prices.

    @property
    def symbols(self) -> tuple[str, ...]:
        """The watched symbols, in the order they were added."""
        return tuple(self._symbols)

    def get_price(self, symbol: str) -> Decimal | None:
        """The best ask, however old; None before the first quote. To decide on it, use `fresh_quote`."""
        quote = self._cache.quote(symbol)
        return quote.ask_price if quote else None

    def get_quote(self, symbol: str) -> Quote | None:
        """Best bid and ask, however old; None before the first quote."""
        return self._cache.quote(symbol)

    def get_mark_price(self, symbol: str) -> MarkPrice | None:
        """Mark price and funding, however old; None before the first one."""
        return self._cache.mark_price(symbol)

    def get_liquidity_score(self, symbol: str) -> float:
        """Displayed quantity at the best prices over `liquidity_scale`, from 0 (no quote) to 1."""
        quote = self._cache.quote(symbol)
        if quote is None:
            return 0.0
        return min(1.0, float(quote.bid_quantity + quote.ask_quantity) / self._config.liquidity_scale)

    def fresh_quote(self, symbol: str) -> Quote | None:
        """The quote if it may be used for a decision; `why_stale` tells why not."""
        return self._cache.fresh_quote(symbol, self._clock.now_ms())

    def fresh_mark_price(self, symbol: str) -> MarkPrice | None:
        """The mark price if it is young enough to decide on."""
        return self._cache.fresh_mark_price(symbol, self._clock.now_ms())

    def quote_age_ms(self, symbol: str) -> int | None:
        """Market milliseconds since the quote was true; None before the first one."""
        return self._cache.quote_age_ms(symbol, self._clock.now_ms())

    def why_stale(self, symbol: str) -> str:
        """Why the quote may not be used for a decision; empty if it may."""
        cause = self._cache.why_stale(symbol, self._clock.now_ms())
        if cause and self._cache.quote(symbol) is None:
            trouble = self._plan.trouble_with(book_ticker_stream(symbol))
            return f"{cause}: {trouble}" if trouble else cause
        return cause

    def get_book(self, symbol: str) -> OrderBook | None:
        """The whole book of an added depth stream, however old; None while it is not complete."""
        return self._books.book(symbol) if self._books else None

    def fresh_book(self, symbol: str) -> OrderBook | None:
        """The book if it may be used for a decision; `why_book_unusable` tells why not."""
        return None if self.why_book_unusable(symbol) else self.get_book(symbol)

    def why_book_unusable(self, symbol: str) -> str:
        """Why the book may not be used for a decision; empty if it may."""
        if self._books is None:
            return "no book is kept: the monitor was given nothing to fetch snapshots with"
        return self._books.why_unusable(symbol, self._clock.now_ms(), self._cache.stale_after_ms)

    def get_partial_depth(self, symbol: str) -> PartialDepth | None:
        """The newest message of an added depth5, depth10 or depth20 stream, however old."""
        return self._levels.get(symbol)

    def change_24h(self, symbol: str) -> float | None:
        """Price change over 24 hours as a fraction: 0.01 is +1 %."""
        ticker = self._cache.ticker(symbol)
        return float(ticker.last_price / ticker.open_price) - 1.0 if ticker else None

    def last_closed_bar(self, symbol: str, interval: str = "1m") -> Bar | None:
        """The newest closed bar heard of."""
        bars = self._bars.get((symbol, interval))
        return bars[max(bars)] if bars else None

    def bar_at(self, symbol: str, open_time_ms: int, interval: str = "1m") -> Bar | None:
        """The closed bar that opened at `open_time_ms`, if it is among the last ones heard of."""
        return self._bars.get((symbol, interval), {}).get(open_time_ms)

    # Health.

    @property
    def frames(self) -> int:
        """All frames received, unreadable ones included."""
        return sum(traffic.frames for traffic in self._traffic.values())

    @property
    def frames_by_stream_type(self) -> Counter[str]:
        """The same by what they were, `unreadable` ones included."""
        return self._kinds_of_strict_frames + Counter(bookTicker=self._cache.lane.taken)

    @property
    def rejected(self) -> Counter[str]:
        """How many frames or facts were dropped, by reason."""
        return self._cache.rejected

    @property
    def reconnects(self) -> int:
        """How often a connection had to be replaced because of a fault (rotations do not count)."""
        return self._session.reconnects

    @property
    def latency_ms(self) -> tuple[float, float]:
        """Median and 99th percentile of receive time minus exchange time of recent quotes, in market milliseconds.

        0 before the first.
        """
        return _median_and_p99(self._cache.lane.latencies_ms())

    @property
    def handling_ms(self) -> tuple[float, float]:
        """The same of how long a read of frames took from our socket into the cache, listeners included."""
        median_ns, p99_ns = _median_and_p99(np.fromiter(self._handlings_ns, np.int64, len(self._handlings_ns)))
        return median_ns / 1e6, p99_ns / 1e6

    def symbol_rows(self) -> tuple[SymbolRow, ...]:
        """All watched symbols, for showing."""
        return tuple(self._symbol_row(symbol) for symbol in self._symbols)

    def streams_status(self) -> tuple[StreamRow, ...]:
        """All connections, for showing."""
        rows = []
        for slot in self._plan.status(self._clock.now_ms()):
            traffic = self._traffic.get(slot.slot) or _Traffic()
            rows.append(
                StreamRow(
                    name=slot.slot,
                    state=slot.state,
                    frames=traffic.frames,
                    reconnects=slot.reconnects,
                    rejected=traffic.rejected,
                    age_ms=slot.age_ms,
                    cause=slot.cause,
                )
            )
        return tuple(rows)

    def _symbol_row(self, symbol: str) -> SymbolRow:
        quote = self._cache.quote(symbol)
        mark = self._cache.mark_price(symbol)
        return SymbolRow(
            symbol=symbol,
            bid_price=quote.bid_price if quote else None,
            bid_quantity=quote.bid_quantity if quote else None,
            ask_price=quote.ask_price if quote else None,
            ask_quantity=quote.ask_quantity if quote else None,
            mark_price=mark.mark_price if mark else None,
            funding_rate=mark.funding_rate if mark else None,
            next_funding_time_ms=mark.next_funding_time_ms if mark else None,
            change_24h=self.change_24h(symbol),
            liquidity_score=self.get_liquidity_score(symbol),
            age_ms=self.quote_age_ms(symbol),
            stale_because=self.why_stale(symbol),
        )

    # Carrying out what the session plans.

    @property
    def _plan(self) -> MarketSession:
        """The session, told first what the lane has heard: over a settled connection only times can come of that."""
        for number, stream, heard_ms in self._cache.lane.heard():
            self._session.data(number, stream, heard_ms)
        return self._session

    def _wanted_streams(self, symbols: Collection[str]) -> list[str]:
        return [
            stream
            for symbol in symbols
            for stream in (
                book_ticker_stream(symbol),
                mark_price_stream(symbol),
                *(kline_stream(symbol, interval) for interval in self._intervals),
                mini_ticker_stream(symbol),
            )
        ] + self._added.of_symbols(symbols)

    def _perform(self, actions: list[Action]) -> None:
        if any(not isinstance(action, Send) for action in actions):
            # Connections change: until that is settled, every quote takes the strict way and is told to the session.
            self._cache.lane.leave_all()
        for action in actions:
            if isinstance(action, Open):
                task = asyncio.create_task(self._read(action), name=f"market stream {action.slot}")
                self._tasks[action.connection] = task
                task.add_done_callback(partial(self._reader_ended, action.connection))
            elif isinstance(action, Send):
                sending = asyncio.create_task(self._send(action), name="market stream control message")
                self._sends.add(sending)
                sending.add_done_callback(self._sends.discard)
            elif isinstance(action, Close):
                self._cache.end_epoch(action.connection, "" if self._keeper else "the monitor is stopped")
                if (task_to_end := self._tasks.pop(action.connection, None)) is not None:
                    task_to_end.cancel()
            else:
                self._tell_health(action)
        if actions:
            self._wake.set()

    def _tell_health(self, health: Health) -> None:
        self.on_health(health.slot, health.healthy, health.cause)

    async def _read(self, opening: Open) -> None:
        assert self._transport is not None
        number = opening.connection
        traffic = self._traffic.setdefault(opening.slot, _Traffic())
        try:
            connection = await self._transport.open(opening.path_and_query)
        except (NotSent, ConnectionLost) as error:
            self._lose(number, f"cannot connect: {error}", refused=_is_barred(error))
            return
        self._connections[number] = connection
        try:
            self._perform(self._plan.opened(number, self._clock.now_ms()))
            await connection.pump(partial(self._take_frames, number, traffic))
        except ConnectionLost as error:
            self._lose(number, f"connection lost: {error}")
        finally:
            del self._connections[number]
            await connection.close()

    async def _send(self, action: Send) -> None:
        connection = self._connections.get(action.connection)
        if connection is None:
            return
        try:
            await connection.send(action.text)
        except (NotSent, ConnectionLost) as error:
            self._lose(action.connection, f"connection lost: {error}")

    def _lose(self, number: int, cause: str, *, refused: bool = False) -> None:
        self._cache.end_epoch(number, cause)
        if self._books:
            self._books.lost(number, cause)
        now_ms = self._clock.now_ms()
        self._perform(self._plan.lost(number, cause, now_ms, refused=refused))
        # Nothing to do now, but a retry to wait for: the keeper would sleep as long as this attempt might have taken.
        self._wake.set()
        self._tell_stale_symbols(now_ms)

    def _reader_ended(self, number: int, task: asyncio.Task[None]) -> None:
        self._tasks.pop(number, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug of ours or of a listener: said aloud, and survived by connecting anew.
            self._report_bug("a market stream reader failed", error, task)
            self._lose(number, f"internal error: {error!r}")

    def _report_bug(self, message: str, error: BaseException, task: asyncio.Task[None]) -> None:
        context = {"message": message, "exception": error, "task": task}
        task.get_loop().call_exception_handler(context)

    # Keeping time.

    def _start_keeper(self) -> asyncio.Task[None]:
        keeper = asyncio.create_task(self._keep(), name="market stream keeper")
        keeper.add_done_callback(self._keeper_ended)
        return keeper

    def _keeper_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report_bug("the market stream keeper failed", error, task)
            task.get_loop().call_later(self._config.backoff_first_ms / 1000, self._restart_keeper)

    def _restart_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper = self._start_keeper()

    async def _keep(self) -> None:
        """Do what becomes due, and notice what turns stale."""
        while True:
            self._wake.clear()
            now_ms = self._clock.now_ms()
            self._perform(self._plan.due(now_ms))
            self._tell_stale_symbols(now_ms)
            deadline_ms = self._next_deadline_ms(now_ms)
            wait_ms = None if deadline_ms is None else max(deadline_ms - self._clock.now_ms(), self._patience)
            try:
                async with asyncio.timeout(None if wait_ms is None else wait_ms / 1000 / self._speed):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _next_deadline_ms(self, now_ms: int) -> int | None:
        deadlines = [
            now_ms + self._cache.stale_after_ms + 1 - age_ms
            for symbol in self._symbols
            if symbol not in self._stale and (age_ms := self._cache.quote_age_ms(symbol, now_ms)) is not None
        ]
        if (planned_ms := self._plan.next_deadline_ms()) is not None:
            deadlines.append(planned_ms)
        return min(deadlines, default=None)

    def _tell_stale_symbols(self, now_ms: int) -> None:
        for symbol in [symbol for symbol in self._symbols if symbol not in self._stale]:
            if cause := self._cache.why_stale(symbol, now_ms):
                self._stale.add(symbol)
                self._cache.leave(symbol)
                self.on_health(symbol, False, cause)

    # Frames.

    def _take_frames(self, number: int, traffic: _Traffic, frames: Frames) -> None:
        """All frames of one read: ordinary quotes by the lane, whatever it leaves by the strict way, in order."""
        received_ns = self._clock.now_ns()
        is_told = self.on_quote is not _no_listener
        end = self._cache.lane.take(frames, 0, number, received_ns, is_told)
        if end == frames.count:
            traffic.frames += end
        else:
            self._take_one_by_one(number, traffic, frames, end, received_ns, is_told)
        self._reads += 1
        if self._reads % READS_PER_MEASUREMENT == 0:
            self._handlings_ns.append(self._clock.now_ns() - received_ns)

    def _take_one_by_one(
        self, number: int, traffic: _Traffic, frames: Frames, end: int, received_ns: int, is_told: bool
    ) -> None:
        """The rest of a read, up to `end` of which the lane came; a listener sees each quote at its own moment."""
        lane, at = self._cache.lane, 0
        while True:
            traffic.frames += abs(end) - at
            at = abs(end)
            if end < 0:
                quote = self._cache.quote(lane.waited_for())
                assert quote is not None
                self.on_quote(quote)
                lane_may_take = True
            elif at < frames.count:
                # Where no quotes come, the lane is not asked again for every frame.
                lane_may_take = self._take_frame(number, frames.frame(at), received_ns, traffic)
                at += 1
            # A listener may have ended this very connection.
            if at == frames.count or number not in self._tasks:
                return
            end = lane.take(frames, at, number, received_ns, is_told) if lane_may_take else at

    def _take_frame(self, number: int, frame: bytes, received_ns: int, traffic: _Traffic) -> bool:
        """One frame by the strict way; True if it was a quote."""
        traffic.frames += 1
        cache = self._cache
        refused = cache.refused
        try:
            fact = decode_frame(frame, received_ns)
        except RemoteProtocolError:
            self._kinds_of_strict_frames["unreadable"] += 1
            traffic.rejected += 1
            cache.refuse("unreadable frame")
            return False
        self._kinds_of_strict_frames[_KIND[type(fact)]] += 1
        now_ms = received_ns // 1_000_000
        # What came too late proves a backlog, not a living connection: it must not keep the connection in its place.
        told_ms = now_ms
        if isinstance(fact, Quote):
            stream, told_ms = book_ticker_stream(fact.symbol), fact.event_time_ms
            if cache.accept_quote(fact, number):
                cache.lane.note_latency(now_ms - fact.event_time_ms)
                self._tell_fresh_symbol(fact.symbol, now_ms)
                if self._listened_to is None or fact.symbol in self._listened_to:
                    self.on_quote(fact)
        elif isinstance(fact, MarkPrice):
            stream, told_ms = mark_price_stream(fact.symbol), fact.event_time_ms
            if cache.accept_mark_price(fact):
                self.on_mark(fact)
        elif isinstance(fact, Bar):
            stream, told_ms = kline_stream(fact.symbol, fact.interval), fact.close_time_ms
            self._take_bar(fact)
        elif isinstance(fact, Ticker):
            stream, told_ms = mini_ticker_stream(fact.symbol), fact.event_time_ms
            cache.accept_ticker(fact)
        elif isinstance(fact, Trade | DepthDiff | PartialDepth):
            stream, told_ms = "", fact.event_time_ms
            self._take_added(fact, number)
        elif isinstance(fact, ServerShutdown):
            self._perform(self._plan.leaving(number, now_ms))
            return False
        elif isinstance(fact, ControlReply):
            self._perform(self._plan.answered(number, fact, now_ms))
            return False
        else:
            stream = ""
            cache.refuse("unasked stream")
        if cache.refused != refused:
            traffic.rejected += 1
        elif now_ms - told_ms <= cache.stale_after_ms:
            self._perform(self._plan.data(number, stream, now_ms))
            if isinstance(fact, Quote) and fact.symbol not in self._stale and self._session.is_settled(number):
                cache.follow(fact.symbol, number)
        return isinstance(fact, Quote)

    def _take_added(self, fact: Trade | DepthDiff | PartialDepth, number: int) -> None:
        is_told, refused_because = self._added.judge(fact, number, self._tasks)
        if refused_because:
            self._cache.refuse(refused_because)
        elif not is_told:
            return
        elif isinstance(fact, Trade):
            self.on_trade(fact)
        elif isinstance(fact, DepthDiff):
            if self._books:
                self._books.take(fact, number)
            self.on_depth(fact)
        else:
            self._levels[fact.symbol] = fact
            self.on_partial_depth(fact)

    def _tell_book(self, symbol: str, is_usable: bool, cause: str) -> None:
        self.on_health(f"{symbol} book", is_usable, cause)

    def _take_bar(self, bar: Bar) -> None:
        bars = self._bars.get((bar.symbol, bar.interval))
        if bars is None:
            self._cache.refuse("unasked symbol")
            return
        length_ms = INTERVAL_MS[bar.interval]
        if (
            bar.low <= 0
            or not bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
            or bar.volume < 0
            or bar.open_time_ms % length_ms
            or bar.close_time_ms != bar.open_time_ms + length_ms - 1
        ):
            self._cache.refuse("impossible bar")
            return
        # Only what is final may be learned from; overlapping connections tell the same bar twice.
        if not bar.closed or bar.open_time_ms in bars:
            return
        bars[bar.open_time_ms] = bar
        if len(bars) > KEPT_BARS:
            del bars[min(bars)]
        self.on_bar(bar)

    def _tell_fresh_symbol(self, symbol: str, now_ms: int) -> None:
        if symbol in self._stale and not self._cache.why_stale(symbol, now_ms):
            self._stale.discard(symbol)
            self.on_health(symbol, True, "")
