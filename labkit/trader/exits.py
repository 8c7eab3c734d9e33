"""Exits of an open position: stop, trailing stop, target and time-out, as plain Decimal arithmetic on quotes.

A long is judged at the bid, a short at the ask: what closing now would pay. Prices in quote asset, times in UTC
milliseconds. The engine keeps one plan per open trade and asks at every look of the position monitor; the fifth exit,
`model_flip`, arrives as a `Decision` to EXIT.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from labkit.config import TraderConfig
from labkit.domain.clock import MINUTE_MS
from labkit.domain.decisions import Decision
from labkit.domain.market_events import Quote
from labkit.domain.symbol_rules import SymbolRules, round_to_tick
from labkit.trader.sizing import to_decimal

_DEFAULTS = TraderConfig()


class ExitPlan(msgspec.Struct, frozen=True, kw_only=True):
    """When an open position is to be closed.

    `stop_distance` and `target_distance` are prices away from entry. The trailing stop arms once `trailing_start` has
    been earned and then follows `trailing_best`, the best closing price seen, at `trailing_gap`.
    """

    entry_price: Decimal
    stop_price: Decimal
    target_price: Decimal
    stop_distance: Decimal
    target_distance: Decimal
    due_ms: int
    trailing_start: Decimal
    trailing_gap: Decimal
    trailing_best: Decimal
    trailing_armed: bool = False

    def trailing_stop_price(self, position_sign: int) -> Decimal | None:
        """Where the trailing stop stands, or None until it is armed."""
        return self.trailing_best - position_sign * self.trailing_gap if self.trailing_armed else None


def make_exit_plan(
    decision: Decision,
    entry_price: Decimal,
    side: int,
    now_ms: int,
    rules: SymbolRules,
    trader: TraderConfig = _DEFAULTS,
) -> ExitPlan:
    """The bracket of `decision` around the price the position (`side` +1 long, -1 short) was really entered at.

    Stop and target lie on the tick grid and at least one tick away from the entry; the time-out counts from `now_ms`.
    """
    tick = rules.tick_size
    stop_distance = max(entry_price * to_decimal(decision.stop_distance), tick)
    target_distance = max(entry_price * to_decimal(decision.target_distance), tick)
    return ExitPlan(
        entry_price=entry_price,
        stop_price=max(round_to_tick(entry_price - side * stop_distance, tick), tick),
        target_price=max(round_to_tick(entry_price + side * target_distance, tick), tick),
        stop_distance=stop_distance,
        target_distance=target_distance,
        due_ms=now_ms + decision.horizon_minutes * MINUTE_MS,
        trailing_start=target_distance * to_decimal(trader.trailing_start_fraction),
        trailing_gap=stop_distance * to_decimal(trader.trailing_gap_fraction),
        trailing_best=entry_price,
    )


def closing_price(position_sign: int, quote: Quote) -> Decimal:
    """What closing now would pay per unit: the bid for a long, the ask for a short."""
    return quote.bid_price if position_sign > 0 else quote.ask_price


def advance_trailing(plan: ExitPlan, position_sign: int, quote: Quote) -> ExitPlan:
    """The plan after seeing `quote`: the best price moves only in the position's favour, and arming is for good."""
    price = closing_price(position_sign, quote)
    if (price - plan.trailing_best) * position_sign <= 0:
        return plan
    earned = (price - plan.entry_price) * position_sign
    return msgspec.structs.replace(
        plan, trailing_best=price, trailing_armed=plan.trailing_armed or earned >= plan.trailing_start
    )


def exit_reason(plan: ExitPlan, position_sign: int, quote: Quote, now_ms: int) -> str | None:
    """Why the position must be closed now, the gravest reason first, or None."""
    if position_sign == 0:
        return None
    price = closing_price(position_sign, quote)
    if (price - plan.stop_price) * position_sign <= 0:
        return "stop_loss"
    trailing = plan.trailing_stop_price(position_sign)
    if trailing is not None and (price - trailing) * position_sign <= 0:
        return "trailing_stop"
    if (price - plan.target_price) * position_sign >= 0:
        return "take_profit"
    if now_ms >= plan.due_ms:
        return "max_holding"
    return None
