"""TrackRecord: the figures over all days that have a report. Pure; shown by `labkit.report.index`.

Money in quote asset; ratios are fractions; a year has 365 days. Returns are of each day's capital (opening equity plus
the day's deposits), so deposits are no gain. What needs whole days leaves out days whose record ends early.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from statistics import fmean, stdev

import msgspec

from labkit.report.headline import Figures

DAYS_PER_YEAR = 365
FEWEST_DAYS = 5
"""Whole days below which a spread of daily returns says nothing."""


class TrackRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All days together."""

    days: int
    days_won: int
    result: Decimal
    opening_equity: Decimal
    """Capital of the first day: its opening equity and deposits."""
    closing_equity: Decimal
    total_return: float
    """Daily returns, compounded."""
    max_drawdown: float
    """The deepest fall from one day's end to a later one's, or within one day, whichever is deeper."""
    trades: int
    fees: Decimal
    funding: Decimal
    volatility: float | None
    """Standard deviation of daily returns times √365; None with fewer than `FEWEST_DAYS` whole days."""
    sharpe_ratio: float | None
    """Mean over standard deviation of daily returns times √365, without a riskless rate."""
    sharpe_error: float | None
    """Standard error of that, for independent normal returns: √((1 + s²/2) / n · 365), s the daily ratio (Lo 2002)."""


def track_record(days: Sequence[Figures]) -> TrackRecord:
    """The figures of `days` (one or more), in any order."""
    ordered = sorted(days, key=lambda figures: figures.day)
    returns = [figures.day_return for figures in ordered if figures.complete]
    daily = _daily_sharpe_ratio(returns)
    value, peak, fall = 1.0, 1.0, 0.0
    for figures in ordered:
        value *= 1 + figures.day_return
        peak = max(peak, value)
        fall = max(fall, 1 - value / peak, figures.max_drawdown)
    year = math.sqrt(DAYS_PER_YEAR)
    return TrackRecord(
        days=len(ordered),
        days_won=sum(Decimal(figures.result) > 0 for figures in ordered),
        result=sum((Decimal(figures.result) for figures in ordered), Decimal(0)),
        opening_equity=Decimal(ordered[0].closing_equity) - Decimal(ordered[0].result),
        closing_equity=Decimal(ordered[-1].closing_equity),
        total_return=value - 1,
        max_drawdown=fall,
        trades=sum(figures.trades for figures in ordered),
        fees=sum((Decimal(figures.fees) for figures in ordered), Decimal(0)),
        funding=sum((Decimal(figures.funding) for figures in ordered), Decimal(0)),
        volatility=None if daily is None else stdev(returns) * year,
        sharpe_ratio=None if daily is None else daily * year,
        sharpe_error=None if daily is None else math.sqrt((1 + daily**2 / 2) / len(returns)) * year,
    )


def gaps(days: Sequence[str]) -> list[tuple[str, str]]:
    """Runs of days without a report between the first and the last of `days`: first and last day of each run."""
    named = sorted(date.fromisoformat(day) for day in days)
    one = timedelta(days=1)
    return [
        ((earlier + one).isoformat(), (later - one).isoformat())
        for earlier, later in pairwise(named)
        if later - earlier > one
    ]


def _daily_sharpe_ratio(returns: Sequence[float]) -> float | None:
    if len(returns) < FEWEST_DAYS or not (spread := stdev(returns)):
        return None
    return fmean(returns) / spread
