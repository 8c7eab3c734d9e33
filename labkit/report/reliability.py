"""How far the day's forecasts may be believed: of all that was said with about this chance, how much came true.

Made of the virtual positions that closed on the day, which are all forecasts there are, traded or not. Used by the
report notebook.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from labkit.domain.day_history import DayHistory
from labkit.report.chart import BLUE, INK, QUIET, Chart, label, say_nothing, tidy
from labkit.report.tables import frame_of

if TYPE_CHECKING:
    import pandas as pd

BINS = 10
LEAST_INDEPENDENT = 8
"""A bin worth fewer observations has an interval that says nothing."""
Z_95 = 1.959964


class ReliabilityBin(msgspec.Struct, frozen=True, kw_only=True):
    """Forecasts of about the same chance that the long bracket pays; `low` to `high` holds the truth with 95 %."""

    said: float
    came_true: float
    low: float
    high: float
    labels: int
    independent: float
    """How many observations they are worth, since neighbours overlap."""

    @property
    def honest(self) -> bool:
        """Whether what was said may well be true."""
        return self.low <= self.said <= self.high


def reliability_bins(history: DayHistory) -> list[ReliabilityBin]:
    """The day's forecasts in up to ten bins of as many labels each, fewer where there are few labels."""
    import numpy as np

    from labkit.trader.reliability import reliability

    results = history.virtual
    if not results:
        return []
    is_long = np.array([result.side == "long" for result in results])
    chance = np.array([result.chance for result in results])
    came_to = np.array([result.came_to for result in results])
    weight = np.array([result.weight for result in results])
    found = reliability(
        np.where(is_long, chance, 1 - chance),
        np.where(is_long, came_to, 1 - came_to),
        weight,
        bins=max(1, min(BINS, int(weight.sum() / LEAST_INDEPENDENT))),
    )
    columns = (found.said, found.came_true, found.independent, found.labels)
    return [_bin(*map(float, row)) for row in zip(*columns, strict=True)]


def _bin(said: float, came_true: float, independent: float, labels: float) -> ReliabilityBin:
    low, high = wilson_interval(came_true, independent)
    return ReliabilityBin(
        said=said, came_true=came_true, low=low, high=high, labels=int(labels), independent=independent
    )


def wilson_interval(share: float, count: float) -> tuple[float, float]:
    """The 95 % interval of a share seen in `count` independent trials (Wilson 1927): never empty, within [0, 1]."""
    squared = Z_95**2
    middle = (share + squared / (2 * count)) / (1 + squared / count)
    reach = Z_95 / (1 + squared / count) * math.sqrt(share * (1 - share) / count + squared / (4 * count**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def reliability_table(history: DayHistory) -> pd.DataFrame:
    """What was said and what came true, bin by bin."""
    bins = reliability_bins(history)
    return frame_of(
        {
            "said": [round(100 * row.said, 1) for row in bins],
            "came true": [round(100 * row.came_true, 1) for row in bins],
            "at least": [round(100 * row.low, 1) for row in bins],
            "at most": [round(100 * row.high, 1) for row in bins],
            "labels": [row.labels for row in bins],
            "worth": [round(row.independent) for row in bins],
            "agree": ["yes" if row.honest else "no" for row in bins],
        },
        {"said": "%", "came true": "%", "at least": "%", "at most": "%", "worth": "independent"},
    )


def reliability_chart(history: DayHistory) -> Chart:
    """What was said beside what came true, with 95 % intervals; below, how many labels stand behind each point."""
    bins = reliability_bins(history)
    honest = sum(row.honest for row in bins)
    told = "; ".join(f"said {100 * row.said:.0f} %, came true {100 * row.came_true:.0f} %" for row in bins)
    chart = Chart(3.6, f"Reliability over {len(history.virtual):,} forecasts: {honest} of {len(bins)} agree. {told}.")
    if not bins:
        return say_nothing(chart, "no forecast came due on this day")
    top, bottom = chart.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    said, came = [100 * row.said for row in bins], [100 * row.came_true for row in bins]
    # Where all came true, or none did, rounding may put an end of the interval on the wrong side of the point.
    below = [100 * max(0.0, row.came_true - row.low) for row in bins]
    above = [100 * max(0.0, row.high - row.came_true) for row in bins]
    low, high = min(said), max(said)
    room = max(2.0, 0.08 * (high - low))
    ends = [low - room, high + room]
    top.plot(ends, ends, color=INK, linewidth=0.8, linestyle=(0, (4, 2)), label="honest")
    top.errorbar(
        said, came, yerr=[below, above], fmt="o", color=BLUE, markersize=5, elinewidth=1.2, capsize=2,
        label="came true, 95 %",
    )  # fmt: skip
    top.legend(loc="upper left", frameon=False, ncols=2, labelcolor=INK, fontsize=9)
    top.margins(y=0.25)
    label(top, "Came true", "% of the long brackets")
    width = min((b - a for a, b in pairwise(said)), default=room) * 0.7
    bottom.bar(said, [row.labels for row in bins], width=max(width, 0.01 * (ends[1] - ends[0])), color=QUIET, alpha=0.5)
    bottom.set_ylim(0, 1.5 * max(row.labels for row in bins))
    for row, place in zip(bins, said, strict=True):
        bottom.annotate(
            f"{row.labels:,}", (place, row.labels), (0, 2), textcoords="offset points", ha="center", fontsize=8,
            color=INK,
        )  # fmt: skip
    bottom.set_yticks([])
    bottom.set_xlim(*ends)
    bottom.set_xlabel("said: chance that the long bracket pays, %", color=QUIET, fontsize=9)
    label(bottom, "Forecasts", "labels")
    tidy(top)
    tidy(bottom, grid="x")
    return chart
