"""The monitor at a server that has no code of ours and replays what the real exchange once sent.

What ought to come out is worked out here a second time, by a reader that shares nothing with labkit's.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from labkit.domain.market_events import Quote
from labkit.edge.clocks import SystemClock
from labkit.edge.websocket import SocketStreams
from labkit.market.quotes import QuoteCache
from labkit.market.websocket_monitor import WebSocketMonitor

pytestmark = pytest.mark.real_data

Event = dict[str, Any]
Script = list[tuple[float, str]]
"""Seconds since the start, and a frame or a cut."""

CUT = "!cut"
QUICKLY = "MULTI4-20210722.ws.gz", 20.0
RECORDINGS = {"four small coins": QUICKLY, "Bitcoin": ("BTCUSDT-20230404.raw.gz", 50.0)}
"""Which recording is played how many times as fast as life."""
PATIENCE_SECONDS = 20


# ------------------------------------------------------------------------------------------------ what the server sends


def recorded(path: Path) -> Script:
    """Receive time in seconds and combined frame of each recorded message."""
    found = []
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        time, _, frame = line.partition(" ")
        if frame.startswith('{"stream"'):
            found.append((float(time.rstrip(":")) / (1 if time.endswith(":") else 1e6), frame))
    return found


def quote_in(frame: str) -> Event | None:
    """The event, if it is a bookTicker."""
    return json.loads(frame)["data"] if '@bookTicker"' in frame else None


def priced(text: str) -> Callable[[Event], Event]:
    return lambda event: event | {"b": text, "a": text}


def doubled(event: Event) -> Event:
    return event | {"b": str(Decimal(event["b"]) * 2), "a": str(Decimal(event["a"]) * 2)}


SPOILS: list[Callable[[Event], Event | str]] = [
    priced("NaN"),
    priced("Infinity"),
    priced("1e3"),
    priced("７.６１"),
    priced(""),
    lambda event: event | {"b": float(event["b"])},
    lambda event: json.dumps(event)[:60],
    priced("-7.61"),
    priced("0.00"),
    lambda event: event | {"A": "0"},
    lambda event: event | {"b": event["a"], "a": event["b"]},
    lambda event: event | {"u": event["u"] - 1_000},
    doubled,
]
"""Each makes something no one may believe out of a good quote with a newer update id."""


def spoiled(event: Event) -> list[str]:
    frames = []
    for spoil in SPOILS:
        bad = spoil(event | {"u": event["u"] + 1})
        text = bad if isinstance(bad, str) else json.dumps(bad, separators=(",", ":"), ensure_ascii=False)
        frames.append(f'{{"stream":"{event["s"].lower()}@bookTicker","data":{text}}}')
    return frames


def script_of(recording: Script, *, speed: float, cuts: int) -> Script:
    """The recording at `speed`, with spoiled frames after the first and the last quote of each symbol, and cuts."""
    of_symbol: dict[str, list[int]] = {}
    for number, (_, frame) in enumerate(recording):
        if event := quote_in(frame):
            of_symbol.setdefault(event["s"], []).append(number)
    to_spoil = {number for numbers in of_symbol.values() for number in (numbers[0], numbers[-1])}
    to_cut = {len(recording) * number // (cuts + 1) for number in range(1, cuts + 1)}
    script = []
    for number, (received, frame) in enumerate(recording):
        due = (received - recording[0][0]) / speed
        script.append((due, frame))
        if number in to_spoil and (event := quote_in(frame)):
            script += [(due, bad) for bad in spoiled(event)]
        if number in to_cut:
            script.append((due, CUT))
    return script


# -------------------------------------------------------------------------------------------------- what ought to come


NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)


def strictly_read(script: Script) -> tuple[dict[str, tuple[Any, ...]], Counter[str]]:
    """The last valid quote of each symbol, and how many frames are to be refused for which reason."""
    quotes: dict[str, tuple[Any, ...]] = {}
    refused: Counter[str] = Counter()
    for _, frame in script:
        if '@bookTicker"' not in frame:
            continue
        try:
            event = json.loads(frame)["data"]
            texts = [event[key] for key in "bBaA"]
            if not all(isinstance(text, str) and NUMBER.fullmatch(text) for text in texts):
                raise ValueError(frame)
        except ValueError:
            refused["unreadable frame"] += 1
            continue
        bid, bids, ask, asks = map(Decimal, texts)
        last = quotes.get(event["s"])
        if min(bid, ask) <= 0:
            refused["price not positive"] += 1
        elif min(bids, asks) <= 0:
            refused["one-sided book"] += 1
        elif bid > ask:
            refused["crossed book"] += 1
        elif last and event["u"] <= last[-2]:
            refused["update id did not rise"] += 1
        elif last and abs((bid + ask) / (last[0] + last[2]) - 1) > Decimal("0.05"):
            refused["price jump not yet confirmed"] += 1
        else:
            quotes[event["s"]] = bid, bids, ask, asks, event["u"], event["E"]
    return quotes, refused


def as_read(quote: Quote | None) -> tuple[Any, ...] | None:
    """A quote of labkit's in the form of the reader above."""
    if quote is None:
        return None
    prices = quote.bid_price, quote.bid_quantity, quote.ask_price, quote.ask_quantity
    return *prices, quote.update_id, quote.event_time_ms


# ------------------------------------------------------------------------------------------------------ the comparison


class Replay:
    """One recording, played by the foreign server to a monitor whose clock shows the time of the recording."""

    def __init__(self, recording: tuple[str, float], real_data: Path, *, cuts: int = 0) -> None:
        name, self.speed = recording
        self.script = script_of(recorded(real_data / "ticks" / "um" / name), speed=self.speed, cuts=cuts)
        self.cuts = cuts
        self.quotes, self.refused = strictly_read(self.script)

    async def ends_right(self, foreign_server: Any, folder: Path) -> bool:
        """Whether the monitor, having heard everything, holds just the last valid quotes, fit to decide on, and has
        counted each refusal under its reason.
        """
        file = folder / "lines.txt"
        file.write_text("".join(f"{due}\t{frame}\n" for due, frame in self.script), encoding="utf-8")
        first_ms = next(event["E"] for _, frame in self.script if (event := quote_in(frame)))
        wanted = [f"{symbol.lower()}@bookTicker" for symbol in self.quotes]
        with foreign_server(lines=str(file), wait_for=wanted) as address:
            transport = SocketStreams(address["streams"], open_timeout_ms=5_000, close_timeout_ms=100)
            clock = SystemClock(speed=self.speed, start_ms=first_ms)
            monitor = WebSocketMonitor(list(self.quotes), streams=transport, clock=clock)
            await monitor.start()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while not self._is_over(monitor):
                        await asyncio.sleep(0.02)
                held = {symbol: as_read(monitor.fresh_quote(symbol)) for symbol in monitor.symbols}
                return held == self.quotes and monitor.rejected == self.refused and monitor.reconnects >= self.cuts
            finally:
                await monitor.stop()

    def _is_over(self, monitor: WebSocketMonitor) -> bool:
        heard = monitor.frames_by_stream_type
        return heard["bookTicker"] + heard["unreadable"] == sum('@bookTicker"' in frame for _, frame in self.script)


@pytest.mark.parametrize("recording", RECORDINGS.values(), ids=RECORDINGS)
async def test_the_monitor_ends_with_just_the_last_valid_quotes_of_a_recording_and_counts_what_it_refused(
    recording: tuple[str, float], real_data: Path, foreign_server: Any, tmp_path: Path
) -> None:
    replay = Replay(recording, real_data)
    assert sum(replay.refused.values()) == 2 * len(SPOILS) * len(replay.quotes)
    assert await replay.ends_right(foreign_server, tmp_path)


async def test_cut_off_twice_the_monitor_comes_back_and_ends_the_same(
    real_data: Path, foreign_server: Any, tmp_path: Path
) -> None:
    replay = Replay(QUICKLY, real_data, cuts=2)
    before_the_last_cut = replay.script[: max(n for n, (_, frame) in enumerate(replay.script) if frame == CUT)]
    assert strictly_read(before_the_last_cut)[0] != replay.quotes
    assert await replay.ends_right(foreign_server, tmp_path)


async def test_a_monitor_that_believed_a_doubled_price_would_be_found_out(
    real_data: Path, foreign_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the same comparison with one protection off."""
    monkeypatch.setattr(QuoteCache, "_is_unconfirmed_jump", lambda *_: False)
    replay = Replay(QUICKLY, real_data)
    assert not await replay.ends_right(foreign_server, tmp_path)


async def test_one_digit_more_at_the_end_of_the_recording_would_be_found_out(
    real_data: Path, foreign_server: Any, tmp_path: Path
) -> None:
    """The negative control of the comparison itself: what ought to come is no longer what is sent."""
    replay = Replay(QUICKLY, real_data)
    symbol, (*prices, update_id, event_time_ms) = replay.quotes.popitem()
    replay.quotes[symbol] = prices[0] + Decimal("0.00001"), *prices[1:], update_id, event_time_ms
    assert not await replay.ends_right(foreign_server, tmp_path)
