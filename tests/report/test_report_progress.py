"""Who waits for a report sees how many of its cells are done; who does not look is told nothing."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from labkit.config import ReportConfig
from labkit.errors import ReportFailed
from labkit.report.daily_reporter import DailyReporter
from labkit.report.progress import CellsDone, cells_done

DAY = "2026-01-05"
SHOW = "from labkit.report.progress import cells_bar\nwith cells_bar('2026-01-05') as show: show(2, 8)"


def reporter_of(tmp_path: Path, *codes: str) -> DailyReporter:
    parameters = nbformat.v4.new_code_cell('ledger = ""\nday = ""', metadata={"tags": ["parameters"]})
    cells = [nbformat.v4.new_markdown_cell("words"), parameters, *map(nbformat.v4.new_code_cell, codes)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "own.ipynb")
    return DailyReporter(tmp_path / "l", tmp_path / "r", ReportConfig(), notebook=tmp_path / "own.ipynb")


def test_waiting_in_a_cell_one_sees_every_cell_done(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    reporter_of(tmp_path, "1", "", "2").write_now(DAY, lambda *cells: told.append(cells))
    assert told == sorted(told)
    # The parameters, the cell papermill sets them with, and two that hold code.
    assert told[-1] == (4, 4)


async def test_waiting_in_a_loop_one_sees_a_slow_cell_begin(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    reporter = reporter_of(tmp_path, f"while not __import__('os').path.exists({str(tmp_path / 'go')!r}): pass", "2")

    def go_on(done: int, cells: int) -> None:
        told.append((done, cells))
        if done == 2:
            (tmp_path / "go").touch()

    await reporter.write(DAY, go_on)
    assert (2, 4) in told
    assert told[-1] == (4, 4)


def test_a_cell_that_raises_is_the_last_one_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with pytest.raises(ReportFailed):
        reporter_of(tmp_path, "1 / 0", "2", "3").write_now(DAY, lambda *cells: told.append(cells))
    assert told[-1] in ((2, 5), (3, 5))


def test_a_failure_says_why_where_its_log_is_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ReportFailed) as failed:
        reporter_of(tmp_path, "def deep(): return 1 / 0\ndeep()").write_now(DAY)
    log = tmp_path / "r" / f"{DAY}.log"
    for words in (r"cell 3: ZeroDivisionError: division by zero", str(log), f"lab.report('{DAY}') writes it"):
        assert words in str(failed.value)
    assert "deep()" in log.read_text()


def test_progress_that_is_not_written_yet_is_none_and_never_half_read(tmp_path: Path) -> None:
    path = tmp_path / "day.cells"
    assert cells_done(path) is None
    path.write_text("1")
    assert cells_done(path) is None
    done = CellsDone(path, 12)
    done(cell={}, cell_index=0)
    assert cells_done(path) == (1, 12)


def test_a_terminal_shows_a_bar() -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 100))
    subprocess.run([sys.executable, "-c", SHOW], stderr=theirs, check=True)
    os.close(theirs)
    assert "2/8" in os.read(ours, 10_000).decode()
    os.close(ours)


def test_a_pipe_shows_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_a_notebook_shows_text_that_lives_on_when_it_is_saved() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SHOW)])
    NotebookClient(notebook, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    assert {output.output_type for output in outputs} == {"stream"}
    assert "2/8" in "".join(output.text for output in outputs)
