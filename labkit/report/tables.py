"""Tables of one day, as pandas DataFrames rounded for reading.

`.attrs["units"]` gives the unit of each column, `.attrs["money"]` names the columns of results in the quote asset.
For exact money use `labkit.report.metrics`. Percentages exist only here. Used by the report notebook and by people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from labkit.domain.clock import MINUTE_MS
from labkit.domain.day_history import DayHistory
from labkit.domain.decisions import Action
from labkit.domain.reasons import exit_words, flip_words, reason_words
from labkit.domain.snapshot import EventRow
from labkit.report import metrics
from labkit.report.days import clock_text
from labkit.report.metrics import PnlSplit

if TYPE_CHECKING:
    import pandas as pd

QUOTE = "USDT"
CENTS = 2
PRICE_DIGITS = 7
BPS = 10_000
TOTAL = "total"
SPLIT = ("price", "slippage", "fees", "funding", "net")
MONEY = {*SPLIT, "amount", "unrealised", "average win", "average loss", "best", "worst"}

SPLIT_UNITS = dict.fromkeys(SPLIT, QUOTE)


def equity_bridge(history: DayHistory) -> pd.DataFrame:
    """How opening equity became closing equity, step by step."""
    bridge = metrics.in_whole_cents(metrics.equity_bridge(history))
    steps: list[tuple[str, Decimal]] = [
        ("opening equity", bridge.opening),
        ("deposits", bridge.deposits),
        ("price moves, booked", bridge.booked.price),
        ("slippage", bridge.booked.slippage),
        ("fees", bridge.booked.fees),
        ("funding", bridge.booked.funding),
        ("other", bridge.other),
        ("open positions, change at mark", bridge.unrealized),
        ("closing equity", bridge.closing),
    ]
    shown = [step for step in steps if step[1] or step[0] not in ("deposits", "other")]
    return frame_of(
        {"step": [name for name, _ in shown], "amount": [_cents(amount) for _, amount in shown]}, {"amount": QUOTE}
    )


def pnl_by_symbol(history: DayHistory) -> pd.DataFrame:
    """What was booked on the day by symbol, split, with the number of trades closed."""
    closed = Counter(trade.symbol for trade in history.trades)
    return _split_table("symbol", metrics.split_by_symbol(history), closed)


def pnl_by_hour(history: DayHistory) -> pd.DataFrame:
    """What was booked on the day by UTC hour, split, with the number of trades closed."""
    closed = Counter(clock_text(trade.closed_ms)[:2] + ":00" for trade in history.trades)
    return _split_table("hour", {f"{h:02d}:00": split for h, split in metrics.split_by_hour(history).items()}, closed)


def pnl_by_side(history: DayHistory) -> pd.DataFrame:
    """The trades closed on the day by side, split; the total is what the day booked."""
    return _split_table("side", metrics.split_by_side(history), Counter(trade.side for trade in history.trades))


def pnl_by_exit_reason(history: DayHistory) -> pd.DataFrame:
    """The trades closed on the day by exit reason, split; the total is what the day booked."""
    closed = Counter(exit_words(trade.exit_reason) for trade in history.trades)
    splits = {exit_words(reason): split for reason, split in metrics.split_by_exit_reason(history).items()}
    return _split_table("exit reason", splits, closed)


def trades(history: DayHistory) -> pd.DataFrame:
    """Every round trip closed on the day: what the trader expected of it, how it ended and what it earned."""
    entries = [history.entry_decisions.get(trade.entry_order) for trade in history.trades]
    splits = [metrics.in_cents(metrics.of_trade(trade)) for trade in history.trades]
    return frame_of(
        {
            "opened": [clock_text(trade.opened_ms, seconds=True) for trade in history.trades],
            "held": [round((trade.closed_ms - trade.opened_ms) / MINUTE_MS, 1) for trade in history.trades],
            "symbol": [trade.symbol for trade in history.trades],
            "side": [trade.side for trade in history.trades],
            "quantity": [_digits(trade.quantity) for trade in history.trades],
            "entry": [_digits(trade.entry_price) for trade in history.trades],
            "exit": [_digits(trade.exit_price) for trade in history.trades],
            "chance": [round(100 * entry.probability, 1) if entry else None for entry in entries],
            "expected": [round(BPS * entry.expected_value, 1) if entry else None for entry in entries],
            "exit reason": [exit_words(trade.exit_reason) for trade in history.trades],
            **_split_columns(splits),
        },
        {
            "opened": "UTC",
            "held": "min",
            "entry": QUOTE,
            "exit": QUOTE,
            "chance": "%",
            "expected": "bps",
            **SPLIT_UNITS,
        },
    )


def open_positions(history: DayHistory) -> pd.DataFrame:
    """What was still open at the end of the day, with its exits."""
    rows = history.open_positions
    return frame_of(
        {
            "opened": [clock_text(row.opened_ms, seconds=True) for row in rows],
            "symbol": [row.symbol for row in rows],
            "side": ["long" if row.quantity > 0 else "short" for row in rows],
            "quantity": [_digits(abs(row.quantity)) for row in rows],
            "entry": [_digits(row.entry_price) for row in rows],
            "mark": [_digits(row.mark_price) for row in rows],
            "stop": [_digits(row.stop_price) for row in rows],
            "target": [_digits(row.target_price) for row in rows],
            "unrealised": [_cents(row.unrealized_pnl) for row in rows],
        },
        {"opened": "UTC", "entry": QUOTE, "mark": QUOTE, "stop": QUOTE, "target": QUOTE, "unrealised": QUOTE},
    )


def trade_statistics(history: DayHistory) -> pd.DataFrame:
    """Closed trades in figures: all, long and short."""
    groups = {
        "all": metrics.trade_statistics(history.trades),
        "long": metrics.trade_statistics(trade for trade in history.trades if trade.side == "long"),
        "short": metrics.trade_statistics(trade for trade in history.trades if trade.side == "short"),
    }
    rows = groups.values()
    return frame_of(
        {
            "trades": list(groups),
            "count": [row.count for row in rows],
            "won": [row.wins for row in rows],
            "win rate": [_percent(row.win_rate) for row in rows],
            "profit factor": [None if row.profit_factor is None else round(row.profit_factor, 2) for row in rows],
            "average win": [_cents(row.average_win) for row in rows],
            "average loss": [_cents(row.average_loss) for row in rows],
            "best": [_cents(row.best) for row in rows],
            "worst": [_cents(row.worst) for row in rows],
            "median held": [
                None if row.median_holding_ms is None else round(row.median_holding_ms / MINUTE_MS, 1) for row in rows
            ],
            "net": [_cents(row.net_pnl) for row in rows],
        },
        {
            "win rate": "%",
            "average win": QUOTE,
            "average loss": QUOTE,
            "best": QUOTE,
            "worst": QUOTE,
            "median held": "min",
            "net": QUOTE,
        },
    )


def decisions_by_symbol(history: DayHistory) -> pd.DataFrame:
    """How often each symbol was decided on, and how it went."""
    counts: dict[str, Counter[Action]] = {symbol: Counter() for symbol in history.symbols}
    for decision in history.decisions:
        counts.setdefault(decision.symbol, Counter())[decision.action] += 1
    columns = {
        "long": Action.ENTER_LONG,
        "short": Action.ENTER_SHORT,
        "refused": Action.REFUSE,
        "held": Action.HOLD,
        "exits": Action.EXIT,
    }
    return frame_of(
        {
            "symbol": list(counts),
            "decisions": [sum(count.values()) for count in counts.values()],
            **{name: [count[action] for count in counts.values()] for name, action in columns.items()},
        },
        {},
    )


def refusals(history: DayHistory) -> pd.DataFrame:
    """Why entries were refused, and for each reason the refusal that came nearest to a trade."""
    counts = metrics.decision_counts(history.decisions)
    nearest = metrics.nearest_refusals(history.decisions)
    best = [nearest[reason] for reason in counts.refused]
    return frame_of(
        {
            "reason": [reason_words(Action.REFUSE, reason) for reason in counts.refused],
            "count": list(counts.refused.values()),
            "share": [round(100 * count / counts.total, 1) for count in counts.refused.values()],
            "nearest": [f"{decision.symbol} {clock_text(decision.time_ms)}" for decision in best],
            "expected": [round(BPS * decision.expected_value, 1) for decision in best],
            "what would have changed it": [flip_words(decision) for decision in best],
        },
        {"share": "% of decisions", "nearest": "UTC", "expected": "bps"},
    )


def learning(history: DayHistory) -> pd.DataFrame:
    """How the learner stood when the day began and when it ended."""
    if not history.learning:
        return frame_of({"measure": [], "first": [], "last": [], "change": []}, {})
    first, last = history.learning[0].learning, history.learning[-1].learning
    names = sorted({*first.expert_weights, *last.expert_weights})
    rows: list[tuple[str, float, float, int]] = [
        ("labels learned", first.labels, last.labels, 0),
        ("skill (millinats per label)", first.skill_millinats, last.skill_millinats, 3),
        ("calibration slope", first.calibration_slope, last.calibration_slope, 3),
        ("calibration slope, lower bound", first.calibration_slope_lower, last.calibration_slope_lower, 3),
        *(
            (f"weight of expert {name} (%)", 100 * first.expert_weights.get(name, 0.0), 100 * w, 1)
            for name, w in ((name, last.expert_weights.get(name, 0.0)) for name in names)
        ),
    ]
    return frame_of(
        {
            "measure": [name for name, *_ in rows],
            "first": [_rounded(a, n) for _, a, _, n in rows],
            "last": [_rounded(b, n) for _, _, b, n in rows],
            "change": [_rounded(b - a, n) for _, a, b, n in rows],
        },
        {},
    )


def warnings(history: DayHistory) -> pd.DataFrame:
    """Warnings and alarms of the day."""
    return _event_table(event for event in history.events if event.severity != "info")


def events(history: DayHistory) -> pd.DataFrame:
    """The day's whole log: feed, breaker, orders, what people did."""
    return _event_table(history.events)


def books(history: DayHistory) -> pd.DataFrame:
    """The day's flows, one by one, held against the account's own totals. The difference must be zero."""
    flows, difference = metrics.booked(history), metrics.imbalance(history)
    rows = {
        "price and slippage": (flows.price + flows.slippage, difference.price),
        "fees": (flows.fees, difference.fees),
        "funding": (flows.funding, difference.funding),
        "net": (flows.net, difference.net),
    }
    return frame_of(
        {
            "origin": list(rows),
            "sum of flows": [str(flow) for flow, _ in rows.values()],
            "account": [str(flow - apart) for flow, apart in rows.values()],
            "difference": [str(apart.normalize() + 0) for _, apart in rows.values()],
        },
        {"sum of flows": QUOTE, "account": QUOTE, "difference": QUOTE},
    )


def provenance(history: DayHistory) -> pd.DataFrame:
    """Which part of which history this is: the same rows give the same report."""
    rows = {
        "ledger records": f"{history.first_sequence} to {history.last_sequence}",
        "hash of the last record": history.ledger_hash,
        "configuration": history.config_fingerprint,
        "market": history.market,
        "virtual positions closed into labels": f"{history.virtual_closed:,}",
    }
    return frame_of({"what": list(rows), "value": list(rows.values())}, {})


def _event_table(events: Iterable[EventRow]) -> pd.DataFrame:
    rows = list(events)
    return frame_of(
        {
            "time": [clock_text(event.time_ms, seconds=True) for event in rows],
            "severity": [event.severity for event in rows],
            "event": [event.text for event in rows],
        },
        {"time": "UTC"},
    )


def _split_table(name: str, splits: Mapping[str, PnlSplit], closed: Counter[str]) -> pd.DataFrame:
    counts = [closed[key] for key in splits]
    shown = metrics.all_in_cents(splits)
    return frame_of(
        {
            name: [*shown, TOTAL],
            "trades": [*counts, sum(counts)],
            **_split_columns([*shown.values(), metrics.total(shown.values())]),
        },
        {**SPLIT_UNITS, **({"hour": "UTC"} if name == "hour" else {})},
    )


def _split_columns(splits: Iterable[PnlSplit]) -> dict[str, list[float | None]]:
    """Splits that are in whole cents: whoever adds up what is shown gets what is shown."""
    rows = list(splits)
    return {part: [_cents(getattr(row, part)) for row in rows] for part in SPLIT_UNITS}


def frame_of(columns: Mapping[str, list[Any]], units: Mapping[str, str]) -> pd.DataFrame:
    """A table with its units and with the columns that are results in money marked."""
    import pandas as pd

    frame = pd.DataFrame(dict(columns))
    frame.attrs["units"] = dict(units)
    frame.attrs["money"] = [name for name in frame.columns if name in MONEY]
    return frame


def _rounded(value: float, digits: int) -> float:
    """Rounded, and never minus zero."""
    return round(value, digits) + 0.0


def _cents(amount: Decimal | None) -> float | None:
    return None if amount is None else _rounded(float(amount), CENTS)


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else _rounded(100 * fraction, 1)


def _digits(value: Decimal | None) -> float | None:
    """A price or quantity to as many significant digits as a person reads."""
    return None if value is None else float(f"{value:.{PRICE_DIGITS}g}")
