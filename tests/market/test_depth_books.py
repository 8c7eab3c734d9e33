"""Books kept from snapshots and changes: the exchange's own book, or said to be none."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from labkit.config import MonitorConfig
from labkit.domain.market_events import DepthDiff
from labkit.errors import ExchangeUnavailable
from labkit.wire import streams as wire
from labkit.wire.rest_market import DepthSnapshot

Play = Callable[..., Any]
Book = tuple[tuple[tuple[Decimal, Decimal], ...], tuple[tuple[Decimal, Decimal], ...]]
STREAM = "btcusdt@depth@100ms"


class DepthMarket:
    """The exchange's true book: it changes, tells the changes, and remembers what it was at each id."""

    def __init__(self, scene: Any, seed: int = 1) -> None:
        self.scene = scene
        self.random = random.Random(seed)
        self.bids = {Decimal(1_000 - level): Decimal(1) for level in range(1, 30)}
        self.asks = {Decimal(1_000 + level): Decimal(1) for level in range(1, 30)}
        self.update_id = 100
        self.was: dict[int, Book] = {}
        self.snapshots_ms: list[int] = []
        self.refusing = False
        self.answer_late = 0
        scene.fetch_snapshot = self.snapshot
        self.note()

    def note(self) -> None:
        self.was[self.update_id] = (tuple(sorted(self.bids.items(), reverse=True)), tuple(sorted(self.asks.items())))

    def change(self, *, told: bool = True, **wrong: object) -> None:
        draw, previous = self.random, self.update_id
        bids = {Decimal(1_000 - draw.randint(1, 30)): Decimal(draw.choice([0, 0, 1, 2, 3])) for _ in range(3)}
        asks = {Decimal(1_000 + draw.randint(1, 30)): Decimal(draw.choice([0, 0, 1, 2, 3])) for _ in range(3)}
        self.update_id += draw.randint(1, 5)
        for side, changes in ((self.bids, bids), (self.asks, asks)):
            side |= changes
            for price in [price for price, quantity in side.items() if not quantity]:
                del side[price]
        self.note()
        facts: dict[str, object] = {
            "symbol": "BTCUSDT", "first_update_id": previous + 1, "final_update_id": self.update_id,
            "previous_final_update_id": previous, "bids": tuple(bids.items()), "asks": tuple(asks.items()),
            "event_time_ms": self.scene.clock.now_ms(),
        }  # fmt: skip
        if told:
            self.scene.exchange.publish(STREAM, wire.encode_depth(DepthDiff(**(facts | wrong))))  # type: ignore[arg-type]

    async def live(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.change()
            await self.scene.pass_seconds(0.1)

    async def snapshot(self, symbol: str) -> DepthSnapshot:
        self.snapshots_ms.append(self.scene.clock.now_ms())
        if self.refusing:
            raise ExchangeUnavailable("down for maintenance", code=0, http_status=503)
        update_id = max(known for known in self.was if known <= self.update_id - self.answer_late)
        bids, asks = self.was[update_id]
        # The answer is under way while the book goes on changing.
        await asyncio.sleep(0.35)
        return DepthSnapshot(update_id, bids, asks, 0, 0)

    def is_what_the_monitor_shows(self) -> bool:
        book = self.scene.monitor.fresh_book("BTCUSDT")
        return book is not None and (tuple(book.bids(100)), tuple(book.asks(100))) == self.was[book.update_id]


async def begin(scene: Any, **settings: Any) -> DepthMarket:
    market = DepthMarket(scene, **settings)
    scene.monitor.add_streams([STREAM])
    await scene.pass_seconds(1)
    await market.live(2)
    return market


def told_of_the_book(scene: Any) -> list[tuple[bool, str]]:
    return [(usable, cause) for _, what, usable, cause in scene.health if what == "BTCUSDT book"]


def test_a_book_is_the_exchanges_book_change_by_change(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        market = await begin(scene)
        for _ in range(300):
            market.change()
            await scene.pass_seconds(0.1)
            assert market.is_what_the_monitor_shows()
            assert scene.monitor.get_book("BTCUSDT").update_id == market.update_id
        assert len(market.snapshots_ms) == 1

    assert told_of_the_book(play(scenario)) == [(True, "")]


def test_a_missed_change_ends_the_book_at_the_next_one_and_a_snapshot_makes_it_anew(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        market = await begin(scene)
        market.change(told=False)
        market.change()
        await scene.pass_seconds(0.01)
        assert scene.monitor.get_book("BTCUSDT") is None
        assert "next diff follows" in scene.monitor.why_book_unusable("BTCUSDT")
        await market.live(2)
        assert market.is_what_the_monitor_shows()

    told = told_of_the_book(play(scenario))
    assert [usable for usable, _ in told] == [True, False, True]
    assert "next diff follows" in told[1][1]


def test_a_cut_ends_the_book_at_once_and_it_comes_back_by_itself(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        market = await begin(scene)
        scene.exchange.cut("public")
        await scene.pass_seconds(0.001)
        assert scene.monitor.fresh_book("BTCUSDT") is None
        assert "connection lost" in scene.monitor.why_book_unusable("BTCUSDT")
        await market.live(4)
        assert market.is_what_the_monitor_shows()

    play(scenario)


def test_a_rotation_needs_no_new_snapshot(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        market = await begin(scene)
        for _ in range(3_000):
            market.change()
            await scene.pass_seconds(0.1)
            assert market.is_what_the_monitor_shows()
        assert len(market.snapshots_ms) == 1
        assert len([c for c in scene.exchange.all_connections if c.route == "public"]) >= 4

    play(scenario, config=MonitorConfig(rotate_after_hours=0.02))


def test_a_book_whose_changes_stay_away_is_too_old_to_decide_on(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        await begin(scene)
        await scene.pass_seconds(3.2)
        assert scene.monitor.get_book("BTCUSDT") is not None
        assert scene.monitor.fresh_book("BTCUSDT") is None
        assert "ms old (limit 3000)" in scene.monitor.why_book_unusable("BTCUSDT")

    play(scenario)


def test_a_snapshot_older_than_the_first_change_is_fetched_again(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        market = DepthMarket(scene)
        for _ in range(20):
            market.change(told=False)
        market.answer_late = 30
        scene.monitor.add_streams([STREAM])
        await scene.pass_seconds(1)
        await market.live(1)
        assert "next diff follows" in scene.monitor.why_book_unusable("BTCUSDT")
        market.answer_late = 0
        await market.live(4)
        assert market.is_what_the_monitor_shows()

    play(scenario)


def test_an_exchange_that_gives_no_snapshot_is_asked_less_and_less_often_and_the_reason_is_shown(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        market = DepthMarket(scene)
        market.refusing = True
        scene.monitor.add_streams([STREAM])
        await scene.pass_seconds(1)
        await market.live(120)
        assert scene.monitor.why_book_unusable("BTCUSDT").startswith("no book yet: down for maintenance")
        begun_ms = market.snapshots_ms[0]
        assert len([at_ms for at_ms in market.snapshots_ms if at_ms - begun_ms > 60_000]) <= 12
        assert len(market.snapshots_ms) <= 25
        market.refusing = False
        await market.live(31)
        assert market.is_what_the_monitor_shows()

    play(scenario)


def test_a_book_that_crosses_is_not_believed(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        market = await begin(scene)
        market.change(bids=((Decimal(1_050), Decimal(1)),))
        await scene.pass_seconds(0.01)
        assert scene.monitor.get_book("BTCUSDT") is None
        assert "cross" in scene.monitor.why_book_unusable("BTCUSDT")
        await market.live(2)
        assert market.is_what_the_monitor_shows()

    play(scenario)


def test_a_stopped_monitor_has_no_book_and_makes_it_anew_when_it_is_started_again(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        market = await begin(scene)
        market.change()
        await scene.monitor.stop()
        assert scene.monitor.why_book_unusable("BTCUSDT") == "the monitor is stopped"
        await scene.monitor.start()
        await scene.pass_seconds(1)
        await market.live(2)
        assert market.is_what_the_monitor_shows()

    assert [usable for usable, _ in told_of_the_book(play(scenario))] == [True, True]


def test_a_dropped_stream_leaves_no_book_and_fetches_nothing_more(play: Play) -> None:
    async def scenario(scene: Any) -> None:
        market = DepthMarket(scene)
        market.refusing = True
        scene.monitor.add_streams([STREAM])
        await scene.pass_seconds(1)
        await market.live(1)
        scene.monitor.remove_streams([STREAM])
        asked = len(market.snapshots_ms)
        await market.live(60)
        assert len(market.snapshots_ms) == asked
        assert scene.monitor.why_book_unusable("BTCUSDT") == "no book is kept"

    play(scenario)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_lost_a_usable_book_is_never_a_wrong_one(play: Play, seed: int) -> None:
    shown = 0

    async def scenario(scene: Any) -> None:
        nonlocal shown
        market = await begin(scene, seed=seed)
        draw = random.Random(seed)
        for _ in range(1_200):
            market.change(told=draw.random() > 0.01)
            if draw.random() < 0.004:
                scene.exchange.cut("public")
            market.answer_late = draw.choice([0, 0, 0, 20])
            await scene.pass_seconds(draw.choice([0.0, 0.05, 0.1, 0.3]))
            if scene.monitor.fresh_book("BTCUSDT") is not None:
                shown += 1
                assert market.is_what_the_monitor_shows()

    play(scenario)
    assert shown > 200
