"""The order desk in a small lab: what nobody foresaw, money that moves untold, an account told late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import pytest

from labkit.assembly import Assembly, assemble_in_process
from labkit.domain import events as ev
from labkit.domain.clock import MINUTE_MS, SECOND_MS
from labkit.domain.orders import IntentState
from labkit.edge.clocks import VirtualTimeLoop, run_in_virtual_time
from labkit.engine import order_desk
from labkit.paper.weather.script import Match, Script, Spell
from labkit.wire.transport import HttpRequest, HttpResponse
from tests.lab.conftest import small_config

INCOME = Match(path="/fapi/v1/income")
UNTOLD = Spell(fault="user-event-loss")


def live(folder: Path, story: Callable[[Assembly], Awaitable[None]]) -> list[ev.Event]:
    """Run `story` in a lab that has traded for some minutes; its events from then on."""
    loop = VirtualTimeLoop()
    events: list[ev.Event] = []

    async def main() -> None:
        assembly = await assemble_in_process(small_config(), folder, loop)
        await assembly.start()
        await minutes(assembly, 5)
        assert assembly.scheduler.engine.last_fill_ms
        assembly.scheduler.on_event.append(events.append)
        await story(assembly)
        assert assembly.scheduler.state == "running", assembly.scheduler.state_detail
        await assembly.stop()

    run_in_virtual_time(main(), loop)
    return events


async def minutes(assembly: Assembly, number: float) -> None:
    await assembly.clock.sleep_until(assembly.clock.now_ms() + round(number * MINUTE_MS))


def weather(assembly: Assembly, *spells: Spell) -> None:
    assembly.exchange.venue.weather.begin(Script(name="t", seed=1, spells=spells), assembly.clock.now_ms())


@pytest.mark.parametrize("executed", [True, False], ids=["executed", "not executed"])
def test_an_order_whose_sending_fails_in_a_way_nobody_foresaw_is_settled_by_asking(
    tmp_path: Path, executed: bool
) -> None:
    failed: list[str] = []

    async def story(assembly: Assembly) -> None:
        send, engine = assembly.exchange.send, assembly.scheduler.engine

        async def broken(request: HttpRequest) -> HttpResponse:
            if request.method == "POST" and request.path == "/fapi/v1/order" and not failed:
                if executed:
                    await send(request)
                failed.append(next(reversed(engine.intents)))
                raise KeyError("a transport with a bug")
            return await send(request)

        assembly.exchange.send = broken
        while not failed:
            await minutes(assembly, 1)
        await minutes(assembly, 2)
        (name,) = failed
        assert engine.intents[name].state is (IntentState.DONE if executed else IntentState.NOT_PLACED)
        assert engine.account.wallet_balance == assembly.exchange.venue.desk.account.wallet_balance

    events = live(tmp_path, story)
    assert [e.client_order_id for e in events if isinstance(e, ev.OrderInDoubt)] == failed
    assert any(isinstance(e, ev.FeedChanged) and e.what == "order desk" and "KeyError" in e.cause for e in events)


@pytest.mark.parametrize("spells", [(), (UNTOLD,)], ids=["told", "untold"])
def test_a_transfer_is_booked_once_whether_the_stream_tells_it_or_not(
    tmp_path: Path, spells: tuple[Spell, ...]
) -> None:
    async def story(assembly: Assembly) -> None:
        weather(assembly, *spells)
        venue, engine = assembly.exchange.venue, assembly.scheduler.engine
        deposits = engine.account.deposits
        venue.desk.deposit(Decimal("123.45"), assembly.clock.now_ms())
        venue.advance(assembly.clock.now_ms())
        await minutes(assembly, 0.1)
        venue.weather.clear(assembly.clock.now_ms())
        await minutes(assembly, 3)
        assert (engine.account.deposits, engine.account.adjustments) == (deposits, Decimal("123.45"))
        assert engine.account.wallet_balance == venue.desk.account.wallet_balance

    live(tmp_path, story)


def test_a_transfer_of_a_long_gap_is_booked_though_later_fills_were_heard_of_first(tmp_path: Path) -> None:
    async def story(assembly: Assembly) -> None:
        weather(assembly, Spell(fault="user-event-loss"), Spell(fault="service-unavailable", match=INCOME))
        venue, engine = assembly.exchange.venue, assembly.scheduler.engine
        venue.desk.deposit(Decimal("123.45"), assembly.clock.now_ms())
        venue.advance(assembly.clock.now_ms())
        opened_ms = assembly.clock.now_ms()
        await minutes(assembly, 30)
        assert engine.last_fill_ms > opened_ms + order_desk.LOOK_BACK_MS
        venue.weather.clear(assembly.clock.now_ms())
        await minutes(assembly, 3)
        assert engine.account.adjustments == Decimal("123.45")

    live(tmp_path, story)


def differences_seen(folder: Path) -> list[str]:
    """What a lab takes for a difference while its account is told as it was nearly five seconds ago."""
    differences: list[str] = []

    async def story(assembly: Assembly) -> None:
        weather(
            assembly,
            Spell(fault="stale-reply", match=Match(path="/fapi/v*/account"), parameters={"lag_ms": 4_800}),
        )
        desk, engine = assembly.scheduler._desk, assembly.scheduler.engine
        assert desk is not None

        async def ask() -> None:
            # What is told late must have been asked for before.
            while True:
                await assembly.scheduler.binance_client.account()
                await assembly.clock.sleep_until(assembly.clock.now_ms() + SECOND_MS)

        asking = asyncio.create_task(ask())
        for _ in range(4):
            known_ms = engine.last_fill_ms
            while engine.last_fill_ms == known_ms:
                await assembly.clock.sleep_until(assembly.clock.now_ms() + SECOND_MS)
            await desk.reconcile()
            if "account" in engine.paused_by:
                differences.append(engine.paused_by["account"])
        assert not asking.done()
        asking.cancel()

    live(folder, story)
    return differences


def test_x29_an_account_told_late_is_not_taken_for_a_difference(tmp_path: Path) -> None:
    assert differences_seen(tmp_path) == []


def test_x29_without_its_grace_the_same_account_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_desk, "GRACE_MS", 0)
    assert differences_seen(tmp_path) != []
