"""Frames: the least that must travel so that a browser shows the present view.

A view is one record; its fields are *sections*. A section that is a list of records with a `key` travels row by row.
`FrameSequence` numbers what it makes: a *keyframe* holds everything, a *patch* what changed since the frame before.
A receiver that misses a number waits for the next keyframe, which comes by itself every two seconds, so that a lost
message heals even while the kernel cannot hear a request. `Pace` says how long to wait between two looks. Both are
plain arithmetic on a millisecond count given from outside (wall time).
"""

from __future__ import annotations

from typing import Any

import msgspec

KEYFRAME_EVERY_MS = 2_000
HEARTBEAT_MS = 1_000
"""A patch without changes is sent this often, so that the browser can tell silence from calm."""

FASTEST_MS = 200
UNHEARD_MS = 1_000
ABANDONED_MS = 10_000
UNHEARD_AFTER_MS = 15_000
ABANDONED_AFTER_MS = 600_000
SHARE_OF_A_CORE = 0.1


class Keyframe(msgspec.Struct, frozen=True):
    """The whole view, as builtins."""

    content: dict[str, Any]


class Patch(msgspec.Struct, frozen=True):
    """What changed, as builtins."""

    content: dict[str, Any]


class FrameSequence:
    """Turns a succession of views into keyframes and patches. One owner; not for several threads."""

    def __init__(self) -> None:
        self._sequence = 0
        self._sections: dict[str, Any] = {}
        self._clock: dict[str, Any] = {}
        self._keyframe_at_ms: int | None = None
        self._changed_since_keyframe = True
        self._sent_at_ms = 0

    def next_frame(
        self, view: msgspec.Struct, clock: msgspec.Struct, now_ms: int, *, resync: bool = False
    ) -> Keyframe | Patch | None:
        """The frame to send at wall time `now_ms`, or None if the receiver needs nothing."""
        sections: dict[str, Any] = msgspec.to_builtins(view)
        clock_fields: dict[str, Any] = msgspec.to_builtins(clock)
        changed = _changes(self._sections, sections)
        calm = not changed and clock_fields == self._clock
        self._changed_since_keyframe |= not calm
        rested = self._keyframe_at_ms is None or now_ms - self._keyframe_at_ms >= KEYFRAME_EVERY_MS
        if resync or (rested and self._changed_since_keyframe):
            self._keyframe_at_ms, self._changed_since_keyframe = now_ms, False
            frame: Keyframe | Patch = Keyframe({"sequence": self._sequence, "clock": clock_fields, "view": sections})
        elif calm and now_ms - self._sent_at_ms < HEARTBEAT_MS:
            return None
        else:
            frame = Patch({"kind": "patch", "sequence": self._sequence, "clock": clock_fields, "changes": changed})
        self._sequence += 1
        self._sections, self._clock, self._sent_at_ms = sections, clock_fields, now_ms
        return frame


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _row_changes(before.get(name), section)
        if _is_keyed(section) and _is_keyed(before.get(name) or ())
        else {"value": section}
        for name, section in after.items()
        if before.get(name) != section
    }


def _is_keyed(section: Any) -> bool:
    return isinstance(section, list | tuple) and all(isinstance(row, dict) and "key" in row for row in section)


def _row_changes(before: Any, after: list[dict[str, Any]]) -> dict[str, Any]:
    """`rows`: new ones whole, others with the fields that differ; and the `order` of all keys if it changed."""
    known = {row["key"]: row for row in before or ()}
    order = [row["key"] for row in after]
    differing = (_field_changes(known.get(row["key"]), row) for row in after)
    change: dict[str, Any] = {"rows": [fields for fields in differing if fields]}
    if order != list(known):
        change["order"] = order
    return change


def _field_changes(before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, Any]:
    if before is None:
        return after
    if before == after:
        return {}
    return {"key": after["key"]} | {name: value for name, value in after.items() if before[name] != value}


class Pace:
    """How long to rest between two frames.

    Five a second while somebody acknowledges them; one a second when nobody has for 15 s (a cell may be blocking the
    kernel's ears: the page is still worth feeding); hardly any after ten minutes. A look that costs much is
    followed by a long enough rest that the widget never takes more than a tenth of a core.
    """

    def __init__(self, now_ms: int) -> None:
        self._heard_at_ms = now_ms

    def heard(self, now_ms: int) -> None:
        """A front end gave a sign of life."""
        self._heard_at_ms = now_ms

    def rest_ms(self, now_ms: int, cost_ms: float) -> float:
        """Milliseconds of wall time to wait after a look that took `cost_ms`."""
        unheard_ms = now_ms - self._heard_at_ms
        if unheard_ms >= ABANDONED_AFTER_MS:
            rest = ABANDONED_MS
        elif unheard_ms >= UNHEARD_AFTER_MS:
            rest = UNHEARD_MS
        else:
            rest = FASTEST_MS
        return max(float(rest), cost_ms * (1 - SHARE_OF_A_CORE) / SHARE_OF_A_CORE)
