"""The compiled pass over recorded quotes: what it takes, it takes as the strict decoder does; the rest it leaves."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.errors import TapeError
from labkit.market import quote_lane, quote_scan
from labkit.market.quote_scan import scan_quotes
from labkit.market.tapes import read_quotes
from labkit.wire.tape import TapeWriter

NOW_NS = 1_767_571_200_000_000_000
FUTURES = (
    '{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":9112345,"s":"BTCUSDT","b":"65012.30","B":"12.043",'
    '"a":"65012.40","A":"0.001","T":1767571199997,"E":1767571199998}}'
)
SPOT = (
    '{"stream":"btcusdt@bookTicker","data":{"u":36,"s":"BTCUSDT","b":"28112.88000000","B":"0.31","a":"28113","A":"0"}}'
)
OTHER = '{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":5,"p":"100.1","q":"1","m":true}}'


def block(*frames: str | bytes) -> bytes:
    bodies = [frame.encode() if isinstance(frame, str) else frame for frame in frames]
    return b"".join(b"%d %s\n" % (NOW_NS + number, body) for number, body in enumerate(bodies))


def strictly(text: bytes, folder: Path) -> list[tuple[object, ...]]:
    """The quotes of the same lines when none of them may take the short way."""
    path = folder / "strict.raw"
    # A blank behind a brace is JSON all the same, and sends the whole block the long way.
    path.write_bytes(text.replace(b'{"stream":', b'{ "stream":'))
    return [tuple(row) for row in read_quotes(path).reset_index().astype({"received": "int64"}).to_numpy().tolist()]


def shortly(text: bytes) -> list[tuple[object, ...]] | None:
    found = scan_quotes(text, text.count(b"\n"))
    if found is None:
        return None
    names = [found.symbols[code] for code in found.codes]
    return list(
        zip(
            found.times.tolist(), names, *found.numbers.tolist(), found.update_ids.tolist(),
            found.event_times_ms.tolist(), strict=True,
        )
    )  # fmt: skip


def mutations() -> Iterator[bytes]:
    chance = random.Random(3)
    spare = b'0123456789.,:"{}[]-+eE\\ \x00\xff\xe5Nan'
    for _ in range(1_500):
        frame = bytearray(chance.choice((FUTURES, SPOT)).encode())
        start = frame.index(b'"data"')
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(start, len(frame))
            kind = chance.randrange(3)
            if kind == 0:
                frame[at] = chance.choice(spare)
            elif kind == 1:
                del frame[at]
            else:
                frame.insert(at, chance.choice(spare))
        yield bytes(frame)


def test_ordinary_frames_of_both_markets_take_the_short_way_and_read_the_same(tmp_path: Path) -> None:
    text = block(FUTURES, OTHER, SPOT, FUTURES.replace("btcusdt", "币安人生usdt").replace("BTCUSDT", "币安人生USDT"))
    quotes = shortly(text)
    assert quotes is not None
    assert quotes == strictly(text, tmp_path)
    assert [quote[1] for quote in quotes] == ["BTCUSDT", "BTCUSDT", "币安人生USDT"]


def test_microseconds_are_told_from_nanoseconds_by_their_digits() -> None:
    found = scan_quotes(b"1680652700000001 " + FUTURES.encode() + b"\n", 1)
    assert found is not None
    assert found.times.tolist() == [1_680_652_700_000_001_000]


def test_no_mutation_makes_the_short_way_read_what_the_strict_one_would_not(tmp_path: Path) -> None:
    taken = 0
    for frame in mutations():
        text = block(FUTURES, frame)
        quotes = shortly(text) if text.count(b"\n") == 2 else None
        if quotes is not None:
            taken += 1
            assert quotes == strictly(text, tmp_path), frame
    # Changed digits are quotes as good as any; were nothing taken, nothing would have been tried.
    assert taken > 150


@pytest.mark.parametrize(
    "change",
    [
        ('"b":"65012.30"', '"b":"0.00"'),
        ('"b":"65012.30"', '"b":"-1"'),
        ('"b":"65012.30"', '"b":"1e400"'),
        ('"b":"65012.30"', '"b":"NaN"'),
        ('"u":9112345', '"u":"9112345x"'),
        ('"s":"BTCUSDT",', ""),
        ("}}", "}"),
    ],
)
def test_what_is_no_quote_is_told_with_its_line(change: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "t.raw.gz"
    with TapeWriter(path) as writer:
        writer.write(NOW_NS, FUTURES.encode())
        writer.write(NOW_NS + 1, FUTURES.replace(*change).encode())
    with pytest.raises(TapeError, match="line 2"):
        read_quotes(path)


def test_more_digits_than_a_double_holds_are_left_to_the_strict_way(tmp_path: Path) -> None:
    text = block(FUTURES.replace("65012.30", "0.12345678901234567"))
    assert shortly(text) is None
    assert strictly(text, tmp_path)[0][2] == 0.12345678901234567


def test_thousands_of_symbols_are_read_all_the_same(tmp_path: Path) -> None:
    frames = [FUTURES.replace("btcusdt", f"c{number}").replace("BTCUSDT", f"C{number}") for number in range(2_100)]
    path = tmp_path / "many.raw"
    path.write_bytes(block(*frames))
    assert read_quotes(path)["symbol"].nunique() == 2_100


def test_the_two_short_ways_read_whole_numbers_by_the_same_lines() -> None:
    one, other = (inspect.getsource(module._integer.py_func) for module in (quote_lane, quote_scan))
    assert one == other
