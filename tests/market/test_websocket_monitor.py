"""The monitor against an exchange in process, in virtual time: what it shows, and how it comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.config import MonitorConfig
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop
from labkit.errors import ConfigError
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.wire import streams as wire

START_MS = 1_767_571_200_000
Play = Callable[..., Any]


def test_price_is_the_best_ask_and_liquidity_the_displayed_size_over_the_scale(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        assert scene.monitor.get_price("BTCUSDT") is None
        assert scene.monitor.get_liquidity_score("BTCUSDT") == 0.0
        await scene.pass_seconds(1.1)
        assert scene.monitor.get_price("BTCUSDT") == Decimal("100.1")
        assert scene.monitor.get_liquidity_score("BTCUSDT") == pytest.approx(0.4)
        scene.exchange.publish_quote("BTCUSDT", bid_quantity=Decimal(500))
        await scene.pass_seconds(0.01)
        assert scene.monitor.get_liquidity_score("BTCUSDT") == 1.0

    play(scenario)


def test_book_quotes_and_mark_prices_arrive_on_connections_of_their_own(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(2)
        assert sorted(connection.route for connection in scene.exchange.connections) == ["market", "public"]
        assert scene.monitor.get_mark_price("ETHUSDT").mark_price == Decimal("100.0")
        rows = {row.name: row for row in scene.monitor.streams_status()}
        assert rows["public"].state == rows["market"].state == "live"

    play(scenario)


def test_a_quote_is_usable_exactly_when_nothing_speaks_against_it(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        assert scene.monitor.fresh_quote("BTCUSDT") is None
        assert scene.monitor.why_stale("BTCUSDT") == "no quote yet"
        await scene.pass_seconds(1)
        assert scene.monitor.fresh_quote("BTCUSDT") == scene.monitor.get_quote("BTCUSDT")
        assert scene.monitor.why_stale("BTCUSDT") == ""
        scene.exchange.silent_streams.add("btcusdt@bookTicker")
        await scene.pass_seconds(3.2)
        assert scene.monitor.fresh_quote("BTCUSDT") is None
        assert "ms old" in scene.monitor.why_stale("BTCUSDT")
        assert scene.monitor.get_price("BTCUSDT") == Decimal("100.1")

    play(scenario)


def test_one_silent_symbol_is_told_within_four_seconds_and_asked_for_again_without_reconnecting(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(1.1)
        scene.exchange.silent_streams.add("btcusdt@bookTicker")
        await scene.pass_seconds(8)

    scene = play(scenario)
    told = [(at_ms, healthy) for at_ms, what, healthy, _ in scene.health if what == "BTCUSDT"]
    assert told[0][1] is True
    assert told[1][1] is False
    assert told[1][0] <= 1_100 + 4_000
    assert not any(what == "ETHUSDT" and not healthy for _, what, healthy, _ in scene.health)
    public = [connection for connection in scene.exchange.all_connections if connection.route == "public"]
    assert len(public) == 1
    assert json.loads(public[0].control[0][1])["params"] == ["btcusdt@bookTicker"]


def test_a_cut_connection_makes_its_quotes_stale_at_once_and_is_back_within_three_seconds(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        for _ in range(20):
            await scene.pass_seconds(2)
            scene.exchange.cut("public")
            await scene.pass_seconds(0.001)
            assert "connection lost" in scene.monitor.why_stale("BTCUSDT")
            await scene.pass_seconds(3)
            assert scene.monitor.why_stale("BTCUSDT") == ""
            await scene.pass_seconds(30)

    scene = play(scenario)
    assert scene.monitor.reconnects == 20
    assert sum(1 for _, what, healthy, _ in scene.health if what == "public" and not healthy) == 20


def test_a_connection_that_stays_open_but_silent_is_replaced(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(1)
        scene.exchange.frozen.update(scene.exchange.on_route("public"))
        await scene.pass_seconds(4)
        assert scene.monitor.why_stale("BTCUSDT") == ""
        assert scene.monitor.reconnects == 1
        await scene.pass_seconds(2)
        assert len(scene.exchange.on_route("public")) == 1

    scene = play(scenario)
    silent = [(at_ms, cause) for at_ms, what, healthy, cause in scene.health if what == "public" and not healthy]
    assert silent[0][0] <= 1_000 + 3_100
    assert "no timely data" in silent[0][1]


def test_a_growing_backlog_is_noticed_by_the_exchanges_time_and_left_behind(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(1)
        scene.exchange.backlog_seconds = {connection: 20.0 for connection in scene.exchange.on_route("public")}
        await scene.pass_seconds(40)
        assert scene.monitor.why_stale("BTCUSDT") == ""
        assert scene.monitor.quote_age_ms("BTCUSDT") <= 500
        assert scene.monitor.reconnects == 1

    play(scenario)


def test_while_the_exchange_cannot_be_reached_the_reason_is_given_for_each_symbol(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        scene.exchange.refusing = True
        await scene.pass_seconds(1)
        assert scene.monitor.why_stale("BTCUSDT") == "no quote yet: cannot connect: connection refused"

    play(scenario)


def test_a_rotation_loses_no_quote_and_shows_no_stale_moment(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(600.1)
        rows = {row.name: row for row in scene.monitor.streams_status()}
        assert rows["public"].reconnects == rows["market"].reconnects == 0

    scene = play(scenario, config=MonitorConfig(rotate_after_hours=0.02))
    assert len([c for c in scene.exchange.all_connections if c.route == "public"]) >= 8
    seen = [quote.update_id for quote in scene.quotes]
    assert seen == list(range(seen[0], scene.exchange.update_id + 1))
    assert all(healthy for _, _, healthy, _ in scene.health)
    assert not scene.monitor.rejected


@pytest.mark.parametrize(
    "notice", [b'{"e":"serverShutdown","E":%d}', b'{"event":{"e":"serverShutdown","E":%d}}'], ids=["bare", "wrapped"]
)
def test_an_announced_end_costs_no_quote_and_raises_no_alarm(play: Play, notice: bytes) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(1.1)
        (public,) = scene.exchange.on_route("public")
        public.push(notice % scene.clock.now_ms())
        await scene.pass_seconds(5)
        public.push(None)
        assert public not in scene.exchange.connections
        await scene.pass_seconds(5)
        assert scene.monitor.reconnects == 0

    scene = play(scenario)
    seen = [quote.update_id for quote in scene.quotes]
    assert seen == list(range(seen[0], scene.exchange.update_id + 1))
    assert all(healthy for _, _, healthy, _ in scene.health)
    assert not scene.monitor.rejected


def test_an_exchange_that_is_down_is_tried_at_most_twelve_times_a_minute_and_found_again(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(2)
        scene.exchange.refusing = True
        scene.exchange.cut("public")
        scene.exchange.cut("market")
        scene.exchange.attempts_ms.clear()
        await scene.pass_seconds(60)
        assert len(scene.exchange.attempts_ms) <= 2 * 12
        assert "refused" in scene.monitor.streams_status()[0].cause
        scene.exchange.refusing = False
        await scene.pass_seconds(31)
        assert scene.monitor.why_stale("BTCUSDT") == ""

    play(scenario)


def test_a_handshake_that_never_ends_does_not_hold_up_anything(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(6)
        assert any("did not open" in cause for _, what, _, cause in scene.health if what == "public")
        scene.exchange.hanging = False
        await scene.pass_seconds(8)
        assert scene.monitor.why_stale("BTCUSDT") == ""

    async def hang_first(scene: Any) -> None:
        scene.exchange.hanging = True
        await scenario(scene)

    play(hang_first)


def test_a_symbol_can_be_added_and_removed_while_running(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(1)
        scene.monitor.add_symbols(["SOLUSDT"])
        await scene.pass_seconds(0.1)
        scene.exchange.publish_quote("SOLUSDT")
        await scene.pass_seconds(0.1)
        assert scene.monitor.why_stale("SOLUSDT") == ""
        scene.monitor.remove_symbols(["ETHUSDT", "NOSUCH"])
        await scene.pass_seconds(0.5)
        assert scene.monitor.symbols == ("BTCUSDT", "SOLUSDT")
        assert scene.monitor.why_stale("ETHUSDT") == "not watched"
        (public,) = scene.exchange.on_route("public")
        assert sorted(public.streams) == ["btcusdt@bookTicker", "solusdt@bookTicker"]

    play(scenario)


def test_only_closed_bars_are_kept_and_each_is_told_once(play: Play, bar_of: Callable[..., Any]) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(1)
        scene.exchange.publish_bar(bar_of("BTCUSDT", START_MS, closed=False))
        await scene.pass_seconds(0.1)
        assert scene.monitor.last_closed_bar("BTCUSDT") is None
        for minute in [*range(12), 11]:
            scene.exchange.publish_bar(bar_of("BTCUSDT", START_MS + minute * 60_000))
        scene.exchange.publish_bar(bar_of("BTCUSDT", START_MS + 12 * 60_000, low=Decimal(200)))
        await scene.pass_seconds(0.1)
        assert scene.monitor.last_closed_bar("BTCUSDT").open_time_ms == START_MS + 11 * 60_000
        assert scene.monitor.bar_at("BTCUSDT", START_MS + 2 * 60_000) == bar_of("BTCUSDT", START_MS + 2 * 60_000)
        assert scene.monitor.bar_at("BTCUSDT", START_MS + 1 * 60_000) is None
        assert scene.monitor.rejected["impossible bar"] == 1

    assert len(play(scenario).bars) == 12


def test_only_quotes_that_are_listened_to_are_told_and_all_others_can_still_be_asked_for(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        scene.monitor.listen_to(["ETHUSDT", "SOLUSDT"])
        await scene.pass_seconds(2.1)
        assert {quote.symbol for quote in scene.quotes} == {"ETHUSDT"}
        # Every second quote of the exchange is one of this symbol.
        assert [quote.update_id for quote in scene.quotes] == list(range(4, scene.exchange.update_id + 1, 2))
        assert scene.monitor.get_quote("BTCUSDT").update_id == scene.exchange.update_id - 1
        scene.quotes.clear()
        scene.monitor.listen_to(["BTCUSDT"])
        scene.monitor.add_symbols(["SOLUSDT"])
        await scene.pass_seconds(2)
        scene.exchange.publish_quote("SOLUSDT")
        await scene.pass_seconds(0.01)
        assert {quote.symbol for quote in scene.quotes} == {"BTCUSDT"}
        assert scene.monitor.get_quote("SOLUSDT").update_id == scene.exchange.update_id

    play(scenario)


def test_every_frame_is_counted_by_kind(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(10)

    scene = play(scenario)
    kinds = scene.monitor.frames_by_stream_type
    assert kinds["bookTicker"] == len(scene.quotes)
    assert scene.monitor.frames == sum(kinds.values())
    assert kinds["markPrice"] >= 18


def test_the_24_hour_change_is_a_fraction(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(1)
        price = [Decimal(number) for number in ("101", "100", "102", "99", "5", "500")]
        ticker = wire.Ticker("BTCUSDT", *price, scene.clock.now_ms())
        scene.exchange.publish("btcusdt@miniTicker", wire.encode_mini_ticker(ticker))
        await scene.pass_seconds(0.1)
        assert scene.monitor.change_24h("BTCUSDT") == pytest.approx(0.01)
        assert scene.monitor.symbol_rows()[0].change_24h == pytest.approx(0.01)

    play(scenario)


def test_a_listener_that_raises_is_reported_and_the_monitor_goes_on(play: Play) -> None:
    problems: list[str] = []

    async def scenario(scene: Any) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context["message"]))
        await scene.pass_seconds(1)

        def raise_once(quote: object) -> None:
            scene.monitor.on_quote = scene.quotes.append
            raise ZeroDivisionError

        scene.monitor.on_quote = raise_once
        await scene.pass_seconds(5)
        assert scene.monitor.why_stale("BTCUSDT") == ""

    play(scenario)
    assert problems == ["a market stream reader failed"]


def test_a_stopped_monitor_leaves_no_connection_and_can_be_started_again(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(1)
        await scene.monitor.stop()
        assert scene.exchange.connections == []
        await scene.pass_seconds(10)
        assert scene.monitor.why_stale("BTCUSDT") == "the monitor is stopped"
        await scene.monitor.start()
        await scene.pass_seconds(1)
        assert scene.monitor.why_stale("BTCUSDT") == ""

    play(scenario)


def test_two_runs_in_virtual_time_tell_the_same_story(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        for _ in range(5):
            await scene.pass_seconds(7.3)
            scene.exchange.cut("public")

    first, second = play(scenario), play(scenario)
    assert first.health == second.health
    assert first.quotes == second.quotes


def test_a_faster_market_gets_limits_that_are_as_much_longer() -> None:
    class ThirtyTimes(VirtualClock):
        @property
        def speed(self) -> float:
            return 30.0

    loop = VirtualTimeLoop()
    clock = ThirtyTimes(loop, start_ms=START_MS)
    monitor = WebSocketMonitor(["BTCUSDT"], clock=clock)
    loop.close()
    assert monitor._cache.stale_after_ms == 90_000


@pytest.mark.parametrize("symbol", ["btcusdt", "", "BTC USDT", "BTC/USDT"])
def test_a_symbol_that_cannot_exist_is_refused_at_once(symbol: str) -> None:
    with pytest.raises(ConfigError):
        WebSocketMonitor([symbol])


def test_an_unknown_interval_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="15m"):
        WebSocketMonitor(["BTCUSDT"], intervals=("7m",))


GOOD = wire.wrap("btcusdt@bookTicker", b'{"e":"bookTicker","u":7,"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1","E":1}')


@settings(max_examples=60, deadline=None)
@given(
    frames=st.lists(
        st.one_of(
            st.binary(max_size=80),
            st.text(max_size=60).map(str.encode),
            st.builds(
                lambda at, byte: GOOD[:at] + bytes([byte]) + GOOD[at + 1 :],
                st.integers(0, len(GOOD) - 1),
                st.integers(0, 255),
            ),
        ),
        max_size=20,
    )
)
def test_no_bytes_kill_the_monitor_and_the_next_good_frame_is_shown(frames: list[bytes], play: Play) -> None:
    async def scenario(scene: Any) -> None:
        await scene.pass_seconds(0.1)
        (public,) = scene.exchange.on_route("public")
        for frame in frames:
            public.push(frame)
        await scene.pass_seconds(0.01)
        quote = scene.exchange.publish_quote("ETHUSDT")
        await scene.pass_seconds(0.1)
        assert scene.monitor.get_quote("ETHUSDT").update_id == quote.update_id
        assert scene.exchange.on_route("public") == [public]

    play(scenario, trading=False)
