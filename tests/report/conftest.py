"""A seeded day to report on. Money moves by the same rules as in the ledger: position arithmetic and cash flows."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal

import pytest

from labkit.domain.clock import HOUR_MS, MINUTE_MS
from labkit.domain.day_history import DayHistory, EquityPoint, FundingPayment, LearningPoint, PricePoint, VirtualResult
from labkit.domain.decisions import Action, Decision, Gate
from labkit.domain.orders import Fill, Side
from labkit.domain.position import Position, quantize_money
from labkit.domain.snapshot import AccountRow, ClosedTrade, EventRow, LearningRow, PositionRow

MakeDay = Callable[..., DayHistory]

DAY = "2026-01-05"
START_MS = 1_767_571_200_000
ZERO = Decimal(0)
PRICES = {"BTCUSDT": Decimal("97123.4"), "ETHUSDT": Decimal("3456.78"), "DOGEUSDT": Decimal("0.38412")}
EXITS = ("stop_loss", "take_profit", "trailing_stop", "max_holding", "model_flip")
REASONS = ("expected_value", "calibrated", "capacity", "quote_fresh")


def account(
    wallet: Decimal, equity: Decimal, deposits: Decimal, pnl: Decimal, fees: Decimal, funding: Decimal
) -> AccountRow:
    return AccountRow(
        wallet_balance=wallet,
        equity=equity,
        available_balance=wallet,
        margin_ratio=0.02,
        day_pnl=equity - deposits,
        deposits=deposits,
        realized_pnl=pnl,
        commissions=fees,
        funding=funding,
    )


def decision(symbol: str, time_ms: int, action: Action, reason: str, side: int, expected: float) -> Decision:
    return Decision(
        symbol=symbol,
        time_ms=time_ms,
        action=action,
        primary_reason=reason,
        side=side,
        probability=0.5 + 40 * expected,
        calibration_slope=0.9,
        edge=expected + 0.0011,
        fee_cost=0.001,
        spread_cost=0.0001,
        slippage_cost=0.0,
        funding_cost=0.0,
        execution_gap_cost=0.0,
        expected_value=expected,
        leverage=0.3,
        stop_distance=0.004,
        target_distance=0.004,
        horizon_minutes=30,
        features={},
        contributions={},
        expert_probabilities={},
        expert_weights={},
        gates=(Gate("expected_value", expected > 0, ""),),
        smallest_change=f"{abs(10_000 * expected):.1f} bps more edge",
    )


def virtual_results(rng: random.Random, end_ms: int) -> list[VirtualResult]:
    """Forecasts that come true as often as they say, decided on every five minutes."""
    found = []
    for asked_ms in range(START_MS, end_ms - 30 * MINUTE_MS, 5 * MINUTE_MS):
        for symbol in PRICES:
            chance = rng.uniform(0.5, 0.8)
            found.append(
                VirtualResult(
                    symbol=symbol, side=rng.choice(("long", "short")), asked_ms=asked_ms,
                    closed_ms=asked_ms + 30 * MINUTE_MS,
                    action=Action.REFUSE if chance < 0.7 else Action.ENTER_LONG, reason="expected_value", chance=chance,
                    came_to=float(rng.random() < chance), barrier=0.005, cost=0.0012, weight=0.2,
                )
            )  # fmt: skip
    return found


def build_day(
    *, seed: int = 1, trades: int = 40, minutes: int = 1440, still_open: bool = True, event_text: str = ""
) -> DayHistory:
    """`trades` round trips (the last left open if `still_open`), with fills, funding, equity and decisions to match."""
    rng = random.Random(seed)
    end_ms = START_MS + minutes * MINUTE_MS
    deposits = Decimal(10_000)
    fills: list[Fill] = []
    slippage: dict[int, Decimal] = {}
    closed: list[ClosedTrade] = []
    opened: list[PositionRow] = []
    decisions: list[Decision] = []
    entries: dict[str, Decision] = {}
    payments: list[FundingPayment] = []
    flows: list[tuple[int, Decimal]] = []
    spans: list[tuple[int, int, Decimal]] = []
    per_symbol = {symbol: START_MS + rng.randrange(5) * MINUTE_MS for symbol in PRICES}
    for number in range(trades):
        symbol = rng.choice(list(PRICES))
        begin = per_symbol[symbol] + rng.randint(1, max(2, minutes // 20)) * MINUTE_MS
        end = begin + rng.randint(3, 30) * MINUTE_MS
        per_symbol[symbol] = end
        if end >= end_ms:
            continue
        side = rng.choice((Side.BUY, Side.SELL))
        entry = PRICES[symbol] * (1 + Decimal(rng.randint(-200, 200)) / 10_000)
        exit_price = entry * (1 + Decimal(rng.randint(-55, 70)) * side.sign / 10_000)
        quantity = (Decimal(rng.randint(800, 4_000)) / entry).quantize(Decimal("0.001"))
        decisions.append(
            opened_by := decision(
                symbol, begin, Action.ENTER_LONG if side.sign > 0 else Action.ENTER_SHORT, "expected_value", side.sign,
                rng.uniform(0.0002, 0.001),
            )
        )  # fmt: skip
        position, parts = Position(symbol), []
        leave_open = still_open and number >= trades - 2
        for price, direction, at in ((entry, side, begin), (exit_price, side.opposite, end)):
            if leave_open and at == end:
                continue
            position, realized = position.after_fill(direction.sign * quantity, price)
            fill = Fill(
                symbol=symbol, trade_id=len(fills) + 1, order_id=len(fills) + 1, client_order_id=f"o{len(fills)}",
                side=direction, price=price, quantity=quantity,
                commission=quantize_money(price * quantity * Decimal("0.0005")), realized_pnl=realized, maker=False,
                trade_time_ms=at,
            )  # fmt: skip
            fills.append(fill)
            parts.append(fill)
            flows.append((at, fill.realized_pnl - fill.commission))
        funding = ZERO
        if begin // (8 * HOUR_MS) != end // (8 * HOUR_MS) or rng.random() < 0.15:
            funding = quantize_money(Decimal(rng.randint(-9, 6)) / 100)
            payments.append(FundingPayment(end, symbol, funding))
            flows.append((end, funding))
        if leave_open:
            opened.append(
                PositionRow(
                    symbol=symbol, quantity=position.quantity, entry_price=entry, exit_price=exit_price,
                    mark_price=exit_price, unrealized_pnl=position.unrealized_pnl(exit_price),
                    stop_price=entry * Decimal("0.996"), target_price=entry * Decimal("1.004"),
                    trailing_stop_price=None, liquidation_price=None, opened_ms=begin, due_ms=end,
                    entry_reason="expected_value", closing=False,
                )
            )  # fmt: skip
            spans.append((begin, end_ms + 1, position.unrealized_pnl(exit_price)))
            continue
        realized = sum((fill.realized_pnl for fill in parts), ZERO)
        slipped = slippage[parts[-1].trade_id] = Decimal(rng.randint(-300, 60)) / 625
        fees = sum((fill.commission for fill in parts), ZERO)
        spans.append((begin, end, realized))
        entries[f"e{number}"] = opened_by
        closed.append(
            ClosedTrade(
                symbol=symbol, side="long" if side.sign > 0 else "short", quantity=quantity, entry_price=entry,
                exit_price=exit_price, opened_ms=begin, closed_ms=end, realized_pnl=realized,
                slippage=slipped, commission=fees,
                funding=funding, net_pnl=realized - fees + funding, exit_reason=rng.choice(EXITS),
                entry_order=f"e{number}", exit_order="x",
            )
        )  # fmt: skip
    for minute in range(0, minutes, 5):
        for symbol in PRICES:
            reason = rng.choices(REASONS, weights=(60, 12, 5, 2))[0]
            action = Action.HOLD if rng.random() < 0.1 else Action.REFUSE
            decisions.append(
                decision(
                    symbol, START_MS + minute * MINUTE_MS, action, reason, rng.choice((1, -1)), rng.gauss(-6e-4, 3e-4)
                )
            )
    points = []
    for minute in range(minutes + 1):
        now = START_MS + minute * MINUTE_MS
        wallet = deposits + sum((amount for at, amount in flows if at <= now), ZERO)
        floating = sum(
            (
                quantize_money(pnl * Decimal(now - a) / (min(b, end_ms + 1) - a) + Decimal(rng.gauss(0, 1.2)))
                for a, b, pnl in spans
                if a <= now < b
            ),
            ZERO,
        )
        if minute == minutes:
            floating = sum((row.unrealized_pnl for row in opened), ZERO)
        points.append(EquityPoint(now, wallet, wallet + floating))
    learned = [
        LearningPoint(
            START_MS + minute * MINUTE_MS,
            LearningRow(
                labels=30_000 + 6 * minute,
                calibration_slope=0.82 + 0.0001 * minute + rng.gauss(0, 0.01),
                calibration_slope_lower=0.6 + 0.00012 * minute,
                skill_millinats=1.1 + 0.0004 * minute + rng.gauss(0, 0.05),
                expert_weights={"fast": 0.2, "medium": 0.5 + 0.0001 * minute, "slow": 0.3 - 0.0001 * minute},
            ),
        )
        for minute in range(0, minutes + 1, 5)
    ]
    pnl = sum((fill.realized_pnl for fill in fills), ZERO)
    fees = sum((fill.commission for fill in fills), ZERO)
    funding = sum((payment.amount for payment in payments), ZERO)
    return DayHistory(
        day=DAY,
        start_ms=START_MS,
        end_ms=end_ms,
        market="simulated",
        disclosure="Simulated prices (seed 1) with a planted momentum of 0.12: a learner has something to find.",
        symbols=tuple(PRICES),
        config_fingerprint="0123456789abcdef",
        account_at_start=account(deposits, deposits, deposits, ZERO, ZERO, ZERO),
        account_at_end=account(points[-1].wallet_balance, points[-1].equity, deposits, pnl, fees, funding),
        equity=tuple(points),
        fills=tuple(in_order := sorted(fills, key=lambda fill: fill.trade_time_ms)),
        slippage=tuple(slippage.get(fill.trade_id, ZERO) for fill in in_order),
        funding=tuple(sorted(payments, key=lambda payment: payment.time_ms)),
        trades=tuple(sorted(closed, key=lambda trade: trade.closed_ms)),
        entry_decisions=entries,
        open_positions=tuple(opened),
        prices={
            symbol: tuple(
                PricePoint(START_MS + n * MINUTE_MS, price * (1 + Decimal(rng.randint(-60, 60)) / 10_000))
                for n in range(1, minutes + 1)
            )
            for symbol, price in PRICES.items()
            if any(fill.symbol == symbol for fill in fills)
        },
        decisions=tuple(sorted(decisions, key=lambda d: (d.time_ms, d.symbol))),
        learning=tuple(learned),
        virtual=tuple(virtual_results(rng, end_ms)),
        virtual_closed=57,
        events=(
            EventRow(START_MS + 1_000, "info", "engine started, epoch 1"),
            EventRow(START_MS + 90_000, "warning", "BTCUSDT: stale, no quote for 3.2 s"),
            *((EventRow(START_MS + 95_000, "alarm", event_text),) if event_text else ()),
        ),
        first_sequence=12,
        last_sequence=4_711,
        ledger_hash="ab" * 32,
    )


@pytest.fixture(scope="session")
def make_day() -> MakeDay:
    """Builds seeded days; see `build_day`."""
    return build_day
