"""The report's pages as a person sees them: narrow and wide, by day and by night, on the screen and on paper."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import labkit
from labkit.config import ReportConfig
from labkit.report.daily_reporter import DailyReporter
from tests.lab.conftest import SMALL

pytestmark = pytest.mark.browser

ARTIFACTS = Path(__file__).resolve().parents[2] / ".artifacts"
DAY = "2026-01-05"
WHITE, DARK_PAPER = (255, 255, 255), (23, 28, 33)
A4_WIDTH = 703
"""Pixels between the margins of a printed page."""

OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a rehearsal, made by the real notebook in a process of its own."""
    folder = tmp_path_factory.mktemp("reports")
    ledger = labkit.rehearse(minutes=90, folder=folder / "ledger", **SMALL)
    return DailyReporter(ledger, folder / "reports", ReportConfig()).write_now(DAY)


@pytest.fixture
def open_page(chromium: Any, written: Path) -> Iterator[OpenPage]:
    contexts = []

    def opened(width: int, scheme: str = "light", name: str = f"{DAY}.html") -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.goto((written.parent / name).as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()


def photograph(page: Any, name: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=str(ARTIFACTS / f"{name}.png"), full_page=True)


def ground_of_the_first_picture(page: Any) -> tuple[int, ...]:
    """The colour at the corner of the equity chart, where nothing is drawn."""
    with Image.open(io.BytesIO(page.locator(".output_png img").first.screenshot())) as picture:
        return tuple(picture.convert("RGB").getpixel((2, 2)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1380, 700])
@pytest.mark.parametrize("name", [f"{DAY}.html", "index.html"])
def test_no_page_has_to_be_pushed_sideways(open_page: OpenPage, width: int, scheme: str, name: str) -> None:
    page = open_page(width, scheme, name)
    photograph(page, f"report-{name.removesuffix('.html')}-{width}-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_on_a_wide_screen_every_table_is_seen_whole(open_page: OpenPage) -> None:
    hidden = "[...document.querySelectorAll('.labkit-scroll')].map(e => e.scrollWidth - e.clientWidth)"
    page = open_page(1380)
    assert max(page.evaluate(hidden)) <= 0
    page.set_viewport_size({"width": 500, "height": 900})
    assert max(page.evaluate(hidden)) > 0, "on a narrow one some scroll, or this test shows nothing"


@pytest.mark.parametrize(("scheme", "paper"), [("light", WHITE), ("dark", DARK_PAPER)])
def test_pictures_stand_on_the_papers_own_colour(open_page: OpenPage, scheme: str, paper: tuple[int, ...]) -> None:
    ground = ground_of_the_first_picture(open_page(1380, scheme))
    assert max(abs(seen - wanted) for seen, wanted in zip(ground, paper, strict=True)) <= 2


def test_printed_at_night_the_page_is_white(open_page: OpenPage) -> None:
    page = open_page(A4_WIDTH, "dark")
    assert ground_of_the_first_picture(page) != WHITE
    page.emulate_media(media="print", color_scheme="dark")
    assert ground_of_the_first_picture(page) == WHITE
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_nothing_is_cut_off_in_print(open_page: OpenPage) -> None:
    page = open_page(A4_WIDTH)
    reach = "Math.max(...[...document.querySelectorAll('td, th, img')].map(e => e.getBoundingClientRect().right))"
    assert page.evaluate(reach) > A4_WIDTH, "on the screen the widest table scrolls, or this test shows nothing"
    page.emulate_media(media="print")
    assert page.evaluate(reach) <= A4_WIDTH
    assert page.pdf(format="A4", print_background=True).startswith(b"%PDF")


def test_the_links_above_lead_to_their_sections(open_page: OpenPage) -> None:
    page = open_page(1380)
    page.get_by_role("link", name="Decisions", exact=True).click()
    top = page.get_by_role("heading", name="Decisions", exact=True).evaluate("e => e.getBoundingClientRect().top")
    height_of_the_bar = page.locator("nav").evaluate("e => e.getBoundingClientRect().bottom")
    assert height_of_the_bar <= top + 20 < 200


def test_index_and_day_lead_to_each_other(open_page: OpenPage) -> None:
    page = open_page(1380, name="index.html")
    page.get_by_role("link", name=DAY).first.click()
    assert page.title().startswith(f"labkit · {DAY}")
    page.get_by_role("link", name="All days").click()
    assert page.title() == "labkit · daily reports"
