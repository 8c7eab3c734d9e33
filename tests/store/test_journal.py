"""The journal keeps what it acknowledged, once, and names the first record that was touched."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import AlreadyRunning, ConfigError, LedgerDamaged, LedgerError
from labkit.store.journal import APPLICATION_ID, GENESIS, Journal, Record, anchor_path, is_begun
from labkit.store.run_lock import Owner, RunLock


def some_records(count: int, start: int = 0) -> list[Record]:
    return [Record(1_000 + n, "Kind", f"key-{n}", b"body %d" % n) for n in range(start, start + count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_an_empty_journal_starts_at_the_genesis_hash(path: Path) -> None:
    journal = Journal.open(path)
    assert (journal.sequence, journal.head_hash) == (0, GENESIS)


def test_what_was_appended_is_read_back_in_order_after_reopening(path: Path) -> None:
    journal = Journal.open(path)
    journal.append(some_records(5))
    head = journal.head_hash
    journal.close()
    again = Journal.open(path)
    assert [record.body for record in again.read()] == [b"body %d" % n for n in range(5)]
    assert again.head_hash == head


def test_a_key_is_stored_once_and_redoing_an_append_returns_its_number(path: Path) -> None:
    journal = Journal.open(path)
    assert journal.append(some_records(3)) == [1, 2, 3]
    assert journal.append(some_records(4)) == [1, 2, 3, 4]
    assert journal.sequence == 4


def test_equal_histories_have_equal_hashes_and_others_do_not(tmp_path: Path) -> None:
    hashes = []
    for name, count in (("a", 7), ("b", 7), ("c", 8)):
        journal = Journal.open(tmp_path / f"{name}.sqlite")
        journal.append(some_records(count))
        hashes.append(journal.head_hash)
        journal.close()
    assert hashes[0] == hashes[1] != hashes[2]


def test_it_really_runs_in_wal_with_full_synchronous(path: Path) -> None:
    journal = Journal.open(path)
    connection = journal._connection
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2


@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        pytest.param("UPDATE records SET body = x'00' WHERE sequence = 3", 3, id="altered body"),
        pytest.param("UPDATE records SET time_ms = time_ms + 1 WHERE sequence = 5", 5, id="altered time"),
        pytest.param("DELETE FROM records WHERE sequence = 2", 2, id="missing row"),
        pytest.param("DELETE FROM records WHERE sequence > 7", 8, id="lost tail"),
        pytest.param("UPDATE records SET hash = 'x' WHERE sequence = 9", 9, id="altered hash"),
    ],
)
def test_damage_is_named_by_its_first_record(path: Path, statement: str, first_bad: int) -> None:
    journal = Journal.open(path)
    journal.append(some_records(10))
    journal.close()
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(LedgerDamaged) as caught:
        Journal.open(path)
    assert caught.value.sequence == first_bad


def test_a_history_rewritten_from_the_start_is_refused_by_the_anchor(path: Path, tmp_path: Path) -> None:
    journal = Journal.open(path)
    journal.append(some_records(4))
    journal.close()
    kept = anchor_path(path).read_bytes()
    for file in tmp_path.iterdir():
        file.unlink()
    other = Journal.open(path)
    other.append(some_records(4, start=100))
    other.close()
    anchor_path(path).write_bytes(kept)
    with pytest.raises(LedgerDamaged):
        Journal.open(path)


def test_a_missing_anchor_is_damage(path: Path) -> None:
    journal = Journal.open(path)
    journal.append(some_records(1))
    journal.close()
    anchor_path(path).unlink()
    with pytest.raises(LedgerDamaged, match="missing"):
        Journal.open(path)


@pytest.mark.parametrize("reached", ["connected", "marked", "table made"])
def test_a_death_during_creation_leaves_a_journal_that_can_be_created(path: Path, reached: str) -> None:
    connection = sqlite3.connect(path)
    if reached != "connected":
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    if reached == "table made":
        connection.execute("CREATE TABLE records (sequence INTEGER PRIMARY KEY, epoch, time_ms, kind, key, body, hash)")
    connection.close()
    journal = Journal.open(path)
    assert journal.append(some_records(2)) == [1, 2]


def test_a_foreign_sqlite_file_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(LedgerError, match="not one of labkit's"):
        Journal.open(path)


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"hello, I am a diary" * 100)
    with pytest.raises(LedgerDamaged):
        Journal.open(path)
    assert path.read_bytes().startswith(b"hello")


def test_a_newer_schema_is_refused(path: Path) -> None:
    Journal.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerError, match="newer labkit"):
        Journal.open(path)


def test_a_reader_sees_what_the_writer_committed_and_cannot_write(path: Path) -> None:
    writer = Journal.open(path)
    writer.append(some_records(3), anchor=True)
    reader = Journal.open(path, read_only=True)
    assert [record.sequence for record in reader.read()] == [1, 2, 3]
    with pytest.raises(LedgerError, match="read-only"):
        reader.append(some_records(1))


def test_the_ledger_is_readable_by_its_owner_only(path: Path) -> None:
    Journal.open(path).close()
    assert path.stat().st_mode & 0o077 == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_flipped_bit_is_ever_shown_as_truth(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("flip")
    path = folder / "ledger.sqlite"
    journal = Journal.open(path)
    journal.append(some_records(40))
    journal.close()
    truth = [record.body for record in Journal.open(path).read()]
    blob = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(blob) - 1))
    blob[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(blob))
    try:
        seen = [record.body for record in Journal.open(path).read()]
    except LedgerError:
        return
    assert seen == truth


WRITER = """
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from labkit.store.journal import Journal, Record
journal = Journal.open(Path(sys.argv[1]))
n = journal.sequence
while True:
    n += 1
    journal.append([Record(n, "Kind", f"key-{n}", b"x" * 50)])
    print(n, flush=True)
"""


def test_every_acknowledged_record_survives_sigkill(path: Path) -> None:
    dice = random.Random(7)
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        acknowledged = 0
        for _ in range(dice.randint(1, 60)):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        acknowledged = max([acknowledged, *map(int, rest)])
        journal = Journal.open(path)
        assert journal.sequence >= acknowledged
        journal.close()


@pytest.mark.parametrize(
    ("pid", "said"),
    [
        (4711, r"\(process 4711, .*stop it, or attach to it from its own notebook, or choose another data folder"),
        (os.getpid(), r"\(in this very process, .*labkit\.start\(\) gives it, or choose another data folder"),
    ],
    ids=["another process", "this one"],
)
def test_a_second_owner_is_told_what_to_do_here_and_elsewhere(tmp_path: Path, pid: int, said: str) -> None:
    lock = RunLock.acquire(tmp_path, Owner(pid, "2026-01-05T00:00:00Z", "here"))
    with pytest.raises(AlreadyRunning, match=said):
        RunLock.acquire(tmp_path, Owner(4712, "later", "here"))
    lock.release()


def test_a_second_owner_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    lock = RunLock.acquire(tmp_path, Owner(4711, "2026-01-05T00:00:00Z", "here"))
    with pytest.raises(AlreadyRunning, match="4711") as caught:
        RunLock.acquire(tmp_path, Owner(4712, "later", "here"))
    assert caught.value.pid == 4711
    lock.release()
    RunLock.acquire(tmp_path, Owner(4712, "later", "here")).release()


def test_writers_that_take_turns_continue_one_chain(path: Path) -> None:
    first, second = Journal.open(path), Journal.open(path)
    first.append(some_records(3))
    second.catch_up()
    second.append(some_records(2, start=3))
    first.catch_up()
    first.append(some_records(1, start=5))
    first.close()
    second.close()
    assert [record.key for record in Journal.open(path).read()] == [f"key-{n}" for n in range(6)]


def test_a_writer_that_did_not_catch_up_is_refused_and_changes_nothing(path: Path) -> None:
    first, second = Journal.open(path), Journal.open(path)
    first.append(some_records(3))
    with pytest.raises(LedgerError, match="cannot write"):
        second.append(some_records(1, start=3))
    assert Journal.open(path, read_only=True).sequence == 3


def test_catching_up_finds_what_does_not_continue_the_history(path: Path) -> None:
    first, second = Journal.open(path), Journal.open(path)
    first.append(some_records(3))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE records SET body = x'00' WHERE sequence = 2")
    connection.commit()
    with pytest.raises(LedgerDamaged, match="record 2 was altered"):
        second.catch_up()


def test_an_anchor_knows_what_was_appended_without_a_flush_only_after_one(path: Path) -> None:
    journal = Journal.open(path)
    journal.append(some_records(3), flush=False)
    assert records_without_the_log(path) == 0
    journal.write_anchor()
    assert records_without_the_log(path) == 3


def records_without_the_log(path: Path) -> int:
    """What the database file alone holds; SQLite flushes its log before it moves anything there."""
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


@pytest.fixture
def full_disk() -> Iterator[Callable[[], None]]:
    """Call it and no file can grow any more; all is well again after the test, or once it is called a second time."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def switch() -> None:
        full = resource.getrlimit(resource.RLIMIT_FSIZE) == before
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]) if full else before)

    yield switch
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_journal_on_a_full_disk_is_closed_all_the_same_and_keeps_what_it_holds(
    path: Path, full_disk: Callable[[], None]
) -> None:
    journal = Journal.open(path)
    journal.append(some_records(5))
    full_disk()
    with pytest.raises(LedgerError, match=r"cannot write .*ledger\.sqlite"):
        journal.append(some_records(5, start=5))
    with pytest.raises(LedgerError, match=r"cannot write .*ledger\.anchor"):
        journal.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        list(journal.read())
    journal.close()
    full_disk()
    again = Journal.open(path)
    assert [record.key for record in again.read()] == [f"key-{n}" for n in range(5)]
    again.append(some_records(5, start=5))
    again.close()


def test_a_journal_that_could_not_be_created_for_want_of_room_is_not_called_damaged_and_is_created_later(
    path: Path, full_disk: Callable[[], None]
) -> None:
    full_disk()
    with pytest.raises(LedgerError, match="cannot write") as raised:
        Journal.open(path)
    assert not isinstance(raised.value, LedgerDamaged)
    full_disk()
    assert path.exists()
    assert not is_begun(path)
    Journal.open(path).close()
    assert is_begun(path)


def test_a_folder_on_a_full_disk_is_not_kept_locked(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    full_disk()
    with pytest.raises(ConfigError, match=r"cannot keep state in .*; data_dir=\.\.\. chooses another folder"):
        RunLock.acquire(tmp_path, Owner(4711, "2026-01-05T00:00:00Z", "here"))
    full_disk()
    RunLock.acquire(tmp_path, Owner(4712, "later", "here")).release()
