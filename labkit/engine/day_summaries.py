"""DaySummaries: every day of a ledger in a few figures, gathered while the ledger is folded once.

Used by `labkit.engine.history`: what a day is compared with, and what many days prove, needs no second fold.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from labkit.config import to_plain
from labkit.domain import events as ev
from labkit.domain.clock import DAY_MS, utc_day
from labkit.domain.day_history import DaySummary, SymbolMove
from labkit.domain.decisions import ENTRIES, Action
from labkit.domain.snapshot import AccountRow, LearningRow
from labkit.engine.engine import Engine
from labkit.engine.ledger import LedgerEntry
from labkit.engine.snapshots import account_row


class DaySummaries:
    """Watches an engine while recorded entries are applied to it: `before` and `after` each of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._finished: list[DaySummary] = []
        self._day = -1
        self._version = ""
        self._config_hash = ""
        self._opening = account_row(engine, {})
        self._learning: LearningRow | None = None
        self._begin()

    def before(self, event: ev.Event) -> None:
        """If `event` begins a new day, the day before it is over."""
        day = event.time_ms // DAY_MS
        if day > self._day:
            if self._day >= 0:
                self._finished.append(self._summary())
            self._day, self._opening = day, account_row(self._engine, {})
            self._begin()

    def after(self, entry: LedgerEntry) -> None:
        """Take in what `entry` has brought."""
        for decision in entry.decisions:
            self._decisions += 1
            self._taken += decision.action in ENTRIES
            if decision.action is Action.REFUSE:
                self._refused[decision.primary_reason] += 1
        match entry.event:
            case ev.EngineStarted() as event:
                self._version, self._config_hash = event.version, event.config_hash
            case ev.MinuteClosed() as event:
                for symbol, bar in event.bars.items():
                    self._first.setdefault(symbol, bar.open)
                    self._last[symbol] = bar.close
            case ev.LearningObserved() as event:
                self._learning = event.learning
            case _:
                pass

    def all(self) -> tuple[DaySummary, ...]:
        """The days so far, first to last; the last one as far as it has gone."""
        return (*self._finished, self._summary()) if self._day >= 0 else ()

    def _begin(self) -> None:
        self._closed_before = self._engine.counts.positions_closed
        self._decisions = self._taken = 0
        self._refused: Counter[str] = Counter()
        self._first: dict[str, Decimal] = {}
        self._last: dict[str, Decimal] = {}
        self._learning = None

    def _summary(self) -> DaySummary:
        engine, start = self._engine, self._opening
        end: AccountRow = account_row(engine, {})
        closed = engine.counts.positions_closed - self._closed_before
        settings: dict[str, Any] = {
            f"{section}.{name}": value
            for section, plain in (("risk", to_plain(engine.config.risk)), ("trader", to_plain(engine.config.trader)))
            for name, value in plain.items()
        }
        return DaySummary(
            day=utc_day(self._day * DAY_MS),
            opening_equity=start.equity,
            closing_equity=end.equity,
            deposits=end.deposits - start.deposits,
            fees=start.commissions - end.commissions,
            funding=end.funding - start.funding,
            trades=closed,
            decisions=self._decisions,
            taken=self._taken,
            refused=dict(sorted(self._refused.items(), key=lambda item: (-item[1], item[0]))),
            learning=self._learning,
            moves={symbol: SymbolMove(self._first[symbol], self._last[symbol]) for symbol in sorted(self._first)},
            settings=settings,
            config_fingerprint=self._config_hash,
            version=self._version,
        )
