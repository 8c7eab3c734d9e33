"""What is left out of a process is not loaded there, and those who would have liked it do without."""

from __future__ import annotations

import subprocess
import sys

import pytest

LEFT_OUT = "from labkit.edge.lean_imports import ADDRESS_GRAMMAR, leave_out; leave_out(ADDRESS_GRAMMAR); "


@pytest.mark.parametrize("what", ["papermill", "jupyterlab.labapp"])
def test_neither_report_nor_server_compiles_the_grammar_of_addresses(what: str) -> None:
    told = [
        subprocess.run(
            [sys.executable, "-c", f"{first}import sys, {what}; print('lark' in sys.modules)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for first in (LEFT_OUT, "")
    ]
    # The second is the control: whoever leaves nothing out gets it.
    assert told == ["False\n", "True\n"]
