"""SnapshotWidget: the common ground of the widgets that look at a lab.

A daemon thread takes a snapshot at most five times a second, turns it into a view and sends one message: nothing
runs on the kernel's loop, so a widget stays alive while a cell computes, sleeps or has failed. Wishes of the user
(close a position) arrive as messages; the callback only hands them to a thread of their own and the outcome, good
or bad, goes back to the page. The browser side lives in `static/`.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import msgspec
import traitlets

from labkit.domain.snapshot import Snapshot
from labkit.edge.clocks import SystemClock
from labkit.errors import LabkitError
from labkit.widgets.frames import FrameSequence, Keyframe, Pace, Patch
from labkit.widgets.page_widget import PageWidget
from labkit.widgets.view_parts import LabLike, clock_of


class SnapshotWidget(PageWidget):
    """A view of a running lab. Watching starts with the widget and ends with `close()`."""

    frame = traitlets.Dict().tag(sync=True)
    """The last keyframe: what a page that has just been opened or reloaded shows first."""

    def __init__(self, lab: LabLike) -> None:
        self._lab = lab
        self._clock = SystemClock()
        self._pace = Pace(self._clock.now_ms())
        self._frames = FrameSequence()
        self._wake = threading.Event()
        self._resync_wanted = True
        self._closing = False
        self._watcher = threading.Thread(target=self._watch, name=f"labkit {type(self).__name__}", daemon=True)
        super().__init__()
        self.on_msg(self._receive)
        # The first frame is made here, so that the page never opens empty.
        self._look()
        self._watcher.start()

    @abstractmethod
    def _view(self, snapshot: Snapshot) -> msgspec.Struct:
        """What this widget shows of `snapshot`."""

    @abstractmethod
    def _static_html(self, snapshot: Snapshot) -> str:
        """The same as HTML that needs no kernel and no script."""

    def _wish(self, content: dict[str, Any]) -> Callable[[], None]:
        """The action a message of the page asks for. Raises `LabkitError` if there is no such wish."""
        raise LabkitError(f"this widget cannot do {content.get('wish')!r}")

    def close(self) -> None:
        """Stop watching and take the widget off the page. May be called twice."""
        self._closing = True
        self._wake.set()
        if self._watcher.is_alive() and threading.current_thread() is not self._watcher:
            self._watcher.join(timeout=2)
        super().close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of a {self._lab.snapshot().market} market>"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        # Whoever cannot run widgets (nbconvert, a code host) shows this instead.
        return {**data, "text/html": self._static_html(self._lab.snapshot())}, metadata

    def _watch(self) -> None:
        rest_ms = self._pace.rest_ms(self._clock.now_ms(), 0)
        while not self._closing:
            self._wake.wait(rest_ms / 1000)
            self._wake.clear()
            if self._closing:
                return
            started_ms = self._clock.now_ms()
            self._look()
            now_ms = self._clock.now_ms()
            rest_ms = self._pace.rest_ms(now_ms, now_ms - started_ms)

    def _look(self) -> None:
        try:
            snapshot = self._lab.snapshot()
            view = self._view(snapshot)
        except (LabkitError, TimeoutError, CancelledError, RuntimeError) as error:
            # The lab is held up, or its loop is just being closed, perhaps between its snapshot and what else a view
            # asks: the page turns stale by itself and says why, and the next look tells how the lab ended.
            self.send({"kind": "trouble", "text": f"the lab does not answer ({type(error).__name__}: {error})"})
            return
        resync, self._resync_wanted = self._resync_wanted, False
        frame = self._frames.next_frame(view, clock_of(snapshot), self._clock.now_ms(), resync=resync)
        match frame:
            case Keyframe(content):
                self.frame = content
            case Patch(content):
                self.send(content)

    def _receive(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        """A message of a page, on whichever thread the kernel chose. Does no work."""
        self._pace.heard(self._clock.now_ms())
        if content.get("kind") == "resync":
            self._resync_wanted = True
            self._wake.set()
        elif content.get("kind") == "wish":
            threading.Thread(target=self._fulfil, args=(content,), name="labkit widget wish", daemon=True).start()

    def _fulfil(self, content: dict[str, Any]) -> None:
        request = content.get("request")
        try:
            self._wish(content)()
        except LabkitError as error:
            self._answer(request, str(error) or type(error).__name__)
        except BaseException as error:
            # Our own mistake: the page must not look as if nothing had happened, and the traceback must not be lost.
            self._answer(request, f"internal error, {type(error).__name__}: {error}")
            raise
        else:
            self._answer(request, "")
        self._wake.set()

    def _answer(self, request: Any, error: str) -> None:
        self.send({"kind": "answer", "request": request, "error": error})
