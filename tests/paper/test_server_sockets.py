"""The paper exchange on real sockets, asked by foreign clients (aiohttp, websockets)."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets

from labkit.config import PaperConfig
from labkit.edge.clocks import SystemClock
from labkit.errors import ConfigError, LabkitError
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.paper_exchange import PaperExchange, resume_ms
from labkit.wire.endpoints import encode_query
from labkit.wire.signing import sign_hmac

START_MS = 1_767_571_200_000


def make(*, port: int = 0, data_dir: Path | None = None) -> tuple[PaperExchange, SystemClock]:
    source = SimulatedMarket(
        ("BTCUSDT",), seed=1, start_ms=START_MS, history_days=1, planted_edge=0.1, quotes_per_second=2
    )
    clock = SystemClock(speed=20.0, start_ms=resume_ms(source, data_dir))
    return PaperExchange(source, PaperConfig(), clock, port=port, data_dir=data_dir), clock


@pytest.fixture
async def running() -> AsyncIterator[tuple[PaperExchange, SystemClock]]:
    exchange, clock = make()
    await exchange.start()
    yield exchange, clock
    await exchange.stop()


async def ask(exchange: PaperExchange, clock: SystemClock, method: str, path: str, **parameters: str) -> Any:
    query = encode_query(parameters | {"timestamp": str(clock.now_ms()), "recvWindow": "60000"})
    url = f"{exchange.rest_url}{path}?{query}&signature={sign_hmac(exchange.api_secret, query)}"
    async with (
        aiohttp.ClientSession(headers={"X-MBX-APIKEY": exchange.api_key}) as session,
        session.request(method, url) as answer,
    ):
        assert "X-MBX-USED-WEIGHT-1M" in answer.headers
        return await answer.json()


async def test_a_foreign_client_trades_and_hears_of_it(running: tuple[PaperExchange, SystemClock]) -> None:
    exchange, clock = running
    key = (await ask(exchange, clock, "POST", "/fapi/v1/listenKey"))["listenKey"]
    async with (
        websockets.connect(f"{exchange.ws_url}/public/ws/btcusdt@bookTicker") as public,
        websockets.connect(f"{exchange.ws_url}/private/ws?listenKey={key}") as private,
    ):
        async with asyncio.timeout(10):
            quote = json.loads(await public.recv())
            while not exchange.venue.desk.marks:
                await public.recv()
        assert quote["s"] == "BTCUSDT"
        order = await ask(
            exchange,
            clock,
            "POST",
            "/fapi/v1/order",
            symbol="BTCUSDT",
            side="BUY",
            type="MARKET",
            quantity="0.010",
            newOrderRespType="RESULT",
        )
        assert order["status"] == "FILLED", order
        async with asyncio.timeout(10):
            told = [json.loads(await private.recv())["e"] for _ in range(3)]
        assert told == ["ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"]


async def test_subscriptions_are_answered_and_pings_ponged(running: tuple[PaperExchange, SystemClock]) -> None:
    exchange, _ = running
    async with websockets.connect(f"{exchange.ws_url}/market/stream") as market:
        await market.send(json.dumps({"method": "SUBSCRIBE", "params": ["btcusdt@markPrice@1s"], "id": "a-b"}))
        async with asyncio.timeout(10):
            assert json.loads(await market.recv()) == {"result": None, "id": "a-b"}
            assert json.loads(await market.recv())["stream"] == "btcusdt@markPrice@1s"
            await (await market.ping())


async def test_bytes_that_are_no_text_are_answered_too(running: tuple[PaperExchange, SystemClock]) -> None:
    exchange, _ = running
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{exchange.rest_url}/fapi/v1/order?symbol=%FF", data=b"a=\xfe\xff&\x00") as answer,
    ):
        assert (answer.status, (await answer.json())["code"]) == (401, -2014)


async def test_a_path_without_streams_refuses_the_handshake(running: tuple[PaperExchange, SystemClock]) -> None:
    exchange, _ = running
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(f"{exchange.ws_url}/nowhere")


async def test_stopping_ends_open_sessions_and_frees_the_port() -> None:
    exchange, _ = make()
    await exchange.start()
    port = int(exchange.rest_url.rpartition(":")[2])
    async with websockets.connect(f"{exchange.ws_url}/public/ws/btcusdt@bookTicker") as public:
        await exchange.stop()
        async with asyncio.timeout(10):
            # Ends by itself when the server closes the connection.
            async for _ in public:
                pass
    await exchange.stop()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


async def test_a_port_in_use_is_named_and_nothing_is_left_half_started() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        exchange, _ = make(port=port)
        with pytest.raises(ConfigError, match=str(port)):
            await exchange.start()
    await exchange.stop()


async def test_an_account_in_a_data_folder_outlives_its_exchange(tmp_path: Path) -> None:
    exchange, clock = make(data_dir=tmp_path)
    await exchange.start()
    await clock.sleep_until(START_MS + 3_000)
    exchange.venue.advance(clock.now_ms())
    order = await ask(
        exchange, clock, "POST", "/fapi/v1/order", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.010"
    )
    assert "orderId" in order, order
    wallet = exchange.venue.desk.account.wallet_balance
    await exchange.stop()
    exchange, clock = make(data_dir=tmp_path)
    assert clock.now_ms() > START_MS + 3_000
    await exchange.start()
    assert exchange.venue.desk.account.wallet_balance == wallet
    await exchange.stop()


def test_an_exchange_not_started_says_so() -> None:
    exchange, _ = make()
    with pytest.raises(LabkitError, match="not been started"):
        _ = exchange.venue
