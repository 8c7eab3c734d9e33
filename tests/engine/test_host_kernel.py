"""The host in the kernel: how soon it gets the interpreter back from others."""

from __future__ import annotations

import subprocess
import sys

TWO_HOSTS = """
import sys
print(sys.getswitchinterval())
from labkit.engine.host_kernel import SWITCH_SECONDS, KernelHost
print(SWITCH_SECONDS)
hosts = [KernelHost("first", None), KernelHost("second", None)]
for host in hosts:
    host.begin()
print(sys.getswitchinterval())
for host in hosts:
    host.end()
    host.join()
    print(sys.getswitchinterval())
"""


def test_threads_give_way_sooner_while_any_host_runs_and_as_before_after_the_last() -> None:
    # A process of its own: another test's lab may be running in this one.
    told = subprocess.run([sys.executable, "-c", TWO_HOSTS], capture_output=True, text=True, check=True).stdout
    usual, short, both, one, none = map(float, told.split())
    assert short < usual
    assert (both, one, none) == (short, short, usual)
