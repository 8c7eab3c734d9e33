"""Every row of the fault catalogue, tried: what `labkit weather table` prints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import msgspec

from labkit.research.fault_trials.account import ACCOUNT_TRIALS
from labkit.research.fault_trials.client_side import CLIENT_SIDE_TRIALS
from labkit.research.fault_trials.feed import FEED_TRIALS
from labkit.research.fault_trials.on_sockets import SOCKET_TRIALS
from labkit.research.fault_trials.orders import ORDER_TRIALS
from labkit.research.fault_trials.trial import Result, Trial, in_seconds, judge, run
from labkit.research.fault_trials.whole_lab import LAB_TRIALS

CATALOGUE: tuple[str, ...] = (
    *(f"N{number:02}" for number in range(1, 21)),
    *(f"X{number:02}" for number in range(1, 32)),
    *(f"D{number:02}" for number in range(1, 19)),
)
"""Every id of the fault catalogue: network, exchange, data."""

_IN_ORDER = {ids: place for place, ids in enumerate(CATALOGUE)}

TRIALS: tuple[Trial, ...] = tuple(
    sorted(
        (*FEED_TRIALS, *ORDER_TRIALS, *ACCOUNT_TRIALS, *LAB_TRIALS, *CLIENT_SIDE_TRIALS, *SOCKET_TRIALS),
        key=lambda trial: _IN_ORDER[trial.ids.split()[0]],
    )
)
"""All trials, in the catalogue's order."""

HEADING = f"{'id':<12}{'fault':<28}{'injected':>8} {'noticed':>10} {'well':>10}"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. Times in milliseconds since the fault began."""

    ids: tuple[str, ...]
    fault: str
    injected: int
    must_be_noticed: bool
    detected_ms: int | None
    recovered_ms: int | None
    verdict: str
    """What was not as it must be; empty if all was."""

    def __str__(self) -> str:
        noticed = in_seconds(self.detected_ms) if self.must_be_noticed else "need not"
        figures = f"{self.injected:>8} {noticed:>10} {in_seconds(self.recovered_ms):>10}"
        return f"{' '.join(self.ids):<12}{self.fault:<28}{figures}  {self.verdict}".rstrip()


def table(trials: Sequence[Trial] = TRIALS) -> Iterator[Row]:
    """Run the trials, one row each. Those in real time are lived side by side, before the others."""
    lived = [trial for trial in trials if trial.in_real_time]
    told = dict(zip((trial.name for trial in lived), asyncio.run(_side_by_side(lived)), strict=True))
    for trial in trials:
        result = told[trial.name] if trial.in_real_time else run(trial)
        yield Row(
            ids=tuple(trial.ids.split()),
            fault=trial.name,
            injected=result.injected,
            must_be_noticed=trial.detect_within_ms is not None,
            detected_ms=result.detected_ms,
            recovered_ms=result.recovered_ms,
            verdict=judge(trial, result),
        )


async def _side_by_side(trials: Sequence[Trial]) -> list[Result]:
    return await asyncio.gather(*(trial.attempt(False) for trial in trials))
