"""Trials of a whole lab in virtual time: scheduler, trader and ledger at a venue. Called by `table`.

Whatever a lab meets, its books must be the exchange's in the end, and no intent may have been executed twice.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from labkit.config import Config, load_config
from labkit.domain import events as ev
from labkit.domain.clock import MINUTE_MS
from labkit.domain.decisions import Action, Decision
from labkit.domain.intervals import opens_at_or_after
from labkit.domain.market_events import Bar
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop
from labkit.engine.unified_scheduler import UnifiedScheduler
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.credentials import Credentials
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.truth_table import truth_table
from labkit.paper.venue import Venue
from labkit.paper.weather.script import Match, Script, Spell
from labkit.research.fault_trials.scene import KEY
from labkit.research.fault_trials.trial import Result, Trial

Kind = TypeVar("Kind", bound=ev.Event)

SMALL: dict[str, Any] = {
    "symbols": ["BTCUSDT", "ETHUSDT"],
    "speed": "max",
    "paper.history_days": 4,
    "paper.planted_edge": 0.8,
    "trader.warm_up_minutes": 600,
    "trader.cold_start_labels": 100,
    "trader.horizon_minutes": 10,
    "trader.decision_every_minutes": 2,
}
"""A short history with a strong planted edge, so that trades come at once."""
FAIR_MINUTES = 3
"""The last doubt needs the fence to pass, the last lost event a reconciliation."""
RECONCILED_WITHIN_MS = 65_000
"""A reconciliation a minute, and the answers to its questions."""


class LabScene:
    """A lab and its venue. `events` are all that its engine lived through."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self.config: Config = load_config({**SMALL, **settings}, environ={}, folder=folder)
        paper = self.config.paper
        source = SimulatedMarket(
            self.config.symbols,
            seed=self.config.seed,
            start_ms=int(datetime.fromisoformat(self.config.market_start).timestamp() * 1000),
            history_days=paper.history_days,
            planted_edge=paper.planted_edge,
            quotes_per_second=paper.quotes_per_second,
        )
        self.clock = VirtualClock(loop, start_ms=source.start_ms)
        self.venue = Venue(source, paper, api_key=KEY, api_secret=KEY)
        self.exchange = InProcessExchange(self.venue, self.clock)
        self.client = BinanceClient(self.exchange, self.clock, self.config.client, Credentials(KEY, KEY))
        self.scheduler = UnifiedScheduler(
            self.config, self.client, streams=self.exchange, clock=self.clock, folder=folder, market=source.name
        )
        self.events: list[ev.Event] = []
        self.harm = ""
        self.begun_ms = 0
        self.scheduler.on_event.append(self.events.append)

    async def begin(self, *spells: Spell) -> None:
        """The trial's weather, from now on; none for its control."""
        self.begun_ms = self.clock.now_ms()
        self.events.clear()
        self.venue.weather.begin(Script(name="trial", seed=7, spells=spells), self.begun_ms)
        self.venue.advance(self.begun_ms)

    def fair(self) -> None:
        self.venue.weather.clear(self.clock.now_ms())
        self.venue.advance(self.clock.now_ms())

    async def minutes(self, count: float) -> None:
        await self.clock.sleep_until(self.clock.now_ms() + round(count * MINUTE_MS))

    async def until(self, condition: Callable[[], object], within_minutes: float) -> int | None:
        """When `condition` first holds, in ms since the weather began; None if it does not in time."""
        end_ms = self.clock.now_ms() + round(within_minutes * MINUTE_MS)
        while not condition():
            if self.clock.now_ms() >= end_ms:
                return None
            await self.clock.sleep_until(self.clock.now_ms() + 100)
        return self.clock.now_ms() - self.begun_ms

    def blame(self, what: str) -> None:
        self.harm = self.harm or what

    @property
    def injected(self) -> int:
        return self.venue.weather.strikes.total()

    def books_agree(self) -> bool:
        """True if positions, wallet and executions here are those of the exchange."""
        desk, engine = self.venue.desk, self.scheduler.engine
        theirs = {h.position.symbol: h.position.quantity for h in desk.account.open_holdings()}
        return self._held() == theirs and engine.account.wallet_balance == desk.account.wallet_balance

    async def settled(self) -> int | None:
        """Fair minutes; when the books agreed, in ms since the weather began. Blames what must not be."""
        self.fair()
        well_ms = await self.until(self.books_agree, FAIR_MINUTES)
        await self.minutes(FAIR_MINUTES)
        if any(truth.executions > truth.orders or truth.orders > 1 for truth in truth_table(self.venue.desk).values()):
            self.blame("an intent was executed twice")
        if self.scheduler.state != "running":
            self.blame(f"the lab is {self.scheduler.state}: {self.scheduler.state_detail}")
        return well_ms if self.books_agree() else None

    def lag_of_fills_ms(self) -> int:
        """How late the engine heard of the exchange's executions since the weather began, at worst."""
        told = {event.fill.trade_id: event.time_ms for event in self.of(ev.OrderChanged) if event.fill}
        fills = [fill for fill in self.venue.desk.fills if fill.trade_time_ms >= self.begun_ms]
        return max((told[fill.trade_id] - fill.trade_time_ms for fill in fills if fill.trade_id in told), default=0)

    def of(self, kind: type[Kind]) -> list[Kind]:
        """The events of one kind since the weather began."""
        return [event for event in self.events if isinstance(event, kind)]

    def _held(self) -> dict[str, Decimal]:
        return {s: position.quantity for s, position in self.scheduler.engine.positions.items() if position.quantity}


Life = Callable[[LabScene, bool], Coroutine[Any, Any, Result]]


def _in_a_lab(
    ids: str,
    name: str,
    live: Life,
    *,
    detect_within_ms: int | None,
    recover_within_ms: int = 20 * MINUTE_MS,
    **settings: Any,
) -> Trial:
    async def attempt(fair: bool) -> Result:
        with tempfile.TemporaryDirectory(prefix="labkit-trial-") as folder:
            scene = LabScene(Path(folder), {key.replace("__", "."): value for key, value in settings.items()})
            market = asyncio.create_task(scene.exchange.run())
            await scene.scheduler.start()
            try:
                await scene.minutes(1)
                return await live(scene, fair)
            finally:
                await scene.scheduler.stop()
                await scene.client.close()
                market.cancel()
                await asyncio.gather(market, return_exceptions=True)
                scene.venue.close()

    return Trial(
        ids=ids,
        name=name,
        attempt=attempt,
        way=live.__qualname__,
        detect_within_ms=detect_within_ms,
        recover_within_ms=recover_within_ms,
    )


# -- how they are lived ------------------------------------------------------------------------------------------


async def _lost_fills(scene: LabScene, fair: bool) -> Result:
    """Events of the account never come: every execution is found by asking, within a reconciliation."""
    await scene.begin(*([] if fair else [Spell(fault="user-event-loss", probability=0.5)]))
    await scene.minutes(12)
    injected = scene.injected
    recovered_ms = await scene.settled()
    late_ms = scene.lag_of_fills_ms()
    if not scene.of(ev.OrderChanged):
        scene.blame("nothing was traded")
    return Result(
        injected=injected, detected_ms=late_ms if late_ms > 1_000 else None, recovered_ms=recovered_ms, harm=scene.harm
    )


async def _nothing_to_reduce(scene: LabScene, fair: bool) -> Result:
    """The position is gone without our knowing when we close it: refused, looked at, and never turned around."""
    engine, symbol = scene.scheduler.engine, "BTCUSDT"
    scene.scheduler.submit(ev.EntriesPaused(time_ms=scene.clock.now_ms(), paused=True, reason="trial"))
    await scene.begin(_by_others(symbol, "BUY", "0.100"))
    await scene.until(lambda: engine.position(symbol).is_open, 2)
    sold = _by_others(symbol, "SELL", str(engine.position(symbol).quantity))
    await scene.begin(*([] if fair else [Spell(fault="user-event-loss"), sold]))
    injected = 0 if fair else scene.venue.weather.strikes["external-trade"]
    scene.scheduler.position_controller.close(symbol)
    detected_ms = await scene.until(lambda: scene.of(ev.OrderRefused), 0.5)
    recovered_ms = await scene.until(lambda: not engine.position(symbol).is_open, 3)
    if await scene.settled() is None or scene.venue.desk.account.position(symbol).is_open:
        scene.blame(f"the exchange holds {scene.venue.desk.account.position(symbol).quantity} {symbol}")
    return Result(injected=injected, detected_ms=detected_ms, recovered_ms=recovered_ms, harm=scene.harm)


def _by_others(symbol: str, side: str, quantity: str) -> Spell:
    return Spell(fault="external-trade", parameters={"symbol": symbol, "side": side, "quantity": quantity})


async def _behind(scene: LabScene, fair: bool) -> Result:
    """The account is told as it was three seconds ago: our own fresh executions are not "corrected" by it."""
    old = Spell(fault="stale-reply", match=Match(path="/fapi/v*/account"), parameters={"lag_ms": 3_000})
    await scene.begin(*([] if fair else [old]))
    differed = 0
    for _ in range(12 * 60):
        await scene.minutes(1 / 60)
        differed += "account" in scene.scheduler.engine.paused_by
    if differed:
        scene.blame(f"the account was taken to differ for {differed} s")
    intents = scene.scheduler.engine.intents
    if foreign := [name for name in truth_table(scene.venue.desk) if name not in intents]:
        scene.blame(f"orders nobody decided on: {foreign}")
    if not scene.of(ev.OrderChanged):
        scene.blame("nothing was traded")
    injected = scene.injected
    return Result(injected=injected, detected_ms=None, recovered_ms=await scene.settled(), harm=scene.harm)


async def _lost_candles(scene: LabScene, fair: bool) -> Result:
    """Closed candles never come over the stream: each minute is decided on whole ones all the same."""
    await scene.begin(*([] if fair else [Spell(fault="frame-drop", match=Match(stream="*@kline_1m"))]))
    await scene.minutes(5)
    injected = scene.injected
    minutes = scene.of(ev.MinuteClosed)
    for minute in minutes:
        if len(minute.bars) != len(scene.config.symbols):
            scene.blame(f"minute {minute.open_time_ms} has {len(minute.bars)} candles")
        if any(not bar.closed for bar in minute.bars.values()):
            scene.blame("an open candle was decided on")
    if len(minutes) < 5:
        scene.blame(f"only {len(minutes)} minutes were lived")
    return Result(injected=injected, detected_ms=None, recovered_ms=await scene.settled(), harm=scene.harm)


async def _funded_anew(scene: LabScene, fair: bool) -> Result:
    """Funding falls due each hour, not each eighth, and its record is lost: booked once, as the exchange paid it."""
    symbol = "BTCUSDT"
    hold = _by_others(symbol, "BUY", "0.100")
    hourly = Spell(fault="funding-interval", parameters={"symbol": symbol, "hours": 1})
    lost = Spell(fault="user-event-loss", match=Match(event="ACCOUNT_UPDATE"))
    # Ten seconds before the hour: the trader has no turn in between.
    await scene.clock.sleep_until(opens_at_or_after("1h", scene.clock.now_ms()) - 10_000)
    await scene.begin(*([hold] if fair else [hold, hourly, lost]))
    injected = scene.venue.weather.strikes["funding-interval"]
    await scene.minutes(3)
    paid = scene.of(ev.FundingPaid)
    settlements = [settled for settled in scene.venue.boards[symbol].funding if settled.funding_time_ms]
    if len({event.funding_time_ms for event in paid}) != (len(settlements) if not fair else 0):
        scene.blame(f"{len(settlements)} settlements, {len(paid)} payments")
    detected_ms = paid[0].time_ms - paid[0].funding_time_ms if paid else None
    return Result(injected=injected, detected_ms=detected_ms, recovered_ms=await scene.settled(), harm=scene.harm)


async def _nonsense_model(scene: LabScene, fair: bool) -> Result:
    """The model answers NaN and infinities: no order, a reason, and the lab lives."""
    trader = scene.scheduler.self_learning_trader
    injected = 0
    true_step = trader.step

    def step(open_time_ms: int, bars: Mapping[str, Bar], **known: Any) -> tuple[Decision, ...]:
        nonlocal injected
        decided = true_step(open_time_ms, bars, **known)
        if fair:
            return decided
        injected += len(decided)
        return tuple(_poisoned(decision, number) for number, decision in enumerate(decided))

    trader.step = step  # type: ignore[method-assign]
    await scene.begin()
    decisions = scene.scheduler.engine.last_decisions
    detected_ms = await scene.until(
        lambda: any(decision.primary_reason == "model_not_finite" for decision in decisions.values()), 5
    )
    await scene.minutes(5)
    entries = [r for r in scene.scheduler.engine.intents.values() if r.created_ms >= scene.begun_ms and r.decision]
    if entries and not fair:
        scene.blame(f"{len(entries)} orders were placed")
    trader.step = true_step  # type: ignore[method-assign]
    return Result(injected=injected, detected_ms=detected_ms, recovered_ms=await scene.settled(), harm=scene.harm)


def _poisoned(decision: Decision, number: int) -> Decision:
    """A decision to enter, with a number in it that is none."""
    value = (math.nan, math.inf, -math.inf)[number % 3]
    field = ("leverage", "stop_distance", "expected_value", "target_distance")[number % 4]
    fields = {"leverage": 1.0, "stop_distance": 0.01, "target_distance": 0.01, field: value}
    return msgspec.structs.replace(decision, action=Action.ENTER_LONG, side=1, **fields)


async def _marks_apart(scene: LabScene, fair: bool) -> Result:
    """Mark prices stand 5 % away from the book: stops follow the book they are set on, and it is told."""
    engine = scene.scheduler.engine
    await scene.until(lambda: engine.trades, 20)
    symbol = next(iter(engine.trades))
    sign, quote = engine.position(symbol).sign, scene.venue.boards[symbol].quote
    assert quote is not None
    # Half as far as the marks will stand away: whoever looked at them would close at once.
    stop = round(quote.bid_price * (1 - sign * Decimal("0.025")), 1)
    scene.scheduler.position_controller.move_exits(symbol, stop_price=stop, target_price=None)
    apart = Spell(fault="mark-apart", parameters={"share": -0.05 * sign})
    await scene.begin(*([] if fair else [apart]))

    def told() -> bool:
        return any("mark price" in row.text and row.time_ms >= scene.begun_ms for row in engine.log)

    detected_ms = await scene.until(told, 3)
    await scene.minutes(2)
    if stopped := [
        r.intent.reason for r in engine.intents.values() if r.created_ms >= scene.begun_ms and "stop" in r.intent.reason
    ]:
        scene.blame(f"closed: {stopped}")
    injected = scene.injected
    return Result(injected=injected, detected_ms=detected_ms, recovered_ms=await scene.settled(), harm=scene.harm)


LAB_TRIALS: tuple[Trial, ...] = (
    _in_a_lab("X16", "nothing left to reduce", _nothing_to_reduce, detect_within_ms=2_000),
    _in_a_lab("X19", "user-event-loss", _lost_fills, detect_within_ms=RECONCILED_WITHIN_MS),
    _in_a_lab("X27", "funding-interval", _funded_anew, detect_within_ms=RECONCILED_WITHIN_MS,
              market_start="2026-01-05T00:57:00Z", client__reconcile_every_ms=47_000),
    _in_a_lab("X29", "stale-reply", _behind, detect_within_ms=None),
    _in_a_lab("D12", "candles lost", _lost_candles, detect_within_ms=None),
    _in_a_lab("D16", "model not finite", _nonsense_model, detect_within_ms=3 * MINUTE_MS),
    _in_a_lab("D18", "mark-apart", _marks_apart, detect_within_ms=2 * MINUTE_MS),
)  # fmt: skip
