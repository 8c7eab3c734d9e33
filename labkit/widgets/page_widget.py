"""PageWidget: what every widget of labkit asks of the page and leaves behind on it: nothing, once closed.

anywidget makes a class of Python and a module of the browser for every widget that is shown. Classes are made once
here, and modules once a page (`static/loader.js`), so that widgets may be opened and closed all day.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import anywidget
import traitlets


def static_text(*names: str) -> str:
    """The browser code or style sheets of these files, joined. Text, because a path would keep every widget alive."""
    folder = resources.files("labkit.widgets") / "static"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def browser_code(*names: str) -> traitlets.Unicode[str, str | bytes]:
    """The trait that holds the browser code of a widget: its module's default export makes `{initialize, render}`."""
    return traitlets.Unicode(static_text(*names)).tag(sync=True)


def style_sheets(*names: str) -> traitlets.Unicode[str, str | bytes]:
    """The trait that holds the style sheets of a widget."""
    return traitlets.Unicode(static_text(*names)).tag(sync=True)


class PageWidget(anywidget.AnyWidget):
    """A widget whose subclasses give `_code` and `_css`, and which may be closed at any time."""

    _esm = browser_code("loader.js")
    _code = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    _anywidget_id = traitlets.Unicode().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._listen_beside_the_cells()

    @traitlets.default("_anywidget_id")
    def _name_of_the_class(self) -> str:
        return f"{type(self).__module__}.{type(self).__name__}"

    def add_traits(self, **traits: Any) -> None:
        """Add those the class has not declared, which are none: adding makes a new class for this one widget."""
        if new := {name: trait for name, trait in traits.items() if not self.has_trait(name)}:
            super().add_traits(**new)

    def close(self) -> None:
        """Take the widget off the page, with the layout that ipywidgets would keep. May be called twice."""
        layout = self.layout
        super().close()
        if layout is not None:
            layout.close()

    def _listen_beside_the_cells(self) -> None:
        """Have messages of the page answered while a cell blocks, where the kernel can.

        ipykernel 7.4 hands messages of a comm to the shell that last sent on it, which is the one that runs the
        cells; before and after that release the front end's own subshell is used. This asks for the latter.

        And comm tells IPython of every message as of a cell that begins and ends, upon which matplotlib shows what a
        cell beside it is just drawing, and takes it away half drawn. So the message goes straight to the widget.
        """
        self.comm.handle_msg = self.comm._msg_callback
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = lambda data, default: default
