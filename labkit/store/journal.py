"""Journal: an append-only, hash-chained record of events in SQLite, with an anchor outside the file.

Guarantee: when `append` returns, the events are on stable storage (WAL, `synchronous=FULL`): they survive the death
of the process, and a power cut if the drive honours flush requests. Each natural key is stored at most once, so
redoing an append is safe. Loss or alteration of stored history is found when the journal is opened and named by its
first bad sequence number. Not covered: loss of the disk, deliberate rewriting of journal and anchor together, network
file systems.

SQLite forgets a damaged WAL tail without a word and cannot see a flipped bit in a row; the chain over the rows and
the high-water anchor in a file of its own turn both into errors.

One writer (see `labkit.store.run_lock`), one thread; readers open the file read-only. Writers that take turns under a
lock of their own call `catch_up` first. Used by the engine's ledger, by the paper exchange's own books and by the trial
ledger.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from labkit.domain.clock import DAY_MS
from labkit.errors import LedgerDamaged, LedgerError

APPLICATION_ID = 0x6C61626B  # "labk"
SCHEMA_VERSION = 1
ANCHOR_EVERY = 100
"""Records between two anchors, unless the caller asks for one (at every fill)."""

GENESIS = "0" * 64

REFUSED_BY_THE_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
"""SQLite's primary codes for a disk that is full, broken or read-only: nothing is wrong with what is stored."""


class Record(msgspec.Struct, frozen=True):
    """What a caller appends. `key` is the natural identity of the event within the journal."""

    time_ms: int
    kind: str
    key: str
    body: bytes


class StoredRecord(msgspec.Struct, frozen=True):
    """What the journal holds: a record with its place in the chain."""

    sequence: int
    epoch: int
    time_ms: int
    kind: str
    key: str
    body: bytes
    hash: str


class Anchor(msgspec.Struct, frozen=True):
    """The high-water mark kept outside the database."""

    sequence: int
    hash: str
    epoch: int


def chain_hash(previous: str, sequence: int, epoch: int, record: Record) -> str:
    """SHA-256 over the previous hash and everything the row says; fields are length-prefixed, so none can run over."""
    digest = hashlib.sha256(previous.encode())
    for part in (
        str(sequence).encode(),
        str(epoch).encode(),
        str(record.time_ms).encode(),
        record.kind.encode(),
        record.key.encode(),
        record.body,
    ):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


class Journal:
    """An open journal. Make one with `Journal.open`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
        self._connection = connection
        self._path = path
        self._read_only = read_only
        self._closed = False
        self._sequence = 0
        self._hash = GENESIS
        self._epoch = 0
        self._anchored = 0
        self._flushes = True
        """What SQLite is told to do at a commit."""
        self._flushed = True
        """True if a power cut would leave everything."""

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Journal:
        """Open or create the journal at `path`, verifying every row and the anchor.

        Raises:
            LedgerDamaged: the history was altered or shortened; nothing has been changed.
            LedgerError: the file is not a journal, is of a newer labkit, or cannot be written.
        """
        if read_only:
            _check_there(path)
        is_new = not is_begun(path) and not read_only
        try:
            if read_only:
                connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                connection = sqlite3.connect(path, isolation_level=None)
                os.chmod(path, 0o600)
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"cannot open {path}: {error}") from error
        journal = cls(connection, path, read_only=read_only)
        try:
            journal._prepare(is_new=is_new)
            journal._verify()
        except sqlite3.DatabaseError as error:
            connection.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in REFUSED_BY_THE_DISK:
                raise LedgerError(f"cannot write {path}: {error}") from error
            raise LedgerDamaged(f"{path} is not a readable ledger: {error}") from error
        except BaseException:
            connection.close()
            raise
        return journal

    @property
    def path(self) -> Path:
        return self._path

    @property
    def sequence(self) -> int:
        """Number of the last record; 0 in an empty journal."""
        return self._sequence

    @property
    def head_hash(self) -> str:
        """Hash of the last record: it stands for the whole history."""
        return self._hash

    @property
    def epoch(self) -> int:
        """The present owner's number, written into every row it appends."""
        return self._epoch

    def begin_epoch(self) -> int:
        """Take ownership: everything appended from now on carries the next epoch number."""
        self._epoch += 1
        return self._epoch

    def append(self, records: Iterable[Record], *, anchor: bool = False, flush: bool = True) -> list[int]:
        """Store `records` in one transaction and return their sequence numbers.

        A record whose key is already stored is not stored again; its existing number is returned. Without `flush` they
        survive the death of the process, but a power cut only once a later append or the anchor was flushed.
        """
        if self._read_only:
            raise LedgerError(f"{self._path} is open read-only")
        sequence, previous = self._sequence, self._hash
        numbers: list[int] = []
        try:
            self._flush_commits(flush)
            self._connection.execute("BEGIN IMMEDIATE")
            for record in records:
                known = self._connection.execute("SELECT sequence FROM records WHERE key = ?", (record.key,)).fetchone()
                if known:
                    numbers.append(int(known[0]))
                    continue
                sequence += 1
                previous = chain_hash(previous, sequence, self._epoch, record)
                self._connection.execute(
                    "INSERT INTO records (sequence, epoch, time_ms, kind, key, body, hash) VALUES (?,?,?,?,?,?,?)",
                    (sequence, self._epoch, record.time_ms, record.kind, record.key, record.body, previous),
                )
                numbers.append(sequence)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise LedgerError(f"cannot write {self._path}: {error}") from error
        self._flushed = flush or (self._flushed and sequence == self._sequence)
        self._sequence, self._hash = sequence, previous
        if anchor or sequence - self._anchored >= ANCHOR_EVERY:
            self.write_anchor()
        return numbers

    def read(self, after: int = 0, until: int | None = None) -> Iterator[StoredRecord]:
        """Stored records with `after` < sequence ≤ `until`, in order."""
        rows = self._connection.execute(
            "SELECT sequence, epoch, time_ms, kind, key, body, hash FROM records"
            " WHERE sequence > ? AND sequence <= ? ORDER BY sequence",
            (after, self._sequence if until is None else until),
        )
        for row in rows:
            yield StoredRecord(*row)

    def catch_up(self) -> None:
        """Take in, verified, what another process has appended since; only one may write at a time.

        Raises:
            LedgerDamaged: it does not continue the history known here.
        """
        try:
            self._walk()
        except sqlite3.Error as error:
            raise LedgerError(f"cannot read {self._path}: {error}") from error

    def write_anchor(self) -> None:
        """Replace the anchor file atomically: temporary file, flush, rename, flush of the folder.

        Raises:
            LedgerError: the disk does not take it; the anchor that was there stands.
        """
        try:
            self._write_anchor()
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"cannot write {anchor_path(self._path)}: {error}") from error

    def _write_anchor(self) -> None:
        if not self._flushed:
            # The anchor must never know of more than a power cut would leave.
            self._flush_commits(True)
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._flushed = True
        anchor = Anchor(self._sequence, self._hash, self._epoch)
        target = anchor_path(self._path)
        temporary = target.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            file.write(msgspec.json.encode(anchor))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._anchored = self._sequence

    def close(self) -> None:
        """Seal and close; closing twice is harmless.

        Raises:
            LedgerError: the seal cannot be written; the journal is closed all the same, and what it holds is kept.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if not self._read_only and self._anchored != self._sequence:
                self.write_anchor()
        finally:
            self._connection.close()

    def _prepare(self, *, is_new: bool) -> None:
        execute = self._connection.execute
        execute("PRAGMA busy_timeout = 2000")
        if self._read_only:
            self._check_identity()
            return
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        if sys.platform == "darwin":
            execute("PRAGMA fullfsync = ON")
        if is_new:
            execute(f"PRAGMA application_id = {APPLICATION_ID}")
            execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            execute(
                "CREATE TABLE IF NOT EXISTS records ("
                " sequence INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, time_ms INTEGER NOT NULL,"
                " kind TEXT NOT NULL, key TEXT NOT NULL UNIQUE, body BLOB NOT NULL, hash TEXT NOT NULL)"
            )
            self.write_anchor()
        else:
            self._check_identity()

    def _check_identity(self) -> None:
        application = self._connection.execute("PRAGMA application_id").fetchone()[0]
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID:
            raise LedgerError(f"{self._path} is an SQLite file, but not one of labkit's ledgers")
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"{self._path} was written by a newer labkit (schema {version}, this one knows {SCHEMA_VERSION})"
            )

    def _verify(self) -> None:
        """Walk the chain; hold it against the anchor."""
        anchor = self._read_anchor()
        anchored_hash = self._walk(anchor.sequence)
        self._anchored = anchor.sequence
        if self._sequence < anchor.sequence:
            raise LedgerDamaged(
                f"{self._path}: history ends at record {self._sequence}, but the anchor knows of {anchor.sequence}",
                sequence=self._sequence + 1,
            )
        if anchored_hash != anchor.hash:
            raise LedgerDamaged(
                f"{self._path}: record {anchor.sequence} is not the one the anchor knows", sequence=anchor.sequence
            )
        self._epoch = max(self._epoch, anchor.epoch)

    def _walk(self, wanted: int = 0) -> str:
        """Verify what comes after the last known record and go there; returns the hash of record `wanted` if met."""
        previous, expected, found = self._hash, self._sequence + 1, GENESIS
        rows = self._connection.execute(
            "SELECT sequence, epoch, time_ms, kind, key, body, hash FROM records WHERE sequence > ? ORDER BY sequence",
            (self._sequence,),
        )
        for sequence, epoch, time_ms, kind, key, body, stored in rows:
            if sequence != expected:
                raise LedgerDamaged(f"{self._path}: record {expected} is missing", sequence=expected)
            try:
                previous = chain_hash(previous, sequence, epoch, Record(time_ms, kind, key, body))
            except (AttributeError, TypeError, UnicodeError) as error:
                raise LedgerDamaged(f"{self._path}: record {sequence} cannot be read", sequence=sequence) from error
            if previous != stored:
                raise LedgerDamaged(f"{self._path}: record {sequence} was altered", sequence=sequence)
            if sequence == wanted:
                found = stored
            self._epoch = max(self._epoch, epoch)
            expected += 1
        # What somebody else has written, or this process before it died, may not be flushed yet.
        self._flushed = self._flushed and expected - 1 == self._sequence
        self._sequence, self._hash = expected - 1, previous
        return found

    def _flush_commits(self, flush: bool) -> None:
        if flush != self._flushes:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if flush else 'NORMAL'}")
            self._flushes = flush

    def _read_anchor(self) -> Anchor:
        path = anchor_path(self._path)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Anchor)
        except FileNotFoundError as error:
            raise LedgerDamaged(f"{path} is missing: the ledger beside it cannot be trusted to be whole") from error
        except msgspec.DecodeError as error:
            raise LedgerDamaged(f"{path} cannot be read: {error}") from error


def days_in(path: Path) -> list[int]:
    """The days since 1970 (UTC) that records of the journal at `path` fall on, first to last; nothing is verified.

    Raises:
        LedgerError: there is no journal.
        LedgerDamaged: it cannot be read.
    """
    _check_there(path)
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        days = connection.execute("SELECT DISTINCT time_ms / ? FROM records ORDER BY 1", (DAY_MS,))
        return [int(day) for (day,) in days]
    except sqlite3.DatabaseError as error:
        raise LedgerDamaged(f"{path} is not a readable ledger: {error}") from error
    finally:
        connection.close()


def _check_there(path: Path) -> None:
    if not path.exists():
        raise LedgerError(f"no ledger at {path}: run a lab with this data folder first")


def is_begun(path: Path) -> bool:
    """False if there is no journal, or one whose creation broke off: no anchor yet, and nothing in it to be lost."""
    if not path.exists():
        return False
    if anchor_path(path).exists():
        return True
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        empty = tables == ["records"] and connection.execute("SELECT count(*) FROM records").fetchone()[0] == 0
    except sqlite3.DatabaseError:
        return True
    finally:
        connection.close()
    return bool(tables) and not empty


def anchor_path(journal_path: Path) -> Path:
    """Where the anchor of a journal lies."""
    return journal_path.with_suffix(".anchor")
