"""PaperExchange: an exchange of one's own, on loopback. Market, account, journal and server put together.

`PaperExchange` speaks the real protocol at `rest_url` and `ws_url`. With a data folder its account survives: a restart
continues the same market after the last moment written (`resume_ms` says when, so that a clock can be set to it).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from labkit.config import PaperConfig
from labkit.domain.clock import Clock
from labkit.errors import LabkitError
from labkit.paper.market_source import MarketSource
from labkit.paper.server import HOST, ExchangeServer
from labkit.paper.venue import Venue
from labkit.paper.venue_records import JournalEntry
from labkit.paper.weather.script import find_script
from labkit.store.journal import Journal, Record, is_begun

JOURNAL_NAME = "paper_exchange.db"


class StoredVenueJournal:
    """A `VenueJournal` on disk: durable when `append` returns, altered history is found on opening."""

    def __init__(self, data_dir: Path) -> None:
        """Raises `LedgerDamaged` or `LedgerError`."""
        self._journal = Journal.open(data_dir / JOURNAL_NAME)
        self._journal.begin_epoch()

    def append(self, entries: Sequence[JournalEntry]) -> None:
        self._journal.append(
            (Record(entry.time_ms, entry.kind, entry.key, entry.body) for entry in entries),
            anchor=any(entry.kind == "OrderFilled" for entry in entries),
        )

    def replay(self) -> Iterator[JournalEntry]:
        for record in self._journal.read():
            yield JournalEntry(record.time_ms, record.kind, record.key, record.body)

    def close(self) -> None:
        self._journal.close()


def resume_ms(source: MarketSource, data_dir: Path | None) -> int:
    """The market moment a venue on this data folder will start at: where its journal ends, or the market starts."""
    if data_dir is None or not is_begun(data_dir / JOURNAL_NAME):
        return source.start_ms
    journal = Journal.open(data_dir / JOURNAL_NAME, read_only=True)
    try:
        return max([source.start_ms, *(record.time_ms + 1 for record in journal.read())])
    finally:
        journal.close()


class PaperExchange:
    """A running paper exchange.

    Args:
        source: the market it trades at.
        config: opening balance, fees, margin mode.
        clock: market time; set to `resume_ms(source, data_dir)` at the start.
        port: of 127.0.0.1; 0 takes any free one.
        data_dir: where the account survives; None forgets it on `stop`.
        api_key, api_secret: made up anew for each run if None. The secret may be a public key, see `Venue`.
    """

    def __init__(
        self,
        source: MarketSource,
        config: PaperConfig,
        clock: Clock,
        *,
        port: int = 0,
        data_dir: Path | None = None,
        api_key: str | None = None,
        api_secret: str | None = None,
    ) -> None:
        self.api_key = api_key or secrets.token_hex(32)
        self.api_secret = api_secret or secrets.token_hex(32)
        self._source = source
        self._config = config
        self._clock = clock
        self._port = port
        self._data_dir = data_dir
        self._journal: StoredVenueJournal | None = None
        self._server: ExchangeServer | None = None
        self._venue: Venue | None = None

    @property
    def venue(self) -> Venue:
        """The exchange behind the port. Raises `LabkitError` before `start`."""
        if self._venue is None:
            raise LabkitError("the paper exchange has not been started")
        return self._venue

    @property
    def rest_url(self) -> str:
        return f"http://{HOST}:{self._port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{HOST}:{self._port}"

    async def start(self) -> None:
        """Open the books, then the port.

        Raises:
            ConfigError: the port is in use, or there is no such weather.
            LedgerDamaged: the journal in the data folder was altered.
        """
        self._journal = StoredVenueJournal(self._data_dir) if self._data_dir is not None else None
        try:
            weather = self._config.weather
            self._venue = Venue(
                self._source,
                self._config,
                api_key=self.api_key,
                api_secret=self.api_secret,
                journal=self._journal,
                weather=find_script(weather) if weather else None,
                patience=max(1.0, self._clock.speed),
            )
            self._server = ExchangeServer(self._venue, self._clock, port=self._port)
            await self._server.start()
        except BaseException:
            self._close_journal()
            raise
        self._port = self._server.port

    async def stop(self) -> None:
        """Close the port, end the market, close the books. Stopping twice is harmless."""
        server, self._server = self._server, None
        try:
            if server is not None:
                await server.stop()
        finally:
            self._close_journal()

    def _close_journal(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()
