"""WebSockets over sockets: the `StreamTransport` that talks to a real address.

Frames come out as the bytes that arrived, those of one read together where they are pumped. A ping goes out every 3 s
and must be answered within 3 s, so that a dead peer is noticed although it never closes. Times in wall milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, cast

from labkit.edge.address import exchange_address
from labkit.wire.transport import ConnectionLost, HandshakeRefused, NotSent, StreamConnection

if TYPE_CHECKING:
    from labkit.edge.socket_stream import LaneConnection
    from labkit.wire.frames import Frames

PING_SECONDS = 3.0


class SocketStreams:
    """One exchange's WebSocket address, e.g. `wss://fstream.binance.com`.

    Args:
        base_url: scheme, host and port; `ConfigError` if it is not that.
        open_timeout_ms: patience for connecting and the handshake together.
        close_timeout_ms: patience for the peer's farewell.
    """

    def __init__(self, base_url: str, *, open_timeout_ms: int, close_timeout_ms: int = 1000) -> None:
        self._base_url = exchange_address(base_url, schemes=("ws", "wss"))
        self._open_timeout_seconds = open_timeout_ms / 1000
        self._close_timeout_seconds = close_timeout_ms / 1000

    async def open(self, path_and_query: str) -> StreamConnection:
        """Open a stream connection.

        Raises `HandshakeRefused` (a `NotSent`) if the exchange says no, `NotSent` if it cannot be reached, and
        `ConnectionLost` if it goes silent or talks nonsense during the handshake.
        """
        from websockets.asyncio.client import connect
        from websockets.exceptions import InvalidHandshake, InvalidStatus

        from labkit.edge.socket_stream import MAX_FRAME_BYTES, LaneConnection

        class ConnectHere(connect):
            """`connect` without following redirects: labkit talks to the host it was told, to no other."""

            def process_redirect(self, exc: Exception) -> Exception | str:
                return exc

        try:
            socket = await ConnectHere(
                f"{self._base_url}{path_and_query}",
                create_connection=LaneConnection,
                compression=None,
                proxy=None,
                open_timeout=self._open_timeout_seconds,
                close_timeout=self._close_timeout_seconds,
                ping_interval=PING_SECONDS,
                ping_timeout=PING_SECONDS,
                max_size=MAX_FRAME_BYTES,
            )
        except InvalidStatus as exc:
            status = exc.response.status_code
            raise HandshakeRefused(f"the handshake was answered with HTTP {status}", http_status=status) from exc
        except TimeoutError as exc:
            raise ConnectionLost("the handshake timed out") from exc
        except InvalidHandshake as exc:
            raise ConnectionLost(f"the handshake failed: {exc}") from exc
        except OSError as exc:
            raise NotSent(f"cannot connect: {exc}") from exc
        return _SocketStream(cast(LaneConnection, socket))


class _SocketStream:
    def __init__(self, socket: LaneConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        self._socket = socket
        # Kept, so that no import statement runs for each frame.
        self._closed = ConnectionClosed

    async def receive(self) -> bytes:
        """The next frame as it arrived."""
        return await self._socket.receive()

    async def pump(self, take: Callable[[Frames], None]) -> NoReturn:
        """Hand over all frames, straight from the socket's callback."""
        await self._socket.pump(take)

    async def send(self, text: str) -> None:
        try:
            await self._socket.send(text)
        except self._closed as exc:
            raise ConnectionLost(f"stream closed: {exc}") from exc

    async def close(self) -> None:
        await self._socket.close()
