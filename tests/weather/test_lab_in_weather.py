"""A whole lab in bad weather: whatever it meets, its books are the exchange's, and no intent is executed twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.assembly import Assembly, assemble_in_process
from labkit.domain import events as ev
from labkit.domain.clock import MINUTE_MS
from labkit.edge.clocks import VirtualTimeLoop, run_in_virtual_time
from labkit.paper.truth_table import truth_table
from labkit.paper.weather.script import Match, Script, Spell, find_script
from labkit.research.targets.ambiguous_sends import KINDS, ambiguous
from tests.lab.conftest import small_config

START_MS = 1_767_571_200_000
ORDERS = Match(method="POST", path="/fapi/v1/order")


def live_in(script: Script, folder: Path, minutes: int) -> tuple[Assembly, list[ev.Event]]:
    """A small lab: `minutes` of this weather, then three fair ones."""
    loop = VirtualTimeLoop()
    events: list[ev.Event] = []

    async def main() -> Assembly:
        assembly = await assemble_in_process(small_config(), folder, loop)
        assembly.scheduler.on_event.append(events.append)
        await assembly.start()
        clock, venue = assembly.clock, assembly.exchange.venue
        await clock.sleep_until(clock.now_ms() + MINUTE_MS)
        venue.weather.begin(script, clock.now_ms())
        await clock.sleep_until(clock.now_ms() + minutes * MINUTE_MS)
        venue.weather.clear(clock.now_ms())
        # The last doubt needs the fence to pass, the last lost event a reconciliation.
        await clock.sleep_until(clock.now_ms() + 3 * MINUTE_MS)
        assert assembly.scheduler.state == "running", assembly.scheduler.state_detail
        await assembly.stop()
        return assembly

    return run_in_virtual_time(main(), loop), events


def check_books(assembly: Assembly, events: list[ev.Event]) -> None:
    desk, engine = assembly.exchange.venue.desk, assembly.scheduler.engine
    assert all(truth.orders == 1 for truth in truth_table(desk).values())
    ours = {event.fill.trade_id for event in events if isinstance(event, ev.OrderChanged) and event.fill}
    assert ours == {fill.trade_id for fill in desk.fills}
    assert engine.account.wallet_balance == desk.account.wallet_balance
    held = {symbol: position.quantity for symbol, position in engine.positions.items() if position.quantity}
    assert held == {h.position.symbol: h.position.quantity for h in desk.account.open_holdings()}


@pytest.mark.parametrize("fault", ["user-event-loss", "user-event-duplicate", "user-event-reorder"])
def test_x19_x22_x23_events_of_the_account_go_astray_and_the_books_agree(fault: str, tmp_path: Path) -> None:
    script = Script(name="t", spells=(Spell(fault=fault, probability=0.5),))
    assembly, events = live_in(script, tmp_path, 15)
    assert assembly.exchange.venue.weather.strikes[fault] > 3
    assert len(assembly.exchange.venue.desk.fills) > 5
    check_books(assembly, events)


def test_d12_closed_bars_that_are_lost_are_asked_for(tmp_path: Path) -> None:
    script = Script(name="t", spells=(Spell(fault="frame-drop", match=Match(stream="*@kline_1m")),))
    assembly, events = live_in(script, tmp_path, 5)
    minutes = [event for event in events if isinstance(event, ev.MinuteClosed)]
    assert len(minutes) >= 8
    assert all(len(event.bars) == 2 for event in minutes)
    check_books(assembly, events)


@pytest.mark.parametrize("name", ["flaky-rest", "storm"])
def test_x03_x04_x06_a_lab_in_a_storm_executes_nothing_twice_and_loses_nothing(name: str, tmp_path: Path) -> None:
    assembly, events = live_in(find_script(name), tmp_path, 20)
    assert assembly.exchange.venue.weather.strikes.total() > 10
    check_books(assembly, events)


def test_the_same_weather_gives_the_same_ledger(tmp_path: Path) -> None:
    heads = [live_in(find_script("storm"), tmp_path / name, 5)[0].scheduler.ledger.head_hash for name in "ab"]
    assert heads[0] == heads[1]


# -- G8 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "executed"), KINDS.items())
def test_g8_an_ambiguous_send_is_executed_at_most_once_and_settled(kind: str, executed: bool) -> None:
    executions, wrong = ambiguous(kind, 6)
    assert (set(executions.values()), wrong) == ({int(executed)}, 0)


def test_g8_control_a_blind_resend_executes_twice() -> None:
    assert ambiguous("execute-then-drop-reply", 1, resends=True)[0] == {"g8-0": 2}


@pytest.mark.deep
@pytest.mark.parametrize(("kind", "executed"), KINDS.items())
def test_g8_five_hundred_ambiguous_sends_of_each_kind(kind: str, executed: bool) -> None:
    executions, wrong = ambiguous(kind, 500)
    assert (set(executions.values()), wrong) == ({int(executed)}, 0)
