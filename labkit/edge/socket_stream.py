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
READ_BYTES = 1 << 18
LEAST_ROOM = 1 << 14
"""A read is given at least so much space."""
LONGEST_HEADER = 14
LONGEST_RESPONSE = 1 << 16
END_OF_RESPONSE = b"\r\n\r\n"


class LaneConnection(ClientConnection, asyncio.BufferedProtocol):
    """One WebSocket, made by `websockets.asyncio.client.connect(create_connection=LaneConnection)`.

    Frames go to `receive`, or, while it runs, to `pump`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_handshake_over = False
        self._is_plain = False
        self._fragments: list[bytes] = []
        self._begin = self._end = 0
        self._memory: memoryview[int] = memoryview(b"")
        self._room = self._memory
        self._frames = Frames.of([b""])
        self._make_room(READ_BYTES)
        self._take: Callable[[Frames], None] | None = None
        self._waiting: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._is_paused = False
        self._over: asyncio.Future[Exception] = self.loop.create_future()

    # The seam.

    async def receive(self) -> bytes:
        """The next frame as it arrived."""
        while not self._waiting:
            if self._over.done():
                raise self._over.result()
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
            raise await asyncio.shield(self._over)
        finally:
            self._take = None

    # From the socket. `websockets` is told all but the plain frames, in order and frame by frame, so that either of
    # us always stands at the beginning of a frame.

    def get_buffer(self, sizehint: int) -> memoryview[int]:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        # At an ordinary pace one frame comes at a time and everything is cold, so each call and each look counts.
        self._end += nbytes
        if self._is_plain:
            frames = self._frames
            frames.count, self._begin, why = split(frames.array, self._begin, self._end, MAX_FRAME_BYTES, frames.spans)
            if frames.count:
                self._hand_over(frames)
            if why != NEED_MORE:
                self._take_the_rest()
        else:
            self._take_the_rest()
        if self._begin == self._end:
            self._begin = self._end = 0
            self._room = self._memory
        else:
            self._keep_unread()

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

    def _take_the_rest(self) -> None:
        """What is not plain, frame by frame, and what comes after it."""
        if not self._is_handshake_over:
            head, blank_line, _ = bytes(self._memory[: self._end]).partition(END_OF_RESPONSE)
            if not blank_line and len(head) <= LONGEST_RESPONSE:
                return
            self._is_handshake_over = True
            self._pass_on(len(head) + len(blank_line))
        frames = self._frames
        while self.protocol.state is State.OPEN:
            why = NOT_PLAIN
            if self._is_plain:
                frames.count, self._begin, why = split(
                    frames.array, self._begin, self._end, MAX_FRAME_BYTES, frames.spans
                )
                if frames.count:
                    self._hand_over(frames)
            if why == NEED_MORE:
                return
            if why == NOT_PLAIN:
                length = whole_length(bytes(self._memory[self._begin : min(self._end, self._begin + LONGEST_HEADER)]))
                if length is None:
                    return
                # A frame that is too long is shown to `websockets` as far as it is here: its header gets it refused.
                if self._begin + length > self._end and length <= MAX_FRAME_BYTES + LONGEST_HEADER:
                    return
                self._pass_on(min(self._end, self._begin + length))
        # A refused handshake or a farewell: there is nothing left to hand over.
        self._pass_on(self._end)

    def _pass_on(self, end: int) -> None:
        data = bytes(self._memory[self._begin : end])
        self._begin = end
        if data:
            super().data_received(data)
        self._is_plain = self.protocol.state is State.OPEN and not self._fragments
        if (broken := self.protocol.parser_exc) is not None:
            # The farewell may take its time; nothing that comes before it will be read.
            self._finish(ConnectionLost(f"stream closed: {broken}"))

    def _keep_unread(self) -> None:
        """The beginning of a frame is here: make sure that all of it will fit."""
        length = whole_length(bytes(self._memory[self._begin : min(self._end, self._begin + LONGEST_HEADER)])) or 0
        wanted = self._begin + min(length, MAX_FRAME_BYTES + LONGEST_HEADER)
        if max(wanted, self._end) + LEAST_ROOM > len(self._memory):
            self._make_room(max(READ_BYTES, wanted - self._begin + LEAST_ROOM))
        else:
            self._room = self._memory[self._end :]

    def _make_room(self, size: int) -> None:
        """A buffer of at least `size` bytes with what is unread at its beginning."""
        unread = bytes(self._memory[self._begin : self._end])
        data = bytearray(max(size, len(unread) + LEAST_ROOM))
        data[: len(unread)] = unread
        self._begin, self._end = 0, len(unread)
        self._memory = memoryview(data)
        self._room = self._memory[self._end :]
        self._frames = Frames(data, np.frombuffer(data, np.uint8), np.empty((FRAMES_AT_ONCE, 2), np.int64), 0)

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
        if not self._over.done():
            self._over.set_result(error)
        self._wake_reader()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
