"""A user may patch the kernel's loop with nest-asyncio for cells of their own; the lab neither needs nor minds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CELL = """
import asyncio, sys
import nest_asyncio, labkit

async def cell():
    nest_asyncio.apply()
    lab = labkit.start(
        data_dir=sys.argv[1], speed=60, symbols=["BTCUSDT"], paper={"history_days": 1},
        trader={"warm_up_minutes": 600, "decision_every_minutes": 1},
    )
    print(asyncio.run(asyncio.sleep(0, "nested")))
    print(lab.wait_for("decision", 90).symbol)
    lab.stop()
    print(lab.snapshot().state)

asyncio.run(cell())
"""


def test_a_lab_runs_beside_a_patched_loop(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CELL, str(tmp_path)], capture_output=True, text=True, timeout=150, check=False
    )
    assert done.stdout.split() == ["nested", "BTCUSDT", "stopped"], done.stderr
