"""Snapshot → what the inspector of positions shows. Pure, like the other views."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from labkit.domain.decisions import VirtualPosition
from labkit.domain.position_detail import PositionDetail, WhatIf
from labkit.domain.reasons import exit_words
from labkit.domain.snapshot import PositionRow, Snapshot
from labkit.widgets.position_detail_view import (
    Candle,
    Edit,
    FillMark,
    Level,
    Live,
    Move,
    Receipt,
    Rehearsal,
    detail_html,
    edit_of,
    fill_marks,
    levels_of,
    receipt_of,
    rehearsal_of,
    split_figures,
)
from labkit.widgets.view_parts import (
    NOTHING,
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
    utc_time,
)

VIRTUAL_SHOWN = 24


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
    closing: bool


class VirtualLine(msgspec.Struct, frozen=True, kw_only=True):
    """One virtual position: a bracket without money that teaches the learner."""

    key: str
    symbol: str
    side: str
    side_tone: str
    entry: str
    stop: str
    target: str
    trailing: str
    result: str
    """In basis points of the entry price, gross."""
    result_tone: str
    progress: float | None
    entry_mark: float | None
    due_ms: int


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What the inspector knows of the position that was chosen; without a detail it is not there (any more)."""

    symbol: str
    detail: PositionDetail | None = None
    candles: tuple[Candle, ...] = ()
    move: Move | None = None
    rehearsed: WhatIf | None = None


NOBODY = Chosen(symbol="")


class PositionsView(msgspec.Struct, frozen=True, kw_only=True):
    """All that the inspector shows: the tables, and the chosen position's detail where there is one."""

    header: Header
    total: Figure
    positions: tuple[PositionLine, ...]
    virtual: tuple[VirtualLine, ...]
    virtual_summary: str
    chosen: str
    gone: str
    """What became of the chosen position, if it is not open any more."""
    levels: tuple[Level, ...] = ()
    candles: tuple[Candle, ...] = ()
    fills: tuple[FillMark, ...] = ()
    live: Live | None = None
    split: tuple[Figure, ...] = ()
    receipt: Receipt | None = None
    edit: Edit | None = None
    rehearsal: Rehearsal | None = None


def positions_view(snapshot: Snapshot, chosen: Chosen = NOBODY) -> PositionsView:
    """The inspector's view of one moment."""
    total = sum((row.unrealized_pnl for row in snapshot.positions), Decimal(0))
    view = PositionsView(
        header=header_of(snapshot),
        total=Figure(key="total", label="Unrealised PnL", text=signed_money(total), tone=tone_of(total)),
        positions=position_lines(snapshot),
        virtual=virtual_lines(snapshot),
        virtual_summary=_virtual_summary(snapshot.virtual_positions),
        chosen=chosen.symbol,
        gone=_gone(snapshot, chosen.symbol) if chosen.symbol and chosen.detail is None else "",
    )
    detail = chosen.detail
    if detail is None:
        return view
    return msgspec.structs.replace(
        view,
        levels=levels_of(detail),
        candles=chosen.candles,
        fills=fill_marks(detail),
        live=_live(snapshot, chosen.symbol),
        split=split_figures(detail.pnl),
        receipt=None if detail.decision is None else receipt_of(detail.decision),
        edit=edit_of(detail, chosen.move),
        rehearsal=None if chosen.rehearsed is None else rehearsal_of(detail, chosen.rehearsed),
    )


def _gone(snapshot: Snapshot, symbol: str) -> str:
    """What became of the position that was open on `symbol`, as far as the latest closed trades tell."""
    for trade in reversed(snapshot.closed_trades):
        if trade.symbol == symbol:
            why = exit_words(trade.exit_reason)
            why = why[:1].lower() + why[1:]
            return (
                f"{symbol}: the {trade.side} was closed at {utc_time(trade.closed_ms)} UTC, {why}: "
                f"{signed_money(trade.net_pnl)} USDT net."
            )
    return f"No position is open on {symbol}."


def _live(snapshot: Snapshot, symbol: str) -> Live | None:
    for row in snapshot.symbols:
        if row.symbol == symbol and row.bid_price is not None and row.ask_price is not None:
            middle = (row.bid_price + row.ask_price) / 2
            quoted_ms = snapshot.time_ms - (row.age_ms or 0)
            return Live(time_ms=quoted_ms, price=float(middle), text=price(middle, price_places(row)))
    return None


def virtual_lines(snapshot: Snapshot) -> tuple[VirtualLine, ...]:
    """The newest virtual positions, newest first."""
    places = {row.symbol: price_places(row) for row in snapshot.symbols}
    newest = sorted(snapshot.virtual_positions, key=lambda row: (-row.opened_ms, row.symbol))[:VIRTUAL_SHOWN]
    return tuple(_virtual_line(row, places.get(row.symbol, 2)) for row in newest)


def _virtual_line(row: VirtualPosition, places: int) -> VirtualLine:
    entry, stop, target, last = (
        Decimal(str(at)) for at in (row.entry_price, row.stop_price, row.target_price, row.last_price)
    )
    return VirtualLine(
        key=f"{row.symbol} {row.opened_ms}",
        symbol=row.symbol,
        side="long" if row.side > 0 else "short",
        side_tone="good" if row.side > 0 else "bad",
        entry=price(entry, places),
        stop=price(stop, places),
        target=price(target, places),
        trailing=NOTHING,
        result=signed(row.result * 10_000, 1),
        result_tone=tone_of(row.result),
        progress=_way(last, stop, target),
        entry_mark=_way(entry, stop, target),
        due_ms=row.due_ms,
    )


def _virtual_summary(rows: Sequence[VirtualPosition]) -> str:
    if not rows:
        return "No virtual position is open"
    ahead = sum(row.result > 0 for row in rows)
    mean = sum(row.result for row in rows) / len(rows) * 10_000
    shown = f", the newest {VIRTUAL_SHOWN} shown" if len(rows) > VIRTUAL_SHOWN else ""
    return f"{len(rows)} virtual position{'s'[: len(rows) != 1]}, {ahead} ahead, {signed(mean, 1)} bp on average{shown}"


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
        liquidation=price(row.liquidation_price or None, places),
        progress=_way(row.exit_price, stop, row.target_price),
        entry_mark=_way(row.entry_price, stop, row.target_price),
        opened_ms=row.opened_ms,
        due_ms=row.due_ms,
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
    """The inspector as plain HTML without script or buttons."""
    page = page_head("Positions", view.header, clock)
    page += positions_table(view.positions) if view.positions else "<p>No open position.</p>"
    page += f"<p>{html.escape(view.virtual_summary)}.</p>"
    if view.edit is not None:
        page += f"<p><b>{html.escape(view.chosen)}</b></p>" + detail_html(view.split, view.levels, view.receipt)
    return page


def positions_table(lines: Iterable[PositionLine]) -> str:
    return page_table(
        ("Symbol", "Side", "Quantity", "Entry", "Now", "PnL", "Stop", "Target", "Liquidation"),
        [
            (row.key, row.side, row.quantity, row.entry, row.now, f"{row.pnl} ({row.pnl_percent})", *exits)
            for row in lines
            for exits in [(row.stop, row.target, row.liquidation)]
        ],
    )
