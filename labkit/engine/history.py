"""One day of a lab, read back from its ledger: what the daily report is made of.

The ledger is folded by the very `Engine.apply` that once ran; the trader is not asked again.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from labkit.config import Config
from labkit.domain import events as ev
from labkit.domain.clock import DAY_MS, HOUR_MS, MINUTE_MS, utc_day
from labkit.domain.day_history import DayHistory, EquityPoint, FundingPayment, LearningPoint, PricePoint, VirtualResult
from labkit.domain.decisions import Decision
from labkit.domain.orders import Fill
from labkit.domain.position import ZERO, Position, quantize_money
from labkit.domain.snapshot import ClosedTrade, EventRow
from labkit.engine.day_summaries import DaySummaries
from labkit.engine.engine import Engine
from labkit.engine.feed_book import FeedBook
from labkit.engine.ledger import LEDGER_FILE, Ledger
from labkit.engine.recovery import RecordedDecisions, apply_recorded
from labkit.engine.snapshots import account_row, position_rows
from labkit.engine.virtual_results import VirtualBook
from labkit.errors import ConfigError, LedgerError
from labkit.store import journal

PRICES_BEFORE_MS = 6 * HOUR_MS
"""A trade that was carried over midnight is shown with the prices it was opened at."""


def days_in(ledger_path: Path) -> list[str]:
    """All UTC days the ledger at `ledger_path` (the file or its folder) knows of, first to last."""
    return [utc_day(day * DAY_MS) for day in journal.days_in(_folder(ledger_path) / LEDGER_FILE)]


def find_day(ledger_path: Path, day: str = "") -> str:
    """`day`, if the ledger at `ledger_path` (the file or its folder) knows of it; the latest one if it is empty.

    Raises:
        ConfigError: the ledger knows of other days only.
        LedgerError: it is empty, or there is none.
    """
    known = days_in(ledger_path)
    if not known:
        raise LedgerError(f"the ledger {ledger_path} is empty: there is no day to report on")
    if day and day not in known:
        gap = ", but not of that day" if known[0] < str(day) < known[-1] else ""
        raise ConfigError(f"day {day!r}: {ledger_path} tells of {known[0]} to {known[-1]}{gap}", field="day")
    return day or known[-1]


def read_day(ledger_path: Path | str, day: str) -> DayHistory:
    """The history of one UTC day (`YYYY-MM-DD`) from the ledger at `ledger_path` (the file or its folder).

    Raises:
        ConfigError: `day` is no date, or the ledger knows nothing of it.
        LedgerDamaged: the history cannot be trusted.
    """
    start_ms = _start_of(day)
    ledger = Ledger.open(_folder(Path(ledger_path)), read_only=True)
    try:
        return _read(ledger, day, start_ms)
    finally:
        ledger.close()


def _read(ledger: Ledger, day: str, start_ms: int) -> DayHistory:
    recorded = RecordedDecisions()
    engine = Engine(Config(), recorded)
    summaries, virtual_book, feed_book = DaySummaries(engine), VirtualBook(), FeedBook(start_ms)
    equity: list[EquityPoint] = []
    fills: list[Fill] = []
    slippage: list[Decimal] = []
    slippage_book = SlippageBook()
    prices: defaultdict[str, list[PricePoint]] = defaultdict(list)
    funding: list[FundingPayment] = []
    trades: list[ClosedTrade] = []
    entry_decisions: dict[str, Decision] = {}
    decisions: list[Decision] = []
    events: list[EventRow] = []
    learning: list[LearningPoint] = []
    virtual: list[VirtualResult] = []
    at_start = account_row(engine, {})
    last_ms, first_sequence, last_sequence = start_ms, 0, 0
    virtual_closed_before = virtual_closed = 0
    fingerprint = ""
    for entry in ledger.entries():
        event = entry.event
        if event.time_ms >= start_ms + DAY_MS:
            break
        in_day = event.time_ms >= start_ms
        if in_day and not first_sequence:
            first_sequence = entry.sequence
            at_start = account_row(engine, {})
        engine.log.clear()
        before = engine.counts
        fill = event.fill if isinstance(event, ev.OrderChanged) else None
        held = engine.position(fill.symbol) if fill else None
        summaries.before(event)
        apply_recorded(engine, recorded, entry)
        closed_virtually = virtual_book.take_in(entry)
        summaries.after(entry)
        feed_book.take_in(event, engine.symbols)
        is_new = fill is not None and engine.counts.fills > before.fills
        if is_new and fill and held:
            own = engine.intents[fill.client_order_id].slippage(fill)
            booked = slippage_book.book(fill, own, held, engine.position(fill.symbol))
            if in_day:
                fills.append(fill)
                slippage.append(booked)
        if isinstance(event, ev.EngineStarted):
            fingerprint = event.config_hash
        if isinstance(event, ev.MinuteClosed) and event.time_ms >= start_ms - PRICES_BEFORE_MS:
            for symbol, bar in event.bars.items():
                prices[symbol].append(PricePoint(event.open_time_ms + MINUTE_MS, bar.close))
        if not in_day:
            if isinstance(event, ev.LearningObserved):
                virtual_closed_before = virtual_closed = event.virtual_closed
            continue
        last_ms, last_sequence = event.time_ms, entry.sequence
        events += engine.log
        decisions += entry.decisions
        virtual += closed_virtually
        if engine.counts.positions_closed > before.positions_closed:
            trade = engine.closed_trades[-1]
            trades.append(trade)
            if opened_by := engine.intents[trade.entry_order].decision:
                entry_decisions[trade.entry_order] = opened_by
        match event:
            case ev.MinuteClosed():
                equity.append(EquityPoint(event.time_ms, engine.account.wallet_balance, engine.equity))
            case ev.LearningObserved():
                if not learning and virtual_closed_before == 0:
                    # The first note of a new trader counts what history taught it, before it lived itself.
                    virtual_closed_before = event.virtual_closed
                learning.append(LearningPoint(event.time_ms, event.learning))
                virtual_closed = event.virtual_closed
            case ev.FundingPaid():
                funding.append(FundingPayment(event.funding_time_ms, event.symbol, event.amount))
            case _:
                pass
    if not first_sequence:
        raise ConfigError(f"day: the ledger knows nothing of {day}", field="day")
    return DayHistory(
        day=day,
        start_ms=start_ms,
        end_ms=last_ms,
        market=engine.market,
        disclosure=engine.disclosure,
        symbols=engine.symbols,
        config_fingerprint=fingerprint,
        account_at_start=at_start,
        account_at_end=account_row(engine, {}),
        equity=tuple(equity),
        fills=tuple(fills),
        slippage=tuple(slippage),
        funding=tuple(funding),
        trades=tuple(trades),
        entry_decisions=entry_decisions,
        open_positions=position_rows(engine, {}, {}),
        prices={symbol: tuple(prices[symbol]) for symbol in sorted({fill.symbol for fill in fills} & prices.keys())},
        decisions=tuple(decisions),
        learning=tuple(learning),
        virtual=tuple(virtual),
        feed=feed_book.quality(),
        days=summaries.all(),
        virtual_closed=virtual_closed - virtual_closed_before,
        events=tuple(events),
        first_sequence=first_sequence,
        last_sequence=last_sequence,
        ledger_hash=ledger.head_hash,
    )


class SlippageBook:
    """Books slippage where results are booked: what an entry paid is booked by the fills that close it, in parts."""

    def __init__(self) -> None:
        self._open: defaultdict[str, Decimal] = defaultdict(Decimal)
        """Slippage of what is still open, by symbol, in quote asset."""

    def book(self, fill: Fill, own: Decimal, before: Position, after: Position) -> Decimal:
        """What `fill`, with slippage `own`, books; a fill that turns a position around counts as its end."""
        if not before.sign or before.sign == fill.side.sign:
            self._open[fill.symbol] += own
            return ZERO
        share = self._open[fill.symbol]
        if after.sign == before.sign:
            share = quantize_money(share * fill.quantity / abs(before.quantity))
        self._open[fill.symbol] -= share
        return own + share


def _start_of(day: str) -> int:
    try:
        start_ms = int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        start_ms = -1
    if start_ms < 0 or utc_day(start_ms) != day:
        raise ConfigError(f"day: {day!r} is not a date like 2026-01-05", field="day")
    return start_ms


def _folder(ledger_path: Path) -> Path:
    return ledger_path.parent if ledger_path.name == LEDGER_FILE else ledger_path
