"""The matching model: what a taker gets, when a resting order is filled."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from labkit.domain.market_events import Quote, Trade
from labkit.domain.orders import Side
from labkit.paper.matching import Execution, MatchingBook, RestingOrder

D = Decimal


def quote(bid: str, bid_quantity: str, ask: str, ask_quantity: str, update_id: int = 1) -> Quote:
    return Quote("BTCUSDT", D(bid), D(bid_quantity), D(ask), D(ask_quantity), update_id, 0)


def trade(price: str, quantity: str, *, buyer_is_maker: bool) -> Trade:
    return Trade("BTCUSDT", 1, D(price), D(quantity), buyer_is_maker, 0, 0)


class Fills:
    """Executes everything the book offers, and remembers it."""

    def __init__(self, book: MatchingBook) -> None:
        self.book = book
        self.done: list[tuple[int, D]] = []

    def __call__(self, order: RestingOrder, offered: D) -> D:
        self.done.append((order.order_id, offered))
        order.remaining -= offered
        if not order.remaining:
            self.book.remove(order.order_id)
        return offered


def book_with(first: Quote) -> tuple[MatchingBook, Fills]:
    book = MatchingBook(D("0.1"))
    fills = Fills(book)
    book.on_quote(first, fills)
    return book, fills


def take(book: MatchingBook, side: Side, quantity: str, worst: str) -> list[Execution]:
    executions = book.walk(side, D(quantity), D(worst))
    for execution in executions:
        book.take(side, execution)
    return executions


def test_a_taker_within_the_displayed_size_gets_the_best_price() -> None:
    book, _ = book_with(quote("100.0", "2", "100.1", "3"))
    assert take(book, Side.BUY, "2.5", "110") == [Execution(D("100.1"), D("2.5"))]


def test_every_further_displayed_size_costs_one_tick_more() -> None:
    book, _ = book_with(quote("100.0", "2", "100.1", "3"))
    assert take(book, Side.SELL, "5", "90") == [
        Execution(D("100.0"), D(2)),
        Execution(D("99.9"), D(2)),
        Execution(D("99.8"), D(1)),
    ]


def test_a_taker_never_pays_beyond_its_worst_price() -> None:
    book, _ = book_with(quote("100.0", "2", "100.1", "3"))
    assert take(book, Side.BUY, "100", "100.2") == [Execution(D("100.1"), D(3)), Execution(D("100.2"), D(3))]


def test_liquidity_taken_once_is_gone_until_a_new_size_is_shown() -> None:
    book, fills = book_with(quote("100.0", "2", "100.1", "3"))
    take(book, Side.BUY, "2", "110")
    book.on_quote(quote("100.0", "5", "100.1", "3", 2), fills)
    assert book.walk(Side.BUY, D(2), D(110))[0] == Execution(D("100.1"), D(1))
    book.on_quote(quote("100.0", "5", "100.1", "4", 3), fills)
    assert book.walk(Side.BUY, D(2), D(110)) == [Execution(D("100.1"), D(2))]


def test_nothing_fills_against_a_crossed_quote() -> None:
    book, _ = book_with(quote("100.2", "2", "100.1", "3"))
    assert book.walk(Side.BUY, D(1), D(110)) == []
    assert book.best_price(Side.SELL) is None


def test_a_resting_order_fills_at_the_size_that_reaches_its_price() -> None:
    book, fills = book_with(quote("100.0", "2", "100.1", "3"))
    book.rest(RestingOrder(7, Side.BUY, D("99.5"), D(4)))
    book.on_quote(quote("99.3", "1", "99.4", "3", 2), fills)
    assert fills.done == [(7, D(3))]
    # The same size shown again is no new evidence.
    book.on_quote(quote("99.3", "9", "99.4", "3", 3), fills)
    assert fills.done == [(7, D(3))]


def test_a_touched_level_alone_does_not_fill_the_queue_behind_it() -> None:
    book, fills = book_with(quote("100.0", "2", "100.1", "3"))
    book.rest(RestingOrder(7, Side.BUY, D("100.0"), D(1)))
    book.on_quote(quote("100.0", "8", "100.1", "3", 2), fills)
    assert fills.done == []


def test_prints_at_the_price_pass_the_queue_ahead_before_they_fill() -> None:
    book, fills = book_with(quote("100.0", "2", "100.1", "3"))
    book.rest(RestingOrder(7, Side.BUY, D("100.0"), D(1)))
    book.on_trade(trade("100.0", "1.5", buyer_is_maker=True), fills)
    assert fills.done == []
    book.on_trade(trade("100.0", "0.9", buyer_is_maker=True), fills)
    assert fills.done == [(7, D("0.4"))]


def test_a_print_of_the_other_side_fills_nobody() -> None:
    book, fills = book_with(quote("100.0", "2", "100.1", "3"))
    book.rest(RestingOrder(7, Side.BUY, D("100.0"), D(1)))
    book.on_trade(trade("100.0", "50", buyer_is_maker=False), fills)
    assert fills.done == []


def test_a_print_through_the_price_fills_without_a_queue() -> None:
    book, fills = book_with(quote("100.0", "2", "100.1", "3"))
    book.rest(RestingOrder(7, Side.SELL, D("100.5"), D(2)))
    book.on_trade(trade("100.6", "1.5", buyer_is_maker=False), fills)
    assert fills.done == [(7, D("1.5"))]


def test_two_own_orders_share_one_print_in_book_order() -> None:
    book, fills = book_with(quote("100.0", "2", "100.4", "3"))
    book.rest(RestingOrder(8, Side.BUY, D("100.1"), D(1)))
    book.rest(RestingOrder(7, Side.BUY, D("100.2"), D(1)))
    book.on_trade(trade("100.1", "1.5", buyer_is_maker=True), fills)
    assert fills.done == [(7, D(1)), (8, D("0.5"))]


def test_an_order_inside_the_spread_has_nobody_ahead() -> None:
    book, fills = book_with(quote("100.0", "2", "100.5", "3"))
    book.rest(RestingOrder(7, Side.BUY, D("100.2"), D(1)))
    book.on_trade(trade("100.2", "0.3", buyer_is_maker=True), fills)
    assert fills.done == [(7, D("0.3"))]


sizes = st.integers(1, 50).map(lambda n: D(n) / 10)


@given(st.lists(sizes, min_size=1, max_size=20), sizes)
def test_takers_never_get_more_of_a_level_than_was_shown(wanted: list[D], shown: D) -> None:
    book, _ = book_with(quote("100.0", "2", "100.1", str(shown)))
    got: dict[D, D] = {}
    for quantity in wanted:
        for execution in take(book, Side.BUY, str(quantity), "101"):
            got[execution.price] = got.get(execution.price, D(0)) + execution.quantity
    assert all(quantity <= shown for quantity in got.values())
    assert all(D("100.1") <= price <= 101 for price in got)
