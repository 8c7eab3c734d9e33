"""LaneConnection: a WebSocket whose plain frames take a short way. Opened by `labkit.edge.websocket.SocketStreams`.

It is the client connection of `websockets`, which keeps all that is delicate: handshake, pings and pongs, farewells,
fragments, errors. Only whole, plain text frames, found by a compiled scan, do not pass through it: they are handed
over at once, all frames of one read together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from websockets.asyncio.client import ClientConnection
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import Event, State

from labkit.edge.frame_splitter import NEED_MORE, NOT_PLAIN, split, whole_length
from labkit.wire.frames import Frames
from labkit.wire.transport import ConnectionLost

MAX_FRAME_BYTES = 1 << 20
FRAMES_AT_ONCE = 2048
MOST_WAITING = 1024
"""So many frames may wait for a reader; then the socket is read no further until one comes."""
LONGEST_HEADER = 14
LONGEST_RESPONSE = 1 << 16
END_OF_RESPONSE = b"\r\n\r\n"


class LaneConnection(ClientConnection):
    """One WebSocket, made by `websockets.asyncio.client.connect(create_connection=LaneConnection)`.

    Frames go to `receive`, or, while it runs, to `pump`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._response = b""
        self._is_handshake_over = False
        self._rest = b""
        self._fragments: list[bytes] = []
        self._spans = np.empty((FRAMES_AT_ONCE, 2), np.int64)
        self._take: Callable[[Frames], None] | None = None
        self._waiting: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._is_paused = False
        self._end: asyncio.Future[Exception] = self.loop.create_future()

    # The seam.

    async def receive(self) -> bytes:
        """The next frame as it arrived."""
        while not self._waiting:
            if self._end.done():
                raise self._end.result()
            self._reader = self.loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        frame = self._waiting.popleft()
        self._read_on()
        return frame

    async def pump(self, take: Callable[[Frames], None]) -> NoReturn:
        """Hand over all frames as they come, each read's together, straight from the socket's callback."""
        if self._waiting:
            waiting = Frames.of(list(self._waiting))
            self._waiting.clear()
            take(waiting)
        self._take = take
        self._read_on()
        try:
            raise await asyncio.shield(self._end)
        finally:
            self._take = None

    # From the socket. `websockets` is told all but the plain frames, in order and frame by frame, so that either of
    # us always stands at the beginning of a frame.

    def data_received(self, data: bytes) -> None:
        if self._is_handshake_over:
            self._take_bytes(data)
            return
        self._response += data
        head, blank_line, rest = self._response.partition(END_OF_RESPONSE)
        if not blank_line and len(head) <= LONGEST_RESPONSE:
            return
        self._is_handshake_over = True
        self._response = b""
        super().data_received(head + blank_line)
        self._take_bytes(rest)

    def process_event(self, event: Event) -> None:
        if self.response is None or not isinstance(event, Frame) or event.opcode not in DATA_OPCODES:
            super().process_event(event)
            return
        self._fragments.append(bytes(event.data))
        if event.fin:
            message = b"".join(self._fragments)
            self._fragments.clear()
            self._hand_over(Frames.of([message]))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._finish(ConnectionLost(f"stream closed: {self.close_exc}"))

    def _take_bytes(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        array = np.frombuffer(data, np.uint8)
        at = 0
        while self.protocol.state is State.OPEN:
            count, why = 0, NOT_PLAIN
            if not self._fragments:
                count, at, why = split(array, at, MAX_FRAME_BYTES, self._spans)
            if count:
                self._hand_over(Frames(data, array, self._spans, count))
            if why == NEED_MORE:
                break
            if why == NOT_PLAIN:
                length = whole_length(data, at)
                # A frame that is too long is shown to `websockets` as far as it is here: its header gets it refused.
                if length is None or at + length > len(data) and length <= MAX_FRAME_BYTES + LONGEST_HEADER:
                    break
                super().data_received(data[at : at + length])
                at = min(len(data), at + length)
        else:
            # A refused handshake or a farewell: there is nothing left to hand over.
            super().data_received(data[at:])
            at = len(data)
        self._rest = data[at:]

    def _hand_over(self, frames: Frames) -> None:
        if self._take is not None:
            try:
                self._take(frames)
            except Exception as error:  # not swallowed: whoever awaits `pump` gets it
                self._finish(error)
            return
        self._waiting.extend(frames.frame(number) for number in range(frames.count))
        self._wake_reader()
        if len(self._waiting) > MOST_WAITING and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()

    def _read_on(self) -> None:
        if self._is_paused and len(self._waiting) <= MOST_WAITING // 2:
            self._is_paused = False
            self.transport.resume_reading()

    def _finish(self, error: Exception) -> None:
        self._take = None
        if not self._end.done():
            self._end.set_result(error)
        self._wake_reader()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
