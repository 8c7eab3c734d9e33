"""Frames: the text frames of one read of a socket, handed over together. Bytes and where each frame lies in them.

One call for all frames of a read is what makes a busy stream cheap; a single frame is simply a batch of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class Frames:
    """Frame `i` is `data[spans[i, 0]:spans[i, 1]]`, for `i` below `count`; UTF-8 as it arrived.

    Only good while it is being handed over: whoever made it may use the memory again.
    """

    __slots__ = ("array", "count", "data", "spans")

    def __init__(
        self, data: bytes | bytearray, array: npt.NDArray[np.uint8], spans: npt.NDArray[np.int64], count: int
    ) -> None:
        self.data = data
        self.array = array
        self.spans = spans
        self.count = count

    @classmethod
    def of(cls, frames: Sequence[bytes]) -> Frames:
        """A batch of frames that are separate so far."""
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        spans = np.empty((len(frames), 2), np.int64)
        end = 0
        for number, frame in enumerate(frames):
            spans[number, 0] = end
            end += len(frame)
            spans[number, 1] = end
        return cls(data, np.frombuffer(data, np.uint8), spans, len(frames))

    def frame(self, number: int) -> bytes:
        """One frame as bytes of its own."""
        return bytes(self.data[self.spans[number, 0] : self.spans[number, 1]])
