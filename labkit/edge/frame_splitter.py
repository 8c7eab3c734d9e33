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

_types: Any = numba.types
_SIGNATURE = _types.UniTuple(_types.int64, 3)(
    _types.Array(_types.uint8, 1, "C", readonly=True),
    _types.int64,
    _types.int64,
    _types.int64,
    _types.Array(_types.int64, 2, "C"),
)
_compile: Any = numba.njit(_SIGNATURE, cache=True)


@_compile  # type: ignore[untyped-decorator]
def split(
    data: npt.NDArray[np.uint8], start: Any, size: Any, limit: Any, spans: npt.NDArray[np.int64]
) -> Any:  # pragma: no cover - compiled
    """The payloads of the plain frames between `start` and `size`, up to the first that is not plain or not whole.

    Returns how many were written to `spans`, where the next frame begins, and why it ended there.
    """
    at, count = start, 0
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


def whole_length(header: bytes) -> int | None:
    """The length of the frame of any kind that begins with `header`, header included; None if the header is cut off."""
    if len(header) < 2:
        return None
    length, size = header[1] & 0x7F, 2
    if length >= 126:
        size = 4 if length == 126 else 10
        if len(header) < size:
            return None
        length = int.from_bytes(header[2:size], "big")
    return size + length + (4 if header[1] & 0x80 else 0)
