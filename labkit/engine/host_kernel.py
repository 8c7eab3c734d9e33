"""The host in the kernel: one daemon thread with an event loop of its own.

Never the kernel's loop: tasks there stand still while a cell runs. This thread goes on while cells block, is not
touched by "interrupt kernel", and ends with the process. What it cannot survive is a cell that holds the interpreter
lock; the lag this causes is measured all the time and shown.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

LAG_PROBE_SECONDS = 0.05
LAG_SAMPLES = 600
THREAD_PREFIX = "labkit:"
SWITCH_SECONDS = 0.0005
"""How long another thread (a cell, a widget) may keep the interpreter lock while a host wants it. Python's own 5 ms is
what the host would be late by whenever a cell computes in plain Python; the cell loses nothing measurable."""
_USUAL_SECONDS = sys.getswitchinterval()


class KernelHost(threading.Thread):
    """A thread that runs coroutines on its own loop, and knows how late that loop is.

    Args:
        name: what it runs, e.g. the data folder; one live host per name is found by `find`.
        owner: any object to be found again with the host (the `Lab`).
    """

    def __init__(self, name: str, owner: object) -> None:
        super().__init__(name=THREAD_PREFIX + name, daemon=True)
        self.owner = owner
        self._loop: asyncio.AbstractEventLoop
        self._lags: deque[float] = deque(maxlen=LAG_SAMPLES)
        self._started = threading.Event()

    @classmethod
    def find(cls, name: str) -> object | None:
        """The owner of the live host of that name. Found by thread, so that reloading a module cannot hide it."""
        for thread in threading.enumerate():
            if thread.name == THREAD_PREFIX + name:
                return getattr(thread, "owner", None)
        return None

    @classmethod
    def owners(cls) -> list[object]:
        """The owners of all live hosts."""
        hosts = (thread for thread in threading.enumerate() if thread.name.startswith(THREAD_PREFIX))
        return [owner for host in hosts if (owner := getattr(host, "owner", None)) is not None]

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        sys.setswitchinterval(min(_USUAL_SECONDS, SWITCH_SECONDS))
        probe = self._loop.create_task(self._probe_lag())
        self._loop.call_soon(self._started.set)
        try:
            self._loop.run_forever()
        finally:
            probe.cancel()
            leftovers = asyncio.all_tasks(self._loop)
            for task in leftovers:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
            if not any(thread.name.startswith(THREAD_PREFIX) for thread in threading.enumerate() if thread is not self):
                sys.setswitchinterval(_USUAL_SECONDS)

    def begin(self) -> None:
        """Start the thread and wait until its loop runs."""
        # Made here, not before: a host that is never begun leaves nothing open.
        self._loop = asyncio.new_event_loop()
        self.start()
        self._started.wait()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the host's loop from any other thread. Raises RuntimeError once the host has ended."""
        if not self.is_alive():
            coroutine.close()
            raise RuntimeError("the host has ended")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, function: Callable[[], T], timeout_seconds: float = 10.0) -> T:
        """Run a quick function on the host's loop and return what it returned."""

        async def run() -> T:
            return function()

        return self.submit(run()).result(timeout_seconds)

    def end(self, timeout_seconds: float = 2.0) -> None:
        """Stop the loop and wait for the thread."""
        if self.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self.join(timeout_seconds)

    @property
    def lag_ms(self) -> tuple[float, float]:
        """Median and 99th percentile of the loop's lateness over the last half minute, in wall milliseconds."""
        lags = sorted(self._lags)
        if not lags:
            return 0.0, 0.0
        return lags[len(lags) // 2], lags[math.ceil(len(lags) * 0.99) - 1]

    async def _probe_lag(self) -> None:
        while True:
            due = time.monotonic() + LAG_PROBE_SECONDS
            await asyncio.sleep(LAG_PROBE_SECONDS)
            self._lags.append(max(0.0, (time.monotonic() - due) * 1000))
