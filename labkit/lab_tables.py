"""The tables a Lab returns: rows of its snapshot as DataFrames whose columns know their units."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import pandas as pd

UNITS = {
    "bid_price ask_price mark_price last_price entry_price exit_price stop_price target_price trailing_stop_price "
    "liquidation_price": "quote asset per base asset",
    "unrealized_pnl realized_pnl slippage commission funding net_pnl": "quote asset",
    "quantity": "base asset",
    "funding_rate": "fraction of notional, paid by longs",
    "change_24h": "fraction of the price",
    "result": "fraction of the entry price, gross",
    "liquidity_score probability": "0 to 1",
    "expected_value": "fraction of notional, after costs",
    "edge fee_cost spread_cost slippage_cost funding_cost execution_gap_cost": "fraction of notional",
    "calibration_slope": "1 is calibrated",
    "side": "1 long, -1 short",
    "leverage": "notional over equity",
    "age_ms": "market milliseconds",
    "opened closed due time": "UTC of the market",
}
_UNIT_OF = {name: unit for names, unit in UNITS.items() for name in names.split()}
_SHOWN_PLACES = Decimal("1e-8")
"""The exchange's own precision of an amount; an average price has no end."""


def lab_table(rows: Iterable[msgspec.Struct], columns: str) -> pd.DataFrame:
    """One row an object, one column an attribute (names parted by spaces), indexed by symbol; `.attrs["units"]`."""
    import pandas as pd

    names = columns.split()
    frame = pd.DataFrame([[_shown(getattr(row, name)) for name in names] for row in rows], columns=names)
    for name in names:
        if name in ("opened_ms", "closed_ms", "due_ms", "time_ms"):
            frame[name] = pd.to_datetime(frame[name], unit="ms", utc=True)
    frame = frame.rename(columns={name: name.removesuffix("_ms") for name in names if name != "age_ms"})
    frame.attrs["units"] = {name: _UNIT_OF[name] for name in frame.columns if name in _UNIT_OF}
    return frame.set_index("symbol")


def _shown(value: object) -> object:
    if isinstance(value, Decimal) and value != (short := value.quantize(_SHOWN_PLACES)):
        return short
    return value
