"""The exchange's archives: nothing unproven gets in, and every quirk of fifteen years of files is known."""

from __future__ import annotations

import contextlib
import io
import zipfile
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.domain.clock import DAY_MS, HOUR_MS, MINUTE_MS
from labkit.domain.moments import moment_ms
from labkit.errors import DataFileError
from labkit.market.bulk_files import (
    ArchiveFile,
    ArchiveFolder,
    ArchiveLog,
    archives_for,
    days_of,
    fetch_archive,
    read_archive,
    read_csv,
)
from labkit.market.history_kinds import Series
from labkit.market.lake import Lake

DAY = moment_ms("2024-10-28")
HOURS = Series("klines", "BTCUSDT", "1h")
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)


def day_file(series: Series, day_ms: int = DAY) -> ArchiveFile:
    (file,) = archives_for(series, day_ms, day_ms + DAY_MS, day_ms + 3 * DAY_MS)
    return file


def candle_line(open_ms: int = DAY, unit: int = 1) -> str:
    close_ms = open_ms + HOUR_MS - 1
    return (
        f"{open_ms * unit},67992.70,68094.60,67804.70,67835.20,5179.117,{close_ms * unit},351923638.0,85022,1.5,2.5,0"
    )


def zipped(text: str, name: str = "a.csv") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return out.getvalue()


def times_of(table: pa.Table, column: str) -> list[int]:
    times: list[int] = table[column].cast(pa.int64()).to_pylist()
    return times


def test_paths_are_those_of_the_exchange() -> None:
    now_ms = moment_ms("2026-11-22")
    (file,) = archives_for(HOURS, DAY, DAY + DAY_MS, now_ms)
    assert file.path == "data/futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-10-28.zip"
    months = Series("index_klines", "BTCUSDT", "1M")
    (file,) = archives_for(months, moment_ms("2024-10-01"), moment_ms("2024-11-01"), now_ms)
    assert file.path == "data/futures/um/monthly/indexPriceKlines/BTCUSDT/1mo/BTCUSDT-1mo-2024-10.zip"
    (file,) = archives_for(Series("agg_trades", "APEUSDT"), DAY, DAY + 1, now_ms)
    assert file.path == "data/futures/um/daily/aggTrades/APEUSDT/APEUSDT-aggTrades-2024-10-28.zip"
    (file,) = archives_for(Series("funding", "BTCUSDT"), DAY, DAY + 1, now_ms)
    assert file.path == "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-10.zip"


def test_whole_months_that_are_long_over_come_as_months_and_the_rest_by_day() -> None:
    start_ms, now_ms = moment_ms("2024-08-30"), moment_ms("2024-10-05")
    files = archives_for(HOURS, start_ms, now_ms, now_ms)
    names = [file.path.rpartition("/")[2].removeprefix("BTCUSDT-1h-").removesuffix(".zip") for file in files]
    assert names[:3] == ["2024-08-30", "2024-08-31", "2024-09-01"], "September is not out yet on 5 October"
    assert names[-1] == "2024-10-04"
    later = archives_for(HOURS, start_ms, now_ms, moment_ms("2024-10-20"))
    assert [file.is_monthly for file in later][:4] == [False, False, True, False]
    assert [file.start_ms for file in days_of(later[2])][-1] == moment_ms("2024-09-30")


@settings(max_examples=40, deadline=None)
@given(start=st.integers(0, 90), length=st.integers(1, 120), kind=st.sampled_from(["klines", "metrics", "agg_trades"]))
def test_the_archives_of_a_span_cover_it_without_overlap(start: int, length: int, kind: str) -> None:
    series = Series(kind, "BTCUSDT", "1h" if kind == "klines" else "")
    start_ms = moment_ms("2024-01-15") + start * DAY_MS
    files = archives_for(series, start_ms, start_ms + length * DAY_MS, moment_ms("2025-01-01"))
    assert files[0].start_ms == start_ms
    assert files[-1].end_ms == start_ms + length * DAY_MS
    assert all(one.end_ms == other.start_ms for one, other in pairwise(files))


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("unit", [1, 1000])
def test_a_header_line_and_microseconds_make_no_difference(header: bool, unit: int) -> None:
    text = (HEADER + "\n" if header else "") + candle_line(unit=unit) + "\n" + candle_line(DAY + HOUR_MS, unit) + "\n"
    table = read_archive(zipped(text), day_file(HOURS))
    assert times_of(table, "open_time") == [DAY, DAY + HOUR_MS]
    assert table["close"].to_pylist() == [67835.2, 67835.2]
    assert table["trade_count"].to_pylist() == [85022, 85022]


@pytest.mark.parametrize(("yes", "no"), [("true", "false"), ("True", "False"), ("TRUE", "FALSE")])
def test_booleans_are_read_in_every_case(yes: str, no: str) -> None:
    file = day_file(Series("agg_trades", "APEUSDT"))
    text = f"171927517,0.7097,19.0,551530707,551530707,{DAY},{no}\n171927518,0.7096,2254.0,1,2,{DAY + 5},{yes}\n"
    assert read_csv(text.encode(), file)["is_buyer_maker"].to_pylist() == [False, True]


def test_funding_belongs_to_its_minute_however_late_it_was_settled(tmp_path: Path) -> None:
    (file,) = archives_for(Series("funding", "BTCUSDT"), DAY, DAY + 1, moment_ms("2026-01-01"))
    text = f"calc_time,funding_interval_hours,last_funding_rate\n{DAY + 14},8,0.00010000\n"
    lake = Lake(tmp_path)
    lake.add(file.series, read_csv(text.encode(), file), "archive")
    frame = lake.frame(file.series, 0, 1 << 50)
    assert str(frame.index[0]) == "2024-10-28 00:00:00+00:00"
    assert frame.iloc[0][["funding_rate", "interval_hours"]].tolist() == [0.0001, 8.0]


def metrics_file(day: str, labels: list[str]) -> pa.Table:
    rows = "".join(f"{label},BTCUSDT,80000.5,5000000.25,1.5,1.25,2.5,0.75\n" for label in labels)
    header = (
        "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
        "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio\n"
    )
    return read_csv((header + rows).encode(), day_file(Series("metrics", "BTCUSDT"), moment_ms(day)))


def test_metrics_are_told_by_the_moment_they_could_be_known_on_both_sides_of_the_label_shift() -> None:
    before = metrics_file("2026-06-24", ["2026-06-24 23:55:00", "2026-06-25 00:00:00"])
    after = metrics_file("2026-06-25", ["2026-06-25 00:00:00", "2026-06-25 00:05:00"])
    midnight = moment_ms("2026-06-25")
    assert times_of(before, "known_time") == [midnight - 5 * MINUTE_MS, midnight]
    assert times_of(after, "known_time") == [midnight + 5 * MINUTE_MS, midnight + 10 * MINUTE_MS]
    assert after["taker_volume_ratio"].to_pylist() == [0.75, 0.75]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "line 1|Empty|empty", id="nothing"),
        pytest.param("<?xml version='1.0'?><Error/>\n", "line 1: not a file of klines", id="an error page"),
        pytest.param(candle_line() + "\n" + candle_line().replace("68094.60", "abc") + "\n", "abc", id="a word"),
        pytest.param("1730073600000,1,2\n", "12", id="too few columns"),
        pytest.param(candle_line(DAY + DAY_MS) + "\n", "row 1: time", id="another day"),
        pytest.param(candle_line(DAY + 60_000) + "\n", "not on the 1h grid", id="off the grid"),
        pytest.param("agg_trade_id,price\n1,2\n", "not a file of klines", id="another data set"),
        pytest.param("open_time,open,high\n1,2,3\n", "no column for low", id="columns missing"),
    ],
)
def test_a_foreign_or_damaged_table_is_refused_with_file_and_place(text: str, reason: str) -> None:
    with pytest.raises(DataFileError, match=reason) as caught:
        read_csv(text.encode(), day_file(HOURS))
    assert caught.value.path.endswith("BTCUSDT-1h-2024-10-28.zip")
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(where=st.floats(0, 0.999), cut=st.booleans())
def test_a_truncated_or_altered_zip_is_an_error_or_holds_the_same_rows(where: float, cut: bool) -> None:
    text = HEADER + "\n" + candle_line() + "\n"
    content = bytearray(zipped(text))
    at = int(where * len(content))
    if cut:
        del content[at:]
    else:
        content[at] ^= 1
    closes = [67835.2]
    with contextlib.suppress(DataFileError):
        closes = read_archive(bytes(content), day_file(HOURS))["close"].to_pylist()
    assert closes == [67835.2]


def test_a_zip_of_two_files_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.csv", "1")
        archive.writestr("b.csv", "2")
    with pytest.raises(DataFileError, match="2 files"):
        read_archive(out.getvalue(), day_file(HOURS))


@pytest.mark.parametrize(
    ("checksum", "reason"),
    [
        (None, "no checksum"),
        (b"<html>", "not a checksum"),
        (b"0" * 64 + b"  BTCUSDT-1h-2024-10-28.zip\n", "does not match"),
    ],
)
async def test_an_archive_without_its_proof_is_refused(checksum: bytes | None, reason: str, tmp_path: Path) -> None:
    file = day_file(HOURS)
    path = tmp_path / file.path
    path.parent.mkdir(parents=True)
    path.write_bytes(zipped(candle_line()))
    if checksum is not None:
        path.with_name(f"{path.name}.CHECKSUM").write_bytes(checksum)
    with pytest.raises(DataFileError, match=reason):
        await fetch_archive(ArchiveFolder(tmp_path), file)


async def test_an_archive_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert await fetch_archive(ArchiveFolder(tmp_path), day_file(HOURS)) is None


def test_the_log_of_archives_survives_a_torn_line(tmp_path: Path) -> None:
    log = ArchiveLog(tmp_path)
    log.add("a.zip", "1" * 64)
    with (tmp_path / ".archives.sha256").open("ab") as file:
        file.write(b"2" * 64 + b"  b.z")
    assert ArchiveLog(tmp_path).digests() == {"a.zip": "1" * 64}
    log.add("a.zip", "3" * 64)
    log.add("a.zip", "4" * 64)
    assert ArchiveLog(tmp_path).digests()["a.zip"] == "4" * 64


@pytest.mark.real_data
def test_a_published_candle_archive_is_read(real_data: Path) -> None:
    table = read_archive((real_data / "vision" / "um-BTCUSDT-1h-2024-10-28.zip").read_bytes(), day_file(HOURS))
    assert times_of(table, "open_time") == list(range(DAY, DAY + DAY_MS, HOUR_MS))
    assert table["volume"].to_pylist()[20] == 0.0, "the engine stood; the API has this candle, the archive has not"


@pytest.mark.real_data
def test_a_published_candle_archive_without_header_is_read(real_data: Path) -> None:
    content = (real_data / "vision" / "spot-BTCUSDT-1h-2024-10-28.zip").read_bytes()
    table = read_archive(content, day_file(HOURS))
    assert table.num_rows == 24
    assert table["close"].to_pylist()[0] == 67859.91


@pytest.mark.real_data
def test_a_published_archive_of_trades_adds_up_to_its_candles(real_data: Path, tmp_path: Path) -> None:
    file = day_file(Series("agg_trades", "APEUSDT"), moment_ms("2024-10-18"))
    content = (real_data / "ticks" / "um" / "APEUSDT-aggTrades-2024-10-18.zip").read_bytes()
    lake = Lake(tmp_path)
    merge = lake.add(file.series, read_archive(content, file), "archive")
    assert (merge.duplicates, lake.gaps(file.series)) == (0, [])
    frame = lake.frame(file.series, file.start_ms, file.end_ms)
    assert len(frame) == merge.added > 10_000
    candles = pd.read_parquet(real_data / "klines12" / "um" / "APEUSDT-1m-20241018-derived.parquet")
    volume = frame["quantity"].resample("1min").sum()
    assert volume.sum() == pytest.approx(candles["volume"].sum())
    assert volume.iloc[0] == candles["volume"].iloc[0]
