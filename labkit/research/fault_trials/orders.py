"""Trials of the client: orders in doubt, refusals, limits, clocks that disagree. Called by `table`."""

from __future__ import annotations

import asyncio

import msgspec

from labkit.domain.orders import Order, OrderType
from labkit.domain.symbol_rules import round_to_tick
from labkit.errors import BreakerOpen, ExchangeError, OutcomeUnknown, UnknownOrder, WouldExceedLimit
from labkit.paper.truth_table import truth_table
from labkit.paper.weather.script import Match, Spell
from labkit.research.fault_trials.scene import Life, Scene, in_weather, trade_again
from labkit.research.fault_trials.trial import WELL_WITHIN_MS, Result, Trial

RESOLVED_WITHIN_MS = 90_000
"""Fence of virtual time: receive window, processing limit 10 s, margin 2 s, two questions."""
_ORDER = Match(method="POST", path="/fapi/v1/order")


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


def _doubtful(*, executed: bool) -> Life:
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
        recovered_ms=await trade_again(scene) if detected_ms is not None else None,
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
        recovered_ms=await trade_again(scene) if detected_ms is not None else None,
        harm=scene.harm,
    )


def _silenced(window_ms: int) -> Life:
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
            recovered_ms=await trade_again(scene) if detected_ms is not None else None,
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


async def _other_tick(scene: Scene) -> Result:
    """The tick is coarser from one moment to the next: a price off it is refused, one on the new grid goes through."""
    quote = scene.venue.boards["BTCUSDT"].quote
    assert quote is not None
    before = (await scene.client.exchange_info()).symbols["BTCUSDT"].tick_size
    await scene.begin()
    price = quote.bid_price // 1 * 1 - 100 + before
    resting = msgspec.structs.replace(scene.intent("old-grid"), order_type=OrderType.LIMIT, price=price)
    detected_ms = None
    try:
        await scene.client.place_order(resting)
    except ExchangeError:
        detected_ms = scene.since()
    tick = (await scene.client.exchange_info()).symbols["BTCUSDT"].tick_size
    on_grid = msgspec.structs.replace(resting, client_order_id="new-grid", price=round_to_tick(price, tick))
    await scene.client.place_order(on_grid)
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
        recovered_ms=await trade_again(scene) if detected_ms is not None else None,
        harm=scene.harm,
    )


def _bad_order(ids: str, fault: str, *, executed: bool) -> Trial:
    spell = Spell(fault=fault, match=_ORDER, times=1)
    return in_weather(
        ids, fault, _doubtful(executed=executed), spell,
        detect_within_ms=61_000, recover_within_ms=61_000 + RESOLVED_WITHIN_MS,
    )  # fmt: skip


def _window(ids: str, fault: str, window_ms: int) -> Trial:
    spell = Spell(fault=fault, times=1)
    return in_weather(ids, fault, _silenced(window_ms), spell, recover_within_ms=window_ms + 2 * WELL_WITHIN_MS)


ORDER_TRIALS: tuple[Trial, ...] = (
    in_weather("N10", "reply-delay", _slow_answers, Spell(fault="reply-delay", parameters={"jitter_ms": 1_000}),
               detect_within_ms=None),
    in_weather("N10", "request-delay", _slow_answers, Spell(fault="request-delay"), detect_within_ms=None),
    _bad_order("N13", "truncate-reply", executed=True),
    _bad_order("N20 X04", "drop-before-execute", executed=False),
    _bad_order("X03", "execute-then-drop-reply", executed=True),
    _bad_order("X03", "unknown-executed", executed=True),
    _bad_order("X03", "execute-then-hang", executed=True),
    _bad_order("X04", "unknown-not-executed", executed=False),
    _bad_order("X04", "hang-before-execute", executed=False),
    in_weather("X05 X31", "service-unavailable", _refused, Spell(fault="service-unavailable"),
               recover_within_ms=180_000),
    in_weather("X05", "internal-error", _refused, Spell(fault="internal-error"), recover_within_ms=180_000),
    _bad_order("X06", "timeout-executed-late", executed=True),
    _bad_order("X07", "unexpected-response", executed=True),
    in_weather("X08", "throttled", _throttled, Spell(fault="throttled"), recover_within_ms=180_000),
    _window("X09", "rate-limited", 7_000),
    _window("X10", "ban", 120_000),
    _window("X11", "firewall", 120_000),
    in_weather("X12", "clock-jump ahead", _out_of_step,
               Spell(fault="clock-jump", parameters={"offset_ms": 90_000})),
    in_weather("X12", "clock-jump behind", _out_of_step,
               Spell(fault="clock-jump", parameters={"offset_ms": -2_000})),
    in_weather("X14", "read-lag", _invisible, Spell(fault="read-lag", parameters={"lag_ms": 2_000})),
    in_weather("X16", "reject", _refused, Spell(fault="reject")),
    in_weather("X17", "reject with -2021", _refused,
               Spell(fault="reject", parameters={"code": -2021, "message": "Order would immediately trigger."})),
    in_weather("X18", "reject with -2019", _refused,
               Spell(fault="reject", parameters={"code": -2019, "message": "Margin is insufficient."})),
    in_weather("X18", "tick-size", _other_tick, Spell(fault="tick-size")),
    in_weather("X25", "symbol-status", _untradable, Spell(fault="symbol-status")),
    in_weather("X25", "delisting", _untradable, Spell(fault="delisting")),
    _bad_order("D10 N13", "garbage-reply", executed=True),
)  # fmt: skip
