"""What comes out of a WebSocket, however its bytes were cut: a server that writes raw frames."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from labkit.edge.frame_splitter import NEED_MORE, NOT_PLAIN, split, whole_length
from labkit.edge.socket_stream import MOST_WAITING
from labkit.edge.websocket import SocketStreams
from labkit.wire.frames import Frames
from labkit.wire.transport import ConnectionLost, StreamConnection

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
StartTcp = Callable[[Handler], Awaitable[int]]
Open = Callable[..., Awaitable[StreamConnection]]


def frame(data: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=False)


@pytest.fixture
def opened(tcp: StartTcp) -> Open:
    """A connection to a server that answers the handshake and sends these pieces, then waits for the client."""

    async def open_(*pieces: bytes, with_response: bool = False) -> StreamConnection:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            protocol = ServerProtocol()
            protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
            (request,) = protocol.events_received()
            protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
            response = b"".join(protocol.data_to_send())
            sent = [response + b"".join(pieces)] if with_response else [response, *pieces]
            for piece in sent:
                writer.write(piece)
                await writer.drain()
                # Each piece is read by itself: the loop of the client is this very loop.
                for _ in range(4):
                    await asyncio.sleep(0)
            while data := await reader.read(1 << 16):
                protocol.receive_data(data)
                for event in protocol.events_received():
                    assert isinstance(event, Frame)
                    if event.opcode is not Opcode.CLOSE:
                        writer.write(frame(b"heard " + bytes([event.opcode + 48])))
                for answer in protocol.data_to_send():
                    if not answer:
                        return
                    writer.write(answer)

        port = await tcp(serve)
        return await SocketStreams(f"ws://127.0.0.1:{port}", open_timeout_ms=5_000, close_timeout_ms=200).open("/x")

    return open_


TEXTS = [b"one", b"two" * 100, b"", "币".encode(), b"x" * 70_000, b"last"]
MIXED = [
    frame(TEXTS[0]), frame(b"p", Opcode.PING), frame(TEXTS[1]), frame(b"", Opcode.PONG), frame(TEXTS[2]),
    frame(TEXTS[3][:2], fin=False), frame(b"q", Opcode.PING), frame(b"", Opcode.CONT, fin=False),
    frame(TEXTS[3][2:], Opcode.CONT), frame(TEXTS[4]), frame(TEXTS[5]),
]  # fmt: skip


@pytest.mark.parametrize("pieces", ["at once", "with the response", "frame by frame", "byte by byte", "anyhow"])
async def test_messages_come_out_whole_and_in_order_however_their_bytes_were_cut(opened: Open, pieces: str) -> None:
    stream = b"".join(MIXED)
    if pieces == "frame by frame":
        sent = MIXED
    elif pieces == "byte by byte":
        sent = [stream[at : at + 1] for at in range(800)] + [stream[800:]]
    elif pieces == "anyhow":
        cuts = sorted(random.Random(1).sample(range(len(stream)), 60))
        sent = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    else:
        sent = [stream]
    connection = await opened(*sent, with_response=pieces == "with the response")
    received = [await connection.receive() for _ in range(len(TEXTS) + 2)]
    # Both pings were answered, and the server says so.
    assert [message for message in received if message != b"heard :"] == TEXTS
    assert received.count(b"heard :") == 2
    await connection.close()


async def test_frames_of_one_read_are_pumped_together_and_those_that_waited_first(opened: Open) -> None:
    connection = await opened(frame(b"waited"), frame(b"a") + frame(b"b") + frame(b"c"))
    batches: list[list[bytes]] = []
    done = asyncio.Event()

    def take(frames: Frames) -> None:
        batches.append([frames.frame(number) for number in range(frames.count)])
        if batches[-1][-1] == b"c":
            done.set()

    assert await connection.receive() == b"waited"
    pumping = asyncio.create_task(connection.pump(take))
    await done.wait()
    assert batches == [[b"a", b"b", b"c"]]
    await connection.close()
    with pytest.raises(ConnectionLost):
        await pumping


async def test_what_a_taker_raises_is_raised_by_the_pump_and_not_lost(opened: Open) -> None:
    def take(frames: Frames) -> None:
        raise ZeroDivisionError

    connection = await opened(frame(b"a"), frame(b"b"))
    with pytest.raises(ZeroDivisionError):
        await connection.pump(take)
    await connection.close()


async def test_a_reader_that_comes_late_finds_every_frame_and_the_socket_was_not_drained_meanwhile(
    opened: Open,
) -> None:
    count = 20 * MOST_WAITING
    connection = await opened(b"".join(frame(f"{number:0500}".encode()) for number in range(count)))
    for _ in range(200):
        await asyncio.sleep(0)
    for number in range(count):
        assert await connection.receive() == f"{number:0500}".encode()
    await connection.close()


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(frame(b"a", fin=False) + frame(b"b"), id="a text within a fragmented text"),
        pytest.param(frame(b"a", Opcode.CONT), id="a continuation of nothing"),
        pytest.param(Frame(Opcode.TEXT, b"abc").serialize(mask=True), id="a masked frame"),
        pytest.param(bytes([0xC1, 1, 65]), id="an extension nobody agreed to"),
        pytest.param(bytes([0x83, 1, 65]), id="an opcode that does not exist"),
        pytest.param(bytes([0x81, 127]) + (1 << 40).to_bytes(8, "big"), id="a frame of a terabyte"),
        pytest.param(bytes([0x81, 127]) + (1 << 63).to_bytes(8, "big"), id="a negative length"),
        pytest.param(frame(b"x" * 700_000, fin=False) + frame(b"x" * 700_000, Opcode.CONT), id="too much in parts"),
        pytest.param(bytes([0x89, 126, 0, 200]) + b"x" * 200, id="a ping too long"),
    ],
)
async def test_what_breaks_the_protocol_ends_the_connection_after_the_good_frames(
    opened: Open, nonsense: bytes
) -> None:
    connection = await opened(frame(b"good") + nonsense + frame(b"never heard"))
    assert await connection.receive() == b"good"
    with pytest.raises(ConnectionLost):
        await connection.receive()
    await connection.close()


KINDS = st.tuples(st.sampled_from([0x81, 0x81, 0x81, 0x81, 0x01, 0x89, 0x80, 0xC1]), st.integers(0, 300), st.booleans())


@settings(deadline=None)
@given(kinds=st.lists(KINDS, max_size=8), cut=st.integers(0, 40), room=st.integers(1, 4))
def test_the_compiled_scan_finds_the_plain_frames_and_stops_at_the_first_other(
    kinds: list[tuple[int, int, bool]], cut: int, room: int
) -> None:
    data, plain, why, stopped_at = bytearray(), [], NEED_MORE, None
    for first, length, masked in kinds:
        is_plain = first == 0x81 and not (masked and length % 7 == 0)
        if stopped_at is None and not is_plain:
            stopped_at, why = len(data), NOT_PLAIN
        head = bytes([first, (length if length < 126 else 126) | (0 if is_plain or not masked else 0x80)])
        head += b"" if length < 126 else length.to_bytes(2, "big")
        head += b"" if is_plain or not masked else b"mask"
        assert whole_length(head) == len(head) + length
        if stopped_at is None:
            plain.append((len(data) + len(head), len(data) + len(head) + length))
        data += head + bytes(length)
    whole = len(data)
    data = data[: max(0, whole - cut)]
    expected = [span for span in plain if span[1] <= len(data)][:room]
    spans = np.zeros((room, 2), np.int64)
    count, at, reason = split(np.frombuffer(bytes(data), np.uint8), 0, len(data), 1 << 20, spans)
    assert [tuple(span) for span in spans[:count].tolist()] == expected
    assert at == (expected[-1][1] if expected else 0)
    if not cut and len(expected) == len(plain) and len(plain) < room:
        assert (reason, at) == (why, whole if stopped_at is None else stopped_at)
