"""What is looked for in the server's log when the browser's tests are done (see the fixture `server_address`)."""

from __future__ import annotations

import pytest

from tests.browser.conftest import KERNEL_WITHOUT_A_PAST, complaints

WELL = """[W 2026-11-23 18:07:24.822 ServerApp] Notebook notebooks/tuner.ipynb is not trusted
[W 2026-11-23 18:07:25.808 ServerApp] The websocket_ping_timeout (90000) cannot be longer than ...
    Setting websocket_ping_timeout=30000
[W 2026-11-23 18:10:16.983 ServerApp] kernel ece91d10 restarted
"""

TRACEBACK = """[E 2026-11-23 15:30:01.123 ServerApp] Uncaught exception GET /api/kernels?1796098088666 (127.0.0.1)
    Traceback (most recent call last):
      File "traitlets.py", line 652, in get
    KeyError: 'last_activity'
"""


def test_what_a_server_says_on_a_good_day_is_no_complaint() -> None:
    assert complaints(WELL) == []


@pytest.mark.parametrize(
    "record",
    ["[W 2026-11-23 15:30:01.123 ServerApp] WebSocket ping timeout after 30001 ms.\n", TRACEBACK],
    ids=["a connection cut", "an error of its own"],
)
def test_a_connection_cut_and_an_error_of_its_own_are_complaints(record: str) -> None:
    assert complaints(f"{WELL}{record}{WELL}") == [record]


def test_a_kernel_that_is_listed_while_it_starts_is_no_complaint_but_the_next_error_is() -> None:
    listed = f"{TRACEBACK}    traitlets.traitlets.TraitError: {KERNEL_WITHOUT_A_PAST}, not the NoneType None.\n"
    assert complaints(f"{listed}{TRACEBACK}{WELL}") == [TRACEBACK]
