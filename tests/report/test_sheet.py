"""A table of the report lines its numbers up and says how much room it needs."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from labkit.report.notebook_run import with_sections
from labkit.report.sheet import Sheet

PRICES = pd.DataFrame({"symbol": ["BTCUSDT", "DOGEUSDT", "BTCUSDT"], "entry": [97_123.4, 0.38412, 97_000.25]})


def cells(frame: pd.DataFrame) -> list[str]:
    return re.findall(r'<td class="number[^"]*">(.*?)</td>', Sheet(frame)._repr_html_())


def test_prices_of_a_symbol_have_the_decimals_of_its_longest() -> None:
    assert cells(PRICES) == ["97,123.40", "0.38412", "97,000.25"]


def test_numbers_of_no_symbol_stay_as_long_as_they_need() -> None:
    assert cells(PRICES[["entry"]]) == ["97,123.4", "0.38412", "97,000.25"]


def test_rows_that_are_not_shown_do_not_lengthen_the_others() -> None:
    assert repr(Sheet(PRICES, rows=2)).splitlines()[1].endswith(" 97,123.4")


@pytest.mark.parametrize(
    ("value", "shown"), [(1e-7, "0.0000001"), (3.0, "3"), (float("nan"), "–"), (12_000_000, "12,000,000")]
)
def test_no_number_is_written_with_an_exponent(value: float, shown: str) -> None:
    assert cells(pd.DataFrame({"symbol": ["X"], "number": [value]})) == [shown]


def test_a_table_tells_the_style_sheet_how_long_its_lines_are() -> None:
    assert "--letters:21" in Sheet(PRICES)._repr_html_()
    longer = PRICES.assign(words=["x" * 30] * 3)
    assert "--letters:53" in Sheet(longer)._repr_html_()


def test_the_sections_of_a_page_can_be_jumped_to() -> None:
    sections, body = with_sections("<h1>a</h1><h2>Equity</h2><p>b</p>\n<h2>Fees &amp; more</h2>")
    assert sections == [("section-1", "Equity"), ("section-2", "Fees &amp; more")]
    assert re.findall(r'<h2 id="(.*?)">(.*?)</h2>', body) == sections
