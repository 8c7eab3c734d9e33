"""The account's books: golden values of the protocol reference, and laws that hold after anything that happens."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.config import PaperConfig
from labkit.domain.market_events import MarkPrice, Quote, Trade
from labkit.domain.orders import Fill, OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from labkit.errors import LedgerImbalance, RequestRejected
from labkit.paper import funding, margin
from labkit.paper.account import PaperAccount
from labkit.paper.listings import LISTED_BRACKETS, LISTED_RULES
from labkit.paper.margin import OpenNotional
from labkit.paper.order_desk import OrderDesk
from labkit.paper.venue_records import FundingSettled, OrderFilled, PositionLiquidated, VenueRecord

D = Decimal

SYMBOL = "BTCUSDT"
BRACKETS = {SYMBOL: LISTED_BRACKETS[SYMBOL], "ETHUSDT": LISTED_BRACKETS["ETHUSDT"]}


class Desk:
    """An order desk with a hand on the market."""

    def __init__(self, *, balance: str = "10000", **config: Any) -> None:
        self.records: list[VenueRecord] = []
        self.now_ms = 1_000_000
        self.update_id = 0
        self.ids = 0
        self.desk = OrderDesk(
            {symbol: LISTED_RULES[symbol] for symbol in BRACKETS}, BRACKETS, PaperConfig(**config), self.records.append
        )
        self.desk.deposit(D(balance), self.now_ms)

    def quote(self, bid: str, ask: str, size: str = "10", symbol: str = SYMBOL) -> None:
        self.now_ms += 1
        self.update_id += 1
        self.desk.on_quote(Quote(symbol, D(bid), D(size), D(ask), D(size), self.update_id, self.now_ms), self.now_ms)

    def mark(self, price: str, symbol: str = SYMBOL) -> MarkPrice:
        self.now_ms += 1
        mark = MarkPrice(symbol, D(price), D(price), D("0.0001"), 2_000_000, self.now_ms)
        self.desk.on_mark(mark, self.now_ms)
        return mark

    def order(
        self,
        side: Side,
        quantity: str,
        price: str | None = None,
        *,
        time_in_force: TimeInForce | None = None,
        reduce_only: bool = False,
        symbol: str = SYMBOL,
    ) -> Any:
        self.now_ms += 1
        self.ids += 1
        return self.desk.place(
            OrderIntent(
                client_order_id=f"test-{self.ids}",
                symbol=symbol,
                side=side,
                order_type=OrderType.MARKET if price is None else OrderType.LIMIT,
                quantity=D(quantity),
                price=None if price is None else D(price),
                time_in_force=time_in_force,
                reduce_only=reduce_only,
            ),
            self.now_ms,
        )

    def position(self, symbol: str = SYMBOL) -> D:
        return self.desk.account.position(symbol).quantity


def market(**config: Any) -> Desk:
    desk = Desk(**config)
    desk.quote("90000.0", "90000.1")
    desk.mark("90000")
    return desk


def held(*, isolated: bool, wallet: str, side: Side, quantity: str) -> PaperAccount:
    """An account that holds `quantity` at 90000 with exactly `wallet` behind it."""
    account = PaperAccount([SYMBOL], isolated=isolated, max_leverage={SYMBOL: 150})
    account.deposit(D(wallet), 1)
    account.book_fill(
        Fill(
            symbol=SYMBOL,
            trade_id=1,
            order_id=1,
            client_order_id="a",
            side=side,
            price=D(90000),
            quantity=D(quantity),
            commission=D(0),
            realized_pnl=D(0),
            maker=False,
            trade_time_ms=1,
        )
    )
    if isolated:
        account.holdings[SYMBOL].isolated_wallet = D(wallet)
        account.cross_wallet = D(0)
    return account


@pytest.mark.parametrize(
    ("isolated", "wallet", "side", "quantity", "expected"),
    [
        pytest.param(False, "1000", Side.BUY, "0.1", "80321.285", id="long, cross, bracket 1"),
        pytest.param(True, "500", Side.SELL, "0.1", "94621.514", id="short, isolated, bracket 1"),
        pytest.param(False, "100000", Side.BUY, "10", "80372.421", id="long, cross, bracket 3"),
    ],
)
def test_liquidation_price_has_the_golden_values(
    isolated: bool, wallet: str, side: Side, quantity: str, expected: str
) -> None:
    account = held(isolated=isolated, wallet=wallet, side=side, quantity=quantity)
    price = margin.liquidation_price(account, SYMBOL, {SYMBOL: D(90000)}, BRACKETS)
    assert price.quantize(D("0.001")) == D(expected)


@pytest.mark.parametrize(("quantity", "amount"), [("0.5", "-4.50"), ("-0.5", "4.50")])
def test_funding_has_the_golden_value(quantity: str, amount: str) -> None:
    assert funding.payment(D(quantity), D(90000), D("0.0001")) == D(amount)


def test_margin_has_the_values_of_the_protocols_example() -> None:
    account = PaperAccount([SYMBOL], isolated=False, max_leverage={SYMBOL: 150})
    account.deposit(D("10000"), 1)
    account.book_fill(
        Fill(
            symbol=SYMBOL,
            trade_id=1,
            order_id=1,
            client_order_id="a",
            side=Side.BUY,
            price=D("91200"),
            quantity=D("0.2"),
            commission=D("3.648"),
            realized_pnl=D(0),
            maker=True,
            trade_time_ms=1,
        )
    )
    figures = margin.account_margin(account, {SYMBOL: D("91234.60")}, BRACKETS, {SYMBOL: OpenNotional(D(27360), D(0))})
    assert account.wallet_balance == D("9996.352")
    assert figures.unrealized_pnl == D("6.92")
    assert figures.position_initial_margin == D("912.346")
    assert figures.open_order_initial_margin == D(1368)
    assert figures.maintenance_margin.quantize(D("0.00001")) == D("72.98768")
    assert figures.available_balance == D("7722.926")


def test_an_order_that_only_reduces_reserves_nothing() -> None:
    assert margin.order_margin(D(9000), OpenNotional(asks=D(9000)), 20) == 0
    assert margin.order_margin(D(9000), OpenNotional(asks=D(20000)), 20) == D(100)


def test_a_market_buy_pays_the_ask_and_the_taker_fee() -> None:
    desk = market()
    entry = desk.order(Side.BUY, "0.100")
    assert entry.order.status is OrderStatus.FILLED
    assert entry.order.average_price == D("90000.1")
    assert desk.desk.account.wallet_balance == D(10000) - D("9000.01") * D("0.0005")


def test_a_market_order_stops_at_the_take_bound_and_the_rest_expires() -> None:
    desk = market(balance="10000000")
    desk.quote("90000.0", "94499.9", "1")
    desk.mark("90000")
    entry = desk.order(Side.BUY, "50")
    assert entry.order.status is OrderStatus.EXPIRED
    assert entry.order.executed_quantity == 2
    assert max(fill.price for fill in desk.desk.fills) == D("94500.0")


def test_a_resting_order_is_filled_as_maker_at_its_own_price() -> None:
    desk = market()
    entry = desk.order(Side.BUY, "0.100", "89990.0")
    assert entry.order.status is OrderStatus.NEW
    desk.quote("89985.0", "89989.0")
    assert entry.order.status is OrderStatus.FILLED
    fill = desk.desk.fills[0]
    assert (fill.maker, fill.price, fill.commission) == (True, D("89990.0"), D("8999.0") * D("0.0002"))


def refusal(desk: Desk, *args: Any, **kwargs: Any) -> int:
    before = len(desk.records)
    with pytest.raises(RequestRejected) as caught:
        desk.order(*args, **kwargs)
    assert len(desk.records) == before, "a refusal changes nothing"
    return caught.value.code


@pytest.mark.parametrize(
    ("code", "args", "kwargs"),
    [
        pytest.param(-2022, (Side.SELL, "0.1"), {"reduce_only": True}, id="nothing to reduce"),
        pytest.param(-5022, (Side.BUY, "0.1", "90000.1"), {"time_in_force": TimeInForce.GTX}, id="post-only takes"),
        pytest.param(-5021, (Side.BUY, "11", "90000.1"), {"time_in_force": TimeInForce.FOK}, id="fill or kill"),
        pytest.param(-2019, (Side.BUY, "3"), {}, id="margin"),
        pytest.param(-4164, (Side.BUY, "0.001", "40000"), {}, id="notional"),
        pytest.param(-4014, (Side.BUY, "0.1", "90000.05"), {}, id="tick"),
        pytest.param(-4016, (Side.BUY, "0.1", "94500.1"), {}, id="percent price"),
        pytest.param(-4005, (Side.BUY, "121"), {}, id="market lot size"),
        pytest.param(-1111, (Side.BUY, "0.0015"), {}, id="precision"),
        pytest.param(-4022, (Side.BUY, "1"), {"symbol": "ETHUSDT"}, id="no mark price yet"),
    ],
)
def test_each_rule_refuses_with_its_code(code: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    desk = market()
    if code == -4164:
        desk.quote("39999.9", "40000.1")
        desk.mark("40000")
    assert refusal(desk, *args, **kwargs) == code


def test_x15_a_client_order_id_is_taken_while_its_order_is_open_and_free_after() -> None:
    desk = market()
    resting = desk.order(Side.BUY, "0.1", price="89000", time_in_force=TimeInForce.GTC)
    desk.ids -= 1
    assert refusal(desk, Side.BUY, "0.1") == -4116
    desk.desk.cancel(desk.desk.find("BTCUSDT", order_id=resting.order.order_id), 5)
    desk.ids -= 1
    # So a blind resend of a filled order executes again, as at the exchange.
    for _ in range(2):
        assert desk.order(Side.BUY, "0.1").order.status is OrderStatus.FILLED
        desk.ids -= 1


def test_a_market_order_without_a_quote_is_refused() -> None:
    desk = market()
    desk.quote("90000.0", "89999.0")
    assert refusal(desk, Side.BUY, "0.1") == -1112


def test_a_reduce_only_order_is_trimmed_to_the_position() -> None:
    desk = market()
    desk.order(Side.BUY, "0.1")
    entry = desk.order(Side.SELL, "0.5", reduce_only=True)
    assert entry.order.original_quantity == D("0.1")
    assert desk.position() == 0


def test_resting_reduce_only_orders_end_when_the_position_is_closed() -> None:
    desk = market()
    desk.order(Side.BUY, "0.1")
    entry = desk.order(Side.SELL, "0.1", "90100.0", reduce_only=True)
    desk.order(Side.SELL, "0.1")
    assert entry.order.status is OrderStatus.EXPIRED
    assert desk.desk.open_orders() == []


def test_an_own_order_in_the_way_leaves_the_book_instead_of_trading_with_itself() -> None:
    desk = market()
    resting = desk.order(Side.SELL, "0.1", "90000.2")
    desk.order(Side.BUY, "0.1", "90000.5")
    assert resting.order.status is OrderStatus.EXPIRED_IN_MATCH


def test_funding_is_settled_once_per_symbol_and_time() -> None:
    desk = market()
    desk.order(Side.BUY, "0.1")
    mark = desk.mark("90000")
    for _ in range(3):
        desk.desk.settle_funding(mark, 2_000_000)
    settled = [record for record in desk.records if isinstance(record, FundingSettled)]
    assert [record.amount for record in settled] == [D("-0.9")]
    assert desk.desk.account.funding == D("-0.9")


def test_a_lost_cross_position_is_closed_with_a_fee_and_all_its_orders_end() -> None:
    desk = market(balance="1000")
    desk.order(Side.BUY, "0.100")
    resting = desk.order(Side.SELL, "0.050", "91000.0")
    desk.quote("80500.0", "80500.1")
    desk.mark("80500")
    assert desk.position() == D("0.1"), "above the liquidation price nothing happens"
    desk.quote("80300.0", "80300.1")
    desk.mark("80300")
    assert desk.position() == 0
    assert resting.order.status is OrderStatus.EXPIRED
    last = desk.desk.fills[-1]
    assert last.client_order_id.startswith("autoclose-")
    account = desk.desk.account
    assert 0 < account.liquidation_fees <= D("8030") * D("0.0125")
    assert account.wallet_balance >= 0
    desk.desk.check_invariants()


def test_insurance_pays_what_a_gap_takes_beyond_the_wallet() -> None:
    desk = market(balance="1000")
    desk.order(Side.BUY, "0.100")
    desk.quote("70000.0", "70000.1")
    desk.mark("70000")
    account = desk.desk.account
    assert account.wallet_balance == 0
    assert account.insurance > 0
    desk.desk.check_invariants()


def test_an_isolated_loss_leaves_the_cross_wallet_alone() -> None:
    desk = market(balance="5000", cross_margin=False)
    desk.order(Side.BUY, "0.100")
    account = desk.desk.account
    cross = account.cross_wallet
    desk.quote("70000.0", "70000.1")
    desk.mark("70000")
    assert desk.position() == 0
    assert account.cross_wallet == cross
    assert any(isinstance(record, PositionLiquidated) for record in desk.records)
    desk.desk.check_invariants()


def test_an_altered_wallet_is_an_imbalance() -> None:
    desk = market()
    desk.order(Side.BUY, "0.1")
    desk.desk.account.wallet_balance += D("0.00000001")
    with pytest.raises(LedgerImbalance, match="I01"):
        desk.desk.check_invariants()


def test_replaying_the_records_rebuilds_the_books() -> None:
    desk = market()
    desk.order(Side.BUY, "0.1")
    desk.order(Side.SELL, "0.3", "90500.0")
    desk.desk.settle_funding(desk.mark("90100"), 2_000_000)
    again = Desk()
    again.desk = OrderDesk(desk.desk.rules, BRACKETS, PaperConfig(), lambda record: None)
    for record in desk.records:
        again.desk.apply(record)
    assert again.desk.account.__dict__ == desk.desk.account.__dict__
    assert again.desk.orders == desk.desk.orders
    assert again.desk.fills == desk.desk.fills


ticks = st.integers(-300, 300)
quantities = st.integers(1, 400).map(lambda n: str(D(n) / 1000))
orders = st.tuples(
    st.just("order"),
    st.sampled_from(list(Side)),
    quantities,
    st.none() | ticks,
    st.sampled_from(list(TimeInForce)),
    st.booleans(),
)
moves = st.one_of(
    orders,
    st.tuples(st.just("quote"), st.integers(-3000, 3000), st.integers(1, 50), st.integers(1, 20)),
    st.tuples(st.just("trade"), ticks, st.integers(1, 50), st.booleans()),
    st.tuples(st.just("mark"), st.integers(-20000, 20000)),
    st.tuples(st.just("funding")),
    st.tuples(st.just("cancel")),
)


@settings(max_examples=150, deadline=None)
@given(isolated=st.booleans(), story=st.lists(moves, max_size=40))
def test_every_law_holds_after_every_event(isolated: bool, story: list[tuple[Any, ...]]) -> None:
    desk = market(balance="3000", cross_margin=not isolated)
    base, spread = D("90000.0"), D("0.1")
    for step in story:
        seen = len(desk.records)
        before = desk.position()
        match step:
            case ("order", side, quantity, offset, time_in_force, reduce_only):
                price = None if offset is None else str(base + offset * D("0.1"))
                try:
                    desk.order(
                        side,
                        quantity,
                        price,
                        time_in_force=None if price is None else time_in_force,
                        reduce_only=reduce_only,
                    )
                except RequestRejected:
                    assert len(desk.records) == seen
            case ("quote", offset, wide, size):
                base, spread = D("90000.0") + offset * D("0.1"), wide * D("0.1")
                desk.quote(str(base), str(base + spread), str(D(size) / 100))
            case ("trade", offset, size, buyer_is_maker):
                desk.desk.on_trade(
                    Trade(SYMBOL, 1, base + offset * D("0.1"), D(size) / 100, buyer_is_maker, 0, 0), desk.now_ms
                )
            case ("mark", offset):
                desk.mark(str(D(90000) + offset * D("0.1")))
            case ("funding",):
                desk.desk.settle_funding(
                    MarkPrice(SYMBOL, D(90000), D(90000), D("0.0001"), desk.now_ms, desk.now_ms), desk.now_ms
                )
            case ("cancel",):
                desk.desk.cancel_all(SYMBOL, desk.now_ms)
        desk.desk.check_invariants()
        holds_laws_of_fills(desk, seen, before)


def holds_laws_of_fills(desk: Desk, seen: int, before: D) -> None:
    for record in desk.records[seen:]:
        if not isinstance(record, OrderFilled):
            continue
        fill = record.fill
        order = desk.desk.orders[fill.order_id].order
        if order.order_type is OrderType.LIMIT:  # I10
            assert (fill.price - order.price) * fill.side.sign <= 0
            assert not fill.maker or fill.price == order.price
        after = before + fill.signed_quantity
        if order.reduce_only:  # I09
            assert abs(after) < abs(before)
            assert after * before >= 0
        before = after
    assert len({fill.trade_id for fill in desk.desk.fills}) == len(desk.desk.fills)  # I05
    if any(isinstance(record, PositionLiquidated) for record in desk.records[seen:]):  # I15
        assert desk.desk.account.wallet_balance >= 0
