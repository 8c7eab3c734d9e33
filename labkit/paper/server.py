"""The paper exchange's socket: HTTP and WebSocket on one port of 127.0.0.1. A dull shell around `Venue`.

It hands bytes to the venue and carries its frames away; what they mean is decided there. The venue follows the clock
in a task of its own. Pings are a matter of the connection and follow the wall clock, whatever the market's speed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
import struct

from aiohttp import WSMsgType, web

from labkit.domain.clock import Clock
from labkit.errors import ConfigError, RemoteProtocolError
from labkit.paper.in_process import live_through
from labkit.paper.stream_sessions import StreamSession
from labkit.paper.venue import Venue
from labkit.paper.weather.carrier import Carried, Carrier, Refusal
from labkit.paper.weather.policy import Ending, Farewell
from labkit.wire.transport import HttpRequest

HOST = "127.0.0.1"
PING_EVERY_SECONDS = 180.0
PONG_WITHIN_SECONDS = 600.0
LARGEST_BODY = 1 << 20
LOOK_SECONDS = 1.0
"""How often a connection looks whether a ping is due, or a client that is kept waiting has gone."""


class ExchangeServer:
    """Serves one venue. `start` opens the port, `stop` closes it and everything on it."""

    def __init__(self, venue: Venue, clock: Clock, *, port: int = 0) -> None:
        self._venue = venue
        self._clock = clock
        self._port = port
        self._carrier = Carrier(venue, clock)
        self._runner: web.AppRunner | None = None
        self._market: asyncio.Task[None] | None = None
        self._weather: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port served; the one that was given out once `start` returned."""
        return self._port

    async def start(self) -> None:
        """Open the port and let the market run.

        Raises:
            ConfigError: the port is in use.
        """
        application = web.Application(client_max_size=LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0, handle_signals=False)
        await runner.setup()
        site = web.TCPSite(runner, HOST, self._port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(
                f"port {self._port} on {HOST} is in use: choose another, or 0 for any free one", field="port"
            ) from error
        self._runner = runner
        self._port = runner.addresses[0][1]
        self._market = asyncio.create_task(live_through(self._venue, self._clock), name="paper exchange: market")
        self._weather = asyncio.create_task(self._carrier.keep_time(), name="paper exchange: weather")

    async def stop(self) -> None:
        """End the market, every session and the port. An error that had stopped the market is raised here."""
        market, self._market = self._market, None
        weather, self._weather = self._weather, None
        runner, self._runner = self._runner, None
        self._carrier.close()
        try:
            if weather is not None:
                weather.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await weather
            if market is not None:
                market.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await market
                self._venue.close()
        finally:
            if runner is not None:
                await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("upgrade", "").lower() == "websocket":
            return await self._serve_stream(request)
        path, _, query = request.raw_path.partition("?")
        body = await request.read()
        carried = await self._carrier.carry(
            HttpRequest(
                method=request.method,
                path=path,
                query=query,
                body=body.decode("utf-8", "surrogateescape"),
                headers={name.lower(): value for name, value in request.headers.items()},
            )
        )
        answer = carried.response
        if carried.ending is not Ending.WHOLE or answer is None:
            return await _break_off(request, carried)
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    async def _serve_stream(self, request: web.Request) -> web.StreamResponse:
        try:
            session = await self._carrier.shake_hands(request.raw_path)
        except RemoteProtocolError as error:
            raise web.HTTPNotFound(text=str(error)) from error
        if isinstance(session, Refusal):
            if session.status:
                return web.Response(status=session.status)
            return await _break_off(request, Carried(Ending.LOST))
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=LARGEST_BODY, timeout=1.0)
        try:
            await socket.prepare(request)
            connection = _StreamSocket(socket, session, request, self._venue)
            await connection.serve(self._clock)
        finally:
            session.close("the connection is over")
        return socket


async def _break_off(request: web.Request, carried: Carried) -> web.StreamResponse:
    """End a request as the weather has it: half an answer, none, or none and the client waiting."""
    answer = carried.response
    response = web.StreamResponse(status=200 if answer is None else answer.status)
    if carried.ending is Ending.CUT and answer is not None:
        response.headers.update(answer.headers)
        response.content_length = len(answer.body)
        await response.prepare(request)
        await response.write(answer.body[: carried.kept])
    while carried.ending is Ending.HANG and request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(LOOK_SECONDS)
    if carried.ending is Ending.CUT:
        _end_transport(request, Farewell.VANISH)
    else:
        _end_transport(request, Farewell.RESET)
    return response


def _end_transport(request: web.Request, farewell: Farewell) -> None:
    """Close the TCP connection, politely or with a reset."""
    transport = request.transport
    if transport is None:
        return
    if farewell is Farewell.VANISH:
        transport.close()
        return
    # Lingering for no time at all makes closing a reset.
    transport.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _StreamSocket:
    """One WebSocket and its session."""

    def __init__(
        self, socket: web.WebSocketResponse, session: StreamSession, request: web.Request, venue: Venue
    ) -> None:
        self._socket = socket
        self._session = session
        self._request = request
        self._weather = venue.weather
        self._frames_wait = asyncio.Event()
        self._last_pong = asyncio.get_running_loop().time()
        session.notify = self._frames_wait.set

    async def serve(self, clock: Clock) -> None:
        """Until either side ends it."""
        tasks = [asyncio.create_task(self._send_frames()), asyncio.create_task(self._ping())]
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    self._session.receive(message.data, clock.now_ms())
                elif message.type is WSMsgType.PING:
                    if not self._weather.is_deaf(self._session.gate):
                        await self._socket.pong(message.data)
                elif message.type is WSMsgType.PONG:
                    self._last_pong = asyncio.get_running_loop().time()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_frames(self) -> None:
        session, socket = self._session, self._socket
        try:
            while True:
                while session.outgoing:
                    await socket.send_frame(session.outgoing.popleft(), WSMsgType.TEXT)
                if session.closed:
                    if session.farewell is Farewell.CLOSE:
                        await socket.close(message=session.close_reason.encode())
                    else:
                        _end_transport(self._request, session.farewell)
                    return
                self._frames_wait.clear()
                # A frame may have come while the last one was being sent.
                if not session.outgoing:
                    await self._frames_wait.wait()
        except ConnectionError:
            session.close("the connection broke")

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        next_ping = loop.time() + PING_EVERY_SECONDS
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if loop.time() - self._last_pong > PONG_WITHIN_SECONDS:
                self._session.close("no pong")
                return
            pings = self._weather.pings_per_second(self._session.gate)
            if pings:
                self._weather.note("control-flood", self._session.gate.key)
            if loop.time() >= next_ping:
                next_ping += PING_EVERY_SECONDS
                pings += 1
            with contextlib.suppress(ConnectionError):
                for _ in range(pings):
                    await self._socket.ping()
