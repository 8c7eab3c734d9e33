"""The index accounts for every day between the first and the last, and what it says of all days is right."""

from __future__ import annotations

import math
import re
from datetime import date, timedelta
from itertools import pairwise

import msgspec
import pytest

from labkit.report.headline import Figures
from labkit.report.index import index_page
from labkit.report.track_record import FEWEST_DAYS, gaps, track_record

RETURNS = (0.01, -0.02, 0.005, 0.0, 0.03, -0.01)


def days(
    returns: tuple[float, ...] = RETURNS, *, without: tuple[int, ...] = (), partial: tuple[int, ...] = ()
) -> list[Figures]:
    """Days from 2026-01-05 on that return so much of 10,000 USDT and what became of it; some leave no report."""
    equity, made = 10_000.0, []
    for number, day_return in enumerate(returns):
        closing = round(equity * (1 + day_return), 8)
        if number not in without:
            made.append(
                Figures(
                    day=(date(2026, 1, 5) + timedelta(days=number)).isoformat(), market="simulated",
                    complete=number not in partial, result=f"{closing - equity:.8f}", day_return=day_return,
                    closing_equity=f"{closing:.8f}", max_drawdown=0.004, trades=3, win_rate=0.5, profit_factor=1.0,
                    fees="-1.5", funding="0.25", decisions=10, refused=7, books_agree=True,
                )
            )  # fmt: skip
        equity = closing
    return made


def page_of(made: list[Figures]) -> str:
    return index_page([(f"{figures.day}.html", figures) for figures in reversed(made)])


def test_the_index_is_newest_first() -> None:
    listed = re.findall(r"<td><a href='(.*?)\.html'>", page_of(days()))
    assert listed == [f"2026-01-{day:02d}" for day in range(10, 4, -1)]


def test_results_and_flows_of_all_days_are_added_up() -> None:
    record = track_record(days())
    assert float(record.result) == pytest.approx(float(record.closing_equity) - 10_000, abs=1e-6)
    assert (record.days, record.days_won, record.trades) == (6, 3, 18)
    assert (str(record.fees), str(record.funding)) == ("-9.0", "1.50")


def test_returns_are_compounded() -> None:
    assert track_record(days((0.1, -0.1))).total_return == pytest.approx(-0.01)


def test_the_deepest_fall_spans_days() -> None:
    fall = track_record(days((0.01, -0.02, -0.03, 0.01))).max_drawdown
    assert fall == pytest.approx(1 - 0.98 * 0.97)


def test_a_fall_within_one_day_can_be_the_deepest() -> None:
    assert track_record(days((0.01, -0.001, 0.01))).max_drawdown == 0.004


def test_volatility_and_sharpe_ratio_are_of_a_365_day_year() -> None:
    record = track_record(days())
    mean = sum(RETURNS) / 6
    spread = math.sqrt(sum((value - mean) ** 2 for value in RETURNS) / 5)
    assert record.volatility == pytest.approx(spread * math.sqrt(365))
    assert record.sharpe_ratio == pytest.approx(mean / spread * math.sqrt(365))
    assert record.sharpe_error == pytest.approx(math.sqrt((1 + (mean / spread) ** 2 / 2) / 6 * 365))


def test_a_deposit_is_no_gain() -> None:
    before, after = days((0.0, 0.0))
    paid_in = [before, msgspec.structs.replace(after, closing_equity="15000")]
    assert (track_record(paid_in).result, track_record(paid_in).total_return) == (0, 0.0)


def test_parts_of_days_are_left_out_of_the_spread_of_daily_returns() -> None:
    whole, cut = track_record(days(RETURNS[:5])), track_record(days(partial=(5,)))
    assert cut.volatility == whole.volatility
    assert cut.total_return != whole.total_return


def test_of_a_few_days_no_spread_is_told() -> None:
    record = track_record(days(RETURNS[: FEWEST_DAYS - 1]))
    assert (record.volatility, record.sharpe_ratio, record.sharpe_error) == (None, None, None)


def test_days_without_a_report_are_named() -> None:
    made = days(without=(1, 3, 4))
    assert gaps([figures.day for figures in made]) == [("2026-01-06", "2026-01-06"), ("2026-01-08", "2026-01-09")]
    rows = re.findall(r"<tr.*?<td[^>]*>(?:<a[^>]*>)?(.*?)<", page_of(made))
    told = ["2026-01-10", "2026-01-08 to 2026-01-09 · no report", "2026-01-07", "2026-01-06 · no report", "2026-01-05"]
    assert rows == told
    assert "3 days, 3 without a report" in page_of(made)


def test_the_line_of_equity_reaches_every_day_and_is_dashed_where_days_are_missing() -> None:
    page = page_of(days(without=(2,)))
    assert re.findall(r'<a href="(.*?)\.html"><circle', page) == [figures.day for figures in days(without=(2,))]
    assert re.findall(r'<path class="(line[^"]*)"', page) == ["line", "line", "line gap", "line", "line"]


def test_the_line_is_true_to_time_and_money() -> None:
    page = page_of(days((0.01, 0.01, 0.01), without=(1,)))
    points = [(float(x), float(y)) for x, y in re.findall(r'cx="(.*?)" cy="(.*?)"', page)]
    (first_x, first_y), (last_x, last_y) = points
    assert last_x - first_x == pytest.approx(2 * (first_x - 8), abs=0.2)
    assert (first_y - last_y) / (142 - first_y) == pytest.approx(203.01 / 100, rel=0.01)


@pytest.mark.parametrize("count", [1, 2, 6])
def test_an_index_of_any_length_shows_every_day_once(count: int) -> None:
    page = page_of(days(RETURNS[:count]))
    assert [page.count(f"<td><a href='{figures.day}.html'>") for figures in days(RETURNS[:count])] == [1] * count


def test_parts_of_days_and_books_that_differ_are_marked() -> None:
    marks = re.compile("part of a day|books differ")
    assert marks.findall(page_of(days())) == []
    odd = msgspec.structs.replace(days(partial=(0,))[0], books_agree=False)
    assert marks.findall(page_of([odd])) == ["part of a day", "books differ"]


def test_days_that_all_stand_still_divide_nothing_by_nothing() -> None:
    page = page_of(days((0.0,) * 6))
    assert "nan" not in page.lower()
    heights = re.findall(r'cy="(.*?)"', page)
    assert all(left == right for left, right in pairwise(heights))
