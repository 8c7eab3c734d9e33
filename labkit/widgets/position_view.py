"""Snapshot → what the inspector of positions shows. Pure, like the other views."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from labkit.domain.snapshot import PositionRow, Snapshot
from labkit.widgets.view_parts import (
    Clock,
    Figure,
    Header,
    header_of,
    page_head,
    page_table,
    price,
    price_places,
    signed,
    signed_money,
    tone_of,
    words,
)


class PositionLine(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    side: str
    side_tone: str
    quantity: str
    entry: str
    now: str
    """What closing now would pay."""
    mark: str
    pnl: str
    pnl_percent: str
    pnl_tone: str
    stop: str
    target: str
    trailing: str
    liquidation: str
    progress: float | None
    """Where the price stands between stop (0) and target (1)."""
    entry_mark: float | None
    """Where the entry price stands on the same way."""
    opened_ms: int
    due_ms: int | None
    reason: str
    closing: bool


class PositionsView(msgspec.Struct, frozen=True, kw_only=True):
    """All that the table of positions shows."""

    header: Header
    total: Figure
    positions: tuple[PositionLine, ...]


def positions_view(snapshot: Snapshot) -> PositionsView:
    """The position table's view of one moment."""
    total = sum((row.unrealized_pnl for row in snapshot.positions), Decimal(0))
    return PositionsView(
        header=header_of(snapshot),
        total=Figure(key="total", label="Unrealised PnL", text=signed_money(total), tone=tone_of(total)),
        positions=position_lines(snapshot),
    )


def position_lines(snapshot: Snapshot) -> tuple[PositionLine, ...]:
    """The open positions, largest winner and loser findable by name: in the order of the snapshot."""
    places = {row.symbol: price_places(row) for row in snapshot.symbols}
    return tuple(_position_line(row, places.get(row.symbol, 2)) for row in snapshot.positions)


def _position_line(row: PositionRow, places: int) -> PositionLine:
    is_long = row.quantity > 0
    cost = abs(row.quantity * row.entry_price)
    stop = row.stop_price if row.trailing_stop_price is None else _nearer_stop(row, is_long=is_long)
    return PositionLine(
        key=row.symbol,
        side="long" if is_long else "short",
        side_tone="good" if is_long else "bad",
        quantity=f"{abs(row.quantity).normalize():,f}",
        entry=price(row.entry_price, places),
        now=price(row.exit_price, places),
        mark=price(row.mark_price, places),
        pnl=signed_money(row.unrealized_pnl),
        pnl_percent=signed(float(row.unrealized_pnl / cost) * 100, 2) + " %" if cost else "",
        pnl_tone=tone_of(row.unrealized_pnl),
        stop=price(row.stop_price, places),
        target=price(row.target_price, places),
        trailing=price(row.trailing_stop_price, places),
        liquidation=price(row.liquidation_price, places),
        progress=_way(row.exit_price, stop, row.target_price),
        entry_mark=_way(row.entry_price, stop, row.target_price),
        opened_ms=row.opened_ms,
        due_ms=row.due_ms,
        reason=words(row.entry_reason),
        closing=row.closing,
    )


def _nearer_stop(row: PositionRow, *, is_long: bool) -> Decimal | None:
    stops = [stop for stop in (row.stop_price, row.trailing_stop_price) if stop is not None]
    return max(stops) if is_long else min(stops)


def _way(at: Decimal | None, stop: Decimal | None, target: Decimal | None) -> float | None:
    """How far `at` is on the way from stop to target, within [0, 1]; the same for long and short."""
    if at is None or stop is None or target is None or stop == target:
        return None
    return round(min(1.0, max(0.0, float((at - stop) / (target - stop)))), 3)


def positions_html(view: PositionsView, clock: Clock) -> str:
    """The position table as plain HTML without script or buttons."""
    return page_head("Positions", view.header, clock) + (
        positions_table(view.positions) if view.positions else "<p>No open position.</p>"
    )


def positions_table(lines: Iterable[PositionLine]) -> str:
    return page_table(
        ("Symbol", "Side", "Quantity", "Entry", "Now", "PnL", "Stop", "Target", "Why"),
        [
            (row.key, row.side, row.quantity, row.entry, row.now, f"{row.pnl} ({row.pnl_percent})", *exits)
            for row in lines
            for exits in [(row.stop, row.target, row.reason)]
        ],
    )
