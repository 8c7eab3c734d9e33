"""Lab: what a notebook holds. Starts everything in the background, shows it, and carries a person's wishes to it.

`labkit.start()` returns at once; the exchange, the feed and the trader run on a thread of their own (`KernelHost`).
A Lab reads `Snapshot`s and sends events; nothing that moves ever leaves the host's thread.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import math
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as FutureTimeout
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from labkit.assembly import Assembly, acquire, assemble_in_process, assemble_on_sockets
from labkit.config import (
    SECTIONS,
    Config,
    TraderConfig,
    change_config,
    differences,
    home,
    load_config,
    load_saved_config,
)
from labkit.domain import events as ev
from labkit.domain.clock import MINUTE_MS, utc_day
from labkit.domain.decisions import Decision
from labkit.domain.intervals import opens_after, opens_at_or_before
from labkit.domain.moments import Moment, moment_ms, moment_text
from labkit.domain.position_detail import PositionDetail, WhatIf
from labkit.domain.slips import answers_slips, methods_answer_slips, unknown_name
from labkit.domain.snapshot import Snapshot
from labkit.edge.clocks import VirtualTimeLoop, run_in_virtual_time
from labkit.engine.history import find_day
from labkit.engine.host_kernel import KernelHost
from labkit.engine.ledger import LEDGER_FILE, Ledger
from labkit.engine.position_details import position_detail, what_if
from labkit.engine.recovery import fold
from labkit.engine.snapshots import latest_marks, latest_quotes, snapshot_of_nothing, snapshot_of_past, take_snapshot
from labkit.errors import ConfigError, LabkitError, NotInTime
from labkit.lab_tables import lab_table
from labkit.lab_weather import WeatherControl
from labkit.research.arguments import check_count

if TYPE_CHECKING:
    import pandas as pd

    from labkit.engine.engine import Engine
    from labkit.engine.unified_scheduler import UnifiedScheduler
    from labkit.paper.venue import Venue
    from labkit.report.daily_reporter import DailyReporter
    from labkit.research.backtest import Data
    from labkit.trader.policies import Policy
    from labkit.trader.promotion import PromotionRule
    from labkit.widgets.health_panel import HealthPanel
    from labkit.widgets.live_monitor import LiveMonitor
    from labkit.widgets.position_inspector import PositionInspector
    from labkit.widgets.tuner import Tuner
    from labkit.widgets.why import Why

T = TypeVar("T")

STOP_SECONDS = 8.0
START_SECONDS = 60.0
EXIT_SECONDS = 1.5
"""A kernel that is shut down leaves its exit hooks about two and a half seconds."""

REPORTS_FOLDER = "reports"
CANDLES_SECONDS = 60.0
"""How long to wait for candles: many of them may have to wait for request weight."""

AWAITED = ("running", "decision", "position_opened", "position_closed")


@methods_answer_slips(SECTIONS)
class Lab:
    """One lab: a market, a paper account at it, a trader. Make one with `labkit.start()`."""

    def __init__(self, config: Config, policy: Policy | None = None) -> None:
        self.policy = policy
        self._settle_on(config)

    def _settle_on(self, config: Config) -> None:
        """Take `config` as the settings of a life that has not begun."""
        self.config = config
        self.folder = home() / config.data_dir
        self._host = KernelHost(str(self.folder), self)
        self._assembly: Assembly | None = None
        self._failure: BaseException | None = None
        self._news = threading.Condition()
        self._starting: Future[None] | None = None
        self._stopped = False

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> Lab:
        """Begin in the background and return at once. Starting a running lab changes nothing.

        One that was stopped goes on where it ended, with the same settings.

        Raises:
            AlreadyRunning: another engine owns the data folder; names its process.
            ConfigError: the data folder cannot be written.
        """
        if self._stopped:
            self._settle_on(self.config)
        if self._starting is None:
            # Looked at here as well as in the background: who asks is told at once, and by an exception.
            acquire(self.folder).release()
            self._host.begin()
            self._starting = self._host.submit(self._start())
            self._starting.add_done_callback(self._started)
            atexit.register(self._at_exit)
        return self

    def stop(self) -> None:
        """End cleanly: positions stay as they are, the ledger is sealed. Stopping twice is harmless.

        Says so if positions stay open: nothing guards them until a start goes on where this ended.
        """
        self._stop(STOP_SECONDS)
        if words := left_unguarded(self.snapshot()):
            print(words)

    def _stop(self, seconds: float) -> None:
        if self._stopped or self._starting is None:
            return
        self._stopped = True
        self._starting.cancel()
        try:
            self._host.submit(self._end()).result(seconds)
        except FutureTimeout:
            raise LabkitError(f"the lab did not stop within {seconds:g} s; its ledger is safe all the same") from None
        finally:
            self._host.end()
            atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        # Politeness only: whatever is not done in time is found by recovery at the next start.
        with contextlib.suppress(LabkitError):
            self._stop(EXIT_SECONDS)

    async def _start(self) -> None:
        assembly = await assemble_on_sockets(self.config, self.folder, reporter=self._reporter(), policy=self.policy)
        self._assembly = assembly
        self.config = assembly.config
        assembly.scheduler.on_event.append(self._on_event)
        await assembly.start()

    def _reporter(self) -> DailyReporter:
        from labkit.report.daily_reporter import DailyReporter

        return DailyReporter(self.folder / LEDGER_FILE, self.folder / REPORTS_FOLDER, self.config.report)

    async def _end(self) -> None:
        if self._assembly is not None:
            await self._assembly.stop()

    def _started(self, future: Future[None]) -> None:
        if not future.cancelled():
            self._failure = future.exception()
        with self._news:
            self._news.notify_all()

    def _on_event(self, event: ev.Event) -> None:
        with self._news:
            self._news.notify_all()

    # -- looking -----------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The lab at this moment."""
        if self._failure is not None:
            return snapshot_of_nothing(self.config, "failed", str(self._failure))
        if self._assembly is None or not self._assembly.scheduler.has_engine:
            return snapshot_of_nothing(self.config, "starting" if self._starting else "stopped", "")
        return self._look(lambda scheduler, lag_ms: take_snapshot(scheduler, lag_ms=lag_ms))

    def wait_for(self, what: str, timeout_seconds: float = 120.0) -> Any:
        """Block until there is such a thing, and return the latest one; at once if there is one already.

        Args:
            what: `running`, `decision` (returns the latest one), `position_opened` (its row), `position_closed` (the
                closed trade).

        Raises:
            NotInTime: it did not happen in time; says how the lab stands.
            LabkitError: the lab failed; the cause is told.
            ConfigError: there is no such thing to wait for, or no such time.
        """
        if what not in AWAITED:
            raise ConfigError(f"cannot wait for {what!r}; one of {', '.join(AWAITED)}", field="what")
        _check_seconds(timeout_seconds)
        found: list[Any] = []

        def happened() -> bool:
            snapshot = self.snapshot()
            if snapshot.state == "failed":
                raise LabkitError(f"the lab failed: {snapshot.state_detail}") from self._failure
            found[:] = _found(what, snapshot)
            return bool(found)

        deadline = time.monotonic() + timeout_seconds
        # Looked at outside the lock: the host's thread notifies while it holds it.
        while not happened():
            left = deadline - time.monotonic()
            if left <= 0:
                snapshot = self.snapshot()
                raise NotInTime(
                    f"no {what} within {timeout_seconds:g} s; the lab is {snapshot.state} {snapshot.state_detail}"
                )
            with self._news:
                self._news.wait(min(POLL_SECONDS, left))
        return found[0]

    def prices(self) -> pd.DataFrame:
        """Live prices, one row a symbol. Units of the columns, here and below, are in `.attrs["units"]`."""
        return lab_table(
            self.snapshot().symbols,
            "symbol bid_price ask_price mark_price funding_rate change_24h liquidity_score age_ms stale_because",
        )

    def positions(self, at: Moment | None = None) -> pd.DataFrame:
        """Open positions with their exits, now or `at` a past moment; prices and PnL in quote asset."""
        return lab_table(
            (self.snapshot() if at is None else self.at(at)).positions,
            "symbol quantity entry_price exit_price mark_price unrealized_pnl stop_price target_price "
            "trailing_stop_price liquidation_price opened_ms due_ms",
        )

    def position(self, symbol: str, at: Moment | None = None) -> PositionDetail:
        """One open position, now or `at` a past moment: where its result comes from, its fills and its decision.

        Raises:
            LocalProtocolError: there is no such position.
        """
        symbol = self._traded(symbol)
        if at is not None:
            return position_detail(self._engine_at(at)[0], symbol, {}, {})
        return self._look(
            lambda scheduler, _: position_detail(
                scheduler.engine, symbol, latest_quotes(scheduler), latest_marks(scheduler)
            )
        )

    def virtual_positions(self) -> pd.DataFrame:
        """Open virtual positions, which teach the learner without money; `result` is gross, a fraction of the entry."""
        return lab_table(
            self.snapshot().virtual_positions,
            "symbol side entry_price last_price stop_price target_price result opened_ms due_ms",
        )

    def what_if(self, percent: Decimal | float) -> WhatIf:
        """The account if every price moved by so many percent (−7) in one second, before any stop could act.

        Raises:
            ConfigError: not a number above -100 and at most 1000.
        """
        try:
            fraction, leverage = Decimal(str(percent)) / 100, self.config.risk.leverage
        except InvalidOperation:
            raise ConfigError(f"percent: {percent!r} is not a number", field="percent") from None
        return self._look(
            lambda scheduler, _: what_if(scheduler.engine, latest_marks(scheduler), fraction, leverage=leverage)
        )

    def trades(self) -> pd.DataFrame:
        """The latest closed round trips; money in quote asset."""
        return lab_table(
            self.snapshot().closed_trades,
            "symbol side quantity entry_price exit_price realized_pnl slippage commission funding net_pnl exit_reason "
            "opened_ms closed_ms",
        )

    def candles(self, symbol: str, interval: str = "1m", count: int = 500) -> pd.DataFrame:
        """The last `count` closed candles of `symbol` at the lab's own exchange, by UTC open time.

        Raises:
            ConfigError: the symbol is not traded here, or there is no such interval or count.
        """
        symbol = self._traded(symbol)
        check_count("count", count, 1)
        service, end_ms = self._running().scheduler.data_service, self._now_ms()
        start_ms = opens_after(interval, opens_at_or_before(interval, end_ms), -count)
        return self._host.submit(service.frame(symbol, interval, start_ms, end_ms)).result(CANDLES_SECONDS)

    def decisions(self) -> pd.DataFrame:
        """The latest decision on each symbol, trades not taken included."""
        return lab_table(
            self.snapshot().decisions,
            "symbol time_ms action primary_reason side probability expected_value leverage smallest_change",
        )

    def decision_history(self, symbol: str = "") -> pd.DataFrame:
        """All decisions on record, of one symbol or all: one row per symbol and cycle, trades not taken included."""
        wanted = self._traded(symbol) if symbol else ""
        ledger = Ledger.open(self.folder, read_only=True)
        try:
            made = [d for entry in ledger.entries() for d in entry.decisions if wanted in ("", d.symbol)]
        finally:
            ledger.close()
        return lab_table(
            made,
            "symbol time_ms action primary_reason side probability calibration_slope edge fee_cost spread_cost "
            "slippage_cost funding_cost execution_gap_cost expected_value leverage policy smallest_change",
        )

    def why(self, symbol: str, at: Moment | None = None) -> Why:
        """Why the trader did, or did not, trade `symbol` at its latest decision, or at the latest before `at`.

        Raises:
            ConfigError: the symbol is not traded here, or nothing has been decided on it yet.
        """
        from labkit.widgets.why import Why

        symbol = self._traded(symbol)
        for decision in (self.snapshot() if at is None else self.at(at)).decisions:
            if decision.symbol == symbol:
                return Why(decision)
        raise ConfigError(f"nothing has been decided on {symbol} yet", field="symbol")

    def at(self, moment: Moment) -> Snapshot:
        """The account at a past market moment (as a time or UTC ms), as the ledger tells it.

        Raises:
            ConfigError: the moment lies before the ledger begins or after it ends.
        """
        return snapshot_of_past(*self._engine_at(moment))

    def _engine_at(self, moment: Moment) -> tuple[Engine, int]:
        """The engine as it stood at `moment`, folded from the ledger, and that moment in UTC ms."""
        until_ms = moment_ms(moment, field="moment")
        ledger = Ledger.open(self.folder, read_only=True)
        try:
            first_ms, last_ms = ledger.span_ms()
            if not first_ms <= until_ms <= last_ms:
                raise ConfigError(
                    f"the ledger tells of {moment_text(first_ms)} to {moment_text(last_ms)}, not of {moment}",
                    field="moment",
                )
            return fold(self.config, ledger, until_ms=until_ms), until_ms
        finally:
            ledger.close()

    # -- wishes ------------------------------------------------------------------------------------------------

    def close_position(self, symbol: str, quantity: Decimal | float | None = None) -> None:
        """Close the position of `symbol`, or `quantity` (base asset) of it. Returns at once.

        Raises:
            LocalProtocolError: there is no such position, or not so much of it.
        """
        symbol = self._traded(symbol)
        size = None if quantity is None else _amount("quantity", quantity)
        self._do(lambda: self._running().scheduler.position_controller.close(symbol, size))

    def close_all(self) -> None:
        """Close every open position. Returns at once."""
        self._do(lambda: self._running().scheduler.position_controller.close())

    @property
    def weather(self) -> WeatherControl:
        """Faults on demand: `lab.weather("storm")`, `lab.weather.clear()`, `lab.weather` shows what there is."""
        return WeatherControl(self._at_the_exchange)

    def pause_entries(self, reason: str = "asked to") -> None:
        """No new positions from now on; exits go on."""
        self._submit(ev.EntriesPaused(time_ms=self._now_ms(), paused=True, reason=reason))

    def resume_entries(self) -> None:
        """New positions are allowed again."""
        self._submit(ev.EntriesPaused(time_ms=self._now_ms(), paused=False, reason="asked to"))

    def challenge(self, trader: dict[str, Any] | None = None, *, rule: PromotionRule | None = None) -> str:
        """Try changed settings of the trader beside the running ones, on paper; says how the challenge stands.

        Args:
            trader: the changes, e.g. `{"cost_margin": 0.5}`; None only asks.
            rule: what must be shown before they are promoted (`labkit.trader.promotion`); it cannot be changed later.

        Raises:
            ConfigError: a challenge is under way, or these settings cannot be tried.
        """
        from labkit.trader.promotion import PromotionRule

        scheduler = self._running().scheduler
        if trader is not None:
            self._do(lambda: scheduler.challenge(trader, rule or PromotionRule()))
        challenge = scheduler.engine.challenge
        return challenge.words() if challenge else "no challenge is under way"

    def end_challenge(self, reason: str = "asked to") -> None:
        """Give the challenge up; the champion goes on."""
        self._submit(ev.ChallengeEnded(time_ms=self._now_ms(), reason=reason))

    def roll_back_promotion(self, reason: str = "asked to") -> None:
        """Put the settings from before all promotions in force again. Raises ConfigError if there was none."""
        self._do(lambda: self._running().scheduler.roll_back_promotion(reason))

    def move_exits(
        self, symbol: str, *, stop_price: Decimal | float | None = None, target_price: Decimal | float | None = None
    ) -> None:
        """Move the stop or the target of an open position; what is None stays.

        Raises:
            ConfigError: a price that is none.
            LocalProtocolError: no such position, a price off the symbol's ticks (names the nearest on them), or one on
                the wrong side of the market.
        """
        symbol = self._traded(symbol)
        stop = None if stop_price is None else _amount("stop_price", stop_price)
        target = None if target_price is None else _amount("target_price", target_price)
        controller = self._running().scheduler.position_controller
        self._do(lambda: controller.move_exits(symbol, stop_price=stop, target_price=target))

    def report(self, day: str | None = None, timeout_seconds: float = 180.0) -> ReportPage:
        """Write the report of one UTC day of the market (today by default) and return its page; a bar shows how far.

        Raises:
            ConfigError: the ledger knows nothing of that day.
            ReportFailed: it could not be written; says why, where its log is and what to do.
            NotInTime: the bar's end was not seen in time.
        """
        from labkit.report.progress import cells_bar

        _check_seconds(timeout_seconds)
        if self._stopped:
            # The ledger is all a report needs.
            day = find_day(self.folder / LEDGER_FILE, day or "")
            with cells_bar(day) as show:
                return ReportPage(self._reporter().write_now(day, show), day)
        scheduler = self._running().scheduler
        day = find_day(self.folder / LEDGER_FILE, day or utc_day(self._now_ms()))
        told: list[tuple[int, int]] = []
        writing = self._host.submit(scheduler.write_report(day, lambda *cells: told.append(cells)))
        with cells_bar(day) as show:
            # The bar is drawn here: what a cell shows must come from the thread that runs it.
            for _ in range(math.ceil(timeout_seconds / POLL_SECONDS)):
                done = wait([writing], POLL_SECONDS).done
                for cells in told[-1:]:
                    show(*cells)
                if done:
                    break
            else:
                raise NotInTime(f"no report of {day} within {timeout_seconds:g} s; it is written all the same")
        return ReportPage(writing.result(), day)

    # -- on the page -------------------------------------------------------------------------------------------

    def monitor(self) -> LiveMonitor:
        """The live monitor, to be shown as the last line of a cell."""
        from labkit.widgets.live_monitor import LiveMonitor

        return LiveMonitor(self)

    def inspector(self, symbol: str = "") -> PositionInspector:
        """The open positions; choosing one (`symbol` at first) shows its chart and why it was opened.

        Stop and target can be moved by field, mouse or keys, a part can be closed, a sudden move rehearsed.
        """
        from labkit.widgets.position_inspector import PositionInspector

        return PositionInspector(self, self._traded(symbol) if symbol else "")

    def health(self) -> HealthPanel:
        """The health panel: breaker, limits, connections, faults on demand, and a button that closes everything."""
        from labkit.widgets.health_panel import HealthPanel

        return HealthPanel(self)

    def tuner(self, start: Moment | None = None, end: Moment | None = None, *, data: Data = "simulated") -> Tuner:
        """The tuner: what other settings would have come to beside the running ones; try or apply them from there.

        Args:
            start, end, data: the history it runs over, as in `labkit.tune`.
        """
        from labkit.lab_tuner import tuner_of

        return tuner_of(msgspec.structs.replace(self.config, trader=self.trader_settings()), start, end, data, self)

    def trader_settings(self) -> TraderConfig:
        """The settings the trader decides by: as started, applied, or won by a challenger since."""
        if self._assembly is None or not self._assembly.scheduler.has_engine:
            return self.config.trader
        return self._assembly.scheduler.engine.config.trader

    def apply_settings(self, trader: dict[str, Any]) -> None:
        """Stop, and start anew with changed settings of the trader: same books, positions and data folder.

        What differs goes before what a challenger won. Returns when the lab has opened its books again.

        Raises:
            ConfigError: a setting nobody knows or a value out of range; the lab goes on as it was.
            LabkitError: it could not start with them; it was started again with the settings it had.
        """
        promoted = self._running().scheduler.engine.promoted
        before = msgspec.structs.replace(self.config, trader=self.trader_settings())
        config = change_config(before, {"trader": trader})
        if not promoted.keys().isdisjoint(trader):
            # At a start, what was promoted goes before what is configured; from here on it is configured.
            self.roll_back_promotion("other settings were applied by hand")
        self._stop(STOP_SECONDS)
        try:
            self._begin_anew(config)
        except Exception as error:
            self._stop(STOP_SECONDS)
            try:
                self._begin_anew(before)
            except Exception as again:
                raise LabkitError(
                    f"the lab could not start with these settings ({error}), nor with those it had ({again}); "
                    "labkit.start() tries again"
                ) from error
            raise LabkitError(
                f"the lab could not start with these settings ({error}); it goes on with those it had"
            ) from error

    def _begin_anew(self, config: Config) -> None:
        # The same object begins anew, so that widgets and the notebook's variable go on watching it.
        self._settle_on(config)
        self.start()
        assert self._starting is not None
        with contextlib.suppress(FutureTimeout):
            # A lab that waits for the end of an exchange's silence may take longer, and says so itself.
            self._starting.result(START_SECONDS)

    def __repr__(self) -> str:
        snapshot = self.snapshot()
        state = f"{snapshot.state}{': ' + snapshot.state_detail if snapshot.state_detail else ''}"
        speed = self.config.speed
        pace = "virtual time" if isinstance(speed, str) else f"{speed:g}x faster than life"
        return f"Lab({snapshot.market} market, {len(self.config.symbols)} symbols, {pace}, {state})"

    def _repr_html_(self) -> str:
        from labkit.widgets.lab_card import lab_card

        return lab_card(self.snapshot(), str(self.folder))

    if not TYPE_CHECKING:  # a type checker finds misspelt names by itself

        def __getattr__(self, name: str) -> Any:
            raise unknown_name("lab", name, dir(self))

    def __dir__(self) -> list[str]:
        """Only what is meant for people, so that completion reads like a menu."""
        return [name for name in super().__dir__() if not name.startswith("_")]

    # -- small parts -------------------------------------------------------------------------------------------

    def _running(self) -> Assembly:
        if self._failure is not None:
            raise LabkitError(f"the lab failed: {self._failure}") from self._failure
        if self._assembly is None or not self._host.is_alive():
            raise LabkitError("the lab is not running: labkit.start() starts it")
        return self._assembly

    def _look(self, read: Callable[[UnifiedScheduler, tuple[float, float]], T]) -> T:
        """What `read` says of the engine and the loop's lag, asked on the host's thread; after its end from here."""
        if self._assembly is None or not self._assembly.scheduler.has_engine:
            self._running()
            raise LabkitError("the lab has not opened its books yet: lab.wait_for('running') waits for it")
        scheduler = self._assembly.scheduler
        try:
            return self._host.call(lambda: read(scheduler, self._host.lag_ms))
        except (RuntimeError, CancelledError, FutureTimeout):
            # The host has ended, perhaps this very moment: nothing moves any more, so looking is safe from here.
            return read(scheduler, (0.0, 0.0))

    def _now_ms(self) -> int:
        return self._running().clock.now_ms()

    def _submit(self, event: ev.Event) -> None:
        self._do(lambda: self._running().scheduler.submit(event))

    def _do(self, wish: Callable[[], None]) -> None:
        self._running()
        self._host.call(wish)

    def _at_the_exchange(self, wish: Callable[[Venue, int], T]) -> T:
        assembly = self._running()

        def on_its_thread() -> T:
            venue, now_ms = assembly.exchange.venue, assembly.clock.now_ms()
            done = wish(venue, now_ms)
            venue.advance(now_ms)
            return done

        return self._host.call(on_its_thread)

    def _traded(self, symbol: str) -> str:
        wanted = str(symbol).upper().replace("/", "").replace("-", "")
        if wanted not in self.config.symbols:
            raise ConfigError(
                f"{symbol!r} is not traded here; symbols: {', '.join(self.config.symbols)}", field="symbol"
            )
        return wanted


POLL_SECONDS = 0.25


class ReportPage:
    """A written report: shows itself as a link in a notebook."""

    def __init__(self, path: Path, day: str) -> None:
        self.path = path
        self.day = day

    def __repr__(self) -> str:
        return f"Report of {self.day}: {self.path}"

    def _repr_html_(self) -> str:
        import html
        import os

        address = html.escape(os.path.relpath(self.path), quote=True)
        return f'<a href="{address}" target="_blank">Report of {html.escape(self.day)}</a>'


@answers_slips
def start(*, policy: Policy | None = None, config: str = "", **settings: Any) -> Lab:
    """Start a lab in the background and return it at once; running the cell again gives the same lab.

    Args:
        policy: speaks in place of the built-in learner (`labkit.trader.policies`). One that was edited takes effect
            after `lab.stop()`.
        config: settings that were saved under this name (by the tuner); those given here go before them.
        settings: any setting of `labkit.Config` by name (`speed=60`, `seed=7`), sections as dictionaries.

    Raises:
        ConfigError: a setting is wrong, or a lab with other settings already runs on this data folder here.
    """
    wanted = load_saved_config(config, settings) if config else load_config(settings, folder=home())
    running = KernelHost.find(str(home() / wanted.data_dir))
    if isinstance(running, Lab) and running.snapshot().state == "failed":
        # A lab that failed can only be begun anew; its ledger is what the next one goes on from.
        running.stop()
        running = None
    if isinstance(running, Lab):
        asked = msgspec.structs.replace(wanted, symbols=running.config.symbols)
        if asked != running.config:
            raise ConfigError(
                f"a lab with other settings runs on this data folder ({differences(running.config, asked)}); "
                "lab.stop() ends it, or set another data_dir"
            )
        if getattr(policy, "name", None) != getattr(running.policy, "name", None):
            raise ConfigError("a lab with another policy runs on this data folder; lab.stop() ends it", field="policy")
        return running
    lab = Lab(wanted, policy)
    return lab.start()


@answers_slips
def rehearse(*, seed: int = 1, minutes: int = 180, folder: Path | str | None = None, **settings: Any) -> Path:
    """Live through `minutes` of a seeded simulated market in virtual time; returns the path of the ledger.

    The same seed and minutes always give the same ledger. The folder is a temporary one unless given.
    """
    config = load_config({**settings, "seed": seed, "speed": "max", "market": "simulated"}, environ={}, folder=home())
    if minutes <= 0:
        raise ConfigError(f"minutes: {minutes!r} of market time is nothing to live through", field="minutes")
    where = Path(folder or tempfile.mkdtemp(prefix="labkit-rehearsal-"))
    live_in_virtual_time(config, where, minutes=minutes)
    return where / LEDGER_FILE


def live_in_virtual_time(
    config: Config,
    folder: Path,
    *,
    minutes: float | None = None,
    progress: Callable[[float], None] | None = None,
    policy: Policy | None = None,
) -> Snapshot:
    """Run a lab in virtual time for `minutes` of market time, or to the end of its market; returns the last snapshot.

    Args:
        progress: told the market minutes lived, about every minute.
        policy: speaks in place of the built-in learner.
    """

    async def live(loop: VirtualTimeLoop) -> Snapshot:
        assembly = await assemble_in_process(config, folder, loop, policy=policy)
        await assembly.start()
        try:
            await live_until_end(assembly, minutes, progress)
            snapshot = take_snapshot(assembly.scheduler)
        finally:
            await assembly.stop("the time is over")
        return sealed(snapshot, assembly)

    def run() -> Snapshot:
        loop = VirtualTimeLoop()
        return run_in_virtual_time(live(loop), loop)

    return _beside_any_loop(run)


def _beside_any_loop(run: Callable[[], Snapshot]) -> Snapshot:
    """Call `run`, which runs a loop of its own, from anywhere: beside a running loop (a notebook cell) in a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    with ThreadPoolExecutor(1, thread_name_prefix="labkit-virtual-time") as pool:
        return pool.submit(run).result()


def sealed(snapshot: Snapshot, assembly: Assembly) -> Snapshot:
    """The last snapshot of a lab that has stopped, with the ledger's final head."""
    ledger = assembly.scheduler.ledger
    return msgspec.structs.replace(snapshot, ledger_sequence=ledger.sequence, ledger_hash=ledger.head_hash)


async def live_until_end(
    assembly: Assembly, minutes: float | None, progress: Callable[[float], None] | None = None
) -> None:
    """Let market time pass: `minutes` of it, or until the market ends.

    Raises:
        LabkitError: a part of the engine failed meanwhile.
    """
    clock, scheduler = assembly.clock, assembly.scheduler
    start_ms = clock.now_ms()
    ends = [assembly.source.end_ms + AFTER_THE_END_MS] if assembly.source.end_ms is not None else []
    if minutes is not None:
        ends.append(start_ms + int(minutes * MINUTE_MS))
    end_ms = min(ends)
    while (now_ms := clock.now_ms()) < end_ms:
        if scheduler.state == "failed":
            raise LabkitError(f"the lab failed: {scheduler.state_detail}") from scheduler.failure
        if progress:
            progress((now_ms - start_ms) / MINUTE_MS)
        await clock.sleep_until(min(end_ms, now_ms + MINUTE_MS))
    if progress:
        progress((end_ms - start_ms) / MINUTE_MS)


AFTER_THE_END_MS = 1_000
"""How long a lab outlives a tape, so that its last frames are taken in."""


def left_unguarded(snapshot: Snapshot) -> str:
    """What a stopped lab leaves behind, in words; empty if nothing is open."""
    left = [row.symbol for row in snapshot.positions]
    return f"Open and unguarded until the next start: {', '.join(left)}." if left else ""


def _found(what: str, snapshot: Snapshot) -> list[Any]:
    """The latest instance of what is waited for, or nothing."""
    match what:
        case "running":
            return ["running"] if snapshot.state == "running" else []
        case "decision":
            return sorted(snapshot.decisions, key=_time_of)[-1:]
        case "position_opened":
            return list(snapshot.positions[-1:])
        case _:
            return list(snapshot.closed_trades[-1:])


def _time_of(decision: Decision) -> int:
    return decision.time_ms


def _amount(name: str, value: Decimal | float) -> Decimal:
    """A price or quantity as a person gives it, as an exact positive number."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or amount <= 0:
        raise ConfigError(f"{name}: {value!r} is not a number above 0", field=name)
    return amount


def _check_seconds(timeout_seconds: object) -> None:
    """How long to wait, as a person gives it. Raises ConfigError."""
    if not isinstance(timeout_seconds, int | float) or not timeout_seconds >= 0:
        raise ConfigError(
            f"timeout_seconds: {timeout_seconds!r} is not a number of seconds from 0 on", field="timeout_seconds"
        )


__all__ = ["Lab", "ReportPage", "live_in_virtual_time", "live_until_end", "rehearse", "start"]
