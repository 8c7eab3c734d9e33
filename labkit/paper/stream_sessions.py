"""Stream sessions: who listens to what on the venue's WebSockets. Frames in, frames out, no sockets.

Routes, raw and combined form, control messages and limits are the exchange's of 2026 (protocol §1.3, §2). A stream
asked for on the wrong route is acknowledged and stays silent, as there; the unrouted paths carry everything. Times in
market milliseconds. `labkit.paper.venue` publishes; `server` and `in_process` carry `StreamSession.outgoing` away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote

from labkit.domain.clock import DAY_MS, SECOND_MS
from labkit.errors import MalformedControl, RemoteProtocolError
from labkit.paper.weather.policy import Farewell, Weather
from labkit.wire.streams import (
    decode_control,
    encode_control_error,
    encode_control_reply,
    route_of,
    wrap,
)

ROUTES = ("public", "market", "private")
MESSAGES_PER_SECOND = 10
STREAMS_PER_CONNECTION = 1024
LONGEST_LIFE_MS = DAY_MS
LARGEST_BACKLOG = 20_000
"""A listener that lets so many frames lie is cut off."""


USER_STREAM = "user"
"""What weather calls the account's own stream; its true name is a secret."""


def route_in(path_and_query: str) -> str:
    """The route an address leads to; empty for the unrouted ones."""
    first = _as_text(path_and_query).partition("?")[0].strip("/").partition("/")[0]
    return first if first in ROUTES else ""


def _as_text(path_and_query: str) -> str:
    # An address may hold bytes that are no text.
    return path_and_query.encode("utf-8", "replace").decode()


def _nobody() -> None:
    """Before a shell has attached itself, nobody waits for frames."""


class StreamSession:
    """One connection: its subscriptions and the frames that wait to be sent. Made by `StreamHub.open`."""

    def __init__(self, hub: StreamHub, route: str | None, *, combined: bool, opened_ms: int) -> None:
        self.outgoing: deque[bytes] = deque()
        self.closed = False
        self.close_reason = ""
        self.farewell = Farewell.CLOSE
        """How the connection is to end, once closed."""
        self.notify: Callable[[], None] = _nobody
        self.route = route
        self.combined = combined
        self.opened_ms = opened_ms
        self.streams: dict[str, None] = {}
        self.gate = hub.weather.add(route or "", opened_ms, self._queue, self.close)
        self._hub = hub
        self._received_ms: deque[int] = deque(maxlen=MESSAGES_PER_SECOND)

    def receive(self, text: str | bytes, now_ms: int) -> None:
        """A control message from the client; its reply is queued."""
        if self.closed or self._hub.weather.is_deaf(self.gate):
            return
        received = self._received_ms
        if len(received) == MESSAGES_PER_SECOND and now_ms - received[0] < SECOND_MS:
            self.close("too many messages")
            return
        received.append(now_ms)
        self.deliver(self._answer(text))

    def deliver(self, frame: bytes, stream: str = "", event: str = "") -> None:
        """Queue a frame, as the weather lets it: of a stream (`user` for the account's), or an answer."""
        weather = self._hub.weather
        if not weather.stirring:
            self._queue(frame)
            return
        for each in weather.pass_on(self.gate, stream, event, frame):
            self._queue(each)

    def close(self, reason: str = "", farewell: Farewell = Farewell.CLOSE) -> None:
        """End the session; frames already queued may still be sent."""
        if self.closed:
            return
        self.closed = True
        self.close_reason = reason
        self.farewell = farewell
        self._hub.forget(self)
        self.notify()

    def _queue(self, frame: bytes) -> None:
        if self.closed:
            return
        if len(self.outgoing) >= LARGEST_BACKLOG:
            self.close("too slow")
            return
        self.outgoing.append(frame)
        self.notify()

    def _answer(self, text: str | bytes) -> bytes:
        try:
            request = decode_control(text)
        except MalformedControl as error:
            return encode_control_error(error.code, str(error), error.request_id)
        params = request.params
        match request.method:
            case "SUBSCRIBE" | "UNSUBSCRIBE":
                names = [name for name in params if isinstance(name, str)]
                if len(names) != len(params) or not names:
                    return encode_control_error(2, "Invalid request: params must be a list of streams", request.id)
                if request.method == "UNSUBSCRIBE":
                    for name in names:
                        self._hub.unsubscribe(self, name)
                elif len({*self.streams, *names}) > STREAMS_PER_CONNECTION:
                    return encode_control_error(2, "Invalid request: too many parameters", request.id)
                else:
                    for name in names:
                        self._hub.subscribe(self, name)
                return encode_control_reply(None, request.id)
            case "LIST_SUBSCRIPTIONS":
                return encode_control_reply(tuple(self.streams), request.id)
            case "SET_PROPERTY":
                if len(params) != 2 or params[0] != "combined":
                    return encode_control_error(0, "Unknown property", request.id)
                if not isinstance(params[1], bool):
                    return encode_control_error(1, "Invalid value type: expected Boolean", request.id)
                self.combined = params[1]
                return encode_control_reply(None, request.id)
            case _:
                if params != ("combined",):
                    return encode_control_error(0, "Unknown property", request.id)
                return encode_control_reply(self.combined, request.id)


class StreamHub:
    """All open sessions, indexed by stream, and the weather their frames pass through."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self._listeners: dict[str, dict[StreamSession, None]] = {}
        self._sessions: dict[StreamSession, None] = {}
        self._event_filters: dict[tuple[StreamSession, str], frozenset[str]] = {}

    @property
    def sessions(self) -> list[StreamSession]:
        return list(self._sessions)

    def open(self, path_and_query: str, now_ms: int) -> StreamSession:
        """A new session for a connection to this address.

        Raises:
            RemoteProtocolError: no streams are served at this path.
        """
        path, _, query = _as_text(path_and_query).partition("?")
        segments = [unquote(segment) for segment in path.split("/") if segment]
        route = segments.pop(0) if segments and segments[0] in ROUTES else None
        if not segments or segments[0] not in ("ws", "stream"):
            raise RemoteProtocolError(f"no streams at {path}")
        session = StreamSession(self, route, combined=segments[0] == "stream", opened_ms=now_ms)
        self._sessions[session] = None
        # A number after /ws/ is a client's own count of its connections, not a stream.
        names = [name for name in segments[1:] if not name.isdigit()]
        listen_key = ""
        for name, value in parse_qsl(query):
            if name == "streams":
                names.extend(value.split("/"))
            elif name == "listenKey":
                listen_key = value
                names.append(value)
            elif name == "events" and listen_key:
                self._event_filters[session, listen_key] = frozenset(value.split("/"))
        for name in names[:STREAMS_PER_CONNECTION]:
            self.subscribe(session, name)
        return session

    def subscribe(self, session: StreamSession, name: str) -> None:
        """Note the subscription; frames will come only if the stream belongs to the session's route."""
        if not name:
            return
        session.streams[name] = None
        if session.route in (None, route_of(name)):
            self._listeners.setdefault(name, {})[session] = None

    def unsubscribe(self, session: StreamSession, name: str) -> None:
        session.streams.pop(name, None)
        self._event_filters.pop((session, name), None)
        self._drop(session, name)

    def forget(self, session: StreamSession) -> None:
        for name in list(session.streams):
            self.unsubscribe(session, name)
        self._sessions.pop(session, None)
        self.weather.remove(session.gate)

    def wants(self, stream: str) -> bool:
        """True if anybody listens: nothing else need be encoded."""
        return stream in self._listeners

    def publish(self, stream: str, data: bytes) -> None:
        """Send the event `data` to everybody who listens to `stream`, in the form each asked for."""
        listeners = self._listeners.get(stream)
        if listeners is None:
            return
        combined: bytes | None = None
        for session in list(listeners):
            if not session.combined:
                session.deliver(data, stream)
                continue
            if combined is None:
                combined = wrap(stream, data)
            session.deliver(combined, stream)

    def publish_user(self, listen_key: str, event_type: str, data: bytes) -> None:
        """Send a user-data event to the sessions of this listen key, unless they filtered it out."""
        combined = wrap(listen_key, data)
        for session in list(self._listeners.get(listen_key, ())):
            events = self._event_filters.get((session, listen_key))
            if events is None or event_type in events:
                session.deliver(combined if session.combined else data, USER_STREAM, event_type)

    def close_old(self, now_ms: int) -> None:
        """End the sessions that have lived 24 hours."""
        for session in self.sessions:
            if now_ms - session.opened_ms >= LONGEST_LIFE_MS:
                session.close("24 hours are over")

    def _drop(self, session: StreamSession, name: str) -> None:
        listeners = self._listeners.get(name)
        if listeners is not None:
            listeners.pop(session, None)
            if not listeners:
                del self._listeners[name]
