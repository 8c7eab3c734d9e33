"""Trials of the account: its stream cut, its events doubled or astray, other hands on it. Called by `table`."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec

from labkit.domain.clock import SECOND_MS
from labkit.paper.weather.script import Spell
from labkit.research.fault_trials.scene import Scene, in_weather
from labkit.research.fault_trials.trial import Result, Trial
from labkit.wire.user_data import OrderTradeUpdate


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


def _heard_fills(scene: Scene) -> bool:
    return any(isinstance(event, OrderTradeUpdate) and event.fill for event in scene.events)


ACCOUNT_TRIALS: tuple[Trial, ...] = (
    in_weather("X20", "listen-key-expiry", _account_stream, Spell(fault="listen-key-expiry")),
    in_weather("X21", "listen-key-loss", _account_stream, Spell(fault="listen-key-loss"),
               detect_within_ms=20 * 60 * SECOND_MS + 1_000, recover_within_ms=21 * 60 * SECOND_MS),
    in_weather("X22", "user-event-duplicate", _account_events, Spell(fault="user-event-duplicate", probability=0.5),
               detect_within_ms=None),
    in_weather("X22 X23", "user-event-reorder", _account_events, Spell(fault="user-event-reorder", probability=0.5),
               detect_within_ms=None),
    in_weather("X24", "external-trade", _stranger, Spell(fault="external-trade")),
    in_weather("X26", "schema-drift-reply", _account_events, Spell(fault="schema-drift-reply"),
               detect_within_ms=None),
    in_weather("X28", "brackets-tightened", _stricter,
               Spell(fault="brackets-tightened", parameters={"factor": 3.0})),
)  # fmt: skip
