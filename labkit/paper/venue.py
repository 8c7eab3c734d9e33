"""Venue: the paper exchange without its sockets. Lives through a market, keeps the account, answers bytes with bytes.

Everything here is a plain function of market events, requests and times; nothing reads a clock. `advance` consumes the
source up to a moment, `handle` answers one HTTP request, `open_stream` gives a session whose frames a shell carries
away (`labkit.paper.server`, `labkit.paper.in_process`). Once a second of market time the venue does what falls due:
candles, marks the market does not tell, funding, tickers. What changes the account is durable in the journal before
its answer or its frames leave. Times in UTC milliseconds of the market.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Decimal

from labkit.config import PaperConfig
from labkit.domain.clock import HOUR_MS, MINUTE_MS, SECOND_MS
from labkit.domain.market_events import INTERVAL_MS, Bar, DepthDiff, MarkPrice, Quote, Trade
from labkit.domain.orders import OrderStatus, OrderType
from labkit.domain.position import ZERO
from labkit.domain.symbol_rules import MARGIN_ASSET
from labkit.errors import ListenKeyGone
from labkit.paper.market_board import SettledFunding, SymbolBoard, combine, depth_diff_between
from labkit.paper.market_source import MarketSource, SourceEvent
from labkit.paper.order_desk import OrderDesk
from labkit.paper.rest_routes import RestRoutes
from labkit.paper.stream_sessions import StreamHub, StreamSession
from labkit.paper.venue_records import (
    Deposited,
    FundingSettled,
    JournalEntry,
    LeverageSet,
    MarginTypeSet,
    MarketReached,
    OrderAccepted,
    OrderEnded,
    OrderFilled,
    PositionLiquidated,
    VenueJournal,
    VenueRecord,
    from_entry,
    to_entry,
)
from labkit.paper.weather import admin, turns
from labkit.paper.weather.policy import Weather
from labkit.paper.weather.script import Script
from labkit.wire.signing import require_verifiable
from labkit.wire.streams import (
    Ticker,
    agg_trade_stream,
    book_ticker_stream,
    depth_stream,
    encode_agg_trade,
    encode_book_ticker,
    encode_depth,
    encode_kline,
    encode_mark_price,
    encode_mini_ticker,
    encode_ticker,
    encode_trade,
    kline_stream,
    mark_price_stream,
    mini_ticker_stream,
    ticker_stream,
    trade_stream,
)
from labkit.wire.transport import HttpRequest, HttpResponse
from labkit.wire.user_data import (
    AccountConfigUpdate,
    AccountUpdate,
    BalanceChange,
    ListenKeyExpired,
    OrderTradeUpdate,
    PositionChange,
    encode_account_config_update,
    encode_account_update,
    encode_listen_key_expired,
    encode_order_trade_update,
)

LISTEN_KEY_LIFE_MS = HOUR_MS
RELIVED_MS = 2 * HOUR_MS
"""After a restart so much of the market is looked at again, so that candles and marks are there."""
DEPTH_SPEEDS = ("", "100ms", "500ms", "0ms")
"""A recording has the unthrottled diffs only; they are served under every name."""
_EXECUTION_TYPE = {
    OrderStatus.CANCELED: "CANCELED",
    OrderStatus.EXPIRED: "EXPIRED",
    OrderStatus.EXPIRED_IN_MATCH: "EXPIRED",
}


class Venue:
    """One exchange with one account.

    Args:
        source: the market it lives through.
        config: opening balance, fees, margin mode.
        api_key: the one key that is let in.
        api_secret: what its requests are signed with: an HMAC secret, or the public half of an RSA or Ed25519 pair
            as PEM, as one registers it at an exchange.
        journal: where the account survives; None forgets it with the process. An account found there goes on: its
            market continues after the last moment written.
        weather: the faults it will have, beginning `config.weather_after_seconds` after its start.
        patience: how many times as fast as life the market runs, at least 1: weather is told in the time of life.
    """

    def __init__(
        self,
        source: MarketSource,
        config: PaperConfig,
        *,
        api_key: str,
        api_secret: str,
        journal: VenueJournal | None = None,
        weather: Script | None = None,
        patience: float = 1.0,
    ) -> None:
        self.source = source
        self.config = config
        require_verifiable(api_secret)
        self.api_key = api_key
        self.api_secret = api_secret
        self.weather = Weather(patience)
        """The faults this venue has; fair until told otherwise."""
        self.hub = StreamHub(self.weather)
        self.boards = {symbol: SymbolBoard(source, symbol) for symbol in source.symbols}
        self._journal = journal
        self._records = 0
        self._unwritten: list[JournalEntry] = []
        self._untold: list[tuple[str, bytes]] = []
        rules, brackets = source.rules(), source.brackets()
        self._rules = {symbol: rules[symbol] for symbol in source.symbols}
        self._brackets = {symbol: brackets[symbol] for symbol in source.symbols}
        self.unlisted: frozenset[str] = frozenset()
        """Symbols the exchange says nothing of any more."""
        self.desk = OrderDesk(self._rules, self._brackets, config, self._on_record)
        self._listen_key = ""
        self._listen_key_until_ms = 0
        self._listen_keys_made = 0
        self._streams = {symbol: _StreamNames(symbol) for symbol in source.symbols}
        self._rest = RestRoutes(self)
        self.start_ms = self._restore()
        """The first moment this venue lives through: of the market, or after what its journal remembers."""
        self.now_ms = self.start_ms
        self._next_tick_ms = -(-self.start_ms // SECOND_MS) * SECOND_MS
        self._events: Iterator[SourceEvent] = source.events(self.start_ms)
        self._pending = next(self._events, None)
        if weather is not None:
            self.weather.begin(weather, self.start_ms, after_ms=round(config.weather_after_seconds * SECOND_MS))
        if not self.desk.income:
            self.desk.deposit(config.opening_balance, self.start_ms)
            self._finish_step()

    # Time

    def next_event_ms(self) -> int | None:
        """When `advance` will next have something to do, or None once the market is over."""
        if self._pending is None:
            end_ms = self.source.end_ms
            return self._next_tick_ms if end_ms is None or self._next_tick_ms <= end_ms else None
        return min(self._pending.time_ms, self._next_tick_ms)

    def advance(self, now_ms: int) -> None:
        """Live through everything the market does until `now_ms`, in order of time; then through the weather."""
        self.weather.now_ms = now_ms
        if self._pending is None:
            # A live market may have gone on.
            self._pending = next(self._events, None)
        while True:
            pending = self._pending
            if pending is None or self._next_tick_ms <= pending.time_ms:
                if self._next_tick_ms > now_ms or (pending is None and self.next_event_ms() is None):
                    break
                self.now_ms = self._next_tick_ms
                self._next_tick_ms += SECOND_MS
                self._tick(self.now_ms)
            else:
                if pending.time_ms > now_ms:
                    break
                self.now_ms = max(self.now_ms, pending.time_ms)
                self._pending = next(self._events, None)
                self._on_event(pending)
        self.now_ms = max(self.now_ms, now_ms)
        if self.weather.stirring:
            for turn in self.weather.turns(now_ms):
                turns.carry_out(self, turn, now_ms)
        self._finish_step()

    # Bytes

    def handle(self, request: HttpRequest, now_ms: int, *, received_ms: int | None = None) -> HttpResponse:
        """Answer one HTTP request that arrived at `now_ms`; the market is lived through up to then first.

        A request that was let in earlier, at `received_ms`, is not too old now.
        """
        self.advance(now_ms)
        if request.path.startswith(admin.PREFIX):
            return admin.answer(self, request, now_ms)
        response = self._rest.handle(request, now_ms, received_ms=now_ms if received_ms is None else received_ms)
        self._finish_step()
        return response

    def open_stream(self, path_and_query: str, now_ms: int) -> StreamSession:
        """Open a stream session. Raises `RemoteProtocolError` for a path without streams."""
        return self.hub.open(path_and_query, now_ms)

    def close(self) -> None:
        """Write down how far the market was lived through, and end all sessions."""
        self._write(self.desk.reached(self.now_ms))
        self._finish_step()
        for session in self.hub.sessions:
            session.close("the exchange shuts down")

    # Listen keys

    def create_listen_key(self, now_ms: int) -> str:
        """The account's user-stream key: the living one, renewed, or a new one."""
        if not self._is_listen_key_alive(now_ms):
            self._listen_keys_made += 1
            seed = f"listen key {self._listen_keys_made} {now_ms} {self.api_key} {self.api_secret}"
            self._listen_key = hashlib.sha256(seed.encode()).hexdigest()
        self._listen_key_until_ms = now_ms + LISTEN_KEY_LIFE_MS
        return self._listen_key

    def renew_listen_key(self, now_ms: int) -> str:
        """Raises `ListenKeyGone` if none lives."""
        if not self._is_listen_key_alive(now_ms):
            raise ListenKeyGone("This listenKey does not exist.", code=-1125, http_status=400)
        self._listen_key_until_ms = now_ms + LISTEN_KEY_LIFE_MS
        return self._listen_key

    def close_listen_key(self) -> None:
        self._listen_key = ""

    def expire_listen_key(self, now_ms: int) -> None:
        """The key's life is over; its listeners are told."""
        expired = ListenKeyExpired(listen_key=self._listen_key, event_time_ms=now_ms)
        self.hub.publish_user(self._listen_key, "listenKeyExpired", encode_listen_key_expired(expired))
        self._listen_key = ""

    # Listings

    def list_anew(self) -> None:
        """Take over what the weather does to the listings: rules, brackets, and which symbols there are."""
        self.desk.rules = turns.rules_now(self.weather, self._rules)
        self.desk.brackets = turns.brackets_now(self.weather, self._brackets)
        self.unlisted = turns.unlisted_now(self.weather)

    def _is_listen_key_alive(self, now_ms: int) -> bool:
        return bool(self._listen_key) and now_ms < self._listen_key_until_ms

    # What the market does

    def _on_event(self, event: SourceEvent) -> None:
        fact = event.fact
        board = self.boards[fact.symbol]
        names = self._streams[fact.symbol]
        match fact:
            case Quote():
                previous = board.quote
                board.on_quote(fact, event.time_ms)
                if self.hub.wants(names.book_ticker):
                    self.hub.publish(names.book_ticker, event.frame or encode_book_ticker(fact))
                if previous is not None and not board.has_depth and fact.update_id > previous.update_id:
                    self._publish_depth(names, depth_diff_between(previous, fact), b"")
                self.desk.on_quote(fact, event.time_ms)
            case Trade():
                board.on_trade(fact, event.time_ms)
                if event.stream.endswith("@aggTrade"):
                    if self.hub.wants(names.agg_trade):
                        self.hub.publish(names.agg_trade, event.frame or encode_agg_trade(fact))
                else:
                    if self.hub.wants(names.trade):
                        self.hub.publish(names.trade, event.frame or encode_trade(fact))
                    if self.hub.wants(names.agg_trade):
                        # A market of single prints: each is an aggregate of its own.
                        self.hub.publish(names.agg_trade, encode_agg_trade(fact))
                self.desk.on_trade(fact, event.time_ms)
            case MarkPrice():
                mark = turns.mark_now(self.weather, fact)
                board.on_mark(mark)
                self._publish_mark(names, mark, event.frame if mark is fact else b"")
                self.desk.on_mark(mark, event.time_ms)
            case DepthDiff():
                board.on_depth(fact)
                self._publish_depth(names, fact, event.frame)
            case Bar():
                board.on_bar(fact)
                self._publish_closed_bars(board, fact.close_time_ms + 1, event.time_ms)

    def _tick(self, now_ms: int) -> None:
        """What falls due at a full second, before anything the market does in the same millisecond."""
        on_the_minute = now_ms % MINUTE_MS == 0
        for symbol, board in self.boards.items():
            if on_the_minute:
                self._close_minute(board, now_ms)
            mark = board.mark
            if mark is not None and 0 < mark.next_funding_time_ms <= now_ms:
                self._settle_funding(board, mark, now_ms)
            own_mark = board.own_mark(now_ms)
            if own_mark is not None:
                own_mark = board.mark = turns.mark_now(self.weather, own_mark)
                self._publish_mark(self._streams[symbol], own_mark, b"")
                self.desk.on_mark(own_mark, now_ms)
            if board.changed:
                self._publish_running_bars(board, now_ms)
            if now_ms % (2 * SECOND_MS) == 0:
                self._publish_tickers(board, now_ms)
        if self._listen_key and now_ms >= self._listen_key_until_ms:
            self.expire_listen_key(now_ms)
        if on_the_minute:
            self.hub.close_old(now_ms)
            self._write(self.desk.reached(now_ms))

    def _settle_funding(self, board: SymbolBoard, mark: MarkPrice, now_ms: int) -> None:
        if board.funding and board.funding[-1].funding_time_ms >= mark.next_funding_time_ms:
            return
        board.funding.append(
            SettledFunding(board.symbol, mark.next_funding_time_ms, mark.funding_rate, mark.mark_price)
        )
        self.desk.settle_funding(mark, now_ms)

    # Market streams

    def _publish_mark(self, names: _StreamNames, mark: MarkPrice, frame: bytes) -> None:
        slow = mark.event_time_ms // SECOND_MS % 3 == 0 and self.hub.wants(names.mark_slow)
        if slow or self.hub.wants(names.mark):
            data = frame or encode_mark_price(mark)
            self.hub.publish(names.mark, data)
            if slow:
                self.hub.publish(names.mark_slow, data)

    def _publish_depth(self, names: _StreamNames, diff: DepthDiff, frame: bytes) -> None:
        for name in names.depths:
            if self.hub.wants(name):
                self.hub.publish(name, frame or encode_depth(diff))

    def _close_minute(self, board: SymbolBoard, now_ms: int) -> None:
        if board.close_minute(now_ms) is not None:
            self._publish_closed_bars(board, now_ms, now_ms)

    def _publish_closed_bars(self, board: SymbolBoard, end_ms: int, now_ms: int) -> None:
        """The candles of every interval that ended with the minute before `end_ms`."""
        for interval, name in self._streams[board.symbol].klines:
            if not self.hub.wants(name) or end_ms % INTERVAL_MS[interval]:
                continue
            length = INTERVAL_MS[interval]
            for each in combine(board.minutes(end_ms - length, end_ms), interval):
                self.hub.publish(name, encode_kline(each, now_ms))

    def _publish_running_bars(self, board: SymbolBoard, now_ms: int) -> None:
        board.changed = False
        for interval, name in self._streams[board.symbol].klines:
            if self.hub.wants(name):
                start_ms = now_ms // INTERVAL_MS[interval] * INTERVAL_MS[interval]
                for bar in combine(board.minutes(start_ms, now_ms + 1), interval)[-1:]:
                    self.hub.publish(name, encode_kline(bar, now_ms))

    def _publish_tickers(self, board: SymbolBoard, now_ms: int) -> None:
        names = self._streams[board.symbol]
        if not self.hub.wants(names.mini_ticker) and not self.hub.wants(names.ticker):
            return
        day = board.day(now_ms)
        if day is None:
            return
        if self.hub.wants(names.ticker):
            self.hub.publish(names.ticker, encode_ticker(day, now_ms))
        if self.hub.wants(names.mini_ticker):
            mini = Ticker(
                symbol=day.symbol,
                last_price=day.last_price,
                open_price=day.open_price,
                high_price=day.high_price,
                low_price=day.low_price,
                volume=day.volume,
                quote_volume=day.quote_volume,
                event_time_ms=now_ms,
            )
            self.hub.publish(names.mini_ticker, encode_mini_ticker(mini))

    # The account's own stream and journal

    def _on_record(self, record: VenueRecord) -> None:
        """A record was applied: it will be written and told when the step is finished."""
        self._write(record)
        match record:
            case OrderAccepted():
                self._tell_order(record.order.order_id, "NEW", record.time_ms)
            case OrderFilled():
                self._tell_account("ORDER", (record.fill.symbol,), record.time_ms)
                entry = self.desk.orders[record.fill.order_id]
                forced = entry.order.order_type is OrderType.LIQUIDATION
                update = OrderTradeUpdate(
                    order=entry.order,
                    fill=record.fill,
                    execution_type="CALCULATED" if forced else "TRADE",
                    event_time_ms=record.time_ms,
                    transaction_time_ms=record.time_ms,
                )
                self._tell("ORDER_TRADE_UPDATE", encode_order_trade_update(update))
            case OrderEnded():
                self._tell_order(record.order_id, _EXECUTION_TYPE[record.status], record.time_ms)
            case FundingSettled():
                isolated = self.desk.account.holdings[record.symbol].isolated
                self._tell_account(
                    "FUNDING_FEE",
                    (record.symbol,) if isolated else (),
                    record.time_ms,
                    change=record.amount,
                    symbol=record.symbol,
                )
            case PositionLiquidated():
                self._tell_account("INSURANCE_CLEAR", (), record.time_ms, change=record.insurance - record.fee)
            case Deposited():
                self._tell_account("DEPOSIT", (), record.time_ms, change=record.amount)
            case MarginTypeSet():
                self._tell_account("MARGIN_TYPE_CHANGE", (record.symbol,), record.time_ms)
            case LeverageSet():
                config = AccountConfigUpdate(
                    symbol=record.symbol, leverage=record.leverage, event_time_ms=record.time_ms
                )
                self._tell("ACCOUNT_CONFIG_UPDATE", encode_account_config_update(config))
            case MarketReached():
                pass

    def _write(self, record: VenueRecord) -> None:
        if self._journal is not None:
            self._records += 1
            self._unwritten.append(to_entry(record, self._records))

    def _tell_order(self, order_id: int, execution_type: str, now_ms: int) -> None:
        entry = self.desk.orders[order_id]
        update = OrderTradeUpdate(
            order=entry.order,
            fill=None,
            execution_type=execution_type,
            event_time_ms=now_ms,
            transaction_time_ms=now_ms,
            expiry_reason=str(int(entry.expiry_reason)),
        )
        self._tell("ORDER_TRADE_UPDATE", encode_order_trade_update(update))

    def _tell_account(
        self, reason: str, symbols: tuple[str, ...], now_ms: int, *, change: Decimal = ZERO, symbol: str = ""
    ) -> None:
        account = self.desk.account
        positions = []
        for each in symbols:
            holding = account.holdings[each]
            mark_price = self.desk.marks.get(each, ZERO)
            positions.append(
                PositionChange(
                    symbol=each,
                    quantity=holding.position.quantity,
                    entry_price=holding.position.entry_price,
                    unrealized_pnl=holding.position.unrealized_pnl(mark_price),
                    margin_type="isolated" if holding.isolated else "cross",
                    isolated_wallet=holding.isolated_wallet,
                )
            )
        update = AccountUpdate(
            reason=reason,
            balances={
                MARGIN_ASSET: BalanceChange(
                    wallet_balance=account.wallet_balance, cross_wallet_balance=account.cross_wallet, change=change
                )
            },
            positions=tuple(positions),
            symbol=symbol,
            event_time_ms=now_ms,
            transaction_time_ms=now_ms,
        )
        self._tell("ACCOUNT_UPDATE", encode_account_update(update))

    def _tell(self, event_type: str, data: bytes) -> None:
        self._untold.append((event_type, data))

    def _finish_step(self) -> None:
        """Make the step durable, then tell of it."""
        if self._unwritten and self._journal is not None:
            entries, self._unwritten = self._unwritten, []
            self._journal.append(entries)
        if self._untold:
            self.desk.account.check_invariants(self.desk.marks)
            untold, self._untold = self._untold, []
            if self._listen_key:
                for event_type, data in untold:
                    self.hub.publish_user(self._listen_key, event_type, data)

    def _restore(self) -> int:
        """Fold the journal; the moment from which the market goes on."""
        reached_ms: int | None = None
        for entry in self._journal.replay() if self._journal is not None else ():
            record = from_entry(entry)
            self.desk.apply(record)
            self._records += 1
            reached_ms = max(reached_ms or 0, record.time_ms)
        if reached_ms is None:
            return self.source.start_ms
        for event in self.source.events(max(self.source.start_ms, reached_ms - RELIVED_MS)):
            if event.time_ms > reached_ms:
                break
            self._relive(event)
        for board in self.boards.values():
            board.close_minutes_until(reached_ms + 1)
        self.desk.put_restored_orders_into_books()
        # A live market did not wait for us.
        return max(reached_ms + 1, self.source.start_ms)

    def _relive(self, event: SourceEvent) -> None:
        """Look at what the market did before the restart: nobody is told and nothing is matched."""
        fact = event.fact
        board = self.boards[fact.symbol]
        board.close_minutes_until(event.time_ms)
        match fact:
            case Quote():
                board.on_quote(fact, event.time_ms)
                self.desk.on_quote(fact, event.time_ms)
            case Trade():
                board.on_trade(fact, event.time_ms)
            case MarkPrice():
                board.on_mark(fact)
                self.desk.marks[fact.symbol] = fact.mark_price
            case DepthDiff():
                board.on_depth(fact)


class _StreamNames:
    """The streams of one symbol, spelt once."""

    def __init__(self, symbol: str) -> None:
        self.book_ticker = book_ticker_stream(symbol)
        self.trade = trade_stream(symbol)
        self.agg_trade = agg_trade_stream(symbol)
        self.mark = mark_price_stream(symbol)
        self.mark_slow = self.mark.removesuffix("@1s")
        self.mini_ticker = mini_ticker_stream(symbol)
        self.ticker = ticker_stream(symbol)
        self.depths = tuple(depth_stream(symbol, speed) for speed in DEPTH_SPEEDS)
        self.klines = tuple((interval, kline_stream(symbol, interval)) for interval in INTERVAL_MS)
