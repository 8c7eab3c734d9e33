"""Recording a feed and reading it back: every byte the exchange sent, whatever became of the recorder."""

from __future__ import annotations

import errno
import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from labkit.domain.market_events import Quote
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.errors import TapeError
from labkit.market.tape_recorder import RecordingStreams, TapeRecorder
from labkit.market.tapes import check_tape, cut_tape, read_quotes, tape_files, torn_bytes
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.wire.frames import Frames
from labkit.wire.streams import decode_frame, wrap
from labkit.wire.tape import TapeWriter, read_tape, tape_index
from labkit.wire.transport import ConnectionLost

NOW_NS = 1_767_571_200_000_000_000
SECOND_NS = 1_000_000_000


def quote_frame(update_id: int, symbol: str = "BTCUSDT", **changes: str) -> bytes:
    facts = {"b": "100.10", "B": "1.500", "a": "100.20", "A": "2.500"} | changes
    numbers = ",".join(f'"{name}":"{value}"' for name, value in facts.items())
    data = f'{{"e":"bookTicker","u":{update_id},"s":"{symbol}",{numbers},"T":1767571200000,"E":1767571200001}}'
    return wrap(f"{symbol.lower()}@bookTicker", data.encode())


TRADE = wrap(
    "btcusdt@trade", b'{"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":5,"p":"100.1","q":"1","X":"MARKET","m":true}'
)


def tape_of(path: Path, frames: list[bytes]) -> Path:
    with TapeWriter(path) as writer:
        for number, frame in enumerate(frames):
            writer.write(NOW_NS + number * SECOND_NS, frame)
    return path


class Peer:
    """A transport whose one connection sends some frames, a second apart, and then breaks."""

    def __init__(self, frames: list[bytes], clock: VirtualClock) -> None:
        self.frames, self.clock = list(frames), clock
        self.sent: list[str] = []

    async def open(self, path_and_query: str) -> Peer:
        return self

    async def receive(self) -> bytes:
        if not self.frames:
            raise ConnectionLost("over")
        await self.clock.sleep_until(self.clock.now_ms() + 1_000)
        return self.frames.pop(0)

    async def pump(self, take: Callable[[Frames], None]) -> NoReturn:
        while True:
            take(Frames.of([await self.receive()]))

    async def send(self, text: str) -> None:
        self.sent.append(text)

    async def close(self) -> None:
        """Nothing to give back."""


def live(story: Callable[[VirtualClock], Awaitable[Any]]) -> Any:
    loop = VirtualTimeLoop()
    clock = VirtualClock(loop, start_ms=NOW_NS // 1_000_000)

    async def main() -> Any:
        return await story(clock)

    return run_in_virtual_time(main(), loop)


def test_a_recorded_connection_hands_on_every_byte_and_keeps_it(tmp_path: Path) -> None:
    frames = [b'{"result":null,"id":1}', quote_frame(1), TRADE]
    recorder = TapeRecorder(tmp_path)

    async def story(clock: VirtualClock) -> tuple[list[bytes], list[str]]:
        peer = Peer(frames, clock)
        connection = await RecordingStreams(peer, recorder, clock).open("/public/stream")
        await connection.send("hello")
        received = [await connection.receive() for _ in frames]
        with pytest.raises(ConnectionLost):
            await connection.receive()
        await connection.close()
        return received, peer.sent

    received, sent = live(story)
    recorder.close()
    assert (received, sent) == (frames, ["hello"])
    (path,) = recorder.paths
    text = b"".join(b"%d %s\n" % (NOW_NS + (n + 1) * SECOND_NS, frame) for n, frame in enumerate(frames))
    assert gzip.decompress(path.read_bytes()) == text
    assert path.name == "20260105T000001Z.raw.gz"


def test_frames_that_are_pumped_together_are_each_on_the_tape(tmp_path: Path) -> None:
    frames, recorder, taken = [quote_frame(1), TRADE], TapeRecorder(tmp_path), []

    class Burst(Peer):
        async def pump(self, take: Callable[[Frames], None]) -> NoReturn:
            take(Frames.of(self.frames))
            raise ConnectionLost("over")

    async def story(clock: VirtualClock) -> None:
        connection = await RecordingStreams(Burst(frames, clock), recorder, clock).open("/public/stream")
        with pytest.raises(ConnectionLost):
            await connection.pump(lambda batch: taken.extend(map(batch.frame, range(batch.count))))

    live(story)
    recorder.close()
    assert taken == frames
    assert gzip.decompress(recorder.paths[0].read_bytes()) == b"".join(b"%d %s\n" % (NOW_NS, f) for f in frames)


def test_a_monitor_sees_on_a_tape_what_it_saw_live(tmp_path: Path) -> None:
    frames = [quote_frame(number) for number in range(1, 6)]
    recorder = TapeRecorder(tmp_path)
    quotes: list[Quote] = []

    async def story(clock: VirtualClock) -> None:
        monitor = WebSocketMonitor(
            ["BTCUSDT"], streams=RecordingStreams(Peer(frames, clock), recorder, clock), clock=clock
        )
        monitor.on_quote = quotes.append
        await monitor.start()
        await clock.sleep_until(clock.now_ms() + 20_000)
        await monitor.stop()

    live(story)
    recorder.close()
    replayed = [
        decode_frame(wrap(line.stream, line.data), line.received_ns)
        for path in recorder.paths
        for line in read_tape(path)
    ]
    assert len(quotes) == 5
    assert replayed == quotes


def test_a_new_file_is_begun_after_an_hour_and_no_name_is_used_twice(tmp_path: Path) -> None:
    for _ in range(2):
        recorder = TapeRecorder(tmp_path, rotate_after_ms=3_600_000)
        for minutes in (0, 59, 60, 119, 121):
            recorder.record(NOW_NS + minutes * 60 * SECOND_NS, quote_frame(minutes + 1))
        recorder.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "20260105T000000Z-2.raw.gz",
        "20260105T000000Z.raw.gz",
        "20260105T010000Z-2.raw.gz",
        "20260105T010000Z.raw.gz",
        "20260105T020100Z-2.raw.gz",
        "20260105T020100Z.raw.gz",
    ]
    assert [check_tape(path).lines for path in tape_files(tmp_path)] == [2, 2, 2, 2, 1, 1]


def test_a_frame_is_out_of_the_process_a_second_later(tmp_path: Path) -> None:
    recorder = TapeRecorder(tmp_path, flush_after_ms=1_000)
    for number in range(4):
        recorder.record(NOW_NS + number * SECOND_NS // 2, quote_frame(number + 1))
    index = tape_index(recorder.paths[0])
    assert index is not None
    assert sum(block.lines for block in index) == 3
    recorder.flush()
    assert len(list(read_tape(recorder.paths[0]))) == 4
    recorder.close()


def test_a_full_disk_ends_the_recording_and_not_the_feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = TapeRecorder(tmp_path)
    recorder.record(NOW_NS, quote_frame(1))

    def refuse(_writer: TapeWriter) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TapeWriter, "flush", refuse)
    recorder.record(NOW_NS + 2 * SECOND_NS, quote_frame(2))
    recorder.record(NOW_NS + 4 * SECOND_NS, quote_frame(3))
    recorder.close()
    assert "No space left on device" in str(recorder.failure)
    assert recorder.frames == 1


def test_quotes_are_read_as_one_table_among_whatever_else_was_recorded(tmp_path: Path) -> None:
    frames = [quote_frame(1), TRADE, b'{"result":null,"id":1}', quote_frame(2, "ETHUSDT", b="99.5"), quote_frame(3)]
    frame = read_quotes(tape_of(tmp_path / "tape.raw.gz", frames))
    assert frame["symbol"].tolist() == ["BTCUSDT", "ETHUSDT", "BTCUSDT"]
    assert frame["bid_price"].tolist() == [100.10, 99.5, 100.10]
    assert frame["update_id"].tolist() == [1, 2, 3]
    assert frame.index.as_unit("ns").asi8.tolist() == [NOW_NS, NOW_NS + 3 * SECOND_NS, NOW_NS + 4 * SECOND_NS]
    assert frame.attrs["units"]["ask_quantity"] == "base asset"


def test_quotes_of_a_span_are_those_received_in_it(tmp_path: Path) -> None:
    path = tape_of(tmp_path / "tape.raw.gz", [quote_frame(number) for number in range(10)])
    frame = read_quotes(path, from_ns=NOW_NS + 3 * SECOND_NS, to_ns=NOW_NS + 6 * SECOND_NS)
    assert frame["update_id"].tolist() == [3, 4, 5]


def test_a_tape_without_quotes_gives_an_empty_table(tmp_path: Path) -> None:
    frame = read_quotes(tape_of(tmp_path / "tape.raw.gz", [TRADE]))
    assert len(frame) == 0
    assert "bid_price" in frame.columns


@pytest.mark.parametrize("price", ["NaN", "inf", "-1", "0", "abc", ""])
def test_a_quote_without_a_price_is_an_error_that_tells_where(price: str, tmp_path: Path) -> None:
    path = tape_of(tmp_path / "tape.raw.gz", [quote_frame(1), quote_frame(2, b=price)])
    with pytest.raises(TapeError, match="line") as caught:
        read_quotes(path)
    assert str(path) in str(caught.value)


def test_a_piece_cut_out_keeps_its_bytes(tmp_path: Path) -> None:
    frames = [quote_frame(1), TRADE, b'{"result":null,"id":1}', quote_frame(4)]
    path = tape_of(tmp_path / "tape.raw.gz", frames)
    target = tmp_path / "piece.raw.gz"
    assert cut_tape(path, target, from_ns=NOW_NS + SECOND_NS, to_ns=NOW_NS + 3 * SECOND_NS) == 2
    lines = gzip.decompress(target.read_bytes()).splitlines()
    assert [line.partition(b" ")[2] for line in lines] == frames[1:3]


def test_an_empty_piece_leaves_no_file(tmp_path: Path) -> None:
    path = tape_of(tmp_path / "tape.raw.gz", [TRADE])
    with pytest.raises(TapeError, match="nothing was received"):
        cut_tape(path, tmp_path / "piece.raw.gz", from_ns=0, to_ns=1)
    assert not (tmp_path / "piece.raw.gz").exists()


def test_a_check_tells_what_a_recording_holds_and_how_it_ended(tmp_path: Path) -> None:
    path = tape_of(tmp_path / "tape.raw.gz", [quote_frame(1), TRADE, quote_frame(2)])
    content = check_tape(path)
    assert (content.lines, content.streams) == (3, {"btcusdt@bookTicker": 2, "btcusdt@trade": 1})
    assert (content.longest_silence_ns, content.backward_steps, content.torn_bytes) == (SECOND_NS, 0, 0)
    path.write_bytes(path.read_bytes() + path.read_bytes()[:50])
    assert torn_bytes(path) == 50


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "quotes"),
    [("um/BTCUSDT-20230404.raw.gz", 6_765), ("um/ETHUSDT-20240718.raw.gz", 9_089), ("um/MULTI4-20210722.ws.gz", 613),
     ("spot/BTCUSDT-20230405.raw.gz", 8_015)],
)  # fmt: skip
def test_recordings_of_others_are_read_as_quotes(name: str, quotes: int, real_data: Path) -> None:
    frame = read_quotes(real_data / "ticks" / name)
    assert len(frame) == quotes
    assert (frame["ask_price"] > frame["bid_price"]).all()
    assert frame.index.year.unique().tolist() == [int(name.partition("-20")[2][:2]) + 2000]


@pytest.mark.real_data
def test_the_fast_table_and_the_strict_decoder_agree_on_every_recorded_quote(real_data: Path) -> None:
    path = real_data / "ticks" / "um" / "ETHUSDT-20240718.raw.gz"
    strict = [
        decode_frame(wrap(line.stream, line.data), line.received_ns)
        for line in read_tape(path)
        if line.stream.endswith("@bookTicker")
    ]
    told = [
        (float(q.bid_price), float(q.bid_quantity), float(q.ask_price), float(q.ask_quantity), q.update_id)
        for q in strict
        if isinstance(q, Quote)
    ]
    columns = ["bid_price", "bid_quantity", "ask_price", "ask_quantity", "update_id"]
    assert list(read_quotes(path)[columns].itertuples(index=False, name=None)) == told


@pytest.mark.real_data
def test_a_recording_of_another_recorder_can_be_kept_as_ours_and_stays_the_same(
    real_data: Path, tmp_path: Path
) -> None:
    path = real_data / "ticks" / "um" / "BTCUSDT-20240718.raw.gz"
    cut_tape(path, tmp_path / "ours.raw.gz", from_ns=0, to_ns=1 << 62)
    assert list(read_tape(tmp_path / "ours.raw.gz")) == list(read_tape(path))
