"""Engine.apply: the one place where events change state. A plain function of events: no clock, no socket, no log.

State is the account as we know it (a fold over fills, funding and deposits), the life of every order intent, the exits
of every open trade, and what the trader has decided. Commands say what to do next; their outcomes return as events.
Money is Decimal in quote asset. An event that changes nothing leaves `revision` as it was and need not be recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from labkit.config import Config, RiskConfig, TraderConfig
from labkit.domain import events as ev
from labkit.domain.clock import DAY_MS, HOUR_MS, MINUTE_MS, utc_day
from labkit.domain.commands import Command, Notify, PlaceOrder, SettleDoubt
from labkit.domain.decisions import Action, Change, Decision, Gate, only_finite
from labkit.domain.leverage_brackets import LeverageBracket
from labkit.domain.market_events import Bar, MarkPrice, Quote
from labkit.domain.orders import Fill, IntentState, Order, OrderIntent, OrderType, Side, may_become
from labkit.domain.position import Position
from labkit.domain.snapshot import ClosedTrade, Counts, EventRow
from labkit.domain.symbol_rules import SymbolRules
from labkit.engine.books import Account, IntentRecord, OpenTrade
from labkit.engine.risk_gates import EntryContext, entry_gates
from labkit.trader.challenge import Challenge, open_challenge
from labkit.trader.exits import advance_trailing, exit_reason, make_exit_plan
from labkit.trader.promotion import PromotionRule
from labkit.trader.sizing import order_quantity

ZERO = Decimal(0)
BY_HAND = "user"
EXIT_AGAIN_MS = 1_000
"""How long after a refused exit the next one goes out; doubles with every refusal, up to about a minute."""
MARK_APART = Decimal("0.02")
"""A mark price further than this fraction from the book is told."""
SAY_AGAIN_MS = HOUR_MS
"""Trouble of the feed that stays the same is told once an hour, not at every look."""
EVENT_LOG_LENGTH = 200
CLOSED_TRADES_KEPT = 500


class Decider(Protocol):
    """What the engine asks for decisions: the SelfLearningTrader, or a record of what it decided."""

    def step(
        self,
        open_time_ms: int,
        bars: Mapping[str, Bar],
        *,
        quotes: Mapping[str, Quote],
        marks: Mapping[str, MarkPrice],
        held: Mapping[str, int],
        equity_drawdown: float,
    ) -> tuple[Decision, ...]: ...

    def mark_virtual(self, quotes: Mapping[str, Quote]) -> None: ...

    def observe_execution(self, symbol: str, real_minus_virtual: float) -> None: ...


class Engine:
    """State and the function that changes it.

    Args:
        config: settings; only what can change a decision is used.
        decider: the trader, or the record of its decisions when history is read.
    """

    def __init__(self, config: Config, decider: Decider) -> None:
        self.config = config
        self.decider = decider
        self.revision = 0
        self.epoch = 0
        self.market = ""
        self.disclosure = ""
        self.symbols: tuple[str, ...] = config.symbols
        self.now_ms = 0
        self.rules: dict[str, SymbolRules] = {}
        self.brackets: dict[str, tuple[LeverageBracket, ...]] = {}
        self.account = Account()
        self.positions: dict[str, Position] = {}
        self.trades: dict[str, OpenTrade] = {}
        self.intents: dict[str, IntentRecord] = {}
        self.marks: dict[str, Decimal] = {}
        self._marks_apart: set[str] = set()
        self.breaker_level = "NORMAL"
        self.breaker_moved: ev.BreakerMoved | None = None
        """Where the breaker stood when it was last heard of."""
        self.drift_step = "steady"
        self.challenge: Challenge | None = None
        self.promoted: dict[str, Any] = {}
        """Settings of the trader that challengers brought, and that outlive a restart."""
        self.before_promotion: TraderConfig | None = None
        self.paused_by: dict[str, str] = {}
        self.day = -1
        self.day_start_equity = ZERO
        self.peak_equity = ZERO
        self.last_decisions: dict[str, Decision] = {}
        self.closed_trades: deque[ClosedTrade] = deque(maxlen=CLOSED_TRADES_KEPT)
        self.log: deque[EventRow] = deque(maxlen=EVENT_LOG_LENGTH)
        self.counts = Counts()
        self.trader_state_hash = ""
        self.last_funding_ms: dict[str, int] = {}
        self.opened_ms = 0
        """When the first money came in."""
        self.last_fill_ms = 0
        self.last_report_day = ""
        self.new_decisions: tuple[Decision, ...] = ()
        """The decisions made by the latest `apply`, for the ledger."""
        self._feed: dict[str, tuple[tuple[bool, str], int]] = {}
        """What was last said of each part of the feed, and when."""
        self._numbered = 0
        self._order_times: deque[int] = deque()
        self._seen: set[object] = set()
        self._refused_exits: dict[str, tuple[int, int]] = {}

    # -- reading -----------------------------------------------------------------------------------------------

    def unrealized_pnl(self, marks: Mapping[str, Decimal] | None = None) -> Decimal:
        """Unrealised PnL of all positions at mark, in quote asset; exact."""
        at = self.marks if marks is None else {**self.marks, **marks}
        return sum(
            (p.unrealized_pnl(at[p.symbol]) for p in self.positions.values() if p.is_open and p.symbol in at), ZERO
        )

    @property
    def equity(self) -> Decimal:
        """Wallet balance plus unrealised PnL at the latest mark prices the engine has met."""
        return self.account.wallet_balance + self.unrealized_pnl()

    @property
    def day_pnl(self) -> Decimal:
        return self.equity - self.day_start_equity

    def open_intents(self, symbol: str = "") -> list[IntentRecord]:
        """Intents whose outcome is not final, of one symbol or of all."""
        return [r for r in self.intents.values() if not r.is_final and symbol in ("", r.intent.symbol)]

    def closing(self, symbol: str) -> bool:
        """True while an order that reduces the position is under way."""
        return any(r.intent.reduce_only for r in self.open_intents(symbol))

    def knows_fill(self, symbol: str, trade_id: int) -> bool:
        """True if that execution is booked."""
        return (symbol, trade_id) in self._seen

    def position(self, symbol: str) -> Position:
        return self.positions.get(symbol) or Position(symbol)

    def check_balance(self) -> None:
        """Hold the two accounts of the money against each other, to the last digit.

        Raises:
            LedgerImbalance: they differ.
        """
        self.account.check(sum((p.entry_cost for p in self.positions.values()), ZERO))

    # -- changing ----------------------------------------------------------------------------------------------

    def apply(self, event: ev.Event) -> list[Command]:
        """Change state by one event and say what to do next."""
        self.new_decisions = ()
        self.now_ms = max(self.now_ms, event.time_ms)
        commands = _HANDLERS[type(event)](self, event)
        if commands:
            self._touch()
        return commands

    def _touch(self) -> None:
        self.revision += 1

    def _say(self, severity: str, text: str) -> None:
        self.log.append(EventRow(self.now_ms, severity, text))

    def _started(self, event: ev.EngineStarted) -> list[Command]:
        self._touch()
        self.epoch = event.epoch
        self.market, self.disclosure, self.symbols = event.market, event.disclosure, event.symbols
        if event.settings:
            self.config = msgspec.structs.replace(
                self.config,
                risk=msgspec.convert(event.settings["risk"], RiskConfig, strict=False),
                trader=msgspec.convert(event.settings["trader"], TraderConfig, strict=False),
            )
        if self.challenge and self.challenge.champion != self.config.trader:
            self.challenge = None
            self._say("info", "challenge ended: the champion was started with other settings")
        self.paused_by.pop("feed", None)
        if self.breaker_moved is None:
            self.breaker_level = "NORMAL"
        self._say("info", f"engine started, epoch {event.epoch}, {event.market} market")
        # Whatever was saved but not known to be settled is in doubt now: ask, never resend.
        commands: list[Command] = []
        for record in self.open_intents():
            if record.state is not IntentState.ACKED:
                record.state = IntentState.UNKNOWN
                commands.append(SettleDoubt(intent=record.intent, sent_at_ms=record.created_ms))
        return commands

    def _stopped(self, event: ev.EngineStopped) -> list[Command]:
        self._touch()
        self._say("info", f"engine stopped: {event.reason}")
        return []

    def _rules_observed(self, event: ev.RulesObserved) -> list[Command]:
        if (event.rules, event.brackets) != (self.rules, self.brackets):
            self._touch()
            self.rules, self.brackets = event.rules, event.brackets
        return []

    def _deposited(self, event: ev.Deposited) -> list[Command]:
        if self._once(("deposit", event.key)):
            self._touch()
            self.opened_ms = self.opened_ms or event.time_ms
            self.account.deposits += event.amount
            self.day_start_equity += event.amount
            self.peak_equity += event.amount
            self._say("info", f"deposit of {event.amount} USDT")
        return []

    def _trader_checkpointed(self, event: ev.TraderCheckpointed) -> list[Command]:
        self._touch()
        self.trader_state_hash = event.state_hash
        if event.lived_minutes:
            self._say("info", f"the trader lived through {event.lived_minutes} minutes of history")
        return []

    def _learning_observed(self, event: ev.LearningObserved) -> list[Command]:
        # Nothing depends on it; it is recorded to be read back.
        self._touch()
        return []

    def _drift_moved(self, event: ev.DriftMoved) -> list[Command]:
        if event.step != self.drift_step:
            self._touch()
            self._say(
                "info" if event.step == "steady" else "warning",
                f"drift: {self.drift_step} → {event.step}, {event.nats:.1f} nats lost against a coin",
            )
            self.drift_step = event.step
        return []

    def _challenge_started(self, event: ev.ChallengeStarted) -> list[Command]:
        rule = msgspec.convert(event.rule, PromotionRule)
        self.challenge = open_challenge(self.config.trader, event.changes, rule, self.equity, event.time_ms)
        self._touch()
        self._say("info", f"challenge begun: {self.challenge.words()}")
        return []

    def _shadow_traded(self, event: ev.ShadowTraded) -> list[Command]:
        if self.challenge:
            self._touch()
            for order in event.orders:
                self.challenge.fill(order)
        return []

    def _challenge_judged(self, event: ev.ChallengeJudged) -> list[Command]:
        if challenge := self.challenge:
            self._touch()
            challenge.looked_days = event.looked_days
            self._say("warning" if event.promoted else "info", f"challenge: {event.words}")
            if event.promoted:
                self.before_promotion = self.before_promotion or self.config.trader
                self.promoted = {**self.promoted, **challenge.changes}
                self.config = msgspec.structs.replace(self.config, trader=challenge.challenger)
                self.challenge = None
        return []

    def _challenge_ended(self, event: ev.ChallengeEnded) -> list[Command]:
        if self.challenge:
            self._touch()
            self.challenge = None
            self._say("info", f"challenge ended: {event.reason}")
        return []

    def _promotion_rolled_back(self, event: ev.PromotionRolledBack) -> list[Command]:
        if self.before_promotion:
            self._touch()
            self.config = msgspec.structs.replace(self.config, trader=self.before_promotion)
            self.before_promotion, self.promoted = None, {}
            # What it was compared with is no longer what runs.
            self.challenge = None
            self._say("warning", f"promotion rolled back: {event.reason}")
        return []

    def _account_observed(self, event: ev.AccountObserved) -> list[Command]:
        ours = {p.symbol: p.quantity for p in self.positions.values() if p.is_open}
        theirs = {symbol: quantity for symbol, quantity in event.positions.items() if quantity}
        wallet = self.account.wallet_balance
        if ours == theirs and wallet == event.wallet_balance:
            if self.paused_by.pop("account", None):
                self._touch()
                self._say("info", "the exchange's account and ours agree again")
            return []
        text = f"the exchange's account differs from ours: wallet {event.wallet_balance} / {wallet}, positions " + (
            f"{_plain(theirs)} / {_plain(ours)}"
        )
        if self.paused_by.get("account") != text:
            self._touch()
            self.paused_by["account"] = text
            self._say("alarm", text)
        return []

    def _minute_closed(self, event: ev.MinuteClosed) -> list[Command]:
        self._touch()
        self._note_marks(event.marks)
        self._roll_day(event.time_ms)
        if self.challenge:
            self.challenge.live_minute(event.quotes, event.marks, event.time_ms)
        equity = self.equity
        self.peak_equity = max(self.peak_equity, equity)
        drawdown = float(1 - equity / self.peak_equity) if self.peak_equity > 0 else 0.0
        held = {p.symbol: p.sign for p in self.positions.values() if p.is_open}
        decided = self.decider.step(
            event.open_time_ms,
            event.bars,
            quotes=event.quotes,
            marks=event.marks,
            held=held,
            equity_drawdown=drawdown,
        )
        self._hold_marks_against(event.quotes)
        commands: list[Command] = []
        final: list[Decision] = []
        for decision in map(only_finite, decided):
            if decision.action in (Action.ENTER_LONG, Action.ENTER_SHORT):
                decision, entry = self._enter(decision, event, equity)
                commands += entry
            elif decision.action is Action.EXIT:
                quote = event.quotes.get(decision.symbol)
                commands += self._close(decision.symbol, decision.primary_reason, quote=quote)
            self.last_decisions[decision.symbol] = decision
            final.append(decision)
        self.new_decisions = tuple(final)
        self._count(decisions=len(final))
        return commands

    def _enter(self, decision: Decision, event: ev.MinuteClosed, equity: Decimal) -> tuple[Decision, list[Command]]:
        """An entry order if every gate passes; otherwise the decision turned into a refusal that says which did not."""
        symbol = decision.symbol
        quote, rules = event.quotes.get(symbol), self.rules.get(symbol)
        quantity = notional = ZERO
        if quote and rules:
            quantity = order_quantity(decision, equity, quote, rules, self.config.risk)
            notional = quantity * (quote.ask_price if decision.side > 0 else quote.bid_price)
        paused = "; ".join(self.paused_by.values()) or ("" if event.entries_allowed else event.entries_refused_because)
        gates = tuple(
            entry_gates(
                self.config.risk,
                EntryContext(
                    quantity=quantity,
                    notional=notional,
                    entries_paused=paused,
                    breaker_level=self.breaker_level,
                    open_positions=len(self.trades),
                    symbol_busy=self.position(symbol).is_open or bool(self.open_intents(symbol)),
                    day_pnl=self.day_pnl,
                    day_start_equity=self.day_start_equity,
                    orders_last_minute=self._orders_last_minute(),
                ),
            )
        )
        refused = next((gate for gate in gates if not gate.passed), None)
        decision = msgspec.structs.replace(decision, gates=_merge(decision.gates, gates))
        if refused:
            return (
                msgspec.structs.replace(
                    decision,
                    action=Action.REFUSE,
                    primary_reason=refused.name,
                    leverage=0.0,
                    smallest_change=f"the gate {refused.name} passing ({refused.detail})",
                    changes=tuple(Change(gate.name, 0.0, 1.0) for gate in gates if not gate.passed),
                ),
                [],
            )
        side = Side.BUY if decision.side > 0 else Side.SELL
        return decision, [
            self._place(symbol, side, quantity, reason="entry", reduce_only=False, decision=decision, quote=quote)
        ]

    def _close(
        self, symbol: str, reason: str, quantity: Decimal | None = None, *, quote: Quote | None = None
    ) -> list[Command]:
        """A reduce-only market order for what is open, unless one is already under way."""
        position = self.position(symbol)
        if not position.is_open or self.closing(symbol):
            return []
        refusals, refused_ms = self._refused_exits.get(symbol, (0, 0))
        if refusals and reason != BY_HAND and self.now_ms < refused_ms + EXIT_AGAIN_MS * 2 ** min(refusals - 1, 6):
            return []
        side = Side.SELL if position.quantity > 0 else Side.BUY
        size = abs(position.quantity) if quantity is None else min(quantity, abs(position.quantity))
        return [self._place(symbol, side, size, reason=reason, reduce_only=True, quote=quote)]

    def _place(
        self,
        symbol: str,
        side: Side,
        quantity: Decimal,
        *,
        reason: str,
        reduce_only: bool,
        decision: Decision | None = None,
        quote: Quote | None = None,
    ) -> Command:
        self._numbered += 1
        intent = OrderIntent(
            client_order_id=f"lab-{self.epoch}-{self._numbered:06d}",
            symbol=symbol,
            side=side,
            order_type=OrderType.MARKET,
            quantity=quantity,
            reduce_only=reduce_only,
            reason=reason,
        )
        expected = (quote.ask_price if side is Side.BUY else quote.bid_price) if quote else None
        self.intents[intent.client_order_id] = IntentRecord(
            intent, IntentState.SAVED, self.now_ms, decision, expected_price=expected
        )
        self._order_times.append(self.now_ms)
        self._count(orders=1)
        return PlaceOrder(intent=intent)

    def _monitor_ticked(self, event: ev.MonitorTicked) -> list[Command]:
        commands: list[Command] = []
        for symbol, quote in event.quotes.items():
            trade, position = self.trades.get(symbol), self.position(symbol)
            if trade is None or trade.plan is None or not position.is_open:
                continue
            advanced = advance_trailing(trade.plan, position.sign, quote)
            if advanced != trade.plan:
                self._touch()
                trade.plan = advanced
            if reason := exit_reason(trade.plan, position.sign, quote, event.time_ms):
                commands += self._close(symbol, reason, quote=quote)
        return commands

    def _virtual_ticked(self, event: ev.VirtualTicked) -> list[Command]:
        # Virtual positions are re-marked for showing; their labels come from closed bars only, so nothing is recorded.
        self.decider.mark_virtual(event.quotes)
        return []

    def _order_changed(self, event: ev.OrderChanged) -> list[Command]:
        order, fill = event.order, event.fill
        record = self.intents.get(order.client_order_id)
        if record is None:
            record = self._adopt(order)
        commands: list[Command] = []
        before = (record.state, record.order_status, record.executed_quantity, record.booked_quantity)
        if record.order_status is None or may_become(record.order_status, order.status):
            record.order_status = order.status
        record.order_id = order.order_id
        record.original_quantity = order.original_quantity
        record.executed_quantity = max(record.executed_quantity, order.executed_quantity)
        if fill and self._once((fill.symbol, fill.trade_id)):
            self._book(record, fill)
        if record.state is not IntentState.DONE:
            record.state = IntentState.ACKED
            if record.order_status.is_final and record.booked_quantity >= record.executed_quantity:
                record.state = IntentState.DONE
        if before != (record.state, record.order_status, record.executed_quantity, record.booked_quantity):
            self._touch()
            if record.state is IntentState.DONE and record.executed_quantity < record.original_quantity:
                self._say(
                    "warning",
                    f"{order.symbol}: order {order.client_order_id} ended {order.status} with "
                    f"{record.executed_quantity} of {record.original_quantity} filled",
                )
        return commands

    def _adopt(self, order: Order) -> IntentRecord:
        """An order that is not ours (a liquidation, a person in the exchange's own app): known from now on."""
        intent = OrderIntent(
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            order_type=order.order_type,
            quantity=order.original_quantity,
            reduce_only=order.reduce_only,
            reason="liquidation" if order.client_order_id.startswith("autoclose-") else "external",
        )
        record = IntentRecord(intent, IntentState.ACKED, self.now_ms)
        self.intents[order.client_order_id] = record
        self._say("warning", f"{order.symbol}: an order of somebody else, {order.client_order_id}, was adopted")
        return record

    def _book(self, record: IntentRecord, fill: Fill) -> None:
        account = self.account
        position = self.position(fill.symbol)
        after, realized = position.after_fill(fill.signed_quantity, fill.price)
        self.positions[fill.symbol] = after
        record.booked_quantity += fill.quantity
        account.realized_pnl += realized
        account.commissions += fill.commission
        account.trade_cash -= fill.signed_quantity * fill.price
        self.last_fill_ms = max(self.last_fill_ms, fill.trade_time_ms)
        self._count(fills=1)
        self._refused_exits.pop(fill.symbol, None)
        self._follow_trade(record, fill, position, after, realized)

    def _follow_trade(
        self, record: IntentRecord, fill: Fill, before: Position, after: Position, realized: Decimal
    ) -> None:
        """Keep the round trip: entries open or extend it, reductions earn, flat ends it; a flip does both."""
        intent = record.intent
        opening = after.sign != 0 and (before.sign == 0 or before.sign != after.sign)
        reduced, slippage = ZERO, record.slippage(fill)
        if before.sign and before.sign != fill.side.sign:
            reduced = min(fill.quantity, abs(before.quantity))
            trade = self.trades[fill.symbol]
            trade.reduce(fill, reduced, realized)
            trade.bear(fill, slippage)
            if after.sign != before.sign:
                self._end_trade(trade, before.sign, intent, fill.trade_time_ms)
        if after.sign and fill.side.sign == after.sign:
            if opening:
                self.trades[fill.symbol] = OpenTrade(
                    symbol=fill.symbol,
                    opened_ms=fill.trade_time_ms,
                    entry_order=intent.client_order_id,
                    entry_reason=intent.reason,
                    plan=None,
                )
                self._say("info", f"{fill.symbol}: {'long' if after.sign > 0 else 'short'} opened at {fill.price}")
            trade = self.trades[fill.symbol]
            trade.extend(fill, fill.quantity - reduced)
            if not reduced:
                trade.bear(fill, slippage)
            rules = self.rules.get(fill.symbol)
            if record.decision and rules:
                trade.plan = make_exit_plan(
                    record.decision, after.entry_price, after.sign, trade.opened_ms, rules, self.config.trader
                )

    def _end_trade(self, trade: OpenTrade, side: int, intent: OrderIntent, closed_ms: int) -> None:
        del self.trades[trade.symbol]
        closed = trade.closed(side, intent, closed_ms)
        self.closed_trades.append(closed)
        if trade.symbol in self.symbols:
            # The label of a trade is its virtual twin's; what the real one teaches is how much worse it was filled.
            self.decider.observe_execution(trade.symbol, float(trade.slippage / trade.entry_notional))
        self._count(positions_closed=1)
        self._say(
            "info", f"{closed.symbol}: {closed.side} closed by {closed.exit_reason}, net {closed.net_pnl:.4f} USDT"
        )

    def _order_refused(self, event: ev.OrderRefused) -> list[Command]:
        record = self.intents[event.client_order_id]
        if not record.is_final:
            self._touch()
            record.state = IntentState.REJECTED
            if record.intent.reduce_only:
                refusals, _ = self._refused_exits.get(record.intent.symbol, (0, 0))
                self._refused_exits[record.intent.symbol] = (refusals + 1, self.now_ms)
            self._say(
                "warning",
                f"{record.intent.symbol}: order {event.client_order_id} refused: {event.message} ({event.code})",
            )
        return []

    def _order_in_doubt(self, event: ev.OrderInDoubt) -> list[Command]:
        record = self.intents[event.client_order_id]
        if record.is_final or record.state is IntentState.UNKNOWN:
            return []
        record.state = IntentState.UNKNOWN
        self._say("warning", f"{record.intent.symbol}: outcome of {event.client_order_id} unknown: {event.cause}")
        return [SettleDoubt(intent=record.intent, sent_at_ms=record.created_ms)]

    def _order_never_placed(self, event: ev.OrderNeverPlaced) -> list[Command]:
        record = self.intents[event.client_order_id]
        if not record.is_final:
            self._touch()
            record.state = IntentState.NOT_PLACED
            self._say(
                "info", f"{record.intent.symbol}: {event.client_order_id} never reached the book: {event.evidence}"
            )
        return []

    def _funding_paid(self, event: ev.FundingPaid) -> list[Command]:
        if self._once(("funding", event.symbol, event.funding_time_ms)):
            self._touch()
            self.account.funding += event.amount
            self.last_funding_ms[event.symbol] = event.funding_time_ms
            if trade := self.trades.get(event.symbol):
                trade.funding += event.amount
            self._say("info", f"{event.symbol}: funding {event.amount:+.8f} USDT")
        return []

    def _wallet_adjusted(self, event: ev.WalletAdjusted) -> list[Command]:
        if self._once(("adjustment", event.key)):
            self._touch()
            self.account.adjustments += event.amount
            self._say("warning", f"wallet {event.amount:+} USDT: {event.cause}")
        return []

    def _close_requested(self, event: ev.CloseRequested) -> list[Command]:
        symbols = [event.symbol] if event.symbol else [s for s, p in self.positions.items() if p.is_open]
        commands: list[Command] = []
        for symbol in symbols:
            commands += self._close(symbol, event.source, event.quantity)
        return commands

    def _exits_changed(self, event: ev.ExitsChanged) -> list[Command]:
        trade = self.trades.get(event.symbol)
        if trade and trade.plan:
            self._touch()
            trade.plan = msgspec.structs.replace(
                trade.plan,
                stop_price=event.stop_price or trade.plan.stop_price,
                target_price=event.target_price or trade.plan.target_price,
            )
            self._say("info", f"{event.symbol}: exits moved by hand")
        return []

    def _entries_paused(self, event: ev.EntriesPaused) -> list[Command]:
        was = self.paused_by.get("user")
        if event.paused:
            self.paused_by["user"] = event.reason
        else:
            self.paused_by.pop("user", None)
        if was != self.paused_by.get("user"):
            self._touch()
            self._say("info", f"entries {'paused' if event.paused else 'resumed'}: {event.reason}")
        return []

    def _breaker_moved(self, event: ev.BreakerMoved) -> list[Command]:
        if event.level == self.breaker_level and event.since_ms is None:
            return []
        self._touch()
        self.breaker_moved = event if event.since_ms is not None else None
        self.breaker_level = event.level
        severity = "info" if event.level == "NORMAL" else "warning"
        self._say(severity, f"circuit breaker {event.level}: {event.cause}")
        if event.level == "HALTED":
            return [Notify(severity="alarm", text=f"circuit breaker HALTED: {event.cause}")]
        return []

    def _feed_changed(self, event: ev.FeedChanged) -> list[Command]:
        said, said_ms = self._feed.get(event.what, (None, 0))
        if said == (event.healthy, event.cause) and event.time_ms < said_ms + SAY_AGAIN_MS:
            return []
        self._touch()
        self._feed[event.what] = (event.healthy, event.cause), event.time_ms
        self._say("info" if event.healthy else "warning", f"{event.what}: {event.cause or 'healthy'}")
        return []

    def _feed_observed(self, event: ev.FeedObserved) -> list[Command]:
        # Nothing depends on it; it is recorded to be read back.
        self._touch()
        return []

    def _report_written(self, event: ev.ReportWritten) -> list[Command]:
        self._touch()
        if event.error:
            self._say("warning", f"report of {event.day} failed: {event.error}")
        else:
            # A report of a day that is still running is a preview; the day's own report is yet to come.
            if utc_day(event.time_ms) > event.day:
                self.last_report_day = max(self.last_report_day, event.day)
            self._say("info", f"report of {event.day} written")
        return []

    # -- small parts -------------------------------------------------------------------------------------------

    def _once(self, key: object) -> bool:
        """True the first time a natural key is met."""
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _note_marks(self, marks: Mapping[str, MarkPrice]) -> None:
        for symbol, mark in marks.items():
            self.marks[symbol] = mark.mark_price

    def _hold_marks_against(self, quotes: Mapping[str, Quote]) -> None:
        """Say it when a mark price stands far from the book: equity and funding follow the mark, exits the book."""
        for symbol, quote in quotes.items():
            mark = self.marks.get(symbol)
            apart = mark is not None and abs(mark / quote.mid_price - 1) > MARK_APART
            if apart and symbol not in self._marks_apart:
                self._marks_apart.add(symbol)
                self._say("warning", f"{symbol}: the mark price {mark} stands far from the book at {quote.mid_price}")
            elif not apart and symbol in self._marks_apart:
                self._marks_apart.discard(symbol)
                self._say("info", f"{symbol}: mark price and book agree again")

    def _roll_day(self, time_ms: int) -> None:
        day = time_ms // DAY_MS
        if day != self.day:
            self.day = day
            self.day_start_equity = self.equity

    def _orders_last_minute(self) -> int:
        while self._order_times and self._order_times[0] <= self.now_ms - MINUTE_MS:
            self._order_times.popleft()
        return len(self._order_times)

    def _count(self, **more: int) -> None:
        self.counts = msgspec.structs.replace(
            self.counts, **{name: getattr(self.counts, name) + n for name, n in more.items()}
        )


def _merge(first: Sequence[Gate], second: Sequence[Gate]) -> tuple[Gate, ...]:
    """Gates of trader and engine in one list; a name met again (a decision read back) is taken from the second."""
    names = {gate.name for gate in second}
    return (*(gate for gate in first if gate.name not in names), *second)


def _plain(quantities: Mapping[str, Decimal]) -> dict[str, str]:
    return {symbol: str(quantity) for symbol, quantity in sorted(quantities.items())}


_HANDLERS: dict[type, Callable[[Engine, Any], list[Command]]] = {
    ev.EngineStarted: Engine._started,
    ev.EngineStopped: Engine._stopped,
    ev.RulesObserved: Engine._rules_observed,
    ev.AccountObserved: Engine._account_observed,
    ev.Deposited: Engine._deposited,
    ev.TraderCheckpointed: Engine._trader_checkpointed,
    ev.LearningObserved: Engine._learning_observed,
    ev.DriftMoved: Engine._drift_moved,
    ev.ChallengeStarted: Engine._challenge_started,
    ev.ShadowTraded: Engine._shadow_traded,
    ev.ChallengeJudged: Engine._challenge_judged,
    ev.ChallengeEnded: Engine._challenge_ended,
    ev.PromotionRolledBack: Engine._promotion_rolled_back,
    ev.MinuteClosed: Engine._minute_closed,
    ev.MonitorTicked: Engine._monitor_ticked,
    ev.VirtualTicked: Engine._virtual_ticked,
    ev.OrderChanged: Engine._order_changed,
    ev.OrderRefused: Engine._order_refused,
    ev.OrderInDoubt: Engine._order_in_doubt,
    ev.OrderNeverPlaced: Engine._order_never_placed,
    ev.FundingPaid: Engine._funding_paid,
    ev.WalletAdjusted: Engine._wallet_adjusted,
    ev.CloseRequested: Engine._close_requested,
    ev.ExitsChanged: Engine._exits_changed,
    ev.EntriesPaused: Engine._entries_paused,
    ev.BreakerMoved: Engine._breaker_moved,
    ev.FeedChanged: Engine._feed_changed,
    ev.FeedObserved: Engine._feed_observed,
    ev.ReportWritten: Engine._report_written,
}
