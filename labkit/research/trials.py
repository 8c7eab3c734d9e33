"""TrialLedger: every backtest, sweep point and slider move is counted, because the best of many is lucky too.

One append-only, hash-chained journal in the data folder. The same configuration on the same window is one trial,
however often it was asked for (that is counted beside it). Trials count together for a window if they looked at one of
its symbols at the same time (see `Window.overlaps`). A copy of the head of the chain lies outside the journal's own
folder, so that history that was cut, altered, replaced by an older copy or deleted is noticed when the ledger is
opened. Several processes may write (a notebook and a command line), in turns; within a process one thread.

A trial survives the death of the process at once. A power cut, or somebody who cuts the journal's end after a crash,
may take the slider moves and sweep points since the last anchor: at most `ANCHOR_EVERY`, none after `close`.

The lock-box is a period of recorded history that nothing may look at but once per release.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from labkit.domain.clock import DAY_MS, Clock
from labkit.domain.moments import moment_text
from labkit.edge.clocks import SystemClock
from labkit.errors import ConfigError, LedgerDamaged, LockBoxClosed
from labkit.research.statistics import Floats, as_daily_returns, daily_sharpe_ratio
from labkit.store.journal import ANCHOR_EVERY, Journal, Record

Kind = Literal["backtest", "walk_forward", "sweep", "search", "slider"]

RECORDED = "recorded"
"""Where a window's data come from, unless they are made up."""
OVERLAP_SHARE = 0.1
"""Of the shorter window: with less time in common, two windows are different experiments."""
FOLDER = "trials"
WITNESS = ".trials"


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial looked at. `origin` names the generator and seed where the data are made up."""

    symbols: tuple[str, ...]
    interval: str
    start_ms: int
    end_ms: int
    data_hash: str
    origin: str = RECORDED

    @property
    def first_day(self) -> int:
        """The first UTC day it touches, counted from 1970."""
        return self.start_ms // DAY_MS

    @property
    def days(self) -> int:
        """How many UTC days it touches."""
        return -(-self.end_ms // DAY_MS) - self.first_day

    def overlaps(self, other: Window) -> bool:
        """True if trials on both count together: the same origin, a symbol in common, and in common at least a tenth
        of the shorter one's time. Interval and data hash do not matter: repaired or coarser data are the same past."""
        shared_ms = min(self.end_ms, other.end_ms) - max(self.start_ms, other.start_ms)
        shorter_ms = min(self.end_ms - self.start_ms, other.end_ms - other.start_ms)
        return (
            self.origin == other.origin
            and not set(self.symbols).isdisjoint(other.symbols)
            and shared_ms >= OVERLAP_SHARE * shorter_ms
        )


class Trial(NamedTuple):
    """One configuration lived through one window; float64[window.days] daily returns as fractions."""

    window: Window
    kind: Kind
    config_hash: str
    daily_returns: Floats


@dataclass(frozen=True, eq=False)
class Trials:
    """What was tried on a window and on all that overlaps it."""

    count: int
    """Different trials, those included that were lost (see `begin_again`)."""
    asked: int
    """How often a trial was asked for, repetitions included."""
    daily_sharpes: Floats
    """float64[n], the daily Sharpe ratio of every trial that is still known."""
    daily_returns: Floats
    """float64[D, m], on the window's days, of the trials that lived through all of them."""

    @property
    def deviation(self) -> float:
        """Standard deviation of the daily Sharpe ratios across trials.

        Idle trials and repetitions of the same outcome are left out: a thousand runs that never traded must not make
        the best of the rest look less lucky. With fewer than two outcomes it is the one expected without skill.
        """
        outcomes = np.unique(self.daily_sharpes[self.daily_sharpes != 0.0])
        if outcomes.size < 2:
            return float(1.0 / np.sqrt(max(1, self.daily_returns.shape[0] - 1)))
        return float(outcomes.std(ddof=1))


NO_TRIALS = Trials(0, 0, np.empty(0), np.empty((0, 0)))


class LockBox(msgspec.Struct, frozen=True):
    """A period kept unseen, UTC ms [start, end)."""

    start_ms: int
    end_ms: int


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """Who looked into the lock-box for which release, when, and with what."""

    release: str
    who: str
    time_ms: int
    config_hash: str
    window: Window


class _StoredTrial(msgspec.Struct, frozen=True):
    window: Window
    kind: Kind
    config_hash: str
    daily_returns: bytes  # little-endian float32: seven digits of a return are enough to judge it

    @property
    def returns(self) -> Floats:
        return np.frombuffer(self.daily_returns, "<f4").astype(np.float64)


class _Asked(msgspec.Struct, frozen=True):
    trial: str
    kind: Kind


class _Lost(msgspec.Struct, frozen=True):
    trials: int
    reason: str


class _Known(NamedTuple):
    stored: _StoredTrial
    daily_sharpe: float


class _Witness(msgspec.Struct, frozen=True):
    """The head of the chain, and how many trials it counts, kept outside the journal's folder."""

    sequence: int
    hash: str
    trials: int


_NOTHING_COUNTED = _Witness(0, "", 0)


class TrialLedger:
    """The trials of one data folder. Use it as a context manager, or `close` it."""

    def __init__(self, data_dir: Path | str, clock: Clock | None = None) -> None:
        """Open or create the ledger.

        Raises:
            LedgerDamaged: trials were altered or deleted; the message says what can be done.
        """
        self._data_dir = Path(data_dir)
        self._clock = clock or SystemClock()
        self._known: dict[str, _Known] = {}
        self._asked: dict[str, int] = {}
        self._lost = 0
        self._lock_box: LockBox | None = None
        self._openings: dict[str, Opening] = {}
        self._taken_in = 0
        folder = self._data_dir / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_file: IO[bytes] = open(folder / "lock", "ab")  # noqa: SIM115 - held for the life of the ledger
        try:
            with self._alone():
                self._open(folder / "trials.sqlite")
        except BaseException:
            self._lock_file.close()
            raise

    def _open(self, path: Path) -> None:
        witness = self._read_witness()
        try:
            if witness.sequence and not path.exists():
                raise LedgerDamaged(f"{path} is missing")
            self._journal = Journal.open(path)
            self._take_in()
            self._hold_against(witness)
        except LedgerDamaged as error:
            raise LedgerDamaged(
                f"{error}; {witness.trials} trials had been counted in {self._data_dir}. Restore the folder from a "
                f"backup, or labkit.research.trials.begin_again({str(self._data_dir)!r}, reason=...), which goes "
                "on counting from there",
                sequence=error.sequence,
            ) from error
        self._witnessed = witness.sequence

    def close(self) -> None:
        """Anchor what was counted, and let go of the file."""
        with self._alone():
            self._take_in()
            self._journal.close()
            self._write_witness()
        self._lock_file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- counting -----------------------------------------------------------------------------------------------------

    def record(self, *trials: Trial) -> None:
        """Count trials, in one go.

        Raises:
            ConfigError: the returns are not one finite number per day of the window.
            LockBoxClosed: a trial looked into the lock-box with another configuration than it was opened for.
        """
        checked = [(trial, _bytes_of(trial)) for trial in trials]
        with self._alone():
            self._take_in()
            records: list[Record] = []
            new: set[str] = set()
            for trial, returns in checked:
                self._admit(trial.window, trial.config_hash)
                key = _key(trial)
                if key in self._known or key in new:
                    body = msgspec.msgpack.encode(_Asked(key, trial.kind))
                    number = self._journal.sequence + len(records) + 1
                    records.append(Record(self._clock.now_ms(), "Asked", f"{key}@{number}", body))
                else:
                    new.add(key)
                    stored = _StoredTrial(trial.window, trial.kind, trial.config_hash, returns)
                    records.append(Record(self._clock.now_ms(), "Trial", key, msgspec.msgpack.encode(stored)))
            # Flushing takes milliseconds: nothing beside a backtest, far too long while a slider is dragged.
            self._journal.append(records, flush=any(trial.kind in ("backtest", "walk_forward") for trial in trials))
            self._take_in()
            if self._journal.sequence - self._witnessed >= ANCHOR_EVERY:
                self._journal.write_anchor()
                self._write_witness()

    def count(self, window: Window) -> int:
        """How many different trials count for this window."""
        return self.trials(window).count

    def trials(self, window: Window) -> Trials:
        """Everything that counts for this window."""
        with self._alone():
            self._take_in()
        together = {key: known for key, known in self._known.items() if known.stored.window.overlaps(window)}
        covering = []
        for known in together.values():
            skip = window.first_day - known.stored.window.first_day
            if skip >= 0 and known.stored.window.days - skip >= window.days:
                covering.append(known.stored.returns[skip : skip + window.days])
        return Trials(
            count=self._lost + len(together),
            asked=self._lost + sum(self._asked[key] for key in together),
            daily_sharpes=np.array([known.daily_sharpe for known in together.values()]),
            daily_returns=np.column_stack(covering) if covering else np.empty((window.days, 0)),
        )

    # -- the lock-box -------------------------------------------------------------------------------------------------

    @property
    def lock_box(self) -> LockBox | None:
        """The period that is kept unseen, if one is."""
        return self._lock_box

    @property
    def openings(self) -> tuple[Opening, ...]:
        """Every look into the lock-box there ever was."""
        return tuple(self._openings.values())

    def lock_away(self, start_ms: int, end_ms: int) -> None:
        """Keep the recorded history of [start, end) unseen from now on.

        Raises:
            LockBoxClosed: part of the present lock-box would come out of it; it may only grow.
            ConfigError: the period is empty.
        """
        if start_ms >= end_ms:
            raise ConfigError(f"lock-box from {moment_text(start_ms)} to {moment_text(end_ms)}: nothing is in there")
        with self._alone():
            self._take_in()
            box = self._lock_box
            if box and (start_ms > box.start_ms or end_ms < box.end_ms):
                raise LockBoxClosed(f"the lock-box may only grow; now it holds {_span(box)}")
            self._write("LockBox", f"lock-box/{start_ms}/{end_ms}", LockBox(start_ms, end_ms))

    def admit(self, window: Window) -> None:
        """Call before anything lives through `window`.

        Raises:
            LockBoxClosed: part of it lies in the lock-box, and it was not opened for this window.
        """
        with self._alone():
            self._take_in()
            self._admit(window)

    def open_lock_box(self, window: Window, config_hash: str) -> Opening:
        """Note the one look of this release into the lock-box, before it is taken.

        From then on this window is admitted, and only this configuration is recorded on it: `record` refuses any other
        before its result is handed out.

        Raises:
            LockBoxClosed: this release has looked already; says who, when, and with what.
        """
        release = version("labkit")
        with self._alone():
            self._take_in()
            if seen := self._openings.get(release):
                raise LockBoxClosed(
                    f"release {release} has opened the lock-box already: {seen.who} at {moment_text(seen.time_ms)} UTC "
                    f"with configuration {seen.config_hash}. What was seen once is no test any more; the next release "
                    "may look again"
                )
            opening = Opening(
                release=release,
                who=getpass.getuser(),
                time_ms=self._clock.now_ms(),
                config_hash=config_hash,
                window=window,
            )
            self._write("LockBoxOpened", f"opened/{release}", opening)
            return opening

    # -- inside -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process reads or writes meanwhile."""
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if not self._lock_file.closed:
                fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def _admit(self, window: Window, config_hash: str | None = None) -> None:
        box = self._lock_box
        if not box or window.origin != RECORDED or window.start_ms >= box.end_ms or window.end_ms <= box.start_ms:
            return
        opening = self._openings.get(version("labkit"))
        if opening is None or not _same_stretch(opening.window, window):
            raise LockBoxClosed(
                f"{_span(box)} is in the lock-box, which opens once per release: end at {moment_text(box.start_ms)} "
                f"or begin at {moment_text(box.end_ms)}; to judge this release on it, open it (`open_lock_box`)"
            )
        if config_hash not in (None, opening.config_hash):
            raise LockBoxClosed(
                f"the lock-box was opened for configuration {opening.config_hash}; this one is {config_hash}, and what "
                "it came to is not told"
            )

    def _write(self, kind: str, key: str, body: msgspec.Struct) -> None:
        self._journal.append([Record(self._clock.now_ms(), kind, key, msgspec.msgpack.encode(body))], anchor=True)
        self._take_in()
        self._write_witness()

    def _take_in(self) -> None:
        """Learn what was appended since, by whomever."""
        self._journal.catch_up()
        for record in self._journal.read(after=self._taken_in):
            match record.kind:
                case "Trial":
                    stored = msgspec.msgpack.decode(record.body, type=_StoredTrial)
                    self._known[record.key] = _Known(stored, daily_sharpe_ratio(stored.returns))
                    self._asked[record.key] = 1
                case "Asked":
                    self._asked[msgspec.msgpack.decode(record.body, type=_Asked).trial] += 1
                case "Lost":
                    self._lost += msgspec.msgpack.decode(record.body, type=_Lost).trials
                case "LockBox":
                    self._lock_box = msgspec.msgpack.decode(record.body, type=LockBox)
                case "LockBoxOpened":
                    opening = msgspec.msgpack.decode(record.body, type=Opening)
                    self._openings[opening.release] = opening
            self._taken_in = record.sequence

    def _read_witness(self) -> _Witness:
        try:
            return msgspec.json.decode((self._data_dir / WITNESS).read_bytes(), type=_Witness)
        except FileNotFoundError:
            return _NOTHING_COUNTED
        except msgspec.DecodeError as error:
            raise LedgerDamaged(f"{self._data_dir / WITNESS} cannot be read: {error}") from error

    def _write_witness(self) -> None:
        witness = _Witness(self._journal.sequence, self._journal.head_hash, self._lost + len(self._known))
        temporary = self._data_dir / f"{WITNESS}.tmp"
        with open(temporary, "wb") as file:
            file.write(msgspec.json.encode(witness))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._data_dir / WITNESS)
        self._witnessed = witness.sequence

    def _hold_against(self, witness: _Witness) -> None:
        if not witness.sequence:
            return
        met = next(self._journal.read(witness.sequence - 1, witness.sequence), None)
        if met is None or met.hash != witness.hash:
            self._journal.close()
            raise LedgerDamaged(f"{self._journal.path} is an older copy or another ledger", sequence=witness.sequence)


def begin_again(data_dir: Path | str, *, reason: str) -> int:
    """Go on after trials were lost: put aside what is left and start a ledger that counts them for every window.

    Returns how many that are.
    """
    folder = Path(data_dir)
    kept = folder / WITNESS
    witness = msgspec.json.decode(kept.read_bytes(), type=_Witness) if kept.exists() else _NOTHING_COUNTED
    number = sum(1 for _ in folder.glob(f"{FOLDER}-lost-*")) + 1
    if (folder / FOLDER).exists():
        (folder / FOLDER).rename(folder / f"{FOLDER}-lost-{number}")
    kept.unlink(missing_ok=True)
    with TrialLedger(folder) as ledger, ledger._alone():
        ledger._write("Lost", f"lost/{number}", _Lost(witness.trials, reason))
    return witness.trials


def _key(trial: Trial) -> str:
    window = msgspec.structs.replace(trial.window, symbols=tuple(sorted(trial.window.symbols)))
    return hashlib.sha256(msgspec.msgpack.encode((window, trial.config_hash))).hexdigest()[:32]


def _bytes_of(trial: Trial) -> bytes:
    returns = as_daily_returns(trial.daily_returns)
    if returns.size != trial.window.days:
        raise ConfigError(f"{returns.size} daily returns do not fit a window that touches {trial.window.days} days")
    compact: NDArray[np.float32] = returns.astype("<f4")
    return compact.tobytes()


def _same_stretch(one: Window, other: Window) -> bool:
    """True if both are the same symbols, bars and time; repaired data are the same past."""
    return (sorted(one.symbols), one.interval, one.start_ms, one.end_ms) == (
        sorted(other.symbols), other.interval, other.start_ms, other.end_ms,
    )  # fmt: skip


def _span(box: LockBox) -> str:
    return f"{moment_text(box.start_ms)} to {moment_text(box.end_ms)} UTC"
