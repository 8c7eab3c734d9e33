"""The paper exchange without a socket: the same bytes, called directly. Used in virtual time.

`InProcessExchange` is both transports of `labkit.wire.transport`; `live_through` lets a venue follow a clock and is
what the server uses too. One event loop, no threads, no wall clock: the order of everything is reproducible.
"""

from __future__ import annotations

import asyncio

from labkit.domain.clock import Clock
from labkit.errors import RemoteProtocolError
from labkit.paper.stream_sessions import StreamSession
from labkit.paper.venue import Venue
from labkit.wire.transport import ConnectionLost, HttpRequest, HttpResponse, NotSent


async def live_through(venue: Venue, clock: Clock) -> None:
    """Let the venue live as the clock runs; returns when its market is over."""
    while (due_ms := venue.next_event_ms()) is not None:
        await clock.sleep_until(due_ms)
        venue.advance(clock.now_ms())


class InProcessExchange:
    """A venue as an `HttpTransport` and a `StreamTransport`. `run` must be running for the market to move."""

    def __init__(self, venue: Venue, clock: Clock) -> None:
        self._venue = venue
        self._clock = clock

    @property
    def venue(self) -> Venue:
        return self._venue

    async def run(self) -> None:
        """Live through the market; returns when it is over."""
        await live_through(self._venue, self._clock)

    async def send(self, request: HttpRequest) -> HttpResponse:
        # Even an immediate answer takes a turn of the loop, as one from a socket would.
        await asyncio.sleep(0)
        return self._venue.handle(request, self._clock.now_ms())

    async def open(self, path_and_query: str) -> InProcessConnection:
        """Raises `NotSent` if the venue has no streams at this path."""
        await asyncio.sleep(0)
        try:
            session = self._venue.open_stream(path_and_query, self._clock.now_ms())
        except RemoteProtocolError as error:
            raise NotSent(str(error)) from error
        return InProcessConnection(session, self._clock)

    async def close(self) -> None:
        """Nothing is held open."""


class InProcessConnection:
    """One stream session as a `StreamConnection`."""

    def __init__(self, session: StreamSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._waiter: asyncio.Future[None] | None = None
        session.notify = self._wake

    async def receive(self) -> bytes:
        session = self._session
        while not session.outgoing:
            if session.closed:
                raise ConnectionLost(session.close_reason or "closed")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return session.outgoing.popleft()

    async def send(self, text: str) -> None:
        await asyncio.sleep(0)
        if self._session.closed:
            raise ConnectionLost(self._session.close_reason or "closed")
        self._session.receive(text, self._clock.now_ms())

    async def close(self) -> None:
        self._session.close("closed by the client")

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
