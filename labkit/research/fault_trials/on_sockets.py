"""Trials on real sockets and in real time: what networks do to TCP, done by a proxy on loopback. Called by `table`.

Each trial has a paper exchange, a feed and a client of its own, with the limits of life: nothing is scaled. They are
lived side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from decimal import Decimal
from typing import Any

from labkit.config import ClientConfig, MonitorConfig, PaperConfig
from labkit.domain.market_events import Quote
from labkit.domain.orders import OrderIntent, OrderType, Side
from labkit.edge.clocks import SystemClock
from labkit.edge.http import SocketHttp
from labkit.edge.websocket import SocketStreams
from labkit.errors import ExchangeError, OutcomeUnknown
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.credentials import Credentials
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.paper_exchange import PaperExchange
from labkit.paper.truth_table import truth_table
from labkit.paper.weather import proxy
from labkit.paper.weather.proxy import Direction, Proxy
from labkit.paper.weather.script import Match, Script, Spell
from labkit.research.fault_trials.scene import KEY, START_MS, SYMBOLS
from labkit.research.fault_trials.trial import STALE_WITHIN_MS, Result, Trial
from labkit.research.web_socket_frames import CONTINUATION, PING, TEXT, Reassembly, frame, split_frames

CONTROL_WATCH_MS = 5_000
"""So long a control looks for what must not be noticed: longer than any silence goes unnoticed."""
UP, DOWN = Direction.UP, Direction.DOWN


class SocketScene:
    """A paper exchange, and a feed and a client that reach it through a proxy each."""

    def __init__(self, exchange: PaperExchange, clock: SystemClock) -> None:
        self.exchange = exchange
        self.clock = clock
        self.feed_way = Proxy(int(exchange.rest_url.rpartition(":")[2]))
        self.rest_way = Proxy(int(exchange.rest_url.rpartition(":")[2]))
        self.health: list[tuple[int, str]] = []
        self.harm = ""
        self.begun_ms = 0

    async def open(self) -> None:
        """Everything runs and every price is fresh."""
        await self.feed_way.start()
        await self.rest_way.start()
        config = MonitorConfig()
        self.streams = SocketStreams(f"ws://{proxy.HOST}:{self.feed_way.port}", open_timeout_ms=config.open_timeout_ms)
        self.monitor = WebSocketMonitor(SYMBOLS, streams=self.streams, clock=self.clock, config=config)
        self.monitor.on_health = self._note_health
        self.monitor.on_quote = self._check_quote
        client_config = ClientConfig()
        self.http = SocketHttp(f"http://{proxy.HOST}:{self.rest_way.port}", timeout_ms=client_config.request_timeout_ms)
        self.client = BinanceClient(self.http, self.clock, client_config, Credentials(KEY, KEY))
        await self.client.sync_time()
        await self.monitor.start()
        if await self.until(self.all_fresh, 10_000) is None:
            self.blame(f"no fair beginning: {self.monitor.streams_status()}")

    async def close(self) -> None:
        await self.monitor.stop()
        await self.http.close()
        await self.feed_way.stop()
        await self.rest_way.stop()

    def begin(self) -> None:
        """What comes from now on belongs to the trial."""
        self.begun_ms = self.clock.now_ms()
        self.health.clear()

    def since(self) -> int:
        return self.clock.now_ms() - self.begun_ms

    async def until(self, condition: Callable[[], object], within_ms: int) -> int | None:
        """When `condition` first holds, in ms since the fault began; None if it does not in time."""
        end_ms = self.clock.now_ms() + within_ms
        while not condition():
            if self.clock.now_ms() >= end_ms:
                return None
            await asyncio.sleep(0.005)
        return self.since()

    def all_fresh(self) -> bool:
        return all(self.monitor.fresh_quote(symbol) is not None for symbol in SYMBOLS)

    def all_new_since(self, time_ms: int) -> bool:
        """True if every symbol has a fresh quote that the exchange told after `time_ms`."""
        quotes = [self.monitor.fresh_quote(symbol) for symbol in SYMBOLS]
        return all(quote is not None and quote.event_time_ms > time_ms for quote in quotes)

    def blame(self, what: str) -> None:
        self.harm = self.harm or what

    def weather(self, *spells: Spell) -> None:
        venue = self.exchange.venue
        venue.weather.begin(Script(name="trial", seed=7, spells=spells), self.clock.now_ms())
        venue.advance(self.clock.now_ms())

    def _note_health(self, what: str, healthy: bool, cause: str) -> None:
        if not healthy:
            self.health.append((self.since(), cause))

    def _check_quote(self, quote: Quote) -> None:
        mark = self.exchange.venue.desk.marks[quote.symbol]
        if abs(quote.mid_price - mark) > mark / 100:
            self.blame(f"a quote of {quote.mid_price} was let through, the mark is {mark}")


@contextlib.asynccontextmanager
async def opened_scene(quotes_per_second: float = 4) -> AsyncIterator[SocketScene]:
    """A scene that runs, with fresh prices."""
    source = SimulatedMarket(
        SYMBOLS, seed=3, start_ms=START_MS, history_days=1, planted_edge=0.0, quotes_per_second=quotes_per_second
    )
    clock = SystemClock(start_ms=START_MS)
    exchange = PaperExchange(source, PaperConfig(), clock, api_key=KEY, api_secret=KEY)
    await exchange.start()
    scene = SocketScene(exchange, clock)
    try:
        await scene.open()
        yield scene
    finally:
        await scene.close()
        await exchange.stop()


Life = Callable[[SocketScene, bool], Coroutine[Any, Any, Result]]


def _on_sockets(
    ids: str,
    name: str,
    live: Life,
    *,
    quotes_per_second: float = 4,
    detect_within_ms: int | None = STALE_WITHIN_MS,
    recover_within_ms: int = 10_000,
) -> Trial:
    async def attempt(fair: bool) -> Result:
        async with opened_scene(quotes_per_second) as scene:
            return await live(scene, fair)

    return Trial(
        ids=ids,
        name=name,
        attempt=attempt,
        way=live.__qualname__,
        in_real_time=True,
        detect_within_ms=detect_within_ms,
        recover_within_ms=recover_within_ms,
    )


def _feed_under(strike: Callable[[SocketScene], Coroutine[Any, Any, int]], *, watch_ms: int = 10_000) -> Life:
    """The connections of the feed meet something: noticed, and fresh prices come over new ones."""

    async def live_under(scene: SocketScene, fair: bool) -> Result:
        scene.begin()
        injected = 0 if fair else await strike(scene)
        await scene.until(lambda: scene.health, CONTROL_WATCH_MS if fair else watch_ms)
        detected_ms = scene.health[0][0] if scene.health else None
        noticed_ms = scene.clock.now_ms()
        recovered_ms = None
        if detected_ms is not None:
            recovered_ms = await scene.until(lambda: scene.all_new_since(noticed_ms), 15_000)
        return Result(injected=injected, detected_ms=detected_ms, recovered_ms=recovered_ms, harm=scene.harm)

    return live_under


async def _reset(scene: SocketScene) -> int:
    return scene.feed_way.poison(DOWN, proxy.ResetPeer)


async def _black_hole(scene: SocketScene) -> int:
    scene.feed_way.poison(UP, proxy.Timeout)
    return scene.feed_way.poison(DOWN, proxy.Timeout)


async def _one_way_black_hole(scene: SocketScene) -> int:
    return scene.feed_way.poison(DOWN, proxy.Timeout)


async def _deaf_server(scene: SocketScene) -> int:
    return scene.feed_way.poison(UP, proxy.Timeout)


async def _squeeze(scene: SocketScene) -> int:
    return scene.feed_way.poison(DOWN, lambda: proxy.Bandwidth(1_000))


async def _closed_port(scene: SocketScene) -> int:
    await scene.feed_way.stop()
    await asyncio.sleep(1.5)
    await scene.feed_way.start()
    return 1


async def _pings_without_data(scene: SocketScene) -> int:
    """The flood must not count as life: the data stops in it."""
    scene.weather(Spell(fault="control-flood"), Spell(fault="freeze", match=Match(route="public")))
    return 1


async def _oversize(scene: SocketScene) -> int:
    scene.weather(Spell(fault="oversize-frame", times=1, match=Match(route="public")))
    return 1


# -- what was sent is what is heard ------------------------------------------------------------------------------


class _Tap:
    """Writes down what passes."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    async def carry(self, chunk: bytes, arrived: float, forward: proxy.Forward) -> None:
        self.chunks.append(chunk)
        await forward(chunk)


class _Fragmenter:
    """Breaks every text frame into three, with a ping between each, as RFC 6455 §5.4 allows."""

    def __init__(self) -> None:
        self._upgraded = False
        self._rest = b""

    async def carry(self, chunk: bytes, arrived: float, forward: proxy.Forward) -> None:
        if not self._upgraded:
            head, self._upgraded, chunk = _upgrade_in(chunk)
            await forward(head)
        frames, self._rest = split_frames(self._rest + chunk)
        for each in frames:
            if each.opcode != TEXT:
                await forward(frame(each.opcode, each.payload))
                continue
            third = len(each.payload) // 3
            parts = (each.payload[:third], each.payload[third : 2 * third], each.payload[2 * third :])
            for number, part in enumerate(parts):
                await forward(frame(TEXT if number == 0 else CONTINUATION, part, final=number == 2))
                if number < 2:
                    await forward(frame(PING, b"still there?"))


def _upgrade_in(chunk: bytes) -> tuple[bytes, bool, bytes]:
    """The answer to the handshake in `chunk`, whether it is whole, and what follows it."""
    head, end, rest = chunk.partition(b"\r\n\r\n")
    return head + end, bool(end), rest


def _same_frames(toxics: Callable[[], list[proxy.Toxic]], was_struck: Callable[[bytes], bool], count: int) -> Life:
    """However the bytes are cut, our transport hears the very frames that an independent reader finds in them."""

    async def live_with_same_frames(scene: SocketScene, fair: bool) -> Result:
        before, after = _Tap(), _Tap()
        chain: list[proxy.Toxic] = [before, *([] if fair else toxics()), after]
        # The connections of the feed go on as they are; only the next one is looked at.
        scene.feed_way.poison_next(DOWN, chain)
        scene.begin()
        connection = await scene.streams.open("/public/stream?streams=btcusdt@bookTicker/ethusdt@bookTicker")
        heard = [await asyncio.wait_for(connection.receive(), 5) for _ in range(count)]
        recovered_ms = scene.since()
        await connection.close()
        reassembly = Reassembly()
        _, _, sent_bytes = _upgrade_in(b"".join(before.chunks))
        sent = [message.payload for message in reassembly.feed(sent_bytes) if message.opcode == TEXT]
        if sent[:count] != heard:
            scene.blame(f"{sum(a != b for a, b in zip(sent, heard, strict=False))} of {count} frames differ")
        struck = sum(was_struck(chunk) for chunk in after.chunks)
        return Result(injected=struck, detected_ms=None, recovered_ms=recovered_ms, harm=scene.harm)

    return live_with_same_frames


def _is_glued(chunk: bytes) -> bool:
    head, whole, rest = _upgrade_in(chunk)
    return head.startswith(b"HTTP/1.1 101") and whole and bool(rest)


# -- the way of requests -----------------------------------------------------------------------------------------


def _order(name: str) -> OrderIntent:
    return OrderIntent(
        client_order_id=name,
        symbol="BTCUSDT",
        side=Side.BUY,
        order_type=OrderType.MARKET,
        quantity=Decimal("0.010"),
    )


async def _slow_rest(scene: SocketScene, fair: bool) -> Result:
    """Answers take two seconds: they are waited for, and the feed does not wait with them."""
    scene.begin()
    injected = 0 if fair else scene.rest_way.poison(DOWN, lambda: proxy.Latency(2_000), new_too=True)
    asking = asyncio.create_task(scene.client.ticker_book("BTCUSDT"))
    while not asking.done():
        await asyncio.sleep(0.02)
        if not scene.all_fresh():
            scene.blame("a quote went stale")
    await asking
    if injected and scene.since() < 2_000:
        scene.blame("the answer was not late")
    return Result(injected=injected, detected_ms=None, recovered_ms=scene.since(), harm=scene.harm)


async def _answer_cut(scene: SocketScene, fair: bool) -> Result:
    """The acknowledgement ends in its middle: doubt, and the order is found by asking."""
    scene.begin()
    injected = 0 if fair else scene.rest_way.poison(DOWN, lambda: proxy.LimitData(60))
    return await _place_in_doubt(scene, injected, executions=1)


async def _closed_while_idle(scene: SocketScene, fair: bool) -> Result:
    """The kept-alive connection is gone when the order is sent: doubt, never a second sending; questions go on."""
    scene.begin()
    injected = 0 if fair else scene.rest_way.poison(UP, proxy.ResetPeer)
    return await _place_in_doubt(scene, injected, executions=0 if injected else 1)


async def _place_in_doubt(scene: SocketScene, injected: int, *, executions: int) -> Result:
    detected_ms = None
    opened = scene.rest_way.opened
    try:
        await scene.client.place_order(_order("doubt-1"))
    except OutcomeUnknown:
        detected_ms = scene.since()
    if scene.rest_way.opened != opened:
        scene.blame("the order was sent again over another connection")
    try:
        await scene.client.query_order("BTCUSDT", "doubt-1")
    except ExchangeError as error:
        if executions:
            scene.blame(f"asked, and told: {error}")
    await scene.client.ticker_book("BTCUSDT")
    truth = truth_table(scene.exchange.venue.desk).get("doubt-1")
    if (truth.executions if truth is not None else 0) != executions:
        scene.blame(f"executed {truth.executions if truth is not None else 0} times, not {executions}")
    return Result(injected=injected, detected_ms=detected_ms, recovered_ms=scene.since(), harm=scene.harm)


SOCKET_TRIALS: tuple[Trial, ...] = (
    _on_sockets("N01", "tcp: reset", _feed_under(_reset), recover_within_ms=3_000),
    _on_sockets("N03", "tcp: black hole", _feed_under(_black_hole)),
    _on_sockets("N04", "tcp: black hole downwards", _feed_under(_one_way_black_hole)),
    _on_sockets("N09", "tcp: frame glued to the 101", _same_frames(lambda: [proxy.Glue()], _is_glued, 20),
                detect_within_ms=None),
    _on_sockets("N10", "tcp: late answers", _slow_rest, detect_within_ms=None),
    _on_sockets("N11", "tcp: bandwidth", _feed_under(_squeeze), quotes_per_second=20, detect_within_ms=10_000,
                recover_within_ms=15_000),
    _on_sockets("N12", "tcp: slices and fragments",
                _same_frames(lambda: [_Fragmenter(), proxy.Slicer(1)], lambda chunk: len(chunk) == 1, 40),
                detect_within_ms=None),
    _on_sockets("N13", "tcp: answer cut", _answer_cut),
    _on_sockets("N14 N16", "tcp: port closed", _feed_under(_closed_port)),
    _on_sockets("N17", "pings without data", _feed_under(_pings_without_data)),
    # Our pings are lost on the way up, so no pong comes: noticed by that, as data still flows.
    _on_sockets("N18", "tcp: black hole upwards", _feed_under(_deaf_server), detect_within_ms=8_000,
                recover_within_ms=12_000),
    _on_sockets("N19", "oversize frame", _feed_under(_oversize)),
    _on_sockets("N20", "tcp: reset while idle", _closed_while_idle),
)  # fmt: skip
