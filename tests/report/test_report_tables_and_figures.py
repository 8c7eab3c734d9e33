"""What a person reads: rounded, with units, escaped, and there on the emptiest of days."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import pandas as pd
import pytest

from labkit.domain.day_history import DayHistory
from labkit.report import data_quality, figures, metrics, reliability, tables, virtual_positions
from labkit.report.headline import HEADLINE_MIME, Figures, Headline
from labkit.report.sheet import Sheet

MakeDay = Callable[..., DayHistory]

TABLES = [
    tables.equity_bridge, tables.pnl_by_symbol, tables.pnl_by_hour, tables.pnl_by_side, tables.pnl_by_exit_reason,
    tables.trades, tables.open_positions, tables.trade_statistics, tables.decisions_by_symbol, tables.refusals,
    tables.learning, tables.warnings, tables.events, tables.books, tables.provenance,
    virtual_positions.virtual_and_real, virtual_positions.virtual_by_decision, reliability.reliability_table,
    data_quality.feed_by_symbol, data_quality.connections, data_quality.troubles, data_quality.service,
]  # fmt: skip
FIGURES = [
    figures.equity,
    figures.pnl_by_symbol,
    figures.pnl_by_hour,
    figures.trades,
    figures.trade_charts,
    figures.decisions,
    figures.learning,
    reliability.reliability_chart,
    data_quality.outages,
]


def empty_day(make_day: MakeDay) -> DayHistory:
    return msgspec.structs.replace(
        make_day(trades=0), equity=(), decisions=(), learning=(), events=(), virtual=(), virtual_closed=0
    )


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_units_name_columns_that_exist(make_day: MakeDay, table: Callable[[DayHistory], object]) -> None:
    frame = table(make_day(trades=20))
    assert set(frame.attrs["units"]) <= set(frame.columns)  # type: ignore[attr-defined]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_a_table_of_an_empty_day_still_shows_itself(make_day: MakeDay, table: Callable[[DayHistory], object]) -> None:
    sheet = Sheet(table(empty_day(make_day)), empty="nothing here")  # type: ignore[arg-type]
    assert sheet._repr_html_()
    assert repr(sheet)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
@pytest.mark.parametrize("trades", [0, 1, 30])
def test_a_figure_shows_and_describes_itself(make_day: MakeDay, figure: Callable, trades: int) -> None:  # type: ignore[type-arg]
    chart = figure(make_day(trades=trades))
    png, metadata = chart._repr_png_()
    assert png.startswith(b"\x89PNG")
    assert metadata["alt"] == repr(chart)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
def test_a_figure_of_an_empty_day_says_that_there_is_nothing(make_day: MakeDay, figure: Callable) -> None:  # type: ignore[type-arg]
    assert figure(empty_day(make_day)).png().startswith(b"\x89PNG")


def test_the_same_day_gives_the_same_picture_byte_for_byte(make_day: MakeDay) -> None:
    assert figures.equity(make_day(trades=5)).png() == figures.equity(make_day(trades=5)).png()


def test_the_total_row_is_the_sum_of_the_exact_money(make_day: MakeDay) -> None:
    day = make_day()
    total = tables.pnl_by_symbol(day).iloc[-1]
    account = day.account_at_end
    net = account.realized_pnl - account.commissions + account.funding
    assert total["net"] == round(float(net), 2)
    assert total["trades"] == len(day.trades)


def cents(amounts: Iterable[float]) -> list[int]:
    return [round(100 * amount) for amount in amounts]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "table", [tables.pnl_by_symbol, tables.pnl_by_hour, tables.pnl_by_side, tables.pnl_by_exit_reason]
)
def test_whoever_adds_up_what_a_split_shows_gets_what_it_shows(
    make_day: MakeDay, table: Callable[[DayHistory], pd.DataFrame], seed: int
) -> None:
    history = make_day(seed=seed, trades=40)
    frame = table(history)
    for part in ("price", "slippage", "fees", "funding", "net"):
        *rows, total = cents(frame[part])
        assert sum(rows) == total
    assert [
        sum(row) for row in zip(*(cents(frame[p]) for p in ("price", "slippage", "fees", "funding")), strict=True)
    ] == cents(frame["net"])
    # And nothing is shown a whole cent beside what it is.
    exact = metrics.booked(history)
    assert frame["net"].iloc[-1] == pytest.approx(float(exact.net), abs=0.00501)
    assert frame["fees"].iloc[-1] == pytest.approx(float(exact.fees), abs=0.00999)


def test_a_figure_says_the_net_that_the_table_beside_it_shows(make_day: MakeDay) -> None:
    history = make_day(trades=40)
    shown = tables.pnl_by_symbol(history)
    for symbol, net in zip(shown["symbol"][:-1], shown["net"][:-1], strict=True):
        assert f"{symbol} {net:+,.2f}" in repr(figures.pnl_by_symbol(history))


@pytest.mark.parametrize("seed", range(6))
def test_the_steps_of_the_bridge_as_shown_lead_to_the_closing_equity_as_shown(make_day: MakeDay, seed: int) -> None:
    history = make_day(seed=seed, trades=40)
    *steps, closing = cents(tables.equity_bridge(history)["amount"])
    assert sum(steps) == closing == round(100 * metrics.equity_bridge(history).closing)


def test_rounded_one_by_one_the_parts_of_trades_would_not_add_up(make_day: MakeDay) -> None:
    # The negative control of the test above and of this: plain rounding fails where the table does not.
    history = make_day(trades=40)
    frame = tables.trades(history)
    parts = [cents(frame[name]) for name in ("price", "slippage", "fees", "funding")]
    assert [sum(row) for row in zip(*parts, strict=True)] == cents(frame["net"])
    plain = [
        (round(100 * t.realized_pnl) + round(-100 * t.commission) + round(100 * t.funding), round(100 * t.net_pnl))
        for t in history.trades
    ]
    assert any(added != net for added, net in plain)


def test_markup_in_an_event_is_only_text(make_day: MakeDay) -> None:
    html = Sheet(tables.events(make_day(event_text="<script>alert(1)</script>")))._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_units_stand_in_headings_and_losses_are_marked(make_day: MakeDay) -> None:
    html = Sheet(tables.pnl_by_symbol(make_day()), total=True)._repr_html_()
    assert "fees<small>USDT</small>" in html
    assert '<td class="number loss">−' in html
    assert '<tr class="labkit-total"><td class="words">total' in html


def test_a_long_table_tells_what_it_leaves_out(make_day: MakeDay) -> None:
    frame = tables.trades(make_day())
    assert f"The first 3 of {len(frame)} rows" in repr(Sheet(frame, rows=3))


def test_a_headline_carries_its_figures_for_the_index(make_day: MakeDay) -> None:
    bundle = Headline(make_day())._repr_mimebundle_()
    found = msgspec.convert(bundle[HEADLINE_MIME], Figures)
    assert found.day == "2026-01-05"
    assert found.books_agree


def test_a_headline_does_not_hide_that_the_books_differ(make_day: MakeDay) -> None:
    day = make_day()
    headline = Headline(msgspec.structs.replace(day, fills=day.fills[1:], slippage=day.slippage[1:]))
    assert not headline.figures().books_agree
    assert "THE BOOKS DO NOT AGREE" in repr(headline)


def test_a_day_whose_record_ends_early_says_so(make_day: MakeDay) -> None:
    assert "by 03:00 UTC, where the record ends" in repr(Headline(make_day(minutes=180)))
    assert Headline(make_day()).figures().complete


def test_the_disclosure_stands_in_the_headline(make_day: MakeDay) -> None:
    day = make_day(trades=0)
    assert day.disclosure in Headline(day)._repr_mimebundle_()["text/html"]


def test_of_many_trades_the_best_and_the_worst_have_a_chart_of_their_own(make_day: MakeDay) -> None:
    history = make_day(trades=60)
    nets = sorted(trade.net_pnl for trade in history.trades)
    told = repr(figures.trade_charts(history))
    assert told.count(" (") == 6
    assert all(f"{net:+,.2f}" in told for net in (*nets[:3], *nets[-3:]))
    assert f"Of {len(nets)} trades the 6 that earned and lost most." in told


def test_the_price_a_small_chart_draws_is_that_of_its_trade_and_no_later(make_day: MakeDay) -> None:
    history = make_day(trades=4, still_open=False)
    first = history.trades[0]
    chart = figures.trade_charts(history)
    line = chart.axes[0].lines[0]
    days = line.get_xdata()
    span = first.closed_ms - first.opened_ms
    assert max(days) <= (first.closed_ms + max(5 * 60_000, span // 2)) / 86_400_000
    known = {float(point.price) for point in history.prices[first.symbol]}
    assert set(line.get_ydata()) <= known
