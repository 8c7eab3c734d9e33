"""The whole way in virtual time: market, exchange, client, trader, ledger, and back from the ledger."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from labkit.assembly import assemble_in_process
from labkit.config import Config
from labkit.domain import events as ev
from labkit.domain.clock import utc_day
from labkit.domain.market_events import Quote
from labkit.domain.orders import OrderIntent, OrderType, Side
from labkit.domain.snapshot import Snapshot
from labkit.edge.clocks import VirtualTimeLoop, run_in_virtual_time
from labkit.engine.history import days_in, read_day
from labkit.engine.ledger import LEDGER_FILE, Ledger
from labkit.engine.recovery import Checkpoints, fold, recover
from labkit.engine.snapshots import snapshot_of_past, take_snapshot
from labkit.errors import ConfigError
from labkit.lab import Lab, left_unguarded
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.paper.paper_exchange import JOURNAL_NAME
from labkit.store.journal import Journal
from labkit.trader.self_learning_trader import SelfLearningTrader
from tests.lab.conftest import SMALL, live, small_config

Lived = tuple[Path, Snapshot]


def read_ledger(folder: Path) -> list[ev.Event]:
    ledger = Ledger.open(folder, read_only=True)
    try:
        return [entry.event for entry in ledger.entries()]
    finally:
        ledger.close()


def test_a_small_lab_trades_and_closes_what_it_opened(lived: Lived) -> None:
    _, snapshot = lived
    assert snapshot.counts.decisions > 0
    assert snapshot.counts.positions_closed > 0
    assert snapshot.counts.learned_labels > 0


def test_the_same_seed_gives_the_same_ledger_and_another_seed_another(lived: Lived, tmp_path: Path) -> None:
    _, snapshot = lived
    assert live(tmp_path / "again", 40).ledger_hash == snapshot.ledger_hash
    assert live(tmp_path / "other", 40, seed=2).ledger_hash != snapshot.ledger_hash


def test_every_decision_is_one_row_of_its_symbol_and_cycle(lived: Lived) -> None:
    folder, snapshot = lived
    lab = Lab(small_config(data_dir=str(folder)))
    table = lab.decision_history()
    assert len(table) == snapshot.counts.decisions
    assert not table.reset_index().duplicated(["symbol", "time"]).any()
    assert {"hold", "enter_long"} <= set(table["action"])
    assert set(lab.decision_history("ETHUSDT").index) == {"ETHUSDT"}
    counts = table.groupby(level=0)["action"].size()
    assert counts.max() - counts.min() <= 1  # as often on one as on another


def test_equity_equals_deposits_plus_all_cash_flows_to_the_last_digit(lived: Lived) -> None:
    folder, _ = lived
    engine = fold(Config(), Ledger.open(folder, read_only=True))
    cash, held = Decimal(0), dict.fromkeys(engine.symbols, Decimal(0))
    for event in read_ledger(folder):
        match event:
            case ev.Deposited():
                cash += event.amount
            case ev.FundingPaid():
                cash += event.amount
            case ev.OrderChanged(fill=fill) if fill is not None:
                cash -= fill.signed_quantity * fill.price + fill.commission
                held[fill.symbol] += fill.signed_quantity
    assert engine.equity == cash + sum(held[symbol] * engine.marks[symbol] for symbol in held)


def test_our_wallet_is_the_exchanges_wallet(lived: Lived) -> None:
    folder, _ = lived
    engine = fold(Config(), Ledger.open(folder, read_only=True))
    assert not engine.paused_by
    looks = [event for event in read_ledger(folder) if isinstance(event, ev.AccountObserved)]
    assert looks == []  # a look that agrees changes nothing and is not recorded


def test_every_fill_of_the_exchanges_books_is_in_the_ledger_once(lived: Lived) -> None:
    folder, _ = lived
    journal = Journal.open(folder / JOURNAL_NAME, read_only=True)
    filled = [record.body for record in journal.read() if record.kind == "OrderFilled"]
    ours = [event.fill for event in read_ledger(folder) if isinstance(event, ev.OrderChanged) and event.fill]
    assert len(filled) == len(ours) == len({(fill.symbol, fill.trade_id) for fill in ours}) > 0


def test_what_a_stopped_lab_leaves_open_is_said(lived: Lived) -> None:
    folder, at_the_end = lived
    first = next(e for e in read_ledger(folder) if isinstance(e, ev.OrderChanged) and e.fill is not None)
    in_between = snapshot_of_past(
        fold(Config(), Ledger.open(folder, read_only=True), until_ms=first.time_ms), first.time_ms
    )
    assert left_unguarded(in_between) == f"Open and unguarded until the next start: {first.fill.symbol}."
    assert left_unguarded(at_the_end) == ""


def test_a_snapshot_prints_as_one_line(lived: Lived) -> None:
    _, snapshot = lived
    assert repr(snapshot).count("\n") == 0
    assert f"equity {snapshot.account.equity:,.2f} USDT" in repr(snapshot)  # type: ignore[union-attr]


def test_any_past_moment_can_be_rebuilt_from_the_ledger(lived: Lived) -> None:
    folder, snapshot = lived
    ledger = Ledger.open(folder, read_only=True)
    closed = snapshot.closed_trades[0]
    before = fold(Config(), ledger, until_ms=closed.closed_ms - 1_000)
    after = fold(Config(), ledger, until_ms=closed.closed_ms + 5_000)
    assert before.position(closed.symbol).is_open
    assert before.counts.positions_closed + 1 == after.counts.positions_closed


def test_a_second_start_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    first = live(tmp_path, 15)
    second = live(tmp_path, 15)
    assert second.time_ms > first.time_ms
    assert second.counts.fills > first.counts.fills > 0
    started = [event for event in read_ledger(tmp_path) if isinstance(event, ev.EngineStarted)]
    assert [event.epoch for event in started] == [1, 2]
    assert second.account is not None
    assert second.account.deposits == Decimal(10_000)
    assert second.entries_paused == ""


def test_the_trader_stands_after_a_crash_where_it_stood_before_it(tmp_path: Path) -> None:
    live(tmp_path, 25)
    config = small_config()
    whole = [entry for entry in Ledger.open(tmp_path, read_only=True).entries()]
    hashes = [e.event.state_hash for e in whole if isinstance(e.event, ev.TraderCheckpointed)]

    # A crash writes no last checkpoint: the ledger without it must lead to the same state by stepping alone.
    cut = Ledger.open(tmp_path / "cut")
    for entry in whole[:-1]:
        if not (isinstance(entry.event, ev.TraderCheckpointed) and entry.event.state_hash == hashes[-1]):
            cut.append(entry.event, entry.decisions)
    trader = SelfLearningTrader(config)
    recovered = recover(config, cut, trader, Checkpoints(tmp_path / "checkpoints"))
    assert trader.state_hash() == hashes[-1] != hashes[0]
    assert recovered.differing_minutes == 0
    assert recovered.engine.counts.positions_closed > 0


def test_changed_settings_leave_open_positions_with_the_exits_they_were_opened_with(tmp_path: Path) -> None:
    first = live(tmp_path, 30)
    assert first.positions
    second = live(tmp_path, 12, **{"trader.trailing_gap_fraction": 0.9, "risk.max_open_positions": 1})
    reasons = {trade.exit_reason for trade in second.closed_trades}
    assert "external" not in reasons
    still = {row.symbol for row in second.positions if row.opened_ms <= first.time_ms}
    assert still == set()  # the horizon is ten minutes: whoever was open has been guarded, and closed
    assert second.entries_paused == ""


def test_a_fill_the_stream_never_told_of_is_found_by_looking(tmp_path: Path) -> None:
    """A position closed by somebody else, in a gap of the user-data stream."""
    loop = VirtualTimeLoop()

    async def story() -> Snapshot:
        assembly = await assemble_in_process(small_config(), tmp_path, loop)
        await assembly.start()
        scheduler, clock = assembly.scheduler, assembly.clock
        while not scheduler.engine.trades:
            await clock.sleep_until(clock.now_ms() + 1_000)
        symbol, position = next((s, p) for s, p in scheduler.engine.positions.items() if p.is_open)
        stream = scheduler.user_stream
        assert stream is not None
        stream._on_event = lambda event: None  # the gap
        by_hand = OrderIntent(
            client_order_id="by-hand",
            symbol=symbol,
            side=Side.SELL if position.quantity > 0 else Side.BUY,
            order_type=OrderType.MARKET,
            quantity=abs(position.quantity),
            reduce_only=True,
        )
        await scheduler.binance_client.place_order(by_hand)
        await clock.sleep_until(clock.now_ms() + 200_000)
        snapshot = take_snapshot(scheduler)
        await assembly.stop()
        return snapshot

    snapshot = run_in_virtual_time(story(), loop)
    assert "by-hand" in [trade.exit_order for trade in snapshot.closed_trades]


def test_the_guard_of_a_position_sees_every_quote_of_it_and_no_other(tmp_path: Path) -> None:
    """What the engine is told, beside a monitor of the same exchange that hears everything."""
    loop = VirtualTimeLoop()
    told: list[Quote] = []
    published: list[Quote] = []

    async def story() -> Snapshot:
        assembly = await assemble_in_process(small_config(), tmp_path, loop)
        scheduler = assembly.scheduler
        guard = scheduler.position_controller.on_quote
        scheduler.position_controller.on_quote = lambda quote: (told.append(quote), guard(quote))  # type: ignore
        witness = WebSocketMonitor(SMALL["symbols"], streams=assembly.exchange, clock=assembly.clock)  # type: ignore
        witness.on_quote = published.append
        await assembly.start()
        await witness.start()
        while len(scheduler.engine.closed_trades) < 4:
            await assembly.clock.sleep_until(assembly.clock.now_ms() + 1_000)
        snapshot = take_snapshot(scheduler)
        await witness.stop()
        await assembly.stop()
        return snapshot

    snapshot = run_in_virtual_time(story(), loop)
    seen = {(quote.symbol, quote.update_id) for quote in told}
    for trade in snapshot.closed_trades:
        while_open = {
            (quote.symbol, quote.update_id)
            for quote in published
            if quote.symbol == trade.symbol and trade.opened_ms + 100 < quote.event_time_ms < trade.closed_ms - 100
        }
        assert while_open <= seen
        assert while_open
    held = [(trade.symbol, trade.opened_ms, trade.closed_ms) for trade in snapshot.closed_trades]
    held += [(position.symbol, position.opened_ms, snapshot.time_ms) for position in snapshot.positions]
    for quote in told:
        assert any(s == quote.symbol and b - 100 <= quote.event_time_ms <= e + 100 for s, b, e in held)


def test_an_account_is_not_traded_on_another_market(tmp_path: Path) -> None:
    live(tmp_path, 1)
    with pytest.raises(ConfigError, match="belongs to seed 1, not 2"):
        live(tmp_path, 1, seed=2)


def test_an_unlisted_symbol_is_answered_with_the_nearest_one_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="BTCUSDT"):
        live(tmp_path / "new", 1, symbols=["BTCUSD"])


def test_a_day_read_back_adds_up_to_the_account(lived: Lived) -> None:
    folder, snapshot = lived
    (day,) = days_in(folder / LEDGER_FILE)
    assert day == utc_day(snapshot.time_ms)
    history = read_day(folder / LEDGER_FILE, day)
    assert len(history.trades) == snapshot.counts.positions_closed
    assert len(history.fills) == snapshot.counts.fills
    assert len(history.decisions) == snapshot.counts.decisions
    assert history.account_at_end.wallet_balance == snapshot.account.wallet_balance  # type: ignore[union-attr]


@pytest.mark.parametrize("day", ["2026-1-5", "yesterday", "2026-13-01"])
def test_a_day_that_is_no_date_is_refused(lived: Lived, day: str) -> None:
    with pytest.raises(ConfigError, match="not a date"):
        read_day(lived[0] / LEDGER_FILE, day)


def test_a_day_nobody_lived_is_refused(lived: Lived) -> None:
    with pytest.raises(ConfigError, match="knows nothing"):
        read_day(lived[0] / LEDGER_FILE, "2031-01-01")


@pytest.mark.real_data
def test_a_recorded_tape_is_consumed_to_the_last_frame_and_twice_the_same(real_data: Path, tmp_path: Path) -> None:
    tapes = [str(real_data / "ticks" / "um" / "BTCUSDT-20230404.raw.gz")]
    settings = {"market": "tape", "tapes": tapes, "symbols": ["BTCUSDT"], "trader.decision_every_minutes": 1}
    import gzip

    with gzip.open(tapes[0], "rb") as file:
        expected = sum(b"@bookTicker" in line for line in file)
    from labkit.lab import live_in_virtual_time

    snapshots = [live_in_virtual_time(small_config(**settings), tmp_path / name) for name in ("one", "two")]
    assert snapshots[0].ledger_hash == snapshots[1].ledger_hash
    assert snapshots[0].counts.decisions > 0
    assert snapshots[0].counts.frames >= expected > 0
