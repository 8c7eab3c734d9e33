"""Line magics: `%load_ext labkit`, then `%lab`, `%why SYMBOL`, `%report [DAY]`, `%flatten`.

They are short names for what `labkit.start()` and a `Lab` do, on the lab that runs in this kernel. A user's slip is
answered with one sentence, not with a traceback.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class

from labkit.engine.host_kernel import KernelHost
from labkit.errors import ConfigError, LabkitError
from labkit.lab import Lab, ReportPage, start
from labkit.widgets.why import Why

LISTS = ("symbols", "tapes")


def in_one_sentence(magic: Callable[[LabMagics, str], Any]) -> Callable[[LabMagics, str], Any]:
    """IPython shows a `UsageError` without a traceback."""

    @wraps(magic)
    def answered(self: LabMagics, line: str) -> Any:
        try:
            return magic(self, line.strip())
        except LabkitError as error:
            raise UsageError(str(error)) from error

    return answered


def the_lab() -> Lab:
    """The one lab that runs in this kernel.

    Raises:
        ConfigError: there is none, or more than one.
    """
    labs = [owner for owner in KernelHost.owners() if isinstance(owner, Lab)]
    if not labs:
        raise ConfigError("no lab runs in this kernel: %lab starts one")
    if len(labs) > 1:
        folders = ", ".join(str(lab.folder) for lab in labs)
        raise ConfigError(f"more than one lab runs here ({folders}): ask one by its variable, e.g. lab.report()")
    return labs[0]


@magics_class
class LabMagics(Magics):
    """The magics of labkit."""

    @line_magic
    @in_one_sentence
    def lab(self, line: str) -> Lab:
        """`%lab [NAME=VALUE ...]`: start the lab, or find the one that runs; it is `lab` from then on.

        Any setting by its dotted name, e.g. `%lab speed=60 trader.horizon_minutes=20`.
        """
        found = start(**settings_of(line)) if line or not KernelHost.owners() else the_lab()
        assert self.shell is not None
        self.shell.user_ns["lab"] = found
        return found

    @line_magic
    @in_one_sentence
    def why(self, line: str) -> Why:
        """`%why SYMBOL`: why the trader did, or did not, trade it at its latest decision."""
        if not line:
            raise ConfigError(f"%why which symbol? One of {', '.join(the_lab().config.symbols)}")
        return the_lab().why(line)

    @line_magic
    @in_one_sentence
    def report(self, line: str) -> ReportPage:
        """`%report [DAY]`: write the report of a UTC day (2026-01-05; today if not given)."""
        return the_lab().report(line or None)

    @line_magic
    @in_one_sentence
    def flatten(self, line: str) -> str:
        """`%flatten`: pause new entries and close every open position; `lab.resume_entries()` trades on."""
        if line:
            raise ConfigError("%flatten closes everything and takes no name; lab.close_position(...) closes one")
        lab = the_lab()
        lab.pause_entries("flattened by hand")
        symbols = [row.symbol for row in lab.snapshot().positions]
        lab.close_all()
        closing = f"closing {', '.join(symbols)}" if symbols else "nothing was open"
        return f"{closing}; new entries are paused until lab.resume_entries()"


def settings_of(line: str) -> dict[str, Any]:
    """`a=1 b.c=2` as settings.

    Raises:
        ConfigError: a word without a value.
    """
    settings: dict[str, Any] = {}
    for word in line.split():
        name, equals, value = word.partition("=")
        if not equals or not value:
            raise ConfigError(f"%lab {word}: write NAME=VALUE without spaces, e.g. speed=60", field=name)
        settings[name] = value.split(",") if name in LISTS else value
    return settings
