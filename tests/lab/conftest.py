"""A lab small enough to live through in a second or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.config import Config, load_config
from labkit.domain.snapshot import Snapshot
from labkit.lab import live_in_virtual_time

SMALL: dict[str, Any] = {
    "symbols": ["BTCUSDT", "ETHUSDT"],
    "speed": "max",
    "paper.history_days": 4,
    "paper.planted_edge": 0.8,
    "trader.warm_up_minutes": 600,
    "trader.cold_start_labels": 100,
    "trader.horizon_minutes": 10,
    "trader.decision_every_minutes": 2,
}


def small_config(**settings: Any) -> Config:
    """A short history with a strong planted edge, so that trades come at once."""
    return load_config({**SMALL, **settings}, environ={}, folder=Path("/"))


def live(folder: Path, minutes: float, **settings: Any) -> Snapshot:
    return live_in_virtual_time(small_config(**settings), folder, minutes=minutes)


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Snapshot]:
    """A folder in which a small lab lived for 40 minutes, and its last snapshot."""
    folder = tmp_path_factory.mktemp("lived")
    return folder, live(folder, 40)
