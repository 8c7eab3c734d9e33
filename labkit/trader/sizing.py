"""The border between statistics and money: the only place where floats become Decimals and Decimals floats.

`order_quantity` turns a decision into base-asset quantity on the symbol's grid; `bars_to_arrays` turns exchange bars
into the float rows the compiled step reads. Used by the engine, the exits and the trader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING

from labkit.config import RiskConfig
from labkit.domain.decisions import Decision
from labkit.domain.market_events import Bar, Quote
from labkit.domain.symbol_rules import SymbolRules, quantity_for, round_down_to_step

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ZERO = Decimal(0)


def to_decimal(statistic: float) -> Decimal:
    """A finite float as the shortest decimal that reads back as it."""
    return Decimal(repr(float(statistic)))


def order_quantity(decision: Decision, equity: Decimal, quote: Quote, rules: SymbolRules, risk: RiskConfig) -> Decimal:
    """Quantity in base asset that `decision` may buy or sell at market; 0 if no order fits.

    `decision.leverage` of `equity`, under the hard caps of `risk`, rounded down to the step at the price the order
    would pay (ask for a long, bid for a short). What stays below the exchange's minimum is no order.
    """
    price = quote.ask_price if decision.side > 0 else quote.bid_price
    if equity <= ZERO or decision.leverage <= 0 or price <= ZERO:
        return ZERO
    notional = min(equity * to_decimal(decision.leverage), risk.max_order_notional, risk.max_position_notional)
    quantity = quantity_for(notional, price, rules.step_size)
    quantity = min(quantity, round_down_to_step(rules.market_max_quantity, rules.step_size))
    if quantity < rules.min_quantity or quantity * price < rules.min_notional:
        return ZERO
    return quantity


_ROW = attrgetter("open", "high", "low", "close", "volume", "taker_buy_volume")


def bars_to_rows(bars: Sequence[Bar]) -> NDArray[np.float64]:
    """Open, high, low, close, volume and taker-buy volume of each bar, as float64[bars, 6]."""
    import numpy as np

    flat = (float(value) for bar in bars for value in _ROW(bar))
    return np.fromiter(flat, np.float64, 6 * len(bars)).reshape(-1, 6)


def bars_to_arrays(
    bars: Mapping[str, Sequence[Bar]], symbols: Iterable[str]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Closed one-minute bars as open times (UTC ms, rising, int64[T]) and rows (float64[T, symbols, 6]).

    A minute exists if any symbol has a bar in it; a symbol without one has NaN there. Running bars are left out.
    """
    import numpy as np

    per_symbol = [[bar for bar in bars.get(symbol, ()) if bar.closed] for symbol in symbols]
    times = [np.array([bar.open_time_ms for bar in own], np.int64) for own in per_symbol]
    minutes = np.unique(np.concatenate(times))
    rows = np.full((minutes.size, len(per_symbol), 6), np.nan)
    for index, (own, own_times) in enumerate(zip(per_symbol, times, strict=True)):
        if own:
            rows[np.searchsorted(minutes, own_times), index] = bars_to_rows(own)
    return minutes, rows


def quote_to_floats(quote: Quote) -> tuple[float, float]:
    """Bid and ask as floats, for statistics and display."""
    return float(quote.bid_price), float(quote.ask_price)
