"""Pulling history: archives first, the exchange for the rest, on from where it broke off; what is odd is told."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import web

from labkit.domain.clock import DAY_MS, HOUR_MS, MINUTE_MS
from labkit.domain.market_events import Bar, Trade
from labkit.domain.moments import moment_ms
from labkit.edge.http import SocketHttp
from labkit.errors import ArchiveUnreachable, ConfigError, ExchangeUnavailable, RemoteProtocolError, WouldExceedLimit
from labkit.market.bulk_files import ArchiveFile, ArchiveFolder, ArchiveHttp, archives_for
from labkit.market.data_service import DataService
from labkit.market.history_kinds import Series
from labkit.market.history_pull import Pull
from labkit.market.history_source import AGG_TRADES_SPAN_MS, FULL_PAGE
from labkit.market.lake import Lake
from labkit.market.lake_rows import Gap
from labkit.wire.rest_market import FundingRate, OpenInterestStatistic

START = moment_ms("2024-10-27")
HOURS = Series("klines", "BTCUSDT", "1h")
NOW = START + 10 * DAY_MS
FIVE_MINUTES = 5 * MINUTE_MS


def close_of(open_ms: int) -> Decimal:
    return Decimal("100.5") + open_ms // HOUR_MS % 24


class Exchange:
    """Has every hour from START on, funding every 8 hours, and a trade every 100 ms; may fail after some requests."""

    def __init__(self, *, now_ms: int = NOW, fails_after: int = 1_000_000) -> None:
        self.now_ms = now_ms
        self.fails_after = fails_after
        self.asked: list[tuple[str, int, int]] = []

    def exchange_time_ms(self) -> int:
        return self.now_ms

    def _note(self, what: str, start_ms: int | None, end_ms: int | None) -> tuple[int, int]:
        assert start_ms is not None
        assert end_ms is not None
        self.asked.append((what, start_ms, end_ms))
        if len(self.asked) > self.fails_after:
            raise ExchangeUnavailable("Service Unavailable.", http_status=503)
        return start_ms, end_ms

    async def klines(
        self, symbol: str, interval: str, *, start_ms: int | None = None, end_ms: int | None = None, limit: int = 500
    ) -> list[Bar]:
        first_ms, last_ms = self._note("klines", start_ms, end_ms)
        times = range(max(START, -(-first_ms // HOUR_MS) * HOUR_MS), min(last_ms, self.now_ms) + 1, HOUR_MS)[:limit]
        return [
            Bar(
                symbol, interval, time, time + HOUR_MS - 1, close_of(time), close_of(time) + 1, close_of(time) - 1,
                close_of(time), Decimal("2.5"), Decimal("250.25"), 7, Decimal("1.5"), Decimal("150.75"),
                time + HOUR_MS <= self.now_ms,
            )
            for time in times
        ]  # fmt: skip

    mark_price_klines = klines
    index_price_klines = klines

    async def funding_rate(
        self, symbol: str, *, start_ms: int | None = None, end_ms: int | None = None, limit: int = 100
    ) -> list[FundingRate]:
        first_ms, last_ms = self._note("funding", start_ms, end_ms)
        times = [time + 7 for time in range(START, self.now_ms, 8 * HOUR_MS) if first_ms <= time + 7 <= last_ms]
        return [
            FundingRate(symbol=symbol, funding_time_ms=time, funding_rate=Decimal("0.0001")) for time in times[:limit]
        ]

    async def open_interest_history(
        self, symbol: str, period: str, *, start_ms: int | None = None, end_ms: int | None = None, limit: int = 30
    ) -> list[OpenInterestStatistic]:
        first_ms, last_ms = self._note("open_interest", start_ms, end_ms)
        times = range(-(-first_ms // FIVE_MINUTES) * FIVE_MINUTES, last_ms + 1, FIVE_MINUTES)
        # A row is told when its five minutes are over, and the latest ones where a span holds too many.
        told = [time for time in times if time + FIVE_MINUTES <= self.now_ms][-limit:]
        return [
            OpenInterestStatistic(
                symbol=symbol,
                open_interest=Decimal(time // FIVE_MINUTES % 1_000),
                open_interest_value=Decimal(time // FIVE_MINUTES % 1_000) * 100,
                label_ms=time,
            )
            for time in told
        ]

    def forecast_candles(
        self,
        symbols: Sequence[str],
        interval: str,
        start_ms: int,
        end_ms: int,
        *,
        endpoint: str = "klines",
        within_ms: int | None = None,
    ) -> str:
        calls = -(-(end_ms - start_ms) // HOUR_MS // 1_500)
        if within_ms is not None and calls * MINUTE_MS > within_ms:
            raise WouldExceedLimit(f"{calls} calls would take {calls} min")
        return f"{calls} calls of {endpoint}"

    async def agg_trades(
        self, symbol: str, *, start_ms: int | None = None, end_ms: int | None = None, limit: int = 500
    ) -> list[Trade]:
        first_ms, last_ms = self._note("agg_trades", start_ms, end_ms)
        assert last_ms - first_ms < AGG_TRADES_SPAN_MS + 1
        times = range(-(-first_ms // 100) * 100, last_ms + 1, 100)[:limit]
        price = Decimal("100.5")
        return [Trade(symbol, time // 100, price, Decimal("2"), True, time, time) for time in times]


def publish(folder: Path, file: ArchiveFile, *, skip: tuple[int, ...] = (), volume: str = "2.5") -> None:
    """Put one archive of hours, with its checksum, where the exchange would."""
    rows = "".join(
        f"{time},{close_of(time)},{close_of(time) + 1},{close_of(time) - 1},{close_of(time)},{volume},"
        f"{time + HOUR_MS - 1},250.25,7,1.5,150.75,0\n"
        for time in range(file.start_ms, file.end_ms, HOUR_MS)
        if time not in skip
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("rows.csv", rows)
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue())
    digest = hashlib.sha256(out.getvalue()).hexdigest()
    path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}\n")


def day_files(days: int) -> list[ArchiveFile]:
    return archives_for(HOURS, START, START + days * DAY_MS, NOW)


async def test_archives_come_first_and_the_exchange_is_asked_for_the_rest_only(tmp_path: Path) -> None:
    for file in day_files(3):
        publish(tmp_path / "archive", file)
    exchange, lake = Exchange(now_ms=START + 4 * DAY_MS + HOUR_MS // 2), Lake(tmp_path / "lake")
    archive = ArchiveFolder(tmp_path / "archive")
    report = await DataService(exchange, lake).pull(HOURS, START, START + 9 * DAY_MS, archive=archive)
    assert report.merge.added == 4 * 24
    assert report.gaps == ()
    assert len(report.archives_used) == 3
    assert len(report.archives_missing) == 1, "the fourth day is over, its archive is not out yet"
    assert [(start_ms, what) for what, start_ms, _ in exchange.asked] == [(START + 3 * DAY_MS, "klines")]
    assert lake.read(HOURS, 0, 1 << 50)["source"].to_pylist() == ["archive"] * 72 + ["rest"] * 24


async def test_a_pull_tells_how_far_it_is_up_to_the_end(tmp_path: Path) -> None:
    for file in day_files(3):
        publish(tmp_path / "archive", file)
    reached: list[tuple[int, int]] = []
    end_ms = START + 3 * DAY_MS
    pull = Pull(Lake(tmp_path / "lake"), HOURS, START, end_ms, lambda done, of: reached.append((done, of)))
    await pull.from_archive(ArchiveFolder(tmp_path / "archive"), NOW, again=False)
    pull.finished()
    assert len(set(reached)) > 2
    assert reached == sorted(reached)
    assert reached[-1] == (3 * DAY_MS, 3 * DAY_MS)


async def test_the_running_candle_never_enters_the_lake(tmp_path: Path) -> None:
    exchange = Exchange(now_ms=START + 5 * HOUR_MS + 1)
    service = DataService(exchange, tmp_path)
    await service.pull(HOURS, START, START + DAY_MS)
    frame = service.klines("BTCUSDT", "1h", START, START + DAY_MS)
    assert len(frame) == 5
    assert frame.attrs["gaps"] == (Gap("BTCUSDT", "1h", START + 5 * HOUR_MS, START + DAY_MS),)


async def test_what_was_pulled_is_not_fetched_again(tmp_path: Path) -> None:
    for file in day_files(2):
        publish(tmp_path / "archive", file)
    archive = ArchiveFolder(tmp_path / "archive")
    await DataService(Exchange(), tmp_path / "lake").pull(HOURS, START, NOW, archive=archive)
    for file in day_files(2):
        (tmp_path / "archive" / file.path).unlink()
    exchange = Exchange()
    report = await DataService(exchange, tmp_path / "lake").pull(HOURS, START, NOW, archive=archive)
    assert (report.merge.added, report.gaps, exchange.asked) == (0, (), [])


async def test_an_interrupted_candle_fetch_keeps_the_pages_it_had(tmp_path: Path) -> None:
    long_past = moment_ms("2026-01-01")
    failing = Exchange(now_ms=long_past, fails_after=2)
    with pytest.raises(ExchangeUnavailable):
        await DataService(failing, tmp_path).pull(HOURS, START, long_past)
    exchange = Exchange(now_ms=long_past)
    await DataService(exchange, tmp_path).pull(HOURS, START, long_past)
    assert exchange.asked[0][1] == START + 2 * 1_500 * HOUR_MS


async def test_candles_an_archive_lacks_are_fetched_from_the_exchange(tmp_path: Path) -> None:
    (file,) = day_files(1)
    publish(tmp_path / "archive", file, skip=(START + 20 * HOUR_MS,))
    service = DataService(Exchange(), tmp_path / "lake")
    report = await service.pull(HOURS, START, START + DAY_MS, archive=ArchiveFolder(tmp_path / "archive"))
    assert (report.merge.added, report.gaps) == (24, ())


async def test_what_nobody_has_is_told_as_a_gap(tmp_path: Path) -> None:
    report = await DataService(Exchange(), tmp_path).pull(HOURS, START - 2 * DAY_MS, START + DAY_MS)
    assert report.gaps == (Gap("BTCUSDT", "1h", START - 2 * DAY_MS, START),)


async def test_pulling_again_finds_what_the_exchange_has_changed(tmp_path: Path) -> None:
    (file,) = day_files(1)
    publish(tmp_path / "archive", file, volume="0.0")
    archive, lake = ArchiveFolder(tmp_path / "archive"), Lake(tmp_path / "lake")
    await DataService(None, lake).pull(HOURS, START, START + DAY_MS, archive=archive, now_ms=NOW)
    publish(tmp_path / "archive", file, volume="2.5")
    quiet = await DataService(None, lake).pull(HOURS, START, START + DAY_MS, archive=archive, now_ms=NOW)
    assert (quiet.merge.added, quiet.archives_changed) == (0, ())
    report = await DataService(None, lake).pull(HOURS, START, START + DAY_MS, archive=archive, now_ms=NOW, again=True)
    assert report.archives_changed == (file.path,)
    assert (report.merge.replaced, report.merge.disagreeing) == (24, 24)
    assert report.merge.disagreements[0].kept == 2.5


async def test_a_damaged_archive_is_left_out_told_and_made_good_by_the_exchange(tmp_path: Path) -> None:
    one, other = day_files(2)
    publish(tmp_path / "archive", one)
    publish(tmp_path / "archive", other)
    path = tmp_path / "archive" / one.path
    path.write_bytes(path.read_bytes()[:-10])
    service = DataService(Exchange(), tmp_path / "lake")
    report = await service.pull(HOURS, START, START + 2 * DAY_MS, archive=ArchiveFolder(tmp_path / "archive"))
    (complaint,) = report.refused
    assert "does not match its checksum" in complaint
    assert one.path in complaint
    assert report.archives_used == (other.path,)
    assert report.gaps == ()


async def test_funding_is_paged_and_told_by_the_minute(tmp_path: Path) -> None:
    service = DataService(Exchange(), tmp_path)
    report = await service.pull(Series("funding", "BTCUSDT"), START, NOW)
    assert report.merge.added == 30
    frame = service.funding("BTCUSDT", START, NOW)
    assert frame.index.minute.unique().tolist() == [0]
    assert frame["mark_price"].isna().all(), "the exchange tells marks it did not keep as 0"


async def test_aggregate_trades_are_asked_hour_by_hour_within_reach_and_none_is_lost_at_a_page_edge(
    tmp_path: Path,
) -> None:
    exchange = Exchange()
    service = DataService(exchange, tmp_path)
    report = await service.pull(Series("agg_trades", "BTCUSDT"), NOW - 60 * HOUR_MS, NOW - 46 * HOUR_MS)
    assert exchange.asked[0][1] == NOW - 48 * HOUR_MS
    assert report.merge.added == 2 * HOUR_MS // 100
    assert report.merge.disagreeing == 0
    assert report.gaps == ()
    assert len(service.agg_trades("BTCUSDT", NOW - 48 * HOUR_MS, NOW)) == 2 * HOUR_MS // 100


async def test_more_trades_in_a_millisecond_than_a_page_holds_are_an_error_not_a_loop(tmp_path: Path) -> None:
    class Crowded(Exchange):
        async def agg_trades(
            self, symbol: str, *, start_ms: int | None = None, end_ms: int | None = None, limit: int = 500
        ) -> list[Trade]:
            assert start_ms is not None
            price = Decimal("1")
            return [Trade(symbol, number, price, price, True, start_ms, start_ms) for number in range(FULL_PAGE)]

    with pytest.raises(RemoteProtocolError, match="more than 1000 trades"):
        await DataService(Crowded(), tmp_path).pull(Series("agg_trades", "BTCUSDT"), NOW - HOUR_MS, NOW)


async def test_a_frame_fetches_what_klines_only_reads(tmp_path: Path) -> None:
    service = DataService(Exchange(), tmp_path)
    with pytest.raises(ConfigError, match="nothing of that"):
        service.klines("BTCUSDT", "1h", "2024-10-27", "2024-10-28")
    fetched = await service.frame("BTCUSDT", "1h", "2024-10-27", "2024-10-28")
    read = service.klines("BTCUSDT", "1h", "2024-10-27", "2024-10-28")
    assert fetched.equals(read)
    assert fetched.index.equals(read.index)
    assert read.attrs["units"] == fetched.attrs["units"]
    assert read.attrs["gaps"] == ()


async def test_open_interest_is_kept_by_the_moment_it_was_known_for_certain(tmp_path: Path) -> None:
    now_ms = START + 40 * DAY_MS
    exchange = Exchange(now_ms=now_ms)
    report = await DataService(exchange, tmp_path).pull(Series("metrics", "BTCUSDT"), START, now_ms)
    assert report.merge.added == 30 * DAY_MS // FIVE_MINUTES
    assert len(exchange.asked) == 18
    frame = DataService(None, tmp_path).open_interest("BTCUSDT", START, now_ms)
    assert list(frame.columns) == ["open_interest", "open_interest_value"]
    known_ms = frame.index.as_unit("ms").asi8
    # Each row tells of the five minutes before it, whichever end of them the exchange's label names.
    assert (frame["open_interest"] == (known_ms - FIVE_MINUTES) // FIVE_MINUTES % 1_000).all()
    assert (known_ms[1:] - known_ms[:-1] == FIVE_MINUTES).all()
    assert report.gaps == ()


async def test_a_pull_that_would_take_too_long_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    exchange = Exchange(now_ms=START + 300 * DAY_MS)
    service = DataService(exchange, tmp_path)
    with pytest.raises(WouldExceedLimit, match="5 calls"):
        await service.pull(HOURS, START, exchange.now_ms, within_ms=4 * MINUTE_MS)
    assert exchange.asked == []
    assert service.forecast(HOURS, START, exchange.now_ms) == "5 calls of klines"
    await service.pull(HOURS, START, exchange.now_ms, within_ms=5 * MINUTE_MS)
    assert service.forecast(HOURS, START, exchange.now_ms) == ""


async def test_a_lake_that_is_not_there_or_lacks_a_series_says_how_to_fill_it(tmp_path: Path) -> None:
    missing = DataService(None, tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no lake yet; labkit data pull"):
        missing.klines("BTCUSDT", "1h", START, NOW)
    with pytest.raises(ConfigError, match="no lake yet; labkit data pull"):
        await missing.bars("BTCUSDT", "1h", START, NOW)
    await DataService(Exchange(), tmp_path).pull(HOURS, START, NOW)
    with pytest.raises(ConfigError, match="labkit data pull ETHUSDT --kind mark_klines --interval 1h"):
        DataService(None, tmp_path).mark_klines("ETHUSDT", "1h", START, NOW)
    assert len(DataService(None, tmp_path).klines("BTCUSDT", "1h", START - DAY_MS, START)) == 0


async def test_without_lake_or_anybody_to_ask_the_answer_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lake"):
        DataService(Exchange()).klines("BTCUSDT", "1h", 0, 1)
    with pytest.raises(ConfigError, match="nobody to ask"):
        await DataService(None, tmp_path).pull(HOURS, START, NOW)


@pytest.fixture
async def mirror(tmp_path: Path) -> AsyncIterator[Callable[[], ArchiveHttp]]:
    """A real HTTP server on loopback that mirrors `tmp_path / "archive"`, and answers 503 for one path."""

    async def answer(request: web.Request) -> web.Response:
        if "2024-10-29" in request.path:
            return web.Response(status=503)
        path = tmp_path / "archive" / request.path.lstrip("/")
        content = await asyncio.to_thread(lambda: path.read_bytes() if path.exists() else None)
        return web.Response(status=404, text="<Error/>") if content is None else web.Response(body=content)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    made: list[ArchiveHttp] = []

    def make() -> ArchiveHttp:
        made.append(ArchiveHttp(SocketHttp(f"http://127.0.0.1:{port}", timeout_ms=5_000)))
        return made[-1]

    yield make
    for archive in made:
        await archive.close()
    await runner.cleanup()


async def test_archives_are_fetched_over_http_and_a_failing_one_is_told(
    mirror: Callable[[], ArchiveHttp], tmp_path: Path
) -> None:
    for file in day_files(3):
        publish(tmp_path / "archive", file)
    service = DataService(None, tmp_path / "lake")
    report = await service.pull(HOURS, START, START + 4 * DAY_MS, archive=mirror(), now_ms=NOW)
    assert report.merge.added == 48
    assert len(report.archives_missing) == 1
    assert "HTTP 503" in report.refused[0]


async def test_an_archive_nobody_answers_for_ends_the_pull(tmp_path: Path) -> None:
    archive = ArchiveHttp(SocketHttp("http://127.0.0.1:9", timeout_ms=2_000))
    try:
        with pytest.raises(ArchiveUnreachable, match="cannot be fetched"):
            await DataService(None, tmp_path).pull(HOURS, START, NOW, archive=archive, now_ms=NOW)
    finally:
        await archive.close()
