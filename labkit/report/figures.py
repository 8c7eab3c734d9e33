"""Figures of one day: matplotlib figures that need no pyplot, show themselves and describe themselves in words.

Money is in the quote asset. What they are drawn with is in `labkit.report.chart`. Used by the report notebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter, MaxNLocator

from labkit.domain.clock import HOUR_MS, MINUTE_MS
from labkit.domain.day_history import DayHistory
from labkit.domain.decisions import Decision
from labkit.domain.reasons import because, exit_words
from labkit.domain.snapshot import ClosedTrade
from labkit.report import metrics
from labkit.report.chart import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    PURPLE,
    QUIET,
    SKY,
    VERMILLION,
    Chart,
    days_since_1970,
    include,
    label,
    say_nothing,
    tidy,
    time_axis,
)
from labkit.report.days import clock_text
from labkit.report.metrics import PnlSplit
from labkit.report.tables import QUOTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OTHERS = "others"
SMALL_SHARE = 2.0
"""Experts that never reach this share, in percent, are drawn together."""

SMALL_CHARTS, CHARTS_A_ROW = 6, 3
SPLIT_COLOURS = {"price": BLUE, "slippage": SKY, "fees": ORANGE, "funding": PURPLE}


def equity(history: DayHistory) -> Chart:
    """Equity at mark and wallet balance over the day; below, the fall from the highest equity so far."""
    bridge, deepest = metrics.equity_bridge(history), metrics.max_drawdown(history)
    fall = f"deepest fall {100 * deepest.fraction:.2f} % at {clock_text(deepest.trough_ms)}" if deepest else "no fall"
    chart = Chart(
        4.3,
        f"Equity from {bridge.opening + bridge.deposits:,.2f} to {bridge.closing:,.2f} {QUOTE} "
        f"over {history.day}; {fall}.",
    )
    top, bottom = chart.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    if not history.equity:
        return say_nothing(chart, "no equity was recorded on this day")
    times = [days_since_1970(point.time_ms) for point in history.equity]
    values = [float(point.equity) for point in history.equity]
    wallet = [float(point.wallet_balance) for point in history.equity]
    top.step(times, wallet, where="post", color=QUIET, linewidth=1.0, linestyle=(0, (2, 1.5)), label="wallet balance")
    top.plot(times, values, color=BLUE, linewidth=1.6, label="equity at mark price")
    top.axhline(values[0], color=INK, linewidth=0.6, alpha=0.5)
    top.plot(times[-1], values[-1], "o", color=BLUE, markersize=4)
    top.annotate(
        f"{values[-1]:,.2f}", (times[-1], values[-1]), (6, 0), textcoords="offset points", color=BLUE, va="center"
    )
    decimals = 0 if max(values) - min(values) > 8 else 2
    top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.{decimals}f}"))
    label(top, "Equity", QUOTE)
    top.legend(loc="upper left", frameon=False, ncols=2, labelcolor=INK, fontsize=9)
    top.margins(y=0.18)
    falls = [100 * fall for fall in metrics.drawdowns(history)]
    bottom.fill_between(times, falls, 0, color=VERMILLION, alpha=0.25, linewidth=0)
    bottom.plot(times, falls, color=VERMILLION, linewidth=1.0)
    if deepest:
        bottom.plot(days_since_1970(deepest.trough_ms), -100 * deepest.fraction, "v", color=VERMILLION, markersize=5)
    bottom.set_ylim(min(falls, default=0) * 1.3 or -1, 0)
    bottom.yaxis.set_major_locator(MaxNLocator(3))
    label(bottom, "Drawdown", f"%: {fall}")
    time_axis(bottom, history)
    for axes in (top, bottom):
        tidy(axes)
    return chart


def pnl_by_symbol(history: DayHistory) -> Chart:
    """What each symbol earned, split into price moves, slippage, fees and funding; the diamond is the net."""
    splits = metrics.all_in_cents(metrics.split_by_symbol(history))
    ordered = dict(sorted(splits.items(), key=lambda item: (item[1].net, item[0])))
    told = ", ".join(f"{name} {split.net:+,.2f}" for name, split in reversed(ordered.items())) or "nothing booked"
    chart = Chart(1.3 + 0.42 * max(len(ordered), 2), f"Net PnL by symbol in {QUOTE}: {told}.")
    axes = chart.subplots()
    if not ordered:
        return say_nothing(chart, "nothing was booked on this day")
    _split_bars(axes, list(ordered.values()), horizontal=True)
    axes.set_yticks(range(len(ordered)), list(ordered))
    axes.axvline(0, color=INK, linewidth=0.8)
    low, high = axes.get_xlim()
    room = 0.14 * (high - low)
    axes.set_xlim(low - room * any(s.net < 0 for s in ordered.values()), high + room)
    for place, split in enumerate(ordered.values()):
        reach = _reach(split)
        right = split.net >= 0
        axes.annotate(
            f"{split.net:+,.2f}".replace("-", "−"), (reach[right], place), (9 if right else -9, 0),
            textcoords="offset points", va="center", ha="left" if right else "right", color=INK, fontsize=9,
        )  # fmt: skip
    axes.set_title(f"PnL by symbol, {QUOTE}", loc="left", color=INK, fontsize=10, fontweight="bold", pad=22)
    _split_legend(axes)
    tidy(axes, grid="x")
    return chart


def pnl_by_hour(history: DayHistory) -> Chart:
    """What was booked in each UTC hour, split; the diamond is the net."""
    splits = metrics.all_in_cents(metrics.split_by_hour(history))
    first, last = 0, max((history.end_ms - history.start_ms - 1) // HOUR_MS, *splits, 0)
    hours = range(first, min(last, 23) + 1)
    told = ", ".join(f"{hour:02d}:00 {split.net:+,.2f}" for hour, split in splits.items()) or "nothing booked"
    chart = Chart(2.6, f"Net PnL by UTC hour in {QUOTE}: {told}.")
    axes = chart.subplots()
    if not splits:
        return say_nothing(chart, "nothing was booked on this day")
    _split_bars(axes, [splits.get(hour, metrics.NOTHING) for hour in hours], horizontal=False)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(list(hours), [f"{hour:02d}" for hour in hours])
    axes.set_xlim(-0.7, max(len(hours), 6) - 0.3)
    axes.set_xlabel("hour of booking, UTC", color=QUIET, fontsize=9)
    axes.set_title(f"PnL by hour, {QUOTE}", loc="left", color=INK, fontsize=10, fontweight="bold", pad=22)
    _split_legend(axes)
    tidy(axes)
    return chart


def trades(history: DayHistory) -> Chart:
    """Each trade from opening to closing, symbol by symbol; above, the net PnL of closed trades added up."""
    closed = sorted(history.trades, key=lambda trade: trade.closed_ms)
    traded = {*(trade.symbol for trade in closed), *(row.symbol for row in history.open_positions)}
    symbols = [symbol for symbol in history.symbols if symbol in traded]
    net = sum((trade.net_pnl for trade in closed), metrics.ZERO)
    chart = Chart(
        2.6 + 0.36 * max(len(symbols), 1),
        f"{len(closed)} trades closed, net {net:+,.2f} {QUOTE}; {len(history.open_positions)} positions still open.",
    )
    if not symbols:
        return say_nothing(chart, "no trade was opened or closed on this day")
    top, bottom = chart.subplots(2, 1, sharex=True, height_ratios=(1.5, 0.36 * len(symbols) + 0.4))
    times, sums = [history.start_ms], [0.0]
    for trade in closed:
        times.append(trade.closed_ms)
        sums.append(sums[-1] + float(trade.net_pnl))
    times.append(history.end_ms)
    sums.append(sums[-1])
    top.step([days_since_1970(time) for time in times], sums, where="post", color=BLUE, linewidth=1.5)
    top.fill_between(
        [days_since_1970(time) for time in times], sums, 0, step="post", color=BLUE, alpha=0.10, linewidth=0
    )
    top.axhline(0, color=INK, linewidth=0.6, alpha=0.6)
    top.margins(y=0.15)
    label(top, "Closed trades, net, added up", QUOTE)
    rows = {symbol: place for place, symbol in enumerate(reversed(symbols))}
    for trade in closed:
        colour = BLUE if trade.net_pnl >= 0 else VERMILLION
        _bar(bottom, trade.opened_ms, trade.closed_ms, rows[trade.symbol], colour, is_long=trade.side == "long")
    for row in history.open_positions:
        _bar(bottom, row.opened_ms, history.end_ms, rows[row.symbol], QUIET, is_long=row.quantity > 0)
    bottom.set_yticks(list(rows.values()), list(rows))
    bottom.set_ylim(-0.7, len(rows) - 0.3)
    keys = [("▲ long  ▼ short", INK), ("won", BLUE), ("lost", VERMILLION), ("still open", QUIET)]
    handles = [
        bottom.plot([], [], color=colour, linewidth=5 if n else 0, label=text)[0]
        for n, (text, colour) in enumerate(keys)
    ]
    bottom.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(-0.01, 1.0), frameon=False, ncols=4, fontsize=9,
        labelcolor=INK, handlelength=1.2, columnspacing=1.4,
    )  # fmt: skip
    time_axis(bottom, history)
    tidy(top)
    tidy(bottom, grid="x")
    return chart


def trade_charts(history: DayHistory) -> Chart:
    """A small chart of each trade: the price around it, entry, exit, and where stop and target began.

    Of many the best and the worst, in the order of their closing.
    """
    shown = metrics.most_telling(history.trades, SMALL_CHARTS)
    count = len(history.trades)
    which = "" if len(shown) == count else f" Of {count} trades the {len(shown)} that earned and lost most."
    told = "; ".join(f"{t.symbol} {t.side} {t.net_pnl:+,.2f} ({exit_words(t.exit_reason)})" for t in shown)
    rows = -(-len(shown) // CHARTS_A_ROW)
    chart = Chart(1.75 * max(rows, 1), f"Trades and the prices around them, net in {QUOTE}: {told}.{which}")
    if not shown:
        return say_nothing(chart, "no trade was closed on this day")
    grid = chart.subplots(rows, CHARTS_A_ROW, squeeze=False).ravel()
    for axes, trade in zip(grid, shown, strict=False):
        _small_chart(axes, history, trade, history.entry_decisions.get(trade.entry_order))
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    return chart


def _small_chart(axes: Axes, history: DayHistory, trade: ClosedTrade, entry: Decision | None) -> None:
    colour = BLUE if trade.net_pnl >= 0 else VERMILLION
    around_ms = max(5 * MINUTE_MS, (trade.closed_ms - trade.opened_ms) // 2)
    first_ms, last_ms = trade.opened_ms - around_ms, trade.closed_ms + around_ms
    points = [point for point in history.prices.get(trade.symbol, ()) if first_ms <= point.time_ms <= last_ms]
    axes.plot(
        [days_since_1970(point.time_ms) for point in points], [float(point.price) for point in points],
        color=QUIET, linewidth=1.0,
    )  # fmt: skip
    opened, closed = days_since_1970(trade.opened_ms), days_since_1970(trade.closed_ms)
    entry_price, exit_price = float(trade.entry_price), float(trade.exit_price)
    sign = 1 if trade.side == "long" else -1
    if entry:
        for distance, shade in ((entry.target_distance, GREEN), (-entry.stop_distance, VERMILLION)):
            level = entry_price * (1 + sign * distance)
            axes.plot([opened, closed], [level, level], color=shade, linewidth=0.9, linestyle=(0, (2, 1.5)))
    axes.plot([opened, closed], [entry_price, exit_price], color=colour, linewidth=1.6, alpha=0.8)
    axes.plot(opened, entry_price, "^" if sign > 0 else "v", color=colour, markersize=6, markeredgecolor=PAPER)
    axes.plot(closed, exit_price, "o", color=colour, markersize=5, markeredgecolor=PAPER)
    axes.margins(x=0.02, y=0.12)
    axes.set_yticks([])
    axes.set_xticks([opened, closed], [clock_text(trade.opened_ms), clock_text(trade.closed_ms)])
    if trade.closed_ms - trade.opened_ms < around_ms:
        axes.set_xticks([opened], [clock_text(trade.opened_ms)])
    net = f"{trade.net_pnl:+,.2f}".replace("-", "−")
    axes.set_title(f"{trade.symbol} {trade.side}  {net}", loc="left", color=colour, fontsize=9, fontweight="bold")
    axes.set_xlabel(exit_words(trade.exit_reason), color=QUIET, fontsize=8, loc="left")
    tidy(axes, grid="x")
    axes.tick_params(labelsize=7)


def decisions(history: DayHistory) -> Chart:
    """How many decisions became trades, and why the others did not."""
    counts = metrics.decision_counts(history.decisions)
    bars = [
        ("taken", counts.taken, BLUE),
        ("held: position stays open", counts.held, SKY),
        ("exit: the model changed its mind", counts.exits, ORANGE),
        *((f"refused: {because(reason)}", count, "#9aa5b1") for reason, count in counts.refused.items()),
    ]
    shown = [bar for bar in bars if bar[1]]
    told = ", ".join(f"{name} {count}" for name, count, _ in shown) or "none"
    chart = Chart(0.8 + 0.34 * max(len(shown), 2), f"{counts.total} decisions: {told}.")
    axes = chart.subplots()
    if not shown:
        return say_nothing(chart, "nothing was decided on this day")
    places = range(len(shown) - 1, -1, -1)
    axes.barh(places, [count for _, count, _ in shown], color=[colour for *_, colour in shown], height=0.66)
    axes.set_yticks(places, [name for name, *_ in shown])
    for place, (_, count, _) in zip(places, shown, strict=True):
        axes.annotate(
            f"{count:,}  ({100 * count / counts.total:.1f} %)", (count, place), (5, 0), textcoords="offset points",
            va="center", color=INK, fontsize=9,
        )  # fmt: skip
    axes.set_xlim(0, max(count for _, count, _ in shown) * 1.18)
    axes.set_xticks([])
    axes.set_title("Decisions by what became of them", loc="left", color=INK, fontsize=10, fontweight="bold")
    tidy(axes, grid="x")
    return chart


def learning(history: DayHistory) -> Chart:
    """Skill, calibration slope with its lower bound, and the weights of the experts over the day."""
    points = history.learning
    last = points[-1].learning if points else None
    told = (
        f"skill {last.skill_millinats:+.2f} millinats per label, calibration slope {last.calibration_slope:.2f} "
        f"(lower bound {last.calibration_slope_lower:.2f}) after {last.labels:,} labels"
        if last
        else "nothing was learned"
    )
    chart = Chart(2.7, f"Learning: {told}.")
    if not points:
        return say_nothing(chart, "nothing was learned on this day")
    skill, slope, weights = chart.subplots(1, 3)
    times = [days_since_1970(point.time_ms) for point in points]
    skill.plot(times, [point.learning.skill_millinats for point in points], color=GREEN, linewidth=1.6)
    skill.axhline(0, color=INK, linewidth=0.8)
    skill.margins(y=0.2)
    include(skill, 0.0)
    label(skill, "Skill against a coin", "millinats")
    values = [point.learning.calibration_slope for point in points]
    lower = [point.learning.calibration_slope_lower for point in points]
    slope.fill_between(times, lower, values, color=BLUE, alpha=0.18, linewidth=0)
    slope.plot(times, values, color=BLUE, linewidth=1.6)
    slope.axhline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
    slope.margins(y=0.2)
    include(slope, 1.0)
    label(slope, "Calibration slope", "1 is honest")
    shares = _expert_shares(history)
    shades = [BLUE, ORANGE, GREEN, SKY, VERMILLION, PURPLE]
    colours = [shades[place % len(shades)] if name != OTHERS else "#c3c9d0" for place, name in enumerate(shares)]
    if shares:
        weights.stackplot(times, list(shares.values()), labels=list(shares), colors=colours, alpha=0.85)
        weights.set_ylim(0, 100)
        weights.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, ncols=min(len(shares), 3), fontsize=8,
            labelcolor=INK, handlelength=1.0, columnspacing=1.0,
        )  # fmt: skip
    label(weights, "Weight of the experts", "%")
    for axes in (skill, slope, weights):
        time_axis(axes, history, ticks=5)
        tidy(axes)
    return chart


# --- what the figures share -------------------------------------------------------------------------------------------


def _expert_shares(history: DayHistory) -> dict[str, list[float]]:
    """Each expert's weight in percent over the day, the heaviest first; the light ones together as `OTHERS`."""
    weights = [point.learning.expert_weights for point in history.learning]
    names = sorted({name for row in weights for name in row})
    shares = {name: [100 * row.get(name, 0.0) for row in weights] for name in names}
    heavy = sorted((name for name in names if max(shares[name]) >= SMALL_SHARE), key=lambda name: -shares[name][-1])
    found = {name: shares[name] for name in heavy}
    light = [shares[name] for name in names if name not in found]
    if light:
        found[OTHERS] = [sum(column) for column in zip(*light, strict=True)]
    return found


def _split_bars(axes: Axes, splits: Sequence[PnlSplit], *, horizontal: bool) -> None:
    """Parts stacked away from zero on either side, and a diamond at the net."""
    ups, downs = [0.0] * len(splits), [0.0] * len(splits)
    places = list(range(len(splits)))
    for part, colour in SPLIT_COLOURS.items():
        values = [float(getattr(split, part)) for split in splits]
        starts = [up if value >= 0 else down for value, up, down in zip(values, ups, downs, strict=True)]
        if horizontal:
            axes.barh(places, values, left=starts, color=colour, height=0.62, label=part)
        else:
            axes.bar(places, values, bottom=starts, color=colour, width=0.62, label=part)
        for place, value in enumerate(values):
            if value >= 0:
                ups[place] += value
            else:
                downs[place] += value
    nets = [float(split.net) for split in splits]
    shown = [
        (net, place) if horizontal else (place, net)
        for place, net in enumerate(nets)
        if splits[place] != metrics.NOTHING
    ]
    axes.plot(
        [x for x, _ in shown], [y for _, y in shown], "D", color=INK, markersize=5, markeredgecolor=PAPER,
        markeredgewidth=0.8, label="net", zorder=5,
    )  # fmt: skip


def _split_legend(axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    by_name = dict(zip(names, handles, strict=True))
    order = [*SPLIT_COLOURS, "net"]
    axes.legend(
        [by_name[name] for name in order], order, loc="lower left", bbox_to_anchor=(-0.01, 1.0), frameon=False, ncols=5,
        fontsize=9, labelcolor=INK, handlelength=1.2, columnspacing=1.4,
    )  # fmt: skip


def _reach(split: PnlSplit) -> tuple[float, float]:
    """How far the stacked parts reach to the left and to the right."""
    parts = [float(getattr(split, part)) for part in metrics.PARTS]
    return sum(part for part in parts if part < 0), sum(part for part in parts if part > 0)


def _bar(axes: Axes, start_ms: int, end_ms: int, row: int, colour: str, *, is_long: bool) -> None:
    axes.plot(
        [days_since_1970(start_ms), days_since_1970(end_ms)],
        [row, row],
        color=colour,
        linewidth=6,
        alpha=0.55,
        solid_capstyle="butt",
    )
    axes.plot(
        days_since_1970(start_ms), row, "^" if is_long else "v", color=colour, markersize=6, markeredgecolor=PAPER,
        markeredgewidth=0.6, zorder=4,
    )  # fmt: skip
