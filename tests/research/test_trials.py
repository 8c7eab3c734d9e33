"""The trial ledger counts everything once, forgets nothing, and keeps the lock-box shut."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import labkit
from labkit.domain.clock import DAY_MS
from labkit.domain.moments import moment_ms
from labkit.errors import ConfigError, LedgerDamaged, LockBoxClosed
from labkit.research import trials
from labkit.research.trials import Kind, Trial, TrialLedger, Window, begin_again

START_MS = moment_ms("2024-01-01")


def window(first: int = 0, days: int = 100, **changed: Any) -> Window:
    """`days` days of BTCUSDT, beginning `first` days after the start."""
    plain = Window(
        symbols=("BTCUSDT",),
        interval="1m",
        start_ms=START_MS + first * DAY_MS,
        end_ms=START_MS + (first + days) * DAY_MS,
        data_hash="d",
    )
    return msgspec.structs.replace(plain, **changed)


def trial(config: str = "a", at: Window | None = None, kind: Kind = "slider", seed: int = 1) -> Trial:
    at = at or window()
    return Trial(at, kind, config, 0.01 * np.random.default_rng(seed).standard_normal(at.days))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[TrialLedger]:
    with TrialLedger(tmp_path) as opened:
        yield opened


# -- counting ---------------------------------------------------------------------------------------------------------


def test_the_same_configuration_on_the_same_window_is_one_trial_asked_for_often(ledger: TrialLedger) -> None:
    ledger.record(trial("a"), trial("b"))
    ledger.record(trial("a"))
    ledger.record(trial("a", kind="backtest"), trial("c"), trial("c"))
    counted = ledger.trials(window())
    assert (counted.count, counted.asked) == (3, 6)


def test_the_order_of_symbols_makes_no_new_trial(ledger: TrialLedger) -> None:
    ledger.record(trial(at=window(symbols=("BTCUSDT", "ETHUSDT"))), trial(at=window(symbols=("ETHUSDT", "BTCUSDT"))))
    assert ledger.count(window()) == 1


@pytest.mark.parametrize(
    ("other", "together"),
    [
        (window(90), True),
        (window(91), False),
        (window(-300, 1_000), True),
        (window(95, 20), True),
        (window(symbols=("ETHUSDT",)), False),
        (window(symbols=("ETHUSDT", "BTCUSDT")), True),
        (window(interval="1h"), True),
        (window(data_hash="repaired"), True),
        (window(origin="simulated, seed 7"), False),
    ],
    ids=["a tenth", "less", "around", "a fifth of the shorter", "other symbol", "one in common", "interval", "data",
         "made up"],
)  # fmt: skip
def test_windows_count_together_by_symbol_time_and_origin(ledger: TrialLedger, other: Window, together: bool) -> None:
    ledger.record(trial(at=other))
    assert ledger.count(window()) == together
    assert other.overlaps(window()) == window().overlaps(other)


def test_trials_are_kept_with_their_returns_over_a_reopening(tmp_path: Path) -> None:
    kept = trial("a", window(0, 100))
    with TrialLedger(tmp_path) as ledger:
        ledger.record(kept)
    with TrialLedger(tmp_path) as ledger:
        counted = ledger.trials(window())
    assert np.allclose(counted.daily_returns[:, 0], kept.daily_returns, rtol=1e-6)


def test_returns_of_longer_trials_are_cut_to_the_days_asked_about(ledger: TrialLedger) -> None:
    longer, shorter = trial("a", window(-10, 200)), trial("b", window(0, 50))
    ledger.record(longer, shorter)
    counted = ledger.trials(window(0, 100))
    assert counted.count == 2
    assert counted.daily_returns.shape == (100, 1)
    assert np.allclose(counted.daily_returns[:, 0], longer.daily_returns[10:110], rtol=1e-6)


def test_a_thousand_idle_trials_do_not_make_luck_look_smaller(ledger: TrialLedger) -> None:
    ledger.record(*(trial(f"busy {n}", seed=n) for n in range(10)))
    before = ledger.trials(window())
    idle = np.zeros(100)
    ledger.record(*(Trial(window(), "slider", f"idle {n}", idle) for n in range(1_000)))
    after = ledger.trials(window())
    assert after.count == before.count + 1_000
    assert after.deviation == before.deviation


def test_returns_must_fit_the_days_of_the_window(ledger: TrialLedger) -> None:
    with pytest.raises(ConfigError, match="99 daily returns do not fit a window that touches 100 days"):
        ledger.record(Trial(window(), "backtest", "a", np.zeros(99)))
    assert ledger.count(window()) == 0


def test_a_window_touches_the_days_it_begins_and_ends_in() -> None:
    half = DAY_MS // 2
    assert window(start_ms=START_MS + half, end_ms=START_MS + 2 * DAY_MS + 1).days == 3
    assert window(0, 2).days == 2


# -- not forgetting ---------------------------------------------------------------------------------------------------


def test_deleting_the_folder_is_noticed_and_counted_on(tmp_path: Path) -> None:
    with TrialLedger(tmp_path) as ledger:
        ledger.record(trial("a"), trial("b"))
    shutil.rmtree(tmp_path / "trials")
    with pytest.raises(LedgerDamaged, match=r"2 trials had been counted.*begin_again"):
        TrialLedger(tmp_path)
    assert begin_again(tmp_path, reason="disk lost") == 2
    with TrialLedger(tmp_path) as ledger:
        ledger.record(trial("c"))
        assert ledger.count(window()) == 3
        assert ledger.count(window(5_000, symbols=("XRPUSDT",))) == 2


def test_an_older_copy_put_back_is_noticed(tmp_path: Path) -> None:
    with TrialLedger(tmp_path) as ledger:
        ledger.record(trial("a"))
    shutil.copytree(tmp_path / "trials", tmp_path / "copy")
    with TrialLedger(tmp_path) as ledger:
        ledger.record(trial("b"))
    shutil.rmtree(tmp_path / "trials")
    shutil.copytree(tmp_path / "copy", tmp_path / "trials")
    with pytest.raises(LedgerDamaged, match="older copy"):
        TrialLedger(tmp_path)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM records WHERE sequence = 3", "the anchor knows of 3"),
        ("DELETE FROM records WHERE sequence = 2", "record 2 is missing"),
        ("UPDATE records SET body = x'00' WHERE sequence = 1", "record 1 was altered"),
    ],
)
def test_a_trial_taken_out_of_the_file_is_noticed(tmp_path: Path, statement: str, words: str) -> None:
    with TrialLedger(tmp_path) as ledger:
        ledger.record(trial("a"), trial("b"), trial("c"))
    connection = sqlite3.connect(tmp_path / "trials" / "trials.sqlite")
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(LedgerDamaged, match=words):
        TrialLedger(tmp_path)


def test_a_killed_process_has_counted_what_it_recorded(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2]);"
        "from test_trials import *;"
        "ledger = TrialLedger(sys.argv[1]);"
        "[ledger.record(trial(str(n))) for n in range(20)];"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)], check=False)
    with TrialLedger(tmp_path) as ledger:
        assert ledger.count(window()) == 20


def test_two_processes_that_record_at_once_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[3]);"
        "from test_trials import *;"
        "ledger = TrialLedger(sys.argv[1]);"
        "[ledger.record(trial(sys.argv[2] + str(n)), trial(str(n))) for n in range(40)];"
        "ledger.close()"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name, str(Path(__file__).parent)])
        for name in ("notebook", "cli")
    ]
    assert [worker.wait() for worker in workers] == [0, 0]
    with TrialLedger(tmp_path) as ledger:
        counted = ledger.trials(window())
    assert (counted.count, counted.asked) == (120, 160)


def test_two_open_ledgers_see_each_others_trials(tmp_path: Path) -> None:
    with TrialLedger(tmp_path) as notebook, TrialLedger(tmp_path) as command_line:
        notebook.record(trial("a"))
        command_line.record(trial("a"), trial("b"))
        assert notebook.trials(window()).asked == 3


# -- the lock-box -----------------------------------------------------------------------------------------------------


def test_what_is_in_the_lock_box_cannot_be_lived_through(ledger: TrialLedger) -> None:
    ledger.admit(window(0, 100))
    ledger.lock_away(START_MS + 90 * DAY_MS, START_MS + 200 * DAY_MS)
    with pytest.raises(LockBoxClosed, match=r"end at 2024-03-31 or begin at 2024-07-19"):
        ledger.admit(window(0, 100))
    ledger.admit(window(0, 90))
    ledger.admit(window(200, 50))
    ledger.admit(window(0, 100, origin="simulated, seed 7"))


def test_the_lock_box_opens_once_per_release_and_tells_who_looked(
    ledger: TrialLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    ledger.lock_away(START_MS, START_MS + 100 * DAY_MS)
    opening = ledger.open_lock_box(window(), "c0ffee")
    assert (opening.who, opening.config_hash, opening.release) == ("ada", "c0ffee", labkit.__version__)
    with pytest.raises(LockBoxClosed, match=r"opened the lock-box already: ada at .* with configuration c0ffee"):
        ledger.open_lock_box(window(), "another")
    monkeypatch.setattr(trials, "version", lambda name: "99.0")
    ledger.open_lock_box(window(), "another")
    assert [seen.config_hash for seen in ledger.openings] == ["c0ffee", "another"]


def test_the_lock_box_and_its_opening_survive_a_reopening(tmp_path: Path) -> None:
    with TrialLedger(tmp_path) as ledger:
        ledger.lock_away(START_MS, START_MS + 100 * DAY_MS)
        ledger.open_lock_box(window(), "c0ffee")
    with TrialLedger(tmp_path) as ledger:
        with pytest.raises(LockBoxClosed, match="c0ffee"):
            ledger.open_lock_box(window(), "c0ffee")
        with pytest.raises(LockBoxClosed, match="in the lock-box"):
            ledger.admit(window(1))


def test_an_opened_lock_box_shows_the_one_configuration_it_was_opened_for(ledger: TrialLedger) -> None:
    ledger.lock_away(START_MS, START_MS + 100 * DAY_MS)
    ledger.open_lock_box(window(), "the one")
    ledger.admit(window(data_hash="repaired"))
    ledger.record(trial("the one"))
    with pytest.raises(LockBoxClosed, match="opened for configuration the one; this one is another"):
        ledger.record(trial("another"))
    with pytest.raises(LockBoxClosed, match="in the lock-box"):
        ledger.admit(window(0, 99))
    assert ledger.count(window()) == 1


def test_a_ledger_whose_witness_was_never_written_can_begin_again(tmp_path: Path) -> None:
    TrialLedger(tmp_path).close()
    (tmp_path / ".trials").unlink()
    (tmp_path / "trials" / "trials.sqlite").write_bytes(b"no database")
    with pytest.raises(LedgerDamaged, match="begin_again"):
        TrialLedger(tmp_path)
    assert begin_again(tmp_path, reason="crashed") == 0
    TrialLedger(tmp_path).close()


def test_the_lock_box_may_only_grow(ledger: TrialLedger) -> None:
    ledger.lock_away(START_MS + 10 * DAY_MS, START_MS + 20 * DAY_MS)
    with pytest.raises(LockBoxClosed, match="may only grow"):
        ledger.lock_away(START_MS + 11 * DAY_MS, START_MS + 30 * DAY_MS)
    ledger.lock_away(START_MS + 10 * DAY_MS, START_MS + 30 * DAY_MS)
    assert ledger.lock_box is not None
    assert ledger.lock_box.end_ms == START_MS + 30 * DAY_MS
