"""The command line of the lake: `labkit data pull · import · check · ls · export`.

Results go to standard output, progress and warnings to standard error. Used by `labkit.cli`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.assembly import LAKE_FOLDER
from labkit.config import load_config
from labkit.domain.clock import DAY_MS
from labkit.domain.intervals import INTERVALS
from labkit.domain.moments import moment_ms, moment_text
from labkit.errors import ConfigError, DataFileError
from labkit.market.bulk_files import PUBLIC_ARCHIVE, Archive, ArchiveFolder, ArchiveHttp
from labkit.market.data_service import DataService
from labkit.market.history_kinds import KINDS, Series
from labkit.market.history_pull import PullReport
from labkit.market.lake import Lake
from labkit.market.lake_rows import Gap, Merge
from labkit.market.parquet_import import import_parquet, parquet_files

if TYPE_CHECKING:
    from labkit.exchange.binance_client import BinanceClient

ARCHIVE_TIMEOUT_MS = 120_000
FOUND_FAULTS = 1
SHOWN = 10


def add_commands(commands: Any) -> None:
    """Add `data` and what it can do to the commands of `labkit`."""
    data = commands.add_parser("data", help="history on disk: pull, import, check, ls, export")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")

    pull = actions.add_parser("pull", help="bring history into the lake; goes on where it broke off")
    _add_series(pull)
    pull.add_argument("--start", required=True, help="first moment, UTC, e.g. 2024-01-01")
    pull.add_argument("--end", help="first moment not wanted any more (default: now)")
    pull.add_argument("--from", dest="source", choices=("both", "archive", "exchange"), default="both",
                      help="the exchange's archives, its API, or the first and then the second (default)")  # fmt: skip
    pull.add_argument("--archive", default=PUBLIC_ARCHIVE, metavar="URL|DIR", help=f"default {PUBLIC_ARCHIVE}")
    pull.add_argument("--exchange", metavar="URL", help="whose API (default: the exchange's public one)")
    pull.add_argument("--again", action="store_true", help="fetch what is there too, to find what was changed since")
    pull.set_defaults(run=_pull)

    bring = actions.add_parser("import", help="bring Parquet files of your own into the lake")
    bring.add_argument("path", nargs="+", type=Path, help="a Parquet file or a folder of them")
    _add_lake(bring)
    bring.set_defaults(run=_import)

    check = actions.add_parser("check", help="prove every file, and list what is missing; status 1 if files are bad")
    _add_lake(check)
    check.set_defaults(run=_check)

    listing = actions.add_parser("ls", help="what is in the lake")
    _add_lake(listing)
    listing.set_defaults(run=_list)

    export = actions.add_parser("export", help="write one series to a .csv or .parquet file")
    _add_series(export, several=False)
    export.add_argument("--start", default="1970-01-01", help="first moment, UTC (default: all)")
    export.add_argument("--end", default="9999-12-31", help="first moment not wanted any more")
    export.add_argument("--to", required=True, type=Path, metavar="FILE", help="must not exist yet")
    export.set_defaults(run=_export)


def _add_series(parser: argparse.ArgumentParser, *, several: bool = True) -> None:
    parser.add_argument("symbol", nargs="+" if several else None, help="e.g. BTCUSDT")
    parser.add_argument("--kind", choices=tuple(KINDS), default="klines", help="default klines")
    parser.add_argument("--interval", default="1m", metavar="INTERVAL", help=f"of candles: {' '.join(INTERVALS)}")
    _add_lake(parser)


def _add_lake(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lake", type=Path, metavar="DIR", help="where the lake is (default: lake in the data folder)")


def _lake(options: argparse.Namespace, *, must_exist: bool = False) -> Lake:
    from labkit.lab import home

    folder: Path = options.lake or home() / load_config(folder=home()).data_dir / LAKE_FOLDER
    lake = Lake(folder)
    return lake.that_exists() if must_exist else lake


def _series(options: argparse.Namespace, symbol: str) -> Series:
    return Series(options.kind, symbol, options.interval if KINDS[options.kind].has_interval else "")


# -- pull ------------------------------------------------------------------------------------------------------


def _pull(options: argparse.Namespace) -> int:
    from labkit.edge.clocks import SystemClock

    now_ms = SystemClock().now_ms()
    start_ms = moment_ms(options.start, field="--start")
    end_ms = moment_ms(options.end, field="--end") if options.end else now_ms
    if end_ms <= start_ms:
        raise ConfigError("--end: must be after --start", field="--end")
    series = [_series(options, symbol) for symbol in options.symbol]
    reports = asyncio.run(_pull_all(options, series, start_ms, end_ms, now_ms))
    for report in reports:
        _print_pull(report)
    return FOUND_FAULTS if any(report.refused for report in reports) else 0


async def _pull_all(
    options: argparse.Namespace, wanted: list[Series], start_ms: int, end_ms: int, now_ms: int
) -> list[PullReport]:
    archive = _archive(options.archive) if options.source != "exchange" else None
    client = _client(options.exchange) if options.source != "archive" else None
    service = DataService(client, _lake(options))
    reports = []
    try:
        if client is not None:
            await client.sync_time()
            now_ms = client.exchange_time_ms()
        for series in wanted:
            with _progress(str(series)) as progress:
                reports.append(
                    await service.pull(
                        series, start_ms, end_ms, archive=archive, now_ms=now_ms, again=options.again, progress=progress
                    )
                )
    finally:
        if archive is not None:
            await archive.close()
        if client is not None:
            await client.close()
    return reports


def _archive(where: str) -> Archive:
    from labkit.edge.http import SocketHttp

    if "://" in where:
        return ArchiveHttp(SocketHttp(where, timeout_ms=ARCHIVE_TIMEOUT_MS))
    if not Path(where).is_dir():
        raise ConfigError(f"--archive {where}: neither an address nor a folder", field="--archive")
    return ArchiveFolder(Path(where))


def _client(address: str | None) -> BinanceClient:
    from labkit.exchange.binance_client import BinanceClient
    from labkit.exchange.hosts import PRODUCTION_REST

    return BinanceClient(base_url=address or PRODUCTION_REST)


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None]]:
    from tqdm import tqdm

    with tqdm(unit="day", desc=name, file=sys.stderr, disable=None) as bar:

        def show(done_ms: int, of_ms: int) -> None:
            bar.total = round(of_ms / DAY_MS, 2)
            bar.update(round(done_ms / DAY_MS, 2) - bar.n)

        yield show


def _print_pull(report: PullReport) -> None:
    print(f"{report.series}: {_words(report.merge)}")
    for path in report.archives_changed:
        print(f"  changed by the exchange since it was used before: {path}")
    if report.archives_missing:
        print(f"  {len(report.archives_missing)} archives do not exist, e.g. {report.archives_missing[-1]}")
    for complaint in report.refused:
        print(f"labkit: not used: {complaint}", file=sys.stderr)
    _print_disagreements(report.merge)
    _print_gaps(list(report.gaps))


def _words(merge: Merge) -> str:
    words = f"{merge.added:,} rows added"
    for count, what in (
        (merge.replaced, "replaced"),
        (merge.duplicates, "duplicates dropped"),
        (merge.disagreeing, "told differently by two sources"),
    ):
        if count:
            words += f", {count:,} {what}"
    return words


def _print_disagreements(merge: Merge) -> None:
    for told in merge.disagreements[:SHOWN]:
        print(f"  {moment_text(told.time_ms)} {told.column}: {told.kept!r} kept, {told.refused!r} refused")
    if merge.disagreeing > SHOWN:
        print(f"  … and {merge.disagreeing - SHOWN:,} more rows")


def _print_gaps(gaps: list[Gap]) -> None:
    for gap in gaps[:SHOWN]:
        print(f"  missing: {moment_text(gap.start_ms)} to {moment_text(gap.end_ms)}")
    if len(gaps) > SHOWN:
        print(f"  … and {len(gaps) - SHOWN:,} more gaps")


# -- import, check, ls, export -----------------------------------------------------------------------------------


def _import(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from labkit.edge.clocks import SystemClock

    lake, now_ms = _lake(options), SystemClock().now_ms()
    merges: dict[Series, Merge] = {}
    refused = []
    files = [file for path in options.path for file in parquet_files(path)]
    for file in tqdm(files, unit="file", desc="import", file=sys.stderr, disable=None):
        try:
            for series, merge in import_parquet(lake, file, now_ms=now_ms).items():
                merges[series] = merges.get(series, Merge()) + merge
        except DataFileError as error:
            # One foreign file among many does not keep the others out.
            refused.append(error)
    for series, merge in sorted(merges.items()):
        print(f"{series}: {_words(merge)}")
        _print_disagreements(merge)
    if refused and not merges:
        raise refused[0]
    for complaint in refused:
        print(f"labkit: not imported: {complaint}", file=sys.stderr)
    return FOUND_FAULTS if refused else 0


def _check(options: argparse.Namespace) -> int:
    lake = _lake(options, must_exist=True)
    holdings = lake.holdings()
    findings = list(lake.set_aside)
    for holding in holdings:
        found = lake.check(holding.series)
        findings += found
        print(
            f"{holding.series}: {holding.files} files, {holding.rows:,} rows, {'sound' if not found else 'NOT sound'}"
        )
        _print_gaps(lake.gaps(holding.series))
    for finding in findings:
        print(f"labkit: {finding.path}: {finding.problem}", file=sys.stderr)
    if lake.set_aside:
        print("labkit: damaged files were set aside as *.damaged; pull the series again to mend it", file=sys.stderr)
    return FOUND_FAULTS if findings else 0


def _list(options: argparse.Namespace) -> int:
    for holding in _lake(options, must_exist=True).holdings():
        print(
            f"{holding.series!s:<32}{holding.rows:>14,} rows  {moment_text(holding.first_ms):<17}"
            f"to {moment_text(holding.last_ms):<17}{holding.size_bytes / 1e6:>9.2f} MB"
        )
    return 0


def _export(options: argparse.Namespace) -> int:
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet

    series = _series(options, options.symbol)
    start_ms, end_ms = moment_ms(options.start, field="--start"), moment_ms(options.end, field="--end")
    target: Path = options.to
    if target.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--to {target}: must end in .csv or .parquet", field="--to")
    table = _lake(options, must_exist=True).read(series, start_ms, end_ms)
    if not table.num_rows:
        raise ConfigError(f"{series}: nothing of that in the lake; labkit data ls shows what is", field="symbol")
    try:
        with open(target, "xb") as file:
            if target.suffix == ".csv":
                csv.write_csv(table, file)
            else:
                parquet.write_table(table, file, compression="zstd")
    except OSError as error:
        raise ConfigError(f"--to {target}: {error.strerror}", field="--to") from error
    print(f"{table.num_rows:,} rows of {series} in {target}")
    return 0
