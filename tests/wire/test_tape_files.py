"""Reading and writing recordings: every layout, and every way in which a file can be no recording."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import TapeError
from labkit.wire.tape import TapeLine, TapeWriter, read_tape

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
