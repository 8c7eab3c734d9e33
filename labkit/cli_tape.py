"""The command line of recordings: `labkit tape record · ls · cut · check`.

Results go to standard output, progress and warnings to standard error. Used by `labkit.cli`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Any

from labkit.config import load_config
from labkit.domain.clock import SECOND_MS
from labkit.domain.moments import moment_ms, moment_text
from labkit.errors import ConfigError
from labkit.market.tape_recorder import RecordingStreams, TapeRecorder
from labkit.market.tapes import check_tape, cut_tape, tape_files
from labkit.market.websocket_monitor import PUBLIC_STREAMS, WebSocketMonitor
from labkit.wire.tape import tape_index

TAPES_FOLDER = "tapes"
FOUND_FAULTS = 1
SHOWN_STREAMS = 12
SILENT_AFTER_MS = 5 * SECOND_MS
_NANOSECONDS = 1_000_000


def add_commands(commands: Any) -> None:
    """Add `tape` and what it can do to the commands of `labkit`."""
    tape = commands.add_parser("tape", help="recordings of the market: record, ls, cut, check")
    actions = tape.add_subparsers(dest="action", required=True, metavar="ACTION")

    record = actions.add_parser("record", help="write down every frame as it arrives, until Ctrl-C")
    record.add_argument("symbol", nargs="+", help="e.g. BTCUSDT")
    record.add_argument("--to", type=Path, metavar="DIR", help="where (default: tapes in the data folder)")
    record.add_argument("--streams", default=PUBLIC_STREAMS, metavar="URL", help=f"default {PUBLIC_STREAMS}")
    record.add_argument("--minutes", type=float, help="end by itself after so long")
    record.set_defaults(run=_record)

    listing = actions.add_parser("ls", help="what recordings there are; ours are told from their index")
    _add_paths(listing)
    listing.set_defaults(run=_list)

    cut = actions.add_parser("cut", help="copy a piece of a recording, byte for byte")
    cut.add_argument("path", type=Path, help="a recording")
    cut.add_argument(
        "--start", default="1970-01-01", help="first receive time, UTC, e.g. 2026-01-05T08:00 (ls tells the span)"
    )
    cut.add_argument("--end", default="2200-01-01", help="first receive time not wanted any more")
    cut.add_argument("--to", required=True, type=Path, metavar="FILE", help="must end in .raw or .raw.gz and not exist")
    cut.set_defaults(run=_cut)

    check = actions.add_parser("check", help="read every line; status 1 if a recording is torn, 2 if it is damaged")
    _add_paths(check)
    check.set_defaults(run=_check)


def _add_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", nargs="*", type=Path, help="a recording or a folder of them (default: tapes in the data folder)"
    )


def _own_folder() -> Path:
    """Where recordings are when nobody says otherwise."""
    from labkit.config import home

    return home() / load_config(folder=home()).data_dir / TAPES_FOLDER


def _files(options: argparse.Namespace) -> list[Path]:
    paths = options.path or [_own_folder()]
    if not options.path and not paths[0].is_dir():
        raise ConfigError(f"{paths[0]}: no recordings yet; labkit tape record SYMBOL makes some, or name a folder")
    return [file for path in paths for file in tape_files(path)]


def _record(options: argparse.Namespace) -> int:
    folder: Path = options.to or _own_folder()
    if options.minutes is not None and not options.minutes > 0:
        raise ConfigError("--minutes: must be above 0", field="--minutes")
    recorder = TapeRecorder(folder)
    try:
        asyncio.run(_record_until_told(options, recorder))
    finally:
        recorder.close()
    for path in recorder.paths:
        print(path)
    if not recorder.frames:
        print(f"labkit: not one frame arrived from {options.streams}", file=sys.stderr)
        return FOUND_FAULTS
    return 0


async def _record_until_told(options: argparse.Namespace, recorder: TapeRecorder) -> None:
    from labkit.edge.clocks import SystemClock
    from labkit.edge.progress import progress_bar
    from labkit.edge.websocket import SocketStreams

    config = load_config()
    clock = SystemClock()
    sockets = SocketStreams(options.streams, open_timeout_ms=config.monitor.open_timeout_ms)
    streams = RecordingStreams(sockets, recorder, clock)
    monitor = WebSocketMonitor(options.symbol, streams=streams, clock=clock, config=config.monitor)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    began_ms = clock.now_ms()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if options.minutes is not None:
        loop.call_later(options.minutes * 60, ended.set)
    with progress_bar("recording", " frames") as bar:
        told: set[tuple[str, str]] = set()

        def complain(what: str, healthy: bool, cause: str) -> None:
            # Silence would look like a quiet market; the same trouble again and again is told once.
            if not healthy and cause and (what, cause) not in told:
                told.add((what, cause))
                bar.write(f"labkit: {what}: {cause}; trying again until Ctrl-C", file=sys.stderr)

        monitor.on_health = complain
        bar.write(f"labkit: {options.streams} into {options.to or _own_folder()}", file=sys.stderr)
        await monitor.start()
        try:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), SECOND_MS / 1000)
                # What arrived before a silence must not wait for its end.
                recorder.flush()
                bar.update(recorder.frames - bar.n)
                if not recorder.frames and not told and clock.now_ms() - began_ms >= SILENT_AFTER_MS:
                    complain("market", False, f"nothing has arrived for {SILENT_AFTER_MS // SECOND_MS} s")
                if recorder.failure is not None:
                    raise recorder.failure
        finally:
            await monitor.stop()


def _list(options: argparse.Namespace) -> int:
    for file in _files(options):
        size = f"{file.stat().st_size / 1e6:>9.2f} MB" if file.is_file() else ""
        index = tape_index(file)
        if index:
            first_ms, last_ms = (
                min(block.first_ns for block in index) // _NANOSECONDS,
                max(block.last_ns for block in index) // _NANOSECONDS,
            )
            lines = f"{sum(block.lines for block in index):>12,} frames  {len(index):>6,} blocks"
            print(f"{file}{size}{lines}  {moment_text(first_ms)} to {moment_text(last_ms)}")
        else:
            print(f"{file}{size}  no index: labkit tape check reads it")
    return 0


def _cut(options: argparse.Namespace) -> int:
    if not options.to.name.endswith((".raw", ".raw.gz")):
        raise ConfigError(f"--to {options.to}: must end in .raw or .raw.gz", field="--to")
    from_ns = moment_ms(options.start, field="--start") * _NANOSECONDS
    to_ns = moment_ms(options.end, field="--end") * _NANOSECONDS
    lines = cut_tape(options.path, options.to, from_ns=from_ns, to_ns=to_ns)
    print(f"{lines:,} frames in {options.to}")
    return 0


def _check(options: argparse.Namespace) -> int:
    torn = 0
    for file in _files(options):
        content = check_tape(file)
        first_ms, last_ms = content.first_ns // _NANOSECONDS, content.last_ns // _NANOSECONDS
        print(
            f"{file}: {content.lines:,} lines of {len(content.streams)} streams, "
            f"{moment_text(first_ms)} to {moment_text(last_ms)}, longest silence "
            f"{content.longest_silence_ns / 1e9:.3f} s, {content.backward_steps} steps back in time"
        )
        for stream, lines in sorted(content.streams.items(), key=lambda item: -item[1])[:SHOWN_STREAMS]:
            print(f"  {lines:>12,}  {stream or '(order books from REST and answers)'}")
        if content.torn_bytes:
            torn += 1
            print(
                f"labkit: {file}: ends in {content.torn_bytes} bytes of an unfinished block: its recorder was killed",
                file=sys.stderr,
            )
    return FOUND_FAULTS if torn else 0
