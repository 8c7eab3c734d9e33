"""Where the plain frames of a WebSocket lie in what was read from it. Compiled; one file, so that its cache is true.

A frame is *plain* if it is a whole, unmasked text message of at most `limit` bytes without any extension: nearly all
that an exchange sends. Everything else is left to a WebSocket library.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

NEED_MORE, NOT_PLAIN, SPANS_FULL = 0, 1, 2

_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_SPANS = numba.types.Array(numba.int64, 2, "C")
_compile: Any = numba.njit(numba.types.UniTuple(numba.int64, 3)(_BYTES, numba.int64, numba.int64, _SPANS), cache=True)


@_compile  # type: ignore[untyped-decorator]
def split(
    data: npt.NDArray[np.uint8], start: int, limit: int, spans: npt.NDArray[np.int64]
) -> tuple[int, int, int]:  # pragma: no cover - compiled
    """The payloads of the plain frames from `start` on, up to the first that is not plain or not whole.

    Returns how many were written to `spans`, where the next frame begins, and why it ended there.
    """
    at, size, count = start, data.size, 0
    while True:
        if size - at < 2:
            return count, at, NEED_MORE
        length = np.int64(data[at + 1])
        # 0x81: final, no extension bits, text. A length above 127 has the mask bit, which no server may set.
        if data[at] != 0x81 or length > 127:
            return count, at, NOT_PLAIN
        payload = at + 2
        if length == 126:
            payload = at + 4
            if size < payload:
                return count, at, NEED_MORE
            length = np.int64(data[at + 2]) << 8 | np.int64(data[at + 3])
        elif length == 127:
            payload = at + 10
            if size < payload:
                return count, at, NEED_MORE
            if data[at + 2] >= 0x80:
                return count, at, NOT_PLAIN
            length = np.int64(0)
            for place in range(at + 2, payload):
                length = length << 8 | np.int64(data[place])
        if length > limit:
            return count, at, NOT_PLAIN
        if size - payload < length:
            return count, at, NEED_MORE
        if count == spans.shape[0]:
            return count, at, SPANS_FULL
        spans[count, 0] = payload
        spans[count, 1] = payload + length
        count += 1
        at = payload + length


def whole_length(data: bytes, start: int) -> int | None:
    """The length of the frame of any kind that begins at `start`, header included; None if the header is cut off."""
    header = data[start : start + 10]
    if len(header) < 2:
        return None
    length, size = header[1] & 0x7F, 2
    if length >= 126:
        size = 4 if length == 126 else 10
        if len(header) < size:
            return None
        length = int.from_bytes(header[2:size], "big")
    return size + length + (4 if header[1] & 0x80 else 0)
