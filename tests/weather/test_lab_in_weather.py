"""A whole lab in bad weather: whatever it meets, its books are the exchange's, and no intent is executed twice."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from labkit.assembly import Assembly, assemble_in_process
from labkit.config import ClientConfig, PaperConfig
from labkit.domain import events as ev
from labkit.domain.clock import MINUTE_MS
from labkit.domain.orders import OrderIntent, OrderType, Side
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.errors import OutcomeUnknown
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.credentials import Credentials
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.truth_table import truth_table
from labkit.paper.venue import Venue
from labkit.paper.weather.script import Match, Script, Spell, find_script
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

KINDS = {
    "execute-then-drop-reply": True,
    "drop-before-execute": False,
    "unknown-executed": True,
    "unknown-not-executed": False,
    "timeout-executed-late": True,
    "truncate-reply": True,
}
"""Six ways to leave a client in doubt, and whether the order was executed."""


def ambiguous(kind: str, count: int, *, resends: bool) -> dict[str, int]:
    """Executions by intent after `count` sends that all end in doubt; `resends` is what must never be done."""
    loop = VirtualTimeLoop()
    source = SimulatedMarket(
        ("BTCUSDT",), seed=1, start_ms=START_MS, history_days=1, planted_edge=0.0, quotes_per_second=0.1
    )
    clock = VirtualClock(loop, start_ms=START_MS)
    balance = PaperConfig(opening_balance=Decimal(100_000_000))
    venue = Venue(source, balance, api_key="k", api_secret="s")
    venue.weather.begin(Script(name="t", spells=(Spell(fault=kind, match=ORDERS),)), START_MS)
    client = BinanceClient(InProcessExchange(venue, clock), clock, ClientConfig(), Credentials("k", "s"))
    believed: dict[str, bool] = {}

    async def send(intent: OrderIntent) -> None:
        sent_ms = clock.now_ms()
        try:
            await client.place_order(intent)
        except OutcomeUnknown:
            if resends:
                venue.weather.clear(clock.now_ms())
                twin = BinanceClient(InProcessExchange(venue, clock), clock, ClientConfig(), Credentials("k", "s"))
                await twin.place_order(intent)
                return
            believed[intent.client_order_id] = await client.settle(intent, sent_ms) is not None

    async def main() -> None:
        market = asyncio.create_task(InProcessExchange(venue, clock).run())
        await asyncio.sleep(60)
        sends = []
        for number in range(count):
            side = Side.BUY if number % 2 else Side.SELL
            intent = OrderIntent(
                client_order_id=f"g8-{number}",
                symbol="BTCUSDT",
                side=side,
                order_type=OrderType.MARKET,
                quantity=Decimal("0.010"),
            )
            sends.append(asyncio.create_task(send(intent)))
            # The breaker must forget each fault before the next.
            await asyncio.sleep(12)
        await asyncio.gather(*sends)
        market.cancel()

    run_in_virtual_time(main(), loop)
    table = truth_table(venue.desk)
    executions = {f"g8-{n}": table[f"g8-{n}"].executions if f"g8-{n}" in table else 0 for n in range(count)}
    if not resends:
        assert len(believed) == count
        assert believed == {name: number > 0 for name, number in executions.items()}
    return executions


@pytest.mark.parametrize(("kind", "executed"), KINDS.items())
def test_g8_an_ambiguous_send_is_executed_at_most_once_and_settled(kind: str, executed: bool) -> None:
    assert set(ambiguous(kind, 6, resends=False).values()) == {int(executed)}


def test_g8_control_a_blind_resend_executes_twice() -> None:
    assert ambiguous("execute-then-drop-reply", 1, resends=True) == {"g8-0": 2}


@pytest.mark.deep
@pytest.mark.parametrize(("kind", "executed"), KINDS.items())
def test_g8_five_hundred_ambiguous_sends_of_each_kind(kind: str, executed: bool) -> None:
    assert set(ambiguous(kind, 500, resends=False).values()) == {int(executed)}
