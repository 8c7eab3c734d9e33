"""Recordings as data: what is on a tape, a piece of it, and its quotes as one table.

Reads our own recordings and those of others alike (`wire.tape`). Times are UTC nanoseconds as the recorder's clock told
them, prices in quote asset. Used by `labkit tape` and notebooks.
"""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from labkit.errors import TapeError
from labkit.wire.streams import wrap
from labkit.wire.tape import TapeBlock, TapeWriter, lines_of, read_blocks, read_tape, tape_index

if TYPE_CHECKING:
    import pandas as pd

    from labkit.market.quote_scan import QuoteColumns

TAPE_ENDINGS = (".raw", ".raw.gz", ".ws", ".ws.gz")
_NANOSECONDS = 1_000_000
"""In a millisecond."""
_QUOTE_MARK = b"@bookTicker"
"""How the stream of a quote ends."""


class TapeContent(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording was found to hold when all of it was read. Times in UTC ns; `torn_bytes` were never finished."""

    path: Path
    lines: int
    streams: dict[str, int]
    first_ns: int
    last_ns: int
    backward_steps: int
    longest_silence_ns: int
    torn_bytes: int
    size_bytes: int


def tape_files(path: Path) -> list[Path]:
    """The recordings meant by `path`, a file or a folder of them. Raises `TapeError` if there are none."""
    if not path.is_dir():
        return [path]
    if files := sorted(file for file in path.iterdir() if file.name.endswith(TAPE_ENDINGS)):
        return files
    raise TapeError(f"{path}: no recording in this folder ({', '.join(TAPE_ENDINGS)})", path=str(path))


def torn_bytes(path: Path) -> int:
    """How many bytes at the end of a recording of ours belong to no whole block: its recorder was killed."""
    index = tape_index(path)
    if index is None:
        return 0
    whole = index[-1].offset + index[-1].packed_bytes if index else 0
    return path.stat().st_size - whole


def check_tape(path: Path) -> TapeContent:
    """Read and decode every line. Raises `TapeError` with file and line where that cannot be done."""
    streams: Counter[str] = Counter()
    lines = backward = silence_ns = 0
    first_ns = last_ns = before_ns = 0
    for line in read_tape(path):
        streams[line.stream] += 1
        if lines:
            step_ns = line.received_ns - before_ns
            backward += step_ns < 0
            silence_ns = max(silence_ns, step_ns)
            first_ns, last_ns = min(first_ns, line.received_ns), max(last_ns, line.received_ns)
        else:
            first_ns = last_ns = line.received_ns
        before_ns = line.received_ns
        lines += 1
    return TapeContent(
        path=path,
        lines=lines,
        streams=dict(streams),
        first_ns=first_ns,
        last_ns=last_ns,
        backward_steps=backward,
        longest_silence_ns=silence_ns,
        torn_bytes=torn_bytes(path),
        size_bytes=path.stat().st_size,
    )


def cut_tape(path: Path, target: Path, *, from_ns: int, to_ns: int) -> int:
    """Copy the lines of `path` received in [from_ns, to_ns) into a new recording `target`; returns how many.

    Frames keep their bytes; receive times are written with nineteen digits, whatever the layout of `path`.

    Raises:
        TapeError: `path` cannot be read, `target` exists already, or there is nothing in that span.
    """
    with TapeWriter(target) as writer:
        lines = 0
        try:
            for line in read_tape(path, from_ns=from_ns, to_ns=to_ns):
                writer.write(line.received_ns, wrap(line.stream, line.data) if line.stream else line.data)
                lines += 1
            if not lines:
                raise TapeError(f"{path}: nothing was received in that span{_span_of(path)}", path=str(path))
        except TapeError:
            target.unlink()
            raise
    return lines


def _span_of(path: Path) -> str:
    """When a recording of ours was made, as a hint; empty for others, whose lines would all have to be read."""
    index = tape_index(path)
    if not index:
        return "; labkit tape check tells what it holds"
    first_ms = min(block.first_ns for block in index) // _NANOSECONDS
    last_ms = max(block.last_ns for block in index) // _NANOSECONDS
    return f"; it goes from {_moment(first_ms)} to {_moment(last_ms)} UTC"


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def read_quotes(path: Path, *, from_ns: int = 0, to_ns: int | None = None) -> pd.DataFrame:
    """Every bookTicker frame received in [from_ns, to_ns) as one table by UTC receive time, prices as float64.

    Decoded block by block, ten times as fast as one by one: for statistics. A decision takes its quotes from
    `decode_frame`, which knows them as decimals.

    Raises:
        TapeError: the recording cannot be read, or a quote holds no number above zero; names file and line.
    """
    import numpy as np
    import pandas as pd

    pieces = [_columns(path, block) for block in read_blocks(path, from_ns=from_ns, to_ns=to_ns)]
    symbols = sorted({symbol for piece in pieces for symbol in piece.symbols})
    place = {symbol: number for number, symbol in enumerate(symbols)}
    codes = [np.array([place[symbol] for symbol in piece.symbols], np.int32)[piece.codes] for piece in pieces]
    none = np.empty(0, np.int64)
    times = np.concatenate([none, *(piece.times for piece in pieces)])
    numbers = np.concatenate([np.empty((4, 0)), *(piece.numbers for piece in pieces)], axis=1)
    frame = pd.DataFrame(
        {
            "symbol": pd.Categorical.from_codes(np.concatenate([np.empty(0, np.int32), *codes]), symbols),
            **dict(zip(_UNITS, numbers, strict=True)),
            "update_id": np.concatenate([none, *(piece.update_ids for piece in pieces)]),
            "event_time_ms": np.concatenate([none, *(piece.event_times_ms for piece in pieces)]),
        },
        index=pd.DatetimeIndex(times.view("M8[ns]"), name="received").tz_localize("UTC"),
    )
    wanted = (times >= from_ns) if to_ns is None else (times >= from_ns) & (times < to_ns)
    if not wanted.all():
        frame = frame[wanted]
    frame.attrs["units"] = {**_UNITS, "event_time_ms": "UTC ms"}
    return frame


_UNITS = {
    "bid_price": "quote asset",
    "bid_quantity": "base asset",
    "ask_price": "quote asset",
    "ask_quantity": "base asset",
}


class _Quote(msgspec.Struct, gc=False):
    symbol: str = msgspec.field(name="s")
    bid_price: float = msgspec.field(name="b")
    bid_quantity: float = msgspec.field(name="B")
    ask_price: float = msgspec.field(name="a")
    ask_quantity: float = msgspec.field(name="A")
    update_id: int = msgspec.field(name="u")
    # What spot does not tell.
    event_time_ms: int = msgspec.field(name="E", default=0)


# Not strict: numbers may stand in strings, as the exchange writes them.
_quotes = msgspec.json.Decoder(_Quote, strict=False)


def _columns(path: Path, block: TapeBlock) -> QuoteColumns:
    """The quotes of a block, in one compiled pass where its lines are ordinary."""
    from labkit.market.quote_scan import scan_quotes

    found = scan_quotes(block.lines, block.lines.count(b"\n"))
    return found if found is not None else _one_by_one(path, block)


def _one_by_one(path: Path, block: TapeBlock) -> QuoteColumns:
    """The same line by line: slower, for every layout, and sure about which line cannot be read."""
    import numpy as np

    from labkit.market.quote_scan import QuoteColumns

    times, quotes = _quotes_among(path, block)
    names = [quote.symbol for quote in quotes]
    place = {symbol: number for number, symbol in enumerate(dict.fromkeys(names))}
    numbers = np.array(
        [
            [quote.bid_price for quote in quotes],
            [quote.bid_quantity for quote in quotes],
            [quote.ask_price for quote in quotes],
            [quote.ask_quantity for quote in quotes],
        ]
    )
    return QuoteColumns(
        tuple(place),
        np.array(times, np.int64),
        np.array([place[name] for name in names], np.int64),
        np.array([quote.update_id for quote in quotes], np.int64),
        np.array([quote.event_time_ms for quote in quotes], np.int64),
        numbers,
    )


def _quotes_among(path: Path, block: TapeBlock) -> tuple[list[int], list[_Quote]]:
    times, quotes = [], []
    for line in lines_of(path, block):
        if line.stream.endswith(_QUOTE_MARK.decode()) or line.stream == "!bookTicker":
            try:
                quote = _quotes.decode(line.data)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise _unreadable(path, line.line_number, f"the quote cannot be read: {error}") from error
            prices, quantities = (quote.bid_price, quote.ask_price), (quote.bid_quantity, quote.ask_quantity)
            if not (all(map(math.isfinite, prices + quantities)) and min(prices) > 0 and min(quantities) >= 0):
                raise _unreadable(path, line.line_number, "the quote holds what is no price or quantity")
            times.append(line.received_ns)
            quotes.append(quote)
    return times, quotes


def _unreadable(path: Path, line: int, reason: str) -> TapeError:
    return TapeError(f"{path}, line {line}: {reason}", path=str(path), line=line)
