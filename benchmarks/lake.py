"""How fast the lake hands out history, beside other ways to keep the same rows.

`python benchmarks/lake.py` makes two years of one-minute candles (about a million rows, 24 monthly files; prices walk
on a tick grid, seeded), then reads them as a float64 DataFrame, warm from the disk cache, every way in turn, round by
round, in one run: wall time and CPU time of the best round each. The last column is the CPU time relative to
`DataService.klines` with all columns. DuckDB and polars take part where they are installed.
"""

from __future__ import annotations

import contextlib
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
from labkit.market.history_kinds import Series
from labkit.market.lake import Lake

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


def others(folder: Path) -> dict[str, Callable[[], object]]:
    """What people read the same files with besides pandas, as far as it is there."""
    ways: dict[str, Callable[[], object]] = {}
    pattern = f"{folder}/klines/symbol=BTCUSDT/interval=1m/*.parquet"
    with contextlib.suppress(ImportError):
        import duckdb

        ways[f"duckdb {duckdb.__version__}, the same files"] = lambda: duckdb.sql(f"FROM '{pattern}'").df()
    with contextlib.suppress(ImportError):
        import polars

        ways[f"polars {polars.__version__}, the same files"] = lambda: polars.read_parquet(pattern).to_pandas()
    return ways


def best_ms(ways: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Wall and CPU milliseconds of the best round of each way."""
    took: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, work in ways.items():
            before, used = time.perf_counter(), time.process_time()
            work()
            took[way].append((time.perf_counter() - before, time.process_time() - used))
    return {
        way: (min(wall for wall, _ in all_) * 1000, min(cpu for _, cpu in all_) * 1000) for way, all_ in took.items()
    }


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
        rows.to_pandas().to_parquet(folder / "pandas.parquet")
        rows.to_pandas().to_csv(folder / "rows.csv", index=False)
        text = rows.cast(pa.schema([(field.name, pa.string()) for field in rows.schema]))
        pq.write_table(text, folder / "text.parquet", compression="zstd")
        prices = ["open", "high", "low", "close", "volume"]
        ways: dict[str, Callable[[], object]] = {
            "DataService.klines, all 9 columns": lambda: service.klines("BTCUSDT", "1m", START_MS, END_MS),
            "DataService.klines, open to volume": lambda: service.klines("BTCUSDT", "1m", START_MS, END_MS, prices),
            "DataService.klines, close only": lambda: service.klines("BTCUSDT", "1m", START_MS, END_MS, ["close"]),
            "pandas.read_parquet, the same files": lambda: pd.concat(pd.read_parquet(path) for path in files),
            "pandas.read_parquet, one file of pandas": lambda: pd.read_parquet(folder / "pandas.parquet"),
            **others(folder / "lake"),
            "pandas.read_csv (pyarrow engine)": lambda: pd.read_csv(folder / "rows.csv", engine="pyarrow"),
            "decimal strings in Parquet": lambda: pq.read_table(folder / "text.parquet").to_pandas().astype("float64"),
        }
        took = best_ms(ways)
    _, whole = took["DataService.klines, all 9 columns"]
    print(f"{rows.num_rows:,} rows in {len(files)} files, {size / 1e6:.1f} MB; pyarrow {pa.__version__}")
    print(f"first read in a process, every checksum proven: {first_ms:.0f} ms")
    print(f"{'ms per million rows':<42}{'wall':>8}{'CPU':>8}")
    for way, (wall, cpu) in took.items():
        per_million = 1e6 / rows.num_rows
        print(f"{way:<42}{wall * per_million:8.0f}{cpu * per_million:8.0f}{cpu / whole:8.2f} x")


if __name__ == "__main__":
    main()
