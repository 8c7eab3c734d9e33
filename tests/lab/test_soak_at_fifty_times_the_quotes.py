"""benchmarks/soak.py for a minute: a lab at fifty times its ordinary rate of quotes, and a lab made ill on purpose."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from labkit.assembly import Assembly
from labkit.paper.paper_exchange import PaperExchange

SECONDS = 60.0
SECONDS_OF_THE_CONTROL = 36.0
LEAK_BYTES_PER_EVENT = 100_000
STALL_SECONDS = 0.4
BUSY_SHARE = 0.1
"""A machine that lets us wait for a core this much of the time makes every lag its own."""


@pytest.fixture(scope="module")
def soak() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "soak.py"
    spec = importlib.util.spec_from_file_location("soak", path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    # Its dataclass looks itself up there.
    sys.modules["soak"] = module
    spec.loader.exec_module(module)
    return module


def healthy(soak: Any) -> Any:
    minutes = [second / 60 for second in range(60)]
    return soak.Soak(minutes, [400.0] * 60, [1.0] * 200, [5.0] * 60, 10, 0, 1_000, 0)


def test_a_lab_that_holds_still_misses_nothing(soak: Any) -> None:
    assert healthy(soak).misses() == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"memory_mb": [400 + 4.2 * second / 60 for second in range(60)]}, "memory grows by 4.20 MB a minute"),
        (
            {"minutes": [float(minute) for minute in range(60)], "memory_mb": [400 + 1.1 * m for m in range(60)]},
            "memory grows by 1.10 MB a minute",
        ),
        ({"event_lags_ms": [5.0] * 59 + [251.0]}, "event lag is 251 ms"),
        ({"loop_lags_ms": [1.0] * 190 + [300.0] * 10}, "loop lag is 300 ms"),
        ({"listeners_cut_off": 1}, "1 queues over 20000 frames"),
        ({"connections_lost": 1}, "1 connections lost"),
        ({"quotes": 0}, "no quotes came"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_goal_that_is_missed_is_named_alone(soak: Any, fault: dict[str, Any], words: str) -> None:
    seen = healthy(soak)
    for name, value in fault.items():
        setattr(seen, name, value)
    assert seen.misses() == [words]


@pytest.mark.deep
async def test_a_lab_at_fifty_times_the_quotes_does_not_leak_lag_or_pile_up(soak: Any, tmp_path: Path) -> None:
    seen = await soak.soak(tmp_path, SECONDS)
    if seen.waited_for_a_core > BUSY_SHARE:
        # A lab that is starved piles up what it cannot take in: its memory, too, is then the machine's.
        pytest.skip(f"the machine is too busy to judge a soak: {seen}")
    assert seen.misses() == [], str(seen)


@pytest.mark.deep
async def test_a_leak_a_stalled_loop_and_a_listener_that_never_reads_are_found_out(soak: Any, tmp_path: Path) -> None:
    """The negative control: the same run with three faults in it."""
    kept: list[bytearray] = []
    writers: list[asyncio.StreamWriter] = []

    def stall() -> None:
        time.sleep(STALL_SECONDS)
        asyncio.get_running_loop().call_later(STALL_SECONDS, stall)

    async def make_ill(lab: Assembly) -> None:
        lab.scheduler.on_event.append(lambda _: kept.append(bytearray(LEAK_BYTES_PER_EVENT)))
        asyncio.get_running_loop().call_later(STALL_SECONDS, stall)
        assert isinstance(lab.exchange, PaperExchange)
        port = int(lab.exchange.ws_url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        streams = "/".join(f"{symbol.lower()}@bookTicker" for symbol in lab.config.symbols)
        writer.write(
            f"GET /public/stream?streams={streams} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )

    seen = await soak.soak(tmp_path, SECONDS_OF_THE_CONTROL, make_ill)
    for writer in writers:
        writer.close()
    found = " ".join(seen.misses())
    for words in ("memory grows", "event lag", "loop lag", "queues over"):
        assert words in found, f"{words}: {seen}"
