"""What a daily report costs, beside the plain way of making one: `papermill` and then `jupyter nbconvert`.

`python benchmarks/report.py [ROUNDS] [HOURS]` lives through two labs in virtual time, one of three hours on the usual
symbols and one of HOURS (default 24) on five, and writes the report of each in every way ROUNDS times (default 2);
the best round is told. Wall seconds, and CPU seconds of all processes, kernels included. The warm kernel
runs the same cells where everything is imported already and says what keeping one would win; its CPU time is not told,
since its process does not end.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

import labkit
from labkit.config import ReportConfig
from labkit.edge.clocks import SystemClock
from labkit.engine.history import find_day
from labkit.report.daily_reporter import NOTEBOOK, DailyReporter
from labkit.report.notebook_run import to_page

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT")
PARTS = ("start", "kernel", "cells", "page")


def cpu_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF))
    )


def with_labkit(ledger: Path, day: str, folder: Path) -> dict[str, float]:
    """Also splits the wall time by the times papermill writes into the notebook."""
    began = SystemClock().now_ms() / 1000
    page = DailyReporter(ledger, folder / "reports", ReportConfig()).write_now(day)
    ended = SystemClock().now_ms() / 1000
    notebook = nbformat.read(page.with_suffix(".ipynb"), as_version=4)
    run = [cell.metadata.papermill for cell in notebook.cells if cell.cell_type == "code"]
    moments = [
        began,
        _moment(notebook.metadata.papermill.start_time),
        _moment(run[0].start_time),
        _moment(run[-1].end_time),
        ended,
    ]
    return {part: end - start for part, (start, end) in zip(PARTS, pairwise(moments), strict=True)}


def with_papermill_and_nbconvert(ledger: Path, day: str, folder: Path) -> dict[str, float]:
    executed = folder / "plain.ipynb"
    parameters = ["-r", "ledger", str(ledger), "-r", "day", day]
    for command in (
        ["papermill", str(NOTEBOOK), str(executed), *parameters, "--no-progress-bar"],
        ["nbconvert", "--to", "html", "--no-input", str(executed)],
    ):
        subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, cwd=folder, env=os.environ)
    return {}


def with_a_warm_kernel(ledger: Path, day: str, folder: Path) -> Callable[[], dict[str, float]]:
    """A kernel that has run the report once; what it gives runs it again."""
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells[1].source = f"ledger = {str(ledger)!r}\nday = {day!r}"
    client = NotebookClient(notebook, kernel_name="python3")
    client.execute(cleanup_kc=False)

    def again() -> dict[str, float]:
        client.execute(cleanup_kc=False)
        executed = folder / "warm.ipynb"
        nbformat.write(notebook, executed)
        (folder / "warm.html").write_text(to_page(executed), encoding="utf-8")
        return {}

    return again


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def measured(work: Callable[[], dict[str, float]]) -> tuple[float, float, dict[str, float]]:
    wall, cpu = time.monotonic(), cpu_seconds()
    parts = work()
    return time.monotonic() - wall, cpu_seconds() - cpu, parts


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    hours = int(sys.argv[2]) if len(sys.argv) > 2 else 24
    with tempfile.TemporaryDirectory(prefix="labkit-benchmark-") as name:
        for title, minutes, settings in (
            ("three hours, the usual symbols", 180, {}),
            (f"{hours} hours, {len(SYMBOLS)} symbols", 60 * hours - 1, {"symbols": SYMBOLS}),
        ):
            folder = Path(name) / str(minutes)
            began = time.monotonic()
            ledger = labkit.rehearse(seed=1, minutes=minutes, folder=folder / "ledger", **settings)
            lived, day = time.monotonic() - began, find_day(ledger)
            size = ledger.stat().st_size / 1e6
            print(f"\n{title}: a ledger of {size:.1f} MB, lived in {lived:.0f} s; the report of {day}")
            warm = with_a_warm_kernel(ledger, day, folder)
            ways: dict[str, Callable[[], dict[str, float]]] = {
                "labkit": lambda: with_labkit(ledger, day, folder),  # noqa: B023
                "papermill + nbconvert": lambda: with_papermill_and_nbconvert(ledger, day, folder),  # noqa: B023
                "warm kernel": warm,
            }
            best = {way: min((measured(run) for _ in range(rounds)), key=lambda m: m[1]) for way, run in ways.items()}
            print(f"{'':22}  {'wall s':>7}  {'CPU s':>6}  {'ratio':>5}   " + "  ".join(f"{p:>6}" for p in PARTS))
            for way, (wall, cpu, parts) in best.items():
                spent = "     –      –" if way == "warm kernel" else f"{cpu:6.2f}  {cpu / best['labkit'][1]:5.2f}"
                split = "  ".join(f"{parts[part]:6.2f}" for part in parts)
                print(f"{way:22}  {wall:7.2f}  {spent}   {split}")
            page = folder / "reports" / f"{day}.html"
            print(f"the page: {page.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
