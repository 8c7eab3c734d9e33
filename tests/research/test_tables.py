"""Tables of figures: aligned, escaped, with true signs, and no number made of nothing."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from labkit.research.tables import frame_html, html_table, number


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("{:+.2%}", -0.1234, "−12.34%"),
        ("{:+.2%}", 0.1234, "+12.34%"),
        ("{:+.2%}", -0.000001, "0.00%"),
        ("{:.2f}", -0.001, "0.00"),
        ("{:,.0f}", 12_345.0, "12,345"),
        ("{:.2f}", float("nan"), "–"),
    ],
)
def test_a_number_is_shown_as_a_person_writes_it(text: str, value: float, shown: str) -> None:
    assert number(text, value) == shown


def test_no_text_becomes_markup() -> None:
    html = html_table(["", "<a>"], [["<b>", "<i>"]], caption="<u>")
    assert not re.search("<(a|b|i|u)>", html)


def test_figures_have_their_format_and_settings_stand_as_given() -> None:
    html = frame_html(pd.DataFrame({"cost_margin": [0.25], "horizon_minutes": [60], "return": [-0.5]}))
    assert re.findall(r">([^<>]+)</t[hd]>", html) == [
        "cost_margin",
        "horizon_minutes",
        "return",
        "0",
        "0.25",
        "60",
        "−50.00%",
    ]


def test_the_marked_row_alone_stands_out() -> None:
    html = html_table([""], [["one"], ["two"]], marked=1)
    assert [re.search(r"font-weight:(\d+)\">" + name, html)[1] for name in ("one", "two")] == ["400", "600"]  # type: ignore[index]
