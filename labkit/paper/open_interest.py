"""Open interest where nobody knows who holds what, simulated or played: a stand-in with the right shape and no meaning.

Told is half of what was traded in the 24 hours before, about what the exchange's largest contracts show. It moves
slowly and is the same whenever it is asked for; nothing that trades on it can learn anything of it. Quantities in base
asset, values in quote asset. Used by the routes of the paper exchange.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from labkit.domain.clock import DAY_MS, HOUR_MS, MINUTE_MS
from labkit.domain.market_events import Bar
from labkit.domain.symbol_rules import SymbolRules
from labkit.paper.market_board import SymbolBoard
from labkit.wire.rest_market import OpenInterest, OpenInterestStatistic

PERIODS_MS = {
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    **{f"{hours}h": hours * HOUR_MS for hours in (1, 2, 4, 6, 12)},
    "1d": DAY_MS,
}
REACH_MS = 30 * DAY_MS
"""How far back it is told."""
SHARE_OF_A_DAY = Decimal("0.5")


def open_interest(board: SymbolBoard, rules: SymbolRules, now_ms: int) -> OpenInterest:
    """What is told at `now_ms`."""
    bars = board.minutes(now_ms - DAY_MS, now_ms)
    return OpenInterest(symbol=board.symbol, open_interest=_share(_volume(bars), rules), time_ms=now_ms)


def open_interest_history(
    board: SymbolBoard,
    rules: SymbolRules,
    period_ms: int,
    *,
    start_ms: int | None,
    end_ms: int | None,
    limit: int,
    now_ms: int,
) -> list[OpenInterestStatistic]:
    """One row per period of the last 30 days, labelled with the period's start and told when it is over."""
    earliest_ms = now_ms - REACH_MS if start_ms is None else max(start_ms, now_ms - REACH_MS)
    latest_ms = now_ms - period_ms if end_ms is None else min(end_ms, now_ms - period_ms)
    labels = range(-(-earliest_ms // period_ms) * period_ms, latest_ms + 1, period_ms)
    labels = labels[-limit:] if start_ms is None else labels[:limit]
    if not labels:
        return []
    bars = board.minutes(labels[0] + period_ms - DAY_MS, labels[-1] + period_ms)
    rows: list[OpenInterestStatistic] = []
    volume, first, last = Decimal(0), 0, 0
    for label_ms in labels:
        known_ms = label_ms + period_ms
        while last < len(bars) and bars[last].open_time_ms < known_ms:
            volume += bars[last].volume
            last += 1
        while first < last and bars[first].open_time_ms < known_ms - DAY_MS:
            volume -= bars[first].volume
            first += 1
        if last == 0:
            # Before the market's first minute there is nothing to tell.
            continue
        held = _share(volume, rules)
        rows.append(
            OpenInterestStatistic(
                symbol=board.symbol,
                open_interest=held,
                open_interest_value=held * bars[last - 1].close,
                label_ms=label_ms,
            )
        )
    return rows


def _volume(bars: Sequence[Bar]) -> Decimal:
    return sum((bar.volume for bar in bars), Decimal(0))


def _share(volume: Decimal, rules: SymbolRules) -> Decimal:
    step = rules.step_size
    return (volume * SHARE_OF_A_DAY) // step * step
