"""The client sends once, settles doubt by asking, and stops when the exchange says so. All in virtual time."""

from __future__ import annotations

import asyncio
import gzip
import traceback
from decimal import Decimal

import msgspec
import pytest

from labkit.config import ClientConfig
from labkit.domain.orders import Fill, Order, OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from labkit.edge.clocks import SystemClock
from labkit.edge.http import SocketHttp
from labkit.errors import (
    AuthenticationFailed,
    BreakerOpen,
    ClockSkew,
    ConfigError,
    ExchangeError,
    ExchangeUnavailable,
    FilterViolation,
    ForbiddenHost,
    InsufficientMargin,
    IpBanned,
    LabkitError,
    LocalProtocolError,
    OutcomeUnknown,
    RateLimited,
    RemoteProtocolError,
    RequestRejected,
    WouldExceedLimit,
)
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.circuit_breaker import BreakerLevel, LevelChange
from labkit.exchange.credentials import Credentials
from labkit.exchange.request_plan import Forecast, planned_calls
from labkit.wire import rest_account, rest_market
from labkit.wire.endpoints import ENDPOINTS, Security, decode_query
from labkit.wire.signing import verify_signature
from labkit.wire.transport import ConnectionLost, HttpResponse, NotSent

ORDER = "/fapi/v1/order"
TRADES = "/fapi/v1/userTrades"
START_MS = 1_795_375_260_000
FENCE_MS = 5_000 + 10_000 + 2_000
PATIENCE_MS = 10_000
"""Receive window of virtual time, processing limit, margin."""


def intent(client_order_id: str = "lab-1", *, reduce_only: bool = False) -> OrderIntent:
    return OrderIntent(
        client_order_id=client_order_id,
        symbol="BTCUSDT",
        side=Side.BUY,
        order_type=OrderType.MARKET,
        quantity=Decimal("0.010"),
        reduce_only=reduce_only,
    )


def order(client_order_id: str = "lab-1", order_id: int = 7) -> Order:
    return Order(
        symbol="BTCUSDT",
        order_id=order_id,
        client_order_id=client_order_id,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        status=OrderStatus.FILLED,
        price=Decimal("0.00"),
        original_quantity=Decimal("0.010"),
        executed_quantity=Decimal("0.010"),
        average_price=Decimal("91234.60"),
        update_time_ms=START_MS,
    )


def fill(order_id: int) -> Fill:
    return Fill(
        symbol="BTCUSDT",
        trade_id=1,
        order_id=order_id,
        client_order_id="",
        side=Side.BUY,
        price=Decimal("91234.60"),
        quantity=Decimal("0.010"),
        commission=Decimal("0.4"),
        realized_pnl=Decimal(0),
        maker=False,
        trade_time_ms=START_MS,
    )


def ack(client_order_id: str = "lab-1") -> HttpResponse:
    return HttpResponse(status=200, body=rest_account.encode_order_ack(order(client_order_id)))


def echo_ack(request) -> HttpResponse:
    return ack(decode_query(request.body)["newClientOrderId"])


def queried(told: Order) -> HttpResponse:
    return HttpResponse(status=200, body=rest_account.encode_order(told, created_ms=START_MS))


def ok(body: bytes = b"{}", **headers: str) -> HttpResponse:
    return HttpResponse(status=200, body=body, headers={name.replace("_", "-"): v for name, v in headers.items()})


def fault(status: int, code: int, message: str, **headers: str) -> HttpResponse:
    body = msgspec.json.encode({"code": code, "msg": message})
    return HttpResponse(status=status, body=body, headers={name.replace("_", "-"): v for name, v in headers.items()})


NO_SUCH_ORDER = fault(400, -2013, "Order does not exist.")
UNKNOWN_503 = fault(503, -1000, "Unknown error, please check your request or try again later.")


# ------------------------------------------------------------------------------------------------ what is really sent


def test_an_order_is_sent_once_signed_and_stamped_with_the_time_of_the_exchange(lab) -> None:
    lab.exchange.on("POST", ORDER, echo_ack)
    lab.server_offset_ms = 3_000

    async def story() -> Order:
        client = lab.client()
        await client.sync_time()
        await lab.sleep(1_234)
        return await client.place_order(intent())

    placed = lab.run(story())
    assert placed.status is OrderStatus.FILLED
    _, request = lab.exchange.requests[-1]
    sent = decode_query(request.body)
    assert request.query == ""
    assert request.headers["X-MBX-APIKEY"] == "canary-key-4242"
    assert sent["timestamp"] == str(START_MS + 1_234 + 3_000)
    assert sent["newClientOrderId"] == "lab-1"
    assert verify_signature("canary-secret-4242", request.query, request.body)
    assert len(lab.exchange.times("POST", ORDER)) == 1


def test_a_signed_question_travels_in_the_query_and_has_no_body(lab) -> None:
    lab.exchange.on("GET", ORDER, queried(order()))

    async def story() -> None:
        await lab.client().query_order("币安人生USDT", "lab-1")

    lab.run(story())
    _, request = lab.exchange.requests[-1]
    assert request.body == ""
    assert "symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT&" in request.query
    assert verify_signature("canary-secret-4242", request.query, request.body)


def test_public_data_is_asked_for_without_key_and_signature(lab) -> None:
    async def story() -> None:
        await lab.client().server_time()

    lab.run(story())
    _, request = lab.exchange.requests[-1]
    assert (request.query, request.body, dict(request.headers)) == ("", "", {})


@pytest.mark.parametrize(("speed", "window_ms"), [(0.5, 5_000), (1.0, 5_000), (30.0, 150_000)])
async def test_the_receive_window_grows_with_the_speed_of_the_market(lab, speed, window_ms) -> None:
    client = BinanceClient(lab.exchange, SystemClock(speed=speed), None, lab.credentials)
    lab.exchange.on("GET", ORDER, queried(order()))
    await client.query_order("BTCUSDT", "lab-1")
    assert lab.exchange.sent("GET", ORDER)[0]["recvWindow"] == str(window_ms)


# ------------------------------------------------------------------------------------------------------- time


def test_one_slow_round_trip_does_not_spoil_the_offset(lab) -> None:
    trips = iter([(0, 0), (4_000, 0), (10, 10)])

    async def time_of_server(_: object) -> HttpResponse:
        there_ms, back_ms = next(trips)
        await lab.sleep(there_ms)
        told = ok(rest_market.encode_server_time(lab.clock.now_ms() + 700))
        await lab.sleep(back_ms)
        return told

    lab.exchange.on("GET", "/fapi/v1/time", time_of_server)

    async def story() -> int:
        return await lab.client().sync_time()

    assert lab.run(story()) == 700


def test_one_wrong_answer_does_not_spoil_the_offset_however_quick(lab) -> None:
    told = iter([700, 90_000, 700])

    async def time_of_server(_: object) -> HttpResponse:
        return ok(rest_market.encode_server_time(lab.clock.now_ms() + next(told)))

    lab.exchange.on("GET", "/fapi/v1/time", time_of_server)

    async def story() -> int:
        return await lab.client().sync_time()

    assert lab.run(story()) == 700


def test_an_offset_that_the_round_trip_alone_explains_is_none(lab) -> None:
    async def time_of_server(_: object) -> HttpResponse:
        await lab.sleep(900)
        return ok(rest_market.encode_server_time(lab.clock.now_ms()))

    lab.exchange.on("GET", "/fapi/v1/time", time_of_server)

    async def story() -> int:
        return await lab.client().sync_time()

    assert lab.run(story()) == 0


@pytest.mark.parametrize("code", [-1021, -5028])
def test_a_wrong_clock_costs_one_refused_request_and_one_resynchronization(lab, code) -> None:
    skewed = fault(400, code, "Timestamp for this request is outside of the recvWindow.")
    lab.exchange.on("POST", ORDER, skewed, echo_ack)
    lab.server_offset_ms = -90_000

    async def story() -> BinanceClient:
        client = lab.client()
        await client.place_order(intent())
        return client

    client = lab.run(story())
    assert client.time_offset_ms == -90_000
    stamps = [int(sent["timestamp"]) for sent in lab.exchange.sent("POST", ORDER)]
    assert stamps == [START_MS, START_MS - 90_000]
    assert len(lab.exchange.times("GET", "/fapi/v1/time")) == 3


def test_a_clock_that_stays_wrong_is_an_error_and_no_storm(lab) -> None:
    lab.exchange.on("POST", ORDER, fault(400, -1021, "Timestamp for this request is outside of the recvWindow."))

    async def story() -> None:
        with pytest.raises(ClockSkew):
            await lab.client().place_order(intent())

    lab.run(story())
    assert len(lab.exchange.times("POST", ORDER)) == 2


# ------------------------------------------------------------------------------------------ never sent twice


AMBIGUOUS = {
    "connection cut": ConnectionLost("reset"),
    "unknown 503": UNKNOWN_503,
    "back-end time-out": fault(408, -1007, "Timeout waiting for response from backend server."),
    "unexpected response": fault(503, -1006, "An unexpected response was received from the message bus."),
    "unrecognised 5xx": HttpResponse(status=502, body=b"<html>Bad gateway</html>"),
    "duplicate id": fault(400, -4116, "ClientOrderId is duplicated."),
    "unreadable acknowledgement": ok(b"<html>"),
    "acknowledgement of another order": ack("somebody-elses"),
}


@pytest.mark.parametrize("reply", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_an_order_whose_outcome_is_unknown_is_never_sent_again(lab, reply) -> None:
    lab.exchange.on("POST", ORDER, reply)

    async def story() -> None:
        client = lab.client()
        with pytest.raises(OutcomeUnknown):
            await client.place_order(intent())
        with pytest.raises(LocalProtocolError, match="used before"):
            await client.place_order(intent())

    lab.run(story())
    assert len(lab.exchange.times("POST", ORDER)) == 1


def test_an_order_that_gets_no_answer_is_in_doubt_after_the_patience_of_the_client(lab) -> None:
    async def silence(_: object) -> HttpResponse:
        await lab.sleep(10_000_000)
        return ack()

    lab.exchange.on("POST", ORDER, silence)

    async def story() -> int:
        with pytest.raises(OutcomeUnknown):
            await lab.client().place_order(intent())
        return lab.now()

    assert lab.run(story()) == PATIENCE_MS


def test_an_order_that_never_left_was_definitely_not_executed(lab) -> None:
    lab.exchange.on("POST", ORDER, NotSent("connection refused"))

    async def story() -> None:
        with pytest.raises(ExchangeUnavailable):
            await lab.client().place_order(intent())

    lab.run(story())
    assert len(lab.exchange.times("POST", ORDER)) == 1


def test_two_tasks_with_the_same_order_send_it_once(lab) -> None:
    lab.exchange.on("POST", ORDER, echo_ack)

    async def story() -> list[object]:
        client = lab.client()
        return await asyncio.gather(client.place_order(intent()), client.place_order(intent()), return_exceptions=True)

    outcomes = lab.run(story())
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LocalProtocolError", "Order"]
    assert len(lab.exchange.times("POST", ORDER)) == 1


@pytest.mark.parametrize(
    "client_order_id", ["", "x" * 37, "with space", "semi;colon", "umläut", "new\nline"], ids=ascii
)
def test_an_id_the_exchange_would_not_take_is_refused_before_anything_is_sent(lab, client_order_id) -> None:
    async def story() -> None:
        with pytest.raises(LocalProtocolError):
            await lab.client().place_order(intent(client_order_id))

    lab.run(story())
    assert lab.exchange.requests == []


def test_an_order_we_refused_ourselves_may_be_tried_again(lab) -> None:
    lab.exchange.on("POST", ORDER, fault(429, -1003, "Too many requests.", retry_after="7"), echo_ack)

    async def story() -> Order:
        client = lab.client()
        with pytest.raises(RateLimited):
            await client.place_order(intent("lab-1"))
        with pytest.raises(BreakerOpen):
            await client.place_order(intent("lab-2", reduce_only=True))
        await lab.sleep(7_000)
        return await client.place_order(intent("lab-2", reduce_only=True))

    assert lab.run(story()).client_order_id == "lab-2"


@pytest.mark.parametrize("lost", [NotSent("refused"), ConnectionLost("reset")], ids=["not sent", "lost"])
def test_an_unsigned_question_is_asked_a_second_time_and_no_third(lab, lost) -> None:
    lab.exchange.on("GET", "/fapi/v1/time", lost, ok(rest_market.encode_server_time(1)))
    lab.exchange.on("GET", "/fapi/v1/ping", lost)

    async def story() -> int:
        client = lab.client()
        with pytest.raises(ExchangeUnavailable):
            await client.ping()
        return await client.server_time()

    assert lab.run(story()) == 1
    assert len(lab.exchange.times("GET", "/fapi/v1/ping")) == 2


def test_a_signed_question_is_asked_a_second_time_signed_anew_and_no_third(lab) -> None:
    async def lost(_: object) -> HttpResponse:
        await lab.sleep(700)
        raise ConnectionLost("reset")

    lab.exchange.on("GET", ORDER, lost)

    async def story() -> None:
        with pytest.raises(ExchangeUnavailable):
            await lab.client().query_order("BTCUSDT", "lab-1")

    lab.run(story())
    first, second = lab.exchange.sent("GET", ORDER)
    assert int(second["timestamp"]) - int(first["timestamp"]) == 700
    assert first["signature"] != second["signature"]


@pytest.mark.parametrize("lost", [NotSent("refused"), ConnectionLost("reset")], ids=["not sent", "lost"])
@pytest.mark.parametrize(
    ("method", "path", "ask"),
    [
        pytest.param("POST", ORDER, lambda client: client.place_order(intent()), id="order"),
        pytest.param("DELETE", ORDER, lambda client: client.cancel_order("BTCUSDT", "lab-1"), id="cancel"),
        pytest.param("PUT", "/fapi/v1/listenKey", lambda client: client.renew_listen_key(), id="renewal"),
    ],
)
def test_what_changes_something_is_never_sent_a_second_time(lab, lost, method, path, ask) -> None:
    lab.exchange.on(method, path, lost)

    async def story() -> None:
        with pytest.raises((ExchangeUnavailable, OutcomeUnknown)):
            await ask(lab.client())

    lab.run(story())
    assert len(lab.exchange.times(method, path)) == 1


# -------------------------------------------------------------------------------------------------- settling doubt


def test_doubt_ends_as_soon_as_the_order_is_seen(lab) -> None:
    lab.exchange.on("GET", ORDER, NO_SUCH_ORDER, NO_SUCH_ORDER, queried(order()))

    async def story() -> tuple[Order | None, int]:
        return await lab.client().settle(intent(), START_MS), lab.now()

    found, took_ms = lab.run(story())
    assert found == order()
    assert took_ms < 2_000


def test_no_such_order_is_proof_only_twice_and_only_behind_the_fence(lab) -> None:
    lab.exchange.on("GET", ORDER, NO_SUCH_ORDER)
    lab.exchange.on("GET", TRADES, ok(b"[]"))

    async def story() -> Order | None:
        return await lab.client().settle(intent(), START_MS)

    assert lab.run(story()) is None
    counting = [asked for asked in lab.exchange.times("GET", ORDER) if asked >= FENCE_MS]
    assert counting == [FENCE_MS, FENCE_MS + 1_000]
    assert lab.exchange.times("GET", TRADES) == [FENCE_MS + 1_000]


def test_an_order_that_appears_at_the_last_moment_is_found(lab) -> None:
    def late(_: object) -> HttpResponse:
        return queried(order()) if lab.now() > FENCE_MS else NO_SUCH_ORDER

    lab.exchange.on("GET", ORDER, late)

    async def story() -> Order | None:
        return await lab.client().settle(intent(), START_MS)

    assert lab.run(story()) == order()


def test_an_order_that_only_its_trade_betrays_is_found(lab) -> None:
    def by_order_id(request) -> HttpResponse:
        return queried(order()) if "orderId=7" in request.query else NO_SUCH_ORDER

    lab.exchange.on("GET", ORDER, by_order_id)
    lab.exchange.on("GET", TRADES, ok(rest_account.encode_user_trades([fill(7)])))

    async def story() -> Order | None:
        return await lab.client().settle(intent(), START_MS)

    assert lab.run(story()) == order()


def test_trades_of_other_orders_are_no_evidence(lab) -> None:
    def by_order_id(request) -> HttpResponse:
        return queried(order("another", 8)) if "orderId=8" in request.query else NO_SUCH_ORDER

    lab.exchange.on("GET", ORDER, by_order_id)
    lab.exchange.on("GET", TRADES, ok(rest_account.encode_user_trades([fill(8)])))

    async def story() -> Order | None:
        return await lab.client().settle(intent(), START_MS)

    assert lab.run(story()) is None


def test_a_trade_nobody_can_explain_keeps_the_doubt_alive(lab) -> None:
    lab.exchange.on("GET", ORDER, NO_SUCH_ORDER)
    lab.exchange.on("GET", TRADES, ok(rest_account.encode_user_trades([fill(9)])))

    async def story() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await lab.client().settle(intent(), START_MS)

    lab.run(story())


def test_an_exchange_that_is_away_is_asked_again_when_it_is_back(lab) -> None:
    def away_for_a_while(_: object) -> HttpResponse:
        if lab.now() < 200_000:
            raise ConnectionLost("reset")
        return queried(order())

    lab.exchange.on("GET", ORDER, away_for_a_while)

    async def story() -> Order | None:
        return await lab.client().settle(intent(), START_MS)

    assert lab.run(story()) == order()


def test_settling_never_places(lab) -> None:
    lab.exchange.on("GET", ORDER, NO_SUCH_ORDER)
    lab.exchange.on("GET", TRADES, ok(b"[]"))

    async def story() -> None:
        await lab.client().settle(intent(), START_MS)

    lab.run(story())
    assert {request.method for _, request in lab.exchange.requests} == {"GET"}


def test_the_fence_counts_from_the_moment_the_order_really_left(lab) -> None:
    lab.exchange.on("POST", ORDER, ConnectionLost("reset"))
    lab.exchange.on("GET", ORDER, NO_SUCH_ORDER)
    lab.exchange.on("GET", TRADES, ok(b"[]"))

    async def story() -> None:
        client = lab.client()
        await lab.sleep(30_000)
        with pytest.raises(OutcomeUnknown):
            await client.place_order(intent())
        # The engine knows only when it wanted to send.
        await client.settle(intent(), START_MS)

    lab.run(story())
    assert next(t for t in lab.exchange.times("GET", ORDER) if t >= 30_000 + FENCE_MS) == 30_000 + FENCE_MS
    assert lab.exchange.times("GET", TRADES) == [30_000 + FENCE_MS + 1_000]


def test_an_order_of_a_client_that_died_may_have_left_as_late_as_this_one_began(lab) -> None:
    lab.exchange.on("GET", ORDER, NO_SUCH_ORDER)
    lab.exchange.on("GET", TRADES, ok(b"[]"))

    async def story() -> None:
        await lab.sleep(20_000)
        await lab.client().settle(intent(), START_MS)

    lab.run(story())
    assert lab.exchange.times("GET", TRADES) == [20_000 + FENCE_MS + 1_000]


# ---------------------------------------------------------------------------------------------- errors and breaker


@pytest.mark.parametrize(
    ("reply", "error", "level"),
    [
        pytest.param(fault(400, -2019, "Margin is insufficient."), InsufficientMargin, 0, id="no margin"),
        pytest.param(fault(400, -4164, "Order's notional must be no smaller than 50"), FilterViolation, 0, id="filter"),
        pytest.param(fault(400, -2022, "ReduceOnly Order is rejected."), RequestRejected, 0, id="nothing to reduce"),
        pytest.param(fault(401, -2015, "Invalid API-key, IP."), AuthenticationFailed, 0, id="key"),
        pytest.param(fault(400, -4116, "ClientOrderId is duplicated."), OutcomeUnknown, 0, id="duplicate"),
        pytest.param(fault(503, 0, "Service Unavailable."), ExchangeUnavailable, 2, id="unavailable"),
        pytest.param(UNKNOWN_503, OutcomeUnknown, 2, id="unknown"),
        pytest.param(
            fault(
                503,
                -1008,
                "Request throttled by system-level protection. "
                "Reduce-only/close-position orders are exempt. Please try again.",
            ),
            ExchangeUnavailable,
            2,
            id="overloaded",
        ),
        pytest.param(fault(429, -1003, "Too many requests."), RateLimited, 3, id="429"),
        pytest.param(fault(418, -1003, "banned"), IpBanned, 3, id="418"),
        pytest.param(HttpResponse(status=403, body=b"<html>WAF"), RequestRejected, 3, id="firewall"),
        pytest.param(HttpResponse(status=451, body=b"<html>law"), RequestRejected, 3, id="region"),
        pytest.param(ConnectionLost("reset"), OutcomeUnknown, 2, id="cut"),
        pytest.param(NotSent("refused"), ExchangeUnavailable, 2, id="refused"),
    ],
)
def test_each_answer_is_one_error_and_moves_the_breaker_as_far_as_it_should(lab, reply, error, level) -> None:
    """Four times in a row; after a ban nothing more is sent."""
    lab.exchange.on("POST", ORDER, reply)

    async def story() -> BreakerLevel:
        client = lab.client()
        for number in range(4):
            with pytest.raises((error, BreakerOpen)):
                await client.place_order(intent(f"lab-{number}", reduce_only=True))
        return client.breaker.level(lab.clock.now_ms())

    assert lab.run(story()) == level


def test_business_rejections_never_move_the_breaker(lab) -> None:
    lab.exchange.on("POST", ORDER, fault(400, -2019, "Margin is insufficient."))
    told: list[LevelChange] = []

    async def story() -> None:
        client = lab.client(on_breaker_change=told.append)
        for number in range(200):
            with pytest.raises(InsufficientMargin):
                await client.place_order(intent(f"lab-{number}"))

    lab.run(story())
    assert told == []


def test_after_429_nothing_is_sent_in_the_window_of_the_server_and_then_a_probe_goes_first(lab) -> None:
    lab.exchange.on("GET", "/fapi/v1/ping", fault(429, -1003, "Too many requests.", retry_after="7"), ok())
    lab.exchange.on("POST", ORDER, echo_ack)

    async def story() -> None:
        client = lab.client()
        with pytest.raises(RateLimited):
            await client.ping()
        for number in range(69):
            with pytest.raises(BreakerOpen) as refused:
                await client.place_order(intent(f"lab-{number}", reduce_only=True))
            assert refused.value.retry_after_ms == 7_000 - lab.now()
            await lab.sleep(100)
        assert [time_ms - START_MS for time_ms, _ in lab.exchange.requests] == [0]
        await lab.sleep(100)
        await client.ping()

    lab.run(story())
    assert [(time_ms - START_MS, request.path) for time_ms, request in lab.exchange.requests[1:]] == [
        (7_000, "/fapi/v1/time"),
        (7_000, "/fapi/v1/ping"),
    ]


def test_a_ban_survives_a_restart(lab) -> None:
    lab.exchange.on("GET", "/fapi/v1/ping", fault(418, -1003, f"IP banned until {START_MS + 300_000}."))

    told: list[LevelChange] = []

    async def story() -> None:
        client = lab.client(on_breaker_change=told.append)
        with pytest.raises(IpBanned):
            await client.ping()
        await lab.sleep(299_999)
        restarted = lab.client()
        restarted.resume_breaker(told[-1])
        with pytest.raises(BreakerOpen):
            await restarted.ping()

    lab.run(story())
    assert len(lab.exchange.requests) == 1


def test_a_breaker_that_has_moved_itself_is_not_replaced_by_its_past(lab) -> None:
    lab.exchange.on("GET", "/fapi/v1/ping", fault(418, -1003, f"IP banned until {START_MS + 300_000}."))

    async def story() -> None:
        client = lab.client()
        past = client.breaker.standing(START_MS)
        with pytest.raises(IpBanned):
            await client.ping()
        client.resume_breaker(past)
        assert client.breaker.silent_until_ms == START_MS + 300_000

    lab.run(story())


def test_openings_of_a_cautious_client_leave_two_seconds_apart_and_closings_at_once(lab) -> None:
    lab.exchange.on("POST", ORDER, echo_ack)
    lab.exchange.on("GET", "/fapi/v1/openOrders", fault(503, 0, "Unknown error"))

    async def story() -> None:
        client = lab.client()
        for _ in range(3):
            with pytest.raises(ExchangeUnavailable):
                await client.open_orders("BTCUSDT")
        assert client.breaker.level(lab.clock.now_ms()) is BreakerLevel.CAUTIOUS
        await asyncio.gather(
            *(client.place_order(intent(f"open-{number}")) for number in range(3)),
            client.place_order(intent("close", reduce_only=True)),
        )

    lab.run(story())
    assert lab.exchange.times("POST", ORDER) == [0, 0, 2_000, 4_000]


def test_a_dead_exchange_is_left_alone_but_for_closing_and_found_again_by_a_probe(lab) -> None:
    dead = True

    def time_of_server(_: object) -> HttpResponse:
        if dead:
            raise NotSent("refused")
        return ok(rest_market.encode_server_time(lab.clock.now_ms()))

    lab.exchange.on("GET", "/fapi/v1/time", time_of_server)
    lab.exchange.on("POST", ORDER, NotSent("refused"))
    told: list[LevelChange] = []

    async def story() -> None:
        nonlocal dead
        client = lab.client(on_breaker_change=told.append)
        for number in range(8):
            with pytest.raises(ExchangeUnavailable):
                await client.place_order(intent(f"close-{number}", reduce_only=True))
        with pytest.raises(BreakerOpen, match="HALTED since POST /fapi/v1/order"):
            await client.place_order(intent("open"))
        with pytest.raises(ExchangeUnavailable):
            await client.place_order(intent("close-again", reduce_only=True))
        await lab.sleep(60_000)
        dead = False
        assert await client.probe() is BreakerLevel.REDUCE_ONLY
        await lab.sleep(120_000)
        assert await client.probe() is BreakerLevel.NORMAL

    lab.run(story())
    assert [change.level.name for change in told] == ["CAUTIOUS", "REDUCE_ONLY", "HALTED", "REDUCE_ONLY", "NORMAL"]
    assert all(change.cause for change in told)


def test_many_tasks_that_find_the_exchange_halted_send_one_probe(lab) -> None:
    lab.exchange.on("GET", "/fapi/v1/ping", fault(429, -1003, "Too many requests.", retry_after="1"), ok())

    async def slow_time(_: object) -> HttpResponse:
        await lab.sleep(50)
        return ok(rest_market.encode_server_time(lab.clock.now_ms()))

    lab.exchange.on("GET", "/fapi/v1/time", slow_time)

    async def story() -> None:
        client = lab.client()
        with pytest.raises(RateLimited):
            await client.ping()
        await lab.sleep(1_000)
        await asyncio.gather(*(client.ping() for _ in range(20)))

    lab.run(story())
    assert len(lab.exchange.times("GET", "/fapi/v1/time")) == 1


# ------------------------------------------------------------------------------------------------------ rate limits


def bars() -> HttpResponse:
    return ok(b"[]")


def test_history_waits_for_weight_others_have_used_and_trading_does_not(lab) -> None:
    lab.exchange.on("GET", "/fapi/v1/klines", ok(b"[]", x_mbx_used_weight_1m="1200"), bars())
    lab.exchange.on("POST", ORDER, echo_ack)
    lab.exchange.on("GET", ORDER, queried(order()))

    async def story() -> list[int]:
        client = lab.client()
        await client.klines("BTCUSDT", "1m")
        history = asyncio.create_task(client.klines("BTCUSDT", "1m"))
        await lab.sleep(1)
        await client.place_order(intent())
        await client.query_order("BTCUSDT", "lab-1")
        traded_ms = lab.now()
        await history
        return [traded_ms, lab.now()]

    traded_ms, history_ms = lab.run(story())
    assert traded_ms < 10
    assert history_ms == 60_000 - START_MS % 60_000


def test_a_trading_request_would_rather_be_refused_than_late(lab) -> None:
    lab.exchange.on("GET", "/fapi/v1/ping", ok(x_mbx_order_count_1m="1200"))

    async def story() -> None:
        client = BinanceClient(lab.exchange, SystemClock(start_ms=START_MS), None, lab.credentials)
        await client.ping()
        with pytest.raises(WouldExceedLimit):
            await client.place_order(intent())

    asyncio.run(story())
    assert lab.exchange.times("POST", ORDER) == []


def test_calls_of_one_lane_go_in_the_order_they_came(lab) -> None:
    lab.exchange.on("GET", "/fapi/v1/klines", bars())

    async def story() -> None:
        client = lab.client()
        limits = [1_500 if number % 3 else 10 for number in range(400)]
        await asyncio.gather(*(client.klines(f"S{n}", "1m", limit=limit) for n, limit in enumerate(limits)))

    lab.run(story())
    assert [sent["symbol"] for sent in lab.exchange.sent("GET", "/fapi/v1/klines")] == [f"S{n}" for n in range(400)]


def test_ten_times_the_allowed_demand_never_passes_the_share_of_the_limit(lab) -> None:
    lab.exchange.on("GET", "/fapi/v1/klines", bars())
    lab.exchange.on("POST", ORDER, echo_ack)
    weigh = ENDPOINTS["klines"].weight

    async def story() -> int:
        client = lab.client()
        backlog = [asyncio.create_task(client.klines("S", "1m", limit=1_500)) for _ in range(600)]
        slowest_ms = 0
        for second in range(120):
            await lab.sleep(1_000)
            began_ms = lab.now()
            await client.place_order(intent(f"close-{second}", reduce_only=True))
            slowest_ms = max(slowest_ms, lab.now() - began_ms)
        await asyncio.gather(*backlog)
        return slowest_ms

    assert lab.run(story()) == 0
    by_minute: dict[int, int] = {}
    for time_ms, request in lab.exchange.requests:
        if request.path == "/fapi/v1/klines":
            weight = weigh(decode_query(request.query))
            by_minute[time_ms // 60_000] = by_minute.get(time_ms // 60_000, 0) + weight
    assert max(by_minute.values()) <= 0.8 * 2_400


# -------------------------------------------------------------------------------------------- hosts and secrets


@pytest.mark.parametrize("address", ["https://fapi.binance.com", "https://fapi.binance.com:443"])
async def test_no_order_and_no_key_goes_to_a_production_host(lab, address) -> None:
    http = SocketHttp(address, timeout_ms=1_000)
    client = BinanceClient(http, lab.clock, None, lab.credentials)
    for asked in (client.place_order(intent(reduce_only=True)), client.account(), client.create_listen_key()):
        with pytest.raises(ForbiddenHost):
            await asked


async def test_the_address_of_the_transport_counts_and_not_what_is_said_about_it(lab) -> None:
    http = SocketHttp("https://fapi.binance.com", timeout_ms=1_000)
    client = BinanceClient(http, lab.clock, None, lab.credentials, base_url="http://127.0.0.1:1")
    with pytest.raises(ForbiddenHost):
        await client.place_order(intent())


@pytest.mark.parametrize("address", ["https://evil.example", "https://fapi.binance.com@evil.example"])
def test_a_client_of_an_unknown_host_cannot_be_made(address) -> None:
    with pytest.raises(ForbiddenHost):
        BinanceClient(base_url=address)
    # A transport refuses an address with tricks in it before the client ever sees it.
    with pytest.raises((ForbiddenHost, ConfigError)):
        BinanceClient(SocketHttp(address, timeout_ms=1_000))


def test_making_a_client_opens_nothing() -> None:
    assert repr(BinanceClient()) == "BinanceClient(https://fapi.binance.com, breaker NORMAL)"


def test_an_account_cannot_be_asked_for_without_credentials(lab) -> None:
    async def story() -> None:
        with pytest.raises(ConfigError, match="credentials"):
            await BinanceClient(lab.exchange, lab.clock).account()

    lab.run(story())
    assert lab.exchange.requests == []


def test_no_error_path_shows_key_or_secret(lab) -> None:
    """Every way to fail: tracebacks are searched for the key, and with all local variables for the secret."""
    failures = [*AMBIGUOUS.values(), NotSent("refused"), NO_SUCH_ORDER, fault(429, -1003, "x"), fault(401, -2015, "x")]

    async def story() -> None:
        for number, reply in enumerate(failures):
            lab.exchange.on("POST", ORDER, reply)
            client = lab.client()
            with pytest.raises(LabkitError) as caught:
                await client.place_order(intent(f"lab-{number}"))
            shown = "".join(traceback.format_exception(caught.value))
            locals_too = "".join(
                traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
            )
            assert "canary" not in shown + repr(caught.value) + repr(client) + repr(client.breaker.to_state())
            assert "canary-secret" not in locals_too

    lab.run(story())


# ------------------------------------------------------------------------------------------- every endpoint by name


D = Decimal
ASKED = [
    ("ping", (), "ping", b"{}", None),
    ("server_time", (), "time", rest_market.encode_server_time(5), 5),
    ("funding_info", (), "funding_info", b"[]", {}),
    ("premium_indexes", (), "premium_index", b"[]", {}),
    ("ticker_books", (), "ticker_book", b"[]", {}),
    ("tickers_24hr", (), "ticker_24hr", b"[]", {}),
    ("ticker_prices", (), "ticker_price", b"[]", {}),
    ("klines", ("BTCUSDT", "1m", 1, 2, 3), "klines", b"[]", []),
    ("trades", ("BTCUSDT", 5), "trades", b"[]", []),
    (
        "open_interest",
        ("BTCUSDT",),
        "open_interest",
        b'{"openInterest":"1.5","symbol":"BTCUSDT","time":5}',
        rest_market.OpenInterest(symbol="BTCUSDT", open_interest=D("1.5"), time_ms=5),
    ),
    ("open_interest_history", ("BTCUSDT", "5m", 1, 2, 3), "open_interest_history", b"[]", []),
    ("agg_trades", ("BTCUSDT", 1, 2), "agg_trades", b"[]", []),
    ("funding_rate", ("BTCUSDT", 1, 2, 3), "funding_rate", b"[]", []),
    ("query_order", ("BTCUSDT", "lab-1"), "query_order", rest_account.encode_order(order(), created_ms=1), order()),
    ("open_orders", ("BTCUSDT",), "open_orders", rest_account.encode_orders([(order(), 1)]), [order()]),
    ("all_orders", ("BTCUSDT", 1, 2, 3), "all_orders", rest_account.encode_orders([(order(), 1)]), [order()]),
    ("user_trades", ("BTCUSDT", 1, 2, 3), "user_trades", rest_account.encode_user_trades([fill(7)]), [fill(7)]),
    ("cancel_all_orders", ("BTCUSDT",), "cancel_all_orders", rest_account.encode_success("done"), None),
    ("balances", (), "balance", b"[]", {}),
    ("positions", ("BTCUSDT",), "position_risk", b"[]", []),
    (
        "set_leverage",
        ("BTCUSDT", 5),
        "leverage",
        rest_account.encode_leverage(rest_account.LeverageSet("BTCUSDT", 5, D(1_000))),
        rest_account.LeverageSet("BTCUSDT", 5, D(1_000)),
    ),
    ("is_hedge_mode", (), "position_mode", rest_account.encode_position_mode(dual=False), False),
    ("leverage_brackets", ("BTCUSDT",), "leverage_bracket", b"[]", {}),
    (
        "commission_rate",
        ("BTCUSDT",),
        "commission_rate",
        rest_account.encode_commission_rate(rest_account.CommissionRate("BTCUSDT", D("0.0002"), D("0.0005"))),
        rest_account.CommissionRate("BTCUSDT", D("0.0002"), D("0.0005")),
    ),
    ("symbol_config", (), "symbol_config", b"[]", {}),
    ("income", ("FUNDING_FEE", "BTCUSDT", 1, 2, 3), "income", b"[]", []),
    ("create_listen_key", (), "listen_key_create", rest_account.encode_listen_key(rest_account.ListenKey("K")), "K"),
    ("renew_listen_key", (), "listen_key_renew", rest_account.encode_listen_key(rest_account.ListenKey("K")), "K"),
    ("close_listen_key", (), "listen_key_close", b"{}", None),
]


@pytest.mark.parametrize(("method", "key"), [("mark_price_klines", "symbol"), ("index_price_klines", "pair")])
def test_candles_of_mark_and_index_price_are_read_like_candles(lab, method, key) -> None:
    path = ENDPOINTS[method].path
    lab.exchange.on("GET", path, ok(b'[[0,"100.5","101","99","100.7","0",59999,"0",60,"0","0","0"]]'))

    async def story() -> object:
        return await getattr(lab.client(), method)("BTCUSDT", "1m", start_ms=0, end_ms=59_999, limit=1)

    (bar,) = lab.run(story())
    assert (bar.close, bar.closed) == (D("100.7"), True)
    (sent,) = lab.exchange.sent("GET", path)
    assert sent == {key: "BTCUSDT", "interval": "1m", "startTime": "0", "endTime": "59999", "limit": "1"}


@pytest.mark.parametrize(("method", "arguments", "endpoint", "body", "expected"), ASKED, ids=[row[0] for row in ASKED])
def test_each_method_asks_its_endpoint_and_reads_its_answer(lab, method, arguments, endpoint, body, expected) -> None:
    asked = ENDPOINTS[endpoint]
    lab.exchange.on(asked.method, asked.path, ok(body))

    async def story() -> object:
        return await getattr(lab.client(), method)(*arguments)

    assert lab.run(story()) == expected
    (_, request) = lab.exchange.requests[-1]
    assert ("signature" in request.query + request.body) is (asked.security is Security.SIGNED)
    assert ("X-MBX-APIKEY" in request.headers) is (asked.security is not Security.NONE)


@pytest.mark.parametrize("method", ["premium_index", "ticker_book", "ticker_24hr", "ticker_price"])
def test_an_answer_about_one_symbol_that_holds_none_is_unreadable(lab, method) -> None:
    for name in ("premium_index", "ticker_book", "ticker_24hr", "ticker_price"):
        lab.exchange.on("GET", ENDPOINTS[name].path, ok(b"[]"))

    async def story() -> None:
        with pytest.raises(RemoteProtocolError):
            await getattr(lab.client(), method)("BTCUSDT")

    lab.run(story())


@pytest.mark.parametrize(("code", "passes"), [(-4046, True), (-4047, False)])
def test_a_margin_type_that_is_already_so_is_success(lab, code, passes) -> None:
    lab.exchange.on("POST", "/fapi/v1/marginType", fault(400, code, "No need to change margin type."))

    async def story() -> bool:
        try:
            await lab.client().set_margin_type("BTCUSDT", isolated=True)
        except ExchangeError:
            return False
        return True

    assert lab.run(story()) is passes


def test_a_limit_order_carries_price_and_time_in_force(lab) -> None:
    lab.exchange.on("POST", ORDER, echo_ack)
    wanted = OrderIntent(
        client_order_id="lab-1",
        symbol="BTCUSDT",
        side=Side.SELL,
        order_type=OrderType.LIMIT,
        quantity=D("0.0100"),
        price=D("9E+4"),
        time_in_force=TimeInForce.GTX,
        reduce_only=True,
    )

    async def story() -> None:
        await lab.client(ClientConfig()).place_order(wanted)

    lab.run(story())
    (sent,) = lab.exchange.sent("POST", ORDER)
    assert {name: sent[name] for name in ("type", "price", "quantity", "timeInForce", "reduceOnly", "side")} == {
        "type": "LIMIT",
        "price": "90000",
        "quantity": "0.0100",
        "timeInForce": "GTX",
        "reduceOnly": "true",
        "side": "SELL",
    }


@pytest.mark.real_data
async def test_the_limits_of_a_recorded_exchange_are_taken_over(lab, real_data) -> None:
    recorded = gzip.decompress((real_data / "rest" / "fapi-exchangeInfo-TESTNET-20251022.json.gz").read_bytes())
    lab.exchange.on("GET", "/fapi/v1/exchangeInfo", ok(recorded))
    client = BinanceClient(lab.exchange, SystemClock(), None, Credentials("key", "secret"))
    info = await client.exchange_info()
    (weight,) = [limit.limit for limit in info.rate_limits if limit.kind == "REQUEST_WEIGHT"]
    assert client.limits.weight_limit == int(weight * 0.8)


# -- what asking would cost ------------------------------------------------------------------------------------


def test_a_forecast_asks_nothing_and_counts_what_was_asked_before(lab) -> None:
    lab.exchange.on("GET", "/fapi/v1/aggTrades", HttpResponse(status=200, body=b"[]"))

    async def story() -> tuple[Forecast, Forecast]:
        client = lab.client()
        fresh = client.forecast([planned_calls("agg_trades", 50)])
        for _ in range(50):
            await client.agg_trades("BTCUSDT")
        return fresh, client.forecast([planned_calls("agg_trades", 50)])

    fresh, used = lab.run(story())
    assert len(lab.exchange.requests) == 50
    assert (fresh.duration_ms, used.duration_ms) == (0, 60_000)


def test_a_pull_that_would_take_too_long_is_refused_before_it_starts(lab) -> None:
    year_ms = 365 * 86_400_000

    async def story() -> None:
        client = lab.client()
        assert client.forecast_candles(["BTCUSDT"], "1m", START_MS - year_ms, START_MS, within_ms=240_000).calls == 351
        with pytest.raises(WouldExceedLimit, match=r"351 calls, 3,510 weight: 3 min .* through in 1 min: .* archives"):
            client.forecast_candles(["BTCUSDT"], "1m", START_MS - year_ms, START_MS, within_ms=60_000)

    lab.run(story())
    assert lab.exchange.requests == []
