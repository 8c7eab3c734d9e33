"""The widgets' own end of the conversation with a page."""

from __future__ import annotations

import gc
import itertools
import queue
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from types import SimpleNamespace
from typing import Any

import ipywidgets
import pytest

from labkit.errors import LabkitError
from labkit.widgets.health_panel import HealthPanel
from labkit.widgets.live_monitor import LiveMonitor
from labkit.widgets.position_inspector import PositionInspector
from labkit.widgets.snapshot_widget import SnapshotWidget

pytestmark = pytest.mark.usefixtures("noted_comms")


@pytest.fixture
def opened() -> Iterator[Callable[..., Any]]:
    widgets: list[SnapshotWidget] = []

    def open_widget(kind: type[SnapshotWidget], lab: Any) -> Any:
        widgets.append(kind(lab))
        return widgets[-1]

    yield open_widget
    for widget in widgets:
        widget.close()


def until(widget: Any, condition: Callable[[], Any]) -> Any:
    """What `condition` says as soon as it says something; it is asked whenever the widget has sent a message."""
    while True:
        widget.comm.news.clear()
        if found := condition():
            return found
        assert widget.comm.news.wait(10), "the widget has fallen silent"


def customs(widget: Any, kind: str) -> list[Any]:
    said = [note["data"] for note in widget.comm.sent if (note["data"] or {}).get("method") == "custom"]
    return [data["content"] for data in said if data["content"]["kind"] == kind]


def wish(widget: Any, **content: Any) -> Any:
    """The answer to a wish of the page."""
    widget.comm.say({"kind": "wish", "request": "1", **content})
    return until(widget, lambda: customs(widget, "answer"))[0]


def test_a_page_never_opens_empty(opened: Any, lab: Any) -> None:
    assert opened(LiveMonitor, lab).frame["view"]["symbols"][0]["key"] == "BTCUSDT"


def test_a_change_of_the_lab_reaches_the_page_by_itself(opened: Any, lab: Any, clock: Any) -> None:
    monitor = opened(LiveMonitor, lab)
    clock.time_ms += 60_000
    assert until(monitor, lambda: customs(monitor, "patch"))[0]["changes"]["symbols"]["rows"]


def test_a_page_that_asks_gets_the_whole_view(opened: Any, lab: Any) -> None:
    monitor = opened(LiveMonitor, lab)
    first = monitor.frame["sequence"]
    monitor.comm.say({"kind": "resync"})
    assert until(monitor, lambda: monitor.frame["sequence"] > first)


def test_a_position_is_closed_by_the_wish_of_the_page(opened: Any, lab: Any) -> None:
    table = opened(PositionInspector, lab)
    assert wish(table, wish="close", symbol="BTCUSDT")["error"] == ""
    assert "BTCUSDT" not in [row.symbol for row in lab.snapshot().positions]


def test_a_refusal_is_answered_with_its_reason(opened: Any, lab: Any) -> None:
    answer = wish(opened(PositionInspector, lab), wish="close", symbol="BNBUSDT")
    assert answer["error"] == "the breaker lets nothing through for 30 s"


def test_a_mistake_of_ours_is_shown_and_not_swallowed(opened: Any, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: queue.SimpleQueue[Any] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", raised.put)
    answer = wish(opened(PositionInspector, lab), wish="close", symbol="NOSUCHUSDT")
    assert answer["error"] == "internal error, KeyError: 'NOSUCHUSDT'"
    assert raised.get(timeout=10).exc_type is KeyError


def test_a_wish_nobody_knows_is_refused(opened: Any, lab: Any) -> None:
    assert "cannot do 'withdraw'" in wish(opened(PositionInspector, lab), wish="withdraw")["error"]


def test_the_monitor_grants_no_wishes(opened: Any, lab: Any) -> None:
    assert wish(opened(LiveMonitor, lab), wish="close", symbol="BTCUSDT")["error"]
    assert len(lab.snapshot().positions) == 3


def test_entries_are_paused_and_resumed_from_the_page(opened: Any, lab: Any) -> None:
    table = opened(PositionInspector, lab)
    wish(table, wish="pause_entries")
    assert lab.paused
    table.comm.sent.clear()
    wish(table, wish="resume_entries")
    assert not lab.paused


def test_a_lab_that_does_not_answer_is_said_and_looked_at_again(opened: Any, lab: Any, clock: Any) -> None:
    monitor, answers = opened(LiveMonitor, lab), lab.snapshot

    def no_answer() -> Any:
        raise TimeoutError("busy")

    lab.snapshot = no_answer
    assert "TimeoutError: busy" in until(monitor, lambda: customs(monitor, "trouble"))[0]["text"]
    lab.snapshot = answers
    monitor.comm.sent.clear()
    clock.time_ms += 60_000
    assert until(monitor, lambda: customs(monitor, "patch"))


@pytest.mark.parametrize("ending", [RuntimeError("the host has ended"), CancelledError(), TimeoutError()], ids=repr)
def test_a_lab_that_ends_between_its_snapshot_and_its_weather_is_looked_at_again(
    opened: Any, lab: Any, clock: Any, ending: BaseException
) -> None:
    endings: list[BaseException] = []

    def status() -> Any:
        raise endings.pop() if endings else LabkitError("the lab is not running")

    lab.folder, lab.weather = "data", SimpleNamespace(status=status)
    panel = opened(HealthPanel, lab)
    endings.append(ending)
    assert type(ending).__name__ in until(panel, lambda: customs(panel, "trouble"))[0]["text"]
    panel.comm.sent.clear()
    clock.time_ms += 60_000
    assert until(panel, lambda: customs(panel, "patch"))


def test_a_callback_that_blocks_does_not_stop_the_view(opened: Any, lab: Any, clock: Any) -> None:
    table = opened(PositionInspector, lab)
    released = threading.Event()
    lab.close_position = lambda symbol: released.wait(10)
    table.comm.say({"kind": "wish", "request": "1", "wish": "close", "symbol": "BTCUSDT"})
    clock.time_ms += 60_000
    assert until(table, lambda: customs(table, "patch"))
    released.set()


def test_closing_ends_the_thread_and_forgets_the_widget(lab: Any) -> None:
    before = set(threading.enumerate())
    monitor = LiveMonitor(lab)
    forgotten = weakref.ref(monitor)
    monitor.close()
    monitor.close()
    assert set(threading.enumerate()) <= before
    del monitor
    gc.collect()
    assert forgotten() is None


def test_every_thread_of_a_widget_is_a_daemon(opened: Any, lab: Any) -> None:
    before = set(threading.enumerate())
    opened(LiveMonitor, lab)
    assert all(thread.daemon for thread in set(threading.enumerate()) - before)


def test_whoever_cannot_run_widgets_sees_a_table(opened: Any, lab: Any) -> None:
    bundle = opened(PositionInspector, lab)._repr_mimebundle_()
    assert "<table>" in bundle[0]["text/html"]
    assert "BTCUSDT" in bundle[0]["text/html"]


def test_a_picture_that_does_not_move_says_that_it_is_one(opened: Any, lab: Any) -> None:
    assert "still picture" in opened(LiveMonitor, lab)._repr_mimebundle_()[0]["text/html"]


@pytest.mark.parametrize("kind", [LiveMonitor, PositionInspector])
def test_the_browser_code_asks_nobody_else_for_anything(kind: type[SnapshotWidget]) -> None:
    code = kind._esm.default_value + kind._code.default_value
    text = code + kind._css.default_value
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "import " not in code


def things_left_by(make: Callable[[], ipywidgets.Widget], cycles: int) -> dict[str, int]:
    """How many objects of each class there are more after so many widgets were made and closed, and again so many.

    What grows only once is a cache that something else has emptied: abc's of the classes it was asked about.
    """

    def count() -> Counter[str]:
        gc.collect()
        return Counter(type(thing).__name__ for thing in gc.get_objects())

    for _ in range(3):
        make().close()
    counts = [count()]
    for _ in range(2):
        for _ in range(cycles):
            make().close()
        counts.append(count())
    first, second = (after - before for before, after in itertools.pairwise(counts))
    return {name: more for name, more in (first & second).items() if more >= cycles}


def test_a_closed_widget_leaves_nothing_in_the_kernel(lab: Any) -> None:
    assert things_left_by(lambda: LiveMonitor(lab), 40) == {}


def test_a_widget_of_ipywidgets_leaves_its_layout_behind(lab: Any) -> None:
    # The negative control: what the test above would find.
    assert things_left_by(ipywidgets.HTML, 40)["Layout"] == 40
