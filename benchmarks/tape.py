"""How fast a recording is read, beside plain gzip and json.

`python benchmarks/tape.py [FRAMES]` records bookTicker frames of fifty symbols (seeded, written as the exchange writes
them) with `TapeWriter`, then reads them every way in one run. Frames per second of CPU time, best of five rounds; the
last column is the ratio to `gzip` and `json`, line by line. `gunzip alone` is what no reader can be faster than.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from labkit.market.tapes import read_quotes
from labkit.wire.streams import decode_frame, wrap
from labkit.wire.tape import TapeWriter, read_blocks, read_tape

START_NS = 1_767_571_200_000_000_000
ROUNDS = 5


def record(path: Path, frames: int) -> None:
    chance = random.Random(1)
    symbols = [f"COIN{number}USDT" for number in range(50)]
    prices = {symbol: chance.randrange(100_000, 10_000_000) for symbol in symbols}
    now_ns, update_id = START_NS, 9_112_345_678_901
    with TapeWriter(path) as tape:
        for _ in range(frames):
            now_ns += chance.randrange(100_000)
            update_id += chance.randrange(1, 9)
            symbol = chance.choice(symbols)
            prices[symbol] += chance.randrange(-2, 3)
            bid, now_ms = prices[symbol], now_ns // 1_000_000
            frame = (
                f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"e":"bookTicker","u":{update_id},"s":"{symbol}",'
                f'"b":"{bid / 100:.2f}","B":"{chance.randrange(1, 99_999) / 1000:.3f}","a":"{(bid + 1) / 100:.2f}",'
                f'"A":"{chance.randrange(1, 99_999) / 1000:.3f}","T":{now_ms - 3},"E":{now_ms - 2}}}}}'
            )
            tape.write(now_ns, frame.encode())


def with_json(path: Path) -> None:
    with gzip.open(path) as tape:
        for line in tape:
            quote = json.loads(line.partition(b" ")[2])["data"]
            float(quote["b"]), float(quote["B"]), float(quote["a"]), float(quote["A"])


def with_msgspec(path: Path) -> None:
    decode = msgspec.json.Decoder().decode
    with gzip.open(path) as tape:
        for line in tape:
            quote = decode(line.partition(b" ")[2])["data"]
            float(quote["b"]), float(quote["B"]), float(quote["a"]), float(quote["A"])


def gunzip(path: Path) -> None:
    with gzip.open(path) as tape:
        while tape.read(1 << 18):
            pass


def best_seconds(work: Callable[[], object]) -> float:
    took = []
    for _ in range(ROUNDS):
        before = time.process_time()
        work()
        took.append(time.process_time() - before)
    return min(took)


def main() -> None:
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tape.raw.gz"
        before = time.process_time()
        record(path, frames)
        recorded = time.process_time() - before
        ways: dict[str, Callable[[], object]] = {
            "gunzip alone": lambda: gunzip(path),
            "read_blocks: proven, undecoded": lambda: [None for _ in read_blocks(path)],
            "read_tape: stream, time, raw data": lambda: [None for _ in read_tape(path)],
            "read_quotes: a table of floats": lambda: read_quotes(path),
            "read_tape + decode_frame: decimals": lambda: [
                decode_frame(wrap(line.stream, line.data), line.received_ns) for line in read_tape(path)
            ],
            "gzip + msgspec, floats": lambda: with_msgspec(path),
            "gzip + json, floats": lambda: with_json(path),
        }
        took = {way: best_seconds(work) for way, work in ways.items()}
        size = path.stat().st_size
    print(f"{frames:,} frames, {size / frames:.1f} bytes each on disk; made and recorded in {recorded:.1f} s CPU")
    for way, seconds in took.items():
        print(f"{way:<38}{frames / seconds:>12,.0f} frames/s{took['gzip + json, floats'] / seconds:>8.1f} x")


if __name__ == "__main__":
    main()
