"""A lab in a real kernel: in the background, once, through interrupts, and to a clean end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.config import Config
from labkit.engine.ledger import Ledger
from labkit.engine.recovery import fold
from labkit.store.run_lock import Owner, RunLock

START = """
import labkit, threading
lab = labkit.start(
    data_dir={folder!r}, speed=60, symbols=["BTCUSDT", "ETHUSDT"],
    paper={{"history_days": 2}}, trader={{"warm_up_minutes": 600, "decision_every_minutes": 1}},
)
"""


class Kernel:
    """One real kernel and the text its cells print."""

    def __init__(self, manager: Any, client: Any) -> None:
        self.manager = manager
        self.client = client

    def run(self, code: str, timeout: float = 90) -> str:
        """Run a cell; returns what it printed, or its error."""
        printed: list[str] = []

        def keep(message: dict[str, Any]) -> None:
            content = message["content"]
            printed.append(content.get("text", "") or "\n".join(content.get("traceback", [])))

        self.client.execute_interactive(code, output_hook=keep, timeout=timeout)
        return "".join(printed)

    def interrupt_a_sleeping_cell(self) -> None:
        """Press the interrupt key once a cell has really begun to sleep, and see the cell end."""

        def interrupt(message: dict[str, Any]) -> None:
            if message["content"].get("text") == "asleep\n":
                self.manager.interrupt_kernel()

        reply = self.client.execute_interactive(
            "import time; print('asleep', flush=True); time.sleep(60)", output_hook=interrupt, timeout=50
        )
        assert reply["content"]["ename"] == "KeyboardInterrupt"


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.filterwarnings("ignore")
def test_a_lab_lives_in_a_kernel_once_through_interrupts_and_ends_with_a_ledger_that_balances(
    kernel: Kernel, tmp_path: Path
) -> None:
    start = START.format(folder=str(tmp_path))
    assert kernel.run(start) == ""
    assert kernel.run("print(lab.wait_for('running', 60))").strip() == "running"

    # The start cell again: the same engine, no second thread.
    count = "print(sum(t.name.startswith('labkit:') for t in threading.enumerate()), lab is first)"
    assert kernel.run(f"first = lab\n{start}\n{count}").strip() == "1 True"

    # Frames go on while a cell blocks, and after it was interrupted.
    kernel.run("import time; before = lab.snapshot().counts.frames; time.sleep(1)")
    assert kernel.run("print(lab.snapshot().counts.frames > before)").strip() == "True"
    kernel.interrupt_a_sleeping_cell()
    kernel.run("before = lab.snapshot().counts.frames; time.sleep(0.5)")
    assert kernel.run("print(lab.snapshot().counts.frames > before, lab.snapshot().state)").strip() == "True running"

    # Other settings on the same folder: one clear line, and the running lab is left alone.
    assert "speed is 60.0, not 61.0" in kernel.run(start.replace("speed=60", "speed=61"))

    # An exception in a cell is the cell's own business.
    assert "ZeroDivisionError" in kernel.run("1 / 0")
    assert kernel.run("print(lab.snapshot().state)").strip() == "running"

    # Every thread of ours is a daemon: a kernel that shuts down is not held up.
    assert kernel.run("print([t.name for t in threading.enumerate() if 'labkit' in t.name and not t.daemon])") == "[]\n"

    kernel.manager.shutdown_kernel(now=False)
    RunLock.acquire(tmp_path, Owner(1, "now", "here")).release()
    fold(Config(), Ledger.open(tmp_path, read_only=True)).check_balance()


@pytest.mark.filterwarnings("ignore")
def test_a_kernel_that_is_killed_leaves_a_ledger_that_opens_and_a_folder_that_is_free(
    kernel: Kernel, tmp_path: Path
) -> None:
    kernel.run(START.format(folder=str(tmp_path)))
    kernel.run("lab.wait_for('running', 60)")
    kernel.manager.shutdown_kernel(now=True)
    RunLock.acquire(tmp_path, Owner(1, "now", "here")).release()
    fold(Config(), Ledger.open(tmp_path, read_only=True)).check_balance()
