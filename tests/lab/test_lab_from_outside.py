"""A Lab in this process: refused at once where it must be, and readable after it has stopped."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

import labkit
from labkit.config import load_config
from labkit.errors import AlreadyRunning, ConfigError
from labkit.lab import Lab
from labkit.lab_tables import lab_table
from labkit.store.run_lock import Owner, RunLock

SMALL: dict[str, Any] = {
    "speed": 60,
    "symbols": ["BTCUSDT"],
    "paper": {"history_days": 1},
    "trader": {"warm_up_minutes": 600, "decision_every_minutes": 1},
}


def test_a_folder_of_another_engine_is_refused_by_the_start_itself(tmp_path: Path) -> None:
    lock = RunLock.acquire(tmp_path, Owner(4711, "2026-01-05T00:00:00Z", "here"))
    with pytest.raises(AlreadyRunning, match="4711"):
        labkit.start(data_dir=str(tmp_path), **SMALL)
    lock.release()


@pytest.mark.parametrize("table", ["prices", "positions", "trades", "decisions"])
def test_every_number_in_a_table_has_a_unit(table: str, tmp_path: Path) -> None:
    frame = getattr(Lab(load_config({"data_dir": str(tmp_path)}, environ={})), table)()
    words = {"stale_because", "side", "exit_reason", "action", "primary_reason", "smallest_change"}
    assert set(frame.columns) - words <= set(frame.attrs["units"])


def test_an_average_price_is_shown_to_the_exchanges_own_precision() -> None:
    class Held(msgspec.Struct):
        symbol: str
        entry_price: Decimal
        quantity: Decimal

    frame = lab_table([Held("BTCUSDT", Decimal(100) / 3, Decimal("0.100"))], "symbol entry_price quantity")
    assert [str(value) for value in frame.iloc[0]] == ["33.33333333", "0.100"]


def test_a_stopped_lab_still_tells_its_past_and_writes_its_report(tmp_path: Path) -> None:
    lab = labkit.start(data_dir=str(tmp_path), **SMALL)
    decision = lab.wait_for("decision", 90)
    candles = lab.candles("btc/usdt", "15m", 20)
    assert list(candles.index.minute.unique()) in ([0, 15, 30, 45], [15, 30, 45, 0], [30, 45, 0, 15], [45, 0, 15, 30])
    assert len(candles) == 20
    assert candles.attrs["units"]["close"] == "quote asset"
    lab.stop()
    assert lab.report().path.read_text().startswith("<!doctype html>")
    assert lab.at(decision.time_ms).account is not None
    for moment in ("2025-01-01", "2027-01-01T00:00Z"):
        with pytest.raises(ConfigError, match="the ledger tells of 2026-01-05"):
            lab.at(moment)


def test_a_report_of_a_day_the_ledger_has_not_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    lab = labkit.start(data_dir=str(tmp_path), **SMALL)
    lab.wait_for("running", 90)
    try:
        with pytest.raises(ConfigError, match=r"day '2026-01-09': .* tells of 2026-01-05 to 2026-01-05$"):
            lab.report("2026-01-09")
    finally:
        lab.stop()
    with pytest.raises(ConfigError, match=r"day '2026-01-09': .* tells of 2026-01-05 to 2026-01-05$"):
        lab.report("2026-01-09")
    assert not (tmp_path / "reports").exists()
    assert "2026-01-09" not in str(lab.snapshot().events)


def test_a_stopped_lab_that_is_started_goes_on_where_it_ended(tmp_path: Path) -> None:
    lab = labkit.start(data_dir=str(tmp_path), **SMALL)
    lab.wait_for("running", 90)
    lab.stop()
    ended = lab.snapshot()
    assert lab.start() is lab
    try:
        lab.wait_for("running", 90)
        goes_on = lab.snapshot()
    finally:
        lab.stop()
    assert goes_on.ledger_sequence > ended.ledger_sequence
    assert goes_on.time_ms > ended.time_ms
