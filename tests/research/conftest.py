"""Small markets for the tests of this room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from labkit.config import Config, RiskConfig, TraderConfig
from labkit.research.markets import Market, market_of_arrays

FIRST_MINUTE = 20_000 * 1440

COUNTED = "LABKIT_DATA_DIR"


@pytest.fixture(scope="module", autouse=True)
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder for the trials of a module, so that nobody's real count grows."""
    folder = tmp_path_factory.mktemp("counted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(COUNTED, str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _counts_there(_clean_environment: None, monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    monkeypatch.setenv(COUNTED, str(data_dir))


def bars_market(*bars: tuple[float, float, float, float], first_minute: int = FIRST_MINUTE, **more: object) -> Market:
    """One symbol whose one-minute bars are these (open, high, low, close)."""
    rows = np.full((len(bars), 1, 6), 1.0)
    rows[:, 0, :4] = bars
    return market_of_arrays(("A",), first_minute + np.arange(len(bars)), rows, **more)  # type: ignore[arg-type]


def order_at(market: Market, bar: int, leverage: float) -> NDArray[np.float64]:
    orders = np.zeros(market.rows.shape[:2])
    orders[bar, 0] = leverage
    return orders


def plain_config(**trader: object) -> Config:
    """Nothing forbidden, and no trailing stop unless asked for."""
    settings = {"trailing_start_fraction": 1.0, "horizon_minutes": 30, **trader}
    return Config(
        trader=TraderConfig(**settings),  # type: ignore[arg-type]
        risk=RiskConfig(max_order_notional=10**9, max_position_notional=10**9, max_daily_loss_fraction=1.0),  # type: ignore[arg-type]
    )
