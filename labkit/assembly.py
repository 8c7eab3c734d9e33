"""Assembly: the only place that chooses market, clock, exchange and store for a lab.

On sockets (a lab one watches): the paper exchange serves on loopback and everything talks to it through the network
stack. In process (virtual time): the same bytes are handed over directly, on a loop that jumps from timer to timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from labkit.config import Config
from labkit.domain.clock import Clock
from labkit.edge.clocks import SystemClock, VirtualClock, VirtualTimeLoop
from labkit.edge.http import SocketHttp
from labkit.edge.websocket import SocketStreams
from labkit.engine.ledger import LEDGER_FILE
from labkit.engine.unified_scheduler import Reporter, UnifiedScheduler
from labkit.errors import ConfigError, UnknownSymbol
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.credentials import Credentials
from labkit.exchange.hosts import PRODUCTION_REST
from labkit.market.data_service import DataService
from labkit.market.lake import LAKE_FOLDER
from labkit.market.live_feed import Fact, LiveFeed
from labkit.market.websocket_monitor import PUBLIC_STREAMS
from labkit.paper.in_process import InProcessExchange
from labkit.paper.market_live import LiveMarket
from labkit.paper.market_simulated import SimulatedMarket
from labkit.paper.market_source import MarketSource
from labkit.paper.market_tape import TapeMarket
from labkit.paper.paper_exchange import PaperExchange, StoredVenueJournal, resume_ms
from labkit.paper.venue import Venue
from labkit.paper.weather.script import find_script
from labkit.store.journal import Journal
from labkit.store.run_lock import Owner, RunLock

if TYPE_CHECKING:
    from labkit.trader.policies import Policy

IDENTITY_FILE = "lab.json"

# Nobody but this process can reach a venue in process; the key is fixed so that runs are reproducible.
IN_PROCESS_KEY = "in-process"


LIVE_HISTORY_DAYS = 7
"""Past bars a live market begins with: the trader's warm-up and some learning, at a few hundred of request weight."""


class LiveAddress(msgspec.Struct, frozen=True):
    """Where a live market is listened to. Public data only: no key is ever sent there."""

    rest: str = PRODUCTION_REST
    streams: str = PUBLIC_STREAMS


class Identity(msgspec.Struct, frozen=True):
    """What a data folder belongs to: another market would make nonsense of its account."""

    market: str
    seed: int
    tapes: tuple[str, ...]
    symbols: tuple[str, ...]


class Assembly:
    """All parts of one running lab, and the order in which they end."""

    def __init__(
        self,
        *,
        config: Config,
        source: MarketSource,
        clock: Clock,
        scheduler: UnifiedScheduler,
        exchange: PaperExchange | InProcessExchange,
        lock: RunLock,
        venue_journal: StoredVenueJournal | None = None,
        feed: _OpenFeed | None = None,
    ) -> None:
        self.config = config
        self.source = source
        self.clock = clock
        self.scheduler = scheduler
        self.exchange = exchange
        self._lock = lock
        self._venue_journal = venue_journal
        self._feed = feed
        self._market: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Let the market run, then the trader. On failure nothing is left half-started."""
        try:
            if isinstance(self.exchange, InProcessExchange):
                self._market = asyncio.get_running_loop().create_task(self.exchange.run())
            if self._feed is not None:
                await self._feed.feed.start()
            await self.scheduler.start()
        except BaseException:
            await self.stop("could not start")
            raise

    async def stop(self, reason: str = "asked to") -> None:
        """Stop trading, then the exchange; seal both books and give the folder free. Twice is harmless."""
        # From the last line up; what fails keeps nothing above it from being done.
        async with contextlib.AsyncExitStack() as ending:
            ending.callback(self._lock.release)
            ending.push_async_callback(self._stop_exchange)
            if self._feed is not None:
                ending.push_async_callback(self._feed.close)
            ending.push_async_callback(self.scheduler.binance_client.close)
            await self.scheduler.stop(reason)

    async def _stop_exchange(self) -> None:
        if isinstance(self.exchange, PaperExchange):
            await self.exchange.stop()
        else:
            if self._market:
                self._market.cancel()
                await asyncio.gather(self._market, return_exceptions=True)
            self.exchange.venue.close()
        if self._venue_journal is not None:
            journal, self._venue_journal = self._venue_journal, None
            journal.close()


class _OpenFeed(msgspec.Struct):
    """A live market and what keeps it filled."""

    market: LiveMarket
    feed: LiveFeed
    client: BinanceClient
    clock: Clock

    def fill(self, exchange: PaperExchange) -> None:
        """Let everything heard from now on happen at `exchange`, at once."""
        venue = exchange.venue

        def happen(fact: Fact) -> None:
            now_ms = self.clock.now_ms()
            self.market.push(fact, now_ms)
            venue.advance(now_ms)

        self.feed.tell = happen

    async def close(self) -> None:
        await self.feed.stop()
        await self.client.close()


async def open_live_market(config: Config, address: LiveAddress, lake: Path) -> _OpenFeed:
    """Ask the real exchange what it lists and what was, without a key; nothing is listened to yet.

    Raises:
        ExchangeError: it cannot be reached.
        UnknownSymbol: it does not list one of `config.symbols`.
    """
    client = BinanceClient(
        SocketHttp(address.rest, timeout_ms=config.client.request_timeout_ms), SystemClock(), config.client
    )
    try:
        await client.sync_time()
        listed = (await client.exchange_info()).symbols
        for symbol in config.symbols:
            if symbol not in listed:
                raise UnknownSymbol(f"setting symbols: the exchange does not list {symbol!r}", field="symbols")
        terms = await client.funding_info()
        clock = SystemClock(start_ms=client.exchange_time_ms())
        market = LiveMarket(
            {symbol: listed[symbol] for symbol in config.symbols},
            funding_hours={symbol: told.interval_hours for symbol, told in terms.items()},
            start_ms=clock.now_ms(),
        )
        feed = LiveFeed(
            config.symbols,
            DataService(client, lake=lake),
            streams=SocketStreams(address.streams, open_timeout_ms=config.monitor.open_timeout_ms),
            clock=clock,
            config=config.monitor,
            remember=market.remember,
        )
        await feed.recall(min(LIVE_HISTORY_DAYS, config.paper.history_days))
    except BaseException:
        await client.close()
        raise
    return _OpenFeed(market, feed, client, clock)


def make_market(config: Config) -> MarketSource:
    """The market the paper exchange trades at, unless it is live.

    Raises:
        TapeError: a recording cannot be replayed.
        ConfigError: the market's start is no moment, or a symbol cannot be simulated.
    """
    if config.market == "tape":
        return TapeMarket(config.tapes)
    try:
        start = datetime.fromisoformat(config.market_start)
    except ValueError as error:
        raise ConfigError(
            f"setting market_start: {config.market_start!r} is not a moment like 2026-01-05T00:00:00Z",
            field="market_start",
        ) from error
    if start.tzinfo is None:
        raise ConfigError("setting market_start: say the time zone, e.g. a Z at the end for UTC", field="market_start")
    return SimulatedMarket(
        config.symbols,
        seed=config.seed,
        start_ms=int(start.timestamp() * 1000),
        history_days=config.paper.history_days,
        planted_edge=config.paper.planted_edge,
        quotes_per_second=config.paper.quotes_per_second,
    )


def with_symbols_of(config: Config, source: MarketSource) -> Config:
    """The configuration trading what the market has: a tape brings its own symbols, unless some were chosen."""
    if config.market == "tape" and config.symbols == Config().symbols:
        return msgspec.structs.replace(config, symbols=source.symbols)
    for symbol in config.symbols:
        if symbol not in source.symbols:
            raise UnknownSymbol(
                f"setting symbols: {symbol!r} is not in this market; it has {', '.join(source.symbols)}",
                field="symbols",
            )
    return config


async def assemble_on_sockets(
    config: Config,
    folder: Path,
    *,
    reporter: Reporter | None = None,
    live_at: LiveAddress | None = None,
    policy: Policy | None = None,
) -> Assembly:
    """A lab on a paper exchange at 127.0.0.1, its market running `config.speed` times as fast as life.

    `live_at` is where a live market is found; the real exchange if None.

    Raises:
        AlreadyRunning: another engine owns `folder`.
        ConfigError, TapeError, LedgerDamaged: as the parts say; nothing is left half-started.
    """
    speed = config.speed
    assert not isinstance(speed, str)
    lock = acquire(folder)
    feed: _OpenFeed | None = None
    try:
        source: MarketSource
        if config.market == "live":
            check_identity(config, folder)
            feed = await open_live_market(config, live_at or LiveAddress(), folder / LAKE_FOLDER)
            source, clock = feed.market, feed.clock
        else:
            source = make_market(config)
            config = with_symbols_of(config, source)
            check_identity(config, folder)
            clock = SystemClock(speed=speed, start_ms=moment_to_resume(source, folder))
        exchange = PaperExchange(source, config.paper, clock, data_dir=folder)
        await exchange.start()
        if feed is not None:
            feed.fill(exchange)
    except BaseException:
        if feed is not None:
            await feed.close()
        lock.release()
        raise
    try:
        client = BinanceClient(
            SocketHttp(exchange.rest_url, timeout_ms=config.client.request_timeout_ms),
            clock,
            config.client,
            Credentials(exchange.api_key, exchange.api_secret),
        )
        scheduler = UnifiedScheduler(
            config,
            client,
            streams=SocketStreams(exchange.ws_url, open_timeout_ms=config.monitor.open_timeout_ms),
            clock=clock,
            folder=folder,
            market=source.name,
            disclosure=source.disclosure,
            reporter=reporter,
            policy=policy,
        )
    except BaseException:
        if feed is not None:
            await feed.close()
        await exchange.stop()
        lock.release()
        raise
    return Assembly(
        config=config, source=source, clock=clock, scheduler=scheduler, exchange=exchange, lock=lock, feed=feed
    )


async def assemble_in_process(
    config: Config, folder: Path, loop: VirtualTimeLoop, *, policy: Policy | None = None
) -> Assembly:
    """A lab in virtual time: the venue called directly, on `loop`. Raises as `assemble_on_sockets` does."""
    lock = acquire(folder)
    try:
        source = make_market(config)
        config = with_symbols_of(config, source)
        check_identity(config, folder)
        clock = VirtualClock(loop, start_ms=moment_to_resume(source, folder))
        journal = StoredVenueJournal(folder)
    except BaseException:
        lock.release()
        raise
    try:
        weather = find_script(config.paper.weather) if config.paper.weather else None
        venue = Venue(
            source, config.paper, api_key=IN_PROCESS_KEY, api_secret=IN_PROCESS_KEY, journal=journal, weather=weather
        )
        exchange = InProcessExchange(venue, clock)
        client = BinanceClient(exchange, clock, config.client, Credentials(IN_PROCESS_KEY, IN_PROCESS_KEY))
        scheduler = UnifiedScheduler(
            config,
            client,
            streams=exchange,
            clock=clock,
            folder=folder,
            market=source.name,
            disclosure=source.disclosure,
            policy=policy,
        )
    except BaseException:
        journal.close()
        lock.release()
        raise
    return Assembly(
        config=config,
        source=source,
        clock=clock,
        scheduler=scheduler,
        exchange=exchange,
        lock=lock,
        venue_journal=journal,
    )


def acquire(folder: Path) -> RunLock:
    """Take ownership of `folder`, saying who we are."""
    now = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC)
    return RunLock.acquire(folder, Owner(os.getpid(), now.strftime("%Y-%m-%dT%H:%M:%SZ"), socket.gethostname()))


def check_identity(config: Config, folder: Path) -> None:
    """Refuse a folder that holds the account of another market.

    Raises:
        ConfigError: says which setting differs.
    """
    identity = Identity(
        config.market, config.seed, tuple(str(Path(tape).resolve()) for tape in config.tapes), config.symbols
    )
    path = folder / IDENTITY_FILE
    try:
        known = msgspec.json.decode(path.read_bytes(), type=Identity)
    except FileNotFoundError:
        path.write_bytes(msgspec.json.encode(identity))
        return
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} cannot be read ({error}): choose another data folder", field="data_dir") from error
    for name in Identity.__struct_fields__:
        before, now = getattr(known, name), getattr(identity, name)
        if before != now:
            raise ConfigError(
                f"setting {name}: the account in {folder} belongs to {name} {before!r}, not {now!r}; "
                "choose another data folder to begin a new account",
                field=name,
            )


def moment_to_resume(source: MarketSource, folder: Path) -> int:
    """The market moment to go on from: after all that the exchange's books and our ledger know of."""
    resume = resume_ms(source, folder)
    path = folder / LEDGER_FILE
    if path.exists():
        journal = Journal.open(path, read_only=True)
        try:
            resume = max([resume, *(record.time_ms + 1 for record in journal.read())])
        finally:
            journal.close()
    return resume
