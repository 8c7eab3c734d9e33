"""The three clocks: life, faster than life, and virtual.

`SystemClock` is anchored once to the wall clock and then follows a monotonic source, so market time never runs
backwards. With a `speed` it runs faster than life from a chosen start. `VirtualClock` reads the time of a
`VirtualTimeLoop`, an event loop that jumps to its next timer instead of waiting for it: everything that sleeps, times
out or backs off then does so in virtual time, in a reproducible order.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class SystemClock:
    """Wall time, or a market time that runs `speed` times as fast from `start_ms`."""

    def __init__(self, *, speed: float = 1.0, start_ms: int | None = None) -> None:
        self._speed = speed
        self._origin_ns = time.time_ns() if start_ms is None else start_ms * 1_000_000
        self._anchor_ns = time.monotonic_ns()

    @property
    def speed(self) -> float:
        return self._speed

    def now_ns(self) -> int:
        return self._origin_ns + int((time.monotonic_ns() - self._anchor_ns) * self._speed)

    def now_ms(self) -> int:
        return self.now_ns() // 1_000_000

    async def sleep_until(self, deadline_ms: int) -> None:
        while (wait_ms := deadline_ms - self.now_ms()) > 0:
            await asyncio.sleep(wait_ms / 1000 / self._speed)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer whenever nothing is ready.

    Meant for code without real sockets: a task that waits for the outside world would never be woken, so waiting
    with no timer at all is reported as a deadlock instead of hanging.
    """

    def __init__(self) -> None:
        self._virtual_seconds = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._virtual_seconds

    def jump(self, seconds: float) -> None:
        """Let virtual time pass."""
        self._virtual_seconds += seconds


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("virtual time: every task waits for something that can never happen")
        if timeout > 0:
            self._loop.jump(timeout)
        return ready


class VirtualClock:
    """Market time of a `VirtualTimeLoop`, counted from `start_ms`."""

    def __init__(self, loop: VirtualTimeLoop, *, start_ms: int) -> None:
        self._loop = loop
        self._start_ms = start_ms
        self._zero = loop.time()

    @property
    def speed(self) -> float:
        return float("inf")

    def now_ms(self) -> int:
        # Rounded, not truncated: a timer set for a whole millisecond must find that millisecond reached.
        return self._start_ms + round((self._loop.time() - self._zero) * 1000)

    def now_ns(self) -> int:
        return self.now_ms() * 1_000_000

    async def sleep_until(self, deadline_ms: int) -> None:
        while (wait_ms := deadline_ms - self.now_ms()) > 0:
            await asyncio.sleep(wait_ms / 1000)


def run_in_virtual_time(main: Coroutine[Any, Any, T], loop: VirtualTimeLoop) -> T:
    """Run `main` to its end on `loop`, cancel what is left, close the loop.

    Ctrl-C cancels `main` between two steps of the loop, never inside one: an interrupt in the middle of a transaction
    would leave memory and file apart. `KeyboardInterrupt` is raised once everything has ended cleanly.
    """
    interrupted = False
    try:
        asyncio.set_event_loop(loop)
        task = loop.create_task(main)

        def interrupt(number: int, frame: FrameType | None) -> None:
            nonlocal interrupted
            interrupted = True
            loop.call_soon_threadsafe(task.cancel)

        with _on_interrupt(interrupt):
            try:
                return loop.run_until_complete(task)
            except asyncio.CancelledError:
                if interrupted:
                    raise KeyboardInterrupt from None
                raise
            finally:
                leftovers = asyncio.all_tasks(loop)
                for leftover in leftovers:
                    leftover.cancel()
                if leftovers:
                    loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@contextlib.contextmanager
def _on_interrupt(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `handler` answer Ctrl-C meanwhile; only a main thread can, elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
