"""A person takes a position into their own hands: what is asked for is in the ledger, and nothing else."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from labkit.assembly import assemble_in_process
from labkit.domain import events as ev
from labkit.domain.orders import OrderIntent, OrderType, Side
from labkit.edge.clocks import VirtualTimeLoop, run_in_virtual_time
from labkit.engine.ledger import Ledger
from labkit.engine.position_details import position_detail
from labkit.engine.snapshots import latest_marks, latest_quotes
from labkit.errors import LocalProtocolError
from labkit.lab import Lab
from tests.lab.conftest import small_config


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A lab waits for a position; a hand moves its stop back and forth, closes half of it, then the rest."""
    folder = tmp_path_factory.mktemp("by-hand")
    told: dict[str, Any] = {"folder": folder}
    loop = VirtualTimeLoop()

    async def live() -> None:
        assembly = await assemble_in_process(small_config(**{"trader.horizon_minutes": 60}), folder, loop)
        await assembly.start()
        scheduler, clock = assembly.scheduler, assembly.clock
        engine, controller = scheduler.engine, scheduler.position_controller

        async def wait(milliseconds: int) -> None:
            await clock.sleep_until(clock.now_ms() + milliseconds)

        while not any(trade.plan for trade in engine.trades.values()):
            await wait(1_000)
        symbol = told["symbol"] = next(s for s, trade in engine.trades.items() if trade.plan)

        def detail() -> Any:
            return position_detail(engine, symbol, latest_quotes(scheduler), latest_marks(scheduler))

        told["opened"], told["moment"] = detail(), clock.now_ms()
        await wait(1_000)
        row = told["opened"].row
        further = row.stop_price - row.quantity / abs(row.quantity) * told["opened"].tick_size * 50
        controller.move_exits(symbol, stop_price=further, target_price=None)
        told["moved"] = detail()
        controller.move_exits(symbol, stop_price=row.stop_price, target_price=None)
        with pytest.raises(LocalProtocolError) as refused:
            controller.move_exits(symbol, stop_price=row.target_price, target_price=None)
        told["refused_stop"] = str(refused.value)
        with pytest.raises(LocalProtocolError) as refused:
            controller.close(symbol, told["opened"].step_size / 2)
        told["refused_part"] = str(refused.value)
        with pytest.raises(LocalProtocolError) as refused:
            controller.close(symbol, abs(row.quantity) + told["opened"].step_size)
        told["refused_much"] = str(refused.value)
        with pytest.raises(LocalProtocolError) as refused:
            controller.move_exits(symbol, stop_price=further - told["opened"].tick_size / 3, target_price=None)
        told["refused_price"] = str(refused.value)
        half = told["half"] = abs(row.quantity) / 2 // told["opened"].step_size * told["opened"].step_size
        controller.close(symbol, half)
        await wait(3_000)
        told["halved"] = detail()
        controller.close(symbol)
        await wait(3_000)
        told["closed"] = next(trade for trade in engine.closed_trades if trade.symbol == symbol)
        # Somebody else opens a position in the same account: the lab adopts it, without exits.
        scheduler.submit(ev.EntriesPaused(time_ms=clock.now_ms(), paused=True, reason="the rest is by hand"))
        foreign = OrderIntent(
            client_order_id="by-hand", symbol=symbol, side=Side.BUY, order_type=OrderType.MARKET, quantity=half
        )
        await scheduler.binance_client.place_order(foreign)
        await wait(3_000)
        told["adopted"] = detail()
        with pytest.raises(LocalProtocolError) as refused:
            controller.move_exits(symbol, stop_price=row.stop_price, target_price=None)
        told["refused_exits"] = str(refused.value)
        await assembly.stop()

    run_in_virtual_time(live(), loop)
    return told


def events_of(folder: Path, kind: type[Any]) -> list[Any]:
    ledger = Ledger.open(folder, read_only=True)
    try:
        return [entry.event for entry in ledger.entries() if isinstance(entry.event, kind)]
    finally:
        ledger.close()


def test_a_new_position_knows_the_decision_and_the_fill_that_opened_it(story: dict[str, Any]) -> None:
    opened = story["opened"]
    assert opened.decision.symbol == story["symbol"]
    assert opened.decision.side == (1 if opened.row.quantity > 0 else -1)
    assert sum(fill.signed_quantity for fill in opened.fills) == opened.row.quantity


def test_the_position_of_a_past_moment_is_read_back_from_the_ledger(story: dict[str, Any]) -> None:
    lab, moment, opened = Lab(small_config(data_dir=str(story["folder"]))), story["moment"], story["opened"]
    past = lab.position(story["symbol"], at=moment)
    assert (past.fills, past.decision, past.row.stop_price) == (opened.fills, opened.decision, opened.row.stop_price)
    assert past.row.quantity == opened.row.quantity != story["halved"].row.quantity
    assert list(lab.positions(at=moment)["quantity"]) == [opened.row.quantity]
    assert lab.why(story["symbol"], at=moment).decision == opened.decision


def test_moves_of_the_stop_are_in_the_ledger_one_by_one(story: dict[str, Any]) -> None:
    moves = [event.stop_price for event in events_of(story["folder"], ev.ExitsChanged)]
    assert moves == [story["moved"].row.stop_price, story["opened"].row.stop_price]
    assert moves[0] != moves[1]


def test_a_stop_beyond_the_market_is_refused_in_words(story: dict[str, Any]) -> None:
    assert "lies on the wrong side of" in story["refused_stop"]


def test_a_stop_off_the_ticks_is_refused_with_the_nearest_on_them(story: dict[str, Any]) -> None:
    further, tick = story["moved"].row.stop_price, story["opened"].tick_size
    assert f"the nearest are {further - tick} and {further}, a tick of {tick} apart" in story["refused_price"]


def test_a_part_smaller_than_a_step_is_refused_in_words(story: dict[str, Any]) -> None:
    assert "its smallest step" in story["refused_part"]


def test_more_than_is_held_is_refused_before_anything_is_closed(story: dict[str, Any]) -> None:
    held = abs(story["opened"].row.quantity)
    assert story["refused_much"].endswith(f"is more than the {held} that are held")


def test_a_position_of_somebody_else_has_no_decision_and_no_exits_to_move(story: dict[str, Any]) -> None:
    assert (story["adopted"].decision, story["adopted"].row.stop_price) == (None, None)
    assert "no exits to move" in story["refused_exits"]


def test_half_a_position_is_closed_and_the_other_half_keeps_its_exits(story: dict[str, Any]) -> None:
    opened, halved = story["opened"], story["halved"]
    assert abs(halved.row.quantity) == abs(opened.row.quantity) - story["half"]
    assert halved.row.stop_price == opened.row.stop_price
    assert len(halved.fills) == len(opened.fills) + 1


def test_both_requests_to_close_are_in_the_ledger(story: dict[str, Any]) -> None:
    asked = [(event.symbol, event.quantity) for event in events_of(story["folder"], ev.CloseRequested)]
    assert asked == [(story["symbol"], story["half"]), (story["symbol"], None)]


def test_the_parts_of_a_result_end_as_the_net_result_of_the_trade(story: dict[str, Any]) -> None:
    """What is still unrealised aside, fees and funding only grow: the closed trade is what the parts became."""
    halved, closed = story["halved"], story["closed"]
    assert closed.exit_reason == "user"
    left = halved.row.unrealized_pnl
    realized = halved.pnl.net - left
    last_half = closed.net_pnl - realized
    assert abs(last_half - left) < abs(halved.row.quantity * halved.row.mark_price) * Decimal("0.01")
