"""HealthPanel: the breaker's ladder, limits, connections, faults on demand with their score, and one red button."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from labkit.domain.snapshot import Snapshot
from labkit.errors import LabkitError
from labkit.paper.truth_table import IntentTruth
from labkit.widgets.health_view import HealthView, health_html, health_view
from labkit.widgets.page_widget import browser_code, style_sheets
from labkit.widgets.snapshot_widget import SnapshotWidget
from labkit.widgets.view_parts import LabLike, clock_of


class WeatherLike(Protocol):
    """The weather of an embedded exchange, as `lab.weather` offers it."""

    def __call__(self, name_or_path: str) -> object: ...

    def clear(self) -> object: ...

    def status(self) -> dict[str, Any]: ...

    def executions(self) -> dict[str, IntentTruth]: ...


class LabWithWeather(LabLike, Protocol):
    """What the health panel needs of a lab."""

    @property
    def weather(self) -> WeatherLike: ...

    @property
    def folder(self) -> object: ...

    def close_all(self) -> None: ...


class HealthPanel(SnapshotWidget):
    """How the lab stands, and how it stands what one does to it. Flattening takes two clicks within three seconds."""

    _code = browser_code("feed.js", "health_panel.js")
    _css = style_sheets("labkit.css")
    _lab: LabWithWeather

    def __init__(self, lab: LabWithWeather) -> None:
        self._weather: Mapping[str, Any] = {}
        self._truth: Mapping[str, IntentTruth] | None = None
        super().__init__(lab)

    def _view(self, snapshot: Snapshot) -> HealthView:
        # A lab that runs no more cannot be asked: what its exchange said last is what the score ended with.
        with contextlib.suppress(LabkitError):
            self._weather, self._truth = self._lab.weather.status(), self._lab.weather.executions()
        stamp = {"Process": str(os.getpid()), "Folder": str(self._lab.folder)}
        return health_view(snapshot, self._weather, self._truth, stamp)

    def _static_html(self, snapshot: Snapshot) -> str:
        return health_html(self._view(snapshot), clock_of(snapshot))

    def _wish(self, content: dict[str, Any]) -> Callable[[], None]:
        match content:
            case {"wish": "weather", "name": str(name)}:
                return partial(self._have_weather, name)
            case {"wish": "clear_weather"}:
                return partial(self._have_weather, "")
            case {"wish": "flatten"}:
                return self._flatten
            case {"wish": "resume_entries"}:
                return self._lab.resume_entries
            case _:
                return super()._wish(content)

    def _have_weather(self, name: str) -> None:
        if name:
            self._lab.weather(name)
        else:
            self._lab.weather.clear()

    def _flatten(self) -> None:
        self._lab.pause_entries("flattened by hand in the health panel")
        self._lab.close_all()
