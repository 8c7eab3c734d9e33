"""A server written with no code of ours, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

Server = Callable[..., AbstractContextManager[dict[str, str]]]


@pytest.fixture
def foreign_server(tmp_path: Path) -> Server:
    """`with foreign_server(lines=…, wait_for=…, klines=…) as address`: see replay_server.py."""

    @contextmanager
    def running(**config: Any) -> Iterator[dict[str, str]]:
        file = tmp_path / "replay.json"
        file.write_text(json.dumps({"lines": None, "wait_for": [], "klines": None} | config))
        script = Path(__file__).with_name("replay_server.py")
        with subprocess.Popen([sys.executable, script, file], stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield json.loads(process.stdout.readline())
            finally:
                process.kill()

    return running
