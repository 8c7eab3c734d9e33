"""A disk that fills up under a running lab: it stops visibly, lets go of everything, and goes on once there is room."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from labkit.assembly import Assembly, acquire, assemble_in_process
from labkit.edge.clocks import VirtualTimeLoop, run_in_virtual_time
from labkit.errors import LedgerError
from tests.lab.conftest import small_config


async def started(folder: Path, loop: VirtualTimeLoop) -> Assembly:
    assembly = await assemble_in_process(small_config(), folder, loop)
    await assembly.start()
    while assembly.scheduler.state != "running":
        await assembly.clock.sleep_until(assembly.clock.now_ms() + 1_000)
    return assembly


def test_a_lab_on_a_full_disk_fails_visibly_and_can_be_started_again(tmp_path: Path) -> None:
    loop = VirtualTimeLoop()
    room = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def story() -> tuple[str, int, str, int]:
        assembly = await started(tmp_path, loop)
        written = assembly.scheduler.ledger.sequence
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, room[1]))
        try:
            await assembly.clock.sleep_until(assembly.clock.now_ms() + 120_000)
            told = f"{assembly.scheduler.state}: {assembly.scheduler.state_detail}"
            with pytest.raises(LedgerError, match="cannot write"):
                await assembly.stop()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, room)
        # Whoever starts next is not told that somebody else owns the folder.
        acquire(tmp_path).release()
        again = await started(tmp_path, loop)
        goes_on = again.scheduler.ledger.sequence
        await again.stop()
        return told, written, again.scheduler.state, goes_on

    told, written, state, goes_on = run_in_virtual_time(story(), loop)
    assert told.startswith("failed: ledger: LedgerError: cannot write")
    assert state == "stopped"
    assert goes_on > written
