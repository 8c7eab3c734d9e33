"""UserStream: what happens to the account, as the exchange tells it, for as long as the engine runs.

Makes the listen key, keeps it alive, connects `/private`, and comes back by itself after every cut, expiry or error.
A stream can lose events in each of these moments, and in no other; so its owner is told after every (re)connect,
before the first event of the new connection, and reconciles by asking. Times in market milliseconds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from labkit.config import ClientConfig
from labkit.domain.clock import MINUTE_MS, Clock
from labkit.domain.snapshot import StreamRow
from labkit.errors import (
    BreakerOpen,
    ExchangeError,
    ListenKeyGone,
    RemoteProtocolError,
    WouldExceedLimit,
)
from labkit.exchange.binance_client import BinanceClient
from labkit.wire.endpoints import encode_query
from labkit.wire.transport import ConnectionLost, NotSent, StreamConnection, StreamTransport
from labkit.wire.user_data import ListenKeyExpired, UserEvent, decode_user_event

FIRST_BACKOFF_MS = 250
LONGEST_BACKOFF_MS = 30_000
LASTING_CONNECTION_MS = 30_000
"""A connection that lasted this long makes the next back-off a short one again."""
RENEW_AGAIN_MS = MINUTE_MS
"""After a renewal that failed for a passing reason."""

_PASSING = (ExchangeError, BreakerOpen, WouldExceedLimit, RemoteProtocolError, ConnectionLost, NotSent)


class UserStream:
    """The user-data stream of one account.

    Args:
        client: makes and renews the listen key.
        streams: opens the connection.
        on_event: called with each event, in the order of arrival; must not block.
        on_gap: called with the cause after every (re)connect and after a frame nobody can read. Events that arrive
            while it runs wait for it.
        seed: fixes the jitter of the back-off.
    """

    def __init__(
        self,
        client: BinanceClient,
        streams: StreamTransport,
        clock: Clock,
        config: ClientConfig,
        on_event: Callable[[UserEvent], None],
        on_gap: Callable[[str], Awaitable[None] | None],
        *,
        seed: int = 1,
    ) -> None:
        self._client = client
        self._streams = streams
        self._clock = clock
        self._config = config
        self._on_event = on_event
        self._on_gap = on_gap
        self._random = random.Random(seed)
        self._state = "idle"
        self._cause = ""
        self._frames = 0
        self._connects = 0
        self._rejected = 0
        self._last_frame_ms: int | None = None

    def status(self) -> StreamRow:
        """How the stream stands. A quiet account sends nothing: a large age alone is not a fault."""
        age_ms = None if self._last_frame_ms is None else self._clock.now_ms() - self._last_frame_ms
        return StreamRow(
            name="user data",
            state=self._state,
            frames=self._frames,
            reconnects=max(0, self._connects - 1),
            rejected=self._rejected,
            age_ms=age_ms,
            cause=self._cause,
        )

    async def run(self) -> None:
        """Follow the account until cancelled."""
        failures = 0
        cause = "first connection"
        try:
            while True:
                self._state = "connecting"
                connected_ms = None
                listen_key = ""
                try:
                    listen_key = await self._client.create_listen_key()
                    connection = await self._streams.open(f"/private/ws?{encode_query({'listenKey': listen_key})}")
                    try:
                        connected_ms = self._clock.now_ms()
                        self._connects += 1
                        self._state = "connected"
                        await self._tell_gap(cause)
                        self._cause = ""
                        cause = await self._follow(connection, listen_key)
                    finally:
                        await connection.close()
                except _PASSING as error:
                    cause = _in_words(error, secret=listen_key)
                self._cause = cause
                self._state = "waiting"
                lasted = connected_ms is not None and self._clock.now_ms() - connected_ms >= LASTING_CONNECTION_MS
                failures = 0 if lasted else failures + 1
                # Full jitter: a crowd of clients cut off together must not come back together.
                longest_ms = min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS << min(failures, 16))
                await self._clock.sleep_until(self._clock.now_ms() + self._random.randint(1, longest_ms))
        finally:
            self._state = "stopped"

    async def _follow(self, connection: StreamConnection, listen_key: str) -> str:
        """Read and keep alive until either cannot go on; returns why."""
        reading = asyncio.create_task(self._read(connection, listen_key), name="user stream reader")
        renewing = asyncio.create_task(self._keep_alive(listen_key), name="listen key renewal")
        tasks = (reading, renewing)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else renewing.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, connection: StreamConnection, listen_key: str) -> str:
        while True:
            frame = await connection.receive()
            self._frames += 1
            self._last_frame_ms = self._clock.now_ms()
            try:
                event = decode_user_event(frame)
            except RemoteProtocolError:
                # It may have been a fill.
                self._rejected += 1
                await self._tell_gap("a frame could not be read")
                continue
            if event is None:
                continue
            self._on_event(event)
            if isinstance(event, ListenKeyExpired) and event.listen_key in ("", listen_key):
                # The socket stays open and says nothing more.
                return "listen key expired"

    async def _keep_alive(self, listen_key: str) -> str:
        wait_ms = self._config.listen_key_every_ms
        while True:
            await self._clock.sleep_until(self._clock.now_ms() + wait_ms)
            wait_ms = self._config.listen_key_every_ms
            try:
                renewed = await self._client.renew_listen_key()
            except ListenKeyGone:
                return "listen key is gone"
            except _PASSING:
                wait_ms = RENEW_AGAIN_MS
                continue
            if renewed not in ("", listen_key):
                return "listen key was replaced"

    async def _tell_gap(self, cause: str) -> None:
        waiting = self._on_gap(cause)
        if waiting is not None:
            await waiting


def _in_words(error: Exception, *, secret: str) -> str:
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    # A transport may name the address it could not open, and the listen key is part of that.
    return words.replace(secret, "***") if secret else words
