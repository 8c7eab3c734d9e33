"""One compiled run of the trader over bars: the live minute, the live judgement, the live exits, at a broker on bars.

`simulate` lives through a market with the very step (`labkit.trader.step`), policy and exit rules of the running lab;
only the exchange is replaced by `labkit.research.brokerage`. `follow` trades ready-made orders (a rule's) through the
same broker without a learner.

Known differences from a lab that lives through the same market: orders are filled at the open of the next bar instead
of some hundred milliseconds after the close; a position is marked at the last close instead of the mark price; expected
funding is the last settled rate instead of the exchange's running estimate; order-rate limits are not simulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.config import Config
from labkit.domain.clock import MINUTE_MS
from labkit.domain.symbol_rules import SymbolRules
from labkit.edge.progress import followed
from labkit.errors import ConfigError
from labkit.research.brokerage import (
    ACCOUNT,
    POSITION,
    TRADE,
    Finer,
    Terms,
    advance_best,
    is_quiet,
    leave,
    meet_bar,
    open_profit,
    want,
)
from labkit.research.compiling import compiled
from labkit.research.lessons import (
    NO_NOTES,
    Lessons,
    note_decision,
    note_learned,
    recall_decision,
    recall_learned,
)
from labkit.research.markets import Market, whole_days
from labkit.trader.features import CLOSE, HIGH, LOW, MINUTES_PER_DAY, is_usable
from labkit.trader.learner import EXPERT_COUNT, calibration_slope, usable_slope
from labkit.trader.policy import judge, prefers_other_side, unforeseen_gap
from labkit.trader.state import ANSWER, Settings, State, new_state, settings_of
from labkit.trader.step import FIRST_QUESTION_BARS, is_due, live_minute, nobody_else, scratch

EXECUTION_GAP_RATE = 0.1
OUTCOMES = (
    "entered",
    "model_flip",
    "holding",
    "bar_present",
    "warm",
    "features_sane",
    "volatility",
    "drawdown",
    "drift",
    "calibrated",
    "proven",
    "expected_value",
    "size",
    "open_positions",
    "daily_loss",
    "order_size",
)
"""What a decision came to: an entry, an exit, a hold, or the gate that refused, as the ledger names them."""
(
    ENTERED,
    FLIPPED,
    HELD,
    NO_BAR,
    NOT_WARM,
    FEATURES_SUSPECT,
    NO_VOLATILITY,
    DRAWDOWN,
    DRIFT,
    NOT_CALIBRATED,
    NOT_PROVEN,
    TOO_LITTLE_VALUE,
    NO_SIZE,
    TOO_MANY_OPEN,
    DAILY_LOSS,
    NO_ORDER,
) = range(len(OUTCOMES))

DECISION = np.dtype(
    [
        ("minute", "i8"),
        ("symbol", "i8"),
        ("outcome", "i8"),
        ("side", "i8"),
        ("p", "f8"),
        ("barrier", "f8"),
        ("slope", "f8"),
        ("edge", "f8"),
        ("cost", "f8"),
        ("expected_value", "f8"),
        ("leverage", "f8"),
    ]
)

DAY = np.dtype(
    [
        ("day", "i8"),
        ("equity", "f8"),
        ("commission", "f8"),
        ("funding", "f8"),
        ("trades", "i8"),
        ("skill", "f8"),
        ("weight", "f8"),
        ("labels", "i8"),
        ("slope", "f8"),
        ("usable_slope", "f8"),
        ("log_weights", "f8", (EXPERT_COUNT,)),
    ]
)
"""How the account and the learner stood at the end of a UTC day. Money, skill (nats) and trades are cumulative."""


class Costs(NamedTuple):
    """What the simulated exchange charges: taker fee and slippage per side, and the whole spread, as fractions.

    `spread` is one number, or float64[T, S]. What the trader expects to pay stands in its own configuration.
    """

    taker_fee: float
    slippage: float
    spread: float | NDArray[np.float64]


class Run(NamedTuple):
    """What came of it, as arrays of records; see `labkit.research.backtest` for tables and pictures."""

    trades: NDArray[Any]
    days: NDArray[Any]
    counts: NDArray[np.int64]
    """Decisions by `OUTCOMES`."""
    decisions: NDArray[Any]
    answers: NDArray[Any]
    """What the virtual positions asked at decisions came to (`labkit.trader.state.ANSWER`)."""
    account: NDArray[Any]
    state: State
    final_equity: float


def costs_of(config: Config, spread: float | NDArray[np.float64] = 0.0) -> Costs:
    """What the paper exchange of `config` charges; slippage as the trader expects it."""
    return Costs(float(config.paper.taker_fee_rate), config.trader.slippage_rate, spread)


def warm_bars(config: Config, span_minutes: int) -> int:
    """How many bars of a symbol are lived through before it may be entered."""
    return max(1, config.trader.warm_up_minutes // span_minutes, FIRST_QUESTION_BARS)


def settings_for(market: Market, config: Config) -> Settings:
    """The compiled step's settings at this market; symbols take turns on whole bars.

    Raises:
        ConfigError: bars longer than the time between decisions.
    """
    settings = settings_of(config.trader, len(market.symbols))
    span = market.span_minutes
    if settings.cadence % span or settings.horizon % span:
        raise ConfigError(
            f"bars of {span} minutes do not fit decisions every {settings.cadence} minutes with a time-out after "
            f"{settings.horizon}: make both multiples of {span}",
            field="trader.decision_every_minutes",
        )
    return settings._replace(stagger=max(1, settings.cadence // span // len(market.symbols)) * span)


def simulate(
    market: Market,
    config: Config,
    costs: Costs,
    *,
    foreign: NDArray[np.float64] | None = None,
    trade_from_ms: int = 0,
    rules: Mapping[str, SymbolRules] | None = None,
    keep_decisions: bool = False,
    trust: bool = False,
    stop: NDArray[np.int64] | None = None,
    progress: bool = False,
    lessons: Lessons | None = None,
) -> Run:
    """Live through `market` and trade it.

    Args:
        config: of trader and risk; its symbols do not matter, those of the market do.
        foreign: float64[T, S], probabilities of the long bracket to issue instead of the learner's; NaN: the learner's.
        trade_from_ms: no entries before this moment (UTC ms); learning goes on all the time.
        rules: round prices and quantities to the grid of these; nothing is rounded if None.
        keep_decisions: record every decision, not only how many there were.
        trust: take probabilities at face value and without a ramp or proof, as an oracle may be.
        stop: int64[1]; where another thread writes 1 into it, the run ends with the simulated day, unfinished.
        progress: show a bar of days, in a terminal or a notebook; the run is the same and as fast.
        lessons: of earlier runs of this very market by the learner itself; what was learned then is not learned again.
            Used only where decisions are kept.

    Raises:
        ConfigError: bars longer than the time between decisions.
    """
    count, symbols = market.rows.shape[:2]
    settings = settings_for(market, config)
    span = market.span_minutes
    if trust:
        settings = settings._replace(confidence_z=-np.inf, cold_start_weight=0.0, evidence_nats=0.0)
    state = new_state(settings, symbols)
    terms = terms_of(market, config, costs, rules)
    account, positions, days = new_books(market, float(config.paper.opening_balance))
    opportunities = count * span // settings.cadence * symbols + symbols
    trades = np.empty(opportunities, TRADE)
    decisions = np.empty(opportunities if keep_decisions else 0, DECISION)
    answers = np.empty(decisions.size, ANSWER)
    counts = np.zeros(len(OUTCOMES), np.int64)
    stopping = np.zeros(1, np.int64) if stop is None else stop
    # Another's probabilities teach differently.
    remembered = lessons if foreign is None and keep_decisions else None
    notes = remembered.notes(settings, opportunities, days.size) if remembered else NO_NOTES
    with followed(
        lambda: int(np.count_nonzero(days["day"])), "living through history", "day", days.size, shown=progress
    ):
        _live(
            settings, terms, state, account, positions, trades, days, decisions, answers, counts,
            market.minutes, market.rows, market.funding_minutes, market.funding_rates,
            market.finer or _no_finer(symbols),
            nobody_else(symbols) if foreign is None else foreign,
            warm_bars(config, span), trade_from_ms // MINUTE_MS,
            config.trader.taker_fee_rate, config.trader.slippage_rate, stopping, notes, *scratch(),
        )  # fmt: skip
    answered = answers[: state.common["closed"][0]] if keep_decisions else answers
    if remembered and notes.known_already:
        answered, state = remembered.recall(state)
    elif remembered and not stopping[0]:
        remembered.keep(settings, answered, state)
    return Run(
        trades[: account["trades"][0]],
        days,
        counts,
        decisions[: counts.sum()] if keep_decisions else decisions,
        answered,
        account,
        state,
        float(account["cash"][0]) + open_profit(positions),
    )


@compiled
def _live(
    settings: Any, terms: Any, state: Any, account: Any, positions: Any, trades: Any, days: Any, decisions: Any,
    answers: Any, counts: Any, minutes: Any, rows: Any, funding_minutes: Any, funding_rates: Any, finer: Any,
    foreign: Any, bars_needed: int, trade_from: int, expected_fee: float, expected_slippage: float, stop: Any,
    notes: Any, factor: Any, step: Any,
) -> None:  # fmt: skip
    symbols = rows.shape[1]
    half_spread, last_spread = terms.half_spread, terms.half_spread.shape[0] - 1
    books, common = account[0], state.common[0]
    first = minutes[0] // MINUTES_PER_DAY
    today = first
    decided = 0
    next_funding = np.zeros(symbols, np.int64)
    for t in range(minutes.size):
        minute = minutes[t]
        for s in range(symbols):
            position = positions[s]
            if position.side == 0 and position.wanted_side == 0:
                continue
            half = half_spread[min(t, last_spread), s]
            if position.side != 0 and is_quiet(
                position, minute, rows[t, s, HIGH], rows[t, s, LOW], half, funding_minutes[s, position.next_funding]
            ):  # fmt: skip
                position.last_price = rows[t, s, CLOSE]
                continue
            closed = books.trades
            meet_bar(
                terms, books, position, trades, finer, s, minute, rows[t, s], half, funding_minutes[s],
                funding_rates[s],
            )  # fmt: skip
            for i in range(closed, books.trades):
                symbol = state.symbols[s]
                symbol.execution_gap += EXECUTION_GAP_RATE * (trades[i].execution_gap - symbol.execution_gap)
        worth = books.cash + open_profit(positions)
        _note_worth(books, worth)
        if not notes.known_already:
            answered = common.closed
            live_minute(settings, state, minute, rows[t], foreign[min(t, foreign.shape[0] - 1)], factor, step)
            for n in range(answered, common.closed if answers.size > 0 else answered):
                answers[n] = state.answers[n % state.answers.size]
        end = minute + terms.span_minutes
        while end >= (today + 1) * MINUTES_PER_DAY:
            _learn_day(notes, today - first, common)
            _note_day(days[today - first], books, common, settings, today, worth)
            today += 1
            books.day_start = worth
            if stop[0] != 0:
                return
        if end < trade_from:
            continue
        drawdown = 1.0 - worth / books.peak
        for s in range(symbols):
            if not is_due(settings, minute, s):
                continue
            position = positions[s]
            symbol = state.symbols[s]
            if notes.known_already:
                recall_decision(notes.decisions[decided], common, symbol)
            elif notes.decisions.size > 0:
                note_decision(notes.decisions[decided], common, symbol)
            asked = symbol.asked_minute == minute
            p, barrier = 0.5, 0.0
            if asked:
                p, barrier = symbol.p, symbol.barrier
            half = half_spread[min(t, last_spread), s]
            slippage = 2.0 * expected_slippage
            cost = 2.0 * expected_fee + 2.0 * half + slippage + unforeseen_gap(symbol.execution_gap, slippage)
            long_funding = 0.0
            while funding_minutes[s, next_funding[s]] < end:
                next_funding[s] += 1
            if next_funding[s] > 0 and funding_minutes[s, next_funding[s]] < end + settings.horizon:
                long_funding = funding_rates[s, next_funding[s] - 1]
            verdict = judge(settings, common, p, barrier, cost, long_funding, drawdown)
            outcome = ENTERED
            if position.side != 0:
                outcome = HELD
                if asked and prefers_other_side(p, position.side):
                    outcome = FLIPPED
                    leave(position, symbol.last_close * (1.0 - position.side * half))
            elif symbol.last_minute != minute:
                outcome = NO_BAR
            elif symbol.bars < bars_needed:
                outcome = NOT_WARM
            elif symbol.suspect != 0:
                outcome = FEATURES_SUSPECT
            elif not barrier > 0.0:
                outcome = NO_VOLATILITY
            elif verdict.throttle <= 0.0:
                outcome = DRAWDOWN
            elif verdict.trust <= 0.0:
                outcome = DRIFT
            elif usable_slope(common, settings.confidence_z) <= 0.0:
                outcome = NOT_CALIBRATED
            elif verdict.proven <= 0.0:
                outcome = NOT_PROVEN
            elif verdict.expected_value <= verdict.threshold:
                outcome = TOO_LITTLE_VALUE
            elif verdict.leverage <= 0.0:
                outcome = NO_SIZE
            elif _open_positions(positions) >= terms.max_open_positions:
                outcome = TOO_MANY_OPEN
            elif worth - books.day_start <= -terms.max_daily_loss * books.day_start:
                outcome = DAILY_LOSS
            elif not want(
                terms, position, s, verdict.side, verdict.leverage, barrier, worth,
                symbol.last_close * (1.0 + verdict.side * half),
            ):  # fmt: skip
                outcome = NO_ORDER
            if decisions.size > 0:
                note = decisions[decided]
                note.minute, note.symbol, note.outcome, note.side = minute, s, outcome, verdict.side
                note.p, note.barrier, note.slope, note.edge = p, barrier, verdict.slope, verdict.edge
                note.cost, note.expected_value, note.leverage = verdict.cost, verdict.expected_value, verdict.leverage
            decided += 1
            counts[outcome] += 1
    worth = books.cash + open_profit(positions)
    if today - first < days.size:
        _learn_day(notes, today - first, common)
        _note_day(days[today - first], books, common, settings, today, worth)


@compiled
def _learn_day(notes: Any, day: int, common: Any) -> None:
    if notes.known_already:
        recall_learned(notes.days[day], common)
    elif notes.days.size > 0:
        note_learned(notes.days[day], common)


@compiled
def _note_worth(books: Any, worth: float) -> None:
    books.peak = max(books.peak, worth)
    books.worst_drawdown = max(books.worst_drawdown, 1.0 - worth / books.peak)


@compiled
def _open_positions(positions: Any) -> int:
    count = 0
    for s in range(positions.size):
        if positions[s].side != 0:
            count += 1
    return count


@compiled
def _note_day(row: Any, books: Any, common: Any, settings: Any, day: int, worth: float) -> None:
    row.day = day
    row.equity = worth
    row.commission = books.commission
    row.funding = books.funding
    row.trades = books.trades
    row.skill = common.skill
    row.weight = common.weight
    row.labels = common.labels
    row.slope = calibration_slope(common)
    row.usable_slope = usable_slope(common, settings.confidence_z)
    row.log_weights[:] = common.log_weights


def follow(
    market: Market,
    orders: NDArray[np.float64],
    distances: NDArray[np.float64],
    config: Config,
    costs: Costs,
    *,
    rules: Mapping[str, SymbolRules] | None = None,
) -> Run:
    """Trade the orders of a rule at the same broker, without a learner.

    Args:
        orders: float64[T, S], the position wanted after each bar's close: leverage, negative for short, 0 for no wish.
            A position is opened when flat, closed when the wish points the other way, and guarded by its bracket.
        distances: float64[T, S], stop and target of a position opened then, as fractions of the entry price.
    """
    account, positions, days = new_books(market, float(config.paper.opening_balance))
    trades = np.empty(int(np.count_nonzero(orders)) + 1, TRADE)
    _follow(
        terms_of(market, config, costs, rules), account, positions, trades, days, market.minutes, market.rows,
        market.funding_minutes, market.funding_rates, market.finer or _no_finer(len(market.symbols)), orders, distances,
    )  # fmt: skip
    settings = settings_of(config.trader, len(market.symbols))
    return Run(
        trades[: account["trades"][0]],
        days,
        np.zeros(len(OUTCOMES), np.int64),
        np.empty(0, DECISION),
        np.empty(0, ANSWER),
        account,
        new_state(settings, len(market.symbols)),
        float(account["cash"][0]) + open_profit(positions),
    )


@compiled
def _follow(
    terms: Any, account: Any, positions: Any, trades: Any, days: Any, minutes: Any, rows: Any, funding_minutes: Any,
    funding_rates: Any, finer: Any, orders: Any, distances: Any,
) -> None:  # fmt: skip
    count, symbols = orders.shape
    half_spread, last_spread = terms.half_spread, terms.half_spread.shape[0] - 1
    books = account[0]
    first = minutes[0] // MINUTES_PER_DAY
    today = first
    guided = finer.time_ms.size > 0
    following = np.empty(symbols, np.int64)
    for s in range(symbols):
        following[s] = _next_turn(positions[s], half_spread, s, minutes, rows, funding_minutes[s], orders, guided, 0)
    ends_day = np.searchsorted(minutes, (today + 1) * MINUTES_PER_DAY - terms.span_minutes)
    t = 0
    while t < count:
        # Nothing happens to anybody before the earliest of these.
        t = ends_day
        for s in range(symbols):
            t = min(t, following[s])
        if t >= count:
            break
        minute = minutes[t]
        for s in range(symbols):
            if following[s] != t:
                continue
            position, order, row = positions[s], orders[t, s], rows[t, s]
            half = half_spread[min(t, last_spread), s]
            if position.side != 0 and is_quiet(
                position, minute, row[HIGH], row[LOW], half, funding_minutes[s, position.next_funding]
            ):  # fmt: skip
                position.last_price = row[CLOSE]
            elif position.side != 0 or position.wanted_side != 0:
                # A bar that is missing leaves it marked at the one before.
                _mark(position, rows, s, t - 1)
                meet_bar(
                    terms, books, position, trades, finer, s, minute, row, half, funding_minutes[s], funding_rates[s]
                )  # fmt: skip
            if order != 0.0 and is_usable(row):
                way = 1 if order > 0.0 else -1
                if position.side == -way:
                    leave(position, row[CLOSE] * (1.0 - position.side * half))
                elif position.side == 0:
                    for other in range(symbols):
                        _mark(positions[other], rows, other, t if other < s else t - 1)
                    worth = books.cash + open_profit(positions)
                    want(terms, position, s, way, abs(order), distances[t, s], worth, row[CLOSE] * (1.0 + way * half))
            following[s] = _next_turn(
                position, half_spread, s, minutes, rows, funding_minutes[s], orders, guided, t + 1
            )  # fmt: skip
        end = minute + terms.span_minutes
        while end >= (today + 1) * MINUTES_PER_DAY:
            for s in range(symbols):
                _mark(positions[s], rows, s, t)
            worth = books.cash + open_profit(positions)
            _note_worth(books, worth)
            _note_books(days[today - first], books, today, worth)
            today += 1
            ends_day = np.searchsorted(minutes, (today + 1) * MINUTES_PER_DAY - terms.span_minutes)
    if today - first < days.size:
        for s in range(symbols):
            _mark(positions[s], rows, s, count - 1)
        worth = books.cash + open_profit(positions)
        _note_worth(books, worth)
        _note_books(days[today - first], books, today, worth)


@compiled
def _next_turn(
    position: Any, half_spread: Any, s: int, minutes: Any, rows: Any, funding_minutes: Any, orders: Any, guided: bool,
    t: int,
) -> int:  # fmt: skip
    """The first bar from `t` on that changes something about symbol `s` but its best price: an order, or a bar that is
    not quiet. `guided` says that what happened inside bars is known."""
    count, last_spread = minutes.size, half_spread.shape[0] - 1
    side = position.side
    if side == 0:
        if position.wanted_side != 0:
            return t
        while t < count and orders[t, s] == 0.0:
            t += 1
        return t
    if position.leaving:
        return t
    # `is_quiet`, bar by bar, with everything that stays taken out of the loop.
    next_funding, due_ms = funding_minutes[position.next_funding], position.due_ms
    protection, best, target = position.protection, position.trailing_best, position.target
    against, towards = (LOW, HIGH) if side > 0 else (HIGH, LOW)
    keeps = 1.0 - side * half_spread[0, s]
    while t < count and orders[t, s] == 0.0:
        if last_spread > 0:
            keeps = 1.0 - side * half_spread[t, s]
        far, near = rows[t, s, towards] * keeps, rows[t, s, against] * keeps
        if not (
            (near - protection) * side > 0.0
            and (far - target) * side < 0.0
            and minutes[t] * MINUTE_MS < due_ms
            and minutes[t] < next_funding
        ):
            break
        if (far - best) * side > 0.0:
            # A new best price that arms no trailing stop moves no level.
            if guided or position.trailing_armed or not is_usable(rows[t, s]):
                break
            newer, armed = advance_best(side, far, position.entry_price, position.trailing_start, best, False)
            if armed:
                break
            best = position.trailing_best = newer
        t += 1
    return t


@compiled
def _mark(position: Any, rows: Any, s: int, t: int) -> None:
    """Mark what is held at the close of bar `t`, if that is a bar and the position was there."""
    if position.side != 0 and t >= 0 and rows[t, s, CLOSE] > 0.0:
        position.last_price = rows[t, s, CLOSE]


@compiled
def _note_books(row: Any, books: Any, day: int, worth: float) -> None:
    row.day = day
    row.equity = worth
    row.commission = books.commission
    row.funding = books.funding
    row.trades = books.trades


def terms_of(market: Market, config: Config, costs: Costs, rules: Mapping[str, SymbolRules] | None = None) -> Terms:
    """The terms of `config` and `costs` at this market; nothing is rounded without `rules`."""
    symbols = market.symbols
    grid = [rules[symbol] if rules and symbol in rules else None for symbol in symbols]

    def column(name: str) -> NDArray[np.float64]:
        return np.array([float(getattr(own, name)) if own else 0.0 for own in grid])

    spread = np.asarray(costs.spread, np.float64)
    half = np.full((1, len(symbols)), 0.5 * float(spread)) if spread.ndim == 0 else 0.5 * spread
    if half.shape not in ((1, len(symbols)), market.rows.shape[:2]):
        raise ConfigError(f"a spread of shape {half.shape} does not fit bars of shape {market.rows.shape[:2]}")
    return Terms(
        span_minutes=market.span_minutes,
        horizon_minutes=config.trader.horizon_minutes,
        taker_fee=costs.taker_fee,
        slippage=costs.slippage,
        half_spread=half,
        trailing_start_fraction=config.trader.trailing_start_fraction,
        trailing_gap_fraction=config.trader.trailing_gap_fraction,
        max_order_notional=float(config.risk.max_order_notional),
        max_position_notional=float(config.risk.max_position_notional),
        max_open_positions=config.risk.max_open_positions,
        max_daily_loss=float(config.risk.max_daily_loss_fraction),
        tick=column("tick_size"),
        step=column("step_size"),
        min_quantity=column("min_quantity"),
        min_notional=column("min_notional"),
    )


def new_books(market: Market, balance: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Account, positions and days of someone who begins with `balance` and nothing else."""
    account = np.zeros(1, ACCOUNT)
    account["cash"] = account["peak"] = account["day_start"] = balance
    positions = np.zeros(len(market.symbols), POSITION)
    # What was settled before the first bar is known, and nobody's.
    for s, times in enumerate(market.funding_minutes):
        positions["next_funding"][s] = np.searchsorted(times, market.minutes[0], side="right")
    return account, positions, np.zeros(whole_days(market), DAY)


def _no_finer(symbols: int) -> Finer:
    return Finer(np.zeros(symbols + 1, np.int64), np.empty(0, np.int64), np.empty((0, 4)))
