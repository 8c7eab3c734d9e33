"""Recording what the market sends, at the socket, before anybody decodes it.

`RecordingStreams` stands between a monitor and its transport and hands every received frame on unchanged, after it was
written down with our receive time. `TapeRecorder` is the folder the recordings go to: a new file every hour, packed in
blocks, of which a killed process loses the last one. Times in UTC nanoseconds of the market clock. Used by `labkit tape
record` and wherever a feed is to be kept.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from labkit.domain.clock import HOUR_MS, SECOND_MS, Clock
from labkit.errors import TapeError
from labkit.wire.frames import Frames
from labkit.wire.tape import TapeWriter
from labkit.wire.transport import StreamConnection, StreamTransport

ROTATE_AFTER_MS = HOUR_MS
FLUSH_AFTER_MS = SECOND_MS
_NANOSECONDS = 1_000_000


class TapeRecorder:
    """Writes frames into `folder`, one file after another, named by the UTC time of their first frame.

    Args:
        folder: where the files go; made if it does not exist.
        rotate_after_ms: market time after which a new file is begun.
        flush_after_ms: market time after which a frame is out of this process's hands, if another one follows.
    """

    def __init__(
        self, folder: Path, *, rotate_after_ms: int = ROTATE_AFTER_MS, flush_after_ms: int = FLUSH_AFTER_MS
    ) -> None:
        self._folder = folder
        self._rotate_after_ns = rotate_after_ms * _NANOSECONDS
        self._flush_after_ns = flush_after_ms * _NANOSECONDS
        self._writer: TapeWriter | None = None
        self._began_ns = 0
        self.frames = 0
        """All frames recorded so far."""
        self.failure: TapeError | None = None
        """Why the recording ended although the feed goes on; None as long as it does not."""
        self.paths: list[Path] = []
        """The files made so far, the one being written last."""

    def record(self, received_ns: int, frame: bytes) -> None:
        """Write down one frame that was received at `received_ns`.

        The disk's refusal does not stop the feed: it ends the recording, and stands in `failure`.
        """
        if self.failure is not None:
            return
        try:
            writer = self._writer
            if writer is None or received_ns - self._began_ns >= self._rotate_after_ns:
                writer = self._begin(received_ns)
            writer.write(received_ns, frame)
            if writer.waiting_since_ns is not None and received_ns - writer.waiting_since_ns >= self._flush_after_ns:
                writer.flush()
        except TapeError as error:
            self.failure = error
        except OSError as error:
            self._fail(error)
        else:
            self.frames += 1

    def flush(self) -> None:
        """Hand what was recorded so far to the operating system."""
        if self._writer is not None:
            try:
                self._writer.flush()
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Finish the last file. Twice is harmless."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        where = self.paths[-1] if self.paths else self._folder
        self.failure = TapeError(f"{where}: cannot be written: {error.strerror or error}", path=str(where))

    def _begin(self, received_ns: int) -> TapeWriter:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        moment = datetime.fromtimestamp(received_ns // 1_000_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
        path = self._folder / f"{moment}.raw.gz"
        again = 1
        while path.exists():
            again += 1
            path = self._folder / f"{moment}-{again}.raw.gz"
        self._writer = writer = TapeWriter(path)
        self._began_ns = received_ns
        self.paths.append(path)
        return writer


class RecordingStreams:
    """A `StreamTransport` that records what another one receives."""

    def __init__(self, streams: StreamTransport, recorder: TapeRecorder, clock: Clock) -> None:
        self._streams, self._recorder, self._clock = streams, recorder, clock

    async def open(self, path_and_query: str) -> StreamConnection:
        """Open a stream connection through the other transport."""
        return _RecordedStream(await self._streams.open(path_and_query), self._recorder, self._clock)


class _RecordedStream:
    def __init__(self, stream: StreamConnection, recorder: TapeRecorder, clock: Clock) -> None:
        self._stream, self._recorder, self._clock = stream, recorder, clock

    async def receive(self) -> bytes:
        """The next frame, which is on the tape when it is handed on."""
        frame = await self._stream.receive()
        self._recorder.record(self._clock.now_ns(), frame)
        return frame

    async def pump(self, take: Callable[[Frames], None]) -> NoReturn:
        """Hand over all frames as they come, on the tape before they are."""

        def record_and_take(frames: Frames) -> None:
            received_ns = self._clock.now_ns()
            for number in range(frames.count):
                self._recorder.record(received_ns, frames.frame(number))
            take(frames)

        await self._stream.pump(record_and_take)

    async def send(self, text: str) -> None:
        await self._stream.send(text)

    async def close(self) -> None:
        await self._stream.close()
