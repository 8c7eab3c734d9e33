"""The table of endpoints, walked: each row is used, typed in and out, and costs what the exchange documents."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable

import pytest

from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.rate_limits import LANE_CEILING
from labkit.exchange.request_plan import planned_calls
from labkit.wire.endpoints import ENDPOINTS, Endpoint, Lane, OwnPool, Security

USES = {
    name: set(re.findall(r'_(?:call|candles)\(\s*"(\w+)"', inspect.getsource(method)))
    | set(re.findall(r'ENDPOINTS\["(\w+)"\]', inspect.getsource(method)))
    for name, method in inspect.getmembers(BinanceClient, inspect.isfunction)
}
"""The endpoints each method of the client names."""

# Protocol §4 and §5, by endpoint: (parameters, weight).
DOCUMENTED = {
    "ping": [({}, 1)],
    "time": [({}, 1)],
    "exchange_info": [({}, 1)],
    "depth": [({"limit": "50"}, 2), ({"limit": "100"}, 5), ({}, 10), ({"limit": "500"}, 10), ({"limit": "1000"}, 20)],
    "klines": [({"limit": "99"}, 1), ({"limit": "499"}, 2), ({}, 5), ({"limit": "1000"}, 5), ({"limit": "1500"}, 10)],
    "premium_index": [({"symbol": "BTCUSDT"}, 1), ({}, 10)],
    "ticker_24hr": [({"symbol": "BTCUSDT"}, 1), ({}, 40)],
    "ticker_price": [({"symbol": "BTCUSDT"}, 1), ({}, 2)],
    "ticker_book": [({"symbol": "BTCUSDT"}, 2), ({}, 5)],
    "trades": [({}, 5)],
    "agg_trades": [({}, 20)],
    "query_order": [({}, 1)],
    "cancel_order": [({}, 1)],
    "cancel_all_orders": [({}, 1)],
    "open_orders": [({"symbol": "BTCUSDT"}, 1), ({}, 40)],
    "all_orders": [({}, 5)],
    "user_trades": [({}, 5)],
    "account": [({}, 5)],
    "balance": [({}, 5)],
    "position_risk": [({}, 5)],
    "position_mode": [({}, 30)],
    "commission_rate": [({}, 20)],
    "income": [({}, 30)],
}


def rows(kept: Callable[[Endpoint], bool] = lambda endpoint: True) -> list[str]:
    return [name for name, endpoint in ENDPOINTS.items() if kept(endpoint)]


@pytest.mark.parametrize("name", rows())
def test_every_row_is_used_by_a_method_that_says_what_goes_in_and_what_comes_out(name: str) -> None:
    methods = [method for method, used in USES.items() if name in used and not method.startswith("_")]
    assert methods
    for method in methods:
        told = typing.get_type_hints(getattr(BinanceClient, method))
        parameters = set(inspect.signature(getattr(BinanceClient, method)).parameters) - {"self"}
        assert parameters | {"return"} == told.keys()
        shown = repr(list(told.values()))
        assert not re.search(r"Any\b|\bbytes\b|dict\[str, object", shown), shown


def test_no_method_names_an_endpoint_the_table_does_not_have() -> None:
    assert set().union(*USES.values()) <= ENDPOINTS.keys()


@pytest.mark.parametrize("name", rows())
def test_every_row_costs_something_that_is_limited(name: str) -> None:
    call = planned_calls(name)
    assert call.weight or call.order_cost or call.own_pool
    assert call.lane in LANE_CEILING


@pytest.mark.parametrize(("name", "costs"), DOCUMENTED.items(), ids=DOCUMENTED)
def test_the_weight_is_the_documented_one(name: str, costs: list[tuple[dict[str, str], int]]) -> None:
    assert [(parameters, ENDPOINTS[name].weight(parameters)) for parameters, _ in costs] == costs


def test_an_order_counts_as_an_order_and_funding_against_its_own_pool() -> None:
    assert [name for name in ENDPOINTS if ENDPOINTS[name].order_cost] == ["place_order"]
    assert rows(lambda endpoint: endpoint.own_pool is OwnPool.FUNDING) == ["funding_rate", "funding_info"]


def test_only_public_data_travels_without_a_key_and_all_of_it_is_asked_for() -> None:
    public = rows(lambda endpoint: endpoint.security is Security.NONE)
    assert {ENDPOINTS[name].method for name in public} == {"GET"}
    assert rows(lambda endpoint: endpoint.security is Security.API_KEY) == [
        "listen_key_create",
        "listen_key_renew",
        "listen_key_close",
    ]


def test_what_changes_a_position_is_the_only_thing_in_the_lane_of_openings() -> None:
    assert rows(lambda endpoint: endpoint.lane is Lane.OPEN) == ["place_order"]
