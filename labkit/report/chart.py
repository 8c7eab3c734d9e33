"""Chart: the figure of the report, its inks, and what its figures share: axes, titles, clocks.

matplotlib without pyplot: nothing is kept, nothing is global. Fixed sizes, light theme, the Okabe–Ito colours (told
apart by colour-blind readers, and by lightness in print). Time axes are UTC. Used by `labkit.report.figures`.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from labkit.domain.clock import DAY_MS, MINUTE_MS
from labkit.domain.day_history import DayHistory
from labkit.report.days import clock_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_INCHES = 10.4
DOTS_PER_INCH = 192
PALETTE = 24
CSS_DOTS_PER_INCH = 96

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, QUIET, FAINT, PAPER = "#1f2933", "#66737f", "#e4e7eb", "#ffffff"
CLOCK_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)
"""Distances of ticks on a time axis, in minutes."""


class Chart(Figure):
    """A figure that shows itself as PNG, sharp on dense screens, with a sentence for those who cannot see it."""

    def __init__(self, height_inches: float, description: str) -> None:
        super().__init__(
            figsize=(WIDTH_INCHES, height_inches), dpi=DOTS_PER_INCH, layout="constrained", facecolor=PAPER
        )
        self.description = description

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        width, height = (round(inches * CSS_DOTS_PER_INCH) for inches in self.get_size_inches())
        return self.png(), {"alt": self.description, "width": width, "height": height}

    def png(self) -> bytes:
        """The picture. The same figure gives the same bytes: no time or version is written into it."""
        canvas, packed = FigureCanvasAgg(self), io.BytesIO()
        canvas.draw()  # type: ignore[no-untyped-call]
        inks = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
        drawn = Image.frombuffer("RGBA", canvas.get_width_height(), inks).convert("RGB")
        # A chart has few colours: a palette makes the picture a third of the size, and nobody sees the difference.
        few = drawn.quantize(PALETTE, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        # The octree's white is one step short of the page's.
        few.putpalette([255 if level == 254 else level for level in few.getpalette() or ()])
        few.save(packed, format="png", optimize=True)
        return packed.getvalue()

    def __repr__(self) -> str:
        return self.description


def days_since_1970(time_ms: int) -> float:
    """A moment as matplotlib counts it: days since 1970."""
    return time_ms / DAY_MS


def time_axis(axes: Axes, history: DayHistory, *, ticks: int = 10) -> None:
    """Ticks on whole steps of the clock, at most so many."""
    end_ms = max(history.end_ms, history.start_ms + MINUTE_MS)
    span = (end_ms - history.start_ms) / MINUTE_MS
    step_ms = next((step for step in CLOCK_STEPS if span / step < ticks), CLOCK_STEPS[-1]) * MINUTE_MS
    # A record that ends within the day's last minute still gets the tick of midnight.
    moments = range(history.start_ms, end_ms + MINUTE_MS, step_ms)
    axes.set_xticks([days_since_1970(moment) for moment in moments], [clock_text(moment) for moment in moments])
    axes.set_xlim(days_since_1970(history.start_ms), days_since_1970(end_ms))


def label(axes: Axes, title: str, unit: str) -> None:
    """The title of one pair of axes, with its unit."""
    axes.set_title(f"{title}, {unit}", loc="left", color=INK, fontsize=10, fontweight="bold")


def tidy(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """No box, no ticks, a faint grid along one direction."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(colors=QUIET, labelcolor=INK, length=0, labelsize=9)
    axes.grid(axis=grid, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)


def include(axes: Axes, value: float) -> None:
    """Widen the value axis so that `value` is seen, with a little room."""
    low, high = axes.get_ylim()
    room = 0.08 * (max(high, value) - min(low, value))
    axes.set_ylim(min(low, value - room), max(high, value + room))


def say_nothing(chart: Chart, sentence: str) -> Chart:
    """A sentence in place of a picture."""
    chart.clear()
    chart.set_size_inches(WIDTH_INCHES, 0.7)
    chart.text(0.0, 0.5, sentence[0].upper() + sentence[1:] + ".", color=QUIET, fontsize=11, va="center")
    return chart
