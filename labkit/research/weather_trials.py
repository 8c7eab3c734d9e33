"""Weather trials: labkit's feed and client against each fault, measured in virtual time (`labkit weather table`).

A trial lives through a fair beginning, one fault, and what comes after; its result says how often the fault struck,
whether and when it was noticed, whether and when all was well again, and what must never have happened but did. The
same trial in fair weather is its own negative control: then nothing may be noticed. Times in virtual milliseconds,
counted from the fault's beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from decimal import Decimal

import msgspec

from labkit.config import ClientConfig, MonitorConfig, PaperConfig
from labkit.domain.clock import SECOND_MS
from labkit.domain.market_events import Quote
from labkit.domain.orders import Order, OrderIntent, OrderType, Side
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.errors import BreakerOpen, ExchangeError, OutcomeUnknown, UnknownOrder, WouldExceedLimit
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.circuit_breaker import BreakerLevel
from labkit.exchange.credentials import Credentials
from labkit.exchange.user_stream import UserStream
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.truth_table import truth_table
from labkit.paper.venue import Venue
from labkit.paper.weather.faults import FAULTS, NOT_WEATHER
from labkit.paper.weather.script import Match, Script, Spell
from labkit.wire.user_data import OrderTradeUpdate, UserEvent

START_MS = 1_767_571_200_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")
KEY = "trial"
FAIR_SECONDS = 5
STALE_WITHIN_MS = 4_000
"""Any silent stream must be noticed within this (target G6)."""
WELL_WITHIN_MS = 60_000
RESOLVED_WITHIN_MS = 90_000
"""Fence of virtual time: receive window 60 s, processing limit 10 s, margin 2 s, two questions."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one trial went. `harm` names what must never happen; empty is good."""

    injected: int
    detected_ms: int | None
    recovered_ms: int | None
    harm: str = ""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, what rows of the catalogue it stands for, and how it is lived through."""

    ids: str
    name: str
    spells: tuple[Spell, ...]
    live: Callable[[Scene], Awaitable[Result]]
    detect_within_ms: int | None
    """None where there is nothing to be noticed: the exchange is free to do that."""
    recover_within_ms: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    ids: str
    name: str
    text: str
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.ids:<12}{self.name:<28}{self.text}"


class Scene:
    """One venue with a feed, a client and a user stream at it, in virtual time."""

    def __init__(self, loop: VirtualTimeLoop, spells: tuple[Spell, ...]) -> None:
        source = SimulatedMarket(
            SYMBOLS, seed=3, start_ms=START_MS, history_days=1, planted_edge=0.0, quotes_per_second=4
        )
        self.clock = VirtualClock(loop, start_ms=START_MS)
        self.venue = Venue(source, PaperConfig(), api_key=KEY, api_secret=KEY)
        self.exchange = InProcessExchange(self.venue, self.clock)
        self.client = BinanceClient(self.exchange, self.clock, ClientConfig(), Credentials(KEY, KEY))
        self.monitor = WebSocketMonitor(SYMBOLS, streams=self.exchange, clock=self.clock, config=MonitorConfig())
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


# -- how trials are lived ----------------------------------------------------------------------------------------


def run(trial: Trial, *, fair: bool = False) -> Result:
    """Live one trial; in fair weather it is its own control."""
    loop = VirtualTimeLoop()
    scene = Scene(loop, () if fair else trial.spells)

    async def main() -> Result:
        market = asyncio.create_task(scene.exchange.run())
        user = asyncio.create_task(scene.user.run())
        await scene.client.sync_time()
        await scene.monitor.start()
        try:
            await asyncio.sleep(FAIR_SECONDS)
            return await trial.live(scene)
        finally:
            await scene.monitor.stop()
            user.cancel()
            market.cancel()
            await asyncio.gather(user, market, return_exceptions=True)

    return run_in_virtual_time(main(), loop)


async def _silence(scene: Scene) -> Result:
    """A stream falls silent, dies or comes late: told with a cause, and back by itself while the weather lasts."""
    await scene.begin()
    detected_ms = await scene.until(lambda: any(not healthy for _, _, healthy, _ in scene.health), 10_000)
    recovered_ms = None
    if detected_ms is not None:
        scene.health.clear()
        recovered_ms = await scene.until(scene.all_fresh, WELL_WITHIN_MS)
        # Well for good, not for a moment.
        await asyncio.sleep(2)
    return Result(injected=scene.injected, detected_ms=detected_ms, recovered_ms=recovered_ms, harm=scene.harm)


async def _announced(scene: Scene) -> Result:
    """An end that is announced: another connection is there before it comes, and no alarm is raised."""
    await scene.begin()
    detected_ms = await scene.until(lambda: scene.monitor.frames_by_stream_type["serverShutdown"], 10_000)
    # Well past the end itself.
    await asyncio.sleep(10)
    if alarms := [cause for _, _, healthy, cause in scene.health if not healthy]:
        scene.blame(f"an announced end raised an alarm: {alarms[0]}")
    recovered_ms = await scene.until(scene.all_fresh, WELL_WITHIN_MS)
    return Result(injected=scene.injected, detected_ms=detected_ms, recovered_ms=recovered_ms, harm=scene.harm)


async def _until_fair(scene: Scene) -> Result:
    """A fault of the whole way that only its end can cure: told, nothing stale is used, well again after it."""
    await scene.begin()
    detected_ms = await scene.until(lambda: any(not healthy for _, _, healthy, _ in scene.health), 15_000)
    await asyncio.sleep(20)
    attempts = scene.venue.weather.strikes["connect-refused"] + scene.venue.weather.strikes["refuse-handshake"]
    if attempts > 3 * 12:
        scene.blame(f"{attempts} attempts to connect in a minute")
    scene.fair()
    recovered_ms = await scene.until(scene.all_fresh, WELL_WITHIN_MS) if detected_ms is not None else None
    return Result(injected=scene.injected, detected_ms=detected_ms, recovered_ms=recovered_ms, harm=scene.harm)


async def _nonsense(scene: Scene) -> Result:
    """Frames that must not be believed: refused and counted by name, prices stay those of the market."""
    await scene.begin()
    detected_ms = await scene.until(lambda: scene.monitor.rejected.total(), 10_000)
    await asyncio.sleep(5)
    scene.fair()
    recovered_ms = await scene.until(scene.all_fresh, WELL_WITHIN_MS) if detected_ms is not None else None
    return Result(injected=scene.injected, detected_ms=detected_ms, recovered_ms=recovered_ms, harm=scene.harm)


async def _harmless(scene: Scene) -> Result:
    """What the exchange is free to do: nothing need be noticed, and nothing may go wrong."""
    await scene.begin()
    for _ in range(100):
        await asyncio.sleep(0.1)
        if not scene.all_fresh():
            scene.blame("a quote went stale")
    return Result(injected=scene.injected, detected_ms=None, recovered_ms=scene.since(), harm=scene.harm)


async def _slow_answers(scene: Scene) -> Result:
    """Answers take seconds: they are waited for, and the feed does not wait with them."""
    await scene.begin()
    asking = asyncio.create_task(scene.client.ticker_book("BTCUSDT"))
    while not asking.done():
        await asyncio.sleep(0.1)
        if not scene.all_fresh():
            scene.blame("a quote went stale")
    await asking
    return Result(injected=scene.injected, detected_ms=None, recovered_ms=scene.since(), harm=scene.harm)


def _doubtful(*, executed: bool) -> Callable[[Scene], Awaitable[Result]]:
    """An order whose outcome the client cannot know: settled by asking, executed once or proven never placed."""

    async def live(scene: Scene) -> Result:
        await scene.begin()
        intent = scene.intent("doubt-1")
        sent_ms = scene.clock.now_ms()
        detected_ms = None
        order: Order | None = None
        try:
            order = await scene.client.place_order(intent)
        except OutcomeUnknown:
            detected_ms = scene.since()
            order = await scene.client.settle(intent, sent_ms)
        truth = truth_table(scene.venue.desk).get(intent.client_order_id)
        executions = truth.executions if truth is not None else 0
        if executions != (1 if executed or not scene.injected else 0):
            scene.blame(f"{executions} executions")
        if (order is None) != (executions == 0):
            scene.blame(f"the client believes in {order}, the exchange executed {executions}")
        return Result(injected=scene.injected, detected_ms=detected_ms, recovered_ms=scene.since(), harm=scene.harm)

    return live


async def _refused(scene: Scene) -> Result:
    """A definite no: told as such, nothing executed, and the next intent goes through."""
    await scene.begin()
    detected_ms = None
    try:
        await scene.client.place_order(scene.intent("refused-1"))
    except OutcomeUnknown as error:
        scene.blame(f"in doubt although told: {error}")
    except ExchangeError:
        detected_ms = scene.since()
        if truth_table(scene.venue.desk):
            scene.blame("refused and executed")
    await asyncio.sleep(15)
    scene.fair()
    return Result(
        injected=scene.injected,
        detected_ms=detected_ms,
        recovered_ms=await _trade_again(scene) if detected_ms is not None else None,
        harm=scene.harm,
    )


async def _throttled(scene: Scene) -> Result:
    """-1008: entries pause, what reduces goes out."""
    await scene.client.place_order(scene.intent("held"))
    await scene.begin()
    detected_ms = None
    try:
        await scene.client.place_order(scene.intent("entry"))
    except ExchangeError:
        detected_ms = scene.since()
        await scene.client.place_order(scene.intent("exit", reduce_only=True))
        if scene.venue.desk.account.position("BTCUSDT").is_open:
            scene.blame("the position was not closed")
    scene.fair()
    return Result(
        injected=scene.injected,
        detected_ms=detected_ms,
        recovered_ms=await _trade_again(scene) if detected_ms is not None else None,
        harm=scene.harm,
    )


def _silenced(window_ms: int) -> Callable[[Scene], Awaitable[Result]]:
    """429, 418, 403: not one request leaves until the window has passed; streams go on."""

    async def live(scene: Scene) -> Result:
        await scene.begin()
        detected_ms = None
        while scene.since() < window_ms + 5_000:
            try:
                await scene.client.ticker_book("BTCUSDT")
            except ExchangeError:
                detected_ms = scene.since() if detected_ms is None else detected_ms
            except (BreakerOpen, WouldExceedLimit):
                if not scene.all_fresh():
                    scene.blame("the streams fell silent too")
            await asyncio.sleep(0.25)
        if scene.venue.weather.requests_in_silence:
            scene.blame(f"{scene.venue.weather.requests_in_silence} requests inside the window")
        scene.fair()
        return Result(
            injected=scene.injected,
            detected_ms=detected_ms,
            recovered_ms=await _trade_again(scene) if detected_ms is not None else None,
            harm=scene.harm,
        )

    return live


async def _out_of_step(scene: Scene) -> Result:
    """The exchange's clock jumps: one refused request, one resynchronization, and on."""
    before_ms = scene.client.time_offset_ms
    await scene.begin()
    await scene.client.place_order(scene.intent("skewed"))
    moved = abs(scene.client.time_offset_ms - before_ms) > 1_000
    return Result(
        injected=scene.injected,
        detected_ms=scene.since() if moved else None,
        recovered_ms=scene.since(),
        harm=scene.harm,
    )


async def _account_stream(scene: Scene) -> Result:
    """The account's stream is cut, or its key is gone: a gap is told, and events flow again."""
    await scene.begin()
    detected_ms = await scene.until(lambda: scene.gaps, 25 * 60 * SECOND_MS)
    await scene.client.place_order(scene.intent("after"))
    recovered_ms = await scene.until(lambda: _heard_fills(scene), 10_000)
    return Result(injected=scene.injected, detected_ms=detected_ms, recovered_ms=recovered_ms, harm=scene.harm)


async def _account_events(scene: Scene) -> Result:
    """Events of the account doubled or out of order: each trade is known by its id, whatever the order."""
    await scene.begin()
    for number in range(10):
        await scene.client.place_order(scene.intent(f"event-{number}"))
        await asyncio.sleep(1)
    await asyncio.sleep(3)
    told = [event.fill.trade_id for event in scene.events if isinstance(event, OrderTradeUpdate) and event.fill]
    true = [fill.trade_id for fill in scene.venue.desk.fills]
    if set(told) != set(true):
        scene.blame(f"{len(set(true) - set(told))} trades were not told")
    return Result(injected=scene.injected, detected_ms=None, recovered_ms=scene.since(), harm=scene.harm)


async def _stranger(scene: Scene) -> Result:
    """Somebody else trades on the account: told by the user stream, with an id that is none of ours."""

    def told() -> bool:
        return any(
            isinstance(event, OrderTradeUpdate) and event.order.client_order_id.startswith("web_")
            for event in scene.events
        )

    await scene.begin()
    detected_ms = await scene.until(told, 10_000)
    positions = await scene.client.positions("BTCUSDT")
    if detected_ms is not None and not any(position.quantity for position in positions):
        scene.blame("no position to be seen")
    return Result(injected=scene.injected, detected_ms=detected_ms, recovered_ms=scene.since(), harm=scene.harm)


async def _stricter(scene: Scene) -> Result:
    """Margin tables get stricter: the liquidation price of an open position moves nearer at the next look."""
    await scene.client.set_leverage("BTCUSDT", 20)
    intent = msgspec.structs.replace(scene.intent("held"), quantity=Decimal("1.000"))
    await scene.client.place_order(intent)
    before = (await scene.client.leverage_brackets("BTCUSDT"))["BTCUSDT"]
    price = (await scene.client.positions("BTCUSDT"))[0].liquidation_price
    await scene.begin()
    after = (await scene.client.leverage_brackets("BTCUSDT"))["BTCUSDT"]
    if after != before and (await scene.client.positions("BTCUSDT"))[0].liquidation_price <= price:
        scene.blame("the liquidation price of a long position did not rise")
    return Result(
        injected=scene.injected,
        detected_ms=scene.since() if after != before else None,
        recovered_ms=scene.since(),
        harm=scene.harm,
    )


async def _invisible(scene: Scene) -> Result:
    """An order that cannot be asked for yet: "no such order" is not believed before the fence."""
    intent = scene.intent("young-1")
    await scene.begin()
    sent_ms = scene.clock.now_ms()
    detected_ms = None
    try:
        await scene.client.place_order(intent)
        await scene.client.query_order(intent.symbol, intent.client_order_id)
    except UnknownOrder:
        detected_ms = scene.since()
        if await scene.client.settle(intent, sent_ms) is None:
            scene.blame("an executed order was declared never placed")
    return Result(injected=scene.injected, detected_ms=detected_ms, recovered_ms=scene.since(), harm=scene.harm)


async def _untradable(scene: Scene) -> Result:
    """A symbol is halted or gone: told in the listing, its orders are refused by name."""
    await scene.begin()
    info = await scene.client.exchange_info()
    rules = info.symbols.get("BTCUSDT")
    detected_ms = scene.since() if rules is None or rules.status != "TRADING" else None
    if detected_ms is not None:
        try:
            await scene.client.place_order(scene.intent("halted"))
            scene.blame("an order went through")
        except ExchangeError:
            scene.fair()
    return Result(
        injected=scene.injected,
        detected_ms=detected_ms,
        recovered_ms=await _trade_again(scene) if detected_ms is not None else None,
        harm=scene.harm,
    )


async def _trade_again(scene: Scene) -> int | None:
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


def _heard_fills(scene: Scene) -> bool:
    return any(isinstance(event, OrderTradeUpdate) and event.fill for event in scene.events)


# -- the trials --------------------------------------------------------------------------------------------------

_ORDER = Match(method="POST", path="/fapi/v1/order")
_PUBLIC = Match(route="public")


def _trial(
    ids: str,
    name: str,
    live: Callable[[Scene], Awaitable[Result]],
    *spells: Spell,
    detect_within_ms: int | None = 10_000,
    recover_within_ms: int = WELL_WITHIN_MS,
) -> Trial:
    return Trial(
        ids=ids,
        name=name,
        spells=spells,
        live=live,
        detect_within_ms=detect_within_ms,
        recover_within_ms=recover_within_ms,
    )


def _quiet(ids: str, fault: str, *, match: Match = _PUBLIC, **parameters: float) -> Trial:
    spell = Spell(fault=fault, match=match, parameters=dict(parameters))
    return _trial(ids, fault, _silence, spell, detect_within_ms=STALE_WITHIN_MS)


def _bad_frames(ids: str, fault: str, *, probability: float = 0.3) -> Trial:
    spell = Spell(fault=fault, probability=probability, match=Match(stream="*@bookTicker"))
    return _trial(ids, fault, _nonsense, spell)


def _bad_order(ids: str, fault: str, *, executed: bool) -> Trial:
    spell = Spell(fault=fault, match=_ORDER, times=1)
    return _trial(
        ids, fault, _doubtful(executed=executed), spell,
        detect_within_ms=61_000, recover_within_ms=61_000 + RESOLVED_WITHIN_MS,
    )  # fmt: skip


def _window(ids: str, fault: str, window_ms: int) -> Trial:
    spell = Spell(fault=fault, times=1)
    return _trial(ids, fault, _silenced(window_ms), spell, recover_within_ms=window_ms + 2 * WELL_WITHIN_MS)


TRIALS: tuple[Trial, ...] = (
    _quiet("N01", "reset"),
    _quiet("N02", "vanish"),
    _quiet("N03 N04", "half-open"),
    _quiet("N05", "freeze"),
    _trial(
        "N06", "freeze one symbol", _until_fair,
        Spell(fault="freeze", match=Match(stream="btcusdt@bookTicker"), parameters={"new_too": True}),
        detect_within_ms=STALE_WITHIN_MS,
    ),
    _trial("N07", "slow-handshake", _until_fair, Spell(fault="reset"), Spell(fault="slow-handshake"),
           detect_within_ms=STALE_WITHIN_MS),
    _trial("N08", "refuse-handshake", _until_fair, Spell(fault="reset"), Spell(fault="refuse-handshake"),
           detect_within_ms=STALE_WITHIN_MS, recover_within_ms=20_000 + WELL_WITHIN_MS),
    _trial("N10", "reply-delay", _slow_answers, Spell(fault="reply-delay", parameters={"jitter_ms": 1_000}),
           detect_within_ms=None),
    _trial("N10", "request-delay", _slow_answers, Spell(fault="request-delay"), detect_within_ms=None),
    _trial("N11", "backlog", _until_fair, Spell(fault="backlog", match=_PUBLIC, parameters={"growth": 1.0})),
    _bad_order("N13", "truncate-reply", executed=True),
    _trial("N14 N16", "connect-refused", _until_fair, Spell(fault="reset"), Spell(fault="connect-refused"),
           detect_within_ms=STALE_WITHIN_MS),
    _trial("N15", "flap", _until_fair, Spell(fault="flap"), detect_within_ms=STALE_WITHIN_MS),
    _bad_frames("N19", "oversize-frame", probability=0.05),
    _bad_order("N20 X04", "drop-before-execute", executed=False),
    _quiet("X01", "daily-cut"),
    _trial("X02", "server-shutdown", _announced, Spell(fault="server-shutdown", match=_PUBLIC),
           detect_within_ms=1_000),
    _bad_order("X03", "execute-then-drop-reply", executed=True),
    _bad_order("X03", "unknown-executed", executed=True),
    _bad_order("X03", "execute-then-hang", executed=True),
    _bad_order("X04", "unknown-not-executed", executed=False),
    _bad_order("X04", "hang-before-execute", executed=False),
    _trial("X05 X31", "service-unavailable", _refused, Spell(fault="service-unavailable"), recover_within_ms=180_000),
    _trial("X05", "internal-error", _refused, Spell(fault="internal-error"), recover_within_ms=180_000),
    _bad_order("X06", "timeout-executed-late", executed=True),
    _bad_order("X07", "unexpected-response", executed=True),
    _trial("X08", "throttled", _throttled, Spell(fault="throttled"), recover_within_ms=180_000),
    _window("X09", "rate-limited", 7_000),
    _window("X10", "ban", 120_000),
    _window("X11", "firewall", 120_000),
    _trial("X12", "clock-jump ahead", _out_of_step,
           Spell(fault="clock-jump", parameters={"offset_ms": 90_000})),
    _trial("X12", "clock-jump behind", _out_of_step,
           Spell(fault="clock-jump", parameters={"offset_ms": -2_000})),
    _trial("X14", "read-lag", _invisible, Spell(fault="read-lag", parameters={"lag_ms": 2_000})),
    _trial("X16 X17 X18", "reject", _refused, Spell(fault="reject")),
    _trial("X20", "listen-key-expiry", _account_stream, Spell(fault="listen-key-expiry")),
    _trial("X21", "listen-key-loss", _account_stream, Spell(fault="listen-key-loss"),
           detect_within_ms=20 * 60 * SECOND_MS + 1_000, recover_within_ms=21 * 60 * SECOND_MS),
    _trial("X22", "user-event-duplicate", _account_events, Spell(fault="user-event-duplicate", probability=0.5),
           detect_within_ms=None),
    _trial("X22 X23", "user-event-reorder", _account_events, Spell(fault="user-event-reorder", probability=0.5),
           detect_within_ms=None),
    _trial("X25", "symbol-status", _untradable, Spell(fault="symbol-status")),
    _trial("X25", "delisting", _untradable, Spell(fault="delisting")),
    _trial("X24", "external-trade", _stranger, Spell(fault="external-trade")),
    _trial("X26", "schema-drift-frame", _harmless, Spell(fault="schema-drift-frame"), detect_within_ms=None),
    _trial("X26", "schema-drift-reply", _account_events, Spell(fault="schema-drift-reply"), detect_within_ms=None),
    _trial("X28", "brackets-tightened", _stricter, Spell(fault="brackets-tightened", parameters={"factor": 3.0})),
    _bad_order("D10 N13", "garbage-reply", executed=True),
    _trial("X30", "venue-restart", _silence, Spell(fault="venue-restart"), detect_within_ms=STALE_WITHIN_MS),
    _bad_frames("D01", "price-nan"),
    _bad_frames("D01", "price-infinite"),
    _bad_frames("D02", "price-zero"),
    _bad_frames("D02", "price-negative"),
    _bad_frames("D02", "price-empty"),
    _bad_frames("D02", "one-sided"),
    _bad_frames("D03", "price-crossed"),
    _bad_frames("D04", "price-jump", probability=0.1),
    _bad_frames("D05", "frame-reorder"),
    _bad_frames("D05", "frame-duplicate"),
    _bad_frames("D05 D08", "repeat-old"),
    _trial("D06", "update-id-restart", _until_fair, Spell(fault="reset"),
           Spell(fault="update-id-restart"), detect_within_ms=STALE_WITHIN_MS),
    _trial("D07", "event-time-skew", _until_fair, Spell(fault="event-time-skew"), recover_within_ms=90_000),
    _trial("D08", "frame-delay", _until_fair, Spell(fault="frame-delay", parameters={"delay_ms": 30_000}),
           detect_within_ms=STALE_WITHIN_MS, recover_within_ms=90_000),
    _bad_frames("D09", "wrong-symbol"),
    _bad_frames("D10", "truncate-frame"),
    _bad_frames("D10", "garbage-frame"),
    _bad_frames("D10", "deep-frame", probability=0.05),
    _bad_frames("D11", "price-full-width"),
    _bad_frames("D11", "price-underscore"),
    _bad_frames("D11", "price-exponent"),
)  # fmt: skip


TRIED_ELSEWHERE = {
    "N17": "needs real pings: tests/weather/test_weather_on_sockets.py",
    "X19": "needs a whole lab: tests/weather/test_lab_in_weather.py",
    "D12": "needs a whole lab: tests/weather/test_lab_in_weather.py",
}


# -- the table ---------------------------------------------------------------------------------------------------


def judge(trial: Trial, result: Result) -> str:
    """What was not as it must be; empty if all was."""
    if not result.injected:
        return "the fault did not strike"
    if result.harm:
        return result.harm
    limit_ms = trial.detect_within_ms
    if limit_ms is not None and (result.detected_ms is None or result.detected_ms > limit_ms):
        return f"noticed {_seconds(result.detected_ms)}, allowed are {limit_ms / 1000:g} s"
    if result.recovered_ms is None or result.recovered_ms > trial.recover_within_ms:
        return f"well {_seconds(result.recovered_ms)}, allowed are {trial.recover_within_ms / 1000:g} s"
    return ""


def table(trials: Sequence[Trial]) -> Iterator[Row]:
    """Run the trials, one row each; then every catalogue row that has none, and why."""
    yield Row(ids="id", name="fault", text=f"{'injected':>8} {'noticed':>10} {'well':>10}")
    tried: set[str] = set()
    for trial in trials:
        result = run(trial)
        tried.update(trial.ids.split())
        verdict = judge(trial, result)
        noticed = "need not" if trial.detect_within_ms is None else _seconds(result.detected_ms)
        figures = f"{result.injected:>8} {noticed:>10} {_seconds(result.recovered_ms):>10}"
        yield Row(ids=trial.ids, name=trial.name, text=f"{figures}  {verdict}".rstrip(), failed=bool(verdict))
    named = {ids: fault.name for fault in FAULTS.values() for ids in fault.catalogue}
    for ids in sorted({*named, *NOT_WEATHER} - tried, key=lambda each: ("NXD".index(each[0]), each)):
        if ids in named:
            yield Row(ids=ids, name=named[ids], text=TRIED_ELSEWHERE.get(ids, "can be injected; not tried yet"))
        else:
            yield Row(ids=ids, name="", text=f"no weather: {NOT_WEATHER[ids]}")


def _seconds(milliseconds: int | None) -> str:
    return "never" if milliseconds is None else f"{milliseconds / 1000:.2f} s"
