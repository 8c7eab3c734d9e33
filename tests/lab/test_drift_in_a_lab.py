"""Drift in a running lab: acted on at the next decision, told in the ledger, rebuilt from it."""

from __future__ import annotations

from pathlib import Path

from labkit.assembly import assemble_in_process
from labkit.domain import events as ev
from labkit.edge.clocks import VirtualTimeLoop, run_in_virtual_time
from labkit.engine.ledger import Ledger
from labkit.engine.recovery import fold
from labkit.trader.drift import ENTERED_AT
from tests.lab.conftest import small_config


def test_a_step_of_drift_stops_entries_and_is_told_once(tmp_path: Path) -> None:
    loop = VirtualTimeLoop()

    async def story() -> int:
        assembly = await assemble_in_process(small_config(), tmp_path, loop)
        await assembly.start()
        scheduler, clock = assembly.scheduler, assembly.clock
        while scheduler.state != "running":
            await clock.sleep_until(clock.now_ms() + 1_000)
        common = scheduler.self_learning_trader._state.common
        common["drift"], common["drift_step"] = ENTERED_AT[2] + 4.0, 2  # as after days of broken promises
        begun_ms = clock.now_ms()
        await clock.sleep_until(begun_ms + 6 * 60_000)
        await assembly.stop()
        return begun_ms

    begun_ms = run_in_virtual_time(story(), loop)
    ledger = Ledger.open(tmp_path, read_only=True)
    entries = list(ledger.entries())
    rebuilt = fold(small_config(), ledger)
    ledger.close()
    told = [entry.event.step for entry in entries if isinstance(entry.event, ev.DriftMoved)]
    reasons = {d.primary_reason for entry in entries for d in entry.decisions if d.time_ms > begun_ms}
    assert told[0] == "hold"
    assert len(told) == len(set(told))
    assert rebuilt.drift_step == told[-1]
    assert "drift" in reasons
    assert "expected_value" not in reasons  # nothing was entered
