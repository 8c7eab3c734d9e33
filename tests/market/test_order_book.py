"""The local book: the chain of update ids is the whole of its truth."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.domain.market_events import DepthDiff, Quote
from labkit.errors import BookGap, RemoteProtocolError
from labkit.market.order_book import OrderBook
from labkit.wire.streams import decode_frame

Levels = list[tuple[str, str]]


def levels(pairs: Levels) -> tuple[tuple[Decimal, Decimal], ...]:
    return tuple((Decimal(price), Decimal(quantity)) for price, quantity in pairs)


def diff(first: int, final: int, previous: int, bids: Levels = [], asks: Levels = []) -> DepthDiff:  # noqa: B006
    return DepthDiff("BTCUSDT", first, final, previous, levels(bids), levels(asks), 0)


def book_at(update_id: int) -> OrderBook:
    book = OrderBook("BTCUSDT")
    book.load_snapshot(update_id, levels([("99", "1"), ("98", "2")]), levels([("101", "1"), ("102", "2")]))
    return book


def test_a_zero_quantity_removes_the_level_and_the_next_best_shows() -> None:
    book = book_at(10)
    book.apply(diff(9, 12, 8, [("99", "0.000")], [("101", "0"), ("100.5", "3")]))
    assert book.best_bid() == (Decimal(98), Decimal(2))
    assert book.best_ask() == (Decimal("100.5"), Decimal(3))
    assert book.asks(5) == list(levels([("100.5", "3"), ("102", "2")]))


def test_diffs_older_than_the_snapshot_are_passed_over() -> None:
    book = book_at(10)
    assert not book.apply(diff(5, 9, 4, [("99", "7")]))
    assert book.best_bid() == (Decimal(99), Decimal(1))


def test_the_first_diff_must_span_the_snapshot() -> None:
    with pytest.raises(BookGap):
        book_at(10).apply(diff(12, 15, 11))


def test_a_broken_chain_empties_the_book_and_asks_for_a_snapshot() -> None:
    book = book_at(10)
    book.apply(diff(9, 12, 8))
    with pytest.raises(BookGap, match="known up to 12, next diff follows 13"):
        book.apply(diff(14, 15, 13))
    assert not book.is_synchronized
    assert book.best_bid() is None


def test_the_diff_that_revealed_the_gap_is_applied_to_the_new_snapshot() -> None:
    book = book_at(10)
    book.apply(diff(9, 12, 8))
    with pytest.raises(BookGap):
        book.apply(diff(14, 15, 13, [("99.5", "4")]))
    book.apply(diff(16, 18, 15, [("99.6", "5")]))
    book.load_snapshot(14, levels([("99", "1")]), levels([("101", "1")]))
    assert book.best_bid() == (Decimal("99.6"), Decimal(5))
    assert book.update_id == 18


def test_diffs_that_waited_but_do_not_reach_the_snapshot_are_a_gap_and_wait_on() -> None:
    book = OrderBook("BTCUSDT")
    book.apply(diff(20, 22, 19))
    book.apply(diff(23, 25, 22, [("99.5", "4")]))
    with pytest.raises(BookGap):
        book.load_snapshot(10, levels([("99", "1")]), levels([("101", "1")]))
    book.load_snapshot(21, levels([("99", "1")]), levels([("101", "1")]))
    assert book.update_id == 25
    assert book.best_bid() == (Decimal("99.5"), Decimal(4))


def test_a_diff_of_another_symbol_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        OrderBook("ETHUSDT").apply(diff(1, 2, 0))


Changes = st.lists(st.tuples(st.booleans(), st.integers(1, 30), st.integers(0, 3)), max_size=6)


@given(batches=st.lists(Changes, max_size=25), snapshot_after=st.integers(0, 25))
def test_snapshot_and_diffs_agree_with_a_book_that_saw_everything(
    batches: list[list[tuple[bool, int, int]]], snapshot_after: int
) -> None:
    """The exchange's book as two plain dictionaries; ours starts from its state in the middle."""
    truth: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})
    book = OrderBook("BTCUSDT")
    diffs, snapshot = [], None
    for index, batch in enumerate(batches):
        if index == snapshot_after:
            snapshot = (index * 10, dict(truth[0]), dict(truth[1]))
        sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
        for is_bid, offset, quantity in batch:
            price = Decimal(100 - offset if is_bid else 100 + offset)
            sides[not is_bid][str(price)] = str(quantity)
            if quantity:
                truth[not is_bid][price] = Decimal(quantity)
            else:
                truth[not is_bid].pop(price, None)
        # Ids are not consecutive: only `pu` chains them.
        diffs.append(diff(index * 10 + 3, index * 10 + 10, index * 10, list(sides[0].items()), list(sides[1].items())))
    for change in diffs:
        book.apply(change)
    if snapshot is None:
        assert not book.is_synchronized
        return
    update_id, bids, asks = snapshot
    book.load_snapshot(update_id, bids.items(), asks.items())
    assert book.bids(100) == sorted(truth[0].items(), reverse=True)
    assert book.asks(100) == sorted(truth[1].items())
    assert book.best_bid() == next(iter(book.bids(1)), None)
    assert book.best_ask() == next(iter(book.asks(1)), None)


def _lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as file:
        for line in file:
            yield line.rstrip().partition(b" ")[2]


@pytest.mark.real_data
@pytest.mark.parametrize(
    "names",
    [
        ("BTCUSDT-20230404", "BTCUSDT-20230405"),
        ("BTCUSDT-20240718", "BTCUSDT-20240719"),
        ("ETHUSDT-20240718", "ETHUSDT-20240719"),
    ],
)
def test_the_recorded_book_agrees_with_every_recorded_best_price_of_the_same_id(
    real_data: Path, names: tuple[str, str]
) -> None:
    book = OrderBook(names[0].partition("-")[0])
    tops: dict[int, tuple[tuple[Decimal, Decimal] | None, tuple[Decimal, Decimal] | None]] = {}
    quotes: list[Quote] = []
    for line in itertools.chain.from_iterable(_lines(real_data / f"ticks/um/{name}.raw.gz") for name in names):
        if not line.startswith(b'{"stream"'):
            snapshot = json.loads(line)
            book.load_snapshot(snapshot["lastUpdateId"], levels(snapshot["bids"]), levels(snapshot["asks"]))
        elif b"@depth" in line[:40]:
            fact = decode_frame(line, 0)
            assert isinstance(fact, DepthDiff)
            if book.apply(fact):
                tops[fact.final_update_id] = (book.best_bid(), book.best_ask())
        elif b"@bookTicker" in line[:40]:
            fact = decode_frame(line, 0)
            assert isinstance(fact, Quote)
            quotes.append(fact)
    compared = [(quote, tops[quote.update_id]) for quote in quotes if quote.update_id in tops]
    assert len(compared) > 100
    for quote, top in compared:
        assert top == ((quote.bid_price, quote.bid_quantity), (quote.ask_price, quote.ask_quantity))
