"""What the paper exchange needs to know of a market, wherever it comes from (simulated, recorded, live)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import msgspec

from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.market_events import Bar, DepthDiff, MarkPrice, Quote, Trade
from labkit.domain.symbol_rules import SymbolRules


class SourceEvent(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened in the market at exchange time `time_ms`.

    `stream` is the stream it belongs to (`btcusdt@bookTicker`); `frame` is the original JSON of its `data` member
    where it was recorded, to be sent on unchanged, or empty where the venue must encode it.
    """

    time_ms: int
    stream: str
    fact: Quote | MarkPrice | Trade | DepthDiff | Bar
    """A `Bar` only from a source that `tells_bars`, and only when it has closed."""
    frame: bytes = b""


class MarketSource(Protocol):
    """A market that can be lived through once, in time order."""

    name: str
    """`simulated`, `tape` or `live`."""
    disclosure: str
    """What is not real about it, in one sentence."""
    symbols: tuple[str, ...]
    start_ms: int
    """First moment that is lived through; before it there is only history."""
    end_ms: int | None
    """Last moment, or None if the market never ends."""
    tells_bars: bool
    """True if closed one-minute bars are told as events and kept in `history`; the venue makes its own otherwise."""

    def rules(self) -> Mapping[str, SymbolRules]: ...

    def brackets(self) -> Mapping[str, tuple[LeverageBracket, ...]]: ...

    def funding_interval_hours(self, symbol: str) -> int: ...

    def history(self, symbol: str, start_ms: int, end_ms: int) -> list[Bar]:
        """Closed one-minute bars with open time in [start_ms, end_ms), as far as the source remembers any."""
        ...

    def events(self, from_ms: int) -> Iterator[SourceEvent]:
        """All events at or after `from_ms`, by time; the same every time it is called.

        Of a live market: what has arrived so far. Asked again after its end, the iterator goes on with what came since.
        """
        ...
