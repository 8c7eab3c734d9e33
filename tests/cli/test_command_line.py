"""The command line: one JSON object out, one clear line for a mistake, nothing half-started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from labkit.config import Config
from labkit.engine.ledger import Ledger
from labkit.engine.recovery import fold
from labkit.exchange.credentials import Credentials

SMALL = [
    *("--set", "symbols=BTCUSDT,ETHUSDT", "--set", "paper.history_days=4", "--set", "paper.planted_edge=0.8"),
    *("--set", "trader.warm_up_minutes=600", "--set", "trader.cold_start_labels=100"),
    *("--set", "trader.horizon_minutes=10", "--set", "trader.decision_every_minutes=2"),
]
KEYS = {
    "symbols", "frames", "decisions", "orders", "fills", "positions_closed", "virtual_closed", "learned_labels",
    "wallet_balance", "equity", "ledger_head", "ledger_hash", "reconnects", "report",
}  # fmt: skip


def labkit(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "labkit.cli", *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )


def begin(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "labkit.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def balance(folder: Path) -> Any:
    engine = fold(Config(), Ledger.open(folder, read_only=True))
    engine.check_balance()
    return engine


def test_a_run_in_virtual_time_prints_one_object_with_every_figure(tmp_path: Path) -> None:
    done = labkit("run", "--minutes", "20", "--speed", "max", "--json", "--data-dir", str(tmp_path / "state"), *SMALL)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == KEYS
    assert result["fills"] > 0
    assert Path(result["report"]).read_text().startswith("<!doctype html>")
    engine = balance(tmp_path / "state")
    assert Decimal(result["wallet_balance"]) == engine.account.wallet_balance


def test_a_run_over_sockets_prints_the_same_figures_and_seals_its_ledger(tmp_path: Path) -> None:
    done = labkit("run", "--minutes", "25", "--speed", "200", "--json", "--data-dir", str(tmp_path / "state"), *SMALL)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == KEYS
    assert result["decisions"] > 0
    ledger = Ledger.open(tmp_path / "state", read_only=True)
    assert (ledger.sequence, ledger.head_hash) == (result["ledger_head"], result["ledger_hash"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param(["--set", "trader.horizn_minutes=9"], "did you mean 'trader.horizon_minutes'", id="typo"),
        pytest.param(["--set", "trader.horizon_minutes=0"], ">= 5", id="out of range"),
        pytest.param(["--set", "nonsense"], "NAME=VALUE", id="no value"),
        pytest.param(["--speed", "fast"], "'fast' is neither", id="speed"),
        pytest.param(["--speed", "max", "--set", "symbols=BTCUSD"], "BTCUSDT", id="unknown symbol"),
        pytest.param(["--set", "api_secret=abc"], "secrets are not settings", id="key in the wrong place"),
        pytest.param(["--tape", "/no/such/tape.gz"], "no such file", id="missing tape"),
    ],
)
def test_a_mistake_is_one_clear_line_and_leaves_nothing(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    done = labkit("run", "--minutes", "1", "--data-dir", str(tmp_path / "state"), *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "content", [b"not a recording\n", b"", b"\x1f\x8b\x08\x00garbage"], ids=["foreign", "empty", "truncated"]
)
def test_a_foreign_or_truncated_tape_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    tape = tmp_path / "tape.raw.gz"
    tape.write_bytes(content)
    done = labkit("run", "--speed", "max", "--tape", str(tape), "--data-dir", str(tmp_path / "state"))
    assert done.returncode == 2
    assert str(tape) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = labkit("run", "--speed", "max", "--minutes", "1", "--data-dir", str(tmp_path / "file" / "state"))
    assert done.returncode == 2
    assert "cannot keep state" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_ctrl_c_in_virtual_time_leaves_a_ledger_that_opens_and_balances(tmp_path: Path) -> None:
    run = begin("run", "--minutes", "100000", "--speed", "max", "--data-dir", str(tmp_path), *SMALL)
    wait_for_fills(tmp_path, run)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=90)
    assert run.returncode == 130, err
    assert "Traceback" not in err
    assert balance(tmp_path).counts.fills > 0


def test_a_second_engine_on_the_same_folder_is_refused_and_told_the_first_ones_process(tmp_path: Path) -> None:
    first = begin("run", "--minutes", "1000", "--speed", "30", "--data-dir", str(tmp_path), *SMALL)
    try:
        wait_for_file(tmp_path / "ledger.sqlite", first)
        second = labkit("run", "--minutes", "1", "--speed", "max", "--data-dir", str(tmp_path), *SMALL)
        assert second.returncode == 1
        assert str(first.pid) in second.stderr
    finally:
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=60)


def test_ctrl_c_leaves_a_ledger_that_opens_and_balances(tmp_path: Path) -> None:
    run = begin("run", "--minutes", "1000", "--speed", "200", "--json", "--data-dir", str(tmp_path), *SMALL)
    wait_for_fills(tmp_path, run)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=90)
    assert run.returncode == 130, err
    assert set(json.loads(out)) == KEYS
    assert balance(tmp_path).counts.fills > 0


@pytest.mark.deep
def test_after_sigkill_the_next_start_finds_every_fill_the_exchange_made(tmp_path: Path) -> None:
    for _ in range(2):
        run = begin("run", "--minutes", "1000", "--speed", "200", "--data-dir", str(tmp_path), *SMALL)
        wait_for_fills(tmp_path, run)
        run.kill()
        run.communicate()
    done = labkit("run", "--minutes", "5", "--speed", "max", "--json", "--data-dir", str(tmp_path), *SMALL)
    assert done.returncode == 0, done.stderr
    from labkit.paper.paper_exchange import JOURNAL_NAME
    from labkit.store.journal import Journal

    exchange = Journal.open(tmp_path / JOURNAL_NAME, read_only=True)
    made = sum(record.kind == "OrderFilled" for record in exchange.read())
    engine = balance(tmp_path)
    assert engine.counts.fills == made > 0
    assert not engine.open_intents()
    assert not engine.paused_by


def wait_for_file(path: Path, process: subprocess.Popen[str]) -> None:
    """Until the file exists; looking is cheap and the process's own death ends it."""
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        pause()


def wait_for_fills(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until the ledger holds one more fill than now."""
    wait_for_file(folder / "ledger.anchor", process)
    before = fills_in(folder)
    while fills_in(folder) <= before:
        assert process.poll() is None, process.communicate()[1]
        pause()


def fills_in(folder: Path) -> int:
    import sqlite3

    connection = sqlite3.connect(f"file:{folder / 'ledger.sqlite'}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT body FROM records WHERE kind = 'OrderChanged'")
        return sum(b'"trade_id"' in body for (body,) in rows)
    finally:
        connection.close()


def pause() -> None:
    import select

    select.select([], [], [], 0.1)


def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word() -> None:
    command = [sys.executable, "-m", "labkit.cli", "weather", "ls"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_port_that_is_none_is_refused_in_one_line() -> None:
    done = labkit("exchange", "--port", "99999")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("argument --port: 99999 is no port: 0 to 65535, 0 for any free one")


# -- labkit exchange -------------------------------------------------------------------------------------------


@pytest.fixture
def exchange() -> Any:
    process = begin("exchange", "--set", "symbols=BTCUSDT", "--set", "paper.history_days=1")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    yield process, json.loads(line)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def test_the_exchange_alone_tells_its_address_on_its_first_line_and_ends_on_sigterm(exchange: Any) -> None:
    process, address = exchange
    assert set(address) == {"rest", "ws", "api_key", "api_secret"}
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


async def test_the_exchange_alone_answers_signed_requests(exchange: Any) -> None:
    _, address = exchange
    credentials = Credentials(address["api_key"], address["api_secret"])
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{address['rest']}/fapi/v1/time") as answer:
            now_ms = (await answer.json())["serverTime"]
        query = f"timestamp={now_ms}&recvWindow=60000"
        url = f"{address['rest']}/fapi/v3/balance?{query}&signature={credentials.sign(query)}"
        async with session.get(url, headers={"X-MBX-APIKEY": address["api_key"]}) as answer:
            assert (await answer.json())[0]["balance"] == "10000.00000000"


def test_a_registered_public_key_takes_the_place_of_the_secret(tmp_path: Path) -> None:
    pem = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(pem)
    process = begin("exchange", "--public-key", str(tmp_path / "public.pem"), "--set", "paper.history_days=1")
    try:
        assert process.stdout is not None
        assert set(json.loads(process.stdout.readline())) == {"rest", "ws", "api_key"}
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.mark.parametrize("content", [None, "no key"], ids=["missing", "no PEM"])
def test_a_public_key_that_is_none_is_one_clear_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "public.pem").write_text(content)
    done = labkit("exchange", "--public-key", str(tmp_path / "public.pem"))
    assert done.returncode == 2
    assert "public" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = labkit("exchange", "--port", str(port))
    assert done.returncode == 2
    assert str(port) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_keys_in_the_environment_do_not_reach_a_paper_lab(tmp_path: Path) -> None:
    canary = "CANARYKEY0123456789"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "labkit.cli", "run", "--minutes", "2", "--speed", "max", "--json"),
            *("--data-dir", str(tmp_path / "state"), *SMALL),
        ],
        env={**os.environ, "LABKIT_API_KEY": canary, "LABKIT_API_SECRET": canary},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert canary not in done.stdout + done.stderr
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path
