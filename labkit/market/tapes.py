"""Recordings as data: what is on a tape, a piece of it, and its quotes as one table.

Reads our own recordings and those of others alike (`wire.tape`). Times are UTC nanoseconds as the recorder's clock told
them, prices in quote asset. Used by `labkit tape` and notebooks.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from labkit.errors import TapeError
from labkit.wire.streams import wrap
from labkit.wire.tape import NANOSECOND_DIGITS, TapeBlock, TapeWriter, lines_of, read_blocks, read_tape, tape_index

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TAPE_ENDINGS = (".raw", ".raw.gz", ".ws", ".ws.gz")
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
                raise TapeError(f"{path}: nothing was received in that span", path=str(path))
        except TapeError:
            target.unlink()
            raise
    return lines


def read_quotes(path: Path, *, from_ns: int = 0, to_ns: int | None = None) -> pd.DataFrame:
    """Every bookTicker frame received in [from_ns, to_ns) as one table by UTC receive time, prices as float64.

    Decoded block by block, several times as fast as one by one: for statistics. A decision takes its quotes from
    `decode_frame`, which knows them as decimals.

    Raises:
        TapeError: the recording cannot be read, or a quote holds no number above zero; names file and line.
    """
    import numpy as np
    import pandas as pd

    pieces = [_piece(path, block) for block in read_blocks(path, from_ns=from_ns, to_ns=to_ns)]
    symbols = sorted({symbol for piece in pieces for symbol in piece.symbols})
    times = np.concatenate([np.empty(0, np.int64), *(piece.times for piece in pieces)])
    numbers = np.concatenate([np.empty((5, 0)), *(piece.numbers for piece in pieces)], axis=1)
    place = {symbol: number for number, symbol in enumerate(symbols)}
    codes = [np.array([place[symbol] for symbol in piece.symbols], np.int32)[piece.codes] for piece in pieces]
    ids = np.concatenate([np.empty(0, np.int64), *(piece.update_ids for piece in pieces)])
    frame = pd.DataFrame(
        {
            "symbol": pd.Categorical.from_codes(np.concatenate([np.empty(0, np.int32), *codes]), symbols),
            **dict(zip(_UNITS, numbers, strict=False)),
            "update_id": ids,
            "event_time_ms": numbers[4].astype(np.int64),
        },
        index=pd.DatetimeIndex(times.view("M8[ns]"), name="received").tz_localize("UTC"),
    )
    frame = frame[(times >= from_ns) if to_ns is None else (times >= from_ns) & (times < to_ns)]
    frame.attrs["units"] = dict(_UNITS)
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


class _QuoteFrame(msgspec.Struct, gc=False):
    data: _Quote


class _Piece(msgspec.Struct):
    """The quotes of one block, by columns. `codes` are places in `symbols`; `numbers` has one row per number."""

    times: np.ndarray[Any, np.dtype[np.int64]]
    symbols: tuple[str, ...]
    codes: np.ndarray[Any, np.dtype[np.int32]]
    numbers: np.ndarray[Any, np.dtype[np.float64]]
    update_ids: np.ndarray[Any, np.dtype[np.int64]]


# Not strict: numbers may stand in strings, as the exchange writes them.
_stamped_quotes = msgspec.json.Decoder(int | _QuoteFrame, strict=False)
_quotes = msgspec.json.Decoder(_Quote, strict=False)


def _piece(path: Path, block: TapeBlock) -> _Piece:
    import numpy as np

    found = _all_quotes(block.lines)
    times, quotes = found if found is not None else _quotes_among(path, block)
    names = [quote.symbol for quote in quotes]
    place = {symbol: number for number, symbol in enumerate(dict.fromkeys(names))}
    codes = np.array([place[name] for name in names], np.int32)
    numbers = np.empty((5, len(quotes)))
    numbers[0] = [quote.bid_price for quote in quotes]
    numbers[1] = [quote.bid_quantity for quote in quotes]
    numbers[2] = [quote.ask_price for quote in quotes]
    numbers[3] = [quote.ask_quantity for quote in quotes]
    numbers[4] = [quote.event_time_ms for quote in quotes]
    if not (np.isfinite(numbers).all() and (numbers[0:4:2] > 0).all() and (numbers[1:4:2] >= 0).all()):
        raise TapeError(
            f"{path}, behind line {block.first_line}: a quote holds what is no price or quantity",
            path=str(path),
            line=block.first_line,
        )
    ids = np.array([quote.update_id for quote in quotes], np.int64)
    return _Piece(np.array(times, np.int64), tuple(place), codes, numbers, ids)


def _all_quotes(text: bytes) -> tuple[list[int], list[_Quote]] | None:
    """Times and quotes of a block of the raw layout in one pass; None if that is not what it holds."""
    try:
        items = _stamped_quotes.decode_lines(text.replace(b" ", b"\n"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Quotes among others: these are left out before anything is decoded.
        text = b"".join(line for line in text.splitlines(keepends=True) if _QUOTE_MARK in line)
        try:
            items = _stamped_quotes.decode_lines(text.replace(b" ", b"\n"))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
    times, frames = items[0::2], items[1::2]
    if len(items) != 2 * text.count(b"\n") or set(map(type, times)) - {int} or set(map(type, frames)) - {_QuoteFrame}:
        return None
    if times and min(times) < NANOSECOND_DIGITS:
        return None
    return times, [frame.data for frame in frames]


def _quotes_among(path: Path, block: TapeBlock) -> tuple[list[int], list[_Quote]]:
    """The same line by line: slower, for every layout, and sure about which line cannot be read."""
    times, quotes = [], []
    for line in lines_of(path, block):
        if line.stream.endswith(_QUOTE_MARK.decode()) or line.stream == "!bookTicker":
            try:
                quotes.append(_quotes.decode(line.data))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise TapeError(
                    f"{path}, line {line.line_number}: the quote cannot be read: {error}",
                    path=str(path),
                    line=line.line_number,
                ) from error
            times.append(line.received_ns)
    return times, quotes
