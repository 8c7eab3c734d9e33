"""WebSocket frames by the letter of RFC 6455 §5, plain and slow: the independent reader that trials hold ours against.

Shares no code with the transports under trial. Server frames only: they are not masked.
"""

from __future__ import annotations

import struct

import msgspec

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


class Frame(msgspec.Struct, frozen=True):
    """One frame as it stands on the wire."""

    opcode: int
    payload: bytes
    final: bool = True


class Reassembly:
    """Puts fragments together. Control frames may stand between them and come out as they are met."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun: Frame | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The messages and control frames that are complete with `data`."""
        frames, self._rest = split_frames(self._rest + data)
        whole = []
        for each in frames:
            if each.opcode >= CLOSE:
                whole.append(each)
                continue
            if self._begun is not None:
                each = Frame(self._begun.opcode, self._begun.payload + each.payload, each.final)
            self._begun = None if each.final else each
            if each.final:
                whole.append(each)
        return whole


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """One unmasked frame (§5.2)."""
    first = opcode | (0x80 if final else 0)
    if len(payload) < 126:
        return struct.pack("!BB", first, len(payload)) + payload
    if len(payload) < 1 << 16:
        return struct.pack("!BBH", first, 126, len(payload)) + payload
    return struct.pack("!BBQ", first, 127, len(payload)) + payload


def split_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames at the beginning of `data`, and what is left."""
    frames = []
    at = 0
    while len(data) >= at + 2:
        first, length = data[at], data[at + 1] & 0x7F
        start = at + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(data) < start + size:
                break
            length = int.from_bytes(data[start : start + size], "big")
            start += size
        if len(data) < start + length:
            break
        frames.append(Frame(first & 0x0F, data[start : start + length], bool(first & 0x80)))
        at = start + length
    return frames, data[at:]
