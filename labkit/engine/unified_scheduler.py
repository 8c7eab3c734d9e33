"""UnifiedScheduler: brings the parts together and keeps their loops.

Real loop (60 s, just after the minute closes): context → decisions → orders. Virtual loop (10 s): virtual positions.
Position monitor (1 s, and every quote that triggers an exit). Daily report at its UTC time, exactly once a day, caught
up after downtime. Loops keep deadlines in market time (`labkit.engine.schedule`); missed runs are coalesced.

Starting is recovering: the ledger is folded, what was in doubt is settled by asking, open positions are guarded before
anything else is done.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from labkit.config import Config, TraderConfig, change_config, to_plain
from labkit.domain import events as ev
from labkit.domain.clock import DAY_MS, MINUTE_MS, SECOND_MS, Clock
from labkit.domain.decisions import Decision
from labkit.domain.events import Loop
from labkit.domain.market_events import Bar, MarkPrice, Quote
from labkit.domain.snapshot import StreamRow
from labkit.domain.symbol_rules import SymbolRules
from labkit.edge.clocks import SystemClock
from labkit.edge.websocket import SocketStreams
from labkit.engine.engine import Engine
from labkit.engine.ledger import Ledger
from labkit.engine.order_desk import OrderDesk
from labkit.engine.position_controller import PositionController
from labkit.engine.recovery import Checkpoints, recover
from labkit.engine.schedule import Deadlines
from labkit.errors import (
    BreakerOpen,
    ConfigError,
    ExchangeError,
    LabkitError,
    LedgerError,
    RemoteProtocolError,
    ReportFailed,
    UnknownSymbol,
    WouldExceedLimit,
)
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.circuit_breaker import BreakerLevel, LevelChange
from labkit.exchange.user_stream import UserStream
from labkit.market.data_service import DataService
from labkit.market.websocket_monitor import PUBLIC_STREAMS, WebSocketMonitor
from labkit.trader.challenge import Challenge, changed_settings
from labkit.trader.promotion import PromotionRule
from labkit.trader.self_learning_trader import SelfLearningTrader
from labkit.wire.transport import StreamTransport

if TYPE_CHECKING:
    from labkit.trader.policies import Policy

REAL_LOOP_MS = 60 * SECOND_MS
VIRTUAL_LOOP_MS = 10 * SECOND_MS
MONITOR_LOOP_MS = SECOND_MS

LOOKS_PER_WALL_SECOND = 10

SETTLE_MS = 2 * SECOND_MS
"""How long after the minute the real loop runs: closed candles arrive a little after their close."""

CHECKPOINT_EVERY_MINUTES = 240
NOTES_EVERY_MINUTES = 10

ASKING_FAILED = (ExchangeError, BreakerOpen, WouldExceedLimit, RemoteProtocolError)


class Reporter(Protocol):
    """Writes the report of one UTC day (`labkit.report.daily_reporter.DailyReporter`)."""

    def days_due(self, last_written: str | None, now_ms: int) -> list[str]:
        """The days (`YYYY-MM-DD`) whose report is due and not written."""
        ...

    async def write(self, day: str, progress: Callable[[int, int], object] | None = None) -> Path:
        """Write one report and return its path; raises ReportFailed. `progress` is told cells done and of how many."""
        ...


class UnifiedScheduler:
    """The running trader: all parts under their public names, and the loops that drive them.

    Args:
        config: settings.
        binance_client: the exchange to trade at.
        streams: where its WebSockets are opened; the real exchange's public streams by default.
        clock: market time; the system clock by default.
        folder: where ledger and checkpoints lie; `config.data_dir` by default.
        market: what the market is, and `disclosure`: what about it is not real.
        reporter: writes the daily report; None for no reports.
        policy: speaks in place of the built-in learner.
    """

    def __init__(
        self,
        config: Config,
        binance_client: BinanceClient,
        *,
        streams: StreamTransport | None = None,
        clock: Clock | None = None,
        folder: Path | None = None,
        market: str = "live",
        disclosure: str = "",
        reporter: Reporter | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.config = config
        self.binance_client = binance_client
        self.clock: Clock = clock or SystemClock()
        self.folder = folder or Path(config.data_dir)
        self.websocket_monitor = WebSocketMonitor(
            config.symbols, streams=streams, clock=self.clock, config=config.monitor
        )
        self.data_service = DataService(binance_client)
        self.self_learning_trader = SelfLearningTrader(config, self.websocket_monitor, policy=policy)
        self.position_controller = PositionController(binance_client, websocket_monitor=self.websocket_monitor)
        self.market, self.disclosure = market, disclosure
        self.state, self.state_detail = "stopped", ""
        self.failure: BaseException | None = None
        self.loops = {
            Loop.REAL: Deadlines(Loop.REAL, REAL_LOOP_MS, offset_ms=SETTLE_MS),
            Loop.VIRTUAL: Deadlines(Loop.VIRTUAL, VIRTUAL_LOOP_MS),
            Loop.MONITOR: Deadlines(Loop.MONITOR, _monitor_interval_ms(self.clock.speed)),
            Loop.REPORT: Deadlines(Loop.REPORT, DAY_MS, offset_ms=_report_offset_ms(config.report.at_utc)),
        }
        self.on_event: list[Callable[[ev.Event], None]] = []
        self.differing_minutes = 0
        self.labels_from_history = 0
        """Labels the trader had learned before it began to trade in this run."""
        self._streams = streams
        self._reporter = reporter
        self._checkpoints = Checkpoints(self.folder / "checkpoints")
        self._engine: Engine | None = None
        self._ledger: Ledger | None = None
        self._desk: OrderDesk | None = None
        self._user_stream: UserStream | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stepping = asyncio.Lock()
        self._minutes_since_checkpoint = 0
        self._weight_used = 0
        """The most request weight a minute took since it was last noted."""
        self._probing: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise ConfigError("this scheduler has not been started")
        return self._engine

    @property
    def has_engine(self) -> bool:
        """False until the ledger has been read."""
        return self._engine is not None

    @property
    def ledger(self) -> Ledger:
        if self._ledger is None:
            raise ConfigError("this scheduler has not been started")
        return self._ledger

    @property
    def user_stream(self) -> UserStream | None:
        return self._user_stream

    def streams_status(self) -> tuple[StreamRow, ...]:
        """All connections, the account's own among them, for showing."""
        own = () if self._user_stream is None else (self._user_stream.status(),)
        return (*self.websocket_monitor.streams_status(), *own)

    def submit(self, event: ev.Event) -> None:
        """Apply one event: change state, commit it to the ledger, then carry out what follows from it."""
        engine, ledger = self.engine, self.ledger
        revision = engine.revision
        commands = engine.apply(event)
        if engine.revision != revision:
            try:
                ledger.append(event, engine.new_decisions)
            except (LedgerError, OSError) as error:
                # What we believe is no longer what is written: stop, and let the next start believe the ledger.
                self._fail("ledger", error)
                raise
            if isinstance(event, (ev.OrderChanged, ev.FundingPaid, ev.WalletAdjusted, ev.Deposited)):
                engine.check_balance()
            # Only what is held needs every quote; all other prices are asked for.
            self.websocket_monitor.listen_to(engine.trades)
        assert self._desk is not None
        for command in commands:
            self._desk.carry_out(command)
        for listener in self.on_event:
            listener(event)

    async def start(self) -> None:
        """Recover, guard what is open, warm the trader up, and start the loops. Calling it again changes nothing.

        Raises:
            ConfigError: a symbol the exchange does not list, or a setting it does not accept.
            LedgerDamaged: the history cannot be trusted; nothing was changed.
            LabkitError: the exchange could not be reached.
        """
        if self.state in ("starting", "warming_up", "running"):
            return
        self.state, self.state_detail, self.failure = "starting", "reading the ledger", None
        try:
            await self._start()
        except BaseException as error:
            self.state, self.state_detail, self.failure = "failed", str(error), error
            await self._wind_down()
            raise

    async def _start(self) -> None:
        ledger = self._ledger = Ledger.open(self.folder)
        recovered = recover(self.config, ledger, self.self_learning_trader, self._checkpoints)
        engine = self._engine = recovered.engine
        if engine.promoted:
            # What challengers won outlives a restart, until it is rolled back.
            self.config = change_config(self.config, {"trader": engine.promoted})
            self.self_learning_trader.adopt(self.config.trader)
        self.differing_minutes = recovered.differing_minutes
        self._desk = OrderDesk(engine, self.binance_client, self.clock, self.submit)
        self.position_controller.attach(engine, self.clock, self.submit)
        await self._resume_breaker(engine)

        self.state_detail = "asking the exchange for its rules"
        await self.binance_client.sync_time()
        rules = await self._rules()
        epoch = ledger.begin_epoch()
        self.submit(
            ev.EngineStarted(
                time_ms=self.clock.now_ms(),
                epoch=epoch,
                market=self.market,
                disclosure=self.disclosure,
                symbols=self.config.symbols,
                config_hash=self.config.fingerprint(),
                settings={"risk": to_plain(self.config.risk), "trader": to_plain(self.config.trader)},
                version=version("labkit"),
            )
        )
        standing = self.binance_client.breaker.standing(self.clock.now_ms())
        if standing.level.name != engine.breaker_level:
            # It moved while no ledger was open to be told.
            self._on_breaker_change(standing)
        brackets = await self.binance_client.leverage_brackets()
        self.submit(
            ev.RulesObserved(
                time_ms=self.clock.now_ms(),
                rules=rules,
                brackets={s: tuple(brackets[s]) for s in self.config.symbols if s in brackets},
            )
        )
        if not engine.account.deposits:
            account = await self.binance_client.account()
            self.submit(ev.Deposited(time_ms=self.clock.now_ms(), amount=account.wallet_balance, key="opening balance"))
        for symbol in self.config.symbols:
            await self.binance_client.set_leverage(symbol, self.config.risk.leverage)

        self.state_detail = "opening the streams"
        monitor = self.websocket_monitor
        monitor.on_quote = self.position_controller.on_quote
        monitor.on_health = self._on_health
        self._user_stream = UserStream(
            self.binance_client,
            self._streams or SocketStreams(PUBLIC_STREAMS, open_timeout_ms=self.config.monitor.open_timeout_ms),
            self.clock,
            self.config.client,
            on_event=self._desk.on_user_event,
            on_gap=self._on_user_stream_gap,
        )
        self._spawn("user stream", self._user_stream.run())
        await monitor.start()
        self._spawn("position monitor", self._loop(Loop.MONITOR, self._monitor))
        await self._desk.reconcile()
        self._spawn("reconciliation", self._reconcile_loop())
        self._spawn("start of trading", self._begin_trading())

    async def _resume_breaker(self, engine: Engine) -> None:
        """Go on where the breaker stood, and wait for the end of a silence before anything is asked."""
        client = self.binance_client
        if engine.breaker_moved is not None:
            client.resume_breaker(_level_change(engine.breaker_moved))
        client.on_breaker_change = self._on_breaker_change
        silent_until_ms = client.breaker.silent_until_ms
        if silent_until_ms > self.clock.now_ms():
            until = datetime.fromtimestamp(silent_until_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
            self.state_detail = f"the exchange is asked nothing until {until} UTC: {client.breaker.cause}"
            await self.clock.sleep_until(silent_until_ms)

    async def _begin_trading(self) -> None:
        """Live through history, then keep the real and virtual loops. Open positions are guarded meanwhile."""
        self.state, self.state_detail = "warming_up", "the trader lives through history"
        await self._live_through_history()
        self.labels_from_history = self.self_learning_trader.learned_labels
        self.state, self.state_detail = "running", ""
        self._spawn("virtual loop", self._loop(Loop.VIRTUAL, self._virtual))
        if self._reporter:
            self._spawn("daily report", self._loop(Loop.REPORT, self._report))
        await self._loop(Loop.REAL, self._real)

    async def stop(self, reason: str = "asked to") -> None:
        """End cleanly: no new entries, a checkpoint of the trader, a sealed ledger. Positions stay as they are."""
        if self.state in ("stopped", "stopping"):
            return
        failed = self.state == "failed"
        self.state = "stopping"
        try:
            if self._engine is not None and self._ledger is not None and not failed:
                if self.self_learning_trader.last_open_time_ms:
                    self._note_learning()
                    self._note_feed()
                    self._checkpoint()
                self.submit(ev.EngineStopped(time_ms=self.clock.now_ms(), reason=reason))
        finally:
            await self._wind_down()
            self.state = "stopped" if self.failure is None else "failed"

    async def _wind_down(self) -> None:
        current = asyncio.current_task()
        tasks = [task for task in (*self._tasks, self._probing) if task is not None and task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        # Whoever goes on asking by this client tells no ledger that is closed.
        self.binance_client.on_breaker_change = None
        if self._desk:
            await self._desk.close()
        await self.websocket_monitor.stop()
        if self._ledger:
            try:
                self._ledger.close()
            except LedgerError:
                # An engine that failed has told of it; a disk that does not take the seal is no news then.
                if self.failure is None:
                    raise

    # -- loops -------------------------------------------------------------------------------------------------

    async def _loop(self, name: Loop, run: Callable[[int], Awaitable[None]]) -> None:
        deadlines = self.loops[name]
        due_ms = deadlines.first(self.clock.now_ms())
        while True:
            await self.clock.sleep_until(due_ms)
            await run(due_ms)
            due_ms = deadlines.finished(due_ms, self.clock.now_ms())

    async def _real(self, due_ms: int) -> None:
        async with self._stepping:
            closed_ms = due_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS
            trader = self.self_learning_trader
            last_ms = trader.last_open_time_ms or closed_ms - MINUTE_MS
            # Minutes that were missed are lived through in order, but decide nothing: their prices are gone.
            for open_time_ms in range(last_ms + MINUTE_MS, closed_ms, MINUTE_MS):
                bars = await self._bars_of(open_time_ms)
                self._minute(open_time_ms, bars, {}, entries_refused_because="this minute was missed")
            if closed_ms <= last_ms:
                return
            bars = await self._bars_of(closed_ms)
            quotes = await self._quotes()
            self._minute(closed_ms, bars, quotes)
            self._minutes_since_checkpoint += 1
            self._weight_used = max(self._weight_used, self.binance_client.limits.used_weight(self.clock.now_ms()))
            if self._minutes_since_checkpoint % NOTES_EVERY_MINUTES == 0:
                self._note_learning()
                self._note_feed()
            if self._minutes_since_checkpoint >= CHECKPOINT_EVERY_MINUTES:
                self._checkpoint()

    def _minute(
        self, open_time_ms: int, bars: dict[str, Bar], quotes: dict[str, Quote], *, entries_refused_because: str = ""
    ) -> None:
        monitor = self.websocket_monitor
        marks = {s: mark for s in self.config.symbols if (mark := monitor.get_mark_price(s)) is not None}
        stale = {s: why for s in self.config.symbols if s not in quotes and (why := monitor.why_stale(s))}
        self.submit(
            ev.MinuteClosed(
                time_ms=self.clock.now_ms(),
                open_time_ms=open_time_ms,
                bars=bars,
                quotes=quotes,
                marks=marks,
                stale=stale,
                entries_allowed=not entries_refused_because,
                entries_refused_because=entries_refused_because,
            )
        )
        learning = self.self_learning_trader.learning()
        if learning.drift != self.engine.drift_step:
            self.submit(ev.DriftMoved(time_ms=self.clock.now_ms(), step=learning.drift, nats=learning.drift_nats))
        if self.engine.challenge and not entries_refused_because:
            self._challenge_minute(self.engine.challenge, quotes, marks)

    def _challenge_minute(self, challenge: Challenge, quotes: dict[str, Quote], marks: dict[str, MarkPrice]) -> None:
        """Let champion and challenger trade on paper, and the rule judge them when a look is due."""
        trader, engine, now_ms = self.self_learning_trader, self.engine, self.clock.now_ms()

        def decide(config: TraderConfig, held: Mapping[str, int], drawdown: float) -> tuple[Decision, ...]:
            return trader.decide_as(config, quotes=quotes, marks=marks, held=held, equity_drawdown=drawdown)

        if orders := challenge.orders(decide, quotes, engine.rules, engine.config.risk, now_ms):
            self.submit(ev.ShadowTraded(time_ms=now_ms, orders=orders))
        if verdict := challenge.verdict():
            self.submit(
                ev.ChallengeJudged(
                    time_ms=now_ms,
                    promoted=verdict.promoted,
                    looked_days=verdict.looked_days,
                    probability=verdict.probability,
                    words=verdict.words,
                )
            )
            trader.adopt(engine.config.trader)

    def challenge(self, changes: dict[str, Any], rule: PromotionRule) -> None:
        """Try changed settings of the trader beside the running ones; `rule` decides whether they are promoted.

        Raises:
            ConfigError: a challenge is under way, or `changes` cannot be tried.
        """
        if self.engine.challenge:
            raise ConfigError(
                f"a challenge is under way: {self.engine.challenge.words()}; end_challenge() ends it", field="trader"
            )
        changed_settings(self.engine.config.trader, changes)
        self.submit(ev.ChallengeStarted(time_ms=self.clock.now_ms(), changes=changes, rule=msgspec.to_builtins(rule)))

    def roll_back_promotion(self, reason: str) -> None:
        """Put the settings from before all promotions in force again. Raises ConfigError if there was none."""
        if not self.engine.promoted:
            raise ConfigError("nothing was promoted", field="trader")
        self.submit(ev.PromotionRolledBack(time_ms=self.clock.now_ms(), reason=reason))
        self.self_learning_trader.adopt(self.engine.config.trader)

    async def _monitor(self, due_ms: int) -> None:
        await self.position_controller.tick()
        breaker = self.binance_client.breaker
        if breaker.level(self.clock.now_ms()) is not breaker.to_state().level or breaker.next_probe_ms is not None:
            self._probe()

    async def _virtual(self, due_ms: int) -> None:
        monitor = self.websocket_monitor
        quotes = {s: quote for s in self.config.symbols if (quote := monitor.fresh_quote(s))}
        self.submit(ev.VirtualTicked(time_ms=self.clock.now_ms(), quotes=quotes))

    def _probe(self) -> None:
        """Let the breaker notice what time has done, and ask a halted exchange; nobody waits for its answer."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.get_running_loop().create_task(self._ask_whether_it_is_back(), name="probe")
            self._probing.add_done_callback(self._on_task_done)

    async def _ask_whether_it_is_back(self) -> None:
        await self.binance_client.probe()

    async def _report(self, due_ms: int) -> None:
        assert self._reporter is not None
        for day in self._reporter.days_due(self.engine.last_report_day or None, self.clock.now_ms()):
            try:
                await self.write_report(day)
            except ReportFailed:
                # On record as a ReportWritten event with its error; tomorrow's run tries this day again.
                continue

    async def write_report(self, day: str, progress: Callable[[int, int], object] | None = None) -> Path:
        """Write the report of one UTC day now; its outcome becomes an event either way.

        `progress` is told the notebook's cells done and the cells there are.
        """
        if self._reporter is None:
            raise ConfigError("this scheduler was started without a reporter")
        try:
            path = await self._reporter.write(day, progress)
        except (LabkitError, OSError) as error:
            # Whatever is wrong with a report, the engine goes on.
            self.submit(ev.ReportWritten(time_ms=self.clock.now_ms(), day=day, path="", error=str(error)))
            if isinstance(error, ReportFailed):
                raise
            raise ReportFailed(f"the report of {day} could not be written: {error}") from error
        self.submit(ev.ReportWritten(time_ms=self.clock.now_ms(), day=day, path=str(path)))
        return path

    async def _reconcile_loop(self) -> None:
        assert self._desk is not None
        trouble = ""
        while True:
            await self.clock.sleep_until(self.clock.now_ms() + self.config.client.reconcile_every_ms)
            try:
                await self._desk.reconcile()
                await self.binance_client.sync_time()
            except ASKING_FAILED as error:
                trouble = str(error)
                self._on_health("reconciliation", False, trouble)
            else:
                if trouble:
                    self._on_health("reconciliation", True, "")
                trouble = ""

    # -- context -----------------------------------------------------------------------------------------------

    async def _bars_of(self, open_time_ms: int) -> dict[str, Bar]:
        """The closed bars of one minute: from the stream, else from REST."""
        bars: dict[str, Bar] = {}
        for symbol in self.config.symbols:
            bar = self.websocket_monitor.bar_at(symbol, open_time_ms)
            if bar is None:
                bar = await self._bar_from_rest(symbol, open_time_ms)
            if bar is not None:
                bars[symbol] = bar
        return bars

    async def _bar_from_rest(self, symbol: str, open_time_ms: int) -> Bar | None:
        try:
            bars = await self.data_service.bars(symbol, "1m", open_time_ms, open_time_ms + MINUTE_MS)
        except ASKING_FAILED:
            return None
        return bars[0] if bars else None

    async def _quotes(self) -> dict[str, Quote]:
        """A usable quote of each symbol: from the stream, else from REST."""
        quotes: dict[str, Quote] = {}
        for symbol in self.config.symbols:
            quote = self.websocket_monitor.fresh_quote(symbol)
            if quote is None:
                try:
                    quote = await self.binance_client.ticker_book(symbol)
                except ASKING_FAILED:
                    continue
            quotes[symbol] = quote
        return quotes

    async def _live_through_history(self) -> None:
        """From the trader's last minute (or as far back as is known) to the last closed one, without decisions."""
        trader = self.self_learning_trader
        async with self._stepping:
            now_ms = self.clock.now_ms()
            end_ms = now_ms // MINUTE_MS * MINUTE_MS
            start_ms = end_ms - self.config.paper.history_days * DAY_MS
            if trader.last_open_time_ms:
                start_ms = trader.last_open_time_ms + MINUTE_MS
            history: dict[str, list[Bar]] = {}
            for symbol in self.config.symbols:
                try:
                    history[symbol] = await self._history_of(symbol, start_ms, end_ms)
                except ASKING_FAILED as error:
                    self._on_health(f"history of {symbol}", False, str(error))
            lived = trader.live_through(history)
            if lived:
                self._checkpoint(lived_minutes=lived)
                self._note_learning()

    async def _history_of(self, symbol: str, start_ms: int, end_ms: int) -> list[Bar]:
        """The bars of a span, waited for as long as the circuit breaker puts history off."""
        while True:
            try:
                return await self.data_service.bars(symbol, "1m", start_ms, end_ms)
            except BreakerOpen as refusal:
                wait_ms = max(refusal.retry_after_ms or 0, SECOND_MS)
                await self.clock.sleep_until(self.clock.now_ms() + wait_ms)

    def _checkpoint(self, *, lived_minutes: int = 0) -> None:
        trader = self.self_learning_trader
        assert trader.last_open_time_ms is not None
        state_hash = trader.state_hash()
        self._checkpoints.save(state_hash, trader.state_bytes())
        self._minutes_since_checkpoint = 0
        self.submit(
            ev.TraderCheckpointed(
                time_ms=self.clock.now_ms(),
                state_hash=state_hash,
                last_open_time_ms=trader.last_open_time_ms,
                lived_minutes=lived_minutes,
            )
        )

    def _note_learning(self) -> None:
        trader = self.self_learning_trader
        self.submit(
            ev.LearningObserved(
                time_ms=self.clock.now_ms(),
                learning=trader.learning(),
                virtual_closed=trader.virtual_closed,
                labels=trader.take_labels(),
            )
        )

    def _note_feed(self) -> None:
        self.submit(
            ev.FeedObserved(
                time_ms=self.clock.now_ms(),
                streams=tuple(
                    ev.StreamCounts(stream.name, stream.frames, stream.reconnects, stream.rejected)
                    for stream in self.streams_status()
                ),
                weight_used=self._weight_used,
                weight_limit=self.binance_client.limits.weight_limit,
                latency_ms_p99=self.websocket_monitor.latency_ms[1],
            )
        )
        self._weight_used = 0

    async def _rules(self) -> dict[str, SymbolRules]:
        listed = (await self.binance_client.exchange_info()).symbols
        for symbol in self.config.symbols:
            if symbol not in listed:
                import difflib

                near = difflib.get_close_matches(symbol, listed, n=3, cutoff=0.4)
                raise UnknownSymbol(
                    f"setting symbols: the exchange does not list {symbol!r}; "
                    + (f"did you mean {' or '.join(near)}?" if near else f"it lists {', '.join(sorted(listed)[:20])}"),
                    field="symbols",
                )
        return {symbol: listed[symbol] for symbol in self.config.symbols}

    # -- what the parts tell us --------------------------------------------------------------------------------

    def _on_health(self, what: str, healthy: bool, cause: str) -> None:
        self.submit(ev.FeedChanged(time_ms=self.clock.now_ms(), what=what, healthy=healthy, cause=cause))

    async def _on_user_stream_gap(self, cause: str) -> None:
        assert self._desk is not None
        await self._desk.reconcile()

    def _on_breaker_change(self, change: LevelChange) -> None:
        self.submit(
            ev.BreakerMoved(
                time_ms=self.clock.now_ms(),
                level=change.level.name,
                cause=change.cause,
                until_ms=change.next_probe_ms,
                since_ms=change.since_ms,
                silent_until_ms=change.silent_until_ms,
                trouble_until_ms=change.trouble_until_ms,
            )
        )

    def _spawn(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.append(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self.state in ("stopping", "stopped", "failed"):
            return
        error = task.exception()
        if error is not None:
            # A part that dies takes the engine with it, visibly: a trader without one of its loops is worse than none.
            self._fail(task.get_name(), error)

    def _fail(self, part: str, error: BaseException) -> None:
        """Stop everything, visibly; the cause stays readable."""
        if self.state == "failed":
            return
        self.state, self.failure = "failed", error
        self.state_detail = f"{part}: {type(error).__name__}: {error}"
        self._ending = asyncio.get_running_loop().create_task(self._wind_down())


def _level_change(event: ev.BreakerMoved) -> LevelChange:
    level = BreakerLevel[event.level]
    return LevelChange(
        time_ms=event.time_ms,
        before=level,
        level=level,
        cause=event.cause,
        since_ms=event.since_ms or event.time_ms,
        next_probe_ms=event.until_ms,
        silent_until_ms=event.silent_until_ms,
        trouble_until_ms=event.trouble_until_ms,
    )


def _monitor_interval_ms(speed: float) -> int:
    """One second; in a lab that runs faster than life, at most ten looks a wall second.

    Quotes that trigger an exit are acted on as they come, whatever the interval.
    """
    if not math.isfinite(speed):
        return MONITOR_LOOP_MS
    return MONITOR_LOOP_MS * max(1, math.ceil(speed / LOOKS_PER_WALL_SECOND))


def _report_offset_ms(at_utc: str) -> int:
    hours, minutes = map(int, at_utc.split(":"))
    return (hours * 60 + minutes) * MINUTE_MS
