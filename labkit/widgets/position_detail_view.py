"""One position → what the inspector's detail shows: levels, result split, receipt, edits, rehearsal. Pure.

Prices travel as numbers where the browser places them, and as text where a person reads them.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from labkit.domain.decisions import Action, Decision
from labkit.domain.orders import Fill, Side
from labkit.domain.position_detail import PositionDetail, PositionPnl, WhatIf
from labkit.domain.reasons import decision_words, feature_words, flip_words, gate_words
from labkit.domain.symbol_rules import round_down_to_step
from labkit.errors import ConfigError
from labkit.widgets.view_parts import (
    Figure,
    money,
    page_table,
    percent,
    places_of,
    price,
    rounded_parts,
    signed,
    signed_money,
    tone_of,
    true_minus,
    utc_time,
)

CENT = Decimal("0.01")
TENTH = Decimal("0.1")
CONTRIBUTIONS_SHOWN = 8
STEP_OF_A_KEY = Decimal("0.0001")
"""How far an arrow key moves a level: about this fraction of the price, a tick at least."""


Candle = tuple[int, float, float, float, float]
"""Open time in UTC ms, then open, high, low, close."""


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One price line of the chart."""

    key: str
    label: str
    price: float
    text: str
    tone: str
    movable: bool


class FillMark(msgspec.Struct, frozen=True, kw_only=True):
    """One fill on the chart."""

    key: str
    time_ms: int
    price: float
    buy: bool
    text: str


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """The middle of the quote now, and when that was."""

    time_ms: int
    price: float
    text: str


class Contribution(msgspec.Struct, frozen=True, kw_only=True):
    """What one part speaks for (share > 0) or against; the largest of all has a share of ±1."""

    key: str
    label: str
    share: float
    text: str
    title: str = ""


class GateLine(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    passed: bool
    text: str
    detail: str


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Why the position was opened."""

    time_ms: int
    verdict: str
    chance: str
    value: tuple[Contribution, ...]
    """In basis points: the edge, its costs and what is left; as shown, they add up."""
    contributions: tuple[Contribution, ...]
    gates: tuple[GateLine, ...]
    flip: str


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """What a person needs to move the exits or to close a part: prices and quantities as plain numbers."""

    symbol: str
    side: str
    stop: str
    target: str
    tick: float
    places: int
    key_step: float
    undo: str
    """What undoing would do; empty if nothing was moved."""
    quantity: str
    quantity_step: str
    base_per_price: float
    """Signed quantity: what one unit of price is worth in quote asset."""
    now: float | None
    """What closing now would pay."""
    closing: bool


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What a sudden move of all prices would do."""

    percent: float
    question: str
    verdict: str
    tone: str
    stop: str
    figures: tuple[Figure, ...]


class Move(msgspec.Struct, frozen=True):
    """The exits a position had before a person moved them; None is one that was not moved."""

    stop_price: Decimal | None
    target_price: Decimal | None


def levels_of(detail: PositionDetail) -> tuple[Level, ...]:
    """Entry, stop, target, trailing stop and liquidation, as far as the position has them."""
    row, places = detail.row, places_of(detail.tick_size)
    named = (
        ("target", "target", row.target_price, "good", True),
        ("entry", "entry", row.entry_price, "", False),
        ("trailing", "trailing stop", row.trailing_stop_price, "warn", False),
        ("stop", "stop", row.stop_price, "bad", True),
        ("liquidation", "liquidation", row.liquidation_price or None, "bad", False),
    )
    return tuple(
        Level(key=key, label=label, price=float(at), text=price(at, places), tone=tone, movable=movable)
        for key, label, at, tone, movable in named
        if at is not None
    )


def fill_marks(detail: PositionDetail) -> tuple[FillMark, ...]:
    return tuple(_fill_mark(fill, places_of(detail.tick_size)) for fill in detail.fills)


def _fill_mark(fill: Fill, places: int) -> FillMark:
    buy = fill.side is Side.BUY
    return FillMark(
        key=str(fill.trade_id),
        time_ms=fill.trade_time_ms,
        price=float(fill.price),
        buy=buy,
        text=f"{'bought' if buy else 'sold'} {fill.quantity.normalize():,f} at {price(fill.price, places)}, "
        f"{utc_time(fill.trade_time_ms)} UTC, fee {fill.commission.normalize():f} USDT",
    )


def split_figures(pnl: PositionPnl) -> tuple[Figure, ...]:
    """Where the result comes from, in cents that add up to the shown total."""
    named = (
        ("price", "Price", pnl.price, "From the prices promised when its orders were decided on, to the mark price"),
        ("slippage", "Slippage", pnl.slippage, "What its fills paid worse (−) or better than those promised prices"),
        ("fees", "Fees", pnl.fees, "Commissions paid so far; closing will cost the same again"),
        ("funding", "Funding", pnl.funding, "Paid (−) or received for holding it"),
    )
    shown = rounded_parts([amount for _, _, amount, _ in named], CENT)
    parts = [
        Figure(key=key, label=label, text=signed_money(cents), tone=tone_of(cents), title=title)
        for (key, label, _, title), cents in zip(named, shown, strict=True)
    ]
    net = sum(shown, Decimal(0))
    title = "The four together: what this position has brought so far, the part still open at mark"
    return (*parts, Figure(key="net", label="Net so far", text=signed_money(net), tone=tone_of(net), title=title))


def receipt_of(decision: Decision) -> Receipt:
    """The receipt of the decision that opened a position."""
    verb = {Action.ENTER_LONG: "Went long", Action.ENTER_SHORT: "Went short"}.get(decision.action, "Decided")
    strongest = sorted(decision.contributions.items(), key=lambda item: -abs(item[1]))[:CONTRIBUTIONS_SHOWN]
    largest = max((abs(value) for _, value in strongest), default=0.0) or 1.0
    gates = sorted(decision.gates, key=lambda gate: gate.passed)
    return Receipt(
        time_ms=decision.time_ms,
        verdict=f"{verb}: {decision_words(decision)[:1].lower()}{decision_words(decision)[1:]}",
        chance=(
            f"The {'long' if decision.side > 0 else 'short'} pays with a probability of {decision.probability:.1%} "
            f"(by {decision.policy}); stop and target {decision.stop_distance:.2%} away, "
            f"{decision.horizon_minutes} minutes at most"
        ),
        value=_value_parts(decision),
        contributions=tuple(
            Contribution(key=name, label=feature_words(name), share=round(value / largest, 3), text=signed(value, 3))
            for name, value in strongest
        ),
        gates=tuple(
            GateLine(key=gate.name, passed=gate.passed, text=gate_words(gate), detail=true_minus(gate.detail))
            for gate in gates
        ),
        flip=flip_words(decision),
    )


_VALUE_TITLES = {
    "edge": "What the bracket is expected to earn before costs",
    "fee": "Commissions of both sides",
    "spread": "From bid to ask",
    "slippage": "Expected beyond half the spread, both sides",
    "funding": "Expected to be paid (−) or received",
    "gap": "What real fills have lost against virtual ones",
    "value": "What is left after costs",
}


def _value_parts(decision: Decision) -> tuple[Contribution, ...]:
    named = (
        ("edge", "Edge", decision.edge),
        ("fee", "Fees", -decision.fee_cost),
        ("spread", "Spread", -decision.spread_cost),
        ("slippage", "Slippage", -decision.slippage_cost),
        ("funding", "Funding", -decision.funding_cost),
        ("gap", "Execution gap", -decision.execution_gap_cost),
    )
    shown = rounded_parts([Decimal(str(value)) * 10_000 for _, _, value in named], TENTH)
    largest = max(abs(points) for points in shown) or TENTH
    labelled = [(key, label, points) for (key, label, _), points in zip(named, shown, strict=True)]
    return tuple(
        Contribution(
            key=key,
            label=label,
            share=round(float(points / largest), 3),
            text=signed(float(points), 1),
            title=_VALUE_TITLES[key],
        )
        for key, label, points in (*labelled, ("value", "What is left", sum(shown, Decimal(0))))
    )


def edit_of(detail: PositionDetail, move: Move | None) -> Edit:
    """What there is to edit; `move` is what undoing would bring back."""
    row, tick = detail.row, detail.tick_size
    places = places_of(tick)
    return Edit(
        symbol=row.symbol,
        side="long" if row.quantity > 0 else "short",
        stop="" if row.stop_price is None else f"{row.stop_price:.{places}f}",
        target="" if row.target_price is None else f"{row.target_price:.{places}f}",
        tick=float(tick),
        places=places,
        key_step=float(_key_step(row.entry_price, tick)),
        undo="" if move is None else _undo_words(move, places),
        quantity=f"{abs(row.quantity).normalize():f}",
        quantity_step=f"{detail.step_size.normalize():f}",
        base_per_price=float(row.quantity),
        now=None if row.exit_price is None else float(row.exit_price),
        closing=row.closing,
    )


def _key_step(entry_price: Decimal, tick: Decimal) -> Decimal:
    """The tick times a power of ten that is nearest below `STEP_OF_A_KEY` of the price."""
    step = tick
    while step * 10 <= entry_price * STEP_OF_A_KEY:
        step *= 10
    return step


def _undo_words(move: Move, places: int) -> str:
    moved = [(name, at) for name, at in (("stop", move.stop_price), ("target", move.target_price)) if at is not None]
    return "Undo: " + ", ".join(f"{name} back to {price(at, places)}" for name, at in moved)


def part_of(quantity: Decimal, share_percent: int, step_size: Decimal) -> Decimal:
    """So many percent of a position of `quantity` (unsigned), rounded down to what may be ordered.

    Raises:
        ConfigError: that is less than the smallest step.
    """
    part = round_down_to_step(quantity * share_percent / 100, step_size)
    if part <= 0:
        raise ConfigError(
            f"{share_percent} % of {quantity.normalize():f} is less than the smallest step, {step_size.normalize():f}",
            field="quantity",
        )
    return part


def rehearsal_of(detail: PositionDetail, told: WhatIf) -> Rehearsal:
    """The rehearsal as the holder of this position sees it."""
    places, symbol = places_of(detail.tick_size), detail.row.symbol
    after = next((position for position in told.positions if position.symbol == symbol), None)
    falls = told.fraction < 0
    lost = told.equity - told.equity_before
    figures = [
        Figure(
            key="equity",
            label="Equity",
            text=money(told.equity),
            title=f"Of the account, all positions at the moved prices; now {money(told.equity_before)}",
        ),
        Figure(key="change", label="Change", text=signed_money(lost), tone=tone_of(lost), title="Of the equity"),
        Figure(
            key="margin",
            label="Margin ratio",
            text=f"{percent(told.margin_ratio_before)} → {percent(told.margin_ratio)}",
            tone="bad" if told.liquidated else "warn" if told.margin_ratio >= 0.5 else "",
            title="Maintenance margin over margin balance: 100 % is liquidation",
        ),
    ]
    if after is not None:
        figures = [
            Figure(key="price", label="Its price", text=price(after.mark_price, places), title="Its mark price then"),
            Figure(
                key="pnl",
                label="Its PnL",
                text=signed_money(after.unrealized_pnl),
                tone=tone_of(after.unrealized_pnl),
                title="Of this position then",
            ),
            *figures,
        ]
    stop = ""
    if after is not None and after.stop_passed:
        stop = (
            f"The price jumps over the stop at {price(detail.row.stop_price, places)}: it would be filled near "
            f"{price(after.mark_price, places)}, {money(-after.beyond_stop)} USDT beyond it."
        )
    return Rehearsal(
        percent=round(told.fraction * 100, 2),
        question=f"What if every price {'fell' if falls else 'rose'} by {abs(told.fraction * 100):g} % in one second?",
        verdict="Liquidated: the exchange takes over all positions" if told.liquidated else "Not liquidated",
        tone="bad" if told.liquidated else "good",
        stop=stop,
        figures=tuple(figures),
    )


def detail_html(split: Sequence[Figure], levels: Sequence[Level], receipt: Receipt | None) -> str:
    """The detail as plain HTML without script."""
    parts = [
        page_table(("Where the result comes from", "USDT"), [(each.label, each.text) for each in split]),
        page_table(("Level", "Price"), [(level.label, level.text) for level in levels]),
    ]
    if receipt is not None:
        parts += [
            f"<p><b>{html.escape(receipt.verdict)}.</b> {html.escape(receipt.chance)}.</p>",
            page_table(("Expected value", "bp"), [(each.label, each.text) for each in receipt.value]),
            page_table(("What spoke for it", "log-odds"), [(each.label, each.text) for each in receipt.contributions]),
            f"<p>{html.escape(receipt.flip)}</p>",
        ]
    return "".join(parts)
