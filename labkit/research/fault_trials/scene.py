"""A venue with a feed, a client and a user stream at it, in virtual time: where most trials are lived."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

from labkit.config import ClientConfig, MonitorConfig, PaperConfig
from labkit.domain.market_events import Quote
from labkit.domain.orders import OrderIntent, OrderType, Side
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop
from labkit.errors import BreakerOpen, ExchangeError, WouldExceedLimit
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.circuit_breaker import BreakerLevel
from labkit.exchange.credentials import Credentials
from labkit.exchange.user_stream import UserStream
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.venue import Venue
from labkit.paper.weather.script import Script, Spell
from labkit.research.fault_trials.trial import WELL_WITHIN_MS, Result, Trial
from labkit.wire.user_data import UserEvent

START_MS = 1_767_571_200_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")
KEY = "trial"
FAIR_SECONDS = 5


class Scene:
    """One venue with a feed, a client and a user stream at it, in virtual time."""

    def __init__(self, spells: tuple[Spell, ...], monitor_config: MonitorConfig) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        source = SimulatedMarket(
            SYMBOLS, seed=3, start_ms=START_MS, history_days=4, planted_edge=0.0, quotes_per_second=4
        )
        self.clock = VirtualClock(loop, start_ms=START_MS)
        self.venue = Venue(source, PaperConfig(), api_key=KEY, api_secret=KEY)
        self.exchange = InProcessExchange(self.venue, self.clock)
        self.client = BinanceClient(self.exchange, self.clock, ClientConfig(), Credentials(KEY, KEY))
        self.monitor = WebSocketMonitor(SYMBOLS, streams=self.exchange, clock=self.clock, config=monitor_config)
        self.user = UserStream(
            self.client, self.exchange, self.clock, ClientConfig(), self._hear, self._notice_gap, seed=1
        )
        self.health: list[tuple[int, str, bool, str]] = []
        self.events: list[UserEvent] = []
        self.gaps: list[tuple[int, str]] = []
        self.harm = ""
        self.begun_ms = 0
        self._spells = spells
        self.monitor.on_health = lambda what, healthy, cause: self.health.append(
            (self.clock.now_ms(), what, healthy, cause)
        )
        self.monitor.on_quote = self._check_quote

    async def begin(self) -> None:
        """The trial's weather, from now on."""
        self.begun_ms = self.clock.now_ms()
        self.venue.weather.begin(Script(name="trial", seed=7, spells=self._spells), self.begun_ms)
        self.venue.advance(self.begun_ms)
        # What was noticed before has nothing to do with it.
        self.health.clear()
        self.gaps.clear()
        self.monitor.rejected.clear()

    def fair(self) -> None:
        """No weather any more."""
        self.venue.weather.clear(self.clock.now_ms())
        self.venue.advance(self.clock.now_ms())

    def since(self) -> int:
        """Milliseconds since the weather began."""
        return self.clock.now_ms() - self.begun_ms

    async def until(self, condition: Callable[[], object], within_ms: int) -> int | None:
        """When `condition` first holds, in ms since the weather began; None if it does not in time."""
        end_ms = self.clock.now_ms() + within_ms
        while not condition():
            if self.clock.now_ms() >= end_ms:
                return None
            await self.clock.sleep_until(self.clock.now_ms() + 20)
        return self.since()

    @property
    def injected(self) -> int:
        return sum(self.venue.weather.strikes.values())

    def all_fresh(self) -> bool:
        return all(self.monitor.fresh_quote(symbol) is not None for symbol in SYMBOLS)

    def all_new_since(self, time_ms: int) -> bool:
        """True if every symbol has a fresh quote that the exchange told after `time_ms`."""
        quotes = [self.monitor.fresh_quote(symbol) for symbol in SYMBOLS]
        return all(quote is not None and quote.event_time_ms > time_ms for quote in quotes)

    def intent(self, name: str, *, reduce_only: bool = False) -> OrderIntent:
        return OrderIntent(
            client_order_id=name,
            symbol="BTCUSDT",
            side=Side.SELL if reduce_only else Side.BUY,
            order_type=OrderType.MARKET,
            quantity=Decimal("0.010"),
            reduce_only=reduce_only,
        )

    def blame(self, what: str) -> None:
        self.harm = self.harm or what

    def _check_quote(self, quote: Quote) -> None:
        """Every quote that gets through must be one the market really made, or nearly: within 1 % of the mark."""
        mark = self.venue.desk.marks[quote.symbol]
        if abs(quote.mid_price - mark) > mark / 100 or quote.bid_price > quote.ask_price:
            self.blame(f"a quote of {quote.mid_price} was let through, the mark is {mark}")

    def _hear(self, event: UserEvent) -> None:
        self.events.append(event)

    def _notice_gap(self, cause: str) -> None:
        self.gaps.append((self.clock.now_ms(), cause))


Life = Callable[[Scene], Coroutine[Any, Any, Result]]


def in_weather(
    ids: str,
    name: str,
    live: Life,
    *spells: Spell,
    detect_within_ms: int | None = 10_000,
    recover_within_ms: int = WELL_WITHIN_MS,
    monitor_config: MonitorConfig | None = None,
) -> Trial:
    """The trial that lives through these spells as `live` says."""

    async def attempt(fair: bool) -> Result:
        scene = Scene(() if fair else spells, monitor_config or MonitorConfig())
        market = asyncio.create_task(scene.exchange.run())
        user = asyncio.create_task(scene.user.run())
        await scene.client.sync_time()
        await scene.monitor.start()
        try:
            await asyncio.sleep(FAIR_SECONDS)
            return await live(scene)
        finally:
            await scene.monitor.stop()
            user.cancel()
            market.cancel()
            await asyncio.gather(user, market, return_exceptions=True)

    return Trial(
        ids=ids,
        name=name,
        attempt=attempt,
        way=live.__qualname__,
        detect_within_ms=detect_within_ms,
        recover_within_ms=recover_within_ms,
    )


async def trade_again(scene: Scene) -> int | None:
    """When an order goes through again."""
    number = 0
    end_ms = scene.clock.now_ms() + 3 * WELL_WITHIN_MS
    while scene.clock.now_ms() < end_ms:
        number += 1
        try:
            await scene.client.place_order(scene.intent(f"again-{number}"))
            return scene.since()
        except (ExchangeError, BreakerOpen, WouldExceedLimit):
            await asyncio.sleep(0.5)
            if scene.client.breaker.level(scene.clock.now_ms()) is BreakerLevel.HALTED:
                await scene.client.probe()
    return None
