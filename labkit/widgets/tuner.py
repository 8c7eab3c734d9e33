"""Tuner: sliders for the trader's settings; what they would have come to is drawn while one is dragged.

The page sends settings, a run answers them on a thread of its own (`research.tuning`), and its curves come back as
binary buffers. While a slider is dragged the last days are run, on release everything; the newest settings win.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import traitlets

from labkit.config import Config, TraderConfig, save_settings, to_plain
from labkit.errors import LabkitError
from labkit.widgets.page_widget import PageWidget, browser_code, style_sheets
from labkit.widgets.tuner_settings import trader_settings
from labkit.widgets.tuner_view import Outcome, shown, tuner_html


class Runs(Protocol):
    """What runs history for the tuner."""

    def ask(self, settings: Mapping[str, Any], *, preview: bool) -> int: ...

    def close(self) -> None: ...


class LabToTune(Protocol):
    """What the tuner needs of a lab."""

    def trader_settings(self) -> TraderConfig: ...

    def challenge(self, trader: dict[str, Any] | None = None) -> str: ...

    def apply_settings(self, trader: dict[str, Any]) -> None: ...


class Tuner(PageWidget):
    """The trader's settings and what they would have come to.

    Args:
        begin: makes the runs beside those of a configuration; what they came to is told to the function handed in, on a
            thread of their own.
        config: the settings it begins with, and compares with.
        folder: where settings are saved.
        span: the history, in words.
        lab: whose trader can be challenged or changed from here.
    """

    _code = browser_code("feed.js", "tuner_charts.js", "tuner.js")
    _css = style_sheets("labkit.css", "tuner.css")

    panel = traitlets.Dict().tag(sync=True)
    """The settings there are, what they are compared with, and what can be done here."""
    values = traitlets.Dict().tag(sync=True)
    """The settings as they stand."""
    move: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """The page and the number of the latest move in `values`, by which a page knows an answer to an older one."""
    running = traitlets.Bool(False).tag(sync=True)
    """True while the settings as they stand have no look yet."""

    def __init__(
        self,
        begin: Callable[[Config, Callable[[Outcome], None]], Runs],
        config: Config,
        folder: Path,
        span: str,
        lab: LabToTune | None = None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._lab = lab
        self._span = span
        self._last: Outcome | None = None
        self._compared_name = "running now" if lab else "compared with"
        self._following = threading.Lock()
        self._asking = threading.Lock()
        """A run may end before its number is noted: both wait for each other."""
        super().__init__(panel=self._panel(), values=to_plain(config.trader))
        self.on_msg(self._receive)
        self._begin = begin
        self._runs = begin(config, self._take)
        self._ask(preview=False)

    def changes(self) -> dict[str, Any]:
        """The settings that differ from those it compares with."""
        running = to_plain(self._config.trader)
        return {name: value for name, value in self.values.items() if value != running[name]}

    def close(self) -> None:
        """End the runs and take the widget off the page. May be called twice."""
        if hasattr(self, "_runs"):
            with self._following:
                self._lab = None
                self._runs.close()
        super().close()

    def __repr__(self) -> str:
        return f"<Tuner of {self._span}>"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        said = shown(self._last, self._compared_name) if self._last else None
        # Whoever cannot run widgets (nbconvert, a code host) shows this instead.
        return {**data, "text/html": tuner_html(self._span, trader_settings(), self.values, said)}, metadata

    def _panel(self) -> dict[str, Any]:
        return {
            "span": self._span,
            "settings": msgspec.to_builtins(trader_settings()),
            "running": to_plain(self._config.trader),
            "compared": self._compared_name,
            "lab": self._lab is not None,
            "challenge": self._challenge(),
        }

    def _challenge(self) -> str:
        """How the lab's challenge stands, in words."""
        try:
            return self._lab.challenge() if self._lab else ""
        except LabkitError:
            return ""

    def _follow_the_lab(self) -> None:
        """Compare with what runs now: settings may have been applied, promoted or rolled back elsewhere."""
        with self._following:
            if self._lab is None:
                return
            trader = self._lab.trader_settings()
            if trader != self._config.trader:
                before, now = to_plain(self._config.trader), to_plain(trader)
                # A slider that stood on what was running goes with it; one that was moved stays.
                self.values = {name: now[name] if own == before[name] else own for name, own in self.values.items()}
                self._config = msgspec.structs.replace(self._config, trader=trader)
                self._runs.close()
                self._runs = self._begin(self._config, self._take)
                self._ask(preview=False)
            self.panel = self._panel()

    def _ask(self, *, preview: bool) -> None:
        with self._asking:
            self.running = True
            self._asked = self._runs.ask(self.changes(), preview=preview)

    def _take(self, look: Outcome) -> None:
        """A run has ended; called on its thread."""
        if not look.error:
            self._last = look
        self._show(look)
        with self._asking:
            if look.number == self._asked:
                self.running = False

    def _show(self, look: Outcome) -> None:
        names = list(look.curves)
        buffers = [look.curves[name].tobytes() for name in names]
        self.send({"kind": "look", "curves": names, **shown(look, self._compared_name)}, buffers)

    def _receive(self, _widget: object, content: dict[str, Any], _buffers: object) -> None:
        """A message of a page, on whichever thread the kernel chose. Does no work."""
        match content:
            case {"kind": "hello"}:
                if self._last:
                    self._show(self._last)
            case {"kind": "news"} if self._lab:
                threading.Thread(target=self._follow_the_lab, name="labkit tuner news", daemon=True).start()
            case {"kind": "set", "values": dict(values), "preview": bool(preview), "move": [str(page), int(number)]}:
                self._set(values, preview, [page, number])
            case {"kind": "wish"}:
                threading.Thread(target=self._fulfil, args=(content,), name="labkit tuner wish", daemon=True).start()

    def _set(self, values: dict[str, Any], preview: bool, move: list[str | int]) -> None:
        whole = {setting.key for setting in trader_settings() if setting.whole}
        known = {
            name: round(value) if name in whole else float(value)
            for name, value in values.items()
            if name in self.values and isinstance(value, int | float)
        }
        with self.hold_sync():
            self.values = {**self.values, **known}
            self.move = move
        self._ask(preview=preview)

    def _fulfil(self, content: dict[str, Any]) -> None:
        try:
            said = self._wish(content)()
        except LabkitError as error:
            self.send({"kind": "answer", "error": str(error), "text": ""})
        except BaseException as error:
            # Our own mistake: the page must not look as if nothing had happened, and the traceback must not be lost.
            self.send({"kind": "answer", "error": f"internal error, {type(error).__name__}: {error}", "text": ""})
            raise
        else:
            self.send({"kind": "answer", "error": "", "text": said})

    def _wish(self, content: dict[str, Any]) -> Callable[[], str]:
        match content:
            case {"wish": "save", "name": str(name)}:
                return partial(self._save, name)
            case {"wish": "challenge"} if self._lab:
                return partial(self._try_as_challenger, self._lab)
            case {"wish": "apply"} if self._lab:
                return partial(self._apply, self._lab)
            case _:
                raise LabkitError(f"this tuner cannot do {content.get('wish')!r}")

    def _save(self, name: str) -> str:
        save_settings(self._folder, name, self.values)
        return f"saved; labkit.start(config={name!r}) starts with these settings"

    def _try_as_challenger(self, lab: LabToTune) -> str:
        said = lab.challenge(self.changes())
        self._follow_the_lab()
        return said

    def _apply(self, lab: LabToTune) -> str:
        changes = self.changes()
        if not changes:
            raise LabkitError("nothing differs from what is running: there is nothing to apply")
        lab.apply_settings(changes)
        self._follow_the_lab()
        return "the lab was stopped and started anew with these settings; its books and positions go on"
