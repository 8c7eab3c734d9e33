"""Snapshot → what a person reads: strings, tones and fractions, ready to be shown as they are.

Pure functions and plain records. Prices are written with the decimals the symbol is quoted in, amounts in quote
asset, times as UTC milliseconds of the market (the browser turns them into ages, so that an age keeps growing when
nobody sends any more). `tone` is `good`, `bad`, `warn`, `muted` or empty; what it looks like is the style sheet's
business. Called by the widgets; knows none of them.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import msgspec

from labkit.domain.decisions import Action, Decision
from labkit.domain.reasons import decision_words, flip_words
from labkit.domain.snapshot import (
    AccountRow,
    BreakerRow,
    EventRow,
    LearningRow,
    LoopRow,
    Snapshot,
    StreamRow,
    SymbolRow,
)
from labkit.widgets.position_view import PositionLine, position_lines, positions_table
from labkit.widgets.view_parts import (
    NOTHING,
    Clock,
    Figure,
    Header,
    basis_points,
    header_of,
    money,
    page_head,
    page_table,
    percent,
    price,
    price_places,
    remembered,
    signed,
    signed_money,
    tone_of,
    true_minus,
    utc_time,
    words,
)

EVENTS_SHOWN = 40
STILL_ROWS = 40
"""Symbols in the still picture: a saved notebook must not grow by hundreds of rows that have long been past."""
LATE_RUNS_FORGIVEN = 10
LATE_SHARE_FORGIVEN = 0.02
"""A start catches up with what it missed: some late runs are no fault."""
_BREAKER_TONES = {"NORMAL": "good", "CAUTIOUS": "warn", "REDUCE_ONLY": "warn", "HALTED": "bad"}
_HEALTHY_STREAM_STATES = frozenset({"live", "rotating", "connected"})
_SEVERITY_TONES = {"info": "", "warning": "warn", "alarm": "bad"}
_ACTION_WORDS = {
    Action.ENTER_LONG: ("buy", "good"),
    Action.ENTER_SHORT: ("sell", "bad"),
    Action.EXIT: ("exit", "warn"),
    Action.HOLD: ("hold", "muted"),
    Action.REFUSE: ("no trade", "muted"),
}


class Chip(msgspec.Struct, frozen=True, kw_only=True):
    """One small statement on the health of the lab; `title` is the longer story."""

    key: str
    label: str
    text: str
    tone: str
    title: str


class SymbolLine(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    bid: str
    ask: str
    mid: float | None
    spread: str
    """In basis points of the mid price."""
    mark: str
    funding: str
    funding_tone: str
    next_funding_ms: int | None
    change: str
    change_tone: str
    liquidity: float
    quoted_ms: int | None
    held: str
    """`long` or `short` while there is a position, else empty."""
    problem: str


class DecisionLine(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    time_ms: int
    action: str
    tone: str
    reason: str
    numbers: str
    change: str


class EventLine(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    time_ms: int
    text: str
    tone: str


class MonitorView(msgspec.Struct, frozen=True, kw_only=True):
    """All that the live monitor shows."""

    header: Header
    account: tuple[Figure, ...]
    chips: tuple[Chip, ...]
    symbols: tuple[SymbolLine, ...]
    positions: tuple[PositionLine, ...]
    decisions: tuple[DecisionLine, ...]
    events: tuple[EventLine, ...]


def monitor_view(snapshot: Snapshot) -> MonitorView:
    """The live monitor's view of one moment."""
    held = {row.symbol: "long" if row.quantity > 0 else "short" for row in snapshot.positions}
    return MonitorView(
        header=header_of(snapshot),
        account=account_figures(snapshot.account),
        chips=chips_of(snapshot),
        symbols=tuple(symbol_line(row, snapshot.time_ms, held.get(row.symbol, "")) for row in snapshot.symbols),
        positions=position_lines(snapshot),
        decisions=decision_lines(snapshot.decisions),
        events=event_lines(snapshot.events),
    )


def account_figures(account: AccountRow | None) -> tuple[Figure, ...]:
    """The account line: equity first, because that is what the account is worth."""
    if account is None:
        return ()
    ratio = account.margin_ratio
    return (
        Figure(key="equity", label="Equity", text=money(account.equity), title="Wallet plus unrealised PnL at mark"),
        Figure(
            key="day_pnl",
            label="PnL today",
            text=signed_money(account.day_pnl),
            tone=tone_of(account.day_pnl),
            title="Change of equity since 00:00 UTC of market time, deposits taken out",
        ),
        Figure(key="wallet", label="Wallet", text=money(account.wallet_balance), title="What is realised and paid"),
        Figure(key="available", label="Available", text=money(account.available_balance), title="Free as margin"),
        Figure(
            key="margin_ratio",
            label="Margin ratio",
            text=percent(ratio),
            tone="bad" if ratio >= 0.8 else "warn" if ratio >= 0.5 else "",
            title="Maintenance margin over margin balance: 100 % is liquidation",
        ),
        Figure(
            key="fees", label="Fees", text=signed_money(-account.commissions), title="Commissions since the opening"
        ),
        Figure(key="funding", label="Funding", text=signed_money(account.funding), title="Funding since the opening"),
    )


def chips_of(snapshot: Snapshot) -> tuple[Chip, ...]:
    """Health at a glance: connections, breaker, request weight, loop lag, scheduler, learner."""
    chips = [_stream_chip(row) for row in snapshot.streams]
    if snapshot.breaker is not None:
        chips += [_breaker_chip(snapshot.breaker), _weight_chip(snapshot.breaker)]
    chips.append(_lag_chip(snapshot.state, snapshot.loop_lag_ms_p50, snapshot.loop_lag_ms_p99))
    if any(row.missed or row.overruns for row in snapshot.loops):
        chips.append(_scheduler_chip(snapshot.loops))
    if snapshot.learning is not None:
        chips.append(_learning_chip(snapshot.learning))
    return tuple(chips)


def _stream_chip(row: StreamRow) -> Chip:
    healthy = row.state in _HEALTHY_STREAM_STATES
    story = row.cause or ("no frame yet" if row.age_ms is None else "frames are arriving")
    title = f"{row.state}: {story}; {row.frames:,} frames, {row.rejected} rejected, {row.reconnects} reconnects"
    text = words(row.state) + (f": {row.cause}" if row.cause and not healthy else "")
    tone = "good" if healthy else "warn"
    return Chip(key=f"stream {row.name}", label=f"{words(row.name)} stream", text=text, tone=tone, title=title)


def _breaker_chip(row: BreakerRow) -> Chip:
    level = words(row.level).lower()
    title = f"{level} since {utc_time(row.since_ms)}"
    title += f" because {row.cause}" if row.cause else ""
    title += f"; next probe {utc_time(row.next_probe_ms)}" if row.next_probe_ms is not None else ""
    text = level + (f": {row.cause}" if row.cause else "")
    return Chip(key="breaker", label="breaker", text=text, tone=_BREAKER_TONES.get(row.level, "warn"), title=title)


def _weight_chip(row: BreakerRow) -> Chip:
    share = row.weight_used / row.weight_limit if row.weight_limit else 0.0
    return Chip(
        key="weight",
        label="weight used",
        text=f"{row.weight_used:,} of {row.weight_limit:,}",
        tone="good" if share < 0.8 else "warn" if share < 1 else "bad",
        title=f"Request weight of this minute, {share:.0%} of what the exchange allows",
    )


def _lag_chip(state: str, median_ms: float, p99_ms: float) -> Chip:
    """A single long stall is worth a look, a loop that is late half of the time is a fault; warming up is neither."""
    story = f"How late the lab's own loop wakes: median {median_ms:.1f} ms, 99th percentile {p99_ms:.1f} ms (your time)"
    tone = "bad" if median_ms >= 50 or p99_ms >= 2_000 else "warn" if p99_ms >= 250 else "good"
    if state in ("starting", "warming_up"):
        tone, story = "muted", story + "; the lab is still warming up"
    return Chip(key="loop lag", label="loop lag", text=f"{p99_ms:.0f} ms", tone=tone, title=story)


def _scheduler_chip(loops: Sequence[LoopRow]) -> Chip:
    late = sum(row.missed + row.overruns for row in loops)
    runs = sum(row.runs for row in loops)
    detail = " · ".join(f"{words(row.name)}: {row.missed} missed, {row.overruns} too long" for row in loops)
    calm = late <= max(LATE_RUNS_FORGIVEN, LATE_SHARE_FORGIVEN * runs)
    title = f"{late} of {runs:,} runs since the start. {detail}"
    return Chip(key="scheduler", label="late runs", text=str(late), tone="muted" if calm else "warn", title=title)


def _learning_chip(row: LearningRow) -> Chip:
    weights = ", ".join(f"{words(name)} {weight:.0%}" for name, weight in sorted(row.expert_weights.items()))
    title = (
        f"{row.labels:,} labels learned; calibration slope {row.calibration_slope:.2f} "
        f"(at least {row.calibration_slope_lower:.2f}); skill {row.skill_millinats:.1f} millinats a label"
    )
    return Chip(
        key="learning",
        label="learned",
        text=f"{row.labels:,} labels",
        tone="good" if row.calibration_slope_lower > 0 else "warn",
        title=f"{title}; experts: {weights}" if weights else title,
    )


def symbol_line(row: SymbolRow, time_ms: int, held: str = "") -> SymbolLine:
    """One symbol of the live table at market time `time_ms`; `held` is the side of its position."""
    places = price_places(row)
    mid = spread = None
    if row.bid_price is not None and row.ask_price is not None:
        mid = (row.bid_price + row.ask_price) / 2
        spread = row.ask_price - row.bid_price
    return SymbolLine(
        key=row.symbol,
        bid=price(row.bid_price, places),
        ask=price(row.ask_price, places),
        mid=None if mid is None else float(mid),
        spread=NOTHING if not mid or spread is None else f"{float(spread / mid) * 10_000:.2f}",
        mark=price(row.mark_price, places),
        funding=NOTHING if row.funding_rate is None else signed(float(row.funding_rate) * 100, 4) + " %",
        funding_tone="" if row.funding_rate is None else tone_of(row.funding_rate),
        next_funding_ms=row.next_funding_time_ms,
        change=NOTHING if row.change_24h is None else signed(row.change_24h * 100, 2) + " %",
        change_tone="" if row.change_24h is None else tone_of(row.change_24h),
        liquidity=round(min(1.0, max(0.0, row.liquidity_score)), 3),
        quoted_ms=None if row.age_ms is None else time_ms - row.age_ms,
        held=held,
        problem=row.stale_because,
    )


@remembered
def decision_lines(decisions: tuple[Decision, ...]) -> tuple[DecisionLine, ...]:
    """The latest decision of each symbol, newest first."""
    newest_first = sorted(decisions, key=lambda decision: (-decision.time_ms, decision.symbol))
    return tuple(_decision_line(decision) for decision in newest_first)


def _decision_line(decision: Decision) -> DecisionLine:
    action, tone = _ACTION_WORDS[decision.action]
    edge, left = basis_points(decision.edge), basis_points(decision.expected_value)
    costs = basis_points(decision.edge - decision.expected_value)
    return DecisionLine(
        key=decision.symbol,
        time_ms=decision.time_ms,
        action=action,
        tone=tone,
        reason=_reason(decision),
        numbers=(
            f"{'long' if decision.side > 0 else 'short'} pays with p {decision.probability:.1%} · "
            f"edge {edge} − costs {costs} = {left} bp"
        ),
        change=flip_words(decision),
    )


def _reason(decision: Decision) -> str:
    """The primary reason, with the numbers its gate compared if it is one."""
    details = {gate.name: gate.detail for gate in decision.gates}
    detail = details.get(decision.primary_reason, "")
    return decision_words(decision) + (f": {true_minus(detail)}" if detail else "")


@remembered
def event_lines(events: tuple[EventRow, ...]) -> tuple[EventLine, ...]:
    """The last lines of the event log, newest first. Equal lines of one moment are shown once."""
    lines: dict[str, EventLine] = {}
    for event in reversed(events[-EVENTS_SHOWN:]):
        key = f"{event.time_ms} {event.text}"
        tone = _SEVERITY_TONES.get(event.severity, "warn")
        lines.setdefault(key, EventLine(key=key, time_ms=event.time_ms, text=true_minus(event.text), tone=tone))
    return tuple(lines.values())


def monitor_html(view: MonitorView, clock: Clock) -> str:
    """The live monitor as plain HTML without script, for a saved notebook, nbconvert and code hosts."""
    figures = " &nbsp; ".join(f"{html.escape(each.label)} <b>{html.escape(each.text)}</b>" for each in view.account)
    chips = " &nbsp; ".join(f"{html.escape(each.label)} <b>{html.escape(each.text)}</b>" for each in view.chips)
    symbols = page_table(
        ("Symbol", "Bid", "Ask", "Spread bp", "Mark", "Funding", "24 h"),
        [
            (row.key, row.bid, row.ask, row.spread, row.mark, row.funding, row.change)
            for row in view.symbols[:STILL_ROWS]
        ],
    )
    if (more := len(view.symbols) - STILL_ROWS) > 0:
        symbols += f"<p>… and {more} more symbols.</p>"
    decisions = page_table(
        ("Decided", "Symbol", "Action", "Why", "Numbers"),
        [(utc_time(row.time_ms), row.key, row.action, row.reason, row.numbers) for row in view.decisions],
    )
    return (
        page_head("Live monitor", view.header, clock)
        + f"<p>{figures}</p><p>{chips}</p>{symbols}"
        + (positions_table(view.positions) if view.positions else "<p>No open position.</p>")
        + (decisions if view.decisions else "")
    )
