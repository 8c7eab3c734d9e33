"""The command line: `labkit lab · run · report · exchange · weather · data · tape · check · doctor`.

Results go to standard output, progress and errors to standard error. A person's mistake is one clear line and exit
status 2; a failure of the lab is status 1; Ctrl-C ends cleanly with status 130, a reader that goes away (`| head`) with
141.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labkit import cli_data, cli_tape
from labkit.config import Config, load_config
from labkit.domain.clock import utc_day
from labkit.domain.snapshot import Snapshot
from labkit.edge.progress import progress_bar
from labkit.errors import ConfigError, DataFileError, LabkitError, TapeError
from labkit.wire.signing import PEM_BEGINS

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130
READER_GONE = 141
LAST_PORT = 65_535


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except (ConfigError, TapeError, DataFileError) as error:
        return _complain(error, BAD_INPUT)
    except LabkitError as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read it (`| head`) has seen enough. Python would complain again when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    return status


def _complain(error: LabkitError, status: int) -> int:
    print(f"labkit: {error}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="labkit", description="A trading laboratory that lives in a notebook.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    lab = commands.add_parser("lab", help="open the lab in JupyterLab")
    lab.add_argument("--port", type=_port, default=8888, help="port on 127.0.0.1 (default 8888)")
    lab.add_argument("--browser", choices=("auto", "none"), default="auto", help="open a browser, or only tell the URL")
    lab.set_defaults(run=_lab)

    run = commands.add_parser("run", help="run a lab without a notebook")
    run.add_argument("--minutes", type=_positive, help="market minutes to live (default 60; a tape: all of it)")
    run.add_argument("--speed", help="market seconds per second (default 30), or 'max' for virtual time")
    run.add_argument("--tape", action="append", default=[], metavar="PATH", help="a recording or a folder of them")
    run.add_argument("--seed", type=int, help="fixes all randomness (default 1)")
    run.add_argument("--data-dir", metavar="DIR", help="where state is kept (default: a new folder in data/runs)")
    run.add_argument("--json", action="store_true", help="print one JSON object at the end")
    _add_weather(run)
    _add_settings(run)
    run.set_defaults(run=_run)

    report = commands.add_parser("report", help="write the report of one day from its ledger")
    report.add_argument("day", nargs="?", metavar="DAY", help="UTC, e.g. 2026-01-05 (default: the ledger's latest)")
    report.add_argument("--data-dir", metavar="DIR", help="where the ledger is (default: the lab's own)")
    report.set_defaults(run=_report)

    exchange = commands.add_parser("exchange", help="run the paper exchange alone")
    exchange.add_argument("--port", type=_port, default=0, help="port on 127.0.0.1 (default: any free one)")
    exchange.add_argument("--market", default="simulated", metavar="simulated|tape:PATH", help="whose prices")
    exchange.add_argument("--seed", type=int, help="of the simulated market (default 1)")
    exchange.add_argument("--speed", type=_positive, default=1.0, help="market seconds per second (default 1)")
    exchange.add_argument("--data-dir", metavar="DIR", help="where the account survives (default: nowhere)")
    exchange.add_argument(
        "--public-key", metavar="FILE", help="PEM of an RSA or Ed25519 key to let in (default: an HMAC secret made up)"
    )
    _add_weather(exchange)
    _add_settings(exchange)
    exchange.set_defaults(run=_exchange)

    weather = commands.add_parser("weather", help="faults on demand: what there is, and how labkit stands it")
    weather.add_argument(
        "what",
        choices=("ls", "table", "limits", "figures"),
        help="the faults and weathers by name; or try them all; or ask ten times what the rate limits allow; "
        "or measure the targets",
    )
    weather.add_argument("targets", nargs="*", metavar="TARGET", help="with figures: which (G5 G6 ...; default: all)")
    weather.add_argument("--json", action="store_true", help="table and figures as one JSON object a line")
    weather.set_defaults(run=_weather)

    cli_data.add_commands(commands)
    cli_tape.add_commands(commands)

    doctor = commands.add_parser("doctor", help="check this installation")
    doctor.add_argument("--compile", action="store_true", help="compile what is compiled at first use")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting, e.g. trader.horizon_minutes=60"
    )


def _add_weather(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weather", metavar="NAME|FILE", help="faults on demand (labkit weather ls)")


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text} is no port: 0 to {LAST_PORT}, 0 for any free one")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for pair in options.set:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair!r}: write NAME=VALUE, e.g. trader.horizon_minutes=60", field=pair)
        settings[name] = value.split(",") if name in ("symbols", "tapes") else value
    if options.seed is not None:
        settings["seed"] = options.seed
    if options.weather is not None:
        from labkit.paper.weather.script import find_script

        # Looked up here too, so that a slip is told before anything is begun.
        find_script(options.weather)
        settings["paper.weather"] = options.weather
    return settings


def _lab(options: argparse.Namespace) -> int:
    from labkit import jupyter_server
    from labkit.config import home

    jupyter_server.main(options.port, options.browser, home() / "notebooks")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    import platform

    from labkit import __version__

    print(f"labkit {__version__}, Python {platform.python_version()}")
    if options.compile:
        from labkit.trader.self_learning_trader import compile_ahead

        compile_ahead()
        # These compile as they are imported.
        importlib.import_module("labkit.edge.frame_splitter")
        importlib.import_module("labkit.market.quote_lane")
        importlib.import_module("labkit.market.quote_scan")
        print("the trader's step, the quote lane and the reading of tapes are compiled")
    return 0


# -- run -------------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from labkit.config import home

    settings = _settings(options)
    if options.tape:
        settings |= {"market": "tape", "tapes": options.tape}
    if options.speed is not None:
        settings["speed"] = options.speed
    config = load_config(settings, folder=home())
    minutes = options.minutes if options.minutes or config.market == "tape" else 60.0
    folder = Path(options.data_dir) if options.data_dir else _new_run_folder(home() / config.data_dir / "runs")
    is_new = not folder.exists()
    try:
        snapshot, interrupted = _live(config, folder, minutes)
    except (ConfigError, TapeError):
        if is_new:
            _remove_if_unused(folder)
        raise
    report: Path | None = None
    status = INTERRUPTED if interrupted else 0
    try:
        report = _write_report(config, folder, utc_day(snapshot.time_ms))
    except LabkitError as error:
        # The run stands whatever became of its report.
        status = _complain(error, FAILED)
    _print_result(snapshot, config, report, as_json=options.json)
    return status


def _live(config: Config, folder: Path, minutes: float | None) -> tuple[Snapshot, bool]:
    """Run to the end; returns the last snapshot and whether a person ended it early."""
    from labkit.lab import live_in_virtual_time

    with _progress(minutes) as progress:
        if config.virtual_time:
            return live_in_virtual_time(config, folder, minutes=minutes, progress=progress), False
        return asyncio.run(_live_on_sockets(config, folder, minutes, progress))


async def _live_on_sockets(
    config: Config, folder: Path, minutes: float | None, progress: Callable[[float], None]
) -> tuple[Snapshot, bool]:
    from labkit.assembly import assemble_on_sockets
    from labkit.engine.snapshots import take_snapshot
    from labkit.lab import live_until_end, sealed

    stop = _stop_signal()
    assembly = await assemble_on_sockets(config, folder)
    await assembly.start()
    try:
        living = asyncio.ensure_future(live_until_end(assembly, minutes, progress))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([living, stopping], return_when=asyncio.FIRST_COMPLETED)
        interrupted = not living.done()
        for task in (living, stopping):
            if not task.done():
                task.cancel()
        if not interrupted:
            living.result()
        snapshot = take_snapshot(assembly.scheduler)
    finally:
        await assembly.stop("the time is over")
    return sealed(snapshot, assembly), interrupted


def _stop_signal() -> asyncio.Event:
    """Set by the first Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


@contextlib.contextmanager
def _progress(minutes: float | None) -> Any:
    with progress_bar("market time", "min", minutes) as bar:

        def show(lived: float) -> None:
            bar.update(round(lived, 2) - bar.n)

        yield show


def _report(options: argparse.Namespace) -> int:
    from labkit.config import home
    from labkit.engine.history import find_day
    from labkit.engine.ledger import LEDGER_FILE

    config = load_config({}, folder=home())
    folder = Path(options.data_dir) if options.data_dir else home() / config.data_dir
    # Looked at here: the notebook would take seconds to say that there is no such day.
    print(_write_report(config, folder, find_day(folder / LEDGER_FILE, options.day or "")))
    return 0


def _write_report(config: Config, folder: Path, day: str) -> Path:
    from labkit.engine.ledger import LEDGER_FILE
    from labkit.lab import REPORTS_FOLDER
    from labkit.report.daily_reporter import DailyReporter
    from labkit.report.progress import cells_bar

    with cells_bar(day) as show:
        return DailyReporter(folder / LEDGER_FILE, folder / REPORTS_FOLDER, config.report).write_now(day, show)


def _print_result(snapshot: Snapshot, config: Config, report: Path | None, *, as_json: bool) -> None:
    counts, account = snapshot.counts, snapshot.account
    assert account is not None
    result = {
        "symbols": [row.symbol for row in snapshot.symbols],
        "frames": counts.frames,
        "decisions": counts.decisions,
        "orders": counts.orders,
        "fills": counts.fills,
        "positions_closed": counts.positions_closed,
        "virtual_closed": counts.virtual_closed,
        "learned_labels": counts.learned_labels,
        "wallet_balance": f"{account.wallet_balance:f}",
        "equity": f"{account.equity:f}",
        "ledger_head": snapshot.ledger_sequence,
        "ledger_hash": snapshot.ledger_hash,
        "reconnects": counts.reconnects,
        "report": str(report) if report else None,
    }
    if as_json:
        print(json.dumps(result), flush=True)
    else:
        for name, value in result.items():
            print(f"{name:>17}  {', '.join(value) if isinstance(value, list) else value}")


def _new_run_folder(parent: Path) -> Path:
    """The next numbered folder for a run of its own."""
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(path.name) for path in parent.iterdir() if path.name.isdigit()]
    return parent / f"{max(taken, default=0) + 1:04d}"


def _remove_if_unused(folder: Path) -> None:
    """Nothing half-started is left behind by a refused run; where there is a ledger, nothing is touched."""
    from labkit.engine.ledger import LEDGER_FILE

    if folder.is_dir() and not (folder / LEDGER_FILE).exists():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


# -- exchange --------------------------------------------------------------------------------------------------


def _exchange(options: argparse.Namespace) -> int:
    from labkit.config import home

    settings = _settings(options)
    kind, colon, path = options.market.partition(":")
    if kind == "tape" and colon and path:
        settings |= {"market": "tape", "tapes": [path]}
    elif options.market != "simulated":
        raise ConfigError(f"--market {options.market!r}: write 'simulated' or 'tape:PATH'", field="market")
    config = load_config({**settings, "speed": options.speed}, folder=home())
    folder = Path(options.data_dir) if options.data_dir else None
    return asyncio.run(_serve(config, options.port, folder, _public_key(options.public_key)))


def _public_key(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        pem = Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"--public-key {path}: cannot be read ({error})", field="public key") from error
    if not pem.startswith(PEM_BEGINS):
        raise ConfigError(f"--public-key {path}: holds no PEM of a public key", field="public key")
    return pem


async def _serve(config: Config, port: int, folder: Path | None, public_key: str | None) -> int:
    from labkit.assembly import acquire, check_identity, make_market
    from labkit.edge.clocks import SystemClock
    from labkit.paper.paper_exchange import PaperExchange, resume_ms

    stop = _stop_signal()
    source = make_market(config)
    with contextlib.ExitStack() as held:
        if folder is not None:
            held.callback(acquire(folder).release)
            check_identity(config, folder)
        assert not isinstance(config.speed, str)
        clock = SystemClock(speed=config.speed, start_ms=resume_ms(source, folder))
        exchange = PaperExchange(source, config.paper, clock, port=port, data_dir=folder, api_secret=public_key)
        await exchange.start()
        try:
            address = {"rest": exchange.rest_url, "ws": exchange.ws_url, "api_key": exchange.api_key}
            if public_key is None:
                address["api_secret"] = exchange.api_secret
            print(json.dumps(address), flush=True)
            await stop.wait()
        finally:
            await exchange.stop()
    return 0


# -- weather ---------------------------------------------------------------------------------------------------


def _weather(options: argparse.Namespace) -> int:
    from labkit.paper.weather.faults import FAULTS
    from labkit.paper.weather.script import WEATHERS

    if options.what == "limits":
        from labkit.research import limit_trials

        failed = 0
        for line, well in limit_trials.table():
            print(line if well else f"{line}  FAILED", flush=True)
            failed += not well
        return FAILED if failed else 0
    if options.what == "figures":
        return _figures(options.targets, as_json=options.json)
    if options.what == "table":
        return _fault_table(as_json=options.json)
    print("Weathers (--weather NAME, lab.weather(NAME)):")
    for script in WEATHERS.values():
        print(f"  {script.name:<26}{script.description}")
    print("Faults (for scripts of your own):")
    for fault in FAULTS.values():
        told = ", ".join(f"{name}={value}" for name, value in fault.parameters.items())
        print(f"  {fault.name:<26}{fault.summary} [{' '.join(fault.catalogue)}]{f'  ({told})' if told else ''}")
    return 0


def _figures(targets: Sequence[str], *, as_json: bool) -> int:
    import msgspec

    from labkit.research.targets.table import measured

    failed = 0
    for figure in measured(targets):
        print(msgspec.json.encode(figure).decode() if as_json else figure, flush=True)
        failed += not figure.holds
    return FAILED if failed else 0


def _fault_table(*, as_json: bool) -> int:
    import msgspec

    from labkit.research.fault_trials.table import HEADING, table

    if not as_json:
        print(HEADING, flush=True)
    failed = 0
    for row in table():
        print(msgspec.json.encode(row).decode() if as_json else row, flush=True)
        failed += bool(row.verdict)
    if failed:
        print(f"{failed} rows failed", file=sys.stderr)
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
