"""The paper exchange without a socket: the same bytes, called directly. Used in virtual time.

`InProcessExchange` is both transports of `labkit.wire.transport`; `live_through` lets a venue follow a clock and is
what the server uses too. One event loop, no threads, no wall clock: the order of everything is reproducible. What the
weather cuts or swallows is here what a client's transport would make of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from labkit.domain.clock import Clock
from labkit.errors import RemoteProtocolError
from labkit.paper.stream_sessions import StreamSession
from labkit.paper.venue import Venue
from labkit.paper.weather.carrier import Carrier, Refusal
from labkit.paper.weather.policy import Ending
from labkit.wire.frames import Frames
from labkit.wire.transport import ConnectionLost, HandshakeRefused, HttpRequest, HttpResponse, NotSent

OPEN_WITHIN_SECONDS = 10.0
"""Patience with a handshake: a transport has some, also one without a socket."""


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
        self._carrier = Carrier(venue, clock)

    @property
    def venue(self) -> Venue:
        return self._venue

    async def run(self) -> None:
        """Live through the market; returns when it is over."""
        weather = asyncio.create_task(self._carrier.keep_time(), name="paper exchange: weather")
        try:
            await live_through(self._venue, self._clock)
        finally:
            weather.cancel()
            self._carrier.close()

    async def send(self, request: HttpRequest) -> HttpResponse:
        # Even an immediate answer takes a turn of the loop, as one from a socket would.
        await asyncio.sleep(0)
        carried = await self._carrier.carry(request)
        match carried.ending:
            case Ending.HANG:
                await asyncio.Event().wait()
            case Ending.LOST:
                raise ConnectionLost("the connection was reset")
            case Ending.CUT:
                raise ConnectionLost("the answer ended in its middle")
        assert carried.response is not None
        return carried.response

    async def open(self, path_and_query: str) -> InProcessConnection:
        """Raises `NotSent` if no streams are at this path or nobody is let in, `ConnectionLost` if it stalls."""
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(OPEN_WITHIN_SECONDS):
                session = await self._carrier.shake_hands(path_and_query)
        except RemoteProtocolError as error:
            raise NotSent(str(error)) from error
        except TimeoutError as error:
            raise ConnectionLost("the handshake timed out") from error
        if isinstance(session, Refusal):
            if session.status:
                raise HandshakeRefused(
                    f"the handshake was answered with HTTP {session.status}", http_status=session.status
                )
            raise NotSent("cannot connect")
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

    async def pump(self, take: Callable[[Frames], None]) -> NoReturn:
        """Hand over all frames as they come, those that wait together in one call."""
        outgoing = self._session.outgoing
        while True:
            frames = [await self.receive(), *outgoing]
            outgoing.clear()
            take(Frames.of(frames))

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
