"""The command line of history: `labkit data pull · import · check · ls · export`, `labkit check lookahead · warmup`.

Results go to standard output, progress and warnings to standard error. Used by `labkit.cli`.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.config import load_config
from labkit.domain.clock import DAY_MS, MINUTE_MS
from labkit.domain.intervals import INTERVALS
from labkit.domain.moments import moment_ms, moment_text
from labkit.edge.progress import progress_bar
from labkit.errors import ArchiveUnreachable, ConfigError, DataFileError, ExchangeUnavailable, LabkitError
from labkit.exchange.hosts import PRODUCTION_REST
from labkit.market.bulk_files import PUBLIC_ARCHIVE, Archive, ArchiveFolder, ArchiveHttp
from labkit.market.data_service import DataService
from labkit.market.history_kinds import KINDS, Series
from labkit.market.history_pull import PullReport
from labkit.market.lake import LAKE_FOLDER, Lake
from labkit.market.lake_rows import Gap, Merge
from labkit.market.parquet_import import import_parquet, parquet_files

if TYPE_CHECKING:
    import pandas as pd

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
    pull.add_argument("--within", type=float, default=60.0, metavar="MINUTES",
                      help="refuse at once what the API's rate limits would make take longer (default 60)")  # fmt: skip
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

    _add_checks(commands)


def _add_checks(commands: Any) -> None:
    """Add `check`: what is tried on functions of candles."""
    check = commands.add_parser("check", help="try your own features: do they look ahead, what history do they need")
    trials = check.add_subparsers(dest="action", required=True, metavar="TRIAL")
    ahead = trials.add_parser("lookahead", help="does a function of candles know the future; status 1 if it does")
    ahead.set_defaults(run=_check_look_ahead)
    warm = trials.add_parser("warmup", help="how much history it needs; status 1 if no amount, or more than --at-most")
    warm.add_argument("--at-most", type=int, metavar="CANDLES", help="what you give it live")
    warm.set_defaults(run=_check_warm_up)
    for trial in (ahead, warm):
        trial.add_argument("function", metavar="FILE:FUNCTION", help="takes klines, returns columns by their times")
        trial.add_argument("--symbol", help="try it on candles of the lake (default: simulated ones)")
        trial.add_argument("--interval", default="1m", metavar="INTERVAL", help="of candles of the lake (default 1m)")
        trial.add_argument("--start", help="first moment, UTC (default: the last --candles there are)")
        trial.add_argument("--end", default="9999-12-31", help="first moment not wanted any more")
        trial.add_argument("--candles", type=int, default=3_000, metavar="COUNT", help="how many (default 3000)")
        _add_lake(trial)


def _add_series(parser: argparse.ArgumentParser, *, several: bool = True) -> None:
    parser.add_argument("symbol", nargs="+" if several else None, help="e.g. BTCUSDT")
    parser.add_argument("--kind", choices=tuple(KINDS), default="klines", help="default klines")
    parser.add_argument("--interval", default="1m", metavar="INTERVAL", help=f"of candles: {' '.join(INTERVALS)}")
    _add_lake(parser)


def _add_lake(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lake", type=Path, metavar="DIR", help="where the lake is (default: lake in the data folder)")


def _lake(options: argparse.Namespace, *, must_exist: bool = False) -> Lake:
    from labkit.config import home

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
    if not options.within > 0:
        raise ConfigError("--within: must be above 0", field="--within")
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
    within_ms = round(options.within * MINUTE_MS)
    try:
        if client is not None:
            await client.sync_time()
            now_ms = client.exchange_time_ms()
        if archive is None and not options.again:
            # All of it is asked of the API: what that costs is told, or refused, before the first call.
            for series in wanted:
                if forecast := service.forecast(series, start_ms, min(end_ms, now_ms), within_ms=within_ms):
                    print(f"labkit: {series}: {forecast}", file=sys.stderr)
        reports = [
            await service.pull(
                series, start_ms, end_ms, archive=archive, now_ms=now_ms, again=options.again, within_ms=within_ms
            )
            for series in wanted
        ]
    except ArchiveUnreachable as error:
        raise _no_answer(
            options.archive, error, "--archive names another place, --from exchange asks without"
        ) from error
    except ExchangeUnavailable as error:
        if error.http_status:
            raise
        where = options.exchange or PRODUCTION_REST
        raise _no_answer(where, error, "--exchange names another place, --from archive asks without") from error
    finally:
        if archive is not None:
            await archive.close()
        if client is not None:
            await client.close()
    return reports


def _no_answer(where: str, error: LabkitError, elsewhere: str) -> LabkitError:
    return LabkitError(
        f"{where} gives no answer: is this machine on the network? What has been pulled is kept, and the same command "
        f"goes on from there; {elsewhere} ({error})"
    )


def _archive(where: str) -> Archive:
    from labkit.edge.http import SocketHttp

    if "://" in where:
        return ArchiveHttp(SocketHttp(where, timeout_ms=ARCHIVE_TIMEOUT_MS))
    if not Path(where).is_dir():
        raise ConfigError(f"--archive {where}: neither an address nor a folder", field="--archive")
    return ArchiveFolder(Path(where))


def _client(address: str | None) -> BinanceClient:
    from labkit.exchange.binance_client import BinanceClient

    return BinanceClient(base_url=address or PRODUCTION_REST)


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
        print(f"  {gap}")
    if len(gaps) > SHOWN:
        print(f"  … and {len(gaps) - SHOWN:,} more gaps")


# -- check -----------------------------------------------------------------------------------------------------


def _check_look_ahead(options: argparse.Namespace) -> int:
    from labkit.research.candle_functions import load_function
    from labkit.research.look_ahead import look_ahead

    candles, what = _candles_to_try(options)
    found = look_ahead(load_function(options.function), candles)
    for peek in found.peeks:
        print(peek)
    for column in found.unsteady:
        print(f"{column}: differs from call to call on the same candles")
    if found.is_clean:
        print(f"no look-ahead in {', '.join(found.columns)}")
    print(f"({found.moments} moments of {what} tried, each with its future cut off and with another one)")
    return 0 if found.is_clean else FOUND_FAULTS


def _check_warm_up(options: argparse.Namespace) -> int:
    from labkit.research.candle_functions import load_function
    from labkit.research.warm_up import warm_up

    candles, what = _candles_to_try(options)
    columns = warm_up(load_function(options.function), candles)
    for column in columns:
        print(column)
        told = [f"{error:.2g} after {bars:,}" for bars, error in column.errors[::2] if math.isfinite(error)]
        print(f"  wrong, in parts of its usual size, by {', '.join(told) or '- (no value)'}")
    print(f"(values at {what}, with all history and with only the last candles)")
    most = options.at_most
    failed = [column for column in columns if column.bars is None or (most is not None and column.bars > most)]
    return FOUND_FAULTS if failed else 0


def _candles_to_try(options: argparse.Namespace) -> tuple[pd.DataFrame, str]:
    """Candles to call a function with, and what they are in words."""
    if options.candles < 1:
        raise ConfigError("--candles: must be above 0", field="--candles")
    if options.symbol is None:
        return _simulated(options.candles), f"{options.candles:,} simulated candles"
    series = Series("klines", options.symbol, options.interval)
    lake = _lake(options, must_exist=True).that_has(series)
    start_ms = moment_ms(options.start or "1970-01-01", field="--start")
    candles = lake.frame(series, start_ms, moment_ms(options.end, field="--end"))
    candles = candles if options.start else candles.tail(options.candles)
    return candles, f"{len(candles):,} candles of {series.symbol} {series.interval}"


def _simulated(count: int) -> pd.DataFrame:
    """The last minutes before a simulated market begins; the same ones every time."""
    import pandas as pd

    from labkit.market.history_kinds import KLINES
    from labkit.paper.market_simulated import SimulatedMarket

    start_ms = moment_ms("2026-01-05")
    market = SimulatedMarket(
        ("BTCUSDT",), seed=1, start_ms=start_ms, history_days=count * MINUTE_MS // DAY_MS + 2, planted_edge=0.0,
        quotes_per_second=1.0,
    )  # fmt: skip
    arrays = market.history_arrays("BTCUSDT", start_ms - count * MINUTE_MS, start_ms)
    index = pd.to_datetime(arrays.open_time_ms, unit="ms", utc=True).as_unit("ms").rename(KLINES.time)
    names = [column.name for column in KLINES.columns if column.name != KLINES.time]
    return pd.DataFrame({name: getattr(arrays, name) for name in names}, index=index).astype("float64")


# -- import, check, ls, export -----------------------------------------------------------------------------------


def _import(options: argparse.Namespace) -> int:
    from labkit.edge.clocks import SystemClock

    lake, now_ms = _lake(options), SystemClock().now_ms()
    merges: dict[Series, Merge] = {}
    refused = []
    files = [file for path in options.path for file in parquet_files(path)]
    with progress_bar("import", "file", len(files)) as bar:
        for file in files:
            try:
                for series, merge in import_parquet(lake, file, now_ms=now_ms).items():
                    merges[series] = merges.get(series, Merge()) + merge
            except DataFileError as error:
                # One foreign file among many does not keep the others out.
                refused.append(error)
            bar.update()
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
