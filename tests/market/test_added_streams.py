"""Streams beyond those of every watched symbol: added and dropped while running, told once, refused if untrue."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from labkit.config import MonitorConfig
from labkit.domain.market_events import DepthDiff, Trade
from labkit.errors import ConfigError, ExchangeUnavailable
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.wire import streams as wire

Play = Callable[..., Any]
START_MS = 1_767_571_200_000
LEVELS = ((Decimal("99.9"), Decimal(1)), (Decimal("99.8"), Decimal(2)))
ASKS = ((Decimal("100.1"), Decimal(1)), (Decimal("100.2"), Decimal(2)))


async def nothing_to_fetch(symbol: str) -> Any:
    raise ExchangeUnavailable("not now", code=0, http_status=503)


def publish_trade(scene: Any, trade_id: int, **changes: object) -> None:
    facts: dict[str, object] = {
        "symbol": "BTCUSDT", "trade_id": trade_id, "price": Decimal(100), "quantity": Decimal(1),
        "buyer_is_maker": False, "trade_time_ms": scene.clock.now_ms(), "event_time_ms": scene.clock.now_ms(),
    }  # fmt: skip
    trade = Trade(**(facts | changes))  # type: ignore[arg-type]
    scene.exchange.publish("btcusdt@aggTrade", wire.encode_agg_trade(trade))


def publish_depth(scene: Any, stream: str, update_id: int, **changes: object) -> None:
    facts: dict[str, object] = {
        "symbol": "BTCUSDT", "first_update_id": update_id, "final_update_id": update_id,
        "previous_final_update_id": update_id - 1, "bids": LEVELS, "asks": ASKS, "event_time_ms": scene.clock.now_ms(),
    }  # fmt: skip
    scene.exchange.publish(stream, wire.encode_depth(DepthDiff(**(facts | changes))))  # type: ignore[arg-type]


def test_trades_are_told_from_when_their_stream_is_added_until_it_is_dropped(play: Play) -> None:
    told: list[int] = []

    async def scenario(scene: Any) -> None:
        scene.monitor.on_trade = lambda trade: told.append(trade.trade_id)
        await scene.pass_seconds(1)
        publish_trade(scene, 1)
        scene.monitor.add_streams(["btcusdt@aggTrade"])
        scene.monitor.add_streams(["btcusdt@aggTrade"])
        await scene.pass_seconds(0.1)
        publish_trade(scene, 2)
        publish_trade(scene, 3)
        await scene.pass_seconds(0.1)
        scene.monitor.remove_streams(["btcusdt@aggTrade", "ethusdt@aggTrade"])
        await scene.pass_seconds(0.1)
        publish_trade(scene, 4)
        await scene.pass_seconds(0.1)
        (market,) = scene.exchange.on_route("market")
        assert "btcusdt@aggTrade" not in market.streams

    scene = play(scenario)
    assert told == [2, 3]
    assert len(scene.exchange.all_connections) == 2
    assert not scene.monitor.rejected


@pytest.mark.parametrize(
    ("stream", "because"),
    [
        ("btcusdt@bookTickr", "must be one of aggTrade"),
        ("btcusdt@depth7", "must be one of aggTrade"),
        ("btcusdt@depth@1s", "must be one of aggTrade"),
        ("btcusdt@kline_7m", "15m"),
        ("dogeusdt@aggTrade", "watched"),
        ("BTCUSDT@aggTrade", "lower case"),
        ("btcusdt", "must be one of aggTrade"),
        ("btcusdt@depth@500ms", "'btcusdt@depth@100ms' has the same use"),
        ("btcusdt@depth10", "'btcusdt@depth5' has the same use"),
    ],
)
def test_a_stream_nobody_can_make_anything_of_is_refused_and_none_of_its_company_is_added(
    stream: str, because: str
) -> None:
    monitor = WebSocketMonitor(["BTCUSDT"])
    monitor.add_streams(["btcusdt@depth@100ms", "btcusdt@depth5"])
    with pytest.raises(ConfigError, match=because):
        monitor.add_streams(["btcusdt@aggTrade", stream])
    assert monitor._added.of_symbols(["BTCUSDT"]) == ["btcusdt@depth@100ms", "btcusdt@depth5"]


def test_over_a_rotation_each_trade_and_each_change_is_told_once(play: Play) -> None:
    trades: list[int] = []
    changes: list[int] = []

    async def scenario(scene: Any) -> None:
        scene.fetch_snapshot = nothing_to_fetch
        scene.monitor.on_trade = lambda trade: trades.append(trade.trade_id)
        scene.monitor.on_depth = lambda diff: changes.append(diff.final_update_id)
        scene.monitor.on_partial_depth = lambda depth: changes.append(-depth.update_id)
        scene.monitor.remove_symbols(["ETHUSDT"])
        scene.monitor.add_streams(["btcusdt@aggTrade", "btcusdt@depth", "btcusdt@depth5"])
        await scene.pass_seconds(1.1)
        for number in range(1, 6_000):
            publish_trade(scene, number)
            publish_depth(scene, "btcusdt@depth", number)
            publish_depth(scene, "btcusdt@depth5", number)
            await scene.pass_seconds(0.05)

    scene = play(scenario, config=MonitorConfig(rotate_after_hours=0.02))
    assert len([c for c in scene.exchange.all_connections if c.route == "market"]) >= 4
    assert trades == list(range(1, 6_000))
    assert changes == [change for number in range(1, 6_000) for change in (number, -number)]
    assert not scene.monitor.rejected


@pytest.mark.parametrize(
    ("stream", "changes", "because"),
    [
        ("btcusdt@aggTrade", {"price": Decimal(0)}, "impossible trade"),
        ("btcusdt@aggTrade", {"quantity": Decimal(-1)}, "impossible trade"),
        ("btcusdt@depth5", {"bids": LEVELS[::-1]}, "impossible levels of a book"),
        ("btcusdt@depth5", {"asks": ASKS[::-1]}, "impossible levels of a book"),
        ("btcusdt@depth5", {"bids": ((Decimal("100.1"), Decimal(1)),)}, "impossible levels of a book"),
        ("btcusdt@depth5", {"bids": ((Decimal(99), Decimal(0)),)}, "impossible levels of a book"),
        ("btcusdt@depth5", {"bids": (LEVELS[0], LEVELS[0])}, "impossible levels of a book"),
        ("btcusdt@depth", {"bids": ((Decimal(0), Decimal(1)),)}, "impossible change of a book"),
        ("btcusdt@depth", {"asks": ((Decimal(99), Decimal(-1)),)}, "impossible change of a book"),
    ],
)
def test_what_cannot_be_true_is_refused_counted_and_not_told(
    play: Play, stream: str, changes: dict[str, object], because: str
) -> None:
    told: list[object] = []

    async def scenario(scene: Any) -> None:
        monitor = scene.monitor
        monitor.on_trade = monitor.on_depth = monitor.on_partial_depth = told.append
        monitor.add_streams([stream])
        await scene.pass_seconds(1)
        if stream == "btcusdt@aggTrade":
            publish_trade(scene, 1, **changes)
        else:
            publish_depth(scene, stream, 1, **changes)
        await scene.pass_seconds(0.1)
        assert monitor.rejected == {because: 1}
        assert sum(row.rejected for row in monitor.streams_status()) == 1

    play(scenario)
    assert told == []


def test_a_connection_that_repeats_itself_is_refused_and_what_nobody_asked_for_too(play: Play) -> None:
    told: list[int] = []

    async def scenario(scene: Any) -> None:
        scene.monitor.on_trade = lambda trade: told.append(trade.trade_id)
        scene.monitor.add_streams(["btcusdt@aggTrade"])
        await scene.pass_seconds(1)
        for number in (7, 8, 7, 8, 9):
            publish_trade(scene, number)
        publish_depth_unasked = wire.wrap("btcusdt@depth5", b"{}")
        (public,) = scene.exchange.on_route("public")
        public.push(publish_depth_unasked)
        public.streams.append("btcusdt@depth")
        publish_depth(scene, "btcusdt@depth", 1)
        await scene.pass_seconds(0.1)

    scene = play(scenario)
    assert told == [7, 8, 9]
    assert scene.monitor.rejected == {"update id did not rise": 2, "unreadable frame": 1, "unasked stream": 1}


def test_after_a_cut_a_stream_may_begin_anew_with_low_ids(play: Play) -> None:
    told: list[int] = []

    async def scenario(scene: Any) -> None:
        scene.monitor.on_trade = lambda trade: told.append(trade.trade_id)
        scene.monitor.add_streams(["btcusdt@aggTrade"])
        await scene.pass_seconds(1)
        publish_trade(scene, 900)
        await scene.pass_seconds(0.1)
        scene.exchange.cut("market")
        await scene.pass_seconds(3)
        publish_trade(scene, 3)
        await scene.pass_seconds(0.1)

    play(scenario)
    assert told == [900, 3]


def test_the_best_levels_are_kept_until_the_symbol_goes(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        scene.monitor.add_streams(["btcusdt@depth5@100ms"])
        await scene.pass_seconds(1)
        publish_depth(scene, "btcusdt@depth5@100ms", 1)
        publish_depth(scene, "btcusdt@depth5@100ms", 2, bids=LEVELS[:1])
        await scene.pass_seconds(0.1)
        newest = scene.monitor.get_partial_depth("BTCUSDT")
        assert (newest.update_id, newest.bids, newest.asks) == (2, LEVELS[:1], ASKS)
        scene.monitor.remove_symbols(["BTCUSDT"])
        await scene.pass_seconds(0.1)
        assert scene.monitor.get_partial_depth("BTCUSDT") is None
        assert not any("btcusdt" in stream for c in scene.exchange.connections for stream in c.streams)

    play(scenario)


def test_candles_of_an_added_interval_are_told_and_kept(play: Play, bar_of: Callable[..., Any]) -> None:
    async def scenario(scene: Any) -> None:
        scene.monitor.add_streams(["btcusdt@kline_5m", "btcusdt@kline_1m"])
        await scene.pass_seconds(1)
        scene.exchange.publish_bar(bar_of("BTCUSDT", START_MS, interval="5m", close_time_ms=START_MS + 299_999))
        await scene.pass_seconds(0.1)
        assert scene.monitor.bar_at("BTCUSDT", START_MS, "5m") == scene.bars[0]
        scene.monitor.remove_streams(["btcusdt@kline_5m", "btcusdt@kline_1m"])
        await scene.pass_seconds(0.1)
        (market,) = scene.exchange.on_route("market")
        assert [stream for stream in market.streams if "kline" in stream] == ["btcusdt@kline_1m", "ethusdt@kline_1m"]

    play(scenario)


def test_streams_beyond_the_limit_go_over_further_connections(play: Play) -> None:
    told: list[int] = []

    async def scenario(scene: Any) -> None:
        scene.monitor.on_trade = lambda trade: told.append(trade.trade_id)
        await scene.pass_seconds(1)
        scene.monitor.add_streams(
            [f"{name}@{kind}" for name in ("btcusdt", "ethusdt") for kind in ("aggTrade", "depth")]
        )
        await scene.pass_seconds(1)
        assert len(scene.exchange.connections) > 5
        assert max(len(c.streams) for c in scene.exchange.connections) == 2
        # Some carry nothing but quiet streams of their own, and none is taken for dead.
        await scene.pass_seconds(10)
        assert all(row.state == "live" and not row.cause for row in scene.monitor.streams_status())
        publish_trade(scene, 1)
        await scene.pass_seconds(0.1)

    play(scenario, config=MonitorConfig(streams_per_connection=2))
    assert told == [1]
