"""Small markets for the tests of this room."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labkit.config import Config, RiskConfig, TraderConfig
from labkit.research.markets import Market, market_of_arrays

FIRST_MINUTE = 20_000 * 1440


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
