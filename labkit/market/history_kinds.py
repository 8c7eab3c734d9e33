"""The kinds of history the lake keeps, column by column, and `Series`, the name of one line of it.

Units stand at the columns: prices in quote asset, quantities in base asset, times in UTC ms. Used wherever history is
read, written or fetched.
"""

from __future__ import annotations

import re

import msgspec

from labkit.domain.clock import HOUR_MS, MINUTE_MS
from labkit.domain.intervals import check_interval
from labkit.errors import ConfigError

LONGEST_FUNDING_MS = 8 * HOUR_MS
METRICS_EVERY_MS = 5 * MINUTE_MS

_SAFE_SYMBOL = re.compile(r"\w{1,40}")


class Column(msgspec.Struct, frozen=True):
    """One column: `kind` is `time`, `number`, `count` or `flag`; only `needed` ones never hold a null."""

    name: str
    kind: str
    unit: str
    needed: bool = True


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of history. `key` tells rows apart and orders them; `time` says when they were."""

    name: str
    key: str
    time: str
    columns: tuple[Column, ...]
    has_interval: bool = False
    by_day: bool = False


def _prices() -> tuple[Column, ...]:
    return (
        Column("open_time", "time", "UTC ms"),
        *(Column(name, "number", "quote asset") for name in ("open", "high", "low", "close")),
    )


KLINES = Kind(
    name="klines",
    key="open_time",
    time="open_time",
    has_interval=True,
    columns=(
        *_prices(),
        Column("volume", "number", "base asset"),
        Column("quote_volume", "number", "quote asset", needed=False),
        Column("trade_count", "count", "trades", needed=False),
        Column("taker_buy_volume", "number", "base asset", needed=False),
        Column("taker_buy_quote_volume", "number", "quote asset", needed=False),
    ),
)
MARK_KLINES = Kind(name="mark_klines", key="open_time", time="open_time", has_interval=True, columns=_prices())
INDEX_KLINES = Kind(name="index_klines", key="open_time", time="open_time", has_interval=True, columns=_prices())
FUNDING = Kind(
    name="funding",
    key="funding_time",
    time="funding_time",
    columns=(
        # The exchange settles some milliseconds late; kept is the minute the settlement belongs to.
        Column("funding_time", "time", "UTC ms"),
        Column("funding_rate", "number", "fraction per interval"),
        Column("interval_hours", "number", "hours", needed=False),
        Column("mark_price", "number", "quote asset", needed=False),
    ),
)
AGG_TRADES = Kind(
    name="agg_trades",
    key="agg_trade_id",
    time="transact_time",
    by_day=True,
    columns=(
        Column("agg_trade_id", "count", "id"),
        Column("transact_time", "time", "UTC ms"),
        Column("price", "number", "quote asset"),
        Column("quantity", "number", "base asset"),
        Column("first_trade_id", "count", "id", needed=False),
        Column("last_trade_id", "count", "id", needed=False),
        Column("is_buyer_maker", "flag", "true if the taker sold"),
    ),
)
METRICS = Kind(
    name="metrics",
    key="known_time",
    time="known_time",
    columns=(
        # Not the exchange's label, which changed its meaning: the end of the five minutes the row tells about.
        Column("known_time", "time", "UTC ms"),
        Column("open_interest", "number", "base asset"),
        Column("open_interest_value", "number", "quote asset", needed=False),
        Column("top_trader_account_ratio", "number", "long / short", needed=False),
        Column("top_trader_position_ratio", "number", "long / short", needed=False),
        Column("account_ratio", "number", "long / short", needed=False),
        Column("taker_volume_ratio", "number", "buy / sell", needed=False),
    ),
)
KINDS = {kind.name: kind for kind in (KLINES, MARK_KLINES, INDEX_KLINES, FUNDING, AGG_TRADES, METRICS)}


class Series(msgspec.Struct, frozen=True, order=True):
    """One line of history: a kind, a symbol and, for candles, an interval.

    Raises:
        ConfigError: no such kind, a symbol no exchange could list, or an interval nobody knows.
    """

    kind_name: str
    symbol: str
    interval: str = ""

    def __post_init__(self) -> None:
        if self.kind_name not in KINDS:
            raise ConfigError(f"kind {self.kind_name!r}: must be one of {', '.join(KINDS)}", field="kind")
        if not _SAFE_SYMBOL.fullmatch(self.symbol) or self.symbol != self.symbol.upper():
            raise ConfigError(f"symbol {self.symbol!r}: must be upper case letters and digits", field="symbol")
        if self.kind.has_interval:
            check_interval(self.interval)
        elif self.interval:
            raise ConfigError(f"{self.kind_name} have no interval", field="interval")

    @property
    def kind(self) -> Kind:
        return KINDS[self.kind_name]

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind_name, self.symbol, self.interval) if part)
