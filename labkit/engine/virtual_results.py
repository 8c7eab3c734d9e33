"""VirtualBook: what imagined positions came to, joined from recorded decisions and the labels noted of them later.

Used by `labkit.engine.history` while the ledger is folded.
"""

from __future__ import annotations

from labkit.domain import events as ev
from labkit.domain.clock import DAY_MS
from labkit.domain.day_history import VirtualResult
from labkit.domain.decisions import Decision, Label
from labkit.engine.ledger import LedgerEntry

WAITS_MS = 2 * DAY_MS
"""No question is open longer than its horizon, which is a day at most."""


class VirtualBook:
    """Holds decisions until their labels are told. A label without a decision (history asked) is nobody's result."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, int], Decision] = {}
        """By symbol and time, oldest first."""

    def take_in(self, entry: LedgerEntry) -> tuple[VirtualResult, ...]:
        """Remember the decisions of `entry`; what its labels make of earlier ones."""
        for decision in entry.decisions:
            self._waiting[decision.symbol, decision.time_ms] = decision
        if not isinstance(entry.event, ev.LearningObserved):
            return ()
        found = []
        for label in entry.event.labels:
            asked = self._waiting.pop((label.symbol, label.asked_ms), None)
            if asked is not None:
                found.append(_result(asked, label))
        while self._waiting and next(iter(self._waiting))[1] < entry.event.time_ms - WAITS_MS:
            del self._waiting[next(iter(self._waiting))]
        return tuple(found)


def _result(decision: Decision, label: Label) -> VirtualResult:
    return VirtualResult(
        symbol=decision.symbol,
        side="long" if decision.side > 0 else "short",
        asked_ms=decision.time_ms,
        closed_ms=label.closed_ms,
        action=decision.action,
        reason=decision.primary_reason,
        chance=decision.probability,
        came_to=label.came_to if decision.side > 0 else 1.0 - label.came_to,
        barrier=decision.target_distance,
        cost=decision.fee_cost
        + decision.spread_cost
        + decision.slippage_cost
        + decision.funding_cost
        + decision.execution_gap_cost,
        weight=label.weight,
    )
