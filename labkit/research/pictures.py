"""Pictures and tables of research, for a notebook: matplotlib figures without pyplot, HTML without scripts.

The Okabe–Ito colours (told apart by colour-blind readers), fixed sizes, UTC. Used by the results of `backtest`,
`walk_forward` and `sweep`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from labkit.research.backtest import BacktestResult
    from labkit.research.walk_forward import WalkForwardResult

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, INK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#1f2933",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, "#999999", "#F0E442", INK, "#66737f")
DOTS_PER_INCH = 110


class Picture(Figure):
    """A figure that shows itself as PNG, with a sentence for those who cannot see it."""

    def __init__(self, width: float, height: float, description: str) -> None:
        super().__init__(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained", facecolor="white")
        self.description = description

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        drawn = io.BytesIO()
        self.savefig(drawn, format="png")
        return drawn.getvalue(), {"alt": self.description}


def backtest_picture(result: BacktestResult) -> Picture:
    """Equity, drawdown, skill per day, reliability and expert weights of one run."""
    figures = result.summary
    picture = Picture(
        10.4,
        7.6,
        f"{result.name}: equity {figures['return']:+.1%}, deepest drawdown {figures['max_drawdown']:.1%}, "
        f"{figures['trades']:.0f} trades; below, skill per day, reliability and the weights of the experts.",
    )
    grid = picture.add_gridspec(3, 2, height_ratios=(3, 1.4, 3))
    equity, drawdown = picture.add_subplot(grid[0, :]), picture.add_subplot(grid[1, :])
    days, values = result.equity.index, result.equity.to_numpy()
    equity.plot(days, values, color=BLUE)
    _label(equity, f"Equity, {result.name}", "quote asset")
    peak = np.maximum.accumulate(np.concatenate(([float(result.config.paper.opening_balance)], values)))[1:]
    drawdown.fill_between(days, 100.0 * (values / peak - 1.0), color=VERMILLION, alpha=0.5, linewidth=0)
    _label(drawdown, "Below the peak", "%")
    _draw_reliability(picture.add_subplot(grid[2, 0]), result)
    lower = grid[2, 1].subgridspec(2, 1)
    skill = picture.add_subplot(lower[0])
    skill.bar(days, result.daily["skill"].fillna(0.0), color=GREEN, width=1.0)
    _label(skill, "Skill per day", "millinats a label")
    weights = result.expert_weights
    trust = picture.add_subplot(lower[1])
    trust.stackplot(days, weights.to_numpy().T, colors=COLOURS, labels=weights.columns)
    trust.set_ylim(0, 1)
    _label(trust, "Trust in the experts", "share")
    trust.legend(fontsize=5, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.25), frameon=False)
    for axes in (equity, drawdown, skill, trust):
        _date_axis(axes)
    return picture


def _draw_reliability(axes: Axes, result: BacktestResult) -> None:
    table = result.calibration
    axes.axline((0.5, 0.5), slope=1.0, color="#999999", linewidth=0.8)
    axes.errorbar(table["said"], table["came_true"], yerr=2.0 * table["error"], fmt="o", color=BLUE, markersize=4)
    _label(axes, "Reliability: what was said, what came true", "mean result of the long bracket")
    axes.set_xlabel("probability issued")


def walk_forward_picture(result: WalkForwardResult) -> Picture:
    """Equity of all test windows, and what training promised beside what the test brought."""
    windows = result.windows
    picture = Picture(
        10.4,
        4.6,
        f"Walk forward through {len(windows)} windows: Sharpe ratio {result.sharpe:.2f} in the test windows, "
        f"efficiency {result.efficiency:.2f}.",
    )
    equity, bars = picture.subplots(2, 1, height_ratios=(3, 2))
    equity.plot(np.cumprod(1.0 + result.daily_returns), color=BLUE)
    _label(equity, "Equity over all test windows", "from 1")
    equity.set_xlabel("test days", fontsize=8)
    at = np.arange(len(windows))
    bars.bar(at - 0.2, windows["sharpe_train"], width=0.4, color=SKY, label="training")
    bars.bar(at + 0.2, windows["sharpe_test"], width=0.4, color=BLUE, label="test")
    bars.legend(fontsize=7, frameon=False)
    _label(bars, "Sharpe ratio by window", "a year")
    return picture


def heat_map(table: pd.DataFrame, x: str, y: str, value: str) -> Picture:
    """`value` of a sweep over two of its parameters, averaged over the others."""
    pivot = table.pivot_table(index=y, columns=x, values=value, aggfunc="mean")
    best = pivot.stack().idxmax()
    picture = Picture(
        1.6 + 0.9 * pivot.shape[1],
        1.4 + 0.55 * pivot.shape[0],
        f"{value} over {x} and {y}: highest {pivot.max().max():.2f} at {y} {best[0]}, {x} {best[1]}.",
    )
    axes = picture.add_subplot()
    reach = float(np.nanmax(np.abs(pivot.to_numpy()))) or 1.0
    axes.imshow(pivot, cmap="PuOr_r", vmin=-reach, vmax=reach, aspect="auto")
    axes.set_xticks(range(pivot.shape[1]), [f"{label:g}" for label in pivot.columns])
    axes.set_yticks(range(pivot.shape[0]), [f"{label:g}" for label in pivot.index])
    for row, column in np.ndindex(pivot.shape):
        number = pivot.iat[row, column]
        dark = abs(number) > 0.6 * reach
        axes.text(column, row, f"{number:.2f}", ha="center", va="center", fontsize=8, color="white" if dark else INK)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(value, loc="left", fontsize=10)
    return picture


COLUMNS = {
    "return": ("return", "{:+.2%}"),
    "sharpe": ("Sharpe", "{:.2f}"),
    "max_drawdown": ("drawdown", "{:.2%}"),
    "trades": ("trades", "{:.0f}"),
    "winners": ("winners", "{:.0%}"),
    "fees": ("fees", "{:.2%}"),
    "funding": ("funding", "{:+.2%}"),
    "skill": ("skill, mnat", "{:+.2f}"),
}


def comparison_html(results: Sequence[BacktestResult], caption: str) -> str:
    """Runs beside each other, one a row; fees and funding as fractions of the opening balance."""
    head = "".join(f"<th>{title}</th>" for title, _ in COLUMNS.values())
    body = []
    for result in results:
        cells = "".join(f"<td>{_shown(text, result.summary[key])}</td>" for key, (_, text) in COLUMNS.items())
        body.append(f'<tr><th style="text-align:left">{escape(result.name)}</th>{cells}</tr>')
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _shown(text: str, value: float) -> str:
    return "–" if np.isnan(value) else text.format(value)


def _label(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_ylabel(unit, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _date_axis(axes: Axes) -> None:
    locator = AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
