"""Champion and challenger: changed settings live beside the running ones, each with an account of its own on paper.

Both books begin with the same money and are dealt with alike: orders filled at the ask and bid at hand when they are
decided on, exits looked at once a minute at what closing would pay, taker fees and funding paid. So their daily returns
differ by the settings only, and a rule stated before (`labkit.trader.promotion`) judges the differences. The challenger
may change what is made of a probability (costs, thresholds, sizes, throttles), not what is learned: both ask the same
learner. State changes by plain functions of recorded events, so the ledger rebuilds it to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from labkit.config import Config, RiskConfig, TraderConfig, change_config
from labkit.domain.clock import DAY_MS
from labkit.domain.decisions import Action, Decision
from labkit.domain.events import ShadowOrder
from labkit.domain.market_events import MarkPrice, Quote
from labkit.domain.symbol_rules import SymbolRules
from labkit.errors import ConfigError
from labkit.trader.exits import ExitPlan, advance_trailing, closing_price, exit_reason, make_exit_plan
from labkit.trader.promotion import PromotionRule, PromotionVerdict, promotion
from labkit.trader.sizing import order_quantity, to_decimal

ZERO = Decimal(0)
LEARNING = ("horizon_minutes", "decision_every_minutes", "barrier_sigmas")
"""Settings that shape what is learned; another learner would have to be taught from the start."""

Decide = Callable[[TraderConfig, Mapping[str, int], float], tuple[Decision, ...]]
"""Decisions on the symbols whose turn it is, by these settings, with these positions (signs) and this drawdown."""


class ShadowPosition(msgspec.Struct):
    quantity: Decimal
    """Base asset, negative for short."""
    entry_price: Decimal
    plan: ExitPlan


class Book(msgspec.Struct):
    """One account on paper; money in quote asset."""

    cash: Decimal
    peak: Decimal
    positions: dict[str, ShadowPosition] = {}
    marks: dict[str, Decimal] = {}
    closed_trades: int = 0
    day_start: Decimal | None = None
    """Worth at the last midnight; None before the first one."""
    daily: list[float] = []
    """Returns of whole UTC days, as fractions."""

    @property
    def worth(self) -> Decimal:
        return self.cash + sum(
            (p.quantity * (self.marks.get(s, p.entry_price) - p.entry_price) for s, p in self.positions.items()), ZERO
        )

    @property
    def drawdown(self) -> float:
        """Worth below its peak, as a fraction of the peak."""
        return float(1 - self.worth / self.peak) if self.peak > 0 else 0.0

    @property
    def held(self) -> dict[str, int]:
        return {symbol: 1 if position.quantity > 0 else -1 for symbol, position in self.positions.items()}

    def open(self, order: ShadowOrder, fee_rate: Decimal) -> None:
        self.cash -= abs(order.quantity) * order.price * fee_rate
        plan = msgspec.convert(order.plan, ExitPlan, strict=False)
        self.positions[order.symbol] = ShadowPosition(order.quantity, order.price, plan)

    def close(self, symbol: str, price: Decimal, fee_rate: Decimal) -> None:
        position = self.positions.pop(symbol)
        self.cash += position.quantity * (price - position.entry_price)
        self.cash -= abs(position.quantity) * price * fee_rate
        self.closed_trades += 1


class Challenge(msgspec.Struct):
    """A challenger under way."""

    changes: dict[str, Any]
    champion: TraderConfig
    challenger: TraderConfig
    rule: PromotionRule
    books: dict[str, Book]
    started_ms: int
    day: int
    looked_days: int = 0
    funding: dict[str, tuple[int, Decimal]] = {}
    """The next settlement of each symbol: when, and at what rate."""

    def settings_of(self, book: str) -> TraderConfig:
        return self.champion if book == "champion" else self.challenger

    @property
    def fee_rate(self) -> Decimal:
        """What is paid is the champion's rate: a challenger may believe in lower fees, it is not charged them."""
        return to_decimal(self.champion.taker_fee_rate)

    def live_minute(self, quotes: Mapping[str, Quote], marks: Mapping[str, MarkPrice], now_ms: int) -> None:
        """Let one minute happen to both books: funding, exits at the quotes at hand, the turn of the day."""
        for symbol, (due_ms, rate) in list(self.funding.items()):
            if now_ms >= due_ms:
                del self.funding[symbol]
                for book in self.books.values():
                    if position := book.positions.get(symbol):
                        book.cash -= position.quantity * book.marks.get(symbol, position.entry_price) * rate
        for symbol, mark in marks.items():
            self.funding[symbol] = (mark.next_funding_time_ms, mark.funding_rate)
        for book in self.books.values():
            book.marks |= {symbol: mark.mark_price for symbol, mark in marks.items()}
            for symbol, position in list(book.positions.items()):
                quote, sign = quotes.get(symbol), 1 if position.quantity > 0 else -1
                if quote is None:
                    continue
                position.plan = advance_trailing(position.plan, sign, quote)
                if exit_reason(position.plan, sign, quote, now_ms):
                    book.close(symbol, closing_price(sign, quote), self.fee_rate)
            book.peak = max(book.peak, book.worth)
        if now_ms // DAY_MS != self.day:
            self.day = now_ms // DAY_MS
            for book in self.books.values():
                # The first day was not a whole one.
                if book.day_start is not None:
                    book.daily = [*book.daily, float(book.worth / book.day_start - 1)]
                book.day_start = book.worth

    def orders(
        self,
        decide: Decide,
        quotes: Mapping[str, Quote],
        rules: Mapping[str, SymbolRules],
        risk: RiskConfig,
        now_ms: int,
    ) -> tuple[ShadowOrder, ...]:
        """What both would do now, each by its own settings and with its own positions."""
        made: list[ShadowOrder] = []
        for name, book in self.books.items():
            opened = 0
            for decision in decide(self.settings_of(name), book.held, book.drawdown):
                symbol, side = decision.symbol, decision.side
                quote, own_rules = quotes.get(symbol), rules.get(symbol)
                if quote is None or own_rules is None:
                    continue
                if decision.action is Action.EXIT:
                    position = book.positions[symbol]
                    price = closing_price(1 if position.quantity > 0 else -1, quote)
                    made.append(ShadowOrder(book=name, symbol=symbol, quantity=-position.quantity, price=price))
                elif decision.action in (Action.ENTER_LONG, Action.ENTER_SHORT):
                    quantity = order_quantity(decision, book.worth, quote, own_rules, risk)
                    if quantity <= ZERO or len(book.positions) + opened >= risk.max_open_positions:
                        continue
                    opened += 1
                    price = quote.ask_price if side > 0 else quote.bid_price
                    plan = make_exit_plan(decision, price, side, now_ms, own_rules, self.settings_of(name))
                    made.append(
                        ShadowOrder(
                            book=name,
                            symbol=symbol,
                            quantity=side * quantity,
                            price=price,
                            plan=msgspec.to_builtins(plan, str_keys=True),
                        )
                    )
        return tuple(made)

    def fill(self, order: ShadowOrder) -> None:
        """Book one order."""
        book = self.books[order.book]
        if order.symbol in book.positions:
            book.close(order.symbol, order.price, self.fee_rate)
        else:
            book.open(order, self.fee_rate)

    def verdict(self) -> PromotionVerdict | None:
        """What the rule says, if a look is due that has not been taken."""
        import numpy as np

        champion, challenger = (np.array(self.books[name].daily) for name in ("champion", "challenger"))
        if champion.size < max(self.rule.first_look_days, 2 * self.looked_days):
            return None
        return promotion(champion, challenger, self.rule)

    def words(self) -> str:
        """How it stands, in one line."""
        champion, challenger = self.books["champion"], self.books["challenger"]
        changed = ", ".join(f"{name} {value}" for name, value in self.changes.items())
        return (
            f"challenger with {changed}: {len(champion.daily)} whole days; champion {champion.worth:.2f} USDT in "
            f"{champion.closed_trades} closed trades, challenger {challenger.worth:.2f} in {challenger.closed_trades}; "
            f"looked at after {max(self.rule.first_look_days, 2 * self.looked_days)} days"
        )


def changed_settings(champion: TraderConfig, changes: Mapping[str, Any]) -> TraderConfig:
    """The challenger's settings.

    Raises:
        ConfigError: nothing is changed, a setting is unknown or out of range, or one shapes what is learned.
    """
    if not changes:
        raise ConfigError("a challenger must change something: trader={...}", field="trader")
    for name in LEARNING:
        if name in changes:
            raise ConfigError(
                f"setting trader.{name}: shapes what is learned, so it cannot be tried beside the running learner; "
                "labkit.backtest tries it on history",
                field=f"trader.{name}",
            )
    challenger = change_config(Config(trader=champion), {"trader": changes}).trader
    if challenger == champion:
        raise ConfigError("a challenger must change something: these are the running settings", field="trader")
    return challenger


def open_challenge(
    champion: TraderConfig, changes: Mapping[str, Any], rule: PromotionRule, balance: Decimal, now_ms: int
) -> Challenge:
    """A challenge with two fresh books of `balance` each. Raises as `changed_settings` does."""
    return Challenge(
        changes=dict(changes),
        champion=champion,
        challenger=changed_settings(champion, changes),
        rule=rule,
        books={name: Book(cash=balance, peak=balance) for name in ("champion", "challenger")},
        started_ms=now_ms,
        day=now_ms // DAY_MS,
    )
