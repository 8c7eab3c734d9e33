"""A lab at a live market: another exchange on loopback stands for the real one, and must never see an order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from labkit.assembly import Assembly, LiveAddress, assemble_on_sockets
from labkit.config import Config, PaperConfig, load_config
from labkit.domain.orders import OrderIntent, OrderType, Side
from labkit.edge.clocks import SystemClock
from labkit.errors import ConfigError, UnknownSymbol
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.paper_exchange import PaperExchange

MARKET_START_MS = 1_767_571_200_000
LIVE = {"market": "live", "symbols": ["BTCUSDT"], "paper.history_days": 1, "trader.warm_up_minutes": 600}


def live_config(**settings: object) -> Config:
    return load_config({**LIVE, **settings}, environ={}, folder=Path("/"))


@pytest.fixture
async def elsewhere() -> AsyncIterator[PaperExchange]:
    """The exchange that stands for the real one; it has a key of its own, which nobody here knows."""
    market = SimulatedMarket(
        ("BTCUSDT", "ETHUSDT"),
        seed=9,
        start_ms=MARKET_START_MS,
        history_days=1,
        planted_edge=0.0,
        quotes_per_second=10,
    )
    exchange = PaperExchange(market, PaperConfig(), SystemClock(start_ms=MARKET_START_MS))
    await exchange.start()
    yield exchange
    await exchange.stop()


@pytest.fixture
async def lab(elsewhere: PaperExchange, tmp_path: Path) -> AsyncIterator[Assembly]:
    address = LiveAddress(rest=elsewhere.rest_url, streams=elsewhere.ws_url)
    assembly = await assemble_on_sockets(live_config(), tmp_path, live_at=address)
    await assembly.start()
    monitor = assembly.scheduler.websocket_monitor
    async with asyncio.timeout(30):
        while not (
            monitor.fresh_quote("BTCUSDT") and monitor.fresh_mark_price("BTCUSDT") and assembly.scheduler.has_engine
        ):
            await asyncio.sleep(0.02)
    yield assembly
    await assembly.stop()


async def test_prices_are_those_of_the_other_exchange_and_money_is_not(lab: Assembly, elsewhere: PaperExchange) -> None:
    heard: dict[int, Decimal] = {}
    told: dict[int, Decimal] = {}
    async with asyncio.timeout(30):
        while len(heard) < 5:
            quote, theirs = (
                lab.scheduler.websocket_monitor.get_quote("BTCUSDT"),
                elsewhere.venue.boards["BTCUSDT"].quote,
            )
            assert quote is not None
            assert theirs is not None
            told[theirs.update_id] = theirs.ask_price
            heard[quote.update_id] = quote.ask_price
            await asyncio.sleep(0.005)
    common = heard.keys() & told.keys()
    assert common
    assert {key: heard[key] for key in common} == {key: told[key] for key in common}

    intent = OrderIntent(
        client_order_id="by-hand-1",
        symbol="BTCUSDT",
        side=Side.BUY,
        order_type=OrderType.MARKET,
        quantity=Decimal("0.010"),
        reduce_only=False,
    )
    await lab.scheduler.binance_client.place_order(intent)
    assert isinstance(lab.exchange, PaperExchange)
    assert [entry.order.client_order_id for entry in lab.exchange.venue.desk.orders.values()] == ["by-hand-1"]
    assert elsewhere.venue.desk.orders == {}


async def test_its_past_is_the_other_exchanges_past(lab: Assembly, elsewhere: PaperExchange) -> None:
    ours = await lab.scheduler.binance_client.klines("BTCUSDT", "1m", end_ms=MARKET_START_MS - 1, limit=100)
    theirs = elsewhere.venue.source.history("BTCUSDT", MARKET_START_MS - 100 * 60_000, MARKET_START_MS)
    assert [(bar.open_time_ms, bar.close, bar.volume) for bar in ours] == [
        (bar.open_time_ms, bar.close, bar.volume) for bar in theirs
    ]


async def test_a_symbol_the_exchange_does_not_list_is_refused_and_the_folder_is_free_again(
    elsewhere: PaperExchange, tmp_path: Path
) -> None:
    address = LiveAddress(rest=elsewhere.rest_url, streams=elsewhere.ws_url)
    for _ in range(2):
        with pytest.raises(UnknownSymbol, match="'NOSUCHUSDT'"):
            await assemble_on_sockets(live_config(symbols=["NOSUCHUSDT"]), tmp_path, live_at=address)


def test_a_live_market_runs_as_fast_as_life() -> None:
    assert live_config().speed == 1
    with pytest.raises(ConfigError, match="as fast as life"):
        live_config(speed=30)
