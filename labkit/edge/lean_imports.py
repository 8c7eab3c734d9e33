"""Keeping out of a process what somebody imports only because it is there.

`rfc3987_syntax` is the dear one: jsonschema, and with it everything of Jupyter's, takes it if it is installed, and it
compiles a grammar of addresses for nearly two seconds. No schema of a notebook or of JupyterLab names that format.
"""

from __future__ import annotations

import sys

ADDRESS_GRAMMAR = "rfc3987_syntax"


def leave_out(*names: str) -> None:
    """Make the imports of `names` fail in this process; what is loaded stays. Whoever asks must do without."""
    for name in names:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
