"""A lab that is restarted while the exchange has banned it asks nothing until the ban is over (X10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.assembly import assemble_in_process
from labkit.domain import events as ev
from labkit.domain.clock import MINUTE_MS
from labkit.edge.clocks import VirtualTimeLoop, run_in_virtual_time
from labkit.engine.ledger import Ledger
from labkit.exchange.binance_client import BinanceClient
from labkit.paper.weather.script import Script, Spell
from labkit.wire.transport import HttpRequest, HttpResponse
from tests.lab.conftest import small_config

BAN = Script(name="t", spells=(Spell(fault="ban", parameters={"seconds": 600.0}),))


def banned(folder: Path) -> int:
    """Let a lab be banned, and end it two minutes into the ban; returns when that ban is over."""
    loop = VirtualTimeLoop()

    async def main() -> int:
        assembly = await assemble_in_process(small_config(), folder, loop)
        await assembly.start()
        clock, breaker = assembly.clock, assembly.scheduler.binance_client.breaker
        await clock.sleep_until(clock.now_ms() + MINUTE_MS)
        assembly.exchange.venue.weather.begin(BAN, clock.now_ms())
        while breaker.silent_until_ms <= clock.now_ms():
            await clock.sleep_until(clock.now_ms() + 1_000)
        await clock.sleep_until(clock.now_ms() + 2 * MINUTE_MS)
        await assembly.stop()
        assert clock.now_ms() < breaker.silent_until_ms - 5 * MINUTE_MS
        return breaker.silent_until_ms

    return run_in_virtual_time(main(), loop)


def asked_after_restart(folder: Path) -> tuple[list[int], list[str]]:
    """When a second lab on this folder sent each of its requests, and the levels its breaker went through."""
    loop = VirtualTimeLoop()
    sent: list[int] = []
    levels: list[str] = []

    async def main() -> None:
        assembly = await assemble_in_process(small_config(), folder, loop)
        clock, send = assembly.clock, assembly.exchange.send

        async def counted(request: HttpRequest) -> HttpResponse:
            sent.append(clock.now_ms())
            return await send(request)

        assembly.exchange.send = counted
        assembly.scheduler.on_event.append(
            lambda event: levels.append(event.level) if isinstance(event, ev.BreakerMoved) else None
        )
        await assembly.start()
        await clock.sleep_until(clock.now_ms() + 3 * MINUTE_MS)
        assert assembly.scheduler.state == "running"
        assert assembly.scheduler.engine.breaker_level == "NORMAL"
        await assembly.stop()

    run_in_virtual_time(main(), loop)
    return sent, levels


def test_x10_a_restart_keeps_the_silence_of_a_ban_and_trades_again_after_it(tmp_path: Path) -> None:
    over_ms = banned(tmp_path)
    sent, levels = asked_after_restart(tmp_path)
    assert min(sent) >= over_ms
    assert levels == ["REDUCE_ONLY", "CAUTIOUS", "NORMAL"]


def test_x10_without_its_memory_a_restarted_lab_would_ask_within_the_ban(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over_ms = banned(tmp_path)
    monkeypatch.setattr(BinanceClient, "resume_breaker", lambda self, change: None)
    sent, _ = asked_after_restart(tmp_path)
    assert min(sent) < over_ms


def test_the_ledger_tells_each_ban_with_its_cause_its_beginning_and_the_next_probe(tmp_path: Path) -> None:
    over_ms = banned(tmp_path)
    ledger = Ledger.open(tmp_path, read_only=True)
    moved = [entry.event for entry in ledger.entries() if isinstance(entry.event, ev.BreakerMoved)]
    ledger.close()
    assert moved[-1].level == "HALTED"
    assert moved[-1].cause
    assert moved[-1].since_ms == moved[0].time_ms
    assert moved[-1].until_ms == moved[-1].silent_until_ms == over_ms
