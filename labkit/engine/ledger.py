"""The ledger: engine events and the decisions they led to, in a `Journal`.

Events are the truth; decisions stand beside the event that caused them, so that what was decided stays known even
when the code that decided has changed. Everything else is a fold over these records (see `labkit.engine.recovery`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from labkit.domain import events as ev
from labkit.domain.decisions import Decision
from labkit.domain.orders import Fill
from labkit.errors import LedgerDamaged, LedgerError
from labkit.store.journal import Journal, Record

DECISION = "Decision"
LEDGER_FILE = "ledger.sqlite"

_events = msgspec.json.Decoder(ev.Event)
_decisions = msgspec.json.Decoder(Decision)


class LedgerEntry(msgspec.Struct, frozen=True):
    """One event with the decisions it led to; `sequence` is that of its last record."""

    sequence: int
    event: ev.Event
    decisions: tuple[Decision, ...]


class Ledger:
    """Appends engine events durably and reads them back."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @classmethod
    def open(cls, folder: Path, *, read_only: bool = False) -> Ledger:
        """Open the ledger in `folder`; raises as `Journal.open` does."""
        return cls(Journal.open(folder / LEDGER_FILE, read_only=read_only))

    @property
    def sequence(self) -> int:
        return self._journal.sequence

    @property
    def head_hash(self) -> str:
        return self._journal.head_hash

    def begin_epoch(self) -> int:
        return self._journal.begin_epoch()

    def append(self, event: ev.Event, decisions: Sequence[Decision] = ()) -> None:
        """Commit one event and its decisions in one transaction; money moving also moves the anchor."""
        records = [
            Record(event.time_ms, type(event).__name__, self._natural_key(event), msgspec.json.encode(event)),
            *(
                Record(d.time_ms, DECISION, f"decision:{d.symbol}:{d.time_ms}", msgspec.json.encode(d))
                for d in decisions
            ),
        ]
        moves_money = isinstance(event, (ev.FundingPaid, ev.Deposited, ev.WalletAdjusted)) or (
            isinstance(event, ev.OrderChanged) and event.fill is not None
        )
        before = self._journal.sequence
        numbers = self._journal.append(records, anchor=moves_money)
        if numbers[0] <= before:
            raise LedgerError(f"{records[0].key} is on record already, yet it changed the engine's state")

    def entries(self, after: int = 0) -> Iterator[LedgerEntry]:
        """All entries after record number `after`, in order.

        Raises:
            LedgerDamaged: a record cannot be understood.
        """
        event: ev.Event | None = None
        decisions: list[Decision] = []
        sequence = after
        for record in self._journal.read(after):
            try:
                if record.kind == DECISION:
                    decisions.append(_decisions.decode(record.body))
                else:
                    if event is not None:
                        yield LedgerEntry(sequence, event, tuple(decisions))
                    event, decisions = _events.decode(record.body), []
            except msgspec.DecodeError as error:
                raise LedgerDamaged(
                    f"record {record.sequence} ({record.kind}) cannot be understood: {error}", sequence=record.sequence
                ) from error
            sequence = record.sequence
        if event is not None:
            yield LedgerEntry(sequence, event, tuple(decisions))

    def span_ms(self) -> tuple[int, int]:
        """Market times of the first and the last event, UTC ms; (0, 0) in an empty ledger."""
        times = [record.time_ms for record in self._journal.read()]
        return (min(times), max(times)) if times else (0, 0)

    def close(self) -> None:
        self._journal.close()

    def _natural_key(self, event: ev.Event) -> str:
        match event:
            case ev.MinuteClosed():
                return f"minute:{event.open_time_ms}"
            case ev.OrderChanged(order=order, fill=Fill() as fill):
                return f"fill:{fill.symbol}:{fill.trade_id}:{order.status}:{order.executed_quantity}"
            case ev.FundingPaid():
                return f"funding:{event.symbol}:{event.funding_time_ms}"
            case ev.Deposited() | ev.WalletAdjusted():
                return f"money:{event.key}"
            case ev.EngineStarted():
                return f"epoch:{event.epoch}"
            case _:
                return f"{type(event).__name__}:{self._journal.sequence + 1}"
