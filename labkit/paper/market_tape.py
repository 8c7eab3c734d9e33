"""A recorded market: what was received once, played again with its own timing and its own bytes.

Recorders' clocks are off by anything up to seconds, but steady. So every recording gets one constant offset, the
largest (exchange time − receive time) in it: then no event is met before the exchange sent it, and the spacing of the
recording stays as it was. Files that follow one another on the same streams (a recording cut at midnight) are one
recording and share the offset.

All files are read once and decoded completely when the market is made, so that a damaged one is refused before
anything starts; `events` reads them again, line by line. Candles, tickers and forced orders in a recording are left
out: the venue makes its own. Prices in quote asset, quantities in base asset, times in UTC milliseconds. Called by the
paper venue.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

import msgspec

from labkit.domain.clock import DAY_MS
from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.market_events import Bar, DepthDiff, MarkPrice, Quote, Trade
from labkit.domain.symbol_rules import SymbolRules, is_multiple
from labkit.errors import RemoteProtocolError, TapeError
from labkit.paper.listings import FUNDING_INTERVAL_HOURS, LISTED_RULES, brackets_of, infer_rules
from labkit.paper.market_source import SourceEvent
from labkit.wire.streams import decode_frame, wrap
from labkit.wire.tape import TapeLine, read_tape

PLAYED_KINDS = frozenset({"bookTicker", "markPrice", "trade", "aggTrade", "depth"})
"""The streams a venue can be made of, by the word after the @."""
FILE_ENDINGS = (".raw", ".raw.gz", ".ws", ".ws.gz")
"""What is taken for a recording in a folder."""
JOIN_WITHIN_MS = 60_000
"""A file that goes on with a stream within this time continues the recording."""
LONGEST_SILENCE_MS = DAY_MS
SAMPLED_PRICES = 10_000

_NANOSECONDS = 1_000_000


class _TapeFile(msgspec.Struct, frozen=True, kw_only=True):
    """What one file was found to hold when it was checked."""

    path: Path
    streams: frozenset[str]
    first_ns: int
    last_ns: int
    """Receive time of the last event; never before the one of any other line."""
    lead_ns: int
    """Largest exchange time minus receive time."""


class _Recording(msgspec.Struct, frozen=True):
    """Files that follow one another, on one clock."""

    files: tuple[_TapeFile, ...]
    offset_ns: int


class _Samples(msgspec.Struct):
    """Prices and quantities of one symbol, to tell its tick and step from."""

    prices: list[Decimal]
    quantities: list[Decimal]

    def take(self, fact: Quote | MarkPrice | Trade | DepthDiff) -> None:
        if len(self.prices) >= SAMPLED_PRICES:
            return
        if isinstance(fact, Quote):
            self.prices += (fact.bid_price, fact.ask_price)
            self.quantities += (fact.bid_quantity, fact.ask_quantity)
        elif isinstance(fact, Trade):
            self.prices.append(fact.price)
            self.quantities.append(fact.quantity)


class TapeMarket:
    """Recordings as a market; implements `MarketSource`.

    Args:
        paths: files or folders (of which every recording is taken), in any order.

    Raises:
        TapeError: a file is missing, truncated, foreign or damaged (path and line are told); two files record the
            same stream at the same time; nothing playable is in them; or they lie more than a day apart.
    """

    name = "tape"
    tells_bars = False

    def __init__(self, paths: Sequence[Path | str]) -> None:
        samples: dict[str, _Samples] = {}
        files = [_check_file(path, samples) for path in _recordings_in(paths)]
        self._recordings = _join(files)
        self.symbols = tuple(samples)
        self._rules = {symbol: _rules_for(symbol, seen) for symbol, seen in samples.items()}
        spans = sorted(
            (
                (recording.offset_ns + file.first_ns) // _NANOSECONDS,
                (recording.offset_ns + file.last_ns) // _NANOSECONDS,
            )
            for recording in self._recordings
            for file in recording.files
        )
        _check_no_long_silence(spans)
        self.start_ms = spans[0][0]
        self.end_ms: int | None = max(end for _, end in spans)
        self.disclosure = (
            f"Recorded market of {_date(self.start_ms)} to {_date(self.end_ms)}: real prices of the past, "
            "which our orders do not move."
        )

    def rules(self) -> Mapping[str, SymbolRules]:
        return self._rules

    def brackets(self) -> Mapping[str, tuple[LeverageBracket, ...]]:
        return {symbol: brackets_of(symbol) for symbol in self.symbols}

    def funding_interval_hours(self, symbol: str) -> int:
        return FUNDING_INTERVAL_HOURS

    def history(self, symbol: str, start_ms: int, end_ms: int) -> list[Bar]:
        """Nothing: a recording remembers nothing before its first line."""
        return []

    def events(self, from_ms: int) -> Iterator[SourceEvent]:
        """All events at or after `from_ms`, by time; at equal times in the order of the recordings."""
        merged = heapq.merge(*(_play(recording, from_ms) for recording in self._recordings), key=itemgetter(0))
        return (event for _, event in merged)


def _recordings_in(paths: Iterable[Path | str]) -> list[Path]:
    """Every file meant by `paths`, each once."""
    found: dict[Path, None] = {}
    for given in paths:
        path = Path(given)
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.name.endswith(FILE_ENDINGS))
            if not files:
                raise TapeError(f"{path}: no recording in this folder ({', '.join(FILE_ENDINGS)})", path=str(path))
        for file in files:
            found.setdefault(file.resolve())
    if not found:
        raise TapeError("no recording was given")
    return list(found)


def _check_file(path: Path, samples: dict[str, _Samples]) -> _TapeFile:
    streams: set[str] = set()
    first_ns = last_ns = 0
    lead_ns: int | None = None
    for line in _playable(path):
        fact = _decode(path, line, line.received_ns)
        last_ns = max(last_ns, line.received_ns)
        first_ns = first_ns or last_ns
        lead = fact.event_time_ms * _NANOSECONDS - last_ns
        lead_ns = lead if lead_ns is None else max(lead_ns, lead)
        streams.add(line.stream)
        samples.setdefault(fact.symbol, _Samples([], [])).take(fact)
    if lead_ns is None:
        raise TapeError(f"{path}: no line of this recording can be played as a market", path=str(path))
    return _TapeFile(path=path, streams=frozenset(streams), first_ns=first_ns, last_ns=last_ns, lead_ns=lead_ns)


def _join(files: Iterable[_TapeFile]) -> tuple[_Recording, ...]:
    chains: list[list[_TapeFile]] = []
    for file in sorted(files, key=lambda file: file.first_ns):
        related = [chain for chain in chains if any(other.streams & file.streams for other in chain)]
        for chain in related:
            for other in chain:
                common = sorted(other.streams & file.streams)
                if common and file.first_ns < other.last_ns:
                    raise TapeError(
                        f"{file.path} and {other.path} both record {common[0]} at the same time", path=str(file.path)
                    )
        near = [
            chain
            for chain in related
            if 0 <= file.first_ns - max(other.last_ns for other in chain) <= JOIN_WITHIN_MS * _NANOSECONDS
        ]
        if near:
            near[-1].append(file)
        else:
            chains.append([file])
    return tuple(_Recording(tuple(chain), max(file.lead_ns for file in chain)) for chain in chains)


def _check_no_long_silence(spans: Sequence[tuple[int, int]]) -> None:
    reached_ms = spans[0][1]
    for (_, end_ms), (next_start_ms, _) in pairwise(spans):
        reached_ms = max(reached_ms, end_ms)
        if next_start_ms - reached_ms > LONGEST_SILENCE_MS:
            raise TapeError(
                f"the recordings lie {(next_start_ms - reached_ms) // DAY_MS} days apart "
                f"({_date(reached_ms)} and {_date(next_start_ms)}); play one period at a time"
            )


def _play(recording: _Recording, from_ms: int) -> Iterator[tuple[int, SourceEvent]]:
    """The events of one recording with their time in nanoseconds, which never falls."""
    now_ns = 0
    for file in recording.files:
        if (file.last_ns + recording.offset_ns) // _NANOSECONDS < from_ms:
            continue
        for line in _playable(file.path):
            # A recorder's clock may be set back; what it received later stays later.
            now_ns = max(now_ns, line.received_ns + recording.offset_ns)
            time_ms = now_ns // _NANOSECONDS
            if time_ms >= from_ms:
                yield now_ns, SourceEvent(time_ms, line.stream, _decode(file.path, line, now_ns), line.data)


def _playable(path: Path) -> Iterator[TapeLine]:
    return (line for line in read_tape(path) if line.stream.partition("@")[2].partition("@")[0] in PLAYED_KINDS)


def _decode(path: Path, line: TapeLine, received_ns: int) -> Quote | MarkPrice | Trade | DepthDiff:
    try:
        fact = decode_frame(wrap(line.stream, line.data), received_ns)
    except RemoteProtocolError as error:
        raise _line_error(path, line, str(error)) from error
    if not isinstance(fact, Quote | MarkPrice | Trade | DepthDiff):
        raise _line_error(path, line, f"stream {line.stream} carries something else")
    return fact


def _line_error(path: Path, line: TapeLine, reason: str) -> TapeError:
    return TapeError(f"{path}, line {line.line_number}: {reason}", path=str(path), line=line.line_number)


def _rules_for(symbol: str, seen: _Samples) -> SymbolRules:
    """The listed rules where the recording fits them (exchanges change grids over the years), else inferred ones."""
    listed = LISTED_RULES.get(symbol)
    if (
        listed is not None
        and all(is_multiple(price, listed.tick_size) for price in seen.prices)
        and all(is_multiple(quantity, listed.step_size) for quantity in seen.quantities)
    ):
        return listed
    return infer_rules(symbol, prices=seen.prices, quantities=seen.quantities)


def _date(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
