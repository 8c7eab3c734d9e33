"""BinanceClient: asks one exchange, over any transport that carries its bytes.

Sends once. What may have been executed without our knowing is never sent again but settled by asking (`settle`).
Every request passes the allow-list of hosts, the circuit breaker and its lane of the rate limits before a byte
leaves. Times in and out are market milliseconds; the exchange's own clock is followed by an offset. The engine, the
data service and people in notebooks call it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from labkit.config import ClientConfig
from labkit.domain.clock import MINUTE_MS, Clock
from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.market_events import Bar, Quote, Trade
from labkit.domain.orders import Fill, Order, OrderIntent
from labkit.edge.clocks import SystemClock
from labkit.errors import (
    BreakerOpen,
    ClockSkew,
    ConfigError,
    ExchangeError,
    ExchangeUnavailable,
    IpBanned,
    LabkitError,
    LocalProtocolError,
    OutcomeUnknown,
    RateLimited,
    RemoteProtocolError,
    RequestRejected,
    UnknownOrder,
    WouldExceedLimit,
)
from labkit.exchange.circuit_breaker import Action, BreakerLevel, CircuitBreaker, Fault, LevelChange
from labkit.exchange.credentials import Credentials
from labkit.exchange.hosts import PRODUCTION_REST, host_kind, require_trading_host
from labkit.exchange.rate_limits import RateLimits
from labkit.exchange.request_plan import Forecast, PlannedCalls, in_words, planned_candles
from labkit.wire import rest_account, rest_market
from labkit.wire.endpoints import ENDPOINTS, Endpoint, Lane, Security, encode_query, order_parameters
from labkit.wire.faults import to_error
from labkit.wire.transport import ConnectionLost, HttpRequest, HttpResponse, HttpTransport, NotSent

PROCESSING_LIMIT_MS = 10_000
"""How long after its receive window the exchange may still be working on a request."""
FENCE_MARGIN_MS = 2_000
NEGATIVES_APART_MS = 1_000
NEGATIVES_NEEDED = 2
FIRST_QUESTION_MS = 250
LONGEST_QUESTION_MS = 2_000
ROUND_TRIPS = 3
FULL_PAGE = 1_000
THROTTLED = -1008
DUPLICATE_ORDER_ID = -4116
MARGIN_TYPE_UNCHANGED = -4046
NOT_LET_IN = frozenset({403, 451})
"""A firewall or a law between us and the exchange: asking on changes nothing and may make it worse."""

T = TypeVar("T")

_CLIENT_ORDER_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}", re.ASCII)

# What asking may run into without an answer to the question: ask again later.
_NO_ANSWER = (ExchangeUnavailable, OutcomeUnknown, RateLimited, ClockSkew, BreakerOpen, WouldExceedLimit)


class BinanceClient:
    """One exchange address and, with credentials, one account at it.

    Args:
        http: the transport; a `SocketHttp` to `base_url`, made at the first request, if None.
        clock: market time; the wall clock if None.
        config: patience, receive window, share of the limits.
        credentials: needed for everything that is not public data.
        base_url: where the default transport connects to.
        on_breaker_change: told of every change of the breaker's level.

    Raises:
        ForbiddenHost: the address is not on the allow-list.

    Every method that asks raises `ExchangeError` (the exchange said no or could not answer), `RemoteProtocolError`
    (the answer cannot be read), `BreakerOpen` or `WouldExceedLimit` (we did not ask). Only a request that changes
    something can end in `OutcomeUnknown`.
    """

    def __init__(
        self,
        http: HttpTransport | None = None,
        clock: Clock | None = None,
        config: ClientConfig | None = None,
        credentials: Credentials | None = None,
        *,
        base_url: str = PRODUCTION_REST,
        on_breaker_change: Callable[[LevelChange], None] | None = None,
    ) -> None:
        # A transport that tells an address leads there, whatever else is said; one without is in this process.
        self._address: str | None = base_url if http is None else getattr(http, "base_url", None)
        if self._address is not None:
            host_kind(self._address)
        self._http = http
        self._clock: Clock = clock or SystemClock()
        self._config = config or ClientConfig()
        self._credentials = credentials
        self._breaker = CircuitBreaker()
        self._limits = RateLimits(share=self._config.weight_share)
        self.on_breaker_change = on_breaker_change
        self._offset_ms = 0
        self._made_ms = self._clock.now_ms()
        self._sent_ms: dict[str, int | None] = {}
        """When each order was sent, by client order id; None while it waits for its turn."""
        self._turns = {action: asyncio.Lock() for action in Action}
        self._probing = asyncio.Lock()

    def __repr__(self) -> str:
        level = self._breaker.level(self._clock.now_ms()).name
        return f"BinanceClient({self._address or 'in process'}, breaker {level})"

    @property
    def breaker(self) -> CircuitBreaker:
        """The circuit breaker, to look at; `probe` moves it."""
        return self._breaker

    @property
    def limits(self) -> RateLimits:
        """The rate limits, to look at; they count in exchange time (`exchange_time_ms`)."""
        return self._limits

    @property
    def time_offset_ms(self) -> int:
        """Exchange time minus our market time."""
        return self._offset_ms

    def exchange_time_ms(self) -> int:
        """The exchange's clock as far as we know it, UTC ms."""
        return self._clock.now_ms() + self._offset_ms

    def resume_breaker(self, change: LevelChange) -> None:
        """Go on as a client before this one stood at `change`: what was forbidden to it stays forbidden.

        A breaker that has moved since it was made knows more than its past and stays as it is.
        """
        if not self._breaker.since_ms:
            self._breaker = CircuitBreaker.after(change)

    async def close(self) -> None:
        """Close the transport."""
        if self._http is not None:
            await self._http.close()

    # The exchange itself

    async def ping(self) -> None:
        await self._call("ping")

    async def server_time(self) -> int:
        """The exchange's clock, UTC ms."""
        return rest_market.decode_server_time(await self._call("time"))

    async def sync_time(self) -> int:
        """Measure the offset of the exchange's clock: the median of three round trips; returns it in ms.

        An offset that its round trip alone could explain is none: a busy machine must not invent a clock error.
        """
        measured: list[tuple[int, int]] = []
        for _ in range(ROUND_TRIPS):
            before_ms = self._clock.now_ms()
            server_ms = await self.server_time()
            trip_ms = self._clock.now_ms() - before_ms
            measured.append((server_ms - (before_ms + trip_ms // 2), trip_ms))
        offset_ms, trip_ms = sorted(measured)[ROUND_TRIPS // 2]
        self._offset_ms = offset_ms if abs(offset_ms) > trip_ms // 2 else 0
        return self._offset_ms

    async def probe(self) -> BreakerLevel:
        """Let time pass for the breaker and, if the exchange is halted and a probe is due, ask for its time.

        Costs nothing otherwise; call it every second or so. Returns the level afterwards.
        """
        self._tell(self._breaker.observe_time(self._clock.now_ms()))
        if self._probe_is_due():
            async with self._probing:
                if self._probe_is_due():
                    # A probe that fails tells the breaker, and the next one comes later.
                    with suppress(ExchangeError, BreakerOpen, WouldExceedLimit):
                        await self._attempt(ENDPOINTS["time"], {}, Lane.CANCEL_QUERY, Action.PROBE)
        return self._breaker.level(self._clock.now_ms())

    async def exchange_info(self) -> rest_market.ExchangeInfo:
        """Symbols with their rules, and the rate limits, which are taken over at once."""
        info = rest_market.decode_exchange_info(await self._call("exchange_info"))
        self._limits.learn(info.rate_limits)
        return info

    # What asking would cost

    def forecast(self, plan: Iterable[PlannedCalls], *, within_ms: int | None = None) -> Forecast:
        """What `plan` (of `planned_calls`, `planned_candles`) costs and when it would be through; nothing is sent.

        Args:
            within_ms: how long the plan may take; as long as the rate limits make it take if None.

        Raises:
            WouldExceedLimit: it would pass a limit: a call can never fit, would have to wait longer than calls of its
                lane do, or the plan would not be through in time. The message has the numbers and what to do.
        """
        patience_ms = self._scaled_ms(self._config.request_timeout_ms)
        forecast = self._limits.forecast(plan, self.exchange_time_ms(), patience_ms=patience_ms)
        if within_ms is not None and forecast.duration_ms > within_ms:
            raise WouldExceedLimit(
                f"{forecast}, but it should be through in {in_words(within_ms)}: "
                "ask for a shorter span or fewer symbols, or take the exchange's archives"
            )
        return forecast

    def forecast_candles(
        self,
        symbols: Sequence[str],
        interval: str,
        start_ms: int,
        end_ms: int,
        *,
        endpoint: str = "klines",
        within_ms: int | None = None,
    ) -> Forecast:
        """`forecast` of fetching every candle with open time in [start_ms, end_ms) of these symbols."""
        plan = planned_candles(symbols, interval, start_ms, end_ms, endpoint=endpoint)
        return self.forecast([plan], within_ms=within_ms)

    # Market data, unsigned

    async def klines(
        self,
        symbol: str,
        interval: str,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int | None = None,
    ) -> list[Bar]:
        """Candles with open time in [start_ms, end_ms], oldest first; the last may still be running (`closed`).

        At most `limit` (1,500; 500 if None): the latest ones, or the first ones from `start_ms` where it is given.
        """
        return await self._candles("klines", "symbol", symbol, interval, start_ms, end_ms, limit)

    async def mark_price_klines(
        self,
        symbol: str,
        interval: str,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int | None = None,
    ) -> list[Bar]:
        """The same of the mark price; volumes and counts in them mean nothing."""
        return await self._candles("mark_price_klines", "symbol", symbol, interval, start_ms, end_ms, limit)

    async def index_price_klines(
        self,
        symbol: str,
        interval: str,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int | None = None,
    ) -> list[Bar]:
        """The same of the index price of the pair `symbol`; volumes and counts in them mean nothing."""
        return await self._candles("index_price_klines", "pair", symbol, interval, start_ms, end_ms, limit)

    async def _candles(
        self,
        endpoint: str,
        symbol_key: str,
        symbol: str,
        interval: str,
        start_ms: int | None,
        end_ms: int | None,
        limit: int | None,
    ) -> list[Bar]:
        body = await self._call(endpoint, {symbol_key: symbol, "interval": interval, **_span(start_ms, end_ms, limit)})
        return rest_market.decode_klines(body, symbol=symbol, interval=interval, now_ms=self.exchange_time_ms())

    async def depth(self, symbol: str, limit: int | None = None) -> rest_market.DepthSnapshot:
        """The order book with `limit` levels a side (5, 10, 20, 50, 100, 500 or 1000; 500 if None)."""
        return rest_market.decode_depth(await self._call("depth", {"symbol": symbol, **_span(None, None, limit)}))

    async def premium_index(self, symbol: str) -> rest_market.PremiumIndex:
        """Mark price, index price and funding rate of one symbol."""
        return _only(rest_market.decode_premium_index(await self._call("premium_index", {"symbol": symbol})))

    async def premium_indexes(self) -> dict[str, rest_market.PremiumIndex]:
        """Mark price, index price and funding rate of every symbol."""
        return {row.symbol: row for row in rest_market.decode_premium_index(await self._call("premium_index"))}

    async def ticker_book(self, symbol: str) -> Quote:
        """Best bid and ask of one symbol."""
        body = await self._call("ticker_book", {"symbol": symbol})
        return _only(rest_market.decode_ticker_book(body, self._clock.now_ns()))

    async def ticker_books(self) -> dict[str, Quote]:
        """Best bid and ask of every symbol."""
        body = await self._call("ticker_book")
        return {quote.symbol: quote for quote in rest_market.decode_ticker_book(body, self._clock.now_ns())}

    async def ticker_24hr(self, symbol: str) -> rest_market.Ticker24h:
        """The last 24 hours of one symbol."""
        return _only(rest_market.decode_ticker_24hr(await self._call("ticker_24hr", {"symbol": symbol})))

    async def tickers_24hr(self) -> dict[str, rest_market.Ticker24h]:
        """The last 24 hours of every symbol; weighs 40."""
        return {row.symbol: row for row in rest_market.decode_ticker_24hr(await self._call("ticker_24hr"))}

    async def ticker_price(self, symbol: str) -> rest_market.TickerPrice:
        """Last price of one symbol."""
        return _only(rest_market.decode_ticker_price(await self._call("ticker_price", {"symbol": symbol})))

    async def ticker_prices(self) -> dict[str, rest_market.TickerPrice]:
        """Last price of every symbol."""
        return {row.symbol: row for row in rest_market.decode_ticker_price(await self._call("ticker_price"))}

    async def funding_rate(
        self, symbol: str, start_ms: int | None = None, end_ms: int | None = None, limit: int | None = None
    ) -> list[rest_market.FundingRate]:
        """Settled funding rates, oldest first; at most `limit` (1,000; 100 if None)."""
        params = {"symbol": symbol, **_span(start_ms, end_ms, limit)}
        return list(rest_market.decode_funding_rate(await self._call("funding_rate", params)))

    async def funding_info(self) -> dict[str, rest_market.FundingInfo]:
        """Funding terms by symbol. A symbol that is not listed settles every 8 hours."""
        return {row.symbol: row for row in rest_market.decode_funding_info(await self._call("funding_info"))}

    async def open_interest(self, symbol: str) -> rest_market.OpenInterest:
        """All open contracts of one symbol, now."""
        return rest_market.decode_open_interest(await self._call("open_interest", {"symbol": symbol}))

    async def open_interest_history(
        self,
        symbol: str,
        period: str = "5m",
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int | None = None,
    ) -> list[rest_market.OpenInterestStatistic]:
        """Open interest of each period of the last 30 days, oldest first; at most `limit` (500; 30 if None)."""
        params = {"symbol": symbol, "period": period, **_span(start_ms, end_ms, limit)}
        return list(rest_market.decode_open_interest_history(await self._call("open_interest_history", params)))

    async def trades(self, symbol: str, limit: int | None = None) -> list[Trade]:
        """The latest prints, oldest first; at most `limit` (1,000; 500 if None)."""
        body = await self._call("trades", {"symbol": symbol, **_span(None, None, limit)})
        return rest_market.decode_trades(body, symbol=symbol)

    async def agg_trades(
        self, symbol: str, start_ms: int | None = None, end_ms: int | None = None, limit: int | None = None
    ) -> list[Trade]:
        """Aggregated prints of the last 48 hours, oldest first; at most `limit` (1,000; 500 if None)."""
        body = await self._call("agg_trades", {"symbol": symbol, **_span(start_ms, end_ms, limit)})
        return rest_market.decode_agg_trades(body, symbol=symbol)

    # Orders

    async def place_order(self, intent: OrderIntent) -> Order:
        """Send `intent` once and return the exchange's acknowledgement. Reduce-only orders travel in the close lane.

        Raises:
            LocalProtocolError: its client order id was used before, or is none the exchange allows; nothing was sent.
            RequestRejected, RateLimited, ExchangeUnavailable: it was definitely not executed.
            OutcomeUnknown: it may have been executed; `settle` it. It is never sent again.
        """
        client_order_id = intent.client_order_id
        if not _CLIENT_ORDER_ID.fullmatch(client_order_id):
            raise LocalProtocolError(f"client order id {client_order_id!r}: 1 to 36 of A-Z a-z 0-9 . : / _ -")
        if client_order_id in self._sent_ms:
            raise LocalProtocolError(f"client order id {client_order_id} was used before")
        self._sent_ms[client_order_id] = None
        try:
            lane = Lane.CLOSE if intent.reduce_only else Lane.OPEN
            body = await self._call("place_order", order_parameters(intent), lane=lane)
        finally:
            if self._sent_ms[client_order_id] is None:
                del self._sent_ms[client_order_id]
        try:
            order = rest_account.decode_order(body)
        except RemoteProtocolError as error:
            raise OutcomeUnknown("the acknowledgement cannot be read", http_status=200) from error
        if order.client_order_id != client_order_id:
            raise OutcomeUnknown(f"the acknowledgement names another order, {order.client_order_id!r}", http_status=200)
        return order

    async def settle(self, intent: OrderIntent, sent_at_ms: int) -> Order | None:
        """Ask until it is proven what became of `intent`: the order, or None if it never reached the book.

        "No such order" proves nothing before the fence: until then the exchange may still be working on the request.
        After it, two such answers at least a second apart and no trade of that order are the proof (rule R-ORD-7).

        Args:
            intent: sent at some time, by this client or by one before it.
            sent_at_ms: market time at which it was to be sent; a later sending this client knows of counts instead.
        """
        sent_ms = self._latest_sending_ms(intent.client_order_id, sent_at_ms)
        fence_ms = sent_ms + self._receive_window_ms() + PROCESSING_LIMIT_MS + FENCE_MARGIN_MS
        negatives = 0
        last_negative_ms = 0
        wait_ms = FIRST_QUESTION_MS
        while True:
            asked_ms = self._clock.now_ms()
            try:
                return await self.query_order(intent.symbol, intent.client_order_id)
            except UnknownOrder:
                if asked_ms >= fence_ms and (not negatives or asked_ms - last_negative_ms >= NEGATIVES_APART_MS):
                    negatives += 1
                    last_negative_ms = asked_ms
            except _NO_ANSWER:
                pass
            if negatives >= NEGATIVES_NEEDED:
                try:
                    return await self._find_by_trades(intent, sent_at_ms, fence_ms)
                except (UnknownOrder, *_NO_ANSWER):
                    # A trade that cannot be explained yet: no proof either way.
                    pass
            now_ms = self._clock.now_ms()
            next_ms = now_ms + wait_ms if now_ms < fence_ms else now_ms + NEGATIVES_APART_MS
            # The first question that counts is asked right behind the fence.
            await self._clock.sleep_until(min(next_ms, fence_ms) if now_ms < fence_ms else next_ms)
            wait_ms = min(LONGEST_QUESTION_MS, 2 * wait_ms)

    async def query_order(self, symbol: str, client_order_id: str) -> Order:
        """One order as the exchange has it. Raises `UnknownOrder` if it has none (yet, or any more)."""
        params = {"symbol": symbol, "origClientOrderId": client_order_id}
        return rest_account.decode_order(await self._call("query_order", params))

    async def query_order_by_id(self, symbol: str, order_id: int) -> Order:
        """One order by the exchange's number: how an order that is not ours is found. Raises `UnknownOrder`."""
        return rest_account.decode_order(await self._call("query_order", {"symbol": symbol, "orderId": str(order_id)}))

    async def cancel_order(self, symbol: str, client_order_id: str) -> Order:
        """Cancel one order and return it as it ended. Raises `UnknownOrder` if it is no longer open."""
        params = {"symbol": symbol, "origClientOrderId": client_order_id}
        return rest_account.decode_order(await self._call("cancel_order", params))

    async def cancel_all_orders(self, symbol: str) -> None:
        """Cancel every open order of one symbol."""
        rest_account.decode_success(await self._call("cancel_all_orders", {"symbol": symbol}))

    async def open_orders(self, symbol: str | None = None) -> list[Order]:
        """Open orders of one symbol, or of all (weighs 40)."""
        return list(rest_account.decode_orders(await self._call("open_orders", _symbol(symbol))))

    async def all_orders(
        self, symbol: str, start_ms: int | None = None, end_ms: int | None = None, limit: int | None = None
    ) -> list[Order]:
        """Orders in any state, oldest first; a span of at most 7 days, at most `limit` (1,000; 500 if None)."""
        params = {"symbol": symbol, **_span(start_ms, end_ms, limit)}
        return list(rest_account.decode_orders(await self._call("all_orders", params)))

    async def user_trades(
        self, symbol: str, start_ms: int | None = None, end_ms: int | None = None, limit: int | None = None
    ) -> list[Fill]:
        """Own fills, oldest first, without client order ids; at most 7 days and `limit` (1,000; 500 if None)."""
        params = {"symbol": symbol, **_span(start_ms, end_ms, limit)}
        return list(rest_account.decode_user_trades(await self._call("user_trades", params)))

    # The account

    async def account(self) -> rest_account.AccountInfo:
        """Balances, margins and open positions in one look."""
        return rest_account.decode_account(await self._call("account"))

    async def balances(self) -> dict[str, rest_account.Balance]:
        """Balances by asset."""
        return {row.asset: row for row in rest_account.decode_balance(await self._call("balance"))}

    async def positions(self, symbol: str | None = None) -> list[rest_account.PositionRisk]:
        """Positions with entry, mark and liquidation price; flat symbols may be left out."""
        return list(rest_account.decode_position_risk(await self._call("position_risk", _symbol(symbol))))

    async def set_leverage(self, symbol: str, leverage: int) -> rest_account.LeverageSet:
        """Set the leverage new orders of `symbol` are margined with."""
        return rest_account.decode_leverage(await self._call("leverage", {"symbol": symbol, "leverage": str(leverage)}))

    async def set_margin_type(self, symbol: str, *, isolated: bool) -> None:
        """Make `symbol` isolated or cross; that it already is, is success."""
        params = {"symbol": symbol, "marginType": "ISOLATED" if isolated else "CROSSED"}
        try:
            rest_account.decode_success(await self._call("margin_type", params))
        except RequestRejected as error:
            if error.code != MARGIN_TYPE_UNCHANGED:
                raise

    async def is_hedge_mode(self) -> bool:
        """Whether the account keeps long and short positions apart; labkit trades in one-way mode only."""
        return rest_account.decode_position_mode(await self._call("position_mode"))

    async def leverage_brackets(self, symbol: str | None = None) -> dict[str, tuple[LeverageBracket, ...]]:
        """The bracket tables by symbol."""
        return rest_account.decode_leverage_bracket(await self._call("leverage_bracket", _symbol(symbol)))

    async def commission_rate(self, symbol: str) -> rest_account.CommissionRate:
        """Maker and taker fee of one symbol, as fractions."""
        return rest_account.decode_commission_rate(await self._call("commission_rate", {"symbol": symbol}))

    async def symbol_config(self, symbol: str | None = None) -> dict[str, rest_account.SymbolConfig]:
        """Leverage and margin type by symbol."""
        return {
            row.symbol: row
            for row in rest_account.decode_symbol_config(await self._call("symbol_config", _symbol(symbol)))
        }

    async def income(
        self,
        income_type: str | None = None,
        symbol: str | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int | None = None,
    ) -> list[rest_account.Income]:
        """Cash flows of one kind (`FUNDING_FEE`, `COMMISSION`, …) or all, oldest first; the last 7 days if no span."""
        kind = {} if income_type is None else {"incomeType": income_type}
        params = {**kind, **_symbol(symbol), **_span(start_ms, end_ms, limit)}
        return list(rest_account.decode_income(await self._call("income", params)))

    # The key of the user-data stream: a secret

    async def create_listen_key(self) -> str:
        """A key valid for 60 minutes; the living one, renewed, if there is one."""
        return rest_account.decode_listen_key(await self._call("listen_key_create")).listen_key

    async def renew_listen_key(self) -> str:
        """Give the key another 60 minutes. Raises `ListenKeyGone` if none lives."""
        return rest_account.decode_listen_key(await self._call("listen_key_renew")).listen_key

    async def close_listen_key(self) -> None:
        """Delete the key, for everyone who uses this account."""
        await self._call("listen_key_close")

    # Doubt

    def _latest_sending_ms(self, client_order_id: str, sent_at_ms: int) -> int:
        """The last moment at which this order can have been sent."""
        known_ms = self._sent_ms.get(client_order_id)
        if known_ms is not None:
            return max(known_ms, sent_at_ms)
        # A client before this one sent it, after waiting for its turn: not later than its patience, and not later
        # than this one was made.
        longest_wait_ms = 3 * self._scaled_ms(self._config.request_timeout_ms)
        return max(sent_at_ms, min(self._made_ms, sent_at_ms + longest_wait_ms))

    async def _find_by_trades(self, intent: OrderIntent, sent_at_ms: int, fence_ms: int) -> Order | None:
        """The order of `intent` if it traded between sending and fence, None if all trades are others'.

        Raises:
            UnknownOrder: a trade belongs to an order that cannot be asked for.
        """
        fills = await self.user_trades(
            intent.symbol,
            start_ms=sent_at_ms + self._offset_ms - MINUTE_MS,
            end_ms=fence_ms + self._offset_ms + MINUTE_MS,
            limit=FULL_PAGE,
        )
        for order_id in sorted({fill.order_id for fill in fills}):
            order = await self.query_order_by_id(intent.symbol, order_id)
            if order.client_order_id == intent.client_order_id:
                return order
        if len(fills) >= FULL_PAGE:
            raise UnknownOrder("more trades than one answer can tell")
        return None

    # How a request travels

    async def _call(self, name: str, params: Mapping[str, str] | None = None, *, lane: Lane | None = None) -> bytes:
        """The body of a successful answer."""
        endpoint = ENDPOINTS[name]
        lane = lane or endpoint.lane
        action = _action_of(endpoint, lane)
        try:
            return await self._attempt(endpoint, params or {}, lane, action)
        except ClockSkew as skew:
            # Refused before it was looked at: measure the offset anew and ask once more.
            try:
                await self.sync_time()
            except LabkitError as failed:
                raise skew from failed
            return await self._attempt(endpoint, params or {}, lane, action)

    async def _attempt(self, endpoint: Endpoint, params: Mapping[str, str], lane: Lane, action: Action) -> bytes:
        """Send one request once; a question is asked a second time, signed anew, if its connection broke."""
        self._check_reach(endpoint)
        may_ask_again = endpoint.method == "GET" and action is not Action.PROBE
        while True:
            await self._admit(endpoint, params, lane, action)
            request = self._request(endpoint, params)
            try:
                async with asyncio.timeout(self._patience_seconds()):
                    response = await self._transport().send(request)
            except (NotSent, ConnectionLost, TimeoutError) as error:
                what = "timed out" if isinstance(error, TimeoutError) else "lost its connection"
                self._observe_fault(Fault.TRANSPORT, f"{endpoint.method} {endpoint.path} {what}")
                if may_ask_again and not isinstance(error, TimeoutError):
                    may_ask_again = False
                    continue
                may_be_executed = endpoint.method != "GET" and not isinstance(error, NotSent)
                unanswered = OutcomeUnknown if may_be_executed else ExchangeUnavailable
                raise unanswered(f"{endpoint.method} {endpoint.path} {what}") from error
            return self._judge(endpoint, action, response)

    def _judge(self, endpoint: Endpoint, action: Action, response: HttpResponse) -> bytes:
        """Learn from an answer how the exchange is; return the body of a success, raise what anything else is."""
        self._limits.observe(response.headers, self.exchange_time_ms())
        if 200 <= response.status < 300:
            self._tell(self._breaker.observe_success(self._clock.now_ms(), action))
            return response.body
        error = to_error(response.status, response.body, response.headers, now_ms=self.exchange_time_ms())
        fault = _fault_of(error)
        if fault is None:
            self._tell(self._breaker.observe_success(self._clock.now_ms(), action))
        else:
            window_ms = error.retry_after_ms if isinstance(error, RateLimited) else 0
            self._observe_fault(fault, f"{endpoint.method} {endpoint.path}: {error}", window_ms)
        if isinstance(error, OutcomeUnknown) and endpoint.method == "GET":
            # A question changes nothing, whether it was heard or not.
            raise ExchangeUnavailable(error.text, code=error.code, http_status=error.http_status)
        raise error

    def _check_reach(self, endpoint: Endpoint) -> None:
        if endpoint.security is Security.NONE:
            return
        if self._address is not None:
            require_trading_host(self._address)
        if self._credentials is None:
            raise ConfigError(f"{endpoint.method} {endpoint.path} needs credentials", field="credentials")

    async def _admit(self, endpoint: Endpoint, params: Mapping[str, str], lane: Lane, action: Action) -> None:
        """Wait for the turn of this request among those of its kind; first come, first served.

        History waits as long as it takes. Everything else would rather be refused than late.
        """
        call = PlannedCalls(
            lane=lane,
            weight=endpoint.weight(params),
            order_cost=endpoint.order_cost,
            own_pool=endpoint.own_pool,
            cancels=endpoint.cancels,
        )
        patience_ms = self._scaled_ms(self._config.request_timeout_ms)
        await self._pass_breaker(action)
        asked_ms = self._clock.now_ms()
        async with self._turns[action]:
            while True:
                exchange_ms = self.exchange_time_ms()
                slow_ms = self._breaker.slow_ms(action, self._clock.now_ms())
                wait_ms = max(slow_ms, self._limits.earliest_ms(call, exchange_ms) - exchange_ms)
                late_ms = self._clock.now_ms() + wait_ms - asked_ms
                if lane is not Lane.HISTORY and late_ms > patience_ms:
                    raise WouldExceedLimit(
                        f"{endpoint.method} {endpoint.path} would have to wait {late_ms} ms for the "
                        + ("circuit breaker, which slows openings" if wait_ms == slow_ms > 0 else "rate limit")
                    )
                if wait_ms <= 0:
                    break
                await self._clock.sleep_until(self._clock.now_ms() + wait_ms)
            # The exchange may have silenced us while this request waited.
            self._require_permission(action)
            self._limits.spend(call, exchange_ms)
            self._breaker.observe_sending(self._clock.now_ms(), action)

    async def _pass_breaker(self, action: Action) -> None:
        self._tell(self._breaker.observe_time(self._clock.now_ms()))
        if not self._breaker.permits(action, self._clock.now_ms()):
            await self.probe()
            self._require_permission(action)

    def _require_permission(self, action: Action) -> None:
        now_ms = self._clock.now_ms()
        if not self._breaker.permits(action, now_ms):
            level = self._breaker.level(now_ms).name
            raise BreakerOpen(
                f"circuit breaker is {level} since {self._breaker.cause}: {action} must wait",
                level=level,
                retry_after_ms=self._breaker.retry_after_ms(action, now_ms),
            )

    def _probe_is_due(self) -> bool:
        now_ms = self._clock.now_ms()
        return self._breaker.level(now_ms) is BreakerLevel.HALTED and self._breaker.permits(Action.PROBE, now_ms)

    def _request(self, endpoint: Endpoint, params: Mapping[str, str]) -> HttpRequest:
        """The bytes of one request, signed as they are sent; the timestamp is that of this moment."""
        sent = dict(params)
        headers = {}
        if endpoint.security is not Security.NONE and self._credentials is not None:
            headers["X-MBX-APIKEY"] = self._credentials.api_key
        if endpoint.security is Security.SIGNED:
            sent["recvWindow"] = str(self._receive_window_ms())
            sent["timestamp"] = str(self.exchange_time_ms())
        text = encode_query(sent)
        if endpoint.security is Security.SIGNED and self._credentials is not None:
            text = f"{text}&{encode_query({'signature': self._credentials.sign(text)})}"
        if endpoint.name == "place_order":
            self._sent_ms[params["newClientOrderId"]] = self._clock.now_ms()
        if endpoint.method in ("POST", "PUT"):
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            return HttpRequest(method=endpoint.method, path=endpoint.path, body=text, headers=headers)
        return HttpRequest(method=endpoint.method, path=endpoint.path, query=text, headers=headers)

    def _transport(self) -> HttpTransport:
        if self._http is None:
            from labkit.edge.http import SocketHttp

            assert self._address is not None
            self._http = SocketHttp(self._address, timeout_ms=self._config.request_timeout_ms)
        return self._http

    def _scaled_ms(self, wall_ms: int) -> int:
        """`wall_ms` of life in market ms: a market that runs faster than life is slower to answer, in its own time.

        In virtual time no time passes while somebody computes, so life's measure will do.
        """
        speed = self._clock.speed
        return wall_ms if speed == float("inf") else int(wall_ms * max(1.0, speed))

    def _receive_window_ms(self) -> int:
        return self._scaled_ms(self._config.receive_window_ms)

    def _patience_seconds(self) -> float:
        """Patience with one answer, in seconds of the event loop."""
        market_seconds = self._scaled_ms(self._config.request_timeout_ms) / 1_000
        # The loop of virtual time counts market seconds; every other loop counts those of life.
        return market_seconds if self._clock.speed == float("inf") else market_seconds / self._clock.speed

    def _observe_fault(self, fault: Fault, cause: str, retry_after_ms: int = 0) -> None:
        self._tell(self._breaker.observe_fault(self._clock.now_ms(), fault, retry_after_ms, cause))

    def _tell(self, changes: tuple[LevelChange, ...]) -> None:
        if self.on_breaker_change is not None:
            for change in changes:
                self.on_breaker_change(change)


def _action_of(endpoint: Endpoint, lane: Lane) -> Action:
    if lane is Lane.CANCEL_QUERY:
        return Action.CANCEL if endpoint.method == "DELETE" else Action.QUERY
    return {Lane.CLOSE: Action.CLOSE, Lane.OPEN: Action.OPEN, Lane.HISTORY: Action.HISTORY}[lane]


def _fault_of(error: ExchangeError) -> Fault | None:
    """What an error says about the health of the exchange; None for a business rejection."""
    if isinstance(error, IpBanned) or error.http_status in NOT_LET_IN:
        return Fault.BANNED
    if isinstance(error, RateLimited):
        return Fault.RATE_LIMITED
    if error.code == THROTTLED:
        return Fault.OVERLOADED
    if isinstance(error, ExchangeUnavailable | OutcomeUnknown) and error.code != DUPLICATE_ORDER_ID:
        return Fault.SERVER
    return None


def _symbol(symbol: str | None) -> dict[str, str]:
    return {} if symbol is None else {"symbol": symbol}


def _span(start_ms: int | None, end_ms: int | None, limit: int | None) -> dict[str, str]:
    told = {"startTime": start_ms, "endTime": end_ms, "limit": limit}
    return {name: str(value) for name, value in told.items() if value is not None}


def _only(rows: Sequence[T]) -> T:
    """The one row an answer about one symbol holds."""
    if len(rows) != 1:
        raise RemoteProtocolError(f"an answer about one symbol holds {len(rows)} rows")
    return rows[0]
