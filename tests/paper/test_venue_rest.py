"""What the venue answers on HTTP: security, limits, parameters, orders, the account."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from labkit.wire.rest_market import decode_exchange_info, decode_klines
from labkit.wire.transport import HttpRequest

D = Decimal


def test_a_signed_request_is_answered_whether_signed_in_query_or_body(counter: Any) -> None:
    assert counter.ask("GET", "/fapi/v3/balance")[0] == 200
    assert counter.ask("POST", "/fapi/v1/leverage", in_body=True, symbol="BTCUSDT", leverage=5)[0] == 200


@pytest.mark.parametrize(
    ("status", "code", "how"),
    [
        pytest.param(401, -2014, {"key": ""}, id="no key"),
        pytest.param(401, -2015, {"key": "x" * 64}, id="another key"),
        pytest.param(400, -1022, {"secret": "another"}, id="signed with another secret"),
        pytest.param(400, -1102, {"secret": None}, id="no timestamp"),
        pytest.param(400, -1021, {"timestamp": 1_767_571_200_000 - 5_001}, id="too old"),
        pytest.param(400, -1021, {"timestamp": 1_767_571_200_000 + 1_000}, id="from the future"),
    ],
)
def test_each_broken_credential_has_its_code(counter: Any, status: int, code: int, how: dict[str, Any]) -> None:
    answered, body = counter.ask("GET", "/fapi/v3/account", **how)
    assert (answered, body["code"]) == (status, code)


def test_an_altered_parameter_breaks_the_signature(counter: Any) -> None:
    query = "symbol=BTCUSDT&timestamp=1767571200000&signature=" + "0" * 64
    request = HttpRequest(
        method="GET", path="/fapi/v1/openOrders", query=query, headers={"x-mbx-apikey": counter.venue.api_key}
    )
    answer = counter.venue.handle(request, counter.at(0))
    assert b"-1022" in answer.body


def test_a_wide_receive_window_lets_an_old_request_in(counter: Any) -> None:
    old = counter.at(0) - 30_000
    assert counter.ask("GET", "/fapi/v3/account", timestamp=old, recvWindow=60_000)[0] == 200


@pytest.mark.parametrize(
    ("code", "parameters"),
    [
        pytest.param(-1121, {"symbol": "NOSUCH"}, id="symbol"),
        pytest.param(-1117, {"side": "LONG"}, id="side"),
        pytest.param(-1116, {"type": "ICEBERG"}, id="type"),
        pytest.param(-4120, {"type": "STOP_MARKET", "stopPrice": "1"}, id="conditional"),
        pytest.param(-1102, {"quantity": ""}, id="quantity missing"),
        pytest.param(-1102, {"quantity": "1e3"}, id="quantity malformed"),
        pytest.param(-1102, {"type": "LIMIT", "price": "90000"}, id="time in force missing"),
        pytest.param(-1115, {"type": "LIMIT", "price": "90000", "timeInForce": "DAY"}, id="time in force"),
        pytest.param(-1106, {"price": "90000"}, id="market order with a price"),
        pytest.param(-4061, {"positionSide": "LONG"}, id="position side"),
        pytest.param(-4015, {"newClientOrderId": "x" * 37}, id="client id too long"),
        pytest.param(-1100, {"newClientOrderId": "ä"}, id="client id characters"),
        pytest.param(-1136, {"newOrderRespType": "FULL"}, id="response type"),
        pytest.param(-1130, {"reduceOnly": "maybe"}, id="flag"),
        pytest.param(-4003, {"quantity": "0"}, id="quantity zero"),
        pytest.param(-2019, {"quantity": "50"}, id="margin"),
    ],
)
def test_each_bad_order_is_refused_with_its_code(counter: Any, code: int, parameters: dict[str, Any]) -> None:
    status, body = counter.order(0, **parameters)
    assert (status, body["code"]) == (400, code)
    assert counter.get("/fapi/v1/allOrders") == []


@pytest.mark.parametrize(
    ("code", "path", "parameters"),
    [
        pytest.param(-1120, "klines", {"symbol": "BTCUSDT", "interval": "1s"}, id="interval"),
        pytest.param(-1130, "klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1501}, id="limit"),
        pytest.param(
            -1023, "klines", {"symbol": "BTCUSDT", "interval": "1m", "startTime": 2, "endTime": 1}, id="window"
        ),
        pytest.param(-4021, "depth", {"symbol": "BTCUSDT", "limit": 7}, id="depth limit"),
        pytest.param(-1102, "depth", {}, id="no symbol"),
        pytest.param(-1121, "premiumIndex", {"symbol": "btcusdt"}, id="lower case symbol"),
    ],
)
def test_each_bad_question_is_refused_with_its_code(
    counter: Any, code: int, path: str, parameters: dict[str, Any]
) -> None:
    status, body = counter.ask("GET", f"/fapi/v1/{path}", secret=None, **parameters)
    assert (status, body["code"]) == (400, code)


def test_an_unknown_path_is_a_404_in_json(counter: Any) -> None:
    status, body = counter.ask("GET", "/fapi/v1/balance\udcff", secret=None)
    assert (status, body["code"]) == (404, -5000)


def test_every_answer_tells_the_weight_used_in_this_minute(counter: Any) -> None:
    counter.get("/fapi/v1/ping")
    assert counter.headers["x-mbx-used-weight-1m"] == "1"
    counter.get("/fapi/v3/account")
    assert counter.headers["x-mbx-used-weight-1m"] == "6"
    counter.ask("GET", "/nowhere")
    assert counter.headers["x-mbx-used-weight-1m"] == "6"
    counter.get("/fapi/v1/ping", 60_000)
    assert counter.headers["x-mbx-used-weight-1m"] == "1"


def test_over_the_weight_limit_is_a_429_until_the_minute_ends(counter: Any) -> None:
    for _ in range(80):
        counter.get("/fapi/v1/positionSide/dual")
    status, body = counter.ask("GET", "/fapi/v1/ping", 1_500)
    assert (status, body["code"]) == (429, -1003)
    assert counter.headers["retry-after"] == "59"
    assert counter.ask("GET", "/fapi/v1/ping", 60_000)[0] == 200


def test_the_301st_order_within_ten_seconds_is_a_429(counter: Any) -> None:
    for _ in range(300):
        counter.order(0, quantity="0")
    status, body = counter.order(0)
    assert (status, body["code"]) == (429, -1015)
    assert counter.order(10_000)[0] == 200
    assert counter.headers["x-mbx-order-count-10s"] == "1"


def test_a_market_order_with_result_comes_back_final_and_without_average_price(counter: Any) -> None:
    status, order = counter.order(0, newClientOrderId="lab-1", newOrderRespType="RESULT")
    assert (status, order["status"], order["executedQty"]) == (200, "FILLED", "0.100")
    assert "avgPrice" not in order
    assert "cumQuote" not in order
    queried = counter.get("/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="lab-1")
    assert D(queried["avgPrice"]) == D("90000.1")
    assert D(queried["cumQuote"]) == D("9000.01")


def test_an_acknowledgement_is_new_even_if_the_order_filled(counter: Any) -> None:
    assert counter.order(0)[1]["status"] == "NEW"


def test_x15_a_client_order_id_is_taken_while_its_order_is_open(counter: Any) -> None:
    resting = {"type": "LIMIT", "price": "89000", "timeInForce": "GTC"}
    counter.order(0, newClientOrderId="lab-1", **resting)
    assert counter.order(40_000_000, newClientOrderId="lab-1")[1]["code"] == -4116
    counter.ask("DELETE", "/fapi/v1/order", 40_000_001, symbol="BTCUSDT", origClientOrderId="lab-1")
    assert counter.order(40_000_002, newClientOrderId="lab-1")[0] == 200


def test_a_limit_order_rests_is_listed_and_can_be_cancelled_once(counter: Any) -> None:
    order = counter.order(0, type="LIMIT", price="89000", timeInForce="GTC", newClientOrderId="lab-1")[1]
    assert order["status"] == "NEW"
    assert [each["orderId"] for each in counter.get("/fapi/v1/openOrders")] == [order["orderId"]]
    status, cancelled = counter.ask("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=order["orderId"])
    assert (status, cancelled["status"]) == (200, "CANCELED")
    assert counter.ask("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=order["orderId"])[1]["code"] == -2011
    assert counter.ask("GET", "/fapi/v1/openOrder", symbol="BTCUSDT", origClientOrderId="lab-1")[1]["code"] == -2013
    assert counter.ask("GET", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="lab-2")[1]["code"] == -2013


def test_cancelling_all_orders_leaves_other_symbols_alone(counter: Any) -> None:
    for symbol, price in (("BTCUSDT", "89000"), ("ETHUSDT", "2900")):
        counter.order(0, symbol=symbol, type="LIMIT", price=price, timeInForce="GTC")
    assert counter.ask("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")[1]["code"] == 200
    assert [order["symbol"] for order in counter.get("/fapi/v1/openOrders")] == ["ETHUSDT"]


def test_the_account_adds_up_after_a_round_trip(counter: Any) -> None:
    counter.order(0)
    counter.order(0, side="SELL", reduceOnly="true")
    account = counter.get("/fapi/v3/account")
    fees = (D("9000.01") + D("9000.00")) * D("0.0005")
    assert D(account["totalWalletBalance"]) == 10_000 - D("0.01") - fees
    assert account["positions"] == []
    rows = counter.get("/fapi/v1/income")
    assert sum(D(row["income"]) for row in rows) == D(account["totalWalletBalance"])
    fills = counter.get("/fapi/v1/userTrades", symbol="BTCUSDT")
    assert [fill["side"] for fill in fills] == ["BUY", "SELL"]


def test_a_position_is_told_with_its_liquidation_price(counter: Any) -> None:
    counter.order(0, quantity="0.500")
    (risk,) = counter.get("/fapi/v3/positionRisk")
    assert D(risk["positionAmt"]) == D("0.5")
    assert 70_000 < D(risk["liquidationPrice"]) < 90_000
    (v2,) = counter.get("/fapi/v2/positionRisk", symbol="BTCUSDT")
    assert (v2["leverage"], v2["marginType"]) == ("20", "cross")


def test_leverage_and_margin_type_can_be_set_and_are_told(counter: Any) -> None:
    assert counter.ask("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=5)[1]["leverage"] == 5
    assert counter.ask("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=500)[1]["code"] == -4028
    assert counter.ask("POST", "/fapi/v1/marginType", symbol="BTCUSDT", marginType="CROSSED")[1]["code"] == -4046
    assert counter.ask("POST", "/fapi/v1/marginType", symbol="BTCUSDT", marginType="ISOLATED")[0] == 200
    (config,) = counter.get("/fapi/v1/symbolConfig", symbol="BTCUSDT")
    assert (config["leverage"], config["marginType"]) == (5, "ISOLATED")


def test_the_listing_is_what_the_rules_say(counter: Any) -> None:
    request = HttpRequest(method="GET", path="/fapi/v1/exchangeInfo")
    info = decode_exchange_info(counter.venue.handle(request, counter.at(0)).body)
    assert info.symbols == counter.venue.desk.rules


def test_klines_are_made_of_prints_and_end_with_the_running_candle(market: Any, counter_of: Any) -> None:
    for at_ms, price in ((1_000, "90000.1"), (30_000, "90010.0"), (59_999, "89990.0"), (60_000, "89995.0")):
        market.trade(at_ms, price, "0.5")
    counter = counter_of(market)
    query = "symbol=BTCUSDT&interval=1m&limit=2"
    body = counter.venue.handle(HttpRequest(method="GET", path="/fapi/v1/klines", query=query), counter.at(61_000)).body
    closed, running = decode_klines(body, symbol="BTCUSDT", interval="1m", now_ms=counter.at(61_000))
    assert (closed.open, closed.high, closed.low, closed.close) == (
        D("90000.1"),
        D("90010.0"),
        D("89990.0"),
        D("89990.0"),
    )
    assert (closed.volume, closed.trade_count, closed.closed) == (D("1.5"), 3, True)
    assert (running.open, running.closed) == (D("89995.0"), False)


def test_funding_history_has_a_pool_of_its_own_that_frees_every_five_minutes(counter) -> None:
    asked = [counter.ask("GET", "/fapi/v1/fundingRate", secret=None, key="")[0] for _ in range(501)]
    assert asked == [200] * 500 + [429]
    assert counter.headers["retry-after"] == "300"
    assert counter.ask("GET", "/fapi/v1/ping", secret=None, key="")[0] == 200
    assert counter.ask("GET", "/fapi/v1/fundingRate", 300_000, secret=None, key="")[0] == 200
