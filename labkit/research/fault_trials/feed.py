"""Trials of the feed: streams that fall silent, die, come late or talk nonsense. Called by `table`."""

from __future__ import annotations

import asyncio

from labkit.paper.weather.script import Match, Spell
from labkit.research.fault_trials.scene import Scene, in_weather
from labkit.research.fault_trials.trial import STALE_WITHIN_MS, WELL_WITHIN_MS, Result, Trial

_PUBLIC = Match(route="public")


async def _silence(scene: Scene) -> Result:
    """A stream falls silent, dies or comes late: told with a cause, and back by itself while the weather lasts."""
    await scene.begin()
    detected_ms = await scene.until(lambda: any(not healthy for _, _, healthy, _ in scene.health), 10_000)
    recovered_ms = None
    if detected_ms is not None:
        scene.health.clear()
        noticed_ms = scene.clock.now_ms()
        recovered_ms = await scene.until(lambda: scene.all_new_since(noticed_ms), WELL_WITHIN_MS)
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
    fair_ms = scene.clock.now_ms()
    recovered_ms = None
    if detected_ms is not None:
        recovered_ms = await scene.until(lambda: scene.all_new_since(fair_ms), WELL_WITHIN_MS)
    return Result(injected=scene.injected, detected_ms=detected_ms, recovered_ms=recovered_ms, harm=scene.harm)


async def _nonsense(scene: Scene) -> Result:
    """Frames that must not be believed: refused and counted by name, prices stay those of the market."""
    await scene.begin()
    detected_ms = await scene.until(lambda: scene.monitor.rejected.total(), 10_000)
    await asyncio.sleep(5)
    scene.fair()
    fair_ms = scene.clock.now_ms()
    recovered_ms = None
    if detected_ms is not None:
        recovered_ms = await scene.until(lambda: scene.all_new_since(fair_ms), WELL_WITHIN_MS)
    return Result(injected=scene.injected, detected_ms=detected_ms, recovered_ms=recovered_ms, harm=scene.harm)


async def _harmless(scene: Scene) -> Result:
    """What the exchange is free to do: nothing need be noticed, and nothing may go wrong."""
    await scene.begin()
    for _ in range(100):
        await asyncio.sleep(0.1)
        if not scene.all_fresh():
            scene.blame("a quote went stale")
    return Result(injected=scene.injected, detected_ms=None, recovered_ms=scene.since(), harm=scene.harm)


def _quiet(ids: str, fault: str, *, match: Match = _PUBLIC, **parameters: float) -> Trial:
    spell = Spell(fault=fault, match=match, parameters=dict(parameters))
    return in_weather(ids, fault, _silence, spell, detect_within_ms=STALE_WITHIN_MS)


def _bad_frames(ids: str, fault: str, *, probability: float = 0.3) -> Trial:
    spell = Spell(fault=fault, probability=probability, match=Match(stream="*@bookTicker"))
    return in_weather(ids, fault, _nonsense, spell)


FEED_TRIALS: tuple[Trial, ...] = (
    _quiet("N01", "reset"),
    _quiet("N02", "vanish"),
    _quiet("N03 N04", "half-open"),
    _quiet("N05", "freeze"),
    in_weather(
        "N06", "freeze one symbol", _until_fair,
        Spell(fault="freeze", match=Match(stream="btcusdt@bookTicker"), parameters={"new_too": True}),
        detect_within_ms=STALE_WITHIN_MS,
    ),
    in_weather("N07", "slow-handshake", _until_fair, Spell(fault="reset"), Spell(fault="slow-handshake"),
               detect_within_ms=STALE_WITHIN_MS),
    in_weather("N08", "refuse-handshake", _until_fair, Spell(fault="reset"), Spell(fault="refuse-handshake"),
               detect_within_ms=STALE_WITHIN_MS, recover_within_ms=20_000 + WELL_WITHIN_MS),
    in_weather("N11", "backlog", _until_fair, Spell(fault="backlog", match=_PUBLIC, parameters={"growth": 1.0})),
    in_weather("N14 N16", "connect-refused", _until_fair, Spell(fault="reset"), Spell(fault="connect-refused"),
               detect_within_ms=STALE_WITHIN_MS),
    in_weather("N15", "flap", _until_fair, Spell(fault="flap"), detect_within_ms=STALE_WITHIN_MS),
    _bad_frames("N19", "oversize-frame", probability=0.05),
    _quiet("X01", "daily-cut"),
    in_weather("X02", "server-shutdown", _announced, Spell(fault="server-shutdown", match=_PUBLIC),
               detect_within_ms=1_000),
    in_weather("X26", "schema-drift-frame", _harmless, Spell(fault="schema-drift-frame"), detect_within_ms=None),
    in_weather("X30", "venue-restart", _silence, Spell(fault="venue-restart"), detect_within_ms=STALE_WITHIN_MS),
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
    in_weather("D06", "update-id-restart", _until_fair, Spell(fault="reset"), Spell(fault="update-id-restart"),
               detect_within_ms=STALE_WITHIN_MS),
    in_weather("D07", "event-time-skew", _until_fair, Spell(fault="event-time-skew"), recover_within_ms=90_000),
    in_weather("D08", "frame-delay", _until_fair, Spell(fault="frame-delay", parameters={"delay_ms": 30_000}),
               detect_within_ms=STALE_WITHIN_MS, recover_within_ms=90_000),
    _bad_frames("D09", "wrong-symbol"),
    _bad_frames("D10", "truncate-frame"),
    _bad_frames("D10", "garbage-frame"),
    _bad_frames("D10", "deep-frame", probability=0.05),
    _bad_frames("D11", "price-full-width"),
    _bad_frames("D11", "price-underscore"),
    _bad_frames("D11", "price-exponent"),
)  # fmt: skip
