"""The market of the widget benchmark, inside the kernel: many symbols, quoted as often as asked, three tables of it.

Every tick is a quote written where a lab keeps its latest ones (what the way over a socket costs is measured by
benchmarks/feed.py). A quote's bid tells when it was made: the page can read off any table how old is what it shows.
"""

from __future__ import annotations

import gc
import html
import threading
import time
from decimal import Decimal
from typing import Any

import msgspec

from labkit.domain.snapshot import Snapshot, SymbolRow
from labkit.edge.clocks import SystemClock

DAY_MS = 100_000_000
"""The bid is the millisecond within so many, in hundredths."""
BURST_SECONDS = 0.005
COLUMNS = ("symbol", "bid", "ask", "spread", "mark", "change", "funding", "age")


class TickingLab:
    """What a monitor needs of a lab, on a thread that quotes its symbols in turn, `ticks` a second in all."""

    def __init__(self, still: Snapshot, symbols: int, ticks: int) -> None:
        self._still = still
        self._clock = SystemClock()
        self._names = [f"COIN{number:03}USDT" for number in range(symbols)]
        self._quoted_ms = dict.fromkeys(self._names, self._clock.now_ms())
        self._ticks = ticks
        self.made = 0
        threading.Thread(target=self._quote, daemon=True).start()

    def _quote(self) -> None:
        at, started = 0, time.monotonic()
        while True:
            time.sleep(BURST_SECONDS)
            due = int((time.monotonic() - started) * self._ticks)
            now_ms = self._clock.now_ms()
            # After a stall no symbol is quoted more than once at the same moment.
            for _ in range(min(due - self.made, max(len(self._names), int(self._ticks * BURST_SECONDS * 4)))):
                self._quoted_ms[self._names[at]] = now_ms
                at = (at + 1) % len(self._names)
            self.made = due

    def rows(self) -> list[SymbolRow]:
        now_ms = self._clock.now_ms()
        return [
            SymbolRow(
                symbol=name,
                bid_price=(bid := Decimal(made_ms % DAY_MS).scaleb(-2)),
                ask_price=bid + 1,
                mark_price=bid,
                funding_rate=Decimal("0.0001"),
                next_funding_time_ms=now_ms + 3_600_000,
                change_24h=0.01,
                liquidity_score=0.5,
                age_ms=now_ms - made_ms,
            )
            for name, made_ms in self._quoted_ms.items()
        ]

    def snapshot(self) -> Snapshot:
        now_ms = self._clock.now_ms()
        return msgspec.structs.replace(self._still, time_ms=now_ms, speed=1.0, symbols=tuple(self.rows()), positions=())


def cells_of(lab: TickingLab) -> list[tuple[str, ...]]:
    """The same table for the two foreign widgets."""
    return [
        (
            row.symbol,
            f"{row.bid_price:.2f}",
            f"{row.ask_price:.2f}",
            "0.8",
            f"{row.mark_price:.2f}",
            "1.00",
            "0.01",
            "0",
        )
        for row in lab.rows()
    ]


def plain_html(lab: TickingLab) -> Any:
    """An ipywidgets HTML that gets the whole table five times a second."""
    import ipywidgets

    widget = ipywidgets.HTML()

    def repeat() -> None:
        while widget.comm is not None:
            rows = "".join(
                f'<tr data-symbol="{cells[0]}">'
                + "".join(
                    f'<td data-cell="{name}">{html.escape(cell)}</td>'
                    for name, cell in zip(COLUMNS, cells, strict=True)
                )
                + "</tr>"
                for cells in cells_of(lab)
            )
            widget.value = f"<table>{rows}</table>"
            time.sleep(0.2)

    threading.Thread(target=repeat, daemon=True).start()
    return widget


def data_grid(lab: TickingLab) -> Any:
    """An ipydatagrid whose data is replaced five times a second. Raises ImportError where it is not installed."""
    import ipydatagrid
    import pandas as pd

    def frame() -> pd.DataFrame:
        return pd.DataFrame(cells_of(lab), columns=COLUMNS).set_index("symbol")

    grid = ipydatagrid.DataGrid(frame())

    def repeat() -> None:
        while grid.comm is not None:
            grid.data = frame()
            time.sleep(0.2)

    threading.Thread(target=repeat, daemon=True).start()
    return grid


def objects_and_threads() -> tuple[int, int]:
    """How many objects the kernel holds after a collection, and how many threads run."""
    gc.collect()
    return len(gc.get_objects()), threading.active_count()


def memory_mb() -> float:
    import psutil

    return float(psutil.Process().memory_info().rss / (1 << 20))
