"""How fast the lake hands out history, beside other ways to keep the same rows.

`python benchmarks/lake.py` makes two years of one-minute candles (about a million rows, 24 monthly files; prices walk
on a tick grid, seeded), then reads them as a float64 DataFrame, warm from the disk cache, every way in one run. The
last column is the time relative to `DataService.klines` with all columns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labkit.domain.clock import MINUTE_MS
from labkit.domain.moments import moment_ms
from labkit.market.data_service import DataService
from labkit.market.lake import Lake, Series

START_MS, END_MS = moment_ms("2024-01-01"), moment_ms("2026-01-01")
SERIES = Series("klines", "BTCUSDT", "1m")
ROUNDS = 7


def candles() -> pa.Table:
    random = np.random.default_rng(1)
    times = np.arange(START_MS, END_MS, MINUTE_MS)
    close = np.round(50_000 + np.cumsum(random.normal(0, 12, len(times))).clip(-40_000), 1)
    open_ = np.append(close[0], close[:-1])
    reach = np.round(random.exponential(8, (2, len(times))), 1)
    volume = np.round(random.lognormal(3, 1.2, len(times)), 3)
    share = np.round(volume * random.random(len(times)), 3)
    return pa.table(
        {
            "open_time": times,
            "open": open_,
            "high": np.maximum(open_, close) + reach[0],
            "low": np.minimum(open_, close) - reach[1],
            "close": close,
            "volume": volume,
            "quote_volume": np.round(volume * close, 4),
            "trade_count": (volume * 20).astype(np.int64),
            "taker_buy_volume": share,
            "taker_buy_quote_volume": np.round(share * close, 4),
        }
    )


def best_ms(work: Callable[[], object]) -> float:
    """Wall milliseconds of the fastest of some rounds."""
    took = []
    for _ in range(ROUNDS):
        before = time.perf_counter()
        work()
        took.append(time.perf_counter() - before)
    return min(took) * 1000


def main() -> None:
    rows = candles()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Lake(folder / "lake").add(SERIES, rows, "archive")
        service = DataService(lake=folder / "lake")
        before = time.perf_counter()
        service.klines("BTCUSDT", "1m", START_MS, END_MS)
        first_ms = (time.perf_counter() - before) * 1000
        files = sorted((folder / "lake").rglob("*.parquet"))
        size = sum(path.stat().st_size for path in files)
        rows.to_pandas().to_csv(folder / "rows.csv", index=False)
        text = rows.cast(pa.schema([(field.name, pa.string()) for field in rows.schema]))
        pq.write_table(text, folder / "text.parquet", compression="zstd")
        prices = ["open", "high", "low", "close", "volume"]
        ways: dict[str, Callable[[], object]] = {
            "DataService.klines, all 9 columns": lambda: service.klines("BTCUSDT", "1m", START_MS, END_MS),
            "DataService.klines, open to volume": lambda: service.klines("BTCUSDT", "1m", START_MS, END_MS, prices),
            "DataService.klines, close only": lambda: service.klines("BTCUSDT", "1m", START_MS, END_MS, ["close"]),
            "pandas.read_parquet, the same files": lambda: pd.concat(pd.read_parquet(path) for path in files),
            "pandas.read_csv (pyarrow engine)": lambda: pd.read_csv(folder / "rows.csv", engine="pyarrow"),
            "decimal strings in Parquet": lambda: pq.read_table(folder / "text.parquet").to_pandas().astype("float64"),
        }
        took = {way: best_ms(work) for way, work in ways.items()}
    whole = took["DataService.klines, all 9 columns"]
    print(f"{rows.num_rows:,} rows in {len(files)} files, {size / 1e6:.1f} MB; pyarrow {pa.__version__}")
    print(f"first read in a process, every checksum proven: {first_ms:.0f} ms")
    for way, milliseconds in took.items():
        print(f"{way:<38}{milliseconds / rows.num_rows * 1e6:8.0f} ms/million rows{milliseconds / whole:8.2f} x")


if __name__ == "__main__":
    main()
