"""The parts can be built the way the first design of labkit built them, and do their job."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

import labkit
from labkit.config import Config, load_config
from labkit.domain.clock import MINUTE_MS
from labkit.edge.clocks import SystemClock
from labkit.edge.http import SocketHttp
from labkit.edge.websocket import SocketStreams
from labkit.exchange.credentials import Credentials
from labkit.paper.market_simulated import SimulatedMarket

START_MS = 1_767_571_200_000


def small_config(tmp_path: Path) -> Config:
    return load_config(
        {"symbols": ["BTCUSDT", "ETHUSDT"], "paper.history_days": 1, "data_dir": str(tmp_path), "speed": 60},
        environ={},
        folder=Path("/"),
    )


def test_the_parts_are_built_from_a_config_and_a_client_alone(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    client = labkit.BinanceClient()
    scheduler = labkit.UnifiedScheduler(config, client)
    assert isinstance(scheduler.websocket_monitor, labkit.WebSocketMonitor)
    assert isinstance(scheduler.position_controller, labkit.PositionController)
    assert isinstance(scheduler.self_learning_trader, labkit.SelfLearningTrader)
    assert isinstance(scheduler.data_service, labkit.DataService)
    assert config.TRADING_SYMBOLS == ["BTCUSDT", "ETHUSDT"]


def test_each_part_is_built_on_its_own(tmp_path: Path) -> None:
    config, client = small_config(tmp_path), labkit.BinanceClient()
    monitor = labkit.WebSocketMonitor(config.TRADING_SYMBOLS)
    assert monitor.get_price("BTCUSDT") is None
    assert monitor.get_liquidity_score("BTCUSDT") == 0.0
    assert labkit.PositionController(client, websocket_monitor=monitor).websocket_monitor is monitor
    assert labkit.SelfLearningTrader(config, websocket_monitor=monitor).learned_labels == 0
    assert labkit.DataService(client).gaps == {}


async def test_a_scheduler_built_by_hand_runs_at_a_paper_exchange_over_sockets(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    clock = SystemClock(speed=60, start_ms=START_MS)
    source = SimulatedMarket(
        config.symbols, seed=1, start_ms=START_MS, history_days=1, planted_edge=0.1, quotes_per_second=1.0
    )
    exchange = labkit.PaperExchange(source, config.paper, clock)
    await exchange.start()
    client = labkit.BinanceClient(
        SocketHttp(exchange.rest_url, timeout_ms=10_000),
        clock,
        config.client,
        Credentials(exchange.api_key, exchange.api_secret),
    )
    streams = SocketStreams(exchange.ws_url, open_timeout_ms=5_000)
    scheduler = labkit.UnifiedScheduler(config, client, streams=streams, clock=clock, folder=tmp_path)
    try:
        await scheduler.start()
        await scheduler.start()  # a second start changes nothing
        await clock.sleep_until(clock.now_ms() + 2 * MINUTE_MS)
        price = scheduler.websocket_monitor.get_price("BTCUSDT")
        assert isinstance(price, Decimal)
        assert price > 0
        assert 0 <= scheduler.websocket_monitor.get_liquidity_score("BTCUSDT") <= 1
        assert scheduler.engine.epoch == 1
    finally:
        await scheduler.stop()
        await client.close()
        await exchange.stop()
    assert scheduler.state == "stopped"


async def test_a_controller_that_guards_nothing_yet_says_so() -> None:
    controller = labkit.PositionController(
        labkit.BinanceClient(), websocket_monitor=labkit.WebSocketMonitor(["BTCUSDT"])
    )
    with pytest.raises(labkit.LabkitError, match="guards nothing yet"):
        await controller.tick()
    with pytest.raises(labkit.LabkitError, match="guards nothing yet"):
        controller.close()
