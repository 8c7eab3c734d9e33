"""Snapshot → what a person reads: strings, tones and fractions, ready to be shown as they are.

Pure functions and plain records. Prices are written with the decimals the symbol is quoted in, amounts in quote
asset, times as UTC milliseconds of the market (the browser turns them into ages, so that an age keeps growing when
nobody sends any more). `tone` is `good`, `bad`, `warn`, `muted` or empty; what it looks like is the style sheet's
business. Called by the widgets; knows none of them.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Protocol

import msgspec

from labkit.domain.decisions import Action, Decision
from labkit.domain.snapshot import (
    AccountRow,
    BreakerRow,
    EventRow,
    LearningRow,
    PositionRow,
    Snapshot,
    StreamRow,
    SymbolRow,
)

MINUS = "−"
NOTHING = "–"
EVENTS_SHOWN = 40

FINAL_STATES = frozenset({"stopped", "failed"})
_STATE_TONES = {
    "running": "good",
    "starting": "warn",
    "warming_up": "warn",
    "stopping": "warn",
    "stopped": "muted",
    "failed": "bad",
}
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


class LabLike(Protocol):
    """The little of a lab a widget needs: looking at it, and four wishes."""

    def snapshot(self) -> Snapshot: ...

    def close_position(self, symbol: str, quantity: Decimal | None = None) -> None:
        """Ask for `symbol` to be closed (`quantity` of it if given). Raises `LabkitError` with a plain reason."""
        ...

    def pause_entries(self, reason: str) -> None: ...

    def resume_entries(self) -> None: ...


class Clock(msgspec.Struct, frozen=True):
    """Market time of a view (0 if not known yet), and how fast it runs on (0 if the browser must not count on)."""

    time_ms: int
    speed: float


class Header(msgspec.Struct, frozen=True, kw_only=True):
    market: str
    disclosure: str
    pace: str
    """How much faster than life, in words; empty at the speed of life."""
    state: str
    state_detail: str
    state_tone: str
    final: bool
    """True if nothing will ever change again: silence is then no fault."""
    entries_paused: str


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One labelled number of the account line."""

    key: str
    label: str
    text: str
    tone: str = ""
    title: str = ""


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
    problem: str


class PositionLine(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    side: str
    side_tone: str
    quantity: str
    entry: str
    now: str
    """What closing now would pay."""
    mark: str
    pnl: str
    pnl_percent: str
    pnl_tone: str
    stop: str
    target: str
    trailing: str
    liquidation: str
    progress: float | None
    """Where the price stands between stop (0) and target (1)."""
    entry_mark: float | None
    """Where the entry price stands on the same way."""
    opened_ms: int
    due_ms: int | None
    reason: str
    closing: bool


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


class PositionsView(msgspec.Struct, frozen=True, kw_only=True):
    """All that the table of positions shows."""

    header: Header
    total: Figure
    positions: tuple[PositionLine, ...]


def monitor_view(snapshot: Snapshot) -> MonitorView:
    """The live monitor's view of one moment."""
    return MonitorView(
        header=header_of(snapshot),
        account=account_figures(snapshot.account),
        chips=chips_of(snapshot),
        symbols=tuple(symbol_line(row, snapshot.time_ms) for row in snapshot.symbols),
        positions=position_lines(snapshot),
        decisions=decision_lines(snapshot.decisions),
        events=event_lines(snapshot.events),
    )


def positions_view(snapshot: Snapshot) -> PositionsView:
    """The position table's view of one moment."""
    total = sum((row.unrealized_pnl for row in snapshot.positions), Decimal(0))
    return PositionsView(
        header=header_of(snapshot),
        total=Figure(key="total", label="Unrealised PnL", text=signed_money(total), tone=tone_of(total)),
        positions=position_lines(snapshot),
    )


def clock_of(snapshot: Snapshot) -> Clock:
    """Market time to count on from; it stands still in a lab that has ended or runs in virtual time."""
    runs = snapshot.time_ms > 0 and snapshot.state not in FINAL_STATES and math.isfinite(snapshot.speed)
    return Clock(snapshot.time_ms, snapshot.speed if runs else 0.0)


def header_of(snapshot: Snapshot) -> Header:
    return Header(
        market=snapshot.market,
        disclosure=snapshot.disclosure,
        pace=pace_in_words(snapshot.speed),
        state=words(snapshot.state),
        state_detail=snapshot.state_detail,
        state_tone=_STATE_TONES.get(snapshot.state, "warn"),
        final=snapshot.state in FINAL_STATES,
        entries_paused=snapshot.entries_paused,
    )


def pace_in_words(speed: float) -> str:
    """`30× faster than life`; empty at speed 1."""
    if not math.isfinite(speed):
        return "as fast as possible"
    if speed == 1:
        return ""
    return f"{speed:g}× faster than life" if speed > 1 else f"{1 / speed:g}× slower than life"


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
    """Health at a glance: connections, breaker, loop lag, scheduler, learner."""
    chips = [_stream_chip(row) for row in snapshot.streams]
    if snapshot.breaker is not None:
        chips.append(_breaker_chip(snapshot.breaker))
    chips.append(_lag_chip(snapshot.loop_lag_ms_p50, snapshot.loop_lag_ms_p99))
    if late := sum(row.missed + row.overruns for row in snapshot.loops):
        detail = " · ".join(
            f"{words(row.name)}: {row.missed} missed, {row.overruns} too long" for row in snapshot.loops
        )
        chips.append(Chip(key="scheduler", label="late runs", text=str(late), tone="warn", title=detail))
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
    share = row.weight_used / row.weight_limit if row.weight_limit else 0.0
    title = f"{level} since {utc_time(row.since_ms)}"
    title += f" because {row.cause}" if row.cause else ""
    title += f"; next probe {utc_time(row.next_probe_ms)}" if row.next_probe_ms is not None else ""
    title += f"; request weight {row.weight_used} of {row.weight_limit} ({share:.0%})"
    text = level + (f": {row.cause}" if row.cause else "")
    return Chip(key="breaker", label="breaker", text=text, tone=_BREAKER_TONES.get(row.level, "warn"), title=title)


def _lag_chip(median_ms: float, p99_ms: float) -> Chip:
    tone = "good" if p99_ms < 50 else "warn" if p99_ms < 500 else "bad"
    title = f"How late the lab's own loop wakes: median {median_ms:.1f} ms, 99th percentile {p99_ms:.1f} ms (your time)"
    return Chip(key="loop lag", label="loop lag", text=f"{p99_ms:.0f} ms", tone=tone, title=title)


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


def symbol_line(row: SymbolRow, time_ms: int) -> SymbolLine:
    """One symbol of the live table at market time `time_ms`."""
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
        problem=row.stale_because,
    )


def position_lines(snapshot: Snapshot) -> tuple[PositionLine, ...]:
    """The open positions, largest winner and loser findable by name: in the order of the snapshot."""
    places = {row.symbol: price_places(row) for row in snapshot.symbols}
    return tuple(_position_line(row, places.get(row.symbol, 2)) for row in snapshot.positions)


def _position_line(row: PositionRow, places: int) -> PositionLine:
    is_long = row.quantity > 0
    cost = abs(row.quantity * row.entry_price)
    stop = row.stop_price if row.trailing_stop_price is None else _nearer_stop(row, is_long=is_long)
    return PositionLine(
        key=row.symbol,
        side="long" if is_long else "short",
        side_tone="good" if is_long else "bad",
        quantity=f"{abs(row.quantity).normalize():,f}",
        entry=price(row.entry_price, places),
        now=price(row.exit_price, places),
        mark=price(row.mark_price, places),
        pnl=signed_money(row.unrealized_pnl),
        pnl_percent=signed(float(row.unrealized_pnl / cost) * 100, 2) + " %" if cost else "",
        pnl_tone=tone_of(row.unrealized_pnl),
        stop=price(row.stop_price, places),
        target=price(row.target_price, places),
        trailing=price(row.trailing_stop_price, places),
        liquidation=price(row.liquidation_price, places),
        progress=_way(row.exit_price, stop, row.target_price),
        entry_mark=_way(row.entry_price, stop, row.target_price),
        opened_ms=row.opened_ms,
        due_ms=row.due_ms,
        reason=words(row.entry_reason),
        closing=row.closing,
    )


def _nearer_stop(row: PositionRow, *, is_long: bool) -> Decimal | None:
    stops = [stop for stop in (row.stop_price, row.trailing_stop_price) if stop is not None]
    return max(stops) if is_long else min(stops)


def _way(at: Decimal | None, stop: Decimal | None, target: Decimal | None) -> float | None:
    """How far `at` is on the way from stop to target, within [0, 1]; the same for long and short."""
    if at is None or stop is None or target is None or stop == target:
        return None
    return round(min(1.0, max(0.0, float((at - stop) / (target - stop)))), 3)


def decision_lines(decisions: Iterable[Decision]) -> tuple[DecisionLine, ...]:
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
        change=decision.smallest_change,
    )


def _reason(decision: Decision) -> str:
    """The primary reason, with the numbers its gate compared if it is one."""
    details = {gate.name: gate.detail for gate in decision.gates}
    detail = details.get(decision.primary_reason, "")
    return words(decision.primary_reason) + (f": {detail}" if detail else "")


def event_lines(events: Sequence[EventRow]) -> tuple[EventLine, ...]:
    """The last lines of the event log, newest first. Equal lines of one moment are shown once."""
    lines: dict[str, EventLine] = {}
    for event in reversed(events[-EVENTS_SHOWN:]):
        key = f"{event.time_ms} {event.text}"
        tone = _SEVERITY_TONES.get(event.severity, "warn")
        lines.setdefault(key, EventLine(key=key, time_ms=event.time_ms, text=event.text, tone=tone))
    return tuple(lines.values())


def price_places(row: SymbolRow) -> int:
    """Decimals this symbol is quoted in, judged by its bid and ask."""
    return max((_places(value) for value in (row.bid_price, row.ask_price) if value is not None), default=2)


def _places(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def price(value: Decimal | None, places: int) -> str:
    return NOTHING if value is None else f"{value:,.{places}f}"


def money(amount: Decimal) -> str:
    """An amount in quote asset, two decimals."""
    return f"{amount:,.2f}".replace("-", MINUS)


def signed_money(amount: Decimal) -> str:
    """The same with its sign; what rounds to nothing has none."""
    text = f"{amount:+,.2f}"
    return text[1:] if text in ("+0.00", "-0.00") else text.replace("-", MINUS)


def signed(value: float, places: int) -> str:
    text = f"{value:+.{places}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def percent(fraction: float) -> str:
    return f"{fraction * 100:.1f} %".replace("-", MINUS)


def basis_points(fraction: float) -> str:
    return f"{fraction * 10_000:.1f}".replace("-", MINUS)


def tone_of(value: Decimal | float) -> str:
    return "good" if value > 0 else "bad" if value < 0 else ""


def words(name: str) -> str:
    """A name of the code as words of a sentence: `warming_up` → `warming up`."""
    return name.replace("_", " ")


def utc_time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%H:%M:%S")


def utc_date_time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def monitor_html(view: MonitorView, clock: Clock) -> str:
    """The live monitor as plain HTML without script, for a saved notebook, nbconvert and code hosts."""
    figures = " &nbsp; ".join(f"{html.escape(each.label)} <b>{html.escape(each.text)}</b>" for each in view.account)
    chips = " &nbsp; ".join(f"{html.escape(each.label)} <b>{html.escape(each.text)}</b>" for each in view.chips)
    symbols = page_table(
        ("Symbol", "Bid", "Ask", "Spread bp", "Mark", "Funding", "24 h"),
        [(row.key, row.bid, row.ask, row.spread, row.mark, row.funding, row.change) for row in view.symbols],
    )
    decisions = page_table(
        ("Decided", "Symbol", "Action", "Why", "Numbers"),
        [(utc_time(row.time_ms), row.key, row.action, row.reason, row.numbers) for row in view.decisions],
    )
    return (
        page_head("Live monitor", view.header, clock)
        + f"<p>{figures}</p><p>{chips}</p>{symbols}"
        + (_positions_table(view.positions) if view.positions else "<p>No open position.</p>")
        + (decisions if view.decisions else "")
    )


def positions_html(view: PositionsView, clock: Clock) -> str:
    """The position table as plain HTML without script or buttons."""
    return page_head("Positions", view.header, clock) + (
        _positions_table(view.positions) if view.positions else "<p>No open position.</p>"
    )


def page_head(title: str, header: Header, clock: Clock) -> str:
    """The first lines of any widget as plain HTML."""
    facts = [
        f"{header.market} market",
        header.pace,
        header.state,
        utc_date_time(clock.time_ms) if clock.time_ms else "",
    ]
    line = " · ".join(html.escape(fact) for fact in facts if fact)
    trouble = f"<br><b>{html.escape(header.state_detail)}</b>" if header.state == "failed" else ""
    return (
        f"<p><b>{title}</b> — {line}{trouble}<br><i>{html.escape(header.disclosure)}</i><br>"
        "<small>A still picture of that moment: run the cell again to see it live.</small></p>"
    )


def _positions_table(lines: Iterable[PositionLine]) -> str:
    return page_table(
        ("Symbol", "Side", "Quantity", "Entry", "Now", "PnL", "Stop", "Target", "Why"),
        [
            (row.key, row.side, row.quantity, row.entry, row.now, f"{row.pnl} ({row.pnl_percent})", *exits)
            for row in lines
            for exits in [(row.stop, row.target, row.reason)]
        ],
    )


def page_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain HTML table of escaped text."""
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
