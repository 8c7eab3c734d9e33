"""The least that must travel is still enough."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from labkit.widgets import frames
from labkit.widgets.frames import FrameSequence, Keyframe, Pace, Patch
from labkit.widgets.view_parts import Clock, clock_of
from labkit.widgets.views import monitor_view


class Row(msgspec.Struct, frozen=True):
    key: str
    value: int
    colour: str = "blue"


class View(msgspec.Struct, frozen=True):
    title: str
    rows: tuple[Row, ...]


class Page:
    """What the browser's code makes of frames, in a few lines of Python."""

    def __init__(self) -> None:
        self.sections: dict[str, Any] = {}
        self.sequence = -1
        self.gaps = 0

    def take(self, frame: Keyframe | Patch | None) -> None:
        if frame is None:
            return
        content = json.loads(json.dumps(frame.content))
        if isinstance(frame, Keyframe):
            self.sections, self.sequence = content["view"], content["sequence"]
        elif content["sequence"] != self.sequence + 1:
            self.gaps += 1
        else:
            self.sequence += 1
            for name, change in content["changes"].items():
                if "value" in change:
                    self.sections[name] = change["value"]
                else:
                    rows = {row["key"]: row for row in self.sections.get(name, ())}
                    for row in change["rows"]:
                        rows[row["key"]] = rows.get(row["key"], {}) | row
                    self.sections[name] = [rows[key] for key in change.get("order", list(rows))]


some_views = st.builds(
    View,
    title=st.sampled_from(["calm", "busy"]),
    rows=st.lists(
        st.builds(Row, key=st.sampled_from("abcd"), value=st.integers(0, 2)), unique_by=lambda row: row.key, max_size=4
    ).map(tuple),
)


@given(st.lists(st.tuples(some_views, st.integers(1, 3_000), st.booleans()), min_size=1, max_size=30))
def test_a_page_that_hears_everything_shows_the_present_view(steps: list[tuple[View, int, bool]]) -> None:
    sequence, page, now_ms = FrameSequence(), Page(), 0
    for view, wait_ms, resync in steps:
        now_ms += wait_ms
        page.take(sequence.next_frame(view, Clock(now_ms, 1.0), now_ms, resync=resync))
        assert page.sections == json.loads(msgspec.json.encode(view))
    assert page.gaps == 0


@given(st.lists(st.tuples(some_views, st.booleans()), min_size=1, max_size=30), some_views)
def test_a_page_that_missed_frames_is_right_again_two_seconds_later(steps: list[tuple[View, bool]], last: View) -> None:
    sequence, page, now_ms = FrameSequence(), Page(), 0
    for view, lost in steps:
        now_ms += 200
        frame = sequence.next_frame(view, Clock(now_ms, 1.0), now_ms)
        if not lost:
            page.take(frame)
    for _ in range(1 + frames.KEYFRAME_EVERY_MS // 200):
        now_ms += 200
        page.take(sequence.next_frame(last, Clock(now_ms, 1.0), now_ms))
    assert page.sections == json.loads(msgspec.json.encode(last))


def test_only_fields_of_rows_that_changed_travel() -> None:
    sequence = FrameSequence()
    sequence.next_frame(View("t", (Row("a", 1), Row("b", 1))), Clock(0, 1.0), 0)
    patch = sequence.next_frame(View("t", (Row("a", 1), Row("b", 2))), Clock(200, 1.0), 200)
    assert patch is not None
    assert patch.content["changes"] == {"rows": {"rows": [{"key": "b", "value": 2}]}}


def test_a_lab_that_stands_still_costs_one_small_message_a_second() -> None:
    sequence, view, clock = FrameSequence(), View("t", (Row("a", 1),)), Clock(0, 0.0)
    sent = [sequence.next_frame(view, clock, now_ms) for now_ms in range(0, 60_001, 200)]
    assert [type(frame) for frame in sent if frame] == [Keyframe] + [Patch] * 60
    assert all(not frame.content["changes"] for frame in sent[1:] if frame)


def test_a_calm_stretch_after_a_change_still_brings_a_keyframe() -> None:
    sequence, clock = FrameSequence(), Clock(0, 0.0)
    sequence.next_frame(View("before", ()), clock, 0)
    sequence.next_frame(View("after", ()), clock, 200)
    later = [sequence.next_frame(View("after", ()), clock, now_ms) for now_ms in range(400, 4_000, 200)]
    assert [type(frame) for frame in later if frame].count(Keyframe) == 1


def test_four_hundred_symbols_of_which_a_third_moved_fit_into_eight_kilobytes(lab: Any, clock: Any) -> None:
    wide = type(lab)(seed=1, clock=clock, symbols=400)
    sequence = FrameSequence()
    snapshot = wide.snapshot()
    sequence.next_frame(monitor_view(snapshot), clock_of(snapshot), 0)
    moved = tuple(
        msgspec.structs.replace(row, bid_quantity=row.bid_quantity, mark_price=row.mark_price * 2)
        if i % 3 == 0
        else row
        for i, row in enumerate(snapshot.symbols)
    )
    later = msgspec.structs.replace(snapshot, symbols=moved)
    patch = sequence.next_frame(monitor_view(later), clock_of(later), 200)
    assert patch is not None
    assert len(json.dumps(patch.content)) < 8_000


def test_a_page_that_answers_is_served_five_times_a_second() -> None:
    pace = Pace(0)
    pace.heard(20_000)
    assert pace.rest_ms(21_000, cost_ms=1) == frames.FASTEST_MS


def test_a_page_that_is_silent_gets_one_frame_a_second_and_then_hardly_any() -> None:
    pace = Pace(0)
    assert pace.rest_ms(frames.UNHEARD_AFTER_MS, cost_ms=1) == frames.UNHEARD_MS
    assert pace.rest_ms(frames.ABANDONED_AFTER_MS, cost_ms=1) == frames.ABANDONED_MS


def test_a_costly_look_is_followed_by_nine_times_its_rest() -> None:
    assert Pace(0).rest_ms(0, cost_ms=100) == 900
