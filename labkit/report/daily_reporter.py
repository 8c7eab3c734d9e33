"""DailyReporter: writes the report of one UTC day, in a process of its own, and keeps the index of all days.

A report either appears whole (`2026-01-05.html`, `2026-01-05.ipynb`, and a line in `index.html`) or not at all; a
failure is `ReportFailed` and leaves `2026-01-05.log` behind. Writing a day again replaces it. The process has its own
session, so that interrupting a notebook does not end it. Time-outs are wall seconds.

Called by the lab when a day is due (see `labkit.report.days.days_due`), by `lab.report()` and by `labkit report`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from html import unescape
from pathlib import Path

import msgspec

from labkit.config import ReportConfig
from labkit.domain.clock import utc_day
from labkit.errors import ConfigError, LedgerError, ReportFailed
from labkit.report.days import check_day, days_due
from labkit.report.headline import Figures
from labkit.report.index import index_page
from labkit.report.notebook_run import CELLS_SUFFIX, FIGURES_META
from labkit.report.progress import Progress, cells_done
from labkit.store.journal import Journal

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "90_daily_report.ipynb"
INDEX = "index.html"
HEAD_CHARACTERS = 4_000
LOOK_SECONDS = 0.2
"""How often the process is asked how far it is."""


class DailyReporter:
    """Writes reports of `ledger_path` into `reports_dir`.

    Args:
        notebook: the report to run, with the text parameters `ledger` and `day`.
    """

    def __init__(
        self, ledger_path: Path, reports_dir: Path, config: ReportConfig, *, notebook: Path = NOTEBOOK
    ) -> None:
        self._ledger = Path(ledger_path).resolve()
        self._folder = Path(reports_dir).resolve()
        self._config = config
        self._notebook = Path(notebook).resolve()

    @property
    def index(self) -> Path:
        """Where the index of all days lies."""
        return self._folder / INDEX

    def days_due(self, last_written: str | None, now_ms: int) -> list[str]:
        """The days whose report is due and not written, oldest first; none before the ledger's first record.

        See `labkit.report.days.days_due`. Reads the ledger only while no report has been written.
        """
        due = days_due(last_written, now_ms, self._config.at_utc)
        if last_written is not None or not due:
            return due
        first_day = self._first_day()
        return days_due(None, now_ms, self._config.at_utc, first_day=first_day) if first_day else []

    async def write(self, day: str, progress: Progress | None = None) -> Path:
        """Write the report of `day` (`YYYY-MM-DD`, UTC) and return the HTML page's path.

        Cancelling ends the process. Needs an event loop of life: in virtual time use `write_now`.

        Args:
            progress: told the cells that are done and the cells there are, a few times a second.

        Raises:
            ConfigError: `day` is not a day, or the notebook is not there.
            ReportFailed: the notebook raised, took too long or died; the message is the log's last line.
        """
        work = self._prepare(day)
        try:
            with _log(work).open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    *self._command(day, work), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=work,
                    env=_environment(), start_new_session=True,
                )  # fmt: skip
            code: int | None = None
            try:
                async with asyncio.timeout(self._config.timeout_seconds):
                    while code is None:
                        with contextlib.suppress(TimeoutError):
                            code = await asyncio.wait_for(process.wait(), LOOK_SECONDS)
                        _tell(work / day, progress)
            except TimeoutError:
                code = None
            finally:
                if process.returncode is None:
                    _end_session(process.pid)
                    await process.wait()
            return self._finish(day, work, code)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def write_now(self, day: str, progress: Progress | None = None) -> Path:
        """`write`, blocking: for a notebook cell, the command line and virtual time."""
        work = self._prepare(day)
        try:
            with _log(work).open("wb") as log:
                process = subprocess.Popen(
                    self._command(day, work), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=work,
                    env=_environment(), start_new_session=True,
                )  # fmt: skip
            code: int | None = None
            try:
                for _ in range(math.ceil(self._config.timeout_seconds / LOOK_SECONDS)):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        code = process.wait(LOOK_SECONDS)
                    _tell(work / day, progress)
                    if code is not None:
                        break
            finally:
                if process.returncode is None:
                    _end_session(process.pid)
                    process.wait()
            return self._finish(day, work, code)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def write_index(self) -> Path:
        """Make the index anew from the pages that are there."""
        days = [
            (path.name, figures)
            for path in sorted(self._folder.glob("????-??-??.html"), reverse=True)
            if (figures := _figures_of(path)) is not None
        ]
        temporary = self._folder / f".{INDEX}-{os.getpid()}"
        temporary.write_text(index_page(days), encoding="utf-8")
        _put(temporary, self.index)
        return self.index

    def _first_day(self) -> str | None:
        try:
            journal = Journal.open(self._ledger, read_only=True)
        except LedgerError:
            return None
        try:
            return next((utc_day(record.time_ms) for record in journal.read(until=1)), None)
        finally:
            journal.close()

    def _prepare(self, day: str) -> Path:
        check_day(day)
        if not self._notebook.is_file():
            raise ConfigError(f"the report notebook {self._notebook} is not there", field="notebook")
        self._folder.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the finished files can be renamed into place.
        return Path(tempfile.mkdtemp(prefix=f".{day}-", dir=self._folder))

    def _command(self, day: str, work: Path) -> list[str]:
        # -P: a file called html.py in the working folder must not stand in for the library's.
        return [
            sys.executable, "-P", "-m", "labkit.report.notebook_run", str(self._notebook), str(work / day),
            f"ledger={self._ledger}", f"day={day}",
        ]  # fmt: skip

    def _finish(self, day: str, work: Path, code: int | None) -> Path:
        kept_log = self._folder / f"{day}.log"
        if code != 0:
            last = _last_line(_log(work))
            os.replace(_log(work), kept_log)
            if code is None:
                seconds = self._config.timeout_seconds
                why = f"took longer than {seconds} s"
                advice = f"give it more time with report={{'timeout_seconds': {2 * seconds}}}"
            else:
                why = f"failed: {last}" if last else f"failed without a word (exit status {code})"
                advice = f"once its cause is mended, lab.report('{day}') writes it"
            raise ReportFailed(
                f"the report of {day} {why}. All it said is in {kept_log}; the ledger is unharmed: {advice}"
            )
        for suffix in (".ipynb", ".html"):
            _put(work / f"{day}{suffix}", self._folder / f"{day}{suffix}")
        kept_log.unlink(missing_ok=True)
        self.write_index()
        return self._folder / f"{day}.html"


def _tell(stem: Path, progress: Progress | None) -> None:
    if progress is not None and (told := cells_done(stem.with_suffix(CELLS_SUFFIX))):
        progress(*told)


def _log(work: Path) -> Path:
    return work / "run.log"


def _environment() -> dict[str, str]:
    """The child's environment: this interpreter's own kernel, whatever kernels the user has registered."""
    return {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def _end_session(pid: int) -> None:
    # The kernel has a session of its own and ends by itself within seconds of losing its parent.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _put(temporary: Path, target: Path) -> None:
    """Rename into place once the content is on disk."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _figures_of(page: Path) -> Figures | None:
    """The figures in a page's head; None in one that has none (a notebook of one's own) or tells of another day."""
    with page.open(encoding="utf-8", errors="replace") as file:
        head = file.read(HEAD_CHARACTERS)
    found = re.search(f'<meta name="{FIGURES_META}" content="([^"]*)">', head)
    if found is None:
        return None
    try:
        figures = msgspec.json.decode(unescape(found[1]), type=Figures)
        return figures if check_day(figures.day) == page.stem else None
    except (msgspec.DecodeError, ConfigError):
        return None
