"""A chart is a small picture whose paper is white and whose inks are the ones it was drawn with."""

from __future__ import annotations

import io

from PIL import Image

from labkit.report.chart import BLUE, CSS_DOTS_PER_INCH, DOTS_PER_INCH, Chart


def picture(chart: Chart) -> Image.Image:
    return Image.open(io.BytesIO(chart.png())).convert("RGB")


def bars() -> Chart:
    chart = Chart(2.0, "Two bars.")
    chart.subplots().bar([0, 1], [1, 2], color=BLUE)
    return chart


def test_the_paper_is_white_to_the_last_step() -> None:
    assert picture(bars()).getpixel((0, 0)) == (255, 255, 255)


def test_inks_keep_their_colour() -> None:
    wanted = tuple(int(BLUE[place : place + 2], 16) for place in (1, 3, 5))
    drawn = picture(bars())
    middle = drawn.getpixel((drawn.width // 4, drawn.height * 3 // 4))
    assert isinstance(middle, tuple)
    assert max(abs(seen - want) for seen, want in zip(middle, wanted, strict=True)) <= 2


def test_two_dots_stand_for_each_of_the_page() -> None:
    data, shown = bars()._repr_png_()
    assert Image.open(io.BytesIO(data)).width == 2 * shown["width"]
    assert DOTS_PER_INCH == 2 * CSS_DOTS_PER_INCH


def test_a_palette_makes_the_picture_smaller() -> None:
    plain = io.BytesIO()
    picture(bars()).save(plain, format="png", optimize=True)
    assert len(bars().png()) < len(plain.getvalue())


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert bars().png() == bars().png()
