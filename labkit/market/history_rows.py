"""Rows of history: what an exchange told as tables for the lake, and candles of the lake as bars.

Used by `DataService`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from labkit.domain.clock import MINUTE_MS
from labkit.domain.intervals import opens_after
from labkit.domain.market_events import Bar, Trade
from labkit.market.history_kinds import METRICS_EVERY_MS, Series
from labkit.wire.rest_market import FundingRate, OpenInterestStatistic

if TYPE_CHECKING:
    import pyarrow as pa

_NUMBERS = ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")


def table_of(series: Series, rows: Sequence[Any]) -> pa.Table:
    """What was told of `series`, in the columns of its kind."""
    if series.kind.has_interval:
        return table_of_bars(rows)
    if series.kind_name == "funding":
        return table_of_rates(rows)
    return table_of_open_interest(rows) if series.kind_name == "metrics" else table_of_trades(rows)


def table_of_bars(bars: Sequence[Bar]) -> pa.Table:
    """Candles as rows for the lake, which takes the columns its kind has."""
    import pyarrow as pa

    columns: dict[str, object] = {"open_time": pa.array([bar.open_time_ms for bar in bars], pa.int64())}
    columns |= {name: pa.array([float(getattr(bar, name)) for bar in bars], pa.float64()) for name in _NUMBERS}
    columns["trade_count"] = pa.array([bar.trade_count for bar in bars], pa.int64())
    return pa.table(columns)


def table_of_rates(rates: Sequence[FundingRate]) -> pa.Table:
    """Settled funding rates as rows for the lake."""
    import pyarrow as pa

    return pa.table(
        {
            "funding_time": pa.array([rate.funding_time_ms // MINUTE_MS * MINUTE_MS for rate in rates], pa.int64()),
            "funding_rate": pa.array([float(rate.funding_rate) for rate in rates], pa.float64()),
            # The exchange did not keep every mark price; it tells those as 0.
            "mark_price": pa.array([float(rate.mark_price) or None for rate in rates], pa.float64()),
        }
    )


def table_of_trades(trades: Sequence[Trade]) -> pa.Table:
    """Aggregate trades as rows for the lake."""
    import pyarrow as pa

    return pa.table(
        {
            "agg_trade_id": pa.array([trade.trade_id for trade in trades], pa.int64()),
            "transact_time": pa.array([trade.trade_time_ms for trade in trades], pa.int64()),
            "price": pa.array([float(trade.price) for trade in trades], pa.float64()),
            "quantity": pa.array([float(trade.quantity) for trade in trades], pa.float64()),
            "is_buyer_maker": pa.array([trade.buyer_is_maker for trade in trades], pa.bool_()),
        }
    )


def table_of_open_interest(rows: Sequence[OpenInterestStatistic]) -> pa.Table:
    """Open interest as rows for the lake, by the moment it was known at the latest.

    The exchange has changed which end of the period its label names. A whole period after it, a row was known either
    way; who joins on that looks ahead in neither case.
    """
    import pyarrow as pa

    return pa.table(
        {
            "known_time": pa.array([row.label_ms + METRICS_EVERY_MS for row in rows], pa.int64()),
            "open_interest": pa.array([float(row.open_interest) for row in rows], pa.float64()),
            "open_interest_value": pa.array([float(row.open_interest_value) for row in rows], pa.float64()),
        }
    )


def bars_of(series: Series, rows: pa.Table) -> list[Bar]:
    """The rows that tell everything as bars: every number as the shortest decimal it is, which is what was told."""
    import pyarrow as pa

    whole = rows.drop_null()
    times = whole["open_time"].cast(pa.int64()).to_pylist()
    numbers = {name: [Decimal(repr(value)) for value in whole[name].to_pylist()] for name in _NUMBERS}
    return [
        Bar(
            symbol=series.symbol,
            interval=series.interval,
            open_time_ms=open_time_ms,
            close_time_ms=opens_after(series.interval, open_time_ms) - 1,
            trade_count=trade_count,
            **dict(zip(_NUMBERS, values, strict=True)),
        )
        for open_time_ms, trade_count, *values in zip(
            times, whole["trade_count"].to_pylist(), *(numbers[name] for name in _NUMBERS), strict=True
        )
    ]
