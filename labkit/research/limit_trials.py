"""Limit trials: ten times what the exchange allows, asked of one client in virtual time (`labkit weather limits`).

A crowd of tasks at a paper exchange asks for 24,000 weight and 12,000 orders a minute; closing and cancelling go on
among them as if nothing were. What counts is seen from the exchange's side: statuses, the used weight and orders its
headers tell, the moment each request arrives, and how long closing and cancelling took from the wish to the answer.
The same with a 429 and a 418 in the middle: in their windows not one request may arrive. Target G9.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from decimal import Decimal

import msgspec

from labkit.config import ClientConfig, PaperConfig
from labkit.domain.clock import Clock
from labkit.domain.orders import OrderIntent, OrderType, Side, TimeInForce
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.errors import BreakerOpen, ExchangeError, WouldExceedLimit
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.credentials import Credentials
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.venue import Venue
from labkit.paper.weather.script import Script, Spell
from labkit.wire.transport import HttpRequest, HttpResponse

START_MS = 1_767_571_200_000
SYMBOL = "BTCUSDT"
KEY = "trial"
LOAD_SECONDS = 120
ANSWER_MS = 40
"""How long the exchange takes to answer."""
ALLOWED_SHARE = 0.8
URGENT_WITHIN_MS = 250

WEIGHT_LIMIT, ORDER_LIMIT = 2_400, 1_200
DEMANDS = (
    ("klines", 1_200.0),
    ("account", 1_600.0),
    ("open_orders", 100.0),
    ("openings", 12_000.0),
)
"""Calls a minute: 12,000 weight of history, 12,000 of questions, ten times the orders."""
URGENT_EVERY_SECONDS = 1.0
LOT = Decimal("0.001")

REFUSED_BY_OURSELVES = (WouldExceedLimit, BreakerOpen)


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one trial measured."""

    asked_weight: int
    """Weight asked of the client, a minute."""
    sent: int
    statuses: dict[int, int]
    """Answers by HTTP status."""
    most_weight: int
    """The most weight the exchange counted in one of its minutes."""
    most_orders: int
    urgent: int
    """Closings and cancels that were answered."""
    urgent_p99_ms: int
    refused_urgent: int
    """Closings and cancels the client would not send."""
    within_silence: int
    """Requests that arrived while the exchange had asked for silence."""


class _Watched:
    """The way to the exchange, with everything written down that arrives and is answered."""

    def __init__(self, exchange: InProcessExchange, clock: Clock) -> None:
        self._exchange = exchange
        self._clock = clock
        self.statuses: Counter[int] = Counter()
        self.most_weight = self.most_orders = self.within_silence = 0
        self._silent_until_ms = 0

    async def send(self, request: HttpRequest) -> HttpResponse:
        # A request that left before the answer that asks for silence came is no breach of it.
        self.within_silence += self._clock.now_ms() < self._silent_until_ms
        response = await self._exchange.send(request)
        self.statuses[response.status] += 1
        self.most_weight = max(self.most_weight, int(response.headers.get("x-mbx-used-weight-1m", 0)))
        self.most_orders = max(self.most_orders, int(response.headers.get("x-mbx-order-count-1m", 0)))
        if response.status in (429, 418):
            seconds = int(response.headers["retry-after"])
            self._silent_until_ms = max(self._silent_until_ms, self._clock.now_ms() + seconds * 1_000)
        return response

    async def close(self) -> None:
        """Nothing is held open."""


class _Crowd:
    """Everybody who asks."""

    def __init__(self, client: BinanceClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._numbered = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.waits_ms: list[int] = []
        self.refused_urgent = 0

    async def prepare(self, cancels: int) -> None:
        """A position to close and orders to cancel, made before the load so that they take nothing from it."""
        await self._client.place_order(self._market(Side.BUY, LOT * 1_000))
        price = (await self._client.ticker_book(SYMBOL)).bid_price
        low = (price * Decimal("0.96")).quantize(Decimal("0.1"))
        self._resting = [self._intent(Side.BUY, LOT * 3, price=low) for _ in range(cancels)]
        for intent in self._resting:
            await self._client.place_order(intent)

    async def ask(self, what: str, calls_a_minute: float, until_ms: int) -> None:
        """Ask at an even pace, whether there is an answer or not."""
        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "klines": lambda: self._client.klines(SYMBOL, "1m", limit=1_500),
            "account": self._client.account,
            "open_orders": self._client.open_orders,
            "openings": lambda: self._client.place_order(self._market(Side.BUY, LOT)),
        }
        await self._pace(60.0 / calls_a_minute, until_ms, lambda: self._try(ways[what]))

    async def close_and_cancel(self, until_ms: int) -> None:
        async def both() -> None:
            await self._urgent(lambda: self._client.place_order(self._market(Side.SELL, LOT)))
            if self._resting:
                name = self._resting.pop().client_order_id
                await self._urgent(lambda: self._client.cancel_order(SYMBOL, name))

        await self._pace(URGENT_EVERY_SECONDS, until_ms, both)

    def go_home(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _pace(self, every_seconds: float, until_ms: int, act: Callable[[], Awaitable[None]]) -> None:
        begun_ms, number = self._clock.now_ms(), 0
        while self._clock.now_ms() < until_ms:
            task = asyncio.ensure_future(act())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            number += 1
            await self._clock.sleep_until(begun_ms + round(number * every_seconds * 1_000))

    async def _try(self, way: Callable[[], Awaitable[object]]) -> None:
        with suppress(ExchangeError, *REFUSED_BY_OURSELVES):
            await way()

    async def _urgent(self, way: Callable[[], Awaitable[object]]) -> None:
        begun_ms = self._clock.now_ms()
        try:
            await way()
        except REFUSED_BY_OURSELVES:
            self.refused_urgent += 1
        except ExchangeError:
            # An exchange that asks for silence is the other trial.
            return
        else:
            self.waits_ms.append(self._clock.now_ms() - begun_ms)

    def _market(self, side: Side, quantity: Decimal) -> OrderIntent:
        return self._intent(side, quantity, reduce_only=side is Side.SELL)

    def _intent(
        self, side: Side, quantity: Decimal, *, price: Decimal | None = None, reduce_only: bool = False
    ) -> OrderIntent:
        self._numbered += 1
        return OrderIntent(
            client_order_id=f"crowd-{self._numbered}",
            symbol=SYMBOL,
            side=side,
            order_type=OrderType.LIMIT if price else OrderType.MARKET,
            quantity=quantity,
            price=price,
            time_in_force=TimeInForce.GTC if price else None,
            reduce_only=reduce_only,
        )


def asked_weight() -> int:
    """Weight a minute that `DEMANDS` come to."""
    weights = {"klines": 10, "account": 5, "open_orders": 40, "openings": 0}
    return round(sum(weights[what] * calls for what, calls in DEMANDS))


def run(*spells: Spell, seconds: int = LOAD_SECONDS) -> Figures:
    """Ask ten times what is allowed for so long, in the weather told (of the load's beginning)."""
    loop = VirtualTimeLoop()
    clock = VirtualClock(loop, start_ms=START_MS)
    source = SimulatedMarket(
        (SYMBOL,), seed=1, start_ms=START_MS, history_days=0, planted_edge=0.0, quotes_per_second=1
    )
    venue = Venue(source, PaperConfig(opening_balance=Decimal(100_000_000)), api_key=KEY, api_secret=KEY)
    watched = _Watched(InProcessExchange(venue, clock), clock)
    client = BinanceClient(watched, clock, ClientConfig(), Credentials(KEY, KEY))

    async def main() -> Figures:
        market = asyncio.create_task(InProcessExchange(venue, clock).run())
        crowd = _Crowd(client, clock)
        await asyncio.sleep(5)
        await client.sync_time()
        await client.exchange_info()
        await crowd.prepare(cancels=seconds)
        # What was prepared is forgotten by every limit.
        await asyncio.sleep(120)
        slow = Spell(fault="reply-delay", parameters={"delay_ms": ANSWER_MS})
        venue.weather.begin(Script(name="trial", seed=1, spells=(slow, *spells)), clock.now_ms())
        until_ms = clock.now_ms() + seconds * 1_000
        await asyncio.gather(
            *(crowd.ask(what, calls, until_ms) for what, calls in DEMANDS), crowd.close_and_cancel(until_ms)
        )
        crowd.go_home()
        market.cancel()
        await asyncio.gather(market, return_exceptions=True)
        waits_ms = sorted(crowd.waits_ms)
        return Figures(
            asked_weight=asked_weight(),
            sent=watched.statuses.total(),
            statuses=dict(watched.statuses),
            most_weight=watched.most_weight,
            most_orders=watched.most_orders,
            urgent=len(waits_ms),
            urgent_p99_ms=waits_ms[len(waits_ms) * 99 // 100] if waits_ms else 0,
            refused_urgent=crowd.refused_urgent,
            within_silence=watched.within_silence,
        )

    return run_in_virtual_time(main(), loop)


SILENCES = (
    Spell(fault="rate-limited", start_seconds=20, times=1, parameters={"seconds": 7.0}),
    Spell(fault="ban", start_seconds=60, times=1, parameters={"seconds": 30.0}),
)


def table() -> Iterator[tuple[str, bool]]:
    """Both trials as lines for people, each with whether it was as it must be."""
    load = run()
    yield f"asked for: {load.asked_weight:,} weight a minute, {LOAD_SECONDS} s long; sent: {load.sent:,} requests", True
    complaints = load.statuses.get(429, 0), load.statuses.get(418, 0)
    yield "answered 429: {}, answered 418: {}".format(*complaints), complaints == (0, 0)
    for what, most, limit in (("weight", load.most_weight, WEIGHT_LIMIT), ("orders", load.most_orders, ORDER_LIMIT)):
        yield f"most {what} in a minute: {most:,} of {limit:,} ({most / limit:.0%})", most <= ALLOWED_SHARE * limit
    well = not load.refused_urgent and load.urgent_p99_ms <= URGENT_WITHIN_MS
    yield (
        f"closing and cancelling, {load.urgent} times: p99 {load.urgent_p99_ms} ms (the exchange takes {ANSWER_MS}), "
        f"{load.refused_urgent} not sent",
        well,
    )
    silenced = run(*SILENCES)
    yield f"429 for 7 s, then 418 for 30 s: {silenced.within_silence} requests inside", not silenced.within_silence
