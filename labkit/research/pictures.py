"""Pictures of research, for a notebook: matplotlib figures without pyplot.

The Okabe–Ito colours (told apart by colour-blind readers), fixed sizes, UTC. No background, and a grey between the two
for words and lines, so that one stored picture reads on light and dark pages. Used by the results of `backtest`,
`walk_forward` and `sweep`.
"""

from __future__ import annotations

import io
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray

from labkit.research.statistics import block_draws, sharpe_interval
from labkit.research.tables import SHOWN, number
from labkit.research.verdict import BUY_AND_HOLD

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from labkit.research.backtest import BacktestResult
    from labkit.research.walk_forward import WalkForwardResult

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK = "#6f7985"
"""More than 4 to 1 against a white page and against JupyterLab's dark one."""
QUIET, GRID = "#8a94a0", "#80808040"
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, "#999999", "#F0E442", "#4a5560", "#b07a4a")
ON_LIGHT = "#1f2933"
"""Words on the light cells of a heat map."""
DOTS_PER_INCH = 110


class Picture(Figure):
    """A figure that shows itself as PNG, with a sentence for those who cannot see it."""

    def __init__(self, width: float, height: float, description: str) -> None:
        super().__init__(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained", facecolor="none")
        self.description = description

    def __repr__(self) -> str:
        return self.description

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        drawn = io.BytesIO()
        self.savefig(drawn, format="png")
        return drawn.getvalue(), {"alt": self.description}


def backtest_picture(result: BacktestResult) -> Picture:
    """Equity, drawdown, skill per day and expert weights on one axis of days, and reliability beside them."""
    figures = result.summary
    picture = Picture(
        11.0,
        6.6,
        f"{result.name}: equity {_signed(figures['return'])}, deepest drawdown {figures['max_drawdown']:.1%}, "
        f"{figures['trades']:.0f} trades; below, skill per day and the weights of the experts; beside, reliability.",
    )
    halves = picture.add_gridspec(1, 2, width_ratios=(2.1, 1.0))
    left = halves[0].subgridspec(4, 1, height_ratios=(3.2, 1.3, 1.5, 1.7))
    right = halves[1].subgridspec(2, 1, height_ratios=(2.6, 1.0))
    equity = picture.add_subplot(left[0])
    drawdown, skill, trust = (picture.add_subplot(left[row], sharex=equity) for row in (1, 2, 3))
    days, values = result.equity.index, result.equity.to_numpy()
    opening = float(result.config.paper.opening_balance)
    for other in result.baselines:
        if other.name == BUY_AND_HOLD:
            equity.plot(days, other.equity.to_numpy(), color=QUIET, linewidth=1.0, label=other.name)
    equity.axhline(opening, color=QUIET, linewidth=0.8, linestyle=":")
    equity.plot(days, values, color=BLUE, linewidth=1.6, label=result.name)
    equity.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    equity.legend(loc="upper left", fontsize=8, frameon=False, labelcolor=INK)
    _label(equity, "Equity", "quote asset")
    peak = np.maximum.accumulate(np.concatenate(([opening], values)))[1:]
    drawdown.fill_between(days, 100.0 * (values / peak - 1.0), color=VERMILLION, alpha=0.55, linewidth=0)
    _label(drawdown, "Below the peak", "%")
    known = result.daily["skill"].fillna(0.0).to_numpy()
    skill.bar(days, known, color=np.where(known >= 0.0, GREEN, VERMILLION), width=1.0)
    _label(skill, "Skill per day", "mnat a label")
    weights = result.expert_weights
    trust.stackplot(days, weights.to_numpy().T, colors=COLOURS, labels=weights.columns, linewidth=0)
    trust.set_ylim(0, 1)
    trust.yaxis.set_major_formatter(PercentFormatter(1.0))
    _label(trust, "Trust in the experts", "share")
    _date_axis(trust)
    for axes in (equity, drawdown, skill):
        axes.tick_params(labelbottom=False)
    _draw_reliability(picture.add_subplot(right[0]), result)
    words = picture.add_subplot(right[1])
    words.axis("off")
    handles, names = trust.get_legend_handles_labels()
    words.legend(
        handles[::-1], names[::-1], loc="lower left", fontsize=7.5, frameon=False, ncols=2, labelcolor=INK,
        title="Experts", title_fontsize=9, alignment="left", handlelength=1.2, columnspacing=1.0,
    ).get_title().set_color(INK)  # fmt: skip
    return picture


def _draw_reliability(axes: Axes, result: BacktestResult) -> None:
    table = result.calibration
    axes.axline((0.5, 0.5), slope=1.0, color=QUIET, linewidth=1.0)
    axes.errorbar(
        table["said"], table["came_true"], yerr=2.0 * table["error"], fmt="o", color=BLUE, markersize=4.5,
        elinewidth=1.2,
    )  # fmt: skip
    _label(axes, "Reliability", "came true (mean result of the long side)")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("was said (probability)", fontsize=8, color=INK)


def walk_forward_picture(result: WalkForwardResult) -> Picture:
    """Equity of all test windows with its bootstrapped band, and what training promised beside what the test brought.

    The band holds 95 % of what the same test days, drawn again in blocks, would have come to.
    """
    windows = result.windows
    interval = sharpe_interval(result.daily_returns)
    between = f"95 %: {_minus(f'{interval.low:.2f}')} to {_minus(f'{interval.high:.2f}')}"
    picture = Picture(
        11.0,
        5.4,
        f"Walk forward through {len(windows)} windows: Sharpe ratio {_minus(f'{result.sharpe:.2f}')} ({between}) in "
        f"the test windows, efficiency {_minus(f'{result.efficiency:.2f}')}.",
    )
    equity, bars = picture.subplots(2, 1, height_ratios=(3, 2))
    returns, days = result.daily_returns, result.days
    low, high = equity_band(returns)
    equity.fill_between(days, low, high, color=SKY, alpha=0.28, linewidth=0, label="95 % of resampled histories")
    equity.axhline(1.0, color=QUIET, linewidth=0.8, linestyle=":")
    equity.plot(days, np.cumprod(1.0 + returns), color=BLUE, linewidth=1.6, label="test windows")
    at = np.cumsum([0, *result.window_days])
    for edge in at[1:-1]:
        equity.axvline(days[edge], color=GRID, linewidth=0.8, zorder=0)
    equity.legend(loc="upper left", fontsize=8, frameon=False, labelcolor=INK)
    _label(equity, f"Equity over all test windows: Sharpe ratio {_minus(f'{result.sharpe:.2f}')} ({between})", "from 1")
    _date_axis(equity)
    place = np.arange(len(windows))
    spans = [sharpe_interval(returns[first:last]) for first, last in pairwise(at.tolist())]
    tested = windows["sharpe_test"].to_numpy()
    reach = np.abs([[own.low, own.high] for own in spans] - tested[:, None]).T
    bars.bar(place - 0.2, windows["sharpe_train"], width=0.38, color=SKY, label="training")
    bars.bar(
        place + 0.2, tested, width=0.38, color=BLUE, label="test, with 95 % interval", yerr=reach, ecolor=ORANGE,
        error_kw={"elinewidth": 1.3, "capsize": 2.5},
    )  # fmt: skip
    bars.axhline(0.0, color=INK, linewidth=0.8)
    bars.set_xticks(place, list(windows["test"]))
    bars.legend(fontsize=8, frameon=False, labelcolor=INK, ncols=2)
    _label(bars, "Sharpe ratio by window, named by its first test day", "a year")
    return picture


def equity_band(daily_returns: NDArray[np.float64], confidence: float = 0.95) -> NDArray[np.float64]:
    """float64[2, D]: where the equity (from 1) of that share of histories lies, drawn from these days in blocks."""
    days = block_draws(daily_returns.size)
    paths = np.cumprod(1.0 + daily_returns[days], axis=1)
    tail = 50.0 * (1.0 - confidence)
    return np.asarray(np.percentile(paths, [tail, 100.0 - tail], axis=0))


def heat_map(table: pd.DataFrame, x: str, y: str, value: str) -> Picture:
    """`value` of a sweep over two of its parameters, averaged over the others; the highest is framed."""
    pivot = table.pivot_table(index=y, columns=x, values=value, aggfunc="mean")
    numbers = pivot.to_numpy()
    best = pivot.stack().idxmax()
    row, column = np.unravel_index(int(np.nanargmax(numbers)), numbers.shape)
    title, text = SHOWN.get(value, (value, "{:.2f}"))
    picture = Picture(
        1.7 + 0.85 * pivot.shape[1],
        1.2 + 0.5 * pivot.shape[0],
        f"{value} over {x} and {y}: highest {_minus(f'{np.nanmax(numbers):.2f}')} at {y} {best[0]}, {x} {best[1]}.",
    )
    axes = picture.add_subplot()
    reach = float(np.nanmax(np.abs(numbers))) or 1.0
    colours = LinearSegmentedColormap.from_list("losses and gains", [VERMILLION, "#fbfbf9", BLUE])
    axes.imshow(pivot, cmap=colours, vmin=-reach, vmax=reach, aspect="auto")
    axes.set_xticks(range(pivot.shape[1]), [f"{label:g}" for label in pivot.columns])
    axes.set_yticks(range(pivot.shape[0]), [f"{label:g}" for label in pivot.index])
    for at in np.ndindex(pivot.shape):
        shade = "white" if abs(numbers[at]) > 0.75 * reach else ON_LIGHT
        axes.text(at[1], at[0], number(text, numbers[at]), ha="center", va="center", fontsize=8, color=shade)
    axes.add_patch(
        Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=ORANGE, linewidth=2.4, clip_on=False)
    )
    axes.set_xlabel(x, fontsize=8, color=INK)
    axes.set_ylabel(y, fontsize=8, color=INK)
    axes.tick_params(labelsize=8, length=0, colors=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    return picture


def _signed(fraction: float) -> str:
    return _minus(f"{fraction:+.1%}")


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _label(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.set_ylabel(unit, fontsize=8, color=INK)
    axes.tick_params(labelsize=8, colors=INK, length=3)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(QUIET)


def _date_axis(axes: Axes) -> None:
    locator = AutoDateLocator(maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.xaxis.get_offset_text().set(fontsize=8, color=INK)
    axes.margins(x=0.01)
