"""A recorded market lived through: every recorded quote reaches a listener as it was, in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from labkit.config import PaperConfig
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_tape import TapeMarket
from labkit.paper.venue import Venue
from labkit.wire.tape import read_tape


@pytest.mark.real_data
def test_every_recorded_quote_reaches_a_listener_byte_for_byte(real_data: Path) -> None:
    tape = real_data / "ticks" / "um" / "BTCUSDT-20230404.raw.gz"
    recorded = [line.data for line in read_tape(tape) if line.stream == "btcusdt@bookTicker"]
    loop = VirtualTimeLoop()
    source = TapeMarket([tape])
    clock = VirtualClock(loop, start_ms=source.start_ms)
    exchange = InProcessExchange(Venue(source, PaperConfig(), api_key="k", api_secret="s"), clock)
    heard: list[bytes] = []

    async def main() -> None:
        # Whoever wants the first frame must listen before the market runs.
        connection = await exchange.open("/public/ws/btcusdt@bookTicker")

        async def listen() -> None:
            while True:
                heard.append(await connection.receive())

        listening = asyncio.create_task(listen())
        await exchange.run()
        await asyncio.sleep(0.001)
        listening.cancel()

    run_in_virtual_time(main(), loop)
    assert heard == recorded
    assert exchange.venue.desk.marks.keys() == {"BTCUSDT"}
