"""A report appears whole or not at all, makes no request, and its failure is told in one line."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import nbformat
import pytest

from labkit.config import ReportConfig
from labkit.domain.clock import DAY_MS, HOUR_MS
from labkit.domain.day_history import DayHistory
from labkit.errors import ConfigError, ReportFailed
from labkit.report.daily_reporter import NOTEBOOK, DailyReporter
from labkit.report.days import save_day
from labkit.report.headline import Figures, Headline
from labkit.report.notebook_run import figures_meta, page_around
from labkit.store.journal import Journal, Record

MakeDay = Callable[..., DayHistory]
DAY = "2026-01-05"
SMUGGLED = "<script>document.title='smuggled'</script><img src=http://127.0.0.1:9/x onerror=alert(1)>"


@pytest.fixture(scope="module")
def written(make_day: MakeDay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the real report notebook, run by papermill on a saved day with an event that smuggles markup."""
    folder = tmp_path_factory.mktemp("reports")
    saved = save_day(make_day(event_text=SMUGGLED), folder / "ledger.day.json")
    return DailyReporter(saved, folder / "reports", ReportConfig()).write_now(DAY)


def write_notebook(path: Path, code: str, *, parameters: str = 'ledger = ""\nday = ""') -> Path:
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(code)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def reporter_of(tmp_path: Path, code: str, *, timeout_seconds: int = 120, **rest: str) -> DailyReporter:
    notebook = write_notebook(tmp_path / "own.ipynb", code, **rest)
    config = ReportConfig(timeout_seconds=timeout_seconds)
    return DailyReporter(tmp_path / "ledger", tmp_path / "reports", config, notebook=notebook)


def test_the_report_is_one_page_one_notebook_and_an_index(written: Path) -> None:
    assert sorted(path.name for path in written.parent.iterdir()) == [f"{DAY}.html", f"{DAY}.ipynb", "index.html"]


def test_inputs_and_parameters_are_hidden_on_the_page(written: Path) -> None:
    page = written.read_text()
    assert "load_day(" not in page
    assert "ledger.day.json" not in page
    assert "Where the money came from" in page


def test_the_page_holds_no_script_and_names_nothing_to_fetch(written: Path) -> None:
    page = written.read_text()
    assert "<script" not in page
    assert re.findall(r"""<[a-z][^<>]*(?:src|href)=["']?(?:https?:)?//""", page) == []
    assert "Content-Security-Policy" in page


def test_every_picture_is_described_in_words(written: Path) -> None:
    pictures = re.findall(r"<img[^>]*?>", written.read_text(), flags=re.DOTALL)
    assert len(pictures) == 9
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures)


def test_the_index_lists_the_day_with_the_figures_of_its_page(written: Path, make_day: MakeDay) -> None:
    index = (written.parent / "index.html").read_text()
    result = Headline(make_day()).figures().result
    assert f"<a href='{DAY}.html'>{DAY}</a>" in index
    assert f"{abs(float(result)):,.2f}" in index


@pytest.mark.browser
def test_opened_without_a_network_the_page_asks_for_nothing_and_runs_nothing(written: Path, chromium: Any) -> None:
    requests: list[str] = []
    complaints: list[str] = []
    context = chromium.new_context(offline=True)
    page = context.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    for path in (written, written.parent / "index.html"):
        page.goto(path.as_uri())
        assert page.title().startswith("labkit · ")
    page.goto(written.as_uri())
    drawn = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    width = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    context.close()
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
    assert len(drawn) == 9
    assert min(drawn) > 500
    assert width <= 0


async def test_a_raising_notebook_is_report_failed_with_its_last_word_and_leaves_no_page(tmp_path: Path) -> None:
    reporter = reporter_of(tmp_path, "raise ValueError('the moon is full')")
    with pytest.raises(ReportFailed, match="ValueError: the moon is full"):
        await reporter.write(DAY)
    assert [path.name for path in (tmp_path / "reports").iterdir()] == [f"{DAY}.log"]


def test_a_parameter_the_notebook_does_not_know_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReportFailed, match=r"own\.ipynb has no parameter 'day'; it has ledger"):
        reporter_of(tmp_path, "1", parameters='ledger = ""').write_now(DAY)


def test_a_dead_kernel_is_report_failed(tmp_path: Path) -> None:
    with pytest.raises(ReportFailed, match="DeadKernelError"):
        reporter_of(tmp_path, "import os; os._exit(3)").write_now(DAY)


async def test_a_report_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    reporter = reporter_of(tmp_path, "import time; time.sleep(600)", timeout_seconds=1)
    with pytest.raises(ReportFailed, match="took longer than 1 s"):
        await reporter.write(DAY)


async def test_cancelling_ends_the_process_and_tidies_up(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    writing = asyncio.create_task(reporter_of(tmp_path, code).write(DAY))
    while not (pid_file.exists() and pid_file.read_text()):
        assert not writing.done()
        await asyncio.sleep(0.05)
    kernel = int(pid_file.read_text())
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert list((tmp_path / "reports").iterdir()) == []
    async with asyncio.timeout(30):
        while is_alive(kernel):
            await asyncio.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet waited for does not."""
    try:
        os.kill(pid, 0)
        return " Z " not in Path(f"/proc/{pid}/stat").read_text() if Path("/proc").exists() else True
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_day_that_is_no_date_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="YYYY-MM-DD"):
        reporter_of(tmp_path, "1").write_now("../../etc/passwd")
    assert not (tmp_path / "reports").exists()


def test_a_missing_notebook_is_named(tmp_path: Path) -> None:
    reporter = DailyReporter(tmp_path, tmp_path, ReportConfig(), notebook=tmp_path / "gone.ipynb")
    with pytest.raises(ConfigError, match=r"gone\.ipynb is not there"):
        reporter.write_now(DAY)


def test_the_report_notebook_is_where_the_package_looks_for_it() -> None:
    assert NOTEBOOK.is_file()


def test_no_day_before_the_ledgers_first_record_is_due(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    reporter = DailyReporter(ledger, tmp_path, ReportConfig(at_utc="01:00"))
    start_ms = 1_767_571_200_000
    assert reporter.days_due(None, start_ms + 2 * DAY_MS) == []
    journal = Journal.open(ledger)
    journal.append([Record(start_ms, "Kind", "key", b"")])
    journal.close()
    assert reporter.days_due(None, start_ms + HOUR_MS) == []
    assert reporter.days_due(None, start_ms + 2 * DAY_MS + HOUR_MS) == ["2026-01-05", "2026-01-06"]
    assert reporter.days_due("2026-01-05", start_ms + 2 * DAY_MS + HOUR_MS) == ["2026-01-06"]


def test_a_page_that_is_not_a_report_is_left_out_of_the_index(tmp_path: Path) -> None:
    (tmp_path / "2026-01-04.html").write_text("<html><body>something else</body></html>")
    (tmp_path / "2026-01-03.html").write_text('<meta name="labkit-figures" content="{broken">')
    page = DailyReporter(tmp_path, tmp_path, ReportConfig()).write_index().read_text()
    assert "No report has been written yet." in page


def test_a_page_that_tells_of_another_day_is_left_out_of_the_index(make_day: MakeDay, tmp_path: Path) -> None:
    figures: Figures = Headline(make_day()).figures()
    for name, day in ((DAY, DAY), ("2026-01-06", DAY), ("2026-01-07", "<b>x</b>")):
        meta = figures_meta(msgspec.structs.replace(figures, day=day))
        (tmp_path / f"{name}.html").write_text(page_around("a page", "", meta))
    page = DailyReporter(tmp_path, tmp_path, ReportConfig()).write_index().read_text()
    assert re.findall(r"href='(.*?)\.html'", page) == [DAY]
    assert "<b>x</b>" not in page
