"""What imagined positions came to: joined exactly, told once, whatever becomes of the lab meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from labkit.assembly import assemble_in_process
from labkit.domain import events as ev
from labkit.domain.clock import MINUTE_MS
from labkit.domain.day_history import DayHistory, VirtualResult
from labkit.domain.decisions import Label
from labkit.domain.market_events import Bar
from labkit.domain.snapshot import Snapshot
from labkit.edge.clocks import VirtualTimeLoop, run_in_virtual_time
from labkit.engine.history import read_day
from labkit.engine.ledger import LEDGER_FILE, Ledger, LedgerEntry
from labkit.engine.recovery import Checkpoints, recover
from labkit.trader.self_learning_trader import SelfLearningTrader
from tests.lab.conftest import SMALL, small_config

HORIZON = SMALL["trader.horizon_minutes"]


def entries_of(folder: Path) -> list[LedgerEntry]:
    ledger = Ledger.open(folder, read_only=True)
    try:
        return list(ledger.entries())
    finally:
        ledger.close()


@pytest.fixture(scope="module")
def history(lived: tuple[Path, Snapshot]) -> DayHistory:
    return read_day(lived[0] / LEDGER_FILE, "2026-01-05")


def lived_again(result: VirtualResult, bars: dict[int, Bar]) -> float:
    """What the bracket of a result comes to in these bars, by the rules in words and nothing else."""
    sign = 1 if result.side == "long" else -1
    entry = float(bars[result.asked_ms].open)
    for number in range(HORIZON):
        bar = bars[result.asked_ms + number * MINUTE_MS]
        best, worst = (bar.high, bar.low) if sign > 0 else (bar.low, bar.high)
        won = sign * (float(best) / entry - 1) >= result.barrier
        lost = sign * (float(worst) / entry - 1) <= -result.barrier
        if won or lost:
            return 0.5 if won and lost else float(won)
    move = sign * (float(bar.close) / entry - 1) / result.barrier
    return 0.5 * (1 + max(-1.0, min(1.0, move)))


def test_a_virtual_result_is_what_the_recorded_bars_make_of_its_decision(
    lived: tuple[Path, Snapshot], history: DayHistory
) -> None:
    bars: dict[str, dict[int, Bar]] = {}
    for entry in entries_of(lived[0]):
        if isinstance(entry.event, ev.MinuteClosed):
            for symbol, bar in entry.event.bars.items():
                bars.setdefault(symbol, {})[bar.open_time_ms] = bar
    assert len(history.virtual) > 20
    for result in history.virtual:
        assert result.came_to == pytest.approx(lived_again(result, bars[result.symbol]), abs=1e-9)


def test_every_decision_that_was_asked_and_is_over_has_one_virtual_result(history: DayHistory) -> None:
    told = [(result.symbol, result.asked_ms) for result in history.virtual]
    assert len(told) == len(set(told))
    first = min(decision.time_ms for decision in history.decisions)
    over = {
        (decision.symbol, decision.time_ms)
        for decision in history.decisions
        if decision.time_ms <= history.end_ms - (HORIZON + 1) * MINUTE_MS
    }
    assert over <= set(told)
    # The others that closed had been asked by history, before the lab decided anything.
    assert history.virtual_closed - len(told) <= len(history.symbols) * HORIZON / 2
    assert all(asked_ms >= first for _, asked_ms in told)


def test_the_result_of_the_side_is_told_with_what_was_decided_and_its_costs(history: DayHistory) -> None:
    decisions = {(decision.symbol, decision.time_ms): decision for decision in history.decisions}
    for result in history.virtual:
        decision = decisions[result.symbol, result.asked_ms]
        assert (result.chance, result.reason) == (decision.probability, decision.primary_reason)
        assert result.cost == pytest.approx(decision.edge - decision.expected_value)


def test_a_lab_that_dies_tells_after_its_recovery_what_it_had_not_told(tmp_path: Path) -> None:
    loop = VirtualTimeLoop()

    async def story() -> tuple[Label, ...]:
        assembly = await assemble_in_process(small_config(), tmp_path / "alive", loop)
        await assembly.start()
        scheduler, clock = assembly.scheduler, assembly.clock
        await clock.sleep_until(clock.now_ms() + 26 * MINUTE_MS)
        shutil.copytree(tmp_path / "alive", tmp_path / "dead")
        untold = scheduler.self_learning_trader.take_labels()
        await assembly.stop()
        return untold

    untold = run_in_virtual_time(story(), loop)
    folder = tmp_path / "dead"
    told = [
        label
        for entry in entries_of(folder)
        if isinstance(entry.event, ev.LearningObserved)
        for label in entry.event.labels
    ]
    trader = SelfLearningTrader(small_config())
    ledger = Ledger.open(folder)
    try:
        recover(small_config(), ledger, trader, Checkpoints(folder / "checkpoints"))
    finally:
        ledger.close()
    assert trader.take_labels() == untold
    assert told
    assert untold


def test_a_lab_that_stops_has_told_everything(lived: tuple[Path, Snapshot]) -> None:
    last = [type(entry.event).__name__ for entry in entries_of(lived[0])][-4:]
    assert last == ["LearningObserved", "FeedObserved", "TraderCheckpointed", "EngineStopped"]
