"""A lab to look at, and a page that only takes notes."""

from __future__ import annotations

import runpy
import threading
from pathlib import Path
from typing import Any

import comm
import pytest

SeededLab = runpy.run_path(str(Path(__file__).with_name("seeded_lab.py")))["SeededLab"]


class HandSetClock:
    """Market time that passes when a test says so, thirty times faster than life."""

    speed = 30.0

    def __init__(self) -> None:
        self.time_ms = 1_767_571_200_000

    def now_ms(self) -> int:
        return self.time_ms


@pytest.fixture
def clock() -> HandSetClock:
    return HandSetClock()


@pytest.fixture
def lab(clock: HandSetClock) -> Any:
    return SeededLab(seed=7, clock=clock)


class NotedComm(comm.base_comm.BaseComm):
    """The kernel's end of a comm whose other end is a list."""

    def __init__(self, **arguments: Any) -> None:
        self.sent: list[dict[str, Any]] = []
        self.news = threading.Event()
        super().__init__(**arguments)

    def publish_msg(self, msg_type: str, data: Any = None, **_: Any) -> None:
        self.sent.append({"type": msg_type, "data": data})
        self.news.set()

    def say(self, content: dict[str, Any]) -> None:
        """A message from the page."""
        self.handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})


@pytest.fixture
def noted_comms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Widgets speak to lists instead of a kernel (`comm.create_comm` is the place made for that)."""
    monkeypatch.setattr(comm, "create_comm", lambda *arguments, **named: NotedComm(*arguments, **named))
