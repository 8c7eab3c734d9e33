"""AddedStreams: what is listened to beyond what every watched symbol has: trades, depth, further candles. No I/O.

A stream has one use for its symbol, and each use one stream. While two connections overlap each fact comes twice; it is
news once. Facts that cannot be true are refused. Used by `WebSocketMonitor`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

from labkit.domain.market_events import INTERVAL_MS, DepthDiff, PartialDepth, Trade
from labkit.errors import ConfigError

KINDS = (
    "aggTrade, depth, depth5, depth10 or depth20 (with @100ms or @500ms, if another pace is wanted), kline_ and one of "
    + ", ".join(INTERVAL_MS)
)
NOBODY = -1
_DEPTH = re.compile(r"depth(5|10|20)?(@(100|500)ms)?")


class Use(Enum):
    """What a stream is for."""

    TRADES = "trade"
    CHANGES = "change of a book"
    LEVELS = "levels of a book"
    CANDLES = "candle"


class Added(NamedTuple):
    """One stream that was added; `interval` is empty unless it carries candles."""

    symbol: str
    use: Use
    interval: str = ""


class AddedStreams:
    """The streams that were added, and which of their facts are told."""

    def __init__(self) -> None:
        self._streams: dict[str, Added] = {}
        self._last: dict[Added, tuple[int, int]] = {}

    def add(self, streams: Iterable[str], watched: Container[str]) -> dict[str, Added]:
        """Add streams of `watched` symbols; those that are new.

        Raises:
            ConfigError: nobody could make anything of one, its symbol is not watched, or its use is taken. None is
                added then.
        """
        new: dict[str, Added] = {}
        taken = {added: stream for stream, added in self._streams.items()}
        for stream in dict.fromkeys(streams):
            if stream in self._streams:
                continue
            new[stream] = added = _parse(stream, watched)
            if (other := taken.setdefault(added, stream)) != stream:
                raise ConfigError(f"stream {stream!r}: {other!r} has the same use; remove it first", field="streams")
        self._streams |= new
        self._last |= {added: (NOBODY, -1) for added in new.values()}
        return new

    def remove(self, stream: str) -> Added | None:
        """Forget a stream; what it was, or None if it was not there."""
        added = self._streams.pop(stream, None)
        if added is not None:
            del self._last[added]
        return added

    def of_symbols(self, symbols: Collection[str]) -> list[str]:
        """The streams added for these symbols."""
        return [stream for stream, added in self._streams.items() if added.symbol in symbols]

    def judge(
        self, fact: Trade | DepthDiff | PartialDepth, connection: int, open_connections: Container[int]
    ) -> tuple[bool, str]:
        """Whether a fact that came over `connection` is to be told, and if it is refused, why.

        One that came over an overlapping connection already is neither told nor refused. Once a connection is gone,
        another may begin anew with low ids.
        """
        if isinstance(fact, Trade):
            added, identity = Added(fact.symbol, Use.TRADES), fact.trade_id
            is_possible = fact.price > 0 and fact.quantity > 0
        elif isinstance(fact, DepthDiff):
            added, identity = Added(fact.symbol, Use.CHANGES), fact.final_update_id
            is_possible = all(price > 0 and quantity >= 0 for price, quantity in (*fact.bids, *fact.asks))
        else:
            added, identity = Added(fact.symbol, Use.LEVELS), fact.update_id
            is_possible = _is_book(fact)
        if (last := self._last.get(added)) is None:
            return False, "unasked stream"
        if not is_possible:
            return False, f"impossible {added.use.value}"
        last_connection, last_identity = last
        if identity <= last_identity:
            if last_connection == connection:
                return False, "update id did not rise"
            if last_connection in open_connections:
                return False, ""
        self._last[added] = connection, identity
        return True, ""


def _parse(stream: str, watched: Container[str]) -> Added:
    name, _, kind = stream.partition("@")
    symbol, (prefix, _, interval) = name.upper(), kind.partition("_")
    if name != name.lower() or symbol not in watched:
        raise ConfigError(
            f"stream {stream!r}: must begin with a watched symbol in lower case (add_symbols first)", field="streams"
        )
    if kind == "aggTrade":
        return Added(symbol, Use.TRADES)
    if match := _DEPTH.fullmatch(kind):
        return Added(symbol, Use.LEVELS if match[1] else Use.CHANGES)
    if prefix == "kline" and interval in INTERVAL_MS:
        return Added(symbol, Use.CANDLES, interval)
    raise ConfigError(f"stream {stream!r}: what follows the @ must be one of {KINDS}", field="streams")


def _is_book(levels: PartialDepth) -> bool:
    """Best levels first, none empty or told twice, bids below asks."""
    bids, asks = [price for price, _ in levels.bids], [price for price, _ in levels.asks]
    return (
        all(price > 0 and quantity > 0 for price, quantity in (*levels.bids, *levels.asks))
        and all(better > worse for better, worse in pairwise(bids))
        and all(better < worse for better, worse in pairwise(asks))
        and not (bids and asks and bids[0] >= asks[0])
    )
