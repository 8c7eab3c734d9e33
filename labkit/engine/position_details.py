"""One open position in detail, and the rehearsal of a sudden move. Pure: reads the engine, changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from labkit.domain.market_events import Quote
from labkit.domain.position_detail import PositionAfter, PositionDetail, PositionPnl, WhatIf
from labkit.engine.engine import Engine
from labkit.engine.snapshots import account_row, position_rows
from labkit.errors import ConfigError, LocalProtocolError

ZERO = Decimal(0)


def position_detail(
    engine: Engine, symbol: str, quotes: Mapping[str, Quote], marks: Mapping[str, Decimal]
) -> PositionDetail:
    """The open position of `symbol` at these quotes and mark prices.

    Raises:
        LocalProtocolError: there is no such position.
    """
    trade, rules = engine.trades.get(symbol), engine.rules.get(symbol)
    if trade is None or rules is None:
        raise LocalProtocolError(f"no open position on {symbol}")
    row = next(row for row in position_rows(engine, quotes, marks) if row.symbol == symbol)
    opened_by = engine.intents.get(trade.entry_order)
    return PositionDetail(
        row=row,
        pnl=PositionPnl(
            price=trade.realized_pnl + row.unrealized_pnl - trade.slippage,
            slippage=trade.slippage,
            fees=-trade.commission,
            funding=trade.funding,
        ),
        fills=tuple(trade.fills),
        decision=opened_by.decision if opened_by else None,
        tick_size=rules.tick_size,
        step_size=rules.step_size,
    )


def what_if(engine: Engine, marks: Mapping[str, Decimal], fraction: Decimal, *, leverage: int) -> WhatIf:
    """The account if every mark price moved by `fraction` (−0.07 is −7 %) before anybody could act.

    Margin is reckoned as for the account that is shown (`snapshots.account_row`); it is lost where the margin balance
    no longer exceeds the maintenance margin, as at the exchange.

    Raises:
        ConfigError: prices cannot fall by all of themselves; a rise of more than 1000 % is taken for a slip.
    """
    if not (fraction.is_finite() and -1 < fraction <= 10):
        raise ConfigError(f"percent: {fraction * 100} is not a number above -100 and at most 1000", field="percent")
    before = account_row(engine, marks, leverage=leverage)
    moved = {symbol: mark * (1 + fraction) for symbol, mark in {**engine.marks, **marks}.items()}
    after = account_row(engine, moved, leverage=leverage)
    positions: list[PositionAfter] = []
    for row in position_rows(engine, {}, moved):
        mark, stop = moved.get(row.symbol), row.stop_price
        if mark is None:
            continue
        beyond = row.quantity * (mark - stop) if stop is not None else ZERO
        positions.append(
            PositionAfter(
                symbol=row.symbol,
                mark_price=mark,
                unrealized_pnl=row.unrealized_pnl,
                stop_passed=beyond < 0,
                beyond_stop=min(beyond, ZERO),
            )
        )
    return WhatIf(
        fraction=float(fraction),
        equity_before=before.equity,
        equity=after.equity,
        margin_ratio_before=before.margin_ratio,
        margin_ratio=after.margin_ratio,
        liquidated=bool(positions) and after.margin_ratio >= 1,
        positions=tuple(positions),
    )
