"""LiveMonitor: the market and the lab on one panel, alive while cells run."""

from __future__ import annotations

from labkit.domain.snapshot import Snapshot
from labkit.widgets.snapshot_widget import SnapshotWidget, static_text
from labkit.widgets.view_parts import clock_of
from labkit.widgets.views import MonitorView, monitor_html, monitor_view


class LiveMonitor(SnapshotWidget):
    """Prices with their ages, account, positions, last decisions and the health of the lab. It only looks."""

    _esm = static_text("feed.js", "symbol_table.js", "live_monitor.js")
    _css = static_text("labkit.css")

    def _view(self, snapshot: Snapshot) -> MonitorView:
        return monitor_view(snapshot)

    def _static_html(self, snapshot: Snapshot) -> str:
        return monitor_html(monitor_view(snapshot), clock_of(snapshot))
