"""Exits of an open position: stop, trailing stop, target and time-out, judged at what closing now would pay.

The rules are plain functions of numbers: the engine calls them with Decimals at every look of the position monitor, the
simulation compiles the very same functions for floats (`labkit.research.simulation`). A long is judged at the bid, a
short at the ask. Prices in quote asset, times in UTC milliseconds. The fifth exit, `model_flip`, arrives as a
`Decision` to EXIT.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

import msgspec

from labkit.config import TraderConfig
from labkit.domain.clock import MINUTE_MS
from labkit.domain.decisions import Decision
from labkit.domain.market_events import Quote
from labkit.domain.symbol_rules import SymbolRules, round_to_tick
from labkit.trader.sizing import to_decimal

_DEFAULTS = TraderConfig()

Number = TypeVar("Number", Decimal, float)

NO_EXIT, STOP_LOSS, TRAILING_STOP, TAKE_PROFIT, MAX_HOLDING, MODEL_FLIP = range(6)
EXIT_REASONS = ("", "stop_loss", "trailing_stop", "take_profit", "max_holding", "model_flip")
"""What the numbers above are called in the ledger."""


def distance_in_price(entry_price: Number, fraction: Number, tick: Number) -> Number:
    """How far stop or target lie from entry, in price: a fraction of the entry price, at least one tick."""
    return max(entry_price * fraction, tick)


def trail(
    side: int, price: Number, entry_price: Number, start: Number, best: Number, armed: bool
) -> tuple[Number, bool]:
    """Best price and arming of the trailing stop after closing could have paid `price`.

    The best price moves only in the position's favour, and arming (once `start` is earned) is for good.
    """
    if (price - best) * side <= 0:
        return best, armed
    return price, armed or (price - entry_price) * side >= start


def trailing_level(side: int, best: Number, gap: Number) -> Number:
    """Where an armed trailing stop stands."""
    return best - side * gap


def exit_code(
    side: int,
    price: Number,
    now_ms: int,
    stop: Number,
    target: Number,
    due_ms: int,
    trailing: Number,
    armed: bool,
) -> int:
    """Why a position must be closed now if closing pays `price`, the gravest reason first, or `NO_EXIT`."""
    if (price - stop) * side <= 0:
        return STOP_LOSS
    if armed and (price - trailing) * side <= 0:
        return TRAILING_STOP
    if (price - target) * side >= 0:
        return TAKE_PROFIT
    if now_ms >= due_ms:
        return MAX_HOLDING
    return NO_EXIT


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
        return trailing_level(position_sign, self.trailing_best, self.trailing_gap) if self.trailing_armed else None


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
    stop_distance = distance_in_price(entry_price, to_decimal(decision.stop_distance), tick)
    target_distance = distance_in_price(entry_price, to_decimal(decision.target_distance), tick)
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
    best, armed = trail(
        position_sign, price, plan.entry_price, plan.trailing_start, plan.trailing_best, plan.trailing_armed
    )
    if best == plan.trailing_best:
        return plan
    return msgspec.structs.replace(plan, trailing_best=best, trailing_armed=armed)


def exit_reason(plan: ExitPlan, position_sign: int, quote: Quote, now_ms: int) -> str | None:
    """Why the position must be closed now, the gravest reason first, or None."""
    if position_sign == 0:
        return None
    code = exit_code(
        position_sign,
        closing_price(position_sign, quote),
        now_ms,
        plan.stop_price,
        plan.target_price,
        plan.due_ms,
        trailing_level(position_sign, plan.trailing_best, plan.trailing_gap),
        plan.trailing_armed,
    )
    return EXIT_REASONS[code] or None
