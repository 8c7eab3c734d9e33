"""PositionInspector: the open positions, each with a Close button, and a switch that pauses new entries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from labkit.domain.snapshot import Snapshot
from labkit.widgets.position_view import PositionsView, positions_html, positions_view
from labkit.widgets.snapshot_widget import SnapshotWidget, static_text
from labkit.widgets.view_parts import clock_of


class PositionInspector(SnapshotWidget):
    """Every open position with its exits. Closing takes two clicks within three seconds; errors appear in the table."""

    _esm = static_text("feed.js", "position_inspector.js")
    _css = static_text("labkit.css")

    def _view(self, snapshot: Snapshot) -> PositionsView:
        return positions_view(snapshot)

    def _static_html(self, snapshot: Snapshot) -> str:
        return positions_html(positions_view(snapshot), clock_of(snapshot))

    def _wish(self, content: dict[str, Any]) -> Callable[[], None]:
        match content:
            case {"wish": "close", "symbol": str(symbol)}:
                return partial(self._lab.close_position, symbol)
            case {"wish": "pause_entries"}:
                return partial(self._lab.pause_entries, "paused by hand in the position table")
            case {"wish": "resume_entries"}:
                return self._lab.resume_entries
            case _:
                return super()._wish(content)
