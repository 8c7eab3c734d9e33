"""The live feed at an exchange that stands for the real one, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from labkit.config import ClientConfig, MonitorConfig, PaperConfig
from labkit.domain.clock import MINUTE_MS
from labkit.domain.market_events import Bar, MarkPrice, Quote, Trade
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.errors import ExchangeError
from labkit.exchange.binance_client import BinanceClient
from labkit.market.data_service import DataService
from labkit.market.live_feed import Fact, LiveFeed
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.venue import Venue
from labkit.paper.weather.script import Script, Spell

START_MS = 1_767_571_200_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")


class Scene:
    """A feed without a key at somebody else's exchange, and what it told."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        market = SimulatedMarket(
            SYMBOLS, seed=5, start_ms=START_MS, history_days=1, planted_edge=0.0, quotes_per_second=2
        )
        self.clock = VirtualClock(loop, start_ms=START_MS)
        self.venue = Venue(market, PaperConfig(), api_key="theirs", api_secret="theirs")
        self.exchange = InProcessExchange(self.venue, self.clock)
        client = BinanceClient(self.exchange, self.clock, ClientConfig())
        self.told: list[Fact] = []
        self.past: list[Bar] = []
        self.feed = LiveFeed(
            SYMBOLS,
            DataService(client),
            streams=self.exchange,
            clock=self.clock,
            config=MonitorConfig(),
            remember=self.past.extend,
        )
        self.feed.tell = self.told.append

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep_until(self.clock.now_ms() + round(seconds * 1000))

    def bars(self, symbol: str, *, told: bool = True, past: bool = True) -> list[int]:
        """Which minutes, counted from the start, are known of `symbol`."""
        known = [fact for fact in self.told if isinstance(fact, Bar)] if told else []
        known += self.past if past else []
        return sorted((bar.open_time_ms - START_MS) // MINUTE_MS for bar in known if bar.symbol == symbol)


def lived(story: Callable[[Scene], Awaitable[None]]) -> Scene:
    async def live(loop: VirtualTimeLoop) -> Scene:
        scene = Scene(loop)
        market = asyncio.create_task(scene.exchange.run())
        try:
            await story(scene)
            await scene.feed.stop()
        finally:
            market.cancel()
            await asyncio.gather(market, return_exceptions=True)
        return scene

    loop = VirtualTimeLoop()
    return run_in_virtual_time(live(loop), loop)


def test_what_was_is_fetched_and_what_happens_is_told_as_it_happens() -> None:
    async def story(scene: Scene) -> None:
        await scene.feed.recall(0.1)
        await scene.feed.start()
        await scene.sleep(150)

    scene = lived(story)
    assert scene.bars("ETHUSDT", told=False) == list(range(-144, 0))
    assert scene.bars("ETHUSDT", past=False) == [0, 1]
    assert sum(isinstance(fact, Quote) for fact in scene.told) > 500
    assert sum(isinstance(fact, MarkPrice) for fact in scene.told) > 250
    assert sum(isinstance(fact, Trade) for fact in scene.told) > 100


def test_minutes_that_a_dead_connection_missed_are_fetched_when_it_is_back() -> None:
    async def story(scene: Scene) -> None:
        await scene.feed.recall(0.01)
        await scene.feed.start()
        await scene.sleep(70)
        # Nothing of the market's route arrives for four minutes; whoever connects anew hears nothing either.
        silence = Spell(fault="freeze", duration_seconds=240, parameters={"new_too": True})
        scene.venue.weather.begin(Script(name="silence", seed=1, spells=(silence,)), scene.clock.now_ms())
        scene.venue.advance(scene.clock.now_ms())
        await scene.sleep(480)

    scene = lived(story)
    missed = set(range(8)) - set(scene.bars("BTCUSDT", past=False))
    assert len(missed) >= 3
    assert missed <= set(scene.bars("BTCUSDT", told=False))


def test_no_key_is_ever_shown_to_the_other_exchange() -> None:
    seen: list[str] = []

    async def story(scene: Scene) -> None:
        send = scene.exchange.send

        async def watched(request):  # type: ignore[no-untyped-def]
            seen.append(f"{request.path} {request.query} {request.headers}")
            return await send(request)

        scene.exchange.send = watched  # type: ignore[method-assign]
        await scene.feed.recall(0.05)
        await scene.feed.start()
        await scene.sleep(5)

    lived(story)
    assert seen
    assert not [request for request in seen if "signature" in request or "apikey" in request.lower()]


def test_an_exchange_that_cannot_be_asked_is_an_error_at_once() -> None:
    async def story(scene: Scene) -> None:
        down = Spell(fault="service-unavailable", duration_seconds=3600)
        scene.venue.weather.begin(Script(name="down", seed=1, spells=(down,)), scene.clock.now_ms())
        scene.venue.advance(scene.clock.now_ms())
        with pytest.raises(ExchangeError):
            await scene.feed.recall(1)

    lived(story)
