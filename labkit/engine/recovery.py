"""Recovery: the state of any moment is a fold over the ledger. Starting is recovering; there is no other path.

While history is read, the trader is not asked again: what it decided is on record. After the latest checkpoint of the
trader's state, the live trader is stepped through the recorded minutes too, so that it stands where it stood; where it
then decides otherwise than recorded (another version of labkit), that is counted, not hidden.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from labkit.config import Config
from labkit.domain import events as ev
from labkit.domain.decisions import Decision
from labkit.domain.market_events import Bar, MarkPrice, Quote
from labkit.engine.engine import Decider, Engine
from labkit.engine.ledger import Ledger, LedgerEntry
from labkit.errors import LedgerDamaged
from labkit.trader.self_learning_trader import SelfLearningTrader

CHECKPOINTS_KEPT = 3


class RecordedDecisions:
    """A decider that answers with what the ledger says was decided."""

    def __init__(self) -> None:
        self.next_decisions: tuple[Decision, ...] = ()

    def step(
        self,
        open_time_ms: int,
        bars: Mapping[str, Bar],
        *,
        quotes: Mapping[str, Quote],
        marks: Mapping[str, MarkPrice],
        held: Mapping[str, int],
        equity_drawdown: float,
    ) -> tuple[Decision, ...]:
        return self.next_decisions

    def mark_virtual(self, quotes: Mapping[str, Quote]) -> None:
        return

    def observe_execution(self, symbol: str, real_minus_virtual: float) -> None:
        return


class _SteppedAlong:
    """Steps the live trader through recorded minutes, and answers with the record."""

    def __init__(self, trader: SelfLearningTrader, recorded: RecordedDecisions) -> None:
        self._trader = trader
        self._recorded = recorded
        self.differences = 0

    def step(
        self,
        open_time_ms: int,
        bars: Mapping[str, Bar],
        *,
        quotes: Mapping[str, Quote],
        marks: Mapping[str, MarkPrice],
        held: Mapping[str, int],
        equity_drawdown: float,
    ) -> tuple[Decision, ...]:
        again = self._trader.step(
            open_time_ms, bars, quotes=quotes, marks=marks, held=held, equity_drawdown=equity_drawdown
        )
        recorded = self._recorded.next_decisions
        if [(d.symbol, d.probability) for d in again] != [(d.symbol, d.probability) for d in recorded]:
            self.differences += 1
        return recorded

    def mark_virtual(self, quotes: Mapping[str, Quote]) -> None:
        return

    def observe_execution(self, symbol: str, real_minus_virtual: float) -> None:
        self._trader.observe_execution(symbol, real_minus_virtual)


class Recovered(msgspec.Struct, frozen=True):
    """What recovery found."""

    engine: Engine
    entries: int
    differing_minutes: int
    """Recorded minutes in which the trader, asked again, gave other probabilities than recorded."""


class Checkpoints:
    """The trader's states in a folder, named by their hash; the hash in the ledger says which one counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, state_hash: str, state: bytes) -> None:
        """Write atomically, then forget all but the latest few."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / "writing.tmp"
        with open(temporary, "wb") as file:
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        new = self._folder / f"{state_hash}.state"
        os.replace(temporary, new)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        # The one just written stays whatever the wall clock says of its age.
        others = [path for path in self._folder.glob("*.state") if path != new]
        others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for old in others[CHECKPOINTS_KEPT - 1 :]:
            old.unlink()

    def has(self, state_hash: str) -> bool:
        return (self._folder / f"{state_hash}.state").exists()

    def load(self, state_hash: str) -> bytes:
        """The state of that hash; raises LedgerDamaged where it is gone."""
        path = self._folder / f"{state_hash}.state"
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise LedgerDamaged(f"the trader's checkpoint {path} is missing") from error


def fold(config: Config, ledger: Ledger, *, until_ms: int | None = None) -> Engine:
    """The engine's state after all recorded events, or after those up to `until_ms`. Asks no trader."""
    recorded = RecordedDecisions()
    engine = Engine(config, recorded)
    for entry in ledger.entries():
        if until_ms is not None and entry.event.time_ms > until_ms:
            break
        apply_recorded(engine, recorded, entry)
    return engine


def apply_recorded(engine: Engine, recorded: RecordedDecisions, entry: LedgerEntry) -> None:
    """Apply one entry of the ledger; the commands it once led to have been carried out long ago."""
    recorded.next_decisions = entry.decisions
    engine.apply(entry.event)


def recover(config: Config, ledger: Ledger, trader: SelfLearningTrader, checkpoints: Checkpoints) -> Recovered:
    """The engine as it stood, with the trader as it stood, ready to go on.

    Raises:
        LedgerDamaged: a record or the trader's checkpoint is missing or damaged.
    """
    entries = list(ledger.entries())
    checkpointed = [
        (index, entry.event.state_hash)
        for index, entry in enumerate(entries)
        if isinstance(entry.event, ev.TraderCheckpointed)
    ]
    # An older checkpoint leads to the same state, only by more steps; without any, the trader began with nothing.
    last_checkpoint = max((index for index, state in checkpointed if checkpoints.has(state)), default=-1)
    if checkpointed and last_checkpoint < 0:
        checkpoints.load(checkpointed[-1][1])
    recorded = RecordedDecisions()
    along = _SteppedAlong(trader, recorded)
    engine = Engine(config, along if last_checkpoint < 0 else recorded)
    for index, entry in enumerate(entries):
        if index == last_checkpoint:
            assert isinstance(entry.event, ev.TraderCheckpointed)
            trader.restore(checkpoints.load(entry.event.state_hash))
            engine.decider = along
        apply_recorded(engine, recorded, entry)
        if isinstance(entry.event, ev.LearningObserved):
            # What it tells of was taken from the trader then; only what came after is still to be told.
            trader.take_labels()
    live: Decider = trader
    engine.decider = live
    return Recovered(engine, len(entries), along.differences)
