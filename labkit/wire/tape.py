"""Recordings of stream frames, line by line: reading what others recorded, writing what we record.

Two text layouts, plain or gzip, are told apart by their first line:

- raw (`*.raw`, `*.raw.gz`; hftbacktest's collector, and ours): receive time, one blank, the combined frame. Receive
  times have 16 digits (microseconds) or 19 (nanoseconds).
- cryptofeed (`*.ws.gz`): a first line that names the connection, then receive time in seconds, ": ", the frame.

A line whose body is not a combined frame but an order book from REST is given with an empty stream name. Times are
UTC nanoseconds as the recorder's clock told them, which may be off by seconds. Used by `paper.market_tape` and
`market`.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from labkit.errors import TapeError

GZIP_MAGIC = b"\x1f\x8b"
MAX_LINE_BYTES = 4 << 20
"""Longer than any frame or snapshot: a file without line ends is not read into memory."""


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


_frames = msgspec.json.Decoder(_Frame)
_snapshots = msgspec.json.Decoder(_Snapshot)


def read_tape(path: Path) -> Iterator[TapeLine]:
    """Every line of the recording, in file order, lazily.

    Raises:
        TapeError: the file cannot be opened, is no recording, ends in the middle of a line or of its compression, or
            holds a line that cannot be read; names the file and the line.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            if packed:
                with gzip.open(file) as unpacked:
                    yield from _read_lines(path, unpacked)
            else:
                yield from _read_lines(path, file)
    except OSError as error:
        raise TapeError(f"{path}: cannot be read: {error.strerror or error}", path=str(path)) from error


def _read_lines(path: Path, file: IO[bytes] | gzip.GzipFile) -> Iterator[TapeLine]:
    parse = _parse_raw
    number = 0
    while line := _next_line(path, file, number + 1):
        number += 1
        if number == 1 and _CRYPTOFEED_HEADER.match(line):
            parse = _parse_cryptofeed
            continue
        if not line.endswith(b"\n"):
            raise _error(path, number, "the file ends in the middle of this line: it was cut off")
        parsed = parse(line)
        if parsed is None:
            reason = "not a recording of stream frames" if number == 1 else "not a receive time and a frame"
            raise _error(path, number, f"{reason}: {line[:60]!r}")
        received_ns, body = parsed
        yield _line(path, number, received_ns, body)
    if number == 0:
        raise _error(path, 1, "the file is empty")


def _next_line(path: Path, file: IO[bytes] | gzip.GzipFile, number: int) -> bytes:
    try:
        line = file.readline(MAX_LINE_BYTES)
    except EOFError as error:
        raise _error(path, number, "the compressed file ends early: it was cut off") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _error(path, number, f"the compressed file is damaged: {error}") from error
    if len(line) == MAX_LINE_BYTES:
        raise _error(path, number, "not a recording of stream frames: a line of more than 4 MiB")
    return line


_CRYPTOFEED_HEADER = re.compile(rb"wss?://\S+ <-> \d+")
_RAW_LINE = re.compile(rb"(\d{16}|\d{19}) ")
_CRYPTOFEED_LINE = re.compile(rb"(\d{10})\.?(\d{0,9}): ")


def _parse_raw(line: bytes) -> tuple[int, bytes] | None:
    match = _RAW_LINE.match(line)
    if match is None:
        return None
    digits = match[1]
    return int(digits) * (1_000 if len(digits) == 16 else 1), line[match.end() :]


def _parse_cryptofeed(line: bytes) -> tuple[int, bytes] | None:
    match = _CRYPTOFEED_LINE.match(line)
    if match is None:
        return None
    return int(match[1]) * 1_000_000_000 + int(match[2].ljust(9, b"0")), line[match.end() :]


def _line(path: Path, number: int, received_ns: int, body: bytes) -> TapeLine:
    try:
        frame = _frames.decode(body)
        return TapeLine(received_ns, frame.stream, bytes(frame.data), number)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        try:
            _snapshots.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _error(path, number, f"the frame cannot be read: {error}") from error
        return TapeLine(received_ns, "", body.rstrip(b"\r\n"), number)


def _error(path: Path, line: int, reason: str) -> TapeError:
    return TapeError(f"{path}, line {line}: {reason}", path=str(path), line=line)


class TapeWriter:
    """Records frames in the raw layout, so that `read_tape` (and hftbacktest) can play them again.

    A path that ends in `.gz` is compressed. The file must not exist yet: a recording is never overwritten.

    Raises:
        TapeError: the file exists already or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: IO[bytes] = path.open("xb")
        except OSError as error:
            raise TapeError(f"{path}: cannot be written: {error.strerror}", path=str(path)) from error
        self._out: io.BufferedIOBase | IO[bytes] = self._file
        if path.suffix == ".gz":
            # No file name and no time in the header: the same frames make the same bytes.
            self._out = gzip.GzipFile(filename="", mode="wb", fileobj=self._file, mtime=0)

    def write(self, received_ns: int, frame: bytes) -> None:
        """Append one combined frame `{"stream": …, "data": …}` received at `received_ns` (UTC nanoseconds)."""
        self._out.write(b"%019d %s\n" % (received_ns, frame))

    def close(self) -> None:
        """Finish the file; may be called twice."""
        self._out.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
