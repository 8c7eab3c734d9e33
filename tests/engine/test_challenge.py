"""Champion and challenger: dealt with alike, judged by a rule stated before, and rebuilt from the ledger."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from labkit.config import Config, TraderConfig
from labkit.domain import events as ev
from labkit.domain.clock import DAY_MS
from labkit.domain.decisions import Action
from labkit.domain.market_events import MarkPrice, Quote
from labkit.engine.engine import Engine
from labkit.engine.recovery import RecordedDecisions
from labkit.errors import ConfigError
from labkit.trader.challenge import Challenge, changed_settings
from labkit.trader.exits import make_exit_plan
from labkit.trader.promotion import PromotionRule
from tests.engine.test_engine_apply import NOW, RULES, decision, quote

D = Decimal
CHANGES: dict[str, Any] = {"cost_margin": 0.5, "max_leverage_per_symbol": 0.25}
RULE = PromotionRule()
MIDNIGHT = (NOW // DAY_MS + 1) * DAY_MS


def mark(price: str = "100.1", *, rate: str = "0.0001", due_ms: int = MIDNIGHT * 2) -> MarkPrice:
    return MarkPrice("BTCUSDT", D(price), D(price), D(rate), due_ms, NOW)


def order(book: str, quantity: str, price: str) -> ev.ShadowOrder:
    """An entry, with a bracket of one percent."""
    side = 1 if D(quantity) > 0 else -1
    plan = make_exit_plan(decision(), D(price), side, NOW, RULES)
    return ev.ShadowOrder(
        book=book, symbol="BTCUSDT", quantity=D(quantity), price=D(price), plan=msgspec.to_builtins(plan)
    )


class Story:
    """An engine and all that happened to it."""

    def __init__(self, rule: PromotionRule = RULE) -> None:
        self.events: list[ev.Event] = []
        self.engine = Engine(Config(symbols=("BTCUSDT",)), RecordedDecisions())
        self.minutes = 0
        self.tell(
            ev.EngineStarted(time_ms=NOW, epoch=1, market="test", disclosure="", symbols=("BTCUSDT",), config_hash="")
        )
        self.tell(ev.RulesObserved(time_ms=NOW, rules={"BTCUSDT": RULES}, brackets={}))
        self.tell(ev.Deposited(time_ms=NOW, amount=D("10000"), key="opening balance"))
        self.tell(ev.ChallengeStarted(time_ms=NOW, changes=CHANGES, rule=msgspec.to_builtins(rule)))

    @property
    def challenge(self) -> Challenge:
        assert self.engine.challenge is not None
        return self.engine.challenge

    def tell(self, event: ev.Event) -> None:
        self.events.append(event)
        self.engine.apply(event)

    def trade(self, *orders: ev.ShadowOrder) -> None:
        self.tell(ev.ShadowTraded(time_ms=NOW, orders=orders))

    def minute(self, seen: Quote, *, time_ms: int = 0, marked: MarkPrice | None = None) -> None:
        self.minutes += 1
        marks = {"BTCUSDT": marked} if marked else {}
        time_ms = time_ms or NOW + self.minutes * 60_000
        self.tell(
            ev.MinuteClosed(time_ms=time_ms, open_time_ms=time_ms, bars={}, quotes={"BTCUSDT": seen}, marks=marks)
        )

    def days(self, first: int, last: int, *, won_of_four: int, quantity: str) -> None:
        """Days of one long each that gains or loses about one percent, the challenger's of `quantity`, else 1."""
        for day in range(first, last):
            self.trade(order("champion", "1", "100"), order("challenger", quantity, "100"))
            price = D("101.1") if day % 4 < won_of_four else D("98.8")
            self.minute(quote(str(price), str(price + D("0.1"))), time_ms=MIDNIGHT + day * DAY_MS + 60_000)

    def judge(self) -> ev.ChallengeJudged:
        verdict = self.challenge.verdict()
        assert verdict is not None
        judged = ev.ChallengeJudged(
            time_ms=self.engine.now_ms,
            promoted=verdict.promoted,
            looked_days=verdict.looked_days,
            probability=verdict.probability,
            words=verdict.words,
        )
        self.tell(judged)
        return judged

    def state(self) -> bytes:
        engine = self.engine
        return msgspec.json.encode([engine.challenge, engine.promoted, engine.before_promotion, engine.config.trader])

    def told_again(self) -> bytes:
        """The state of another engine that met the same events, as the ledger stores them."""
        again = Story.__new__(Story)
        again.engine = Engine(Config(symbols=("BTCUSDT",)), RecordedDecisions())
        for event in self.events:
            again.engine.apply(msgspec.json.decode(msgspec.json.encode(event), type=ev.Event))
        return again.state()


@pytest.fixture
def story() -> Story:
    return Story()


def test_an_order_on_paper_pays_spread_and_fee_both_ways(story: Story) -> None:
    story.trade(order("challenger", "10", "100.2"))
    story.minute(quote("101.30", "101.50"))  # the target is 101.2, sold at the bid
    book = story.challenge.books["challenger"]
    assert book.closed_trades == 1
    fees = D("0.0005") * 10 * (D("100.2") + D("101.3"))
    assert book.cash == D(10_000) + 10 * (D("101.3") - D("100.2")) - fees
    assert story.challenge.books["champion"].cash == D(10_000)


def test_a_stop_is_met_at_what_closing_pays(story: Story) -> None:
    story.trade(order("challenger", "-10", "100.0"))
    story.minute(quote("100.9", "101.2"))
    book = story.challenge.books["challenger"]
    assert (book.positions, book.closed_trades) == ({}, 1)
    assert book.worth < D(10_000) - 10 * D("1.2")


def test_a_position_held_through_a_settlement_pays_its_funding_once(story: Story) -> None:
    story.trade(order("challenger", "10", "100"), order("champion", "-10", "100"))
    before = {name: book.cash for name, book in story.challenge.books.items()}
    due = NOW + 2 * 60_000
    story.minute(quote(), marked=mark("100", rate="0.001", due_ms=due))
    story.minute(quote(), marked=mark("100", rate="0.001", due_ms=due + DAY_MS))
    story.minute(quote(), marked=mark("100", rate="0.001", due_ms=due + DAY_MS))
    paid = {name: book.cash - before[name] for name, book in story.challenge.books.items()}
    assert paid == {"challenger": D(-1), "champion": D(1)}


def test_the_first_part_of_a_day_is_no_day(story: Story) -> None:
    story.minute(quote())
    story.minute(quote(), time_ms=MIDNIGHT)
    assert story.challenge.books["champion"].daily == []
    story.minute(quote(), time_ms=MIDNIGHT + DAY_MS)
    assert story.challenge.books["champion"].daily == [0.0]


def test_a_challenger_that_is_better_is_promoted_and_rolled_back_by_events_alone() -> None:
    # Three times the stake wins more and falls deeper; this rule allows for it.
    story = Story(PromotionRule(drawdown_ratio=4.0))
    story.days(0, 20, won_of_four=3, quantity="3")
    assert story.challenge.verdict() is None  # too early to look
    story.days(20, 32, won_of_four=3, quantity="3")
    assert story.judge().promoted
    assert story.engine.challenge is None
    assert story.engine.config.trader == changed_settings(TraderConfig(), CHANGES)
    assert story.told_again() == story.state()
    story.tell(ev.PromotionRolledBack(time_ms=story.engine.now_ms, reason="asked to"))
    assert story.engine.config.trader == TraderConfig()
    assert story.told_again() == story.state()
    told = [row.text for row in story.engine.log]
    assert any(text.startswith("challenge: Promoted after 30 days") for text in told)
    assert "promotion rolled back: asked to" in told


def test_the_same_challenger_is_refused_by_a_rule_that_does_not_allow_its_drawdown(story: Story) -> None:
    story.days(0, 32, won_of_four=3, quantity="3")
    judged = story.judge()
    assert not judged.promoted
    assert judged.probability < 0.025
    assert story.engine.promoted == {}


def test_a_challenger_that_is_no_better_is_refused_and_looked_at_again_only_when_the_rule_says(story: Story) -> None:
    story.days(0, 32, won_of_four=2, quantity="1")
    judged = story.judge()
    assert not judged.promoted
    assert story.challenge.verdict() is None
    assert story.engine.config.trader == TraderConfig()
    assert story.told_again() == story.state()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        pytest.param({}, "must change something", id="nothing"),
        pytest.param({"cost_margin": TraderConfig().cost_margin}, "must change something", id="the same"),
        pytest.param({"horizon_minutes": 60}, "horizon_minutes.*what is learned", id="what is learned"),
        pytest.param({"cost_margins": 0.5}, r"did you mean 'trader\.cost_margin'", id="unknown"),
        pytest.param({"kelly_fraction": 7}, "kelly_fraction", id="out of range"),
    ],
)
def test_what_cannot_be_tried_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        changed_settings(TraderConfig(), changes)


def test_both_decide_by_their_own_settings_and_positions(story: Story) -> None:
    asked: list[tuple[float, dict[str, int]]] = []

    def decide(config: TraderConfig, held: dict[str, int], drawdown: float) -> tuple[Any, ...]:
        asked.append((config.cost_margin, dict(held)))
        return (decision(Action.EXIT),) if held else (decision(leverage=config.max_leverage_per_symbol),)

    story.trade(order("champion", "2", "100"))
    made = story.challenge.orders(decide, {"BTCUSDT": quote()}, {"BTCUSDT": RULES}, story.engine.config.risk, NOW)
    assert asked == [(TraderConfig().cost_margin, {"BTCUSDT": 1}), (0.5, {})]
    assert [(o.book, o.quantity, o.price) for o in made] == [
        ("champion", D(-2), D("100.0")),
        ("challenger", D("24.950"), D("100.2")),
    ]


def test_a_champion_started_with_other_settings_ends_the_challenge(story: Story) -> None:
    settings = {
        "risk": msgspec.to_builtins(story.engine.config.risk),
        "trader": msgspec.to_builtins(TraderConfig(kelly_fraction=0.1)),
    }
    story.tell(
        ev.EngineStarted(
            time_ms=NOW, epoch=2, market="test", disclosure="", symbols=("BTCUSDT",), config_hash="", settings=settings
        )
    )
    assert story.engine.challenge is None
