"""Reading and writing recordings: every layout, and every way in which a file can be no recording."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import TapeError
from labkit.wire.tape import BLOCK_BYTES, TapeLine, TapeWriter, read_blocks, read_tape, tape_index

FRAME = b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":7, "b":"1.10"}}'
DATA = b'{"e":"bookTicker","u":7, "b":"1.10"}'
NANOSECONDS = 1_721_347_200_064_916_040


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def raw_line(received_ns: int = NANOSECONDS, frame: bytes = FRAME) -> bytes:
    return b"%d %s\n" % (received_ns, frame)


@pytest.mark.parametrize("name", ["tape.raw", "tape.raw.gz"])
def test_a_line_keeps_the_original_bytes_of_its_data(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, raw_line())
    assert list(read_tape(path)) == [TapeLine(NANOSECONDS, "btcusdt@bookTicker", DATA, 1)]


def test_sixteen_digits_are_microseconds(tmp_path: Path) -> None:
    path = write(tmp_path / "tape.raw", b"1680652700423575 " + FRAME + b"\n")
    assert next(read_tape(path)).received_ns == 1_680_652_700_423_575_000


def test_the_first_line_of_a_cryptofeed_file_describes_the_connection(tmp_path: Path) -> None:
    content = b"wss://fstream.binance.com/stream?streams=btcusdt@bookTicker <-> 1626992740.179554\n"
    content += b"1626992741.06217: " + FRAME + b"\n"
    path = write(tmp_path / "tape.ws.gz", content)
    assert list(read_tape(path)) == [TapeLine(1_626_992_741_062_170_000, "btcusdt@bookTicker", DATA, 2)]


def test_a_rest_snapshot_has_no_stream(tmp_path: Path) -> None:
    snapshot = b'{"lastUpdateId": 7, "E": 1, "T": 1, "bids": [["1.0", "2"]], "asks": []}'
    path = write(tmp_path / "tape.raw", raw_line(frame=snapshot) + raw_line())
    first, second = read_tape(path)
    assert (first.stream, first.data) == ("", snapshot)
    assert second.stream == "btcusdt@bookTicker"


def test_a_compressed_file_that_was_cut_off_is_an_error_with_path_and_line(tmp_path: Path) -> None:
    lines = b"".join(raw_line(NANOSECONDS + number * 977 % 100_003) for number in range(2_000))
    path = tmp_path / "tape.raw.gz"
    path.write_bytes(gzip.compress(lines)[:-200])
    with pytest.raises(TapeError, match="cut off") as caught:
        list(read_tape(path))
    assert caught.value.path == str(path)
    assert caught.value.line is not None
    assert 1 < caught.value.line <= 2_000
    assert "\n" not in str(caught.value)


def test_a_plain_file_that_ends_inside_a_line_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "tape.raw", raw_line() + raw_line()[:-20])
    with pytest.raises(TapeError, match=r"line 2: .*cut off"):
        list(read_tape(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b"open_time,open,high\n1,2,3\n", "not a recording", id="a table"),
        pytest.param(b"\x89PNG\r\n\x1a\n\x00\x00", "cut off|not a recording", id="a picture"),
        pytest.param(b'{"stream":"a@trade","data":{}}\n', "not a recording", id="frames without receive times"),
        pytest.param(b"PK\x03\x04" + b"\x00" * 50 + b"\n", "not a recording", id="a zip archive"),
        pytest.param(raw_line(frame=b'["a"]'), "frame cannot be read", id="a list for a frame"),
        pytest.param(raw_line(frame=b'{"stream":"a@trade"}'), "frame cannot be read", id="a frame without data"),
        pytest.param(raw_line(frame=b'{"stream":"a\xff@trade","data":1}'), "frame cannot be read", id="not UTF-8"),
    ],
)
def test_a_foreign_file_is_refused_in_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    path = write(tmp_path / "tape.raw", content)
    with pytest.raises(TapeError, match=reason) as caught:
        list(read_tape(path))
    assert str(caught.value).startswith(f"{path}, line 1: ")
    assert "\n" not in str(caught.value)


def test_a_bad_line_is_named_by_its_number(tmp_path: Path) -> None:
    path = write(tmp_path / "tape.raw.gz", raw_line() + raw_line() + b"hello\n" + raw_line())
    with pytest.raises(TapeError, match="line 3: not a receive time and a frame: b'hello"):
        list(read_tape(path))


def test_a_damaged_compression_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "tape.raw.gz"
    packed = bytearray(gzip.compress(b"".join(raw_line(NANOSECONDS + n * 977) for n in range(2_000))))
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(TapeError, match=r"damaged|cannot be read|cut off|not a receive time"):
        list(read_tape(path))


@pytest.mark.parametrize("name", ["missing.raw.gz", "."])
def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(TapeError, match="cannot be read"):
        list(read_tape(tmp_path / name))


def test_an_existing_recording_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "tape.raw", raw_line())
    with pytest.raises(TapeError, match="exists"):
        TapeWriter(path)
    assert path.read_bytes() == raw_line()


def test_the_same_frames_make_the_same_file(tmp_path: Path) -> None:
    for name in ("one.raw.gz", "two.raw.gz"):
        with TapeWriter(tmp_path / name) as writer:
            writer.write(NANOSECONDS, FRAME)
    assert (tmp_path / "one.raw.gz").read_bytes() == (tmp_path / "two.raw.gz").read_bytes()


def recording(path: Path, lines: int, *, per_block: int = 10) -> Path:
    """A recording of ours: line n was received n milliseconds after the first."""
    with TapeWriter(path) as writer:
        for number in range(lines):
            writer.write(NANOSECONDS + number * 1_000_000, FRAME)
            if number % per_block == per_block - 1:
                writer.flush()
    return path


def test_what_we_record_is_plain_gzip_to_everybody_else(tmp_path: Path) -> None:
    path = recording(tmp_path / "tape.raw.gz", 25)
    text = b"".join(raw_line(NANOSECONDS + number * 1_000_000) for number in range(25))
    assert gzip.decompress(path.read_bytes()) == text


def test_the_index_tells_lines_and_times_of_every_block_without_unpacking(tmp_path: Path) -> None:
    index = tape_index(recording(tmp_path / "tape.raw.gz", 25))
    assert index is not None
    assert [block.lines for block in index] == [10, 10, 5]
    assert [block.first_ns for block in index] == [NANOSECONDS + at * 1_000_000 for at in (0, 10, 20)]
    assert tape_index(write(tmp_path / "other.raw.gz", raw_line())) is None


def test_a_piece_of_a_recording_is_read_with_its_own_line_numbers(tmp_path: Path) -> None:
    path = recording(tmp_path / "tape.raw.gz", 40)
    from_ns, to_ns = NANOSECONDS + 12_000_000, NANOSECONDS + 31_000_000
    assert [line.line_number for line in read_tape(path, from_ns=from_ns, to_ns=to_ns)] == list(range(13, 32))
    assert [block.first_line for block in read_blocks(path, from_ns=from_ns, to_ns=to_ns)] == [11, 21, 31]
    plain = write(tmp_path / "plain.raw", gzip.decompress(path.read_bytes()))
    assert [line.line_number for line in read_tape(plain, from_ns=from_ns, to_ns=to_ns)] == list(range(13, 32))


def test_a_clock_set_back_hides_no_line_from_the_index(tmp_path: Path) -> None:
    with TapeWriter(tmp_path / "tape.raw.gz") as writer:
        for received_ns in (NANOSECONDS + 50, NANOSECONDS, NANOSECONDS + 20):
            writer.write(received_ns, FRAME)
    (line,) = read_tape(tmp_path / "tape.raw.gz", from_ns=NANOSECONDS, to_ns=NANOSECONDS + 1)
    assert line.line_number == 2


@pytest.mark.parametrize("lost", [1, 40, 120])
def test_a_recording_whose_recorder_died_in_a_write_opens_without_its_last_block(tmp_path: Path, lost: int) -> None:
    path = recording(tmp_path / "tape.raw.gz", 40)
    path.write_bytes(path.read_bytes()[:-lost])
    assert len(list(read_tape(path))) == 30


def test_a_recorder_killed_without_warning_loses_only_its_last_block(tmp_path: Path) -> None:
    path = tmp_path / "tape.raw.gz"
    code = (
        "import os, signal, sys; from pathlib import Path; from labkit.wire.tape import TapeWriter\n"
        "writer = TapeWriter(Path(sys.argv[1]))\n"
        f"for number in range(5_000): writer.write({NANOSECONDS} + number, {FRAME!r})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    lines = list(read_tape(path))
    line_bytes = len(raw_line())
    assert [line.received_ns - NANOSECONDS for line in lines] == list(range(len(lines)))
    assert 5_000 - len(lines) <= BLOCK_BYTES // line_bytes + 1


def test_a_damaged_block_is_an_error_that_tells_where(tmp_path: Path) -> None:
    path = recording(tmp_path / "tape.raw.gz", 40)
    index = tape_index(path)
    assert index is not None
    content = bytearray(path.read_bytes())
    content[index[2].offset + index[2].packed_bytes - 20] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(TapeError, match="line 21: the block at byte") as caught:
        list(read_tape(path))
    assert caught.value.line == 21


def test_foreign_bytes_between_blocks_are_an_error(tmp_path: Path) -> None:
    path = recording(tmp_path / "tape.raw.gz", 10)
    path.write_bytes(path.read_bytes() + b"x" * 100)
    with pytest.raises(TapeError, match="line 11: no block begins at byte"):
        list(read_tape(path))


def test_a_recording_of_which_no_block_was_finished_is_an_error(tmp_path: Path) -> None:
    path = recording(tmp_path / "tape.raw.gz", 10)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TapeError, match="cut off"):
        list(read_tape(path))


def test_the_answer_to_a_control_message_has_no_stream(tmp_path: Path) -> None:
    answer = b'{"result":null,"id":1}'
    path = write(tmp_path / "tape.raw", raw_line(frame=answer) + raw_line())
    assert [(line.stream, line.data) for line in read_tape(path)] == [("", answer), ("btcusdt@bookTicker", DATA)]


def test_a_line_end_in_a_frame_does_not_break_the_recording(tmp_path: Path) -> None:
    with TapeWriter(tmp_path / "tape.raw") as writer:
        writer.write(NANOSECONDS, FRAME.replace(b', "b"', b',\n"b"'))
        writer.write(NANOSECONDS, FRAME)
    assert [line.data for line in read_tape(tmp_path / "tape.raw")] == [DATA, DATA]


def test_several_gzip_files_put_behind_each_other_are_one_recording(tmp_path: Path) -> None:
    path = tmp_path / "tape.raw.gz"
    path.write_bytes(gzip.compress(raw_line()) + gzip.compress(raw_line() + raw_line()))
    assert [line.line_number for line in read_tape(path)] == [1, 2, 3]


names = st.text("abcdefghijklmnopqrstuvwxyz@01", min_size=1, max_size=12)
payloads = st.integers().map(lambda number: b'{"n": %d}' % number)
times = st.integers(min_value=0, max_value=10**19 - 1)


@pytest.mark.parametrize("ending", [".raw", ".raw.gz"])
@given(lines=st.lists(st.tuples(times, names, payloads), min_size=1, max_size=5))
def test_what_was_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, ending: str, lines: list[tuple[int, str, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("tapes") / f"tape{ending}"
    with TapeWriter(path) as writer:
        for received_ns, stream, data in lines:
            writer.write(received_ns, b'{"stream":"%s","data":%s}' % (stream.encode(), data))
    read = [(line.received_ns, line.stream, line.data) for line in read_tape(path)]
    assert read == lines


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "frames", "snapshots"),
    [
        ("BTCUSDT-20230404.raw.gz", 13_383, 1),
        ("ETHUSDT-20240718.raw.gz", 14_002, 1),
        ("MULTI4-20210722.ws.gz", 1_535, 0),
    ],
)
def test_every_line_of_a_recording_is_read(real_data: Path, name: str, frames: int, snapshots: int) -> None:
    lines = list(read_tape(real_data / "ticks" / "um" / name))
    assert sum(line.stream != "" for line in lines) == frames
    assert sum(line.stream == "" for line in lines) == snapshots


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["MULTI4-20210722.http.gz", "APEUSDT-aggTrades-2024-10-18.zip"])
def test_other_files_beside_the_recordings_are_refused(real_data: Path, name: str) -> None:
    with pytest.raises(TapeError, match="not a recording of stream frames"):
        list(read_tape(real_data / "ticks" / "um" / name))
