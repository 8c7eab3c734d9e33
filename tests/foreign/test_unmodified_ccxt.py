"""A client we did not write trades at our exchange: ccxt, in an environment of its own (`make deep` makes it)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CCXT_PYTHON = Path(__file__).resolve().parents[2] / ".venv-ccxt" / "bin" / "python"


@pytest.mark.deep
def test_unmodified_ccxt_reads_markets_watches_the_top_and_places_and_cancels_an_order() -> None:
    if not CCXT_PYTHON.exists():
        pytest.skip(f"no ccxt environment at {CCXT_PYTHON}; `make deep` makes it")
    command = [sys.executable, "-m", "labkit.cli", "exchange", "--set", "paper.history_days=1"]
    exchange = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert exchange.stdout is not None
        address = exchange.stdout.readline()
        done = subprocess.run(
            [CCXT_PYTHON, Path(__file__).with_name("ccxt_session.py"), address],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        exchange.send_signal(signal.SIGTERM)
        exchange.communicate(timeout=30)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert "BTC/USDT:USDT" in seen["markets"]
    assert 0 < seen["bid"] < seen["ask"]
    assert seen["book"][0] < seen["book"][1]
    assert (seen["placed"], seen["open"], seen["canceled"], seen["left"]) == ("open", True, "canceled", 0)
    assert seen["balance"] == 10_000
