"""Engine.apply: events in, commands out; money to the last digit."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.config import Config, RiskConfig, to_plain
from labkit.domain import events as ev
from labkit.domain.commands import PlaceOrder, SettleDoubt
from labkit.domain.decisions import Action, Change, Decision
from labkit.domain.market_events import MarkPrice, Quote
from labkit.domain.orders import Fill, IntentState, Order, OrderStatus, OrderType, Side
from labkit.domain.symbol_rules import SymbolRules
from labkit.engine.engine import Engine
from labkit.engine.recovery import RecordedDecisions

D = Decimal
NOW = 1_767_571_260_000
RULES = SymbolRules(
    symbol="BTCUSDT",
    base_asset="BTC",
    quote_asset="USDT",
    tick_size=D("0.1"),
    step_size=D("0.001"),
    min_price=D("0.1"),
    max_price=D("1000000"),
    min_quantity=D("0.001"),
    max_quantity=D("1000"),
    market_max_quantity=D("120"),
    min_notional=D("50"),
)


def quote(bid: str = "100.0", ask: str = "100.2", symbol: str = "BTCUSDT") -> Quote:
    return Quote(symbol, D(bid), D("5"), D(ask), D("5"), 1, NOW)


def mark(price: str = "100.1") -> MarkPrice:
    return MarkPrice("BTCUSDT", D(price), D(price), D("0.0001"), NOW + 3_600_000, NOW)


def decision(action: Action = Action.ENTER_LONG, **changes: object) -> Decision:
    values: dict[str, object] = {
        "symbol": "BTCUSDT",
        "time_ms": NOW,
        "action": action,
        "primary_reason": "expected_value",
        "side": -1 if action is Action.ENTER_SHORT else 1,
        "probability": 0.6,
        "calibration_slope": 1.0,
        "edge": 0.003,
        "fee_cost": 0.001,
        "spread_cost": 0.0,
        "slippage_cost": 0.0,
        "funding_cost": 0.0,
        "execution_gap_cost": 0.0,
        "expected_value": 0.002,
        "leverage": 0.4,
        "stop_distance": 0.01,
        "target_distance": 0.01,
        "horizon_minutes": 30,
        "features": {},
        "contributions": {},
        "expert_probabilities": {},
        "expert_weights": {},
        "gates": (),
        "smallest_change": "",
    }
    return Decision(**(values | changes))  # type: ignore[arg-type]


class Desk:
    """An engine with money in its account, and the few events a test tells it."""

    def __init__(self, decider: RecordedDecisions | None = None) -> None:
        self.decider = decider or RecordedDecisions()
        self.engine = Engine(Config(symbols=("BTCUSDT",)), self.decider)
        self.minute_ms = NOW - 60_000
        self.trade_id = 0
        self.engine.apply(
            ev.EngineStarted(time_ms=NOW, epoch=1, market="test", disclosure="", symbols=("BTCUSDT",), config_hash="")
        )
        self.engine.apply(ev.RulesObserved(time_ms=NOW, rules={"BTCUSDT": RULES}, brackets={}))
        self.engine.apply(ev.Deposited(time_ms=NOW, amount=D("10000"), key="opening balance"))

    def decide(self, made: Decision, **changes: object) -> list[PlaceOrder]:
        self.decider.next_decisions = (made,)
        self.minute_ms += 60_000
        values: dict[str, object] = {"quotes": {"BTCUSDT": quote()}, "marks": {"BTCUSDT": mark()}, "bars": {}}
        commands = self.engine.apply(
            ev.MinuteClosed(time_ms=NOW, open_time_ms=self.minute_ms, **(values | changes))  # type: ignore[arg-type]
        )
        assert all(isinstance(command, PlaceOrder) for command in commands)
        return commands  # type: ignore[return-value]

    def fill(self, placed: PlaceOrder, price: str, quantity: str | None = None, *, trade_id: int | None = None) -> None:
        intent = placed.intent
        size = D(quantity) if quantity else intent.quantity
        record = self.engine.intents[intent.client_order_id]
        self.trade_id += 1
        executed = record.executed_quantity + size
        self.engine.apply(
            ev.OrderChanged(
                time_ms=NOW,
                order=Order(
                    symbol=intent.symbol,
                    order_id=int(intent.client_order_id[-6:]),
                    client_order_id=intent.client_order_id,
                    side=intent.side,
                    order_type=intent.order_type,
                    status=OrderStatus.FILLED if executed >= intent.quantity else OrderStatus.PARTIALLY_FILLED,
                    price=D(0),
                    original_quantity=intent.quantity,
                    executed_quantity=executed,
                ),
                fill=Fill(
                    symbol=intent.symbol,
                    trade_id=trade_id or self.trade_id,
                    order_id=int(intent.client_order_id[-6:]),
                    client_order_id=intent.client_order_id,
                    side=intent.side,
                    price=D(price),
                    quantity=size,
                    commission=size * D(price) * D("0.0005"),
                    realized_pnl=D(0),
                    maker=False,
                    trade_time_ms=NOW,
                ),
            )
        )

    def look(self, seen: Quote, *, later_ms: int = 1_000) -> list[PlaceOrder]:
        commands = self.engine.apply(ev.MonitorTicked(time_ms=NOW + later_ms, quotes={seen.symbol: seen}))
        return commands  # type: ignore[return-value]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def long_desk(desk: Desk) -> Desk:
    """A long of 39.92 at 100.2: stop 99.2, target 101.2."""
    desk.fill(desk.decide(decision())[0], "100.2")
    return desk


def test_an_entry_that_passes_every_gate_becomes_one_market_order(desk: Desk) -> None:
    (placed,) = desk.decide(decision())
    assert placed.intent.order_type is OrderType.MARKET
    assert placed.intent.side is Side.BUY
    assert placed.intent.quantity == D("39.920")  # 0.4 of 10,000 USDT at the ask, on the step grid
    assert not placed.intent.reduce_only


def test_an_intent_exists_before_its_command_leaves(desk: Desk) -> None:
    (placed,) = desk.decide(decision())
    assert desk.engine.intents[placed.intent.client_order_id].state is IntentState.SAVED


def test_two_intents_never_share_an_identity(desk: Desk) -> None:
    (first,) = desk.decide(decision())
    desk.fill(first, "100.2")
    (second,) = desk.engine.apply(ev.CloseRequested(time_ms=NOW, symbol="BTCUSDT"))
    assert isinstance(second, PlaceOrder)
    assert first.intent.client_order_id != second.intent.client_order_id


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        pytest.param(ev.EntriesPaused(time_ms=NOW, paused=True, reason="lunch"), "entries_allowed", id="paused"),
        pytest.param(ev.BreakerMoved(time_ms=NOW, level="REDUCE_ONLY", cause="5xx"), "breaker", id="breaker"),
        pytest.param(
            ev.AccountObserved(time_ms=NOW, wallet_balance=D("9999"), positions={}), "entries_allowed", id="account"
        ),
    ],
)
def test_a_closed_gate_turns_the_entry_into_a_refusal_that_names_it(desk: Desk, event: ev.Event, reason: str) -> None:
    desk.engine.apply(event)
    assert desk.decide(decision()) == []
    (final,) = desk.engine.new_decisions
    assert (final.action, final.primary_reason) == (Action.REFUSE, reason)
    assert reason in [gate.name for gate in final.gates if not gate.passed]


def test_a_minute_that_was_missed_decides_nothing(desk: Desk) -> None:
    assert desk.decide(decision(), entries_allowed=False, entries_refused_because="this minute was missed") == []


def test_an_account_that_agrees_again_allows_entries_again(desk: Desk) -> None:
    desk.engine.apply(ev.AccountObserved(time_ms=NOW, wallet_balance=D("9999"), positions={}))
    desk.engine.apply(ev.AccountObserved(time_ms=NOW, wallet_balance=D("10000"), positions={}))
    assert len(desk.decide(decision())) == 1


def test_a_halted_breaker_does_not_keep_a_position_from_being_closed(long_desk: Desk) -> None:
    long_desk.engine.apply(ev.BreakerMoved(time_ms=NOW, level="HALTED", cause="418"))
    assert len(long_desk.engine.apply(ev.CloseRequested(time_ms=NOW, symbol="BTCUSDT"))) == 1


def told_of_the_feed(desk: Desk, *looks: tuple[int, bool, str]) -> list[str]:
    """What the log says after these looks at the feed: minutes from now, healthy, cause."""
    before = len(desk.engine.log)
    for minutes, healthy, cause in looks:
        desk.engine.apply(
            ev.FeedChanged(time_ms=NOW + minutes * 60_000, what="reconciliation", healthy=healthy, cause=cause)
        )
    return [row.text for row in list(desk.engine.log)[before:]]


def test_the_same_trouble_of_the_feed_is_told_once_an_hour(desk: Desk) -> None:
    assert len(told_of_the_feed(desk, *((minute, False, "503") for minute in range(61)))) == 2


def test_other_trouble_and_recovery_are_told_at_once(desk: Desk) -> None:
    told = told_of_the_feed(desk, (0, False, "503"), (1, False, "418"), (2, True, ""), (3, False, "418"))
    assert told == ["reconciliation: 503", "reconciliation: 418", "reconciliation: healthy", "reconciliation: 418"]


def test_what_is_not_told_need_not_be_recorded(desk: Desk) -> None:
    told_of_the_feed(desk, (0, False, "503"))
    before = desk.engine.revision
    told_of_the_feed(desk, (1, False, "503"))
    assert desk.engine.revision == before


@pytest.mark.parametrize(
    ("seen", "later_ms", "reason"),
    [
        pytest.param(quote("99.1", "99.3"), 1_000, "stop_loss", id="a long is stopped at the bid"),
        pytest.param(quote("101.3", "101.5"), 1_000, "take_profit", id="a long takes profit at the bid"),
        pytest.param(quote("100.0", "100.2"), 31 * 60_000, "max_holding", id="time-out"),
    ],
)
def test_an_exit_closes_the_whole_position_reduce_only(
    long_desk: Desk, seen: Quote, later_ms: int, reason: str
) -> None:
    (placed,) = long_desk.look(seen, later_ms=later_ms)
    assert placed.intent.reason == reason
    assert placed.intent.reduce_only
    assert placed.intent.side is Side.SELL
    assert placed.intent.quantity == D("39.920")


def test_a_long_is_not_stopped_by_the_ask(long_desk: Desk) -> None:
    assert long_desk.look(quote("99.9", "100.1")) == []


def test_a_profit_given_back_is_taken_by_the_trailing_stop(long_desk: Desk) -> None:
    assert long_desk.look(quote("101.1", "101.3")) == []
    (placed,) = long_desk.look(quote("100.6", "100.8"))
    assert placed.intent.reason == "trailing_stop"


def test_a_close_under_way_is_not_sent_twice(long_desk: Desk) -> None:
    assert len(long_desk.look(quote("99.1", "99.3"))) == 1
    assert long_desk.look(quote("99.0", "99.2")) == []


def test_what_a_partial_close_left_is_closed_by_the_next_look(long_desk: Desk) -> None:
    (placed,) = long_desk.look(quote("99.1", "99.3"))
    long_desk.fill(placed, "99.1", "10")
    record = long_desk.engine.intents[placed.intent.client_order_id]
    order = Order(
        symbol="BTCUSDT",
        order_id=record.order_id,
        client_order_id=placed.intent.client_order_id,
        side=Side.SELL,
        order_type=OrderType.MARKET,
        status=OrderStatus.EXPIRED,
        price=D(0),
        original_quantity=placed.intent.quantity,
        executed_quantity=D("10"),
    )
    long_desk.engine.apply(ev.OrderChanged(time_ms=NOW, order=order))
    (rest,) = long_desk.look(quote("99.0", "99.2"))
    assert rest.intent.quantity == D("29.920")


def test_a_closed_trade_tells_its_price_pnl_and_its_fees(long_desk: Desk) -> None:
    (placed,) = long_desk.look(quote("101.3", "101.5"))
    long_desk.fill(placed, "101.3")
    (closed,) = long_desk.engine.closed_trades
    assert closed.realized_pnl == D("39.920") * (D("101.3") - D("100.2"))
    assert closed.commission == D("39.920") * (D("101.3") + D("100.2")) * D("0.0005")
    assert closed.net_pnl == closed.realized_pnl - closed.commission
    assert (closed.side, closed.exit_reason) == ("long", "take_profit")


class Listener(RecordedDecisions):
    """A decider that remembers what it was told of execution."""

    def __init__(self) -> None:
        super().__init__()
        self.gaps: list[tuple[str, float]] = []

    def observe_execution(self, symbol: str, real_minus_virtual: float) -> None:
        self.gaps.append((symbol, real_minus_virtual))


def test_a_closed_trade_teaches_how_much_worse_it_was_filled_than_its_quotes_promised() -> None:
    listener = Listener()
    desk = Desk(listener)
    desk.fill(desk.decide(decision())[0], "100.3")  # promised 100.2
    (placed,) = desk.look(quote("101.3", "101.5"))
    desk.fill(placed, "101.2")  # promised 101.3
    assert listener.gaps == [("BTCUSDT", pytest.approx(-0.2 / 100.3))]


def test_a_fill_told_twice_is_booked_once(desk: Desk) -> None:
    (placed,) = desk.decide(decision())
    desk.fill(placed, "100.2", "10", trade_id=77)
    wallet = desk.engine.account.wallet_balance
    desk.fill(placed, "100.2", "10", trade_id=77)
    assert desk.engine.account.wallet_balance == wallet
    assert desk.engine.position("BTCUSDT").quantity == D("10")


def test_funding_is_booked_once_per_symbol_and_settlement(long_desk: Desk) -> None:
    paid = ev.FundingPaid(time_ms=NOW, symbol="BTCUSDT", funding_time_ms=NOW, amount=D("-0.4"))
    before = long_desk.engine.account.wallet_balance
    long_desk.engine.apply(paid)
    long_desk.engine.apply(paid)
    assert long_desk.engine.account.wallet_balance == before - D("0.4")


def test_a_final_order_never_comes_back_to_life(long_desk: Desk) -> None:
    (entry,) = long_desk.engine.intents.values()
    order = Order(
        symbol="BTCUSDT",
        order_id=1,
        client_order_id=entry.intent.client_order_id,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        status=OrderStatus.NEW,
        price=D(0),
        original_quantity=entry.intent.quantity,
        executed_quantity=D(0),
    )
    long_desk.engine.apply(ev.OrderChanged(time_ms=NOW, order=order))
    assert entry.state is IntentState.DONE
    assert entry.order_status is OrderStatus.FILLED


def test_a_liquidation_is_adopted_and_ends_the_trade(long_desk: Desk) -> None:
    order = Order(
        symbol="BTCUSDT",
        order_id=900,
        client_order_id="autoclose-1",
        side=Side.SELL,
        order_type=OrderType.LIMIT,
        status=OrderStatus.FILLED,
        price=D("90"),
        original_quantity=D("39.920"),
        executed_quantity=D("39.920"),
    )
    fill = Fill(
        symbol="BTCUSDT",
        trade_id=900,
        order_id=900,
        client_order_id="autoclose-1",
        side=Side.SELL,
        price=D("90"),
        quantity=D("39.920"),
        commission=D("1"),
        realized_pnl=D(0),
        maker=False,
        trade_time_ms=NOW,
    )
    long_desk.engine.apply(ev.OrderChanged(time_ms=NOW, order=order, fill=fill))
    assert not long_desk.engine.position("BTCUSDT").is_open
    assert long_desk.engine.closed_trades[0].exit_reason == "liquidation"


def test_an_intent_saved_before_a_crash_is_asked_about_at_the_next_start(desk: Desk) -> None:
    (placed,) = desk.decide(decision())
    commands = desk.engine.apply(
        ev.EngineStarted(time_ms=NOW + 5, epoch=2, market="test", disclosure="", symbols=("BTCUSDT",), config_hash="")
    )
    assert commands == [SettleDoubt(intent=placed.intent, sent_at_ms=NOW)]


def test_an_intent_in_doubt_blocks_new_entries_on_its_symbol(desk: Desk) -> None:
    (placed,) = desk.decide(decision())
    desk.engine.apply(ev.OrderInDoubt(time_ms=NOW, client_order_id=placed.intent.client_order_id, cause="time-out"))
    assert desk.decide(decision()) == []


def test_an_intent_proven_unplaced_frees_its_symbol(desk: Desk) -> None:
    (placed,) = desk.decide(decision())
    cid = placed.intent.client_order_id
    desk.engine.apply(ev.OrderInDoubt(time_ms=NOW, client_order_id=cid, cause="time-out"))
    desk.engine.apply(ev.OrderNeverPlaced(time_ms=NOW, client_order_id=cid, evidence="fence"))
    assert len(desk.decide(decision())) == 1


def test_an_event_that_changes_nothing_is_not_worth_recording(long_desk: Desk) -> None:
    revision = long_desk.engine.revision
    long_desk.look(quote("99.9", "100.1"))
    assert long_desk.engine.revision == revision


def test_a_refused_exit_is_tried_again_later_and_later(long_desk: Desk) -> None:
    sent = []
    for second in range(1, 61):
        for placed in long_desk.look(quote("99.1", "99.3"), later_ms=second * 1_000):
            sent.append(second)
            long_desk.engine.apply(
                ev.OrderRefused(
                    time_ms=NOW + second * 1_000,
                    client_order_id=placed.intent.client_order_id,
                    code=-2022,
                    message="ReduceOnly Order is rejected.",
                )
            )
    assert sent == [1, 2, 4, 8, 16, 32]


def test_a_person_may_close_however_often_an_exit_was_refused(long_desk: Desk) -> None:
    (placed,) = long_desk.look(quote("99.1", "99.3"))
    long_desk.engine.apply(
        ev.OrderRefused(time_ms=NOW + 1_000, client_order_id=placed.intent.client_order_id, code=-2022, message="no")
    )
    assert len(long_desk.engine.apply(ev.CloseRequested(time_ms=NOW + 1_001, symbol="BTCUSDT"))) == 1


def test_an_epoch_decides_by_its_own_settings_whatever_the_engine_was_made_with(desk: Desk) -> None:
    settings = to_plain(Config(risk=RiskConfig(max_order_notional=D("1000"))))
    desk.engine.apply(
        ev.EngineStarted(
            time_ms=NOW,
            epoch=2,
            market="test",
            disclosure="",
            symbols=("BTCUSDT",),
            config_hash="",
            settings={"risk": settings["risk"], "trader": settings["trader"]},
        )
    )
    (placed,) = desk.decide(decision())
    assert placed.intent.quantity == D("9.980")


def test_a_daily_loss_beyond_the_cap_stops_entries(long_desk: Desk) -> None:
    long_desk.engine.apply(ev.FundingPaid(time_ms=NOW, symbol="", funding_time_ms=1, amount=D("-1500")))
    (placed,) = long_desk.engine.apply(ev.CloseRequested(time_ms=NOW, symbol="BTCUSDT"))
    assert isinstance(placed, PlaceOrder)
    long_desk.fill(placed, "100.2")
    assert long_desk.decide(decision()) == []
    assert long_desk.engine.new_decisions[0].primary_reason == "daily_loss"


prices = st.decimals(min_value="0.1", max_value="99999.9", places=1)
sizes = st.decimals(min_value="0.001", max_value="50", places=3)


@given(trades=st.lists(st.tuples(st.sampled_from(Side), prices, sizes, st.booleans()), max_size=30), at=prices)
def test_the_two_accounts_of_the_money_agree_to_the_last_digit(
    trades: list[tuple[Side, Decimal, Decimal, bool]], at: Decimal
) -> None:
    desk = Desk()
    cash, held = D("10000"), D(0)
    for number, (side, price, size, funded) in enumerate(trades):
        order = Order(
            symbol="BTCUSDT",
            order_id=number,
            client_order_id=f"manual-{number}",
            side=side,
            order_type=OrderType.MARKET,
            status=OrderStatus.FILLED,
            price=D(0),
            original_quantity=size,
            executed_quantity=size,
        )
        commission = (size * price * D("0.0005")).quantize(D("0.00000001"))
        fill = Fill(
            symbol="BTCUSDT",
            trade_id=number,
            order_id=number,
            client_order_id=order.client_order_id,
            side=side,
            price=price,
            quantity=size,
            commission=commission,
            realized_pnl=D(0),
            maker=False,
            trade_time_ms=NOW,
        )
        desk.engine.apply(ev.OrderChanged(time_ms=NOW, order=order, fill=fill))
        cash -= side.sign * size * price + commission
        held += side.sign * size
        if funded:
            desk.engine.apply(
                ev.FundingPaid(time_ms=NOW, symbol="BTCUSDT", funding_time_ms=number, amount=D("-0.12345678"))
            )
            cash -= D("0.12345678")
        desk.engine.check_balance()
    assert desk.engine.position("BTCUSDT").quantity == held
    assert desk.engine.account.wallet_balance + desk.engine.unrealized_pnl({"BTCUSDT": at}) == cash + held * at


def test_drift_is_told_once_a_step(desk: Desk) -> None:
    for step, nats in (("shrink", 8.2), ("shrink", 8.9), ("steady", 3.9)):
        desk.engine.apply(ev.DriftMoved(time_ms=NOW, step=step, nats=nats))
    told = [row.text for row in desk.engine.log if row.text.startswith("drift")]
    assert told == [
        "drift: steady → shrink, 8.2 nats lost against a coin",
        "drift: shrink → steady, 3.9 nats lost against a coin",
    ]


@pytest.mark.parametrize("action", list(Action))
def test_a_decision_on_numbers_that_are_none_acts_on_nothing_and_can_be_read_again(desk: Desk, action: Action) -> None:
    nan = float("nan")
    made = decision(action, probability=nan, features={"flow": nan}, changes=(Change("probability", nan, 0.6),))
    assert desk.decide(made) == []
    (recorded,) = desk.engine.new_decisions
    assert recorded.primary_reason == "model_not_finite"
    assert recorded.action is (Action.HOLD if action in (Action.EXIT, Action.HOLD) else Action.REFUSE)
    assert msgspec.json.decode(msgspec.json.encode(recorded), type=Decision) == recorded
