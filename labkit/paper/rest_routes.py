"""What the venue answers on HTTP: routes, security, limits, parameters, replies.

A request is checked in the exchange's order: route, weight, key, timestamp, signature, parameters; only then the order
desk is asked. Every answer is JSON and carries the used weight; errors have the exchange's codes (protocol §4-§6).
Pure: the time of arrival is an argument. Called by `labkit.paper.venue`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import msgspec

from labkit.domain.clock import DAY_MS, SECOND_MS
from labkit.domain.leverage_brackets import max_notional
from labkit.domain.market_events import INTERVAL_MS
from labkit.domain.orders import Fill, OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from labkit.domain.position import ZERO, quantize_money
from labkit.domain.symbol_rules import MARGIN_ASSET
from labkit.errors import AuthenticationFailed, ClockSkew, ExchangeError, RateLimited, RemoteProtocolError
from labkit.paper.market_board import SymbolBoard
from labkit.paper.open_interest import PERIODS_MS, open_interest, open_interest_history
from labkit.paper.order_desk import OrderEntry, refused
from labkit.paper.weather.turns import funding_hours_now
from labkit.wire.endpoints import ENDPOINTS, OwnPool, Security, Weight, decode_query
from labkit.wire.faults import error_body
from labkit.wire.numbers import parse_decimal
from labkit.wire.rest_account import (
    AccountInfo,
    AccountPosition,
    Balance,
    CommissionRate,
    Income,
    LeverageSet,
    ListenKey,
    PositionRisk,
    SymbolConfig,
    encode_account,
    encode_balance,
    encode_commission_rate,
    encode_income,
    encode_leverage,
    encode_leverage_bracket,
    encode_listen_key,
    encode_order,
    encode_order_ack,
    encode_orders,
    encode_position_mode,
    encode_position_risk,
    encode_position_risk_v2,
    encode_success,
    encode_symbol_config,
    encode_user_trades,
)
from labkit.wire.rest_market import (
    DepthSnapshot,
    ExchangeInfo,
    FundingInfo,
    FundingRate,
    PremiumIndex,
    RateLimit,
    TickerPrice,
    encode_agg_trades,
    encode_depth_snapshot,
    encode_exchange_info,
    encode_funding_info,
    encode_funding_rate,
    encode_klines,
    encode_open_interest,
    encode_open_interest_history,
    encode_premium_index,
    encode_server_time,
    encode_ticker_24hr,
    encode_ticker_book,
    encode_ticker_price,
    encode_trades,
)
from labkit.wire.signing import verify_signature
from labkit.wire.transport import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from labkit.paper.venue import Venue

RATE_LIMITS = (
    RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 2400),
    RateLimit("ORDERS", "MINUTE", 1, 1200),
    RateLimit("ORDERS", "SECOND", 10, 300),
)
WEIGHT_LIMIT, ORDER_LIMIT_1M, ORDER_LIMIT_10S = RATE_LIMITS
OWN_POOL_MINUTES = 5
FUNDING_CAP_SHARE = Decimal("0.75")
"""Cap of the funding rate as a share of the first bracket's maintenance margin ratio."""
INTEREST_RATE = Decimal("0.0001")
CONDITIONAL_TYPES = frozenset({"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"})
DEPTH_LIMITS = frozenset({5, 10, 20, 50, 100, 500, 1000})
LONGEST_WINDOW_MS = 7 * DAY_MS
DEFAULT_RECEIVE_WINDOW_MS = 5_000
AHEAD_MS = SECOND_MS
_CLIENT_ORDER_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}\Z")

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
Record = TypeVar("Record", bound=msgspec.Struct)


class Window:
    """Counts what was used in the present interval of a limit."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._interval = -1
        self._used = 0

    def used(self, now_ms: int) -> int:
        interval = now_ms // self.limit.interval_ms
        if interval != self._interval:
            self._interval, self._used = interval, 0
        return self._used

    def has_room(self, cost: int, now_ms: int) -> bool:
        return self.used(now_ms) + cost <= self.limit.limit

    def use(self, cost: int, now_ms: int) -> int:
        """Count `cost`; what is used now."""
        self._used = self.used(now_ms) + cost
        return self._used

    def wait_ms(self, now_ms: int) -> int:
        """Until the next interval."""
        return self.limit.interval_ms - now_ms % self.limit.interval_ms


class Parameters:
    """The parameters of one request, checked as they are read."""

    def __init__(self, values: Mapping[str, str], symbols: Iterable[str]) -> None:
        self.values = values
        self._symbols = frozenset(symbols)

    def text(self, name: str) -> str:
        """A mandatory text."""
        value = self.values.get(name, "")
        if not value:
            raise missing(name)
        return value

    def symbol(self) -> str:
        """The mandatory symbol, if it is listed."""
        symbol = self.text("symbol")
        if symbol not in self._symbols:
            raise refused(-1121, "Invalid symbol.")
        return symbol

    def optional_symbol(self) -> str | None:
        return self.symbol() if self.values.get("symbol") else None

    def decimal(self, name: str) -> Decimal:
        """A mandatory number."""
        try:
            return parse_decimal(self.text(name))
        except RemoteProtocolError as error:
            raise missing(name) from error

    def integer(self, name: str) -> int | None:
        """An optional whole number."""
        text = self.values.get(name, "")
        if not text:
            return None
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise refused(-1130, f"Data sent for parameter '{name}' is not valid.")
        return int(text)

    def limit(self, default: int, largest: int) -> int:
        limit = self.integer("limit")
        if limit is None:
            return default
        if not 1 <= limit <= largest:
            raise refused(-1130, "Data sent for parameter 'limit' is not valid.")
        return limit

    def window(self) -> tuple[int | None, int | None]:
        """`startTime` and `endTime`, inclusive."""
        start_ms, end_ms = self.integer("startTime"), self.integer("endTime")
        if start_ms is not None and end_ms is not None and start_ms > end_ms:
            raise refused(-1023, "Start time is greater than end time.")
        return start_ms, end_ms

    def choice(self, name: str, kind: type[E], code: int) -> E:
        """A mandatory value of an enumeration; anything else is refused with `code`."""
        text = self.text(name)
        try:
            return kind(text)
        except ValueError as error:
            raise refused(code, f"Invalid {name}.") from error

    def flag(self, name: str) -> bool:
        """An optional `true` or `false`."""
        text = self.values.get(name, "false").lower()
        if text not in ("true", "false"):
            raise refused(-1130, f"Data sent for parameter '{name}' is not valid.")
        return text == "true"


def missing(name: str) -> ExchangeError:
    return refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def _too_many_requests(window: Window, span: str, now_ms: int) -> RateLimited:
    return RateLimited(
        f"Too many requests; current limit is {window.limit.limit} requests per {span}.",
        code=-1003,
        http_status=429,
        retry_after_ms=window.wait_ms(now_ms),
    )


Answer = Callable[[Parameters, int], bytes]


class Route(msgspec.Struct, frozen=True):
    """One way to ask, and who answers."""

    security: Security
    weight: Weight
    order_cost: int
    own_pool: OwnPool | None
    answer: Answer


class RestRoutes:
    """The HTTP face of one venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._weight = Window(WEIGHT_LIMIT)
        self._orders_1m = Window(ORDER_LIMIT_1M)
        self._orders_10s = Window(ORDER_LIMIT_10S)
        # In force, though `exchangeInfo` does not list them.
        self._own = {pool: Window(RateLimit(pool.name, "MINUTE", OWN_POOL_MINUTES, pool.value)) for pool in OwnPool}
        answers: dict[str, Answer] = {
            "ping": lambda parameters, now_ms: b"{}",
            "time": lambda parameters, now_ms: encode_server_time(now_ms + venue.weather.clock_offset_ms),
            "exchange_info": self._exchange_info,
            "depth": self._depth,
            "klines": self._klines,
            "premium_index": self._premium_index,
            "ticker_24hr": self._ticker_24hr,
            "ticker_price": self._ticker_price,
            "ticker_book": self._ticker_book,
            "funding_rate": self._funding_rate,
            "funding_info": self._funding_info,
            "open_interest": self._open_interest,
            "open_interest_history": self._open_interest_history,
            "trades": self._trades,
            "agg_trades": self._agg_trades,
            "place_order": self._place_order,
            "query_order": self._query_order,
            "cancel_order": self._cancel_order,
            "cancel_all_orders": self._cancel_all_orders,
            "open_orders": self._open_orders,
            "all_orders": self._all_orders,
            "user_trades": self._user_trades,
            "account": self._account,
            "balance": self._balance,
            "position_risk": self._position_risk,
            "leverage": self._leverage,
            "margin_type": self._margin_type,
            "position_mode": lambda parameters, now_ms: encode_position_mode(dual=False),
            "leverage_bracket": self._leverage_bracket,
            "commission_rate": self._commission_rate,
            "symbol_config": self._symbol_config,
            "income": self._income,
            "listen_key_create": self._create_listen_key,
            "listen_key_renew": self._renew_listen_key,
            "listen_key_close": self._close_listen_key,
        }
        self._routes: dict[tuple[str, str], Route] = {}
        for name, answer in answers.items():
            endpoint = ENDPOINTS[name]
            self._alias(endpoint.method, endpoint.path, name, answer)
        # What other clients ask for and ours does not.
        self._alias("GET", "/api/v3/ping", "ping", answers["ping"])
        self._alias("GET", "/api/v3/time", "time", answers["time"])
        self._alias("GET", "/fapi/v1/ticker/price", "ticker_price", answers["ticker_price"])
        self._alias("GET", "/fapi/v1/openOrder", "query_order", self._query_open_order)
        self._alias("GET", "/fapi/v2/balance", "balance", answers["balance"])
        self._alias("GET", "/fapi/v2/positionRisk", "position_risk", self._position_risk_v2)
        self._alias("POST", "/fapi/v1/positionSide/dual", "leverage", self._set_position_mode)
        self._alias("POST", "/fapi/v1/order/test", "query_order", self._test_order)

    def handle(self, request: HttpRequest, now_ms: int, *, received_ms: int) -> HttpResponse:
        """Answer one request at `now_ms` that was let in at `received_ms`."""
        route = self._routes.get((request.method, request.path))
        if route is None:
            # A path may hold bytes that are no text.
            path = request.path.encode("ascii", "replace").decode()
            message = f"Path {path}, Method {request.method} is invalid"
            return self._reply(404, error_body(-5000, message), {}, now_ms)
        headers: dict[str, str] = {}
        try:
            values = {**decode_query(request.body), **decode_query(request.query)}
            self._charge(route, values, now_ms)
            self._authenticate(route, request, values, received_ms + self._venue.weather.clock_offset_ms)
            body = route.answer(Parameters(values, self._venue.boards.keys() - self._venue.unlisted), now_ms)
        except RateLimited as error:
            headers["retry-after"] = str(-(-error.retry_after_ms // SECOND_MS))
            return self._reply(error.http_status, error_body(error.code, error.text), headers, now_ms)
        except ExchangeError as error:
            return self._reply(error.http_status, error_body(error.code, error.text), headers, now_ms)
        if route.order_cost:
            headers["x-mbx-order-count-10s"] = str(self._orders_10s.used(now_ms))
            headers["x-mbx-order-count-1m"] = str(self._orders_1m.used(now_ms))
        return self._reply(200, body, headers, now_ms)

    def _alias(self, method: str, path: str, name: str, answer: Answer) -> None:
        endpoint = ENDPOINTS[name]
        self._routes[method, path] = Route(
            endpoint.security, endpoint.weight, endpoint.order_cost, endpoint.own_pool, answer
        )

    def _reply(self, status: int, body: bytes, headers: dict[str, str], now_ms: int) -> HttpResponse:
        headers["content-type"] = "application/json"
        headers["x-mbx-used-weight-1m"] = str(self._weight.used(now_ms))
        return HttpResponse(status=status, body=body, headers=headers)

    # Before anything is answered

    def _charge(self, route: Route, values: Mapping[str, str], now_ms: int) -> None:
        weight = route.weight(values)
        if not self._weight.has_room(weight, now_ms):
            raise _too_many_requests(self._weight, "minute", now_ms)
        self._weight.use(weight, now_ms)
        if route.own_pool is not None:
            pool = self._own[route.own_pool]
            if not pool.has_room(1, now_ms):
                raise _too_many_requests(pool, f"{OWN_POOL_MINUTES} minutes", now_ms)
            pool.use(1, now_ms)
        for window in (self._orders_10s, self._orders_1m) if route.order_cost else ():
            if not window.has_room(route.order_cost, now_ms):
                limit = window.limit
                raise RateLimited(
                    f"Too many new orders; current limit is {limit.limit} orders per "
                    f"{limit.interval_count} {limit.interval}.",
                    code=-1015,
                    http_status=429,
                    retry_after_ms=window.wait_ms(now_ms),
                )
            window.use(route.order_cost, now_ms)

    def _authenticate(self, route: Route, request: HttpRequest, values: Mapping[str, str], now_ms: int) -> None:
        if route.security is Security.NONE:
            return
        key = next((value for name, value in request.headers.items() if name.lower() == "x-mbx-apikey"), "")
        if not key:
            raise AuthenticationFailed("API-key format invalid.", code=-2014, http_status=401)
        if key != self._venue.api_key:
            raise AuthenticationFailed("Invalid API-key, IP, or permissions for action.", code=-2015, http_status=401)
        if route.security is not Security.SIGNED:
            return
        parameters = Parameters(values, ())
        timestamp = parameters.integer("timestamp")
        if timestamp is None:
            raise missing("timestamp")
        parameters.text("signature")
        receive_window = parameters.integer("recvWindow")
        if timestamp >= now_ms + AHEAD_MS:
            raise ClockSkew(
                "Timestamp for this request was 1000ms ahead of the server's time.", code=-1021, http_status=400
            )
        if now_ms - timestamp > (DEFAULT_RECEIVE_WINDOW_MS if receive_window is None else receive_window):
            raise ClockSkew("Timestamp for this request is outside of the recvWindow.", code=-1021, http_status=400)
        if not verify_signature(self._venue.api_secret, request.query, request.body):
            raise AuthenticationFailed("Signature for this request is not valid.", code=-1022, http_status=400)

    # Market data

    def _boards(self, symbol: str | None) -> list[SymbolBoard]:
        boards = self._venue.boards
        return [boards[symbol]] if symbol is not None else list(boards.values())

    def _exchange_info(self, parameters: Parameters, now_ms: int) -> bytes:
        listed = {s: rules for s, rules in self._venue.desk.rules.items() if s not in self._venue.unlisted}
        return encode_exchange_info(ExchangeInfo(now_ms, RATE_LIMITS, listed))

    def _depth(self, parameters: Parameters, now_ms: int) -> bytes:
        board = self._venue.boards[parameters.symbol()]
        limit = parameters.limit(500, 1000)
        if limit not in DEPTH_LIMITS:
            raise refused(-4021, f"{limit} is not valid depth limit.")
        update_id, bids, asks = board.depth(limit)
        return encode_depth_snapshot(DepthSnapshot(update_id, bids, asks, now_ms, now_ms))

    def _klines(self, parameters: Parameters, now_ms: int) -> bytes:
        board = self._venue.boards[parameters.symbol()]
        interval = parameters.text("interval")
        if interval not in INTERVAL_MS:
            raise refused(-1120, "Invalid interval.")
        start_ms, end_ms = parameters.window()
        limit = parameters.limit(500, 1500)
        return encode_klines(board.bars(interval, start_ms=start_ms, end_ms=end_ms, limit=limit, now_ms=now_ms))

    def _premium_index(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        rows = [
            PremiumIndex(
                symbol=board.symbol,
                mark_price=board.mark.mark_price,
                index_price=board.mark.index_price,
                estimated_settle_price=board.mark.index_price,
                funding_rate=board.mark.funding_rate,
                interest_rate=INTEREST_RATE,
                next_funding_time_ms=board.mark.next_funding_time_ms,
                time_ms=board.mark.event_time_ms,
            )
            for board in self._boards(symbol)
            if board.mark is not None
        ]
        return encode_premium_index(_one_or_all(symbol, rows))

    def _ticker_24hr(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        rows = [day for board in self._boards(symbol) if (day := board.day(now_ms)) is not None]
        return encode_ticker_24hr(_one_or_all(symbol, rows))

    def _ticker_price(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        rows = [
            TickerPrice(board.symbol, price, now_ms)
            for board in self._boards(symbol)
            if (price := board.last_price) is not None
        ]
        return encode_ticker_price(_one_or_all(symbol, rows))

    def _ticker_book(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        return encode_ticker_book(
            _one_or_all(symbol, [board.quote for board in self._boards(symbol) if board.quote is not None])
        )

    def _funding_rate(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        rows = [
            FundingRate(
                symbol=settled.symbol,
                funding_time_ms=settled.funding_time_ms,
                funding_rate=settled.funding_rate,
                mark_price=settled.mark_price,
            )
            for board in self._boards(symbol)
            for settled in board.funding
        ]
        rows.sort(key=lambda row: row.funding_time_ms)
        return encode_funding_rate(_page(rows, parameters, 100, lambda row: row.funding_time_ms))

    def _funding_info(self, parameters: Parameters, now_ms: int) -> bytes:
        rows: list[FundingInfo] = []
        for symbol, brackets in self._venue.desk.brackets.items():
            cap = brackets[0].maintenance_margin_ratio * FUNDING_CAP_SHARE
            hours = funding_hours_now(self._venue.weather, symbol, self._venue.source.funding_interval_hours(symbol))
            rows.append(FundingInfo(symbol=symbol, rate_cap=cap, rate_floor=-cap, interval_hours=hours))
        return encode_funding_info(rows)

    def _open_interest(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.symbol()
        rules = self._venue.desk.rules[symbol]
        return encode_open_interest(open_interest(self._venue.boards[symbol], rules, now_ms))

    def _open_interest_history(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.symbol()
        period_ms = PERIODS_MS.get(parameters.text("period"))
        if period_ms is None:
            raise refused(-1130, "Data sent for parameter 'period' is not valid.")
        start_ms, end_ms = parameters.window()
        rows = open_interest_history(
            self._venue.boards[symbol],
            self._venue.desk.rules[symbol],
            period_ms,
            start_ms=start_ms,
            end_ms=end_ms,
            limit=parameters.limit(30, 500),
            now_ms=now_ms,
        )
        return encode_open_interest_history(rows)

    def _trades(self, parameters: Parameters, now_ms: int) -> bytes:
        board = self._venue.boards[parameters.symbol()]
        return encode_trades(list(board.trades)[-parameters.limit(500, 1000) :])

    def _agg_trades(self, parameters: Parameters, now_ms: int) -> bytes:
        board = self._venue.boards[parameters.symbol()]
        from_id = parameters.integer("fromId") or 0
        trades = [trade for trade in board.trades if trade.trade_id >= from_id]
        return encode_agg_trades(_page(trades, parameters, 500, lambda trade: trade.trade_time_ms))

    # Orders

    def _intent(self, parameters: Parameters) -> OrderIntent:
        symbol = parameters.symbol()
        side = parameters.choice("side", Side, -1117)
        kind = parameters.text("type")
        if kind in CONDITIONAL_TYPES:
            raise refused(
                -4120, "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead."
            )
        if kind not in (OrderType.LIMIT, OrderType.MARKET):
            raise refused(-1116, "Invalid orderType.")
        if parameters.values.get("positionSide", "BOTH") != "BOTH":
            raise refused(-4061, "Order's position side does not match user's setting.")
        price: Decimal | None = None
        time_in_force: TimeInForce | None = None
        if kind == OrderType.LIMIT:
            time_in_force = parameters.choice("timeInForce", TimeInForce, -1115)
            price = parameters.decimal("price")
        elif parameters.values.get("price"):
            raise refused(-1106, "Parameter 'price' sent when not required.")
        if parameters.values.get("newOrderRespType", "ACK") not in ("ACK", "RESULT"):
            raise refused(-1136, "Invalid newOrderRespType.")
        client_order_id = parameters.values.get("newClientOrderId") or self._venue.desk.next_client_order_id()
        if not _CLIENT_ORDER_ID.match(client_order_id):
            if len(client_order_id) > 36:
                raise refused(-4015, "Client order id length should not be more than 36 chars")
            raise refused(-1100, "Illegal characters found in parameter 'newClientOrderId'.")
        return OrderIntent(
            client_order_id=client_order_id,
            symbol=symbol,
            side=side,
            order_type=OrderType(kind),
            quantity=parameters.decimal("quantity"),
            price=price,
            time_in_force=time_in_force,
            reduce_only=parameters.flag("reduceOnly"),
        )

    def _place_order(self, parameters: Parameters, now_ms: int) -> bytes:
        order = self._venue.desk.place(self._intent(parameters), now_ms).order
        if parameters.values.get("newOrderRespType") != "RESULT":
            # An acknowledgement is written before the matching engine has done anything.
            order = msgspec.structs.replace(order, status=OrderStatus.NEW, executed_quantity=ZERO)
        return encode_order_ack(order)

    def _test_order(self, parameters: Parameters, now_ms: int) -> bytes:
        self._venue.desk.check(self._intent(parameters))
        return b"{}"

    def _find(self, parameters: Parameters) -> OrderEntry:
        symbol = parameters.symbol()
        order_id = parameters.integer("orderId")
        client_order_id = parameters.values.get("origClientOrderId") or None
        if order_id is None and client_order_id is None:
            raise refused(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
        return self._venue.desk.find(symbol, order_id=order_id, client_order_id=client_order_id)

    def _query_order(self, parameters: Parameters, now_ms: int) -> bytes:
        entry = self._find(parameters)
        return encode_order(entry.order, created_ms=entry.created_ms)

    def _query_open_order(self, parameters: Parameters, now_ms: int) -> bytes:
        entry = self._find(parameters)
        if entry.order.status.is_final:
            raise refused(-2013, "Order does not exist.")
        return encode_order(entry.order, created_ms=entry.created_ms)

    def _cancel_order(self, parameters: Parameters, now_ms: int) -> bytes:
        try:
            entry = self._find(parameters)
        except ExchangeError as error:
            if error.code == -2013:
                raise refused(-2011, "Unknown order sent.") from error
            raise
        self._venue.desk.cancel(entry, now_ms)
        return encode_order_ack(entry.order)

    def _cancel_all_orders(self, parameters: Parameters, now_ms: int) -> bytes:
        self._venue.desk.cancel_all(parameters.symbol(), now_ms)
        return encode_success("The operation of cancel all open order is done.")

    def _open_orders(self, parameters: Parameters, now_ms: int) -> bytes:
        return _told(self._venue.desk.open_orders(parameters.optional_symbol()))

    def _all_orders(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        from_id = parameters.integer("orderId")
        entries = [
            entry
            for entry in self._venue.desk.orders.values()
            if (symbol is None or entry.order.symbol == symbol) and (from_id is None or entry.order.order_id >= from_id)
        ]
        return _told(
            _page(entries, parameters, 500, lambda entry: entry.created_ms, from_the_start=from_id is not None)
        )

    def _user_trades(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.symbol()
        order_id, from_id = parameters.integer("orderId"), parameters.integer("fromId")
        start_ms, end_ms = parameters.window()
        if start_ms is not None and end_ms is not None and end_ms - start_ms > LONGEST_WINDOW_MS:
            raise refused(-4165, "Invalid time interval.")

        def is_asked(fill: Fill) -> bool:
            return (
                fill.symbol == symbol
                and (order_id is None or fill.order_id == order_id)
                and (from_id is None or fill.trade_id >= from_id)
            )

        fills = [fill for fill in self._venue.desk.fills if is_asked(fill)]
        return encode_user_trades(
            _page(fills, parameters, 500, lambda fill: fill.trade_time_ms, from_the_start=from_id is not None)
        )

    # The account

    def _account(self, parameters: Parameters, now_ms: int) -> bytes:
        account, margin = self._venue.desk.account, self._venue.desk.margin()
        positions = []
        for symbol, figures in margin.positions.items():
            holding = account.holdings[symbol]
            positions.append(
                _booked(
                    AccountPosition(
                        symbol=symbol,
                        quantity=holding.position.quantity,
                        unrealized_pnl=figures.unrealized_pnl,
                        notional=figures.notional,
                        initial_margin=figures.position_initial_margin + figures.open_order_initial_margin,
                        maintenance_margin=figures.maintenance_margin,
                        isolated_margin=holding.isolated_wallet + figures.unrealized_pnl if holding.isolated else ZERO,
                        isolated_wallet=holding.isolated_wallet,
                        update_time_ms=holding.update_time_ms,
                    )
                )
            )
        return encode_account(
            _booked(
                AccountInfo(
                    wallet_balance=account.wallet_balance,
                    unrealized_pnl=margin.unrealized_pnl,
                    margin_balance=account.wallet_balance + margin.unrealized_pnl,
                    maintenance_margin=margin.maintenance_margin,
                    initial_margin=margin.position_initial_margin + margin.open_order_initial_margin,
                    available_balance=margin.available_balance,
                    position_initial_margin=margin.position_initial_margin,
                    open_order_initial_margin=margin.open_order_initial_margin,
                    cross_wallet_balance=account.cross_wallet,
                    cross_unrealized_pnl=margin.cross_unrealized_pnl,
                    max_withdraw_amount=margin.max_withdraw,
                    positions=tuple(positions),
                )
            ),
            update_time_ms=account.update_time_ms,
        )

    def _balance(self, parameters: Parameters, now_ms: int) -> bytes:
        account, margin = self._venue.desk.account, self._venue.desk.margin()
        balance = Balance(
            asset=MARGIN_ASSET,
            balance=account.wallet_balance,
            cross_wallet_balance=account.cross_wallet,
            cross_unrealized_pnl=margin.cross_unrealized_pnl,
            available_balance=margin.available_balance,
            max_withdraw_amount=margin.max_withdraw,
            update_time_ms=account.update_time_ms,
        )
        return encode_balance([_booked(balance)])

    def _position_risk(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        symbols = [each for each in self._venue.desk.margin().positions if symbol in (None, each)]
        return encode_position_risk([_booked(risk) for risk in self._risks(symbols)])

    def _position_risk_v2(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        symbols = [symbol] if symbol is not None else list(self._venue.boards)
        return encode_position_risk_v2(zip(map(_booked, self._risks(symbols)), self._configs(symbols), strict=True))

    def _risks(self, symbols: Sequence[str]) -> list[PositionRisk]:
        desk = self._venue.desk
        margin = desk.margin()
        risks: list[PositionRisk] = []
        for symbol in symbols:
            holding, figures = desk.account.holdings[symbol], margin.positions.get(symbol)
            mark_price = desk.marks.get(symbol, ZERO)
            if figures is None:
                risks.append(
                    PositionRisk(
                        symbol=symbol,
                        quantity=ZERO,
                        entry_price=ZERO,
                        mark_price=mark_price,
                        unrealized_pnl=ZERO,
                        liquidation_price=ZERO,
                    )
                )
                continue
            entry_price, orders = holding.position.entry_price, desk.open_notional(symbol)
            fee_share = self._venue.config.taker_fee_rate * holding.position.sign
            risks.append(
                PositionRisk(
                    symbol=symbol,
                    quantity=holding.position.quantity,
                    entry_price=entry_price,
                    mark_price=mark_price,
                    unrealized_pnl=figures.unrealized_pnl,
                    liquidation_price=figures.liquidation_price,
                    # The exchange's formula is not published; for a fresh position it is entry plus the fee paid.
                    break_even_price=quantize_money(entry_price * (1 + fee_share)),
                    isolated_margin=holding.isolated_wallet + figures.unrealized_pnl if holding.isolated else ZERO,
                    notional=figures.notional,
                    isolated_wallet=holding.isolated_wallet,
                    initial_margin=figures.position_initial_margin + figures.open_order_initial_margin,
                    maintenance_margin=figures.maintenance_margin,
                    position_initial_margin=figures.position_initial_margin,
                    open_order_initial_margin=figures.open_order_initial_margin,
                    bid_notional=orders.bids,
                    ask_notional=orders.asks,
                    update_time_ms=holding.update_time_ms,
                )
            )
        return risks

    def _configs(self, symbols: Sequence[str]) -> list[SymbolConfig]:
        desk = self._venue.desk
        configs: list[SymbolConfig] = []
        for symbol in symbols:
            holding = desk.account.holdings[symbol]
            configs.append(
                SymbolConfig(
                    symbol,
                    "ISOLATED" if holding.isolated else "CROSSED",
                    holding.leverage,
                    max_notional(holding.leverage, desk.brackets[symbol]),
                )
            )
        return configs

    def _symbol_config(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.optional_symbol()
        return encode_symbol_config(self._configs([symbol] if symbol is not None else list(self._venue.boards)))

    def _leverage(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.symbol()
        leverage = parameters.integer("leverage")
        if leverage is None:
            raise missing("leverage")
        largest = self._venue.desk.set_leverage(symbol, leverage, now_ms)
        return encode_leverage(LeverageSet(symbol, leverage, largest))

    def _margin_type(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol = parameters.symbol()
        margin_type = parameters.text("marginType")
        if margin_type not in ("ISOLATED", "CROSSED"):
            raise refused(-1130, "Data sent for parameter 'marginType' is not valid.")
        self._venue.desk.set_margin_type(symbol, isolated=margin_type == "ISOLATED", now_ms=now_ms)
        return encode_success()

    def _set_position_mode(self, parameters: Parameters, now_ms: int) -> bytes:
        parameters.text("dualSidePosition")
        if parameters.flag("dualSidePosition"):
            raise refused(-4067, "Position side cannot be changed: this exchange knows one-way mode only.")
        raise refused(-4059, "No need to change position side.")

    def _leverage_bracket(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol, brackets = parameters.optional_symbol(), self._venue.desk.brackets
        return encode_leverage_bracket(brackets if symbol is None else {symbol: brackets[symbol]})

    def _commission_rate(self, parameters: Parameters, now_ms: int) -> bytes:
        config = self._venue.config
        return encode_commission_rate(CommissionRate(parameters.symbol(), config.maker_fee_rate, config.taker_fee_rate))

    def _income(self, parameters: Parameters, now_ms: int) -> bytes:
        symbol, kind = parameters.optional_symbol(), parameters.values.get("incomeType")
        rows = [
            Income(
                symbol=income.symbol,
                income_type=income.kind,
                amount=income.amount,
                asset=MARGIN_ASSET,
                time_ms=income.time_ms,
                transaction_id=number,
                trade_id=str(income.trade_id or ""),
            )
            for number, income in enumerate(self._venue.desk.income, start=1)
            if (symbol is None or income.symbol == symbol) and (not kind or income.kind == kind)
        ]
        return encode_income(_page(rows, parameters, 100, lambda row: row.time_ms))

    # User stream

    def _create_listen_key(self, parameters: Parameters, now_ms: int) -> bytes:
        return encode_listen_key(ListenKey(self._venue.create_listen_key(now_ms)))

    def _renew_listen_key(self, parameters: Parameters, now_ms: int) -> bytes:
        return encode_listen_key(ListenKey(self._venue.renew_listen_key(now_ms)))

    def _close_listen_key(self, parameters: Parameters, now_ms: int) -> bytes:
        self._venue.close_listen_key()
        return b"{}"


def _told(entries: Iterable[OrderEntry]) -> bytes:
    return encode_orders((entry.order, entry.created_ms) for entry in entries)


def _one_or_all(symbol: str | None, rows: list[T]) -> T | list[T]:
    """What is known of one symbol as an object, of all as an array."""
    if symbol is None:
        return rows
    if not rows:
        raise refused(-1122, "Invalid symbol status.")
    return rows[0]


def _page(
    rows: Sequence[T],
    parameters: Parameters,
    default_limit: int,
    time_of: Callable[[T], int],
    *,
    from_the_start: bool = False,
) -> list[T]:
    """The rows inside the asked window, at most `limit`: the first ones where a start is given, else the latest."""
    start_ms, end_ms = parameters.window()
    limit = parameters.limit(default_limit, 1000)
    chosen = [
        row
        for row in rows
        if (start_ms is None or time_of(row) >= start_ms) and (end_ms is None or time_of(row) <= end_ms)
    ]
    return chosen[:limit] if from_the_start or start_ms is not None else chosen[-limit:]


_ON_A_GRID = frozenset({"quantity", "entry_price", "break_even_price", "liquidation_price"})


def _booked(record: Record) -> Record:
    """`record` with its amounts of money in the eight decimals the exchange writes; nothing booked has more."""
    amounts = {
        name: quantize_money(value)
        for name in record.__struct_fields__
        if name not in _ON_A_GRID and isinstance(value := getattr(record, name), Decimal)
    }
    return msgspec.structs.replace(record, **amounts)
