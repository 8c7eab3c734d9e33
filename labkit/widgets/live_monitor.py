"""LiveMonitor: the market and the lab on one panel, alive while cells run."""

from __future__ import annotations

from labkit.domain.snapshot import Snapshot
from labkit.widgets.page_widget import browser_code, style_sheets
from labkit.widgets.snapshot_widget import SnapshotWidget
from labkit.widgets.view_parts import clock_of
from labkit.widgets.views import MonitorView, monitor_html, monitor_view


class LiveMonitor(SnapshotWidget):
    """Prices with their ages, account, positions, last decisions and the health of the lab. It only looks."""

    _code = browser_code("feed.js", "symbol_table.js", "live_monitor.js")
    _css = style_sheets("labkit.css")

    def _view(self, snapshot: Snapshot) -> MonitorView:
        return monitor_view(snapshot)

    def _static_html(self, snapshot: Snapshot) -> str:
        return monitor_html(monitor_view(snapshot), clock_of(snapshot))
