"""The paper exchange in virtual time: both transports, reproducibly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from labkit.config import PaperConfig
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.venue import Venue
from labkit.wire.transport import ConnectionLost, HttpRequest, NotSent

START_MS = 1_767_571_200_000


def live(seconds: int, seed: int = 1) -> list[tuple[int, bytes]]:
    """Every frame of two symbols with the moment it was read, and a request in between."""
    loop = VirtualTimeLoop()
    clock = VirtualClock(loop, start_ms=START_MS)
    source = SimulatedMarket(
        ("BTCUSDT", "ETHUSDT"), seed=seed, start_ms=START_MS, history_days=1, planted_edge=0.1, quotes_per_second=2
    )
    exchange = InProcessExchange(Venue(source, PaperConfig(), api_key="k", api_secret="s"), clock)
    read: list[tuple[int, bytes]] = []

    async def listen(path: str) -> None:
        connection = await exchange.open(path)
        while True:
            frame = await connection.receive()
            read.append((clock.now_ms(), frame))

    async def main() -> None:
        names = [f"{s}@{k}" for s in ("btcusdt", "ethusdt") for k in ("markPrice@1s", "kline_1m", "miniTicker")]
        tasks = [
            asyncio.create_task(exchange.run()),
            asyncio.create_task(listen("/public/stream?streams=btcusdt@bookTicker/ethusdt@bookTicker")),
            asyncio.create_task(listen("/market/stream?streams=" + "/".join(names))),
        ]
        await clock.sleep_until(START_MS + seconds * 500)
        answer = await exchange.send(HttpRequest(method="GET", path="/fapi/v1/ticker/24hr"))
        read.append((clock.now_ms(), answer.body))
        await clock.sleep_until(START_MS + seconds * 1000)
        for task in tasks:
            task.cancel()

    run_in_virtual_time(main(), loop)
    return read


def test_two_lives_of_one_seed_are_the_same_to_the_byte() -> None:
    first = live(70)
    assert first == live(70)
    assert len(first) > 400


def test_frames_arrive_at_the_market_time_they_happened() -> None:
    times = [time_ms for time_ms, _ in live(10)]
    assert times == sorted(times)
    assert {time_ms % 1000 for time_ms in times} != {0}


def connected(counter_of: Any, market: Any) -> tuple[VirtualTimeLoop, InProcessExchange]:
    loop = VirtualTimeLoop()
    exchange = InProcessExchange(counter_of(market).venue, VirtualClock(loop, start_ms=START_MS))
    return loop, exchange


def test_a_path_without_streams_is_not_sent(market: Any, counter_of: Any) -> None:
    loop, exchange = connected(counter_of, market)
    with pytest.raises(NotSent):
        run_in_virtual_time(exchange.open("/nowhere"), loop)


def test_a_session_the_venue_ends_is_a_lost_connection(market: Any, counter_of: Any) -> None:
    loop, exchange = connected(counter_of, market)

    async def main() -> None:
        connection = await exchange.open("/public/ws/btcusdt@bookTicker")
        waiting = asyncio.create_task(connection.receive())
        await asyncio.sleep(0)
        exchange.venue.close()
        with pytest.raises(ConnectionLost, match="shuts down"):
            await waiting
        with pytest.raises(ConnectionLost):
            await connection.send("{}")

    run_in_virtual_time(main(), loop)


def test_the_market_ends_with_its_last_event(market: Any, counter_of: Any) -> None:
    market.quote(3_500, "90000.0", "90000.1")
    market.end_ms = START_MS + 3_500
    loop, exchange = connected(counter_of, market)
    run_in_virtual_time(exchange.run(), loop)
    assert exchange.venue.now_ms == START_MS + 3_500
