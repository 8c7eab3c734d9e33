"""Recordings of stream frames, line by line: reading what others recorded, writing what we record.

Two text layouts, plain or gzip, are told apart by their first line:

- raw (`*.raw`, `*.raw.gz`; hftbacktest's collector, and ours): receive time, one blank, the combined frame. Receive
  times have 16 digits (microseconds) or 19 (nanoseconds).
- cryptofeed (`*.ws.gz`): a first line that names the connection, then receive time in seconds, ": ", the frame.

What we write is packed block by block (`wire.tape_blocks`): a moment is found without unpacking what lies before it,
and a recorder that was killed leaves a file that opens and lacks at most its last block.

A line whose body is not a combined frame but an order book from REST, or the answer to a control message, is given
with an empty stream name. Times are UTC nanoseconds as the recorder's clock told them, which may be off by seconds.
Used by `paper.market_tape` and `market`.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from labkit.errors import TapeError
from labkit.wire.tape_blocks import Block, DamagedBlock, blocks_of, is_block, pack_block, unpack_block

GZIP_MAGIC = b"\x1f\x8b"
MAX_LINE_BYTES = 4 << 20
"""Longer than any frame or snapshot: a file without line ends is not read into memory."""
PIECE_BYTES = 1 << 18
BLOCK_BYTES = 1 << 16
"""A block is written when it holds so much: half a second of fifty busy symbols, a millisecond of packing."""
NANOSECOND_DIGITS = 10**18
MICROSECOND_DIGITS = 10**15


class TapeLine(msgspec.Struct, frozen=True, gc=False):
    """One recorded line. `data` is the frame's `data` member byte for byte, or the whole body of a REST answer."""

    received_ns: int
    stream: str
    data: bytes
    line_number: int


class _Frame(msgspec.Struct, gc=False):
    stream: str
    data: msgspec.Raw


class _Snapshot(msgspec.Struct, gc=False):
    last_update_id: int = msgspec.field(name="lastUpdateId")


class _Answer(msgspec.Struct, gc=False):
    id: int | str | None


class TapeBlock(msgspec.Struct, frozen=True):
    """Whole lines of a recording as they were recorded; `first_line` is the number of the first one."""

    first_line: int
    lines: bytes


_frames = msgspec.json.Decoder(_Frame)
_others = (msgspec.json.Decoder(_Snapshot), msgspec.json.Decoder(_Answer))
_stamped = msgspec.json.Decoder(int | _Frame)


def read_tape(path: Path, *, from_ns: int = 0, to_ns: int | None = None) -> Iterator[TapeLine]:
    """Every line of the recording with receive time in [from_ns, to_ns), in file order, lazily.

    Raises:
        TapeError: the file cannot be opened, is no recording, ends in the middle of a line or of its compression, or
            holds a line that cannot be read; names the file and the line. A recording of ours whose recorder was
            killed is none of these: it ends with its last whole block.
    """
    for block in read_blocks(path, from_ns=from_ns, to_ns=to_ns):
        for line in lines_of(path, block):
            if line.received_ns >= from_ns and (to_ns is None or line.received_ns < to_ns):
                yield line


def lines_of(path: Path, block: TapeBlock) -> Iterable[TapeLine]:
    """The decoded lines of one block of the recording at `path`. Raises `TapeError` as `read_tape` does."""
    first_line, text = block.first_line, block.lines
    if first_line == 1 and _CRYPTOFEED_HEADER.match(text):
        first_line, text = 2, text.partition(b"\n")[2]
    elif not _CRYPTOFEED_LINE.match(text):
        lines = _all_at_once(first_line, text)
        return _one_by_one(path, first_line, text, _parse_raw) if lines is None else lines
    return _one_by_one(path, first_line, text, _parse_cryptofeed)


def read_blocks(path: Path, *, from_ns: int = 0, to_ns: int | None = None) -> Iterator[TapeBlock]:
    """The same, undecoded and some hundred lines at a time.

    What lies outside [from_ns, to_ns) may be left out: the index of our own recordings is used, in others every line
    is read. Raises `TapeError` as `read_tape` does.
    """
    number = 1
    try:
        with path.open("rb") as file:
            start = file.read(32)
            file.seek(0)
            if is_block(start):
                for block in blocks_of(file):
                    if block.last_ns >= from_ns and (to_ns is None or block.first_ns < to_ns):
                        yield TapeBlock(number, unpack_block(file, block))
                    number += block.lines
            else:
                pieces = _unpacked(file) if start[:2] == GZIP_MAGIC else iter(lambda: file.read(PIECE_BYTES), b"")
                for text in _whole_lines(pieces):
                    yield TapeBlock(number, text)
                    number += text.count(b"\n")
            if number == 1:
                raise _Broken("the file is empty" if not start else "not one whole block was written: cut off")
    except (_Broken, DamagedBlock) as error:
        raise _error(path, number, str(error)) from error
    except OSError as error:
        raise TapeError(f"{path}: cannot be read: {error.strerror or error}", path=str(path)) from error


def tape_index(path: Path) -> list[Block] | None:
    """The blocks of a recording of ours, from their headers alone; None for other files.

    Raises:
        TapeError: the file cannot be opened, or something else stands between its blocks.
    """
    try:
        with path.open("rb") as file:
            if not is_block(file.read(32)):
                return None
            return list(blocks_of(file))
    except DamagedBlock as error:
        raise TapeError(f"{path}: {error}", path=str(path)) from error
    except OSError as error:
        raise TapeError(f"{path}: cannot be read: {error.strerror or error}", path=str(path)) from error


class _Broken(Exception):
    """The file cannot be read any further; the message says why."""


def _unpacked(file: IO[bytes]) -> Iterator[bytes]:
    """What one or more gzip members hold, as far as it can be unpacked."""
    unpacker = None
    while packed := file.read(PIECE_BYTES):
        while packed:
            unpacker = unpacker or zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                yield unpacker.decompress(packed)
            except zlib.error as error:
                raise _Broken(f"the compressed file is damaged: {error}") from error
            packed = b""
            if unpacker.eof:
                packed, unpacker = unpacker.unused_data.lstrip(b"\x00"), None
    if unpacker is not None:
        raise _Broken("the compressed file ends early: it was cut off")


def _whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, cut behind line ends only."""
    rest = b""
    for piece in pieces:
        end = piece.rfind(b"\n") + 1
        if end:
            yield rest + piece[:end]
            rest = piece[end:]
        else:
            rest += piece
        if len(rest) >= MAX_LINE_BYTES:
            raise _Broken("not a recording of stream frames: a line of more than 4 MiB")
    if rest:
        raise _Broken("the file ends in the middle of this line: it was cut off")


def _all_at_once(first_line: int, text: bytes) -> list[TapeLine] | None:
    """All lines of a block of the raw layout in one pass, or None if one of them is not of the common form.

    Receive time and frame are put on lines of their own, and the whole block is decoded as lines of JSON. That must
    not touch a byte of a frame: the only blank of every line is the one behind the receive time.
    """
    lines = text.count(b"\n")
    if text.count(b" ") != lines or text.count(b" {") != lines:
        return None
    try:
        items = _stamped.decode_lines(text.replace(b" ", b"\n"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    times, frames = items[0::2], items[1::2]
    if len(items) != 2 * lines or set(map(type, times)) != {int} or set(map(type, frames)) != {_Frame}:
        return None
    if min(times) >= NANOSECOND_DIGITS:
        unit = 1
    elif min(times) >= MICROSECOND_DIGITS and max(times) < 10 * MICROSECOND_DIGITS:
        unit = 1_000
    else:
        return None
    return [
        TapeLine(time * unit, frame.stream, bytes(frame.data), number)
        for number, (time, frame) in enumerate(zip(times, frames, strict=True), first_line)
    ]


def _one_by_one(path: Path, first_line: int, text: bytes, parse: Callable[[bytes], _Parsed]) -> Iterator[TapeLine]:
    """The same line by line: slower, and sure about which one cannot be read."""
    for number, line in enumerate(text.splitlines(keepends=True), first_line):
        parsed = parse(line)
        if parsed is None:
            reason = "not a recording of stream frames" if number == 1 else "not a receive time and a frame"
            raise _error(path, number, f"{reason}: {line[:60]!r}")
        yield _line(path, number, *parsed)


_CRYPTOFEED_HEADER = re.compile(rb"wss?://\S+ <-> \d+")
_RAW_LINE = re.compile(rb"(\d{16}|\d{19}) ")
_CRYPTOFEED_LINE = re.compile(rb"(\d{10})\.?(\d{0,9}): ")


_Parsed = tuple[int, bytes] | None


def _parse_raw(line: bytes) -> _Parsed:
    match = _RAW_LINE.match(line)
    if match is None:
        return None
    digits = match[1]
    return int(digits) * (1_000 if len(digits) == 16 else 1), line[match.end() :]


def _parse_cryptofeed(line: bytes) -> _Parsed:
    match = _CRYPTOFEED_LINE.match(line)
    if match is None:
        return None
    return int(match[1]) * 1_000_000_000 + int(match[2].ljust(9, b"0")), line[match.end() :]


def _line(path: Path, number: int, received_ns: int, body: bytes) -> TapeLine:
    try:
        frame = _frames.decode(body)
        return TapeLine(received_ns, frame.stream, bytes(frame.data), number)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        for decoder in _others:
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                decoder.decode(body)
                return TapeLine(received_ns, "", body.rstrip(b"\r\n"), number)
        raise _error(path, number, f"the frame cannot be read: {error}") from error


def _error(path: Path, line: int, reason: str) -> TapeError:
    return TapeError(f"{path}, line {line}: {reason}", path=str(path), line=line)


class TapeWriter:
    """Records frames in the raw layout, so that `read_tape` (and hftbacktest) can play them again.

    A path that ends in `.gz` is packed in blocks. The file must not exist yet: a recording is never overwritten. What
    was flushed survives the death of this process, what was closed the death of the machine.

    Raises:
        TapeError: the file exists already or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Unbuffered: one write per block, so that no block is torn by our own buffer.
            self._file: IO[bytes] = path.open("xb", buffering=0)
        except OSError as error:
            raise TapeError(f"{path}: cannot be written: {error.strerror}", path=str(path)) from error
        self._is_packed = path.suffix == ".gz"
        self._lines: list[bytes] = []
        self._bytes = 0
        self.waiting_since_ns: int | None = None
        """Receive time of the oldest frame that a killed process would lose."""
        self._first_ns = self._last_ns = 0

    def write(self, received_ns: int, frame: bytes) -> None:
        """Append one combined frame `{"stream": …, "data": …}` received at `received_ns` (UTC nanoseconds).

        A line end in it (white space in JSON) becomes a blank.
        """
        if b"\n" in frame:
            frame = frame.replace(b"\n", b" ")
        line = b"%019d %s\n" % (received_ns, frame)
        if self.waiting_since_ns is None:
            self.waiting_since_ns = self._first_ns = self._last_ns = received_ns
        # A clock may be set back; the index must hold every line all the same.
        self._first_ns, self._last_ns = min(self._first_ns, received_ns), max(self._last_ns, received_ns)
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand everything written so far to the operating system, as one block."""
        if not self._lines:
            return
        text = b"".join(self._lines)
        packed = pack_block(text, len(self._lines), self._first_ns, self._last_ns) if self._is_packed else text
        self._lines, self._bytes, self.waiting_since_ns = [], 0, None
        written = self._file.write(packed)
        while written < len(packed):
            written += self._file.write(packed[written:])

    def close(self) -> None:
        """Finish the file, on the disk; may be called twice."""
        if self._file.closed:
            return
        try:
            self.flush()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
