"""The trader on real minutes: it lives through them, and does not invent an edge after cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labkit.config import Config
from labkit.domain.clock import MINUTE_MS
from labkit.research.markets import Market, market_of_arrays
from labkit.research.simulation import costs_of, simulate

MONTH = "20250504-20250603"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")


def recorded_market(folder: Path) -> Market:
    from pyarrow import parquet

    tables = []
    for symbol in SYMBOLS:
        # One symbol's recording runs on for longer than the others'.
        (path,) = sorted((folder / "klines" / "um").glob(f"{symbol}-1m-{MONTH.partition('-')[0]}-*.parquet"))[:1]
        tables.append(parquet.read_table(path))
    times = np.unique(np.concatenate([table["open_time"].to_numpy() for table in tables]))[: 30 * 1440]
    rows = np.full((times.size, len(SYMBOLS), 6), np.nan)
    for s, table in enumerate(tables):
        own = table["open_time"].to_numpy()
        inside = own <= times[-1]
        for column, name in enumerate(("open", "high", "low", "close", "volume")):
            rows[np.searchsorted(times, own[inside]), s, column] = table[name].to_numpy()[inside]
    return market_of_arrays(SYMBOLS, times // MINUTE_MS, rows)


@pytest.mark.real_data
def test_a_recorded_month_is_lived_through_and_hardly_traded_after_cost(real_data: Path) -> None:
    run = simulate(recorded_market(real_data), Config(), costs_of(Config(), 2e-4))
    common = run.state.common[0]
    assert int(common["labels"]) > 25_000
    assert (run.state.symbols["skipped"] <= 30).all()
    assert len(run.trades) <= 50
    assert run.final_equity >= 0.98 * float(Config().paper.opening_balance)
    assert abs(float(common["skill"] / common["weight"])) < 0.003
