"""How protocol bytes travel: one HTTP exchange and one stream connection, as plain values and two protocols.

Two bodies exist: sockets (`labkit.edge.http`, `labkit.edge.websocket`) and the paper exchange called in process
(`labkit.paper.in_process`), used in virtual time. Both carry the same bytes; neither side knows which it got.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn, Protocol

import msgspec

if TYPE_CHECKING:
    from labkit.wire.frames import Frames


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request, exactly as sent: `query` and `body` are already percent-encoded and signed."""

    method: str
    path: str
    query: str = ""
    body: str = ""
    headers: Mapping[str, str] = {}


class HttpResponse(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. Header names are lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


class NotSent(Exception):
    """The request failed before any byte left: it was certainly not executed."""


class HandshakeRefused(NotSent):
    """The exchange answered the WebSocket handshake with an HTTP error; `http_status` is that answer."""

    def __init__(self, message: str, *, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


class ConnectionLost(Exception):
    """The connection broke or timed out after bytes may have left."""


class HttpTransport(Protocol):
    """Carries one request and brings its answer."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Raises `NotSent` or `ConnectionLost`; any HTTP status is an answer, not an error."""
        ...

    async def close(self) -> None: ...


class StreamConnection(Protocol):
    """One open WebSocket."""

    async def receive(self) -> bytes:
        """The next text frame as UTF-8 bytes. Raises `ConnectionLost` when the connection is over."""
        ...

    async def pump(self, take: Callable[[Frames], None]) -> NoReturn:
        """Hand over all frames as they come, those that came together in one call, until the connection is over.

        Raises `ConnectionLost` then, and at once whatever `take` raises. The frames are good during the call only.
        """
        ...

    async def send(self, text: str) -> None: ...

    async def close(self) -> None: ...


class StreamTransport(Protocol):
    """Opens WebSockets at one exchange."""

    async def open(self, path_and_query: str) -> StreamConnection:
        """Open e.g. `/public/stream?streams=btcusdt@bookTicker`. Raises `NotSent` or `ConnectionLost`."""
        ...
