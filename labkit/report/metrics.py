"""What a day amounts to: the money split by where it came from, returns, drawdown, trades and decisions.

Pure functions over `DayHistory`. Money is Decimal in the quote asset and every split adds up to the ledger's own totals
to the last digit (invariant I27); ratios are floats and fractions (0.01 is 1 %); a year has 365 days. Used by
`labkit.report.tables`, `figures` and `headline`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from typing import TypeVar

import msgspec

from labkit.domain.clock import DAY_MS, HOUR_MS
from labkit.domain.day_history import DayHistory
from labkit.domain.decisions import Action, Decision
from labkit.domain.snapshot import ClosedTrade

Key = TypeVar("Key", str, int)

ZERO = Decimal(0)
CENT = Decimal("0.01")
YEAR_MS = 365 * DAY_MS
CARRIED = "open or carried over"
"""The group of what was booked today on trades that were not closed today, less what today's trades booked before."""

ENTRIES = (Action.ENTER_LONG, Action.ENTER_SHORT)


class PnlSplit(msgspec.Struct, frozen=True):
    """Profit and loss by origin, in quote asset. What was paid is negative, fees included."""

    price: Decimal = ZERO
    """What the prices at hand when orders were decided on have earned."""
    slippage: Decimal = ZERO
    """What fills paid better or worse than those prices."""
    fees: Decimal = ZERO
    funding: Decimal = ZERO

    @property
    def net(self) -> Decimal:
        return self.price + self.slippage + self.fees + self.funding

    def __add__(self, other: PnlSplit) -> PnlSplit:
        return PnlSplit(*(getattr(self, part) + getattr(other, part) for part in PARTS))

    def __neg__(self) -> PnlSplit:
        return PnlSplit(*(-getattr(self, part) for part in PARTS))

    def __sub__(self, other: PnlSplit) -> PnlSplit:
        return self + -other


PARTS = PnlSplit.__struct_fields__
NOTHING = PnlSplit()


class EquityBridge(msgspec.Struct, frozen=True, kw_only=True):
    """The way from the day's first equity to its last, in quote asset; `opening` plus all steps is `closing`, exactly.

    `other` is what moved the wallet and was neither a fill, nor funding, nor a deposit (a liquidation fee, say).
    """

    opening: Decimal
    deposits: Decimal
    booked: PnlSplit
    other: Decimal
    unrealized: Decimal
    """Change of unrealised PnL at mark price."""
    closing: Decimal

    @property
    def result(self) -> Decimal:
        """What the day earned or lost, open positions at mark price; deposits are not a result."""
        return self.closing - self.opening - self.deposits

    @property
    def day_return(self) -> float:
        """Result over the capital at work: opening equity plus the day's deposits."""
        capital = self.opening + self.deposits
        return float(self.result / capital) if capital else 0.0


class Drawdown(msgspec.Struct, frozen=True):
    """The deepest fall from a peak: a fraction of the peak, an amount in quote asset, and when."""

    fraction: float
    amount: Decimal
    peak_ms: int
    trough_ms: int


class TradeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Closed trades, judged by net PnL. None where a ratio has nothing to stand on."""

    count: int
    wins: int
    losses: int
    win_rate: float | None
    profit_factor: float | None
    """Money won over money lost."""
    net_pnl: Decimal
    average_win: Decimal | None
    average_loss: Decimal | None
    best: Decimal | None
    worst: Decimal | None
    median_holding_ms: int | None


class DecisionCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How the day's decisions went. `refused` is by primary reason, the most frequent first."""

    taken: int
    exits: int
    held: int
    refused: dict[str, int]

    @property
    def refusals(self) -> int:
        return sum(self.refused.values())

    @property
    def total(self) -> int:
        return self.taken + self.exits + self.held + self.refusals


# --- money ------------------------------------------------------------------------------------------------------------


def booked(history: DayHistory) -> PnlSplit:
    """Everything the day's fills and funding settlements booked."""
    return total(split_by_symbol(history).values())


def split_by_symbol(history: DayHistory) -> dict[str, PnlSplit]:
    """What was booked on the day, by symbol; symbols that booked something, by name."""
    return _split_flows(history, lambda symbol, time_ms: symbol)


def split_by_hour(history: DayHistory) -> dict[int, PnlSplit]:
    """What was booked on the day, by the UTC hour it was booked in (0 … 23).

    A flow of the last moment before midnight that the lab learned of after it belongs to this day, in hour 0.
    """
    return _split_flows(history, lambda symbol, time_ms: max(0, (time_ms - history.start_ms) // HOUR_MS))


def split_by_side(history: DayHistory) -> dict[str, PnlSplit]:
    """The trades closed on the day, by side, and `CARRIED`, which makes the sum equal to what was booked."""
    return _split_trades(history, lambda trade: trade.side)


def split_by_exit_reason(history: DayHistory) -> dict[str, PnlSplit]:
    """The trades closed on the day, by exit reason, and `CARRIED`, which makes the sum equal to what was booked."""
    return _split_trades(history, lambda trade: trade.exit_reason)


def total(splits: Iterable[PnlSplit]) -> PnlSplit:
    return sum(splits, NOTHING)


def of_trade(trade: ClosedTrade) -> PnlSplit:
    """One round trip, split."""
    return PnlSplit(trade.realized_pnl - trade.slippage, trade.slippage, -trade.commission, trade.funding)


def in_cents(split: PnlSplit) -> PnlSplit:
    """The split in whole cents, its parts rounded so that they add up to its rounded net."""
    return PnlSplit(*to_cents([getattr(split, part) for part in PARTS], split.net))


def all_in_cents(splits: Mapping[Key, PnlSplit]) -> dict[Key, PnlSplit]:
    """The splits in whole cents, their parts rounded so that each of the four adds up to that of the total."""
    whole, rows = in_cents(total(splits.values())), splits.values()
    columns = [to_cents([getattr(row, part) for row in rows], getattr(whole, part)) for part in PARTS]
    return dict(zip(splits, map(PnlSplit, *columns), strict=True))


def to_cents(amounts: Sequence[Decimal], total: Decimal) -> list[Decimal]:
    """Each amount in whole cents, rounded up or down so that together they are the rounded `total`.

    `total` is their sum, to the cent at least. Those with the largest remainders are rounded up (Hamilton's method).
    """
    cents = [amount / CENT for amount in amounts]
    whole = [cent.to_integral_value(ROUND_FLOOR) for cent in cents]
    missing = int((total / CENT).to_integral_value(ROUND_HALF_EVEN) - sum(whole))
    largest = sorted(range(len(cents)), key=lambda place: (whole[place] - cents[place], place))
    for place in largest[:missing]:
        whole[place] += 1
    return [cent * CENT for cent in whole]


def imbalance(history: DayHistory) -> PnlSplit:
    """The day's flows, one by one, less the change of the account's own totals: all zero, or the books do not agree.

    The account knows no slippage, which is a part of what its prices realized; it stands with `price` here.
    """
    start, end, flows = history.account_at_start, history.account_at_end, booked(history)
    return PnlSplit(
        price=flows.price + flows.slippage - (end.realized_pnl - start.realized_pnl),
        fees=flows.fees - (start.commissions - end.commissions),
        funding=flows.funding - (end.funding - start.funding),
    )


def equity_bridge(history: DayHistory) -> EquityBridge:
    """The day in one line of sums."""
    start, end = history.account_at_start, history.account_at_end
    flows, deposits = booked(history), end.deposits - start.deposits
    wallet_change = end.wallet_balance - start.wallet_balance
    return EquityBridge(
        opening=start.equity,
        deposits=deposits,
        booked=flows,
        other=wallet_change - deposits - flows.net,
        unrealized=(end.equity - end.wallet_balance) - (start.equity - start.wallet_balance),
        closing=end.equity,
    )


def in_whole_cents(bridge: EquityBridge) -> EquityBridge:
    """The bridge in whole cents, as it is shown: still exact, since the change at mark takes what rounding leaves."""
    opening, deposits, other, closing = (
        amount.quantize(CENT) for amount in (bridge.opening, bridge.deposits, bridge.other, bridge.closing)
    )
    booked = in_cents(bridge.booked)
    return EquityBridge(
        opening=opening,
        deposits=deposits,
        booked=booked,
        other=other,
        unrealized=closing - opening - deposits - booked.net - other,
        closing=closing,
    )


def _split_flows(history: DayHistory, key: Callable[[str, int], Key]) -> dict[Key, PnlSplit]:
    found: defaultdict[Key, PnlSplit] = defaultdict(PnlSplit)
    for fill, slippage in zip(history.fills, history.slippage, strict=True):
        found[key(fill.symbol, fill.trade_time_ms)] += PnlSplit(
            fill.realized_pnl - slippage, slippage, -fill.commission
        )
    for payment in history.funding:
        found[key(payment.symbol, payment.time_ms)] += PnlSplit(funding=payment.amount)
    return dict(sorted(found.items()))


def _split_trades(history: DayHistory, key: Callable[[ClosedTrade], str]) -> dict[str, PnlSplit]:
    found: defaultdict[str, PnlSplit] = defaultdict(PnlSplit)
    for trade in history.trades:
        found[key(trade)] += of_trade(trade)
    splits = dict(sorted(found.items()))
    carried = booked(history) - total(splits.values())
    if carried != NOTHING:
        splits[CARRIED] = carried
    return splits


# --- the account over time --------------------------------------------------------------------------------------------


def drawdowns(history: DayHistory) -> list[float]:
    """At each equity point, the fall from the highest equity so far, as a fraction ≤ 0."""
    falls, peak = [], ZERO
    for point in history.equity:
        peak = max(peak, point.equity)
        falls.append(float(point.equity / peak - 1) if peak else 0.0)
    return falls


def max_drawdown(history: DayHistory) -> Drawdown | None:
    """The deepest fall of the day, or None if equity never fell."""
    deepest: Drawdown | None = None
    peak = None
    for point in history.equity:
        if peak is None or point.equity > peak.equity:
            peak = point
        if not peak.equity:
            continue
        fall = float(1 - point.equity / peak.equity)
        if fall > (deepest.fraction if deepest else 0.0):
            deepest = Drawdown(fall, peak.equity - point.equity, peak.time_ms, point.time_ms)
    return deepest


def annualized_volatility(history: DayHistory) -> float | None:
    """Realised volatility of equity per 365-day year, as a fraction; None with fewer than two returns.

    The root of summed squared log returns, stretched from the time they span to a year. Equity at or below zero has no
    log return; None then, too.
    """
    points = history.equity
    if len(points) < 3 or any(point.equity <= 0 for point in points):
        return None
    squares = math.fsum(math.log(later.equity / earlier.equity) ** 2 for earlier, later in pairwise(points))
    return math.sqrt(squares * YEAR_MS / (points[-1].time_ms - points[0].time_ms))


# --- trades and decisions ---------------------------------------------------------------------------------------------


def trade_statistics(trades: Iterable[ClosedTrade]) -> TradeStatistics:
    """Statistics of round trips; a trade of exactly zero is neither won nor lost."""
    all_trades = tuple(trades)
    results = [trade.net_pnl for trade in all_trades]
    won, lost = [r for r in results if r > 0], [r for r in results if r < 0]
    holding = sorted(trade.closed_ms - trade.opened_ms for trade in all_trades)
    return TradeStatistics(
        count=len(results),
        wins=len(won),
        losses=len(lost),
        win_rate=len(won) / len(results) if results else None,
        profit_factor=float(sum(won) / -sum(lost)) if lost else None,
        net_pnl=sum(results, ZERO),
        average_win=sum(won, ZERO) / len(won) if won else None,
        average_loss=sum(lost, ZERO) / len(lost) if lost else None,
        best=max(results, default=None),
        worst=min(results, default=None),
        median_holding_ms=holding[(len(holding) - 1) // 2] if holding else None,
    )


def most_telling(trades: Sequence[ClosedTrade], most: int) -> list[ClosedTrade]:
    """All trades if there are at most so many; else those that earned and lost most, in the order they closed in."""
    by_net = sorted(range(len(trades)), key=lambda place: trades[place].net_pnl)
    kept = set(by_net) if len(trades) <= most else {*by_net[: most // 2], *by_net[-(most - most // 2) :]}
    return [trades[place] for place in sorted(kept)]


def decision_counts(decisions: Iterable[Decision]) -> DecisionCounts:
    """Decisions by what became of them."""
    actions: Counter[Action] = Counter()
    refused: Counter[str] = Counter()
    for decision in decisions:
        actions[decision.action] += 1
        if decision.action is Action.REFUSE:
            refused[decision.primary_reason] += 1
    return DecisionCounts(
        taken=sum(actions[action] for action in ENTRIES),
        exits=actions[Action.EXIT],
        held=actions[Action.HOLD],
        refused=dict(sorted(refused.items(), key=lambda item: (-item[1], item[0]))),
    )


def nearest_refusals(decisions: Iterable[Decision]) -> dict[str, Decision]:
    """By primary reason, the refused decision with the highest expected value: the one that came nearest."""
    nearest: dict[str, Decision] = {}
    for decision in decisions:
        if decision.action is not Action.REFUSE:
            continue
        best = nearest.get(decision.primary_reason)
        if best is None or decision.expected_value > best.expected_value:
            nearest[decision.primary_reason] = decision
    return nearest
