"""`labkit data` and `labkit tape`: results on standard output, one clear line for a mistake, a real exchange behind."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labkit.cli import main
from labkit.domain.clock import HOUR_MS
from labkit.domain.moments import moment_ms
from labkit.market.history_kinds import Series
from labkit.market.lake import Lake
from labkit.wire.tape import TapeWriter, read_tape

START = moment_ms("2024-01-01")
NOW_NS = 1_767_571_200_000_000_000
FRAME = b'{"stream":"btcusdt@trade","data":{"e":"trade"}}'


def candles(path: Path, hours: int = 5) -> Path:
    rows = {
        "open_time": [START + hour * HOUR_MS for hour in range(hours)],
        "open": [1.0] * hours, "high": [2.0] * hours, "low": [0.5] * hours, "close": [1.5] * hours,
        "volume": [9.0] * hours,
    }  # fmt: skip
    pq.write_table(pa.table(rows), path)
    return path


def tape(path: Path, frames: int = 4) -> Path:
    with TapeWriter(path) as writer:
        for number in range(frames):
            writer.write(NOW_NS + number * 1_000_000_000, FRAME)
            writer.flush()
    return path


def test_files_are_imported_listed_checked_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = ["--lake", str(tmp_path / "lake")]
    assert main(["data", "import", str(candles(tmp_path / "BTCUSDT-1h-x.parquet")), *lake]) == 0
    assert "klines BTCUSDT 1h: 5 rows added" in capsys.readouterr().out
    assert main(["data", "ls", *lake]) == 0
    assert "5 rows  2024-01-01       to 2024-01-01 04:00" in capsys.readouterr().out
    assert main(["data", "check", *lake]) == 0
    assert "sound" in capsys.readouterr().out
    target = tmp_path / "out.csv"
    assert main(["data", "export", "BTCUSDT", "--interval", "1h", "--to", str(target), *lake]) == 0
    assert pd.read_csv(target)["close"].tolist() == [1.5] * 5


def test_a_foreign_file_among_others_is_told_and_the_others_come_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candles(tmp_path / "BTCUSDT-1h-x.parquet")
    (tmp_path / "notes.parquet").write_bytes(b"hello")
    assert main(["data", "import", str(tmp_path), "--lake", str(tmp_path / "lake")]) == 1
    told = capsys.readouterr()
    assert "5 rows added" in told.out
    assert "not imported" in told.err
    assert "notes.parquet" in told.err


def test_a_damaged_lake_file_is_named_and_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = ["--lake", str(tmp_path / "lake")]
    main(["data", "import", str(candles(tmp_path / "BTCUSDT-1h-x.parquet")), *lake])
    (path,) = (tmp_path / "lake").rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["data", "check", *lake]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"labkit: {path}: content does not match its checksum"
    assert len(told) == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["data", "ls", "--lake", "nowhere"], "no lake yet"),
        (["data", "import", "nowhere.parquet", "--lake", "x"], "no such file"),
        (["data", "pull", "BTCUSDT", "--start", "soon", "--lake", "x"], "write a UTC day"),
        (["data", "pull", "BTCUSDT", "--start", "2024-01-02", "--end", "2024-01-01", "--lake", "x"], "after --start"),
        (["data", "pull", "btcusdt", "--start", "2024-01-02", "--lake", "x"], "upper case"),
        (["data", "pull", "BTCUSDT", "--interval", "7m", "--start", "2024-01-02", "--lake", "x"], "must be one of"),
        (["data", "pull", "BTCUSDT", "--start", "2024-01-02", "--archive", "no", "--from", "archive", "--lake", "x"],
         "neither an address nor a folder"),
        (["data", "pull", "BTCUSDT", "--start", "2024-01-02", "--within", "0", "--lake", "x"], "above 0"),
        (["check", "lookahead", "nowhere.py:f"], "no such Python file"),
        (["check", "warmup", "f"], "FILE:FUNCTION"),
        (["check", "lookahead", "f.py:f", "--symbol", "BTCUSDT", "--lake", "nowhere"], "no lake yet"),
        (["tape", "check", "nowhere.raw.gz"], "cannot be read"),
        (["tape", "ls", "."], "no recording in this folder"),
        (["tape", "record", "btcusdt", "--streams", "ws://127.0.0.1:9"], "upper case"),
        (["tape", "cut", "a.raw.gz", "--to", "b.zip"], "must end in .raw"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_line_and_nothing_is_made(
    arguments: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith("labkit: ")
    assert reason in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", ["both", "exchange", "archive"])
def test_a_pull_without_a_network_names_the_place_that_gave_no_answer_and_what_to_do(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = "http://127.0.0.1:9"
    places = ["--from", source, "--exchange", nobody, "--archive", nobody, "--lake", str(tmp_path)]
    assert main(["data", "pull", "BTCUSDT", "--start", "2024-01-01", "--end", "2024-02-01", *places]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"labkit: {nobody} gives no answer: is this machine on the network?")
    assert "the same command goes on from there" in line


def test_tapes_are_listed_cut_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tape(tmp_path / "a.raw.gz")
    assert main(["tape", "ls", str(tmp_path)]) == 0
    assert "4 frames       4 blocks  2026-01-05 to 2026-01-05" in capsys.readouterr().out
    piece = tmp_path / "piece.raw.gz"
    assert main(["tape", "cut", str(path), "--start", "2026-01-05T00:00:01", "--to", str(piece)]) == 0
    assert len(list(read_tape(piece))) == 3
    assert main(["tape", "check", str(path)]) == 0
    assert "4 lines of 1 streams" in capsys.readouterr().out


def test_a_span_without_frames_is_refused_with_the_span_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tape(tmp_path / "a.raw.gz")
    assert main(["tape", "cut", str(path), "--start", "2027-01-01", "--to", str(tmp_path / "b.raw.gz")]) == 2
    assert "it goes from 2026-01-05T00:00:00 to 2026-01-05T00:00:03 UTC" in capsys.readouterr().err
    assert not (tmp_path / "b.raw.gz").exists()


def test_recordings_are_looked_for_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tape", "ls"]) == 2
    assert "no recordings yet; labkit tape record" in capsys.readouterr().err
    (tmp_path / "data" / "tapes").mkdir(parents=True)
    tape(tmp_path / "data" / "tapes" / "a.raw.gz")
    assert main(["tape", "ls"]) == 0
    assert "4 frames" in capsys.readouterr().out
    assert main(["tape", "check"]) == 0


def test_a_recorder_without_a_network_says_so_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = ["tape", "record", "BTCUSDT", "--streams", "ws://127.0.0.1:9", "--to", str(tmp_path), "--minutes", "0.005"]
    assert main(record) == 1
    told = capsys.readouterr().err
    assert "cannot connect" in told
    assert "trying again" in told
    assert "not one frame arrived from ws://127.0.0.1:9" in told


LEAKING = """
def features(klines):
    close = klines["close"]
    return klines.assign(honest=close.diff(), ahead=close.shift(-3))[["honest", "ahead"]]

def windows(klines):
    return klines["close"].rolling(30).mean()
"""


def test_a_feature_that_looks_ahead_is_named_with_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(LEAKING)
    assert main(["check", "lookahead", f"{file}:features", "--candles", "500"]) == 1
    (named, tried) = capsys.readouterr().out.splitlines()
    assert named.startswith("ahead: looks at least 3 candles ahead")
    assert "500 simulated candles" in tried
    assert main(["check", "lookahead", f"{file}:windows", "--candles", "500"]) == 0
    assert "no look-ahead in close" in capsys.readouterr().out


def test_features_are_tried_on_candles_of_the_lake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(LEAKING)
    lake = ["--lake", str(tmp_path / "lake")]
    assert main(["data", "import", str(candles(tmp_path / "BTCUSDT-1h-x.parquet", 300)), *lake]) == 0
    capsys.readouterr()
    warmup = ["check", "warmup", f"{file}:windows", "--symbol", "BTCUSDT", "--interval", "1h", *lake]
    assert main(warmup) == 0
    assert "close: needs 30 candles" in (told := capsys.readouterr().out)
    assert "300 candles of BTCUSDT 1h" in told
    assert main([*warmup, "--at-most", "29"]) == 1


def test_a_tape_whose_recorder_was_killed_is_told_and_a_damaged_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tape(tmp_path / "a.raw.gz")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert main(["tape", "check", str(path)]) == 1
    told = capsys.readouterr()
    assert "3 lines" in told.out
    assert "its recorder was killed" in told.err
    path.write_bytes(whole[:60] + b"\x00" + whole[61:])
    assert main(["tape", "check", str(path)]) == 2
    assert "line 1: the block at byte 0" in capsys.readouterr().err


@pytest.fixture(scope="module")
def address() -> Iterator[dict[str, str]]:
    """A paper exchange of its own process on loopback, whose market runs as fast as life."""
    process = subprocess.Popen(
        [sys.executable, "-m", "labkit.cli", "exchange", "--set", "symbols=BTCUSDT", "--set", "paper.history_days=2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_a_recorder_killed_while_frames_come_leaves_a_tape_that_opens(tmp_path: Path, address: dict[str, str]) -> None:
    command = ["tape", "record", "BTCUSDT", "--streams", address["ws"], "--to", str(tmp_path)]
    recorder = subprocess.Popen([sys.executable, "-m", "labkit.cli", *command], stderr=subprocess.DEVNULL)
    try:
        # Killed as soon as there is something on the disk, most likely in the middle of something.
        for _ in range(600):
            if any(path.stat().st_size for path in tmp_path.iterdir()):
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                recorder.wait(0.1)
    finally:
        recorder.kill()
        recorder.wait()
    (path,) = tmp_path.iterdir()
    assert sum(1 for _ in read_tape(path)) > 0
    assert main(["tape", "check", str(path)]) in (0, 1)


def test_a_pull_the_rate_limits_would_stretch_is_refused_with_a_forecast(
    tmp_path: Path, address: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    lake = ["--lake", str(tmp_path / "lake"), "--from", "exchange", "--exchange", address["rest"]]
    pull = ["data", "pull", "BTCUSDT", "--end", "2026-01-05", *lake]
    assert main([*pull, "--start", "2020-01-01", "--within", "5"]) == 1
    told = capsys.readouterr().err
    assert "calls" in told
    assert "min" in told
    assert "archives" in told
    assert main([*pull, "--start", "2026-01-04", "--within", "5"]) == 0
    assert "klines BTCUSDT 1m: 1 calls" in capsys.readouterr().err
    assert main([*pull, "--start", "2026-01-04", "--kind", "metrics"]) == 0
    assert "rows added" in capsys.readouterr().out


def test_history_is_pulled_from_an_exchange_and_its_frames_are_recorded(
    tmp_path: Path, address: dict[str, str]
) -> None:
    lake = ["--lake", str(tmp_path / "lake"), "--from", "exchange", "--exchange", address["rest"]]
    pull = ["data", "pull", "BTCUSDT", "--start", "2026-01-03", "--end", "2026-01-05"]
    assert main([*pull, *lake]) == 0
    assert main([*pull, *lake, "--kind", "funding"]) == 0
    record = ["tape", "record", "BTCUSDT", "--streams", address["ws"], "--to", str(tmp_path / "tapes")]
    assert main([*record, "--minutes", "0.05"]) == 0
    held = Lake(tmp_path / "lake")
    assert held.gaps(Series("klines", "BTCUSDT", "1m")) == []
    assert len(held.read(Series("klines", "BTCUSDT", "1m"), 0, 1 << 50)) == 2 * 1_440
    (path,) = (tmp_path / "tapes").iterdir()
    streams = {line.stream for line in read_tape(path)}
    assert {"btcusdt@bookTicker", "btcusdt@markPrice@1s"} <= streams
