"""What the numbers in the tables of research are counted in: `.attrs["units"]` of every frame, by column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PRICE = "quote asset per base asset"
QUOTE = "quote asset"
OF_OPENING_BALANCE = "fraction of the opening balance"
OF_NOTIONAL = "fraction of notional"
PROBABILITY = "probability, 0 to 1"
MILLINATS = "millinats a label"
COUNT = "count"
SHARPE = "of a year of 365 days"
SETTING = "setting of labkit.Config, as its name says"

TRADES: Mapping[str, str] = {
    "quantity": "base asset",
    "entry_price": PRICE,
    "exit_price": PRICE,
    "price_pnl": QUOTE,
    "commission": QUOTE,
    "funding": QUOTE,
    "net_pnl": QUOTE,
    "result": "distances of the stop, before costs",
}
DAILY: Mapping[str, str] = {
    "equity": QUOTE,
    "return": "fraction of the equity the day began with",
    "commission": QUOTE,
    "funding": QUOTE,
    "trades": COUNT,
    "labels": COUNT,
    "skill": MILLINATS,
    "slope": "1 is calibrated",
    "usable_slope": "1 is calibrated",
}
DECISIONS: Mapping[str, str] = {
    "side": "1 long, -1 short",
    "p": PROBABILITY,
    "barrier": OF_NOTIONAL,
    "slope": "1 is calibrated",
    "edge": OF_NOTIONAL,
    "cost": OF_NOTIONAL,
    "expected_value": OF_NOTIONAL,
    "leverage": "notional over equity",
}
CALIBRATION: Mapping[str, str] = {
    "said": PROBABILITY,
    "came_true": "mean result, 0 to 1",
    "error": "of came_true, one standard error",
    "independent": "labels that do not overlap",
    "labels": COUNT,
}
SUMMARY: Mapping[str, str] = {
    "return": OF_OPENING_BALANCE,
    "sharpe": SHARPE,
    "max_drawdown": "fraction of the peak",
    "trades": COUNT,
    "winners": "fraction of the trades",
    "fees": OF_OPENING_BALANCE,
    "funding": OF_OPENING_BALANCE,
    "skill": MILLINATS,
}
WINDOWS: Mapping[str, str] = {
    "sharpe_train": SHARPE,
    "sharpe_test": SHARPE,
    "return_train": "fraction of the equity it began with",
    "return_test": "fraction of the equity it began with",
}


def with_units(frame: pd.DataFrame, units: Mapping[str, str], *, otherwise: str = "") -> pd.DataFrame:
    """`frame`, whose columns now say what they are counted in; those not in `units` are counted in `otherwise`."""
    said = {str(name): units.get(str(name), otherwise) for name in frame.columns}
    frame.attrs["units"] = {name: unit for name, unit in said.items() if unit}
    return frame
