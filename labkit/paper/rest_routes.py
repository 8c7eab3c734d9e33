"""What the venue answers on HTTP: routes, security, limits, parameters, replies.

A request is checked in the exchange's order: route, weight, key, timestamp, signature, parameters; only then the order
desk is asked. Every answer is JSON and carries the used weight; errors have the exchange's codes (protocol §4-§6).
Pure: the time of arrival is an argument. Called by `labkit.paper.venue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from labkit.domain.clock import SECOND_MS
from labkit.errors import AuthenticationFailed, ClockSkew, ExchangeError, RateLimited
from labkit.paper.account_answers import AccountAnswers
from labkit.paper.market_answers import RATE_LIMITS, MarketAnswers
from labkit.paper.order_answers import OrderAnswers
from labkit.paper.request_parameters import Answer, Parameters, missing
from labkit.wire.endpoints import ENDPOINTS, OwnPool, Security, Weight, decode_query
from labkit.wire.faults import error_body
from labkit.wire.rest_account import encode_position_mode
from labkit.wire.rest_market import RateLimit, encode_server_time
from labkit.wire.signing import verify_signature
from labkit.wire.transport import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from labkit.paper.venue import Venue

WEIGHT_LIMIT, ORDER_LIMIT_1M, ORDER_LIMIT_10S = RATE_LIMITS
OWN_POOL_MINUTES = 5
DEFAULT_RECEIVE_WINDOW_MS = 5_000
AHEAD_MS = SECOND_MS


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


def _too_many_requests(window: Window, span: str, now_ms: int) -> RateLimited:
    return RateLimited(
        f"Too many requests; current limit is {window.limit.limit} requests per {span}.",
        code=-1003,
        http_status=429,
        retry_after_ms=window.wait_ms(now_ms),
    )


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
        market, orders, account = MarketAnswers(venue), OrderAnswers(venue), AccountAnswers(venue)
        answers: dict[str, Answer] = {
            "ping": lambda parameters, now_ms: b"{}",
            "time": lambda parameters, now_ms: encode_server_time(now_ms + venue.weather.clock_offset_ms),
            "exchange_info": market.exchange_info,
            "depth": market.depth,
            "klines": market.klines,
            "premium_index": market.premium_index,
            "ticker_24hr": market.ticker_24hr,
            "ticker_price": market.ticker_price,
            "ticker_book": market.ticker_book,
            "funding_rate": market.funding_rate,
            "funding_info": market.funding_info,
            "open_interest": market.open_interest,
            "open_interest_history": market.open_interest_history,
            "trades": market.trades,
            "agg_trades": market.agg_trades,
            "place_order": orders.place_order,
            "query_order": orders.query_order,
            "cancel_order": orders.cancel_order,
            "cancel_all_orders": orders.cancel_all_orders,
            "open_orders": orders.open_orders,
            "all_orders": orders.all_orders,
            "user_trades": orders.user_trades,
            "account": account.account,
            "balance": account.balance,
            "position_risk": account.position_risk,
            "leverage": account.leverage,
            "margin_type": account.margin_type,
            "position_mode": lambda parameters, now_ms: encode_position_mode(dual=False),
            "leverage_bracket": account.leverage_bracket,
            "commission_rate": account.commission_rate,
            "symbol_config": account.symbol_config,
            "income": account.income,
            "listen_key_create": account.create_listen_key,
            "listen_key_renew": account.renew_listen_key,
            "listen_key_close": account.close_listen_key,
        }
        self._routes: dict[tuple[str, str], Route] = {}
        for name, answer in answers.items():
            endpoint = ENDPOINTS[name]
            self._alias(endpoint.method, endpoint.path, name, answer)
        # What other clients ask for and ours does not.
        self._alias("GET", "/api/v3/ping", "ping", answers["ping"])
        self._alias("GET", "/api/v3/time", "time", answers["time"])
        self._alias("GET", "/fapi/v1/ticker/price", "ticker_price", answers["ticker_price"])
        self._alias("GET", "/fapi/v1/openOrder", "query_order", orders.query_open_order)
        self._alias("GET", "/fapi/v2/balance", "balance", answers["balance"])
        self._alias("GET", "/fapi/v2/positionRisk", "position_risk", account.position_risk_v2)
        self._alias("POST", "/fapi/v1/positionSide/dual", "leverage", account.set_position_mode)
        self._alias("POST", "/fapi/v1/order/test", "query_order", orders.test_order)

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
