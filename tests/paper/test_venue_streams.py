"""What the venue says on its streams: routes, forms, control messages, market and user events."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from labkit.domain.market_events import Bar, Quote
from labkit.errors import RemoteProtocolError
from labkit.wire.streams import decode_frame
from labkit.wire.user_data import AccountUpdate, OrderTradeUpdate, decode_user_event

D = Decimal


def frames(session: Any) -> list[Any]:
    told = [json.loads(frame) for frame in session.outgoing]
    session.outgoing.clear()
    return told


def open_stream(counter: Any, path: str, at_ms: int = 0) -> Any:
    return counter.venue.open_stream(path, counter.at(at_ms))


def control(session: Any, counter: Any, message: Any, at_ms: int = 0) -> Any:
    session.receive(json.dumps(message), counter.at(at_ms))
    return frames(session)[-1]


@pytest.mark.parametrize(
    ("path", "combined"),
    [
        pytest.param("/public/ws/btcusdt@bookTicker", False, id="routed raw"),
        pytest.param("/public/stream?streams=btcusdt@bookTicker", True, id="routed combined"),
        pytest.param("/ws/btcusdt@bookTicker", False, id="unrouted raw"),
        pytest.param("/stream?streams=btcusdt@bookTicker/ethusdt@bookTicker", True, id="unrouted combined"),
        pytest.param("/public/ws/3/btcusdt@bookTicker", False, id="a client's own number in the path"),
    ],
)
def test_every_form_of_address_carries_quotes(counter: Any, path: str, combined: bool) -> None:
    session = open_stream(counter, path)
    counter.venue.advance(counter.at(0))
    told = frames(session)[0]
    event = told["data"] if combined else told
    assert (event["e"], event["s"], event["a"]) == ("bookTicker", "BTCUSDT", "90000.1")


@pytest.mark.parametrize("path", ["/", "/public", "/public/sw", "/fapi/v1/ping"])
def test_other_paths_have_no_streams(counter: Any, path: str) -> None:
    with pytest.raises(RemoteProtocolError):
        open_stream(counter, path)


def test_a_stream_on_the_wrong_route_is_acknowledged_and_silent(counter: Any) -> None:
    session = open_stream(counter, "/market/ws")
    assert control(session, counter, {"method": "SUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": 1}) == {
        "result": None,
        "id": 1,
    }
    counter.venue.advance(counter.at(5_000))
    assert frames(session) == []
    assert control(session, counter, {"method": "LIST_SUBSCRIPTIONS", "id": 2})["result"] == ["btcusdt@bookTicker"]


def test_unsubscribing_ends_the_stream(market: Any, counter_of: Any) -> None:
    market.quote(2_000, "90001.0", "90001.1")
    counter = counter_of(market)
    session = open_stream(counter, "/public/ws/btcusdt@bookTicker")
    control(session, counter, {"method": "UNSUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": "uuid-1"})
    counter.venue.advance(counter.at(3_000))
    assert frames(session) == []


def test_the_combined_form_can_be_switched_on(counter: Any) -> None:
    session = open_stream(counter, "/public/ws/btcusdt@bookTicker")
    assert control(session, counter, {"method": "GET_PROPERTY", "params": ["combined"], "id": 1})["result"] is False
    control(session, counter, {"method": "SET_PROPERTY", "params": ["combined", True], "id": 2})
    counter.venue.advance(counter.at(0))
    assert frames(session)[0]["stream"] == "btcusdt@bookTicker"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        pytest.param(3, "{", id="not JSON"),
        pytest.param(2, '{"method": "SHOUT", "id": 1}', id="unknown method"),
        pytest.param(2, '{"method": "SUBSCRIBE", "params": [true], "id": 1}', id="not a stream"),
        pytest.param(0, '{"method": "GET_PROPERTY", "params": ["colour"], "id": 1}', id="unknown property"),
        pytest.param(1, '{"method": "SET_PROPERTY", "params": ["combined", "yes"], "id": 1}', id="not a Boolean"),
    ],
)
def test_each_bad_control_message_has_its_code(counter: Any, code: int, text: str) -> None:
    session = open_stream(counter, "/public/ws")
    session.receive(text, counter.at(0))
    assert frames(session)[0]["error"]["code"] == code
    assert not session.closed


def test_the_eleventh_message_within_a_second_ends_the_session(counter: Any) -> None:
    session = open_stream(counter, "/public/ws")
    for number in range(10):
        session.receive(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}), counter.at(0))
    assert not session.closed
    session.receive('{"method": "LIST_SUBSCRIPTIONS", "id": 11}', counter.at(999))
    assert session.closed


def test_a_session_ends_after_24_hours(market: Any, counter_of: Any) -> None:
    market.quote(86_500_000, "1.0", "1.1")
    counter = counter_of(market)
    session = open_stream(counter, "/public/ws")
    counter.venue.advance(counter.at(86_400_000))
    assert session.closed


def test_a_recorded_frame_is_sent_on_byte_for_byte(market: Any, counter_of: Any) -> None:
    frame = b'{"e":"bookTicker", "u":7,"s":"BTCUSDT","b":"1.0","B":"1","a":"1.1","A":"1","odd":[1 ]}'
    market.quote(10, "1.0", "1.1", frame=frame)
    counter = counter_of(market)
    raw = open_stream(counter, "/public/ws/btcusdt@bookTicker")
    combined = open_stream(counter, "/public/stream?streams=btcusdt@bookTicker")
    counter.venue.advance(counter.at(10))
    assert raw.outgoing[-1] == frame
    assert combined.outgoing[-1] == b'{"stream":"btcusdt@bookTicker","data":' + frame + b"}"


def test_a_candle_is_told_each_second_it_moves_and_closed_at_the_minute(market: Any, counter_of: Any) -> None:
    market.trade(500, "90000.1", "1")
    market.trade(59_999, "90005.0", "2")
    market.trade(60_000, "90006.0", "4")
    market.quote(70_000, "90000.0", "90000.1")
    counter = counter_of(market)
    session = open_stream(counter, "/market/ws/btcusdt@kline_1m")
    counter.venue.advance(counter.at(61_000))
    bars = [decode_frame(frame, 0) for frame in session.outgoing]
    told = [(bar.close, bar.volume, bar.closed) for bar in bars if isinstance(bar, Bar)]
    assert told == [
        (D("90000.1"), D(1), False),
        (D("90005.0"), D(3), True),
        (D("90005.0"), D(0), False),
        (D("90006.0"), D(4), False),
    ]


def test_a_market_without_marks_gets_the_mean_of_its_mid_prices(market: Any, counter_of: Any) -> None:
    market.written.clear()
    market.quote(0, "100.0", "100.2")
    market.quote(3_500, "200.0", "200.2")
    market.quote(9_000, "200.0", "200.2")
    counter = counter_of(market)
    session = open_stream(counter, "/market/ws/btcusdt@markPrice@1s")
    counter.venue.advance(counter.at(4_000))
    assert [event["p"] for event in frames(session)] == ["100.10000000", "100.10000000", "133.43333333"]


def test_depth_of_a_market_without_depth_joins_its_snapshot(market: Any, counter_of: Any) -> None:
    market.quote(1_000, "90000.0", "90000.3")
    market.quote(2_000, "89999.9", "90000.3")
    counter = counter_of(market)
    session = open_stream(counter, "/public/ws/btcusdt@depth@100ms")
    counter.venue.advance(counter.at(0))
    snapshot = counter.get("/fapi/v1/depth", symbol="BTCUSDT", limit=1000)
    counter.venue.advance(counter.at(2_000))
    first, second = frames(session)
    assert first["U"] <= snapshot["lastUpdateId"] <= first["u"]
    assert second["pu"] == first["u"]
    assert [float(level[1]) for level in second["b"]] == [0.0, 10.0]


def user_stream(counter: Any, *, query: str = "") -> Any:
    key = counter.ask("POST", "/fapi/v1/listenKey", secret=None)[1]["listenKey"]
    return open_stream(counter, f"/private/ws?listenKey={key}{query}")


def test_a_filled_order_is_told_as_new_then_account_then_trade_with_one_time(counter: Any) -> None:
    session = user_stream(counter)
    counter.order(1_000, newClientOrderId="lab-1")
    new, account, trade = (decode_user_event(frame) for frame in session.outgoing)
    assert isinstance(new, OrderTradeUpdate)
    assert isinstance(account, AccountUpdate)
    assert isinstance(trade, OrderTradeUpdate)
    assert trade.fill is not None
    assert (new.execution_type, trade.execution_type, trade.fill.client_order_id) == ("NEW", "TRADE", "lab-1")
    assert account.transaction_time_ms == trade.transaction_time_ms == counter.at(1_000)
    assert account.balances["USDT"].wallet_balance == 10_000 - trade.fill.commission


def test_user_events_go_to_a_subscribed_listen_key_in_combined_form(counter: Any) -> None:
    key = counter.ask("POST", "/fapi/v1/listenKey", secret=None)[1]["listenKey"]
    session = open_stream(counter, "/private/stream")
    control(session, counter, {"method": "SUBSCRIBE", "params": [key], "id": "a-b"})
    counter.order(1_000)
    assert {frame["stream"] for frame in frames(session)} == {key}


def test_an_events_filter_lets_only_its_kinds_through(counter: Any) -> None:
    session = user_stream(counter, query="&events=ACCOUNT_UPDATE")
    counter.order(1_000)
    assert [frame["e"] for frame in frames(session)] == ["ACCOUNT_UPDATE"]


def test_an_unknown_listen_key_is_let_in_and_hears_nothing(counter: Any) -> None:
    session = open_stream(counter, "/private/ws/nobody")
    counter.order(1_000)
    assert frames(session) == []


def test_a_listen_key_lives_an_hour_unless_renewed(market: Any, counter_of: Any) -> None:
    market.quote(9_000_000, "90000.0", "90000.1")
    counter = counter_of(market)
    session = user_stream(counter)
    assert counter.ask("PUT", "/fapi/v1/listenKey", 3_000_000, secret=None)[0] == 200
    counter.venue.advance(counter.at(6_599_000))
    assert frames(session) == []
    counter.venue.advance(counter.at(6_600_000))
    assert [frame["e"] for frame in frames(session)] == ["listenKeyExpired"]
    assert counter.ask("PUT", "/fapi/v1/listenKey", 6_600_001, secret=None)[1]["code"] == -1125
    assert not session.closed


def test_funding_is_paid_at_its_time_and_told(market: Any, counter_of: Any) -> None:
    market.mark(27_000_000, "91000")
    market.quote(29_000_000, "90000.0", "90000.1")
    counter = counter_of(market)
    session = user_stream(counter)
    counter.order(1_000, quantity="0.500")
    frames(session)
    counter.ask("PUT", "/fapi/v1/listenKey", 3_000_000, secret=None)
    for hour in range(1, 9):
        counter.ask("PUT", "/fapi/v1/listenKey", hour * 3_500_000, secret=None)
    counter.venue.advance(counter.at(28_800_000))
    (told,) = frames(session)
    assert (told["a"]["m"], told["a"]["P"], told["a"]["S"]) == ("FUNDING_FEE", [], "BTCUSDT")
    assert D(told["a"]["B"][0]["bc"]) == D("-4.55")
    (row,) = counter.get("/fapi/v1/income", 28_900_000, incomeType="FUNDING_FEE")
    assert D(row["income"]) == D("-4.55")


def test_a_listener_that_lets_frames_lie_is_cut_off(counter: Any) -> None:
    session = open_stream(counter, "/public/ws/btcusdt@bookTicker")
    for _ in range(20_001):
        session.deliver(b"{}")
    assert session.closed
    assert counter.venue.hub.sessions == []


def test_quotes_are_told_before_the_fills_they_cause(market: Any, counter_of: Any) -> None:
    market.quote(5_000, "88990.0", "88995.0")
    counter = counter_of(market)
    order: list[str] = []
    public = open_stream(counter, "/public/ws/btcusdt@bookTicker")
    private = user_stream(counter)
    counter.order(1_000, type="LIMIT", price="89000", timeInForce="GTC")
    public.notify = lambda: order.append("quote")
    private.notify = lambda: order.append("user")
    counter.venue.advance(counter.at(5_000))
    assert order[0] == "quote"
    assert isinstance(decode_frame(public.outgoing[-1], 0), Quote)
    assert frames(private)[-1]["o"]["X"] == "FILLED"
