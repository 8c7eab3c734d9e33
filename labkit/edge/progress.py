"""Bars for long work: on standard error of a terminal, and in a notebook; nothing into logs and pipes.

Text and no widget: it reads alike in every front end, and leaves nothing in a stored notebook that is dead on the next
page. `TQDM_DISABLE=1` switches all of them off.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

WAIT_SECONDS = 2.0
"""What is done sooner needs no bar."""
LOOK_SECONDS = 0.5


def is_watched() -> bool:
    """True where somebody sees standard error while it is written: a terminal, or the cell of a notebook."""
    if sys.stderr.isatty():
        return True
    python = sys.modules.get("IPython")
    return hasattr(python and python.get_ipython(), "kernel")


@contextlib.contextmanager
def progress_bar(what: str, unit: str, total: float | None = None, *, shown: bool = True) -> Iterator[Any]:
    """A tqdm bar that goes away when the work is done, or one that shows nothing where nobody would see it."""
    from tqdm import tqdm

    hidden = {} if shown and is_watched() else {"disable": True}
    # A notebook lays red under standard error, and the red stays when the bar has gone.
    place = sys.stderr if sys.stderr.isatty() else sys.stdout
    with tqdm(
        total=total, unit=unit, desc=what, delay=WAIT_SECONDS, leave=False, ncols=90, file=place, **hidden
    ) as bar:
        yield bar


@contextlib.contextmanager
def followed(done: Callable[[], float], what: str, unit: str, total: float, *, shown: bool = True) -> Iterator[None]:
    """A bar for one long call that tells nothing itself: `done` is looked at twice a second from another thread."""
    with progress_bar(what, unit, total, shown=shown) as bar:
        if bar.disable:
            yield
            return
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(LOOK_SECONDS):
                reached = done()
                if not reached:
                    bar.set_description_str(f"{what} (the first run of a version compiles)", refresh=False)
                else:
                    bar.set_description_str(what, refresh=False)
                bar.update(reached - bar.n)
                # At its end tqdm clears a bar only if `update` has shown it, which waits for the delay.
                if bar.last_print_t > bar.start_t:
                    bar.refresh()

        follower = threading.Thread(target=look, name="labkit-progress", daemon=True)
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()
