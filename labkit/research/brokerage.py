"""A broker on bars: fills, exits, fees and funding of one position per symbol, compiled.

The exit rules are those of `labkit.trader.exits`, the very functions the live engine calls with Decimals. What a bar
does not tell is taken to be unfavourable: the assumed path is open, the extreme against the position, the extreme for
it, close. A price that passes a level is asked at the level, a gap at the open. Where finer bars or trades of a bar are
known, the position lives through those instead. Prices in quote asset, times in UTC milliseconds unless they are
called minutes. Used by `labkit.research.simulation`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.domain.clock import MINUTE_MS
from labkit.research.compiling import compiled
from labkit.trader import exits
from labkit.trader.exits import MODEL_FLIP, NO_EXIT
from labkit.trader.features import CLOSE, HIGH, LOW, OPEN, is_usable

POSITION = np.dtype(
    [
        ("side", "i8"),
        ("quantity", "f8"),
        ("entry_price", "f8"),
        ("entry_ms", "i8"),
        ("distance", "f8"),
        ("stop", "f8"),
        ("target", "f8"),
        ("due_ms", "i8"),
        ("trailing_start", "f8"),
        ("trailing_gap", "f8"),
        ("trailing_best", "f8"),
        ("trailing_armed", "?"),
        # The nearer of stop and trailing stop.
        ("protection", "f8"),
        ("commission", "f8"),
        ("funding", "f8"),
        ("execution_gap", "f8"),
        # Decided at the last close, carried out at the next open.
        ("wanted_side", "i8"),
        ("wanted_quantity", "f8"),
        ("wanted_distance", "f8"),
        ("expected_price", "f8"),
        ("leaving", "?"),
        ("next_funding", "i8"),
        ("last_price", "f8"),
    ]
)

TRADE = np.dtype(
    [
        ("symbol", "i8"),
        ("side", "i8"),
        ("quantity", "f8"),
        ("entry_ms", "i8"),
        ("exit_ms", "i8"),
        ("entry_price", "f8"),
        ("exit_price", "f8"),
        ("distance", "f8"),
        ("reason", "i8"),
        ("price_pnl", "f8"),
        ("commission", "f8"),
        ("funding", "f8"),
        ("net_pnl", "f8"),
        ("execution_gap", "f8"),
    ]
)

ACCOUNT = np.dtype(
    [
        ("cash", "f8"),
        ("peak", "f8"),
        ("worst_drawdown", "f8"),
        ("commission", "f8"),
        ("funding", "f8"),
        ("trades", "i8"),
        ("entries", "i8"),
        ("day_start", "f8"),
    ]
)


class Terms(NamedTuple):
    """What trading costs and how positions are guarded; rates are fractions.

    `half_spread` is float64[T or 1, S] of the price; `tick`, `step`, `min_quantity`, `min_notional` are float64[S],
    zero where nothing is rounded or forbidden.
    """

    span_minutes: int
    horizon_minutes: int
    taker_fee: float
    slippage: float
    half_spread: NDArray[np.float64]
    trailing_start_fraction: float
    trailing_gap_fraction: float
    max_order_notional: float
    max_position_notional: float
    max_open_positions: int
    max_daily_loss: float
    tick: NDArray[np.float64]
    step: NDArray[np.float64]
    min_quantity: NDArray[np.float64]
    min_notional: NDArray[np.float64]


class Finer(NamedTuple):
    """What happened inside bars, where it is known: of symbol s the rows `first[s]:first[s + 1]`, times rising.

    `time_ms` is int64[N], `prices` float64[N, 4] (open, high, low, close; a trade is four times its price).
    """

    first: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    prices: NDArray[np.float64]


_distance_in_price = compiled(exits.distance_in_price)
advance_best = compiled(exits.trail)
_trailing_level = compiled(exits.trailing_level)
_exit_code = compiled(exits.exit_code)


@compiled
def _round_to(value: float, grid: float) -> float:
    return float(value if grid <= 0.0 else round(value / grid) * grid)


@compiled
def quantity_of(terms: Any, s: int, notional: float, price: float) -> float:
    """Quantity in base asset an order of this notional may buy at `price` under caps and grid; 0 if none fits."""
    capped = min(notional, terms.max_order_notional, terms.max_position_notional)
    quantity = capped / price
    step = terms.step[s]
    if step > 0.0:
        # A quotient that should be whole may come out a hair below.
        quantity = math.floor(quantity / step * (1.0 + 1e-12)) * step
    if quantity < terms.min_quantity[s] or quantity * price < terms.min_notional[s]:
        return 0.0
    return float(quantity)


@compiled
def want(terms: Any, position: Any, s: int, side: int, leverage: float, distance: float, worth: float,
         price: float) -> bool:  # fmt: skip
    """Order an entry of `leverage` times `worth` for the next open; False if no order fits. `price` is paid now."""
    quantity = quantity_of(terms, s, worth * leverage, price)
    if quantity <= 0.0:
        return False
    position.wanted_side = side
    position.wanted_quantity = quantity
    position.wanted_distance = distance
    position.expected_price = price
    return True


@compiled
def leave(position: Any, price: float) -> None:
    """Order the exit for the next open; closing would pay `price` now."""
    position.leaving = True
    position.expected_price = price


@compiled
def meet_bar(terms: Any, account: Any, position: Any, trades: Any, finer: Any, s: int, minute: int, row: Any,
             half: float, funding_minutes: Any, funding_rates: Any) -> None:  # fmt: skip
    """Let one closed bar happen to symbol `s`: funding, the open, what was ordered, and the way to the close.

    Ask `is_quiet` before: most bars change nothing. A bar that is no possible bar did not happen.
    """
    if not is_usable(row):
        return
    now_ms = minute * MINUTE_MS
    _pay_funding(account, position, minute, row[OPEN], funding_minutes, funding_rates)
    _live_through(terms, account, position, trades, finer, s, now_ms, row, half)
    position.last_price = row[CLOSE]


@compiled
def _pay_funding(account: Any, position: Any, minute: int, price: float, funding_minutes: Any, rates: Any) -> None:
    """Settle the funding due up to this bar's open: whoever held a long then pays the rate, a short receives it."""
    while funding_minutes[position.next_funding] <= minute:
        if position.side != 0:
            amount = -position.side * position.quantity * price * rates[position.next_funding]
            position.funding += amount
            account.funding += amount
            account.cash += amount
        position.next_funding += 1


@compiled
def _live_through(terms: Any, account: Any, position: Any, trades: Any, finer: Any, s: int, now_ms: int, row: Any,
                  half: float) -> None:  # fmt: skip
    if position.side != 0:
        if position.leaving:
            paid = row[OPEN] * (1.0 - position.side * half)
            _close(terms, account, position, trades, s, now_ms, paid, MODEL_FLIP)
        else:
            _meet(terms, account, position, trades, s, now_ms, row[OPEN], half)
    if position.wanted_side != 0:
        _enter(terms, account, position, s, now_ms, row[OPEN] * (1.0 + position.wanted_side * half))
    if position.side == 0:
        return
    end_ms = now_ms + terms.span_minutes * MINUTE_MS
    own = finer.time_ms[finer.first[s] : finer.first[s + 1]]
    first = finer.first[s] + np.searchsorted(own, now_ms)
    last = finer.first[s] + np.searchsorted(own, end_ms)
    if first == last:
        _walk(terms, account, position, trades, s, now_ms, end_ms, row[OPEN], row[HIGH], row[LOW], row[CLOSE], half)
        return
    for i in range(first, last):
        prices = finer.prices[i]
        own_ms = finer.time_ms[i]
        next_ms = finer.time_ms[i + 1] if i + 1 < last else end_ms
        _meet(terms, account, position, trades, s, own_ms, prices[0], half)
        if position.side == 0:
            return
        _walk(terms, account, position, trades, s, own_ms, next_ms, prices[0], prices[1], prices[2], prices[3], half)
        if position.side == 0:
            return


@compiled
def is_quiet(position: Any, minute: int, high: float, low: float, half: float, next_funding: int) -> bool:
    """True if a bar changes nothing about an open position: no order for its open, no level touched, no new best price,
    no funding, no time run out. Prices that are missing are never quiet."""
    side = position.side
    against, towards = (low, high) if side > 0 else (high, low)
    keeps = 1.0 - side * half
    return bool(
        (against * keeps - position.protection) * side > 0.0
        and (towards * keeps - position.trailing_best) * side <= 0.0
        and (towards * keeps - position.target) * side < 0.0
        and minute * MINUTE_MS < position.due_ms
        and minute < next_funding
        and not position.leaving
    )


@compiled
def _nearest_protection(position: Any) -> float:
    level = position.stop
    if position.trailing_armed:
        trailing = _trailing_level(position.side, position.trailing_best, position.trailing_gap)
        if (trailing - level) * position.side > 0.0:
            level = trailing
    return float(level)


@compiled
def _walk(terms: Any, account: Any, position: Any, trades: Any, s: int, now_ms: int, end_ms: int, opened: float,
          high: float, low: float, closed: float, half: float) -> None:  # fmt: skip
    """From the open (already met) to the extreme against, the extreme towards, and the close, passing every level."""
    against, towards = (low, high) if position.side > 0 else (high, low)
    for leg in range(3):
        price = against
        moment = now_ms
        if leg == 1:
            price = towards
        elif leg == 2:
            # A time that ends with the bar ends after whatever is decided at its close: at the next open.
            price, moment = closed, end_ms - 1
        paid = price * (1.0 - position.side * half)
        if (paid - position.protection) * position.side <= 0.0:
            paid = position.protection
        elif (paid - position.target) * position.side >= 0.0:
            paid = position.target
        _ask(terms, account, position, trades, s, moment, paid)
        if position.side == 0:
            return


@compiled
def _meet(terms: Any, account: Any, position: Any, trades: Any, s: int, now_ms: int, price: float,
          half: float) -> None:  # fmt: skip
    """A price that is simply there, as after a gap: what it means, it costs."""
    _ask(terms, account, position, trades, s, now_ms, price * (1.0 - position.side * half))


@compiled
def _ask(terms: Any, account: Any, position: Any, trades: Any, s: int, now_ms: int, paid: float) -> None:
    position.trailing_best, position.trailing_armed = advance_best(
        position.side,
        paid,
        position.entry_price,
        position.trailing_start,
        position.trailing_best,
        position.trailing_armed,
    )
    position.protection = _nearest_protection(position)
    trailing = _trailing_level(position.side, position.trailing_best, position.trailing_gap)
    reason = _exit_code(
        position.side,
        paid,
        now_ms,
        position.stop,
        position.target,
        position.due_ms,
        trailing,
        position.trailing_armed,
    )
    if reason != NO_EXIT:
        position.expected_price = paid
        _close(terms, account, position, trades, s, now_ms, paid, reason)


@compiled
def _enter(terms: Any, account: Any, position: Any, s: int, now_ms: int, asked: float) -> None:
    side, tick = position.wanted_side, terms.tick[s]
    price = asked * (1.0 + side * terms.slippage)
    position.side = side
    position.quantity = position.wanted_quantity
    position.entry_price = price
    position.entry_ms = now_ms
    position.distance = position.wanted_distance
    away = _distance_in_price(price, position.distance, tick)
    position.stop = _round_to(price - side * away, tick)
    position.target = _round_to(price + side * away, tick)
    position.due_ms = now_ms + terms.horizon_minutes * MINUTE_MS
    position.trailing_start = away * terms.trailing_start_fraction
    position.trailing_gap = away * terms.trailing_gap_fraction
    position.trailing_best = price
    position.trailing_armed = False
    position.protection = position.stop
    position.commission = position.quantity * price * terms.taker_fee
    position.funding = 0.0
    position.execution_gap = side * (position.expected_price - price)
    position.wanted_side = 0
    account.cash -= position.commission
    account.commission += position.commission
    account.entries += 1


@compiled
def _close(terms: Any, account: Any, position: Any, trades: Any, s: int, now_ms: int, paid: float,
           reason: int) -> None:  # fmt: skip
    side = position.side
    price = paid * (1.0 - side * terms.slippage)
    profit = side * position.quantity * (price - position.entry_price)
    commission = position.quantity * price * terms.taker_fee
    account.cash += profit - commission
    account.commission += commission
    trade = trades[account.trades]
    trade.symbol = s
    trade.side = side
    trade.quantity = position.quantity
    trade.entry_ms = position.entry_ms
    trade.exit_ms = now_ms
    trade.entry_price = position.entry_price
    trade.exit_price = price
    trade.distance = position.distance
    trade.reason = reason
    trade.price_pnl = profit
    trade.commission = position.commission + commission
    trade.funding = position.funding
    trade.net_pnl = profit - trade.commission + position.funding
    # What real fills lost or gained against the prices the orders were sent at, as the engine measures it.
    trade.execution_gap = (position.execution_gap + side * (price - position.expected_price)) / position.entry_price
    account.trades += 1
    position.side = 0
    position.leaving = False


@compiled
def open_profit(positions: Any) -> float:
    """Profit of all open positions at the last prices, before the cost of closing."""
    total = 0.0
    for s in range(positions.size):
        position = positions[s]
        if position.side != 0:
            total += position.side * position.quantity * (position.last_price - position.entry_price)
    return total
