"""The client at a server that has no code of ours and answers with what the real exchange once answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pyarrow.parquet as pq
import pytest

from labkit import errors
from labkit.domain.orders import OrderIntent, OrderType, Side
from labkit.edge.http import SocketHttp
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.credentials import Credentials
from labkit.market.data_service import DataService

pytestmark = pytest.mark.real_data

Entry = dict[str, Any]

MEANING: dict[int, type[errors.LabkitError] | None] = {
    -1003: errors.IpBanned,
    -1007: errors.OutcomeUnknown,
    -1008: errors.OutcomeUnknown,
    -1016: errors.ExchangeUnavailable,
    -1021: errors.ClockSkew,
    -1106: errors.RequestRejected,
    -1111: errors.FilterViolation,
    -1116: errors.RequestRejected,
    -2010: errors.RequestRejected,
    -2015: errors.AuthenticationFailed,
    -2021: errors.RequestRejected,
    -4003: errors.FilterViolation,
    -4016: errors.FilterViolation,
    -4046: None,
    -4061: errors.RequestRejected,
    -4067: errors.RequestRejected,
    -4131: errors.FilterViolation,
    -4164: errors.FilterViolation,
    -5022: errors.RequestRejected,
}
"""What each recorded code is to be read as; None is success (the margin type is already what was asked for)."""
PAGE_THAT_IS_NO_JSON = errors.ExchangeUnavailable
STATUS = {-1003: 418, -1007: 408, -2015: 401}
"""The documented status where the record does not tell one; 400 for all others."""


def status_of(entry: Entry) -> int:
    return entry["http"] or STATUS.get(entry["body"]["code"], 400)


def asked(client: BinanceClient, entry: Entry) -> Awaitable[Any]:
    """The recorded request; an order where the record does not name a request labkit makes."""
    path = entry["request"].split(" ")[1].rstrip(";") if " /fapi/" in entry["request"] else ""
    if path.endswith("/leverage"):
        return client.set_leverage("BTCUSDT", 5)
    if path.startswith("/fapi/v1/marginType"):
        return client.set_margin_type("BTCUSDT", isolated=False)
    if path.endswith("/positionRisk"):
        return client.positions()
    if path.endswith("/balance"):
        return client.balances()
    if path.endswith("/klines"):
        return client.klines("BTCUSDT", "1m", start_ms=0, end_ms=60_000)
    return client.place_order(
        OrderIntent(
            client_order_id="foreign-1",
            symbol="BTCUSDT",
            side=Side.BUY,
            order_type=OrderType.MARKET,
            quantity=Decimal("0.001"),
        )
    )


@asynccontextmanager
async def client_at(address: dict[str, str]) -> AsyncIterator[BinanceClient]:
    http = SocketHttp(address["rest"], timeout_ms=5_000)
    client = BinanceClient(http, credentials=Credentials("canary-key-4242", "canary-secret-4242"))
    try:
        yield client
    finally:
        await client.close()


async def heard(address: dict[str, str], entry: Entry) -> errors.LabkitError | None:
    """What a fresh client makes of a recorded answer."""
    is_json = isinstance(entry["body"], dict)
    body = json.dumps(entry["body"]) if is_json else f"<html>{entry['body']}</html>"
    told = {"status": status_of(entry), "type": "application/json" if is_json else "text/html", "body": body}
    telling = Request(address["rest"] + "/control/answer", json.dumps(told).encode(), method="POST")
    await asyncio.to_thread(lambda: urlopen(telling).close())
    async with client_at(address) as client:
        try:
            await asked(client, entry)
        except errors.LabkitError as error:
            return error
    return None


def is_read_right(error: errors.LabkitError | None, entry: Entry) -> bool:
    """Whether this is the error the answer means, with the exchange's own code and words."""
    body = entry["body"]
    meaning = MEANING[body["code"]] if isinstance(body, dict) else PAGE_THAT_IS_NO_JSON
    if meaning is None or error is None:
        return meaning is None and error is None
    assert isinstance(error, errors.ExchangeError)
    is_quoted = not isinstance(body, dict) or (error.code, error.text) == (body["code"], body["msg"])
    return type(error) is meaning and is_quoted and error.http_status == status_of(entry)


@pytest.fixture
def recorded_errors(real_data: Path) -> list[Entry]:
    entries: list[Entry] = json.loads((real_data / "rest" / "fapi-error-bodies.json").read_text())
    return entries


async def test_each_recorded_error_body_becomes_the_error_it_means(
    recorded_errors: list[Entry], foreign_server: Any
) -> None:
    with foreign_server() as address:
        wrong = [entry for entry in recorded_errors if not is_read_right(await heard(address, entry), entry)]
    assert len(recorded_errors) > 20
    assert wrong == []


async def test_another_code_in_the_same_body_is_read_otherwise(
    recorded_errors: list[Entry], foreign_server: Any
) -> None:
    """The negative control: it is the body that decides, not the request or the status."""
    coded = [entry for entry in recorded_errors if isinstance(entry["body"], dict) and status_of(entry) == 400]
    with foreign_server() as address:
        for entry in coded:
            other = entry | {"body": entry["body"] | {"code": -9999}}
            assert not is_read_right(await heard(address, other), entry)


# ------------------------------------------------------------------------------------------------------------- candles

CANDLES = "SOLUSDT-1m-20240401-20240402.parquet"
ALIKE = ["open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume"]


async def candles_come_as_recorded(
    real_data: Path, foreign_server: Any, folder: Path, *, spoil: Callable[[list[list[Any]]], None] = lambda _: None
) -> bool:
    """Whether `DataService` gives just the candles of a recorded file that the server answers with, page by page."""
    table = pq.read_table(real_data / "klines12" / "um" / CANDLES)
    rows = [[value if isinstance(value, int) else repr(value) for value in row.values()] for row in table.to_pylist()]
    for row in rows:
        # The file keeps the column nobody uses as a number; the exchange sends text.
        row[-1] = "0"
    spoil(rows)
    file = folder / "klines.json"
    file.write_text(json.dumps(rows))
    with foreign_server(klines=str(file)) as address:
        async with client_at(address) as client:
            first_ms, after_ms = rows[0][0], rows[-1][0] + 60_000
            bars = await DataService(client).bars("SOLUSDT", "1m", first_ms, after_ms)
    expected = table.to_pydict()
    told: dict[str, list[Any]] = {name: [float(getattr(bar, name)) for bar in bars] for name in ALIKE}
    told |= {"open_time": [bar.open_time_ms for bar in bars], "count": [bar.trade_count for bar in bars]}
    return all(told[name] == expected[name] for name in told)


async def test_candles_come_as_they_were_recorded(real_data: Path, foreign_server: Any, tmp_path: Path) -> None:
    assert await candles_come_as_recorded(real_data, foreign_server, tmp_path)


async def test_a_single_digit_changed_on_the_way_would_be_found_out(
    real_data: Path, foreign_server: Any, tmp_path: Path
) -> None:
    """The negative control of the same comparison."""

    def spoil(rows: list[list[Any]]) -> None:
        rows[1_234][4] += "1"

    assert not await candles_come_as_recorded(real_data, foreign_server, tmp_path, spoil=spoil)
