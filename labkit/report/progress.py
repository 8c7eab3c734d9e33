"""Progress of a report: how many of the notebook's cells are done, told by the writing process and shown to who waits.

`CellsDone` is the writing process's side: a file that grows by one dot a cell, so that a reader never finds it half
written. `cells_bar` shows it to who waits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from labkit.edge.progress import progress_bar

Progress = Callable[[int, int], object]
"""Called with the cells that are done and the cells there are."""


class CellsDone:
    """Writes a notebook's progress into a file; an instance is nbclient's hook for a cell that has run."""

    def __init__(self, path: Path, cells: int) -> None:
        self._path = path
        path.write_text(f"{cells}\n")

    def __call__(self, **what: object) -> None:
        with self._path.open("a") as file:
            file.write(".")


def cells_done(path: Path) -> tuple[int, int] | None:
    """The cells that are done and the cells there are; None while nothing has been told."""
    try:
        cells, newline, dots = path.read_text().partition("\n")
    except FileNotFoundError:
        return None
    return (len(dots), int(cells)) if newline else None


@contextlib.contextmanager
def cells_bar(day: str) -> Iterator[Progress]:
    """A bar of the cells done; what it gives is to be called by the thread that shows it."""
    with progress_bar(f"report of {day}", "cell") as bar:

        def show(done: int, cells: int) -> None:
            bar.total = cells
            bar.n = min(done, cells)
            bar.refresh()

        yield show
