"""Snapshots: from the running parts to one immutable value that may leave the engine's thread.

Taken on the engine's own loop, so nothing moves meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from labkit.config import Config
from labkit.domain.leverage_brackets import liquidation_price, maintenance_margin
from labkit.domain.market_events import Quote
from labkit.domain.snapshot import AccountRow, BreakerRow, Counts, PositionRow, Snapshot
from labkit.engine.engine import Engine
from labkit.trader.exits import closing_price

if TYPE_CHECKING:
    # Reading a ledger needs the figures of an account, not the loops that drive one.
    from labkit.engine.unified_scheduler import UnifiedScheduler

ZERO = Decimal(0)
CLOSED_TRADES_SHOWN = 50
EVENTS_SHOWN = 60


def account_row(engine: Engine, marks: Mapping[str, Decimal], *, leverage: int = 1) -> AccountRow:
    """The account at the given mark prices (those the engine has met, where none is given)."""
    account = engine.account
    at = {**engine.marks, **marks}
    wallet = account.wallet_balance
    equity = wallet + engine.unrealized_pnl(marks)
    maintenance = initial = ZERO
    for position in engine.positions.values():
        if not position.is_open or position.symbol not in at:
            continue
        notional = abs(position.quantity) * at[position.symbol]
        initial += notional / leverage
        if brackets := engine.brackets.get(position.symbol):
            maintenance += maintenance_margin(notional, brackets)
    return AccountRow(
        wallet_balance=wallet,
        equity=equity,
        available_balance=max(equity - initial, ZERO),
        margin_ratio=float(maintenance / equity) if equity > 0 else 1.0,
        day_pnl=equity - engine.day_start_equity,
        deposits=account.deposits,
        realized_pnl=account.realized_pnl,
        commissions=account.commissions,
        funding=account.funding,
    )


def position_rows(engine: Engine, quotes: Mapping[str, Quote], marks: Mapping[str, Decimal]) -> tuple[PositionRow, ...]:
    """Open positions with their exits, oldest first."""
    at = {**engine.marks, **marks}
    rows: list[PositionRow] = []
    for trade in sorted(engine.trades.values(), key=lambda trade: trade.opened_ms):
        symbol = trade.symbol
        position = engine.position(symbol)
        quote, mark, plan = quotes.get(symbol), at.get(symbol), trade.plan
        others = [p for p in engine.positions.values() if p.is_open and p.symbol != symbol and p.symbol in at]
        margin_balance = engine.account.wallet_balance + sum(
            (
                p.unrealized_pnl(at[p.symbol])
                - maintenance_margin(abs(p.quantity) * at[p.symbol], engine.brackets[p.symbol])
                for p in others
                if p.symbol in engine.brackets
            ),
            ZERO,
        )
        brackets = engine.brackets.get(symbol)
        rows.append(
            PositionRow(
                symbol=symbol,
                quantity=position.quantity,
                entry_price=position.entry_price,
                exit_price=closing_price(position.sign, quote) if quote else None,
                mark_price=mark,
                unrealized_pnl=position.unrealized_pnl(mark) if mark is not None else ZERO,
                stop_price=plan.stop_price if plan else None,
                target_price=plan.target_price if plan else None,
                trailing_stop_price=plan.trailing_stop_price(position.sign) if plan else None,
                liquidation_price=liquidation_price(
                    quantity=position.quantity,
                    entry_cost=position.entry_cost,
                    margin_balance=margin_balance,
                    brackets=brackets,
                )
                if brackets
                else None,
                opened_ms=trade.opened_ms,
                due_ms=plan.due_ms if plan else None,
                entry_reason=trade.entry_reason,
                closing=engine.closing(symbol),
            )
        )
    return tuple(rows)


def latest_quotes(scheduler: UnifiedScheduler) -> dict[str, Quote]:
    """The latest quote of every traded symbol that has one, fresh or not."""
    monitor = scheduler.websocket_monitor
    return {s: quote for s in scheduler.config.symbols if (quote := monitor.get_quote(s)) is not None}


def latest_marks(scheduler: UnifiedScheduler) -> dict[str, Decimal]:
    """The latest mark price of every traded symbol that has one."""
    monitor = scheduler.websocket_monitor
    return {s: mark.mark_price for s in scheduler.config.symbols if (mark := monitor.get_mark_price(s)) is not None}


def take_snapshot(scheduler: UnifiedScheduler, *, lag_ms: tuple[float, float] = (0.0, 0.0)) -> Snapshot:
    """The lab as it stands. `lag_ms` is the event loop's lag (median, p99), measured by the host."""
    engine, monitor, trader = scheduler.engine, scheduler.websocket_monitor, scheduler.self_learning_trader
    client = scheduler.binance_client
    symbols = scheduler.config.symbols
    quotes, marks = latest_quotes(scheduler), latest_marks(scheduler)
    streams = scheduler.streams_status()
    latency_ms, handling_ms = monitor.latency_ms, monitor.handling_ms
    now_ms = scheduler.clock.now_ms()
    breaker = client.breaker
    return Snapshot(
        time_ms=now_ms,
        state=scheduler.state,
        state_detail=scheduler.state_detail,
        market=scheduler.market,
        disclosure=scheduler.disclosure,
        speed=scheduler.clock.speed,
        symbols=monitor.symbol_rows(),
        positions=position_rows(engine, quotes, marks),
        virtual_positions=trader.virtual_positions(),
        closed_trades=tuple(engine.closed_trades)[-CLOSED_TRADES_SHOWN:],
        decisions=tuple(engine.last_decisions[s] for s in symbols if s in engine.last_decisions),
        account=account_row(engine, marks, leverage=scheduler.config.risk.leverage),
        breaker=BreakerRow(
            level=breaker.level(now_ms).name,
            cause=breaker.cause,
            since_ms=breaker.since_ms,
            next_probe_ms=breaker.next_probe_ms,
            weight_used=client.limits.used_weight(now_ms),
            weight_limit=client.limits.weight_limit,
        ),
        learning=trader.learning(),
        loops=tuple(deadlines.row() for deadlines in scheduler.loops.values()),
        streams=streams,
        events=tuple(engine.log)[-EVENTS_SHOWN:],
        counts=msgspec.structs.replace(
            engine.counts,
            frames=monitor.frames,
            # Every virtual position closes into one label; those of history are not of this run.
            virtual_closed=max(0, trader.virtual_closed - scheduler.labels_from_history),
            learned_labels=max(0, trader.learned_labels - scheduler.labels_from_history),
            reconnects=sum(stream.reconnects for stream in streams),
        ),
        loop_lag_ms_p50=lag_ms[0],
        loop_lag_ms_p99=lag_ms[1],
        feed_latency_ms_p50=latency_ms[0],
        feed_latency_ms_p99=latency_ms[1],
        feed_handling_ms_p50=handling_ms[0],
        feed_handling_ms_p99=handling_ms[1],
        entries_paused="; ".join(engine.paused_by.values()),
        ledger_sequence=scheduler.ledger.sequence,
        ledger_hash=scheduler.ledger.head_hash,
    )


def snapshot_of_nothing(config: Config, state: str, detail: str) -> Snapshot:
    """What there is to see of a lab that has no engine yet, or has none any more."""
    return Snapshot(
        time_ms=0,
        state=state,
        state_detail=detail,
        market=config.market,
        disclosure="",
        speed=float("inf") if isinstance(config.speed, str) else config.speed,
        symbols=(),
        positions=(),
        virtual_positions=(),
        closed_trades=(),
        decisions=(),
        account=None,
        breaker=None,
        learning=None,
        loops=(),
        streams=(),
        events=(),
        counts=Counts(),
        loop_lag_ms_p50=0.0,
        loop_lag_ms_p99=0.0,
        entries_paused="",
        ledger_sequence=0,
        ledger_hash="",
    )


def snapshot_of_past(engine: Engine, time_ms: int) -> Snapshot:
    """The account, positions and decisions of a past moment, from an engine folded up to it."""
    return msgspec.structs.replace(
        snapshot_of_nothing(engine.config, "past", "as the ledger tells it"),
        time_ms=time_ms,
        market=engine.market,
        disclosure=engine.disclosure,
        positions=position_rows(engine, {}, {}),
        closed_trades=tuple(engine.closed_trades)[-CLOSED_TRADES_SHOWN:],
        decisions=tuple(engine.last_decisions.values()),
        account=account_row(engine, {}),
        events=tuple(engine.log)[-EVENTS_SHOWN:],
        counts=engine.counts,
        entries_paused="; ".join(engine.paused_by.values()),
    )
