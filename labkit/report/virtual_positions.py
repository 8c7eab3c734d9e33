"""What positions that were only imagined would have earned, beside what real ones did.

A virtual position is a bracket of the side the trader leaned to, entered at the next open and left at its target, its
stop or its time-out; costs are those its decision reckoned with. Everything here is in basis points of the entry price:
nobody staked money. Neighbours overlap, so the uncertainty goes by how many of them are independent. Used by the report
notebook.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from labkit.domain.day_history import DayHistory, VirtualResult
from labkit.domain.decisions import ENTRIES, Action
from labkit.domain.reasons import because, reason_words
from labkit.domain.snapshot import ClosedTrade
from labkit.report.tables import BPS, TOTAL, frame_of

if TYPE_CHECKING:
    import pandas as pd


class VirtualStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Virtual positions together; fractions of the entry price. None where there are too few."""

    count: int
    won: float | None
    """Share of those that earned more than their costs."""
    gross: float | None
    cost: float | None
    net: float | None
    """Mean of what was left after costs."""
    error: float | None
    """Standard error of `net`, overlap considered."""


def virtual_statistics(results: Iterable[VirtualResult]) -> VirtualStatistics:
    """Means of virtual positions, each counted once; only the error goes by their uniqueness."""
    found = list(results)
    count = len(found)
    if not count:
        return VirtualStatistics(count=0, won=None, gross=None, cost=None, net=None, error=None)
    net = math.fsum(result.net for result in found) / count
    independent = math.fsum(result.weight for result in found)
    spread = math.fsum((result.net - net) ** 2 for result in found) / count
    return VirtualStatistics(
        count=count,
        won=sum(result.net > 0 for result in found) / count,
        gross=math.fsum(result.gross for result in found) / count,
        cost=math.fsum(result.cost for result in found) / count,
        net=net,
        error=math.sqrt(spread / independent) if independent >= 2 else None,
    )


def virtual_and_real(history: DayHistory) -> pd.DataFrame:
    """By symbol and side: what imagined positions would have earned, and what the closed trades did, after costs."""
    imagined: defaultdict[tuple[str, str], list[VirtualResult]] = defaultdict(list)
    real: defaultdict[tuple[str, str], list[ClosedTrade]] = defaultdict(list)
    for result in history.virtual:
        imagined[result.symbol, result.side].append(result)
    for trade in history.trades:
        real[trade.symbol, trade.side].append(trade)
    keys = sorted({*imagined, *real})
    if not keys:
        return frame_of({"symbol": []}, {})
    names = [*keys, (TOTAL, "")]
    virtual = [virtual_statistics(imagined[key]) for key in keys] + [virtual_statistics(history.virtual)]
    trades = [real[key] for key in keys] + [list(history.trades)]
    return frame_of(
        {
            "symbol": [symbol for symbol, _ in names],
            "side": [side for _, side in names],
            **_columns(virtual),
            "trades": [len(closed) for closed in trades],
            "trades won": [_percent(_share_won(closed)) for closed in trades],
            "trades earned": [_bps(_mean_net(closed)) for closed in trades],
        },
        {**UNITS, "trades won": "%", "trades earned": "bps"},
    )


def virtual_by_decision(history: DayHistory) -> pd.DataFrame:
    """By what was decided, and why: was it right to refuse what was refused?"""
    groups: defaultdict[str, list[VirtualResult]] = defaultdict(list)
    for result in history.virtual:
        groups[_decided(result)].append(result)
    ordered = sorted(groups, key=lambda name: (-len(groups[name]), name))
    return frame_of(
        {"decided": ordered, **_columns([virtual_statistics(groups[name]) for name in ordered])},
        UNITS,
    )


UNITS = {"won": "%", "gross": "bps", "costs": "bps", "earned": "bps", "give or take": "bps"}


def _columns(rows: list[VirtualStatistics]) -> dict[str, list[Any]]:
    return {
        "virtual": [row.count for row in rows],
        "won": [_percent(row.won) for row in rows],
        "gross": [_bps(row.gross) for row in rows],
        "costs": [_bps(row.cost) for row in rows],
        "earned": [_bps(row.net) for row in rows],
        "give or take": [_bps(row.error) for row in rows],
    }


def _decided(result: VirtualResult) -> str:
    if result.action in ENTRIES:
        return "entered"
    if result.action is Action.REFUSE:
        return f"refused: {because(result.reason)}"
    return reason_words(result.action, result.reason)


def _share_won(trades: list[ClosedTrade]) -> float | None:
    return sum(trade.net_pnl > 0 for trade in trades) / len(trades) if trades else None


def _mean_net(trades: list[ClosedTrade]) -> float | None:
    """Mean net result as a fraction of what was entered for."""
    if not trades:
        return None
    return math.fsum(float(trade.net_pnl / (trade.quantity * trade.entry_price)) for trade in trades) / len(trades)


def _bps(fraction: float | None) -> float | None:
    return None if fraction is None else round(BPS * fraction, 1) + 0.0


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else round(100 * fraction, 1) + 0.0
