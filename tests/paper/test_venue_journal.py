"""The venue after a crash: the account, its orders and its place in the market come back from the journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import LedgerDamaged
from labkit.paper.paper_exchange import StoredVenueJournal, resume_ms
from labkit.paper.venue_records import JournalEntry

D = Decimal


class Remembered:
    """A journal in memory; `fails` makes the disk full."""

    def __init__(self) -> None:
        self.entries: list[JournalEntry] = []
        self.fails = False

    def append(self, entries: Sequence[JournalEntry]) -> None:
        if self.fails:
            raise OSError("disk full")
        self.entries.extend(entries)

    def replay(self) -> Iterator[JournalEntry]:
        return iter(self.entries)


def lived(market: Any, counter_of: Any, journal: Any) -> Any:
    """A venue with a position, a resting order, a funding payment and a changed leverage."""
    market.trade(500, "90000.1", "1")
    market.quote(29_000_000, "90000.0", "90000.1")
    market.quote(29_100_000, "89000.0", "89100.0")
    market.quote(29_200_000, "89000.0", "89100.0")
    counter = counter_of(market, journal=journal)
    counter.ask("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=7)
    counter.order(1_000, newClientOrderId="lab-1")
    counter.order(28_900_000, type="LIMIT", price="89500", timeInForce="GTC", newClientOrderId="lab-2")
    return counter


def test_the_account_goes_on_where_it_was(market: Any, counter_of: Any) -> None:
    journal = Remembered()
    before = lived(market, counter_of, journal)
    after = counter_of(market, journal=journal)
    assert after.venue.start_ms == before.at(28_900_001)
    assert after.venue.desk.account.__dict__ == before.venue.desk.account.__dict__
    assert after.venue.desk.orders == before.venue.desk.orders
    assert after.get("/fapi/v3/account", 28_900_002) == before.get("/fapi/v3/account", 28_900_002)
    assert D(after.get("/fapi/v1/income", 28_900_002, incomeType="FUNDING_FEE")[0]["income"]) == D("-0.9")


def test_resting_orders_fill_after_the_restart_with_new_ids(market: Any, counter_of: Any) -> None:
    journal = Remembered()
    lived(market, counter_of, journal)
    after = counter_of(market, journal=journal)
    after.venue.advance(after.at(29_100_000))
    order = after.get("/fapi/v1/order", 29_100_000, symbol="BTCUSDT", origClientOrderId="lab-2")
    assert order["status"] == "FILLED"
    assert len({fill.trade_id for fill in after.venue.desk.fills}) == 2
    after.venue.desk.check_invariants()


def test_funding_paid_before_the_crash_is_not_paid_again(market: Any, counter_of: Any) -> None:
    journal = Remembered()
    lived(market, counter_of, journal)
    after = counter_of(market, journal=journal)
    after.venue.advance(after.at(29_100_000))
    assert after.venue.desk.account.funding == D("-0.9")


def test_the_id_of_an_open_order_stays_taken_after_the_restart(market: Any, counter_of: Any) -> None:
    journal = Remembered()
    lived(market, counter_of, journal)
    after = counter_of(market, journal=journal)
    assert after.order(28_900_010, newClientOrderId="lab-2")[1]["code"] == -4116
    assert after.order(28_900_010, newClientOrderId="lab-1")[1].get("code") != -4116


def test_any_cut_of_the_journal_between_steps_is_an_account_that_balances(market: Any, counter_of: Any) -> None:
    journal = Remembered()
    lived(market, counter_of, journal).venue.advance(market.start_ms + 29_150_000)
    whole = list(journal.entries)
    kinds = [entry for entry in whole if entry.kind != "MarketReached"]
    for length in range(1, len(kinds) + 1):
        journal.entries = kinds[:length]
        after = counter_of(market, journal=journal)
        after.venue.desk.check_invariants()


def test_nothing_is_told_of_what_could_not_be_written(market: Any, counter_of: Any) -> None:
    journal = Remembered()
    counter = counter_of(market, journal=journal)
    key = counter.ask("POST", "/fapi/v1/listenKey", secret=None)[1]["listenKey"]
    session = counter.venue.open_stream(f"/private/ws/{key}", counter.at(0))
    counter.venue.advance(counter.at(10))
    journal.fails = True
    with pytest.raises(OSError, match="disk full"):
        counter.order(20)
    assert not session.outgoing


def test_a_journal_on_disk_is_found_again_and_says_where_to_resume(
    market: Any, counter_of: Any, tmp_path: Path
) -> None:
    assert resume_ms(market, tmp_path) == market.start_ms
    journal = StoredVenueJournal(tmp_path)
    before = lived(market, counter_of, journal)
    wallet = before.venue.desk.account.wallet_balance
    journal.close()
    assert resume_ms(market, tmp_path) == before.at(28_900_001)
    journal = StoredVenueJournal(tmp_path)
    after = counter_of(market, journal=journal)
    assert after.venue.desk.account.wallet_balance == wallet
    journal.close()


def test_a_foreign_entry_is_damage(market: Any, counter_of: Any) -> None:
    journal = Remembered()
    journal.entries = [JournalEntry(1, "Dream", "x", b'{"type":"Dream"}')]
    with pytest.raises(LedgerDamaged):
        counter_of(market, journal=journal)
