"""The weather on real sockets: foreign clients meet it, the admin route switches it, in process it is the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import websockets

from labkit.config import PaperConfig
from labkit.edge.clocks import SystemClock, VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.edge.http import SocketHttp
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.paper_exchange import PaperExchange
from labkit.paper.venue import Venue
from labkit.paper.weather.script import Match, Script, Spell
from labkit.wire.transport import ConnectionLost, HttpRequest, HttpTransport

START_MS = 1_767_571_200_000
TIME = HttpRequest(method="GET", path="/fapi/v1/time")


def market() -> SimulatedMarket:
    return SimulatedMarket(
        ("BTCUSDT",), seed=1, start_ms=START_MS, history_days=1, planted_edge=0.1, quotes_per_second=4
    )


@pytest.fixture
async def exchange() -> AsyncIterator[PaperExchange]:
    running = PaperExchange(market(), PaperConfig(), SystemClock(speed=10.0, start_ms=START_MS), api_key="k")
    await running.start()
    yield running
    await running.stop()


async def admin(exchange: PaperExchange, method: str, path: str, body: Any = None, key: str = "k") -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession(headers={"X-MBX-APIKEY": key}) as session,
        session.request(method, f"{exchange.rest_url}/labkit/{path}", json=body) as answer,
    ):
        return answer.status, await answer.json()


def spell(fault: str, **changes: Any) -> dict[str, Any]:
    return {"name": "t", "spell": [{"fault": fault, **changes}]}


async def test_the_weather_is_switched_over_the_admin_route(exchange: PaperExchange) -> None:
    assert (await admin(exchange, "GET", "weather"))[1]["weather"] is None
    status, told = await admin(exchange, "POST", "weather", {"weather": "storm", "seed": 5})
    assert (status, told["weather"], told["seed"]) == (200, "storm", 5)
    status, told = await admin(exchange, "POST", "weather", spell("frame-drop"))
    assert (status, told["faults_now"]) == (200, ["frame-drop"])
    assert (await admin(exchange, "GET", "weather"))[1]["faults_now"] == ["frame-drop"]
    assert (await admin(exchange, "DELETE", "weather"))[1]["weather"] is None
    assert (await admin(exchange, "GET", "executions"))[1] == {}


async def test_the_admin_route_needs_the_key_and_sound_words(exchange: PaperExchange) -> None:
    assert (await admin(exchange, "POST", "weather", {"weather": "storm"}, key="x"))[0] == 401
    assert (await admin(exchange, "POST", "weather", {"weather": "/etc/hostname.toml"}))[0] == 400
    assert (await admin(exchange, "POST", "weather", spell("no-such-fault")))[0] == 400
    assert (await admin(exchange, "POST", "weather", [1]))[0] == 400
    assert (await admin(exchange, "PUT", "weather"))[0] == 404
    assert exchange.venue.weather.script is None


@pytest.mark.parametrize("fault", ["drop-before-execute", "execute-then-drop-reply", "truncate-reply"])
async def test_n13_a_cut_answer_is_a_lost_connection(exchange: PaperExchange, fault: str) -> None:
    await admin(exchange, "POST", "weather", spell(fault, times=1))
    http = SocketHttp(exchange.rest_url, timeout_ms=5_000)
    with pytest.raises(ConnectionLost):
        await http.send(TIME)
    assert (await http.send(TIME)).status == 200
    await http.close()


async def test_a_swallowed_request_is_never_answered(exchange: PaperExchange) -> None:
    await admin(exchange, "POST", "weather", spell("hang-before-execute"))
    http = SocketHttp(exchange.rest_url, timeout_ms=300)
    with pytest.raises(ConnectionLost):
        await http.send(TIME)
    await http.close()


@pytest.mark.parametrize(("fault", "code"), [("reset", 1006), ("vanish", 1006), ("daily-cut", 1000)])
async def test_n01_n02_x01_a_stream_ends_as_its_fault_says(exchange: PaperExchange, fault: str, code: int) -> None:
    async with websockets.connect(f"{exchange.ws_url}/public/ws/btcusdt@bookTicker") as public:
        await public.recv()
        await admin(exchange, "POST", "weather", spell(fault))
        async with asyncio.timeout(10):
            # Ends by itself with the connection.
            with contextlib.suppress(websockets.ConnectionClosedError):
                async for _ in public:
                    pass
        assert public.close_code == code


async def test_n05_a_frozen_stream_answers_pings_and_n03_a_half_open_one_does_not(exchange: PaperExchange) -> None:
    for fault, ponged in (("freeze", True), ("half-open", False)):
        async with websockets.connect(
            f"{exchange.ws_url}/public/ws/btcusdt@bookTicker", ping_interval=None, close_timeout=0.1
        ) as public:
            await public.recv()
            await admin(exchange, "POST", "weather", spell(fault))
            await asyncio.sleep(0)
            pong = await public.ping()
            done, _ = await asyncio.wait([asyncio.ensure_future(pong)], timeout=0.5)
            assert bool(done) is ponged
        await admin(exchange, "DELETE", "weather")


async def test_n08_n16_a_handshake_is_refused_or_cut(exchange: PaperExchange) -> None:
    await admin(exchange, "POST", "weather", spell("refuse-handshake", parameters={"status": 418}))
    with pytest.raises(websockets.InvalidStatus, match="418"):
        await websockets.connect(f"{exchange.ws_url}/public/ws/btcusdt@bookTicker")
    await admin(exchange, "POST", "weather", spell("connect-refused"))
    with pytest.raises((websockets.InvalidMessage, ConnectionError)):
        await websockets.connect(f"{exchange.ws_url}/public/ws/btcusdt@bookTicker")


async def test_n17_a_flood_of_pings_leaves_the_data_flowing(exchange: PaperExchange) -> None:
    async with websockets.connect(f"{exchange.ws_url}/public/ws/btcusdt@bookTicker") as public:
        await admin(exchange, "POST", "weather", spell("control-flood"))
        async with asyncio.timeout(10):
            while not exchange.venue.weather.strikes["control-flood"]:
                await public.recv()
            assert json.loads(await public.recv())["s"] == "BTCUSDT"


async def test_the_same_seed_gives_the_same_weather_on_sockets_and_in_process(exchange: PaperExchange) -> None:
    faults = ("drop-before-execute", "unknown-executed", "truncate-reply", "internal-error")
    script = Script(
        name="t", seed=11, spells=tuple(Spell(fault=f, probability=0.2, match=Match(method="GET")) for f in faults)
    )

    async def outcomes(http: HttpTransport) -> list[str]:
        told = []
        for _ in range(60):
            try:
                told.append(str((await http.send(TIME)).status))
            except ConnectionLost:
                told.append("lost")
        return told

    exchange.venue.weather.begin(script, exchange.venue.now_ms)
    http = SocketHttp(exchange.rest_url, timeout_ms=5_000)
    on_sockets = await outcomes(http)
    await http.close()

    loop = VirtualTimeLoop()
    venue = Venue(market(), PaperConfig(), api_key="k", api_secret="s")
    venue.weather.begin(script, START_MS)
    in_process = InProcessExchange(venue, VirtualClock(loop, start_ms=START_MS))
    told = await asyncio.to_thread(run_in_virtual_time, outcomes(in_process), loop)
    assert on_sockets == told
    assert {"lost", "503", "200"} == set(told)
    ours, theirs = venue.weather.log, exchange.venue.weather.log
    assert [(s.fault, s.what) for s in ours] == [(s.fault, s.what) for s in theirs]
