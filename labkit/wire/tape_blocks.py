"""The blocks a recording of ours is made of: gzip members that say in their header how long they are and when.

To every gzip program the file is one gzip file. To us the extra field of each member is an index: without unpacking
anything one can go from block to block and find a moment; and a file whose writer was killed ends in at most one torn
block, which is recognised and left out. Times in UTC nanoseconds. Used by `wire.tape`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO

import msgspec

PACKING_LEVEL = 4
"""About as small as level 6 on frames, in two thirds of the time: packing happens between two frames."""

# gzip: magic, deflate, FEXTRA, no time, unknown system (so that the same frames make the same bytes); one subfield.
_START = struct.Struct("<4sIBBH2sH")
_INDEX = struct.Struct("<IIIQQ")
_END = struct.Struct("<II")
_MAGIC = b"\x1f\x8b\x08\x04"
_NAME = b"LK"
HEADER_BYTES = _START.size + _INDEX.size


class Block(msgspec.Struct, frozen=True):
    """Where a block is, and what its header tells: sizes in bytes, receive times of its earliest and latest line."""

    offset: int
    packed_bytes: int
    plain_bytes: int
    lines: int
    first_ns: int
    last_ns: int


class DamagedBlock(Exception):
    """A block is not what was written; the message says how."""


def pack_block(plain: bytes, lines: int, first_ns: int, last_ns: int) -> bytes:
    """`plain`, whole lines, as one gzip member."""
    packer = zlib.compressobj(PACKING_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(plain) + packer.flush()
    size = HEADER_BYTES + len(packed) + _END.size
    return b"".join(
        (
            _START.pack(_MAGIC, 0, 0, 255, 4 + _INDEX.size, _NAME, _INDEX.size),
            _INDEX.pack(size, len(plain), lines, first_ns, last_ns),
            packed,
            _END.pack(zlib.crc32(plain), len(plain)),
        )
    )


def is_block(start: bytes) -> bool:
    """Whether a file that starts like this is one of ours."""
    return start[:4] == _MAGIC and start[_START.size - 4 : _START.size - 2] == _NAME


def blocks_of(file: IO[bytes]) -> Iterator[Block]:
    """All whole blocks of a file, by their headers alone. A torn last one is left out.

    Raises:
        DamagedBlock: something else stands where a block should begin.
    """
    size = file.seek(0, 2)
    offset = 0
    while offset < size:
        file.seek(offset)
        header = file.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            return
        if not is_block(header):
            raise DamagedBlock(f"no block begins at byte {offset}")
        packed_bytes, plain_bytes, lines, first_ns, last_ns = _INDEX.unpack_from(header, _START.size)
        if packed_bytes < HEADER_BYTES + _END.size:
            raise DamagedBlock(f"the block at byte {offset} tells an impossible length")
        if offset + packed_bytes > size:
            return
        yield Block(offset, packed_bytes, plain_bytes, lines, first_ns, last_ns)
        offset += packed_bytes


def unpack_block(file: IO[bytes], block: Block) -> bytes:
    """The lines of one block. Raises `DamagedBlock` unless they are those that were packed."""
    file.seek(block.offset + HEADER_BYTES)
    body = file.read(block.packed_bytes - HEADER_BYTES)
    checksum, length = _END.unpack(body[-_END.size :])
    try:
        plain = zlib.decompress(body[: -_END.size], -zlib.MAX_WBITS, block.plain_bytes)
    except zlib.error as error:
        raise DamagedBlock(f"the block at byte {block.offset} is damaged: {error}") from error
    if length != block.plain_bytes or len(plain) != length or zlib.crc32(plain) != checksum:
        raise DamagedBlock(f"the block at byte {block.offset} does not match its checksum")
    return plain
