"""CandleStore: closed candles on disk, one parquet file per symbol, interval and UTC month.

Prices and quantities are kept as the exchange's decimal strings, so that what comes out equals what went in to the
last digit. Each file has a checksum beside it in the form `sha256sum -c` reads; a file that does not match its
checksum (torn, truncated, altered) is removed, and `DataService` fetches it again. Writing is atomic.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from labkit.domain.market_events import INTERVAL_MS, Bar
from labkit.errors import ConfigError

_NUMBERS = ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
_INTEGERS = ("open_time_ms", "close_time_ms", "trade_count")


class CandleStore:
    """Closed candles below `folder`. One process writes at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.dropped: list[str] = []
        """Files that were found damaged and removed, with the reason."""

    def load(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[Bar]:
        """The stored bars with open time in [start_ms, end_ms), in order; holes are left as they are."""
        bars: list[Bar] = []
        for month in _months(start_ms, end_ms):
            bars += self._read(self._path(symbol, interval, month), symbol, interval)
        return [bar for bar in bars if start_ms <= bar.open_time_ms < end_ms]

    def save(self, bars: Iterable[Bar]) -> None:
        """Add closed bars; one that is stored already is replaced (the exchange sometimes repairs history).

        Raises:
            ValueError: a bar is still open.
        """
        files: dict[Path, dict[int, Bar]] = {}
        for bar in bars:
            if not bar.closed:
                raise ValueError(f"{bar.symbol} {bar.interval} {bar.open_time_ms}: an open bar is not history")
            path = self._path(bar.symbol, bar.interval, _month(bar.open_time_ms))
            files.setdefault(path, {})[bar.open_time_ms] = bar
        for path, added in files.items():
            first = next(iter(added.values()))
            stored = {bar.open_time_ms: bar for bar in self._read(path, first.symbol, first.interval)}
            merged = stored | added
            if merged != stored:
                _write(path, [merged[open_time_ms] for open_time_ms in sorted(merged)])

    def _path(self, symbol: str, interval: str, month: str) -> Path:
        if interval not in INTERVAL_MS or not symbol.replace("_", "").isalnum():
            raise ConfigError(f"no candles can be kept for {symbol!r} {interval!r}", field="symbol")
        return self._folder / symbol / interval / f"{month}.parquet"

    def _read(self, path: Path, symbol: str, interval: str) -> list[Bar]:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return []
        try:
            promised = _checksum_path(path).read_text().partition(" ")[0]
        except FileNotFoundError:
            promised = "none"
        if hashlib.sha256(content).hexdigest() != promised:
            # A crash between the two renames looks the same as damage, and is repaired in the same way.
            self.dropped.append(f"{path}: content does not match its checksum")
            path.unlink()
            _checksum_path(path).unlink(missing_ok=True)
            return []
        return _decode(content, symbol, interval)


def _decode(content: bytes, symbol: str, interval: str) -> list[Bar]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = pq.read_table(pa.BufferReader(content)).to_pydict()
    return [
        Bar(
            symbol=symbol,
            interval=interval,
            open_time_ms=open_time_ms,
            close_time_ms=close_time_ms,
            open=Decimal(open_),
            high=Decimal(high),
            low=Decimal(low),
            close=Decimal(close),
            volume=Decimal(volume),
            quote_volume=Decimal(quote_volume),
            trade_count=trade_count,
            taker_buy_volume=Decimal(taker_buy_volume),
            taker_buy_quote_volume=Decimal(taker_buy_quote_volume),
        )
        for (
            open_time_ms,
            close_time_ms,
            trade_count,
            open_,
            high,
            low,
            close,
            volume,
            quote_volume,
            taker_buy_volume,
            taker_buy_quote_volume,
        ) in zip(*(columns[name] for name in (*_INTEGERS, *_NUMBERS)), strict=True)
    ]


def _write(path: Path, bars: list[Bar]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {name: pa.array([getattr(bar, name) for bar in bars], pa.int64()) for name in _INTEGERS}
    arrays |= {name: pa.array([str(getattr(bar, name)) for bar in bars], pa.string()) for name in _NUMBERS}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, content)
    _replace(_checksum_path(path), f"{hashlib.sha256(content).hexdigest()}  {path.name}\n".encode())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _checksum_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _month(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m")


def _months(start_ms: int, end_ms: int) -> list[str]:
    """The UTC months that [start_ms, end_ms) touches."""
    if end_ms <= start_ms:
        return []
    first = datetime.fromtimestamp(start_ms / 1000, UTC)
    last = datetime.fromtimestamp((end_ms - 1) / 1000, UTC)
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    return [
        f"{first.year + (first.month - 1 + index) // 12:04d}-{(first.month - 1 + index) % 12 + 1:02d}"
        for index in range(count)
    ]
