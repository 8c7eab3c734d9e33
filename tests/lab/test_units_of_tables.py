"""Every table that labkit hands out says what its numbers are counted in: found by reading the code, then called."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import labkit
from labkit.domain.snapshot import Snapshot
from labkit.lab import Lab
from labkit.market.data_service import DataService
from labkit.market.history_kinds import KINDS, Series
from labkit.market.lake import Lake
from labkit.market.tapes import TapeWriter, read_quotes
from labkit.research.indicators import indicators
from labkit.research.planted_markets import make_planted_market

from .conftest import small_config

PACKAGE = Path(labkit.__file__).parent
ROOMS = ("lab.py", "research/*.py", "market/*.py")
ELSEWHERE = {
    "call": "the table of a person's own function",
    "with_units": "what says the units",
    "beside_the_account": "a part of the report's page, which names the unit under each head",
}
FIRST_MS = 1_767_571_200_000
SPAN = ("2026-01-05", "2026-01-06")
IDENTIFIERS = {"update_id"}
QUOTE = b'{"e":"bookTicker","u":7,"E":%d,"T":%d,"s":"BTCUSDT","b":"1.0","B":"2","a":"1.1","A":"3"}'


def tables_in_the_code() -> set[str]:
    """`Class.member` or `function` of every public one that says it returns a DataFrame."""
    found = set()
    for path in (path for pattern in ROOMS for path in PACKAGE.glob(pattern)):
        tree = ast.parse(path.read_text())
        owners = {f"{node.name}.": node.body for node in tree.body if isinstance(node, ast.ClassDef)}
        for owner, body in {"": tree.body, **owners}.items():
            found |= {f"{owner}{node.name}" for node in body if _hands_out_a_table(node) and owner[:1] != "_"}
    return found - set(ELSEWHERE)


def _hands_out_a_table(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.returns is not None
        and ast.unparse(node.returns) == "pd.DataFrame"
        and not node.name.startswith("_")
    )


class Remembered(Lab):
    """A lab that has ended and still shows how it stood last."""

    last: Snapshot

    def snapshot(self) -> Snapshot:
        return self.last


@pytest.fixture(scope="module")
def lab(lived: tuple[Path, Snapshot]) -> Lab:
    folder, last = lived
    lab = Remembered(small_config(data_dir=str(folder)))
    lab.last = last
    return lab


def _value(kind: str, row: int) -> object:
    return {"time": FIRST_MS + row * 60_000, "count": row + 1, "flag": True}.get(kind, 1.5)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two rows of every kind of history."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for kind in KINDS.values():
        table = {column.name: [_value(column.kind, row) for row in range(2)] for column in kind.columns}
        lake.add(Series(kind.name, "BTCUSDT", "1m" if kind.has_interval else ""), pa.table(table), "rest")
    return lake


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tape") / "quotes.raw"
    with TapeWriter(path) as writer:
        writer.write(
            FIRST_MS * 1_000_000, b'{"stream":"btcusdt@bookTicker","data":' + QUOTE % (FIRST_MS, FIRST_MS) + b"}"
        )
    return path


@pytest.fixture(scope="module")
def tables(
    lab: Lab, lake: Lake, tape: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Callable[[], pd.DataFrame]]]:
    """How each of them is had."""
    service = DataService(lake=lake)
    candles = partial(service.klines, "BTCUSDT", "1m", *SPAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_DATA_DIR", str(tmp_path_factory.mktemp("counted")))
        market = make_planted_market("momentum", 5, days=20, symbols=2, b=0.05)
        common: dict[str, Any] = {"data": market, "progress": False}
        run = labkit.backtest(**common)
        points = labkit.sweep({"cost_margin": [0.0, 0.5]}, workers=0, **common)
        walk = labkit.walk_forward(grid={"cost_margin": [0.0]}, train_days=8, test_days=6, workers=0, **common)
        yield {
            "Lab.prices": lab.prices,
            "Lab.positions": lambda: lab.positions(at=lab.trades()["opened"].iloc[-1] + pd.Timedelta(seconds=2)),
            "Lab.virtual_positions": lab.virtual_positions,
            "Lab.trades": lab.trades,
            # A lab's candles are what its data service hands out.
            "Lab.candles": lambda: asyncio.run(service.frame("BTCUSDT", "1m", *SPAN)),
            "Lab.decisions": lab.decisions,
            "Lab.decision_history": lab.decision_history,
            "DataService.klines": candles,
            "DataService.mark_klines": lambda: service.mark_klines("BTCUSDT", "1m", *SPAN),
            "DataService.index_klines": lambda: service.index_klines("BTCUSDT", "1m", *SPAN),
            "DataService.funding": lambda: service.funding("BTCUSDT", *SPAN),
            "DataService.agg_trades": lambda: service.agg_trades("BTCUSDT", *SPAN),
            "DataService.metrics": lambda: service.metrics("BTCUSDT", *SPAN),
            "DataService.open_interest": lambda: service.open_interest("BTCUSDT", *SPAN),
            "DataService.frame": lambda: asyncio.run(service.frame("BTCUSDT", "1m", *SPAN)),
            "Lake.frame": lambda: lake.frame(Series("klines", "BTCUSDT", "1m"), 0, 1 << 50),
            "read_quotes": lambda: read_quotes(tape),
            "indicators": lambda: indicators(candles(), "SMA(2)", "MACD(12,26,9)"),
            "BacktestResult.trades": lambda: run.trades,
            "BacktestResult.daily": lambda: run.daily,
            "BacktestResult.decisions": lambda: run.decisions,
            "BacktestResult.expert_weights": lambda: run.expert_weights,
            "BacktestResult.calibration": lambda: run.calibration,
            "BacktestResult.comparison": lambda: run.comparison,
            "SweepResult.frame": lambda: points.frame,
            "WalkForwardResult.windows": lambda: walk.windows,
        }


def without_unit(frame: pd.DataFrame) -> list[str]:
    """Columns of numbers that nobody says anything about."""
    units = frame.attrs.get("units", {})
    return [
        name
        for name, values in frame.items()
        if ((pd.api.types.is_numeric_dtype(values) and values.dtype != bool) or _is_exact(values))
        and not units.get(name)
        and name not in IDENTIFIERS
    ]  # fmt: skip


def _is_exact(values: pd.Series) -> bool:
    return any(isinstance(value, Decimal) for value in values)


def test_the_tables_looked_at_are_those_in_the_code(tables: dict[str, Callable[[], pd.DataFrame]]) -> None:
    assert set(tables) == tables_in_the_code()


def test_every_number_in_every_table_has_its_unit(tables: dict[str, Callable[[], pd.DataFrame]]) -> None:
    assert {name: missing for name, table in tables.items() if (missing := without_unit(table()))} == {}


def test_the_tables_looked_at_have_rows(tables: dict[str, Callable[[], pd.DataFrame]]) -> None:
    """A column of nothing would not show whether it holds numbers."""
    assert {name for name, table in tables.items() if table().empty} == set()


def test_a_number_without_a_unit_is_found() -> None:
    frame = pd.DataFrame({"price": [1.0], "exact": [Decimal(1)], "word": ["a"], "known": [2.0]})
    frame.attrs["units"] = {"known": "USDT"}
    assert without_unit(frame) == ["price", "exact"]
