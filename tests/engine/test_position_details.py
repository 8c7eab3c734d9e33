"""One position in detail, and what a sudden move would do, told by the engine's own books."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.domain import events as ev
from labkit.domain.orders import Side
from labkit.engine.position_details import position_detail, what_if
from labkit.errors import ConfigError, LocalProtocolError
from labkit.paper import margin
from labkit.paper.listings import LISTED_RULES
from labkit.paper.venue_records import OrderFilled
from tests.engine.test_engine_apply import NOW, Desk, decision, quote
from tests.paper.test_account_books import BRACKETS, SYMBOL
from tests.paper.test_account_books import Desk as PaperDesk

D = Decimal


@pytest.fixture
def long_desk() -> Desk:
    """A long of 39.92, promised at 100.2 and filled at 100.3."""
    desk = Desk()
    desk.fill(desk.decide(decision())[0], "100.3")
    return desk


def detail(desk: Desk, mark: str = "101.0") -> object:
    return position_detail(desk.engine, "BTCUSDT", {"BTCUSDT": quote()}, {"BTCUSDT": D(mark)})


def test_the_parts_of_a_result_are_what_each_cost_or_earned(long_desk: Desk) -> None:
    long_desk.engine.apply(ev.FundingPaid(time_ms=NOW, symbol="BTCUSDT", funding_time_ms=NOW, amount=D("-0.4")))
    pnl = detail(long_desk).pnl  # type: ignore[attr-defined]
    assert pnl.price == D("39.92") * D("0.8")  # from the 100.2 that were promised to the mark at 101.0
    assert pnl.slippage == D("39.92") * D("-0.1")
    assert pnl.fees == -D("39.92") * D("100.3") * D("0.0005")
    assert pnl.funding == D("-0.4")


def test_the_parts_add_up_to_what_the_account_has_gained(long_desk: Desk) -> None:
    (closing,) = long_desk.engine.apply(ev.CloseRequested(time_ms=NOW, symbol="BTCUSDT", quantity=D("10")))
    long_desk.fill(closing, "100.7")
    engine = long_desk.engine
    gained = engine.account.wallet_balance + engine.unrealized_pnl({"BTCUSDT": D("101.0")}) - D("10000")
    assert detail(long_desk).pnl.net == gained  # type: ignore[attr-defined]


def test_a_detail_names_the_decision_and_the_fills_of_the_position(long_desk: Desk) -> None:
    (closing,) = long_desk.engine.apply(ev.CloseRequested(time_ms=NOW, symbol="BTCUSDT", quantity=D("10")))
    long_desk.fill(closing, "100.7")
    told = detail(long_desk)
    assert told.decision.probability == 0.6  # type: ignore[attr-defined]
    assert [(fill.side, fill.quantity) for fill in told.fills] == [  # type: ignore[attr-defined]
        (Side.BUY, D("39.920")),
        (Side.SELL, D("10")),
    ]


def test_the_next_position_on_a_symbol_has_fills_of_its_own(long_desk: Desk) -> None:
    (closing,) = long_desk.engine.apply(ev.CloseRequested(time_ms=NOW, symbol="BTCUSDT"))
    long_desk.fill(closing, "100.7")
    long_desk.fill(long_desk.decide(decision())[0], "100.2")
    assert [fill.price for fill in detail(long_desk).fills] == [D("100.2")]  # type: ignore[attr-defined]


def test_a_position_that_is_not_there_has_no_detail() -> None:
    with pytest.raises(LocalProtocolError, match="no open position on BTCUSDT"):
        detail(Desk())


def test_a_jump_over_the_stop_tells_what_it_costs_beyond_it(long_desk: Desk) -> None:
    # The stop stands at 99.3, 1 % below the entry; the mark falls from 100.1 to 90.09.
    told = what_if(long_desk.engine, {}, D("-0.1"), leverage=5)
    (after,) = told.positions
    assert after.stop_passed
    assert after.beyond_stop == D("39.92") * (D("90.09") - D("99.3"))
    assert told.equity - told.equity_before == D("39.92") * D("-10.01")


def test_a_small_move_passes_no_stop(long_desk: Desk) -> None:
    (after,) = what_if(long_desk.engine, {}, D("0.005"), leverage=5).positions
    assert (after.stop_passed, after.beyond_stop) == (False, 0)


def test_a_rehearsal_changes_nothing(long_desk: Desk) -> None:
    engine = long_desk.engine
    before = (engine.revision, engine.equity, dict(engine.marks))
    what_if(engine, {}, D("-0.9"), leverage=5)
    assert (engine.revision, engine.equity, dict(engine.marks)) == before


def test_an_account_without_positions_is_not_liquidated() -> None:
    assert not what_if(Desk().engine, {}, D("-0.5"), leverage=5).liquidated


@pytest.mark.parametrize("fraction", ["-1", "-2", "10.1", "NaN"])
def test_a_move_no_price_can_make_is_refused(long_desk: Desk, fraction: str) -> None:
    with pytest.raises(ConfigError, match="percent"):
        what_if(long_desk.engine, {}, D(fraction), leverage=5)


@given(
    quantity=st.decimals("-1.9", "1.9", places=3).filter(lambda quantity: abs(quantity) >= D("0.01")),
    fraction=st.decimals("-0.6", "0.6", places=3),
)
def test_it_foretells_a_liquidation_exactly_where_the_exchange_liquidates(quantity: Decimal, fraction: Decimal) -> None:
    paper = PaperDesk(balance="10000")
    paper.quote("90000", "90000.10", size="100")
    paper.mark("90000")
    placed = paper.order(Side.BUY if quantity > 0 else Side.SELL, str(abs(quantity)))
    desk = Desk()
    desk.engine.apply(ev.RulesObserved(time_ms=NOW, rules={SYMBOL: LISTED_RULES[SYMBOL]}, brackets=BRACKETS))
    for record in paper.records:
        if isinstance(record, OrderFilled):
            desk.engine.apply(ev.OrderChanged(time_ms=NOW, order=placed.order, fill=record.fill))
    assert desk.engine.position(SYMBOL) == paper.desk.account.position(SYMBOL)
    told = what_if(desk.engine, {SYMBOL: D(90000)}, fraction, leverage=20)
    lost = margin.is_cross_lost(paper.desk.account, {SYMBOL: D(90000) * (1 + fraction)}, BRACKETS)
    assert told.liquidated == lost
