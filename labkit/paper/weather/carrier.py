"""Carrier: does to requests and handshakes what the weather decided. The one shell of both ways to an exchange.

`labkit.paper.server` and `labkit.paper.in_process` carry everything through it and only differ in what a cut
connection is made of. Waits are market time, kept on the loop's own clock.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine

import msgspec

from labkit.domain.clock import Clock
from labkit.paper.stream_sessions import StreamSession, route_in
from labkit.paper.venue import Venue
from labkit.paper.weather.admin import PREFIX
from labkit.paper.weather.policy import Ending
from labkit.wire.transport import HttpRequest, HttpResponse


class Carried(msgspec.Struct, frozen=True):
    """How a request ended: an answer, whole or cut after `kept` bytes of its body, or none at all."""

    ending: Ending
    response: HttpResponse | None = None
    kept: int = 0


class Refusal(msgspec.Struct, frozen=True):
    """A handshake that came to nothing: answered with `status`, or cut where that is 0."""

    status: int


class Carrier:
    """Carries requests to one venue and answers back, through its weather."""

    def __init__(self, venue: Venue, clock: Clock) -> None:
        self._venue = venue
        self._clock = clock
        self._speed = clock.speed if math.isfinite(clock.speed) else 1.0
        self._late: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        venue.weather.on_news = self._news.set

    async def carry(self, request: HttpRequest) -> Carried:
        """Bring `request` to the venue, as the weather lets it."""
        venue, clock = self._venue, self._clock
        now_ms = clock.now_ms()
        if not venue.weather.stirring or request.path.startswith(PREFIX):
            return Carried(Ending.WHOLE, venue.handle(request, now_ms))
        venue.advance(now_ms)
        fate = venue.weather.on_request(request, now_ms)
        await clock.sleep_until(now_ms + fate.arrives_after_ms)
        response = fate.answer
        arrived_ms = clock.now_ms()
        if fate.executed:
            told = venue.handle(request, arrived_ms)
            response = response or venue.weather.change_answer(fate, request, told, arrived_ms)
        elif fate.executed_late_ms:
            self._start(self._execute_late(request, arrived_ms, arrived_ms + fate.executed_late_ms))
        await clock.sleep_until(arrived_ms + fate.answered_after_ms)
        kept = int(len(response.body) * fate.kept_share) if response is not None else 0
        return Carried(fate.ending, response, kept)

    async def shake_hands(self, path_and_query: str) -> StreamSession | Refusal:
        """Open a stream session, as the weather lets it. Raises `RemoteProtocolError` for a path without streams."""
        venue, clock = self._venue, self._clock
        if venue.weather.stirring:
            now_ms = clock.now_ms()
            venue.advance(now_ms)
            fate = venue.weather.on_handshake(route_in(path_and_query), now_ms)
            await clock.sleep_until(now_ms + fate.wait_ms)
            if fate.status or fate.refused:
                return Refusal(fate.status)
        return venue.open_stream(path_and_query, clock.now_ms())

    async def keep_time(self) -> None:
        """Let the weather happen when it is due, not only when the market moves. Never returns."""
        venue, clock = self._venue, self._clock
        while True:
            self._news.clear()
            due_ms = venue.weather.next_due_ms()
            wait_seconds = None if due_ms is None else max(0, due_ms - clock.now_ms()) / 1000 / self._speed
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._news.wait()
            except TimeoutError:
                venue.advance(clock.now_ms())

    def close(self) -> None:
        """Nothing that was to be carried out later will be."""
        for task in self._late:
            task.cancel()

    def _start(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _execute_late(self, request: HttpRequest, received_ms: int, due_ms: int) -> None:
        await self._clock.sleep_until(due_ms)
        self._venue.handle(request, self._clock.now_ms(), received_ms=received_ms)
