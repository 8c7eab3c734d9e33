"""MarketSession: which stream belongs on which connection, and what to do when one falls silent. No I/O.

Everything that happens is told to it with its time; what is to be done comes back as actions. `WebSocketMonitor` is the
shell that carries them out. All times are market milliseconds. The limits of `MonitorConfig` are meant in the time of
life, so a market that runs `patience` times as fast gets limits that many times as long; only the rotation follows
the market's own clock, because the exchange cuts connections by it.

A *slot* is a place for one connection (`public`, `market`, `public-2`, …) with the streams it must carry. Normally one
connection fills it. While a successor proves itself there are two, and the old one is let go only after the new one
has delivered data. A connection that answers pings proves nothing: only data does. A slot whose own streams may
rightly be quiet for long carries a *canary*: a stream of another slot that never is.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from enum import Enum
from urllib.parse import quote

import msgspec

from labkit.config import MonitorConfig
from labkit.domain.clock import HOUR_MS, MINUTE_MS, SECOND_MS
from labkit.wire.streams import ControlReply, encode_subscribe, encode_unsubscribe, route_of

STREAMS_IN_URL = 40
"""So many streams are named when opening; the rest is subscribed, to keep the URL short enough for any server."""
STREAMS_PER_MESSAGE = 200
MESSAGES_PER_SECOND = 5
"""The exchange disconnects above 10 incoming messages a second, and pings and pongs count."""
ATTEMPTS_PER_MINUTE = 12
"""Never open one slot more often than this, whatever the back-off drew."""
RETIRE_AFTER_MS = 1_000
"""A replaced connection is still read for this long: what the exchange sent before the switch may be under way."""
ROTATIONS_APART_MS = 10_000
ROTATION_SPREAD = 1 / 92
"""A connection is rotated earlier by up to this part of its life, drawn for each: of 23 hours, a quarter of one."""
SILENT_SHARE = 0.8
"""A connection is called silent after this part of the time a quote stays usable: its successor is then under way
before the first quote grows stale."""
QUIET_DOUBLINGS = 7
"""A silent symbol is subscribed again after 1, 2, 4, … times the staleness limit, up to 2 to the power of this."""


class Open(msgspec.Struct, frozen=True):
    """Open `path_and_query`; then tell `opened` or `lost`."""

    connection: int
    slot: str
    path_and_query: str


class Send(msgspec.Struct, frozen=True):
    """Send one control message."""

    connection: int
    text: str


class Close(msgspec.Struct, frozen=True):
    """Drop the connection now, without waiting for a closing handshake; nothing is told back."""

    connection: int
    cause: str


class Health(msgspec.Struct, frozen=True):
    """A slot began or ceased to deliver."""

    slot: str
    healthy: bool
    cause: str


Action = Open | Send | Close | Health


class SlotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One slot for showing. `age_ms` is market time since its last data."""

    slot: str
    state: str
    streams: int
    reconnects: int
    rotations: int
    age_ms: int | None
    cause: str


class _State(Enum):
    OPENING = "opening"
    PROVING = "waiting for data"
    LIVE = "live"


class _Connection:
    __slots__ = (
        "asked", "is_leaving", "last_data_ms", "number", "opened_ms", "rotate_after_ms", "sent_at", "started_ms",
        "state", "unanswered",
    )  # fmt: skip

    def __init__(self, number: int, asked: set[str], started_ms: int, rotate_after_ms: int) -> None:
        self.number = number
        self.rotate_after_ms = rotate_after_ms
        self.is_leaving = False
        self.state = _State.OPENING
        self.asked = asked
        self.unanswered: set[int] = set()
        self.sent_at: deque[int] = deque(maxlen=MESSAGES_PER_SECOND)
        self.started_ms = started_ms
        self.opened_ms = started_ms
        self.last_data_ms: int | None = None


class _Stream:
    __slots__ = ("ask_again_ms", "silences")

    def __init__(self, ask_again_ms: int) -> None:
        self.silences = 0
        self.ask_again_ms = ask_again_ms


class _Slot:
    def __init__(self, name: str, route: str) -> None:
        self.name = name
        self.route = route
        self.streams: dict[str, _Stream] = {}
        self.speakers = 0
        self.canary = ""
        self.current: _Connection | None = None
        self.successor: _Connection | None = None
        self.rotating = False
        self.may_leave_ms = 0
        self.retiring: dict[int, int] = {}
        self.attempts: deque[int] = deque(maxlen=ATTEMPTS_PER_MINUTE)
        self.failures = 0
        self.retry_at_ms: int | None = None
        self.healthy_since_ms: int | None = None
        self.reported: bool | None = None
        self.cause = ""
        self.refusal = ""
        self.speaker: int | None = None
        self.reconnects = 0
        self.rotations = 0


class MarketSession:
    """The plan of all market-data connections.

    Args:
        config: limits; see `MonitorConfig`.
        patience: how many times longer the limits are in market time (the market's speed, at least 1).
        seed: of the back-off's jitter.
    """

    def __init__(self, config: MonitorConfig, *, patience: float = 1.0, seed: int = 0) -> None:
        self._stale_ms = round(config.stale_after_ms * patience)
        self._silent_ms = round(SILENT_SHARE * self._stale_ms)
        self._open_timeout_ms = round(config.open_timeout_ms * patience)
        self._backoff_first_ms = config.backoff_first_ms * patience
        self._backoff_cap_ms = config.backoff_cap_ms * patience
        self._backoff_reset_ms = round(config.backoff_reset_after_ms * patience)
        self._minute_ms = round(MINUTE_MS * patience)
        self._second_ms = round(SECOND_MS * patience)
        self._retire_ms = round(RETIRE_AFTER_MS * patience)
        self._rotations_apart_ms = round(ROTATIONS_APART_MS * patience)
        self._rotate_ms = round(config.rotate_after_hours * HOUR_MS)
        self._room = config.streams_per_connection
        self._random = random.Random(seed)
        # Of its own, so that the back-off draws the same whether or not connections live long enough to be rotated.
        self._rotation_random = random.Random(seed)
        self._slots: dict[str, _Slot] = {}
        self._slot_of_stream: dict[str, _Slot] = {}
        self._slot_of_connection: dict[int, _Slot] = {}
        self._next_connection = 1
        self._next_request = 1
        self._next_rotation_ms = 0
        self._actions: list[Action] = []
        self.reconnects = 0
        """How often a connection had to be replaced because of a fault."""

    # What is wanted.

    def add_streams(self, streams: Iterable[str], now_ms: int) -> list[Action]:
        """Want these streams from now on."""
        for stream in streams:
            if stream in self._slot_of_stream:
                continue
            slot = self._slot_with_room(stream)
            slot.streams[stream] = _Stream(now_ms + self._stale_ms)
            slot.speakers += _must_speak(stream)
            self._slot_of_stream[stream] = slot
        self._place_canaries(now_ms)
        return self.due(now_ms)

    def remove_streams(self, streams: Iterable[str], now_ms: int) -> list[Action]:
        """Want these streams no more; a slot with none left is closed."""
        for stream in streams:
            slot = self._slot_of_stream.pop(stream, None)
            if slot is None:
                continue
            del slot.streams[stream]
            slot.speakers -= _must_speak(stream)
            if slot.streams.keys() <= {slot.canary}:
                self._end_slot(slot, "no streams left")
        self._place_canaries(now_ms)
        return self.due(now_ms)

    def shut_down(self) -> list[Action]:
        """Want nothing any more: close everything."""
        for slot in list(self._slots.values()):
            self._end_slot(slot, "stopped")
        self._slot_of_stream.clear()
        return self._take_actions()

    # What happens.

    def opened(self, number: int, now_ms: int) -> list[Action]:
        """The connection is open. That alone proves nothing yet."""
        slot = self._slot_of_connection.get(number)
        connection = self._connection(slot, number)
        if slot is not None and connection is not None:
            connection.state = _State.PROVING
            connection.opened_ms = now_ms
            for stream in slot.streams.values():
                stream.ask_again_ms = max(stream.ask_again_ms, now_ms + self._stale_ms)
        return self.due(now_ms)

    def lost(self, number: int, cause: str, now_ms: int, *, refused: bool = False) -> list[Action]:
        """The connection broke, or could not be opened; `refused` if the exchange told us to stay away."""
        slot = self._slot_of_connection.pop(number, None)
        if slot is not None:
            self._gone(slot, number, cause, now_ms)
            if refused and slot.retry_at_ms is not None:
                # Asking a limiter or a firewall again soon only makes its answer worse.
                slot.retry_at_ms = max(slot.retry_at_ms, now_ms + round(self._backoff_cap_ms))
        return self.due(now_ms)

    def data(self, number: int, stream: str, now_ms: int) -> list[Action]:
        """A valid and timely fact of `stream` arrived over the connection."""
        slot = self._slot_of_connection.get(number)
        if slot is None:
            return []
        if (wanted := slot.streams.get(stream)) is not None:
            wanted.silences = 0
            wanted.ask_again_ms = now_ms + self._stale_ms
        connection = slot.current
        if connection is not None and connection.number == number:
            connection.last_data_ms = now_ms
            if connection.state is _State.LIVE and slot.reported:
                return []
            connection.state = _State.LIVE
            if slot.successor is not None and not slot.rotating:
                self._close(slot, slot.successor, "the first connection spoke again")
                slot.successor = None
            self._report_healthy(slot, connection, now_ms)
        elif (successor := slot.successor) is not None and successor.number == number:
            successor.last_data_ms = now_ms
            successor.state = _State.LIVE
            if successor.asked == slot.streams.keys() and not successor.unanswered:
                self._promote(slot, successor, now_ms)
        return self.due(now_ms) if self._actions else []

    def is_settled(self, number: int) -> bool:
        """True if further data of this connection could change nothing but the times they were heard at."""
        slot = self._slot_of_connection.get(number)
        if slot is None or slot.current is None or slot.successor is not None or not slot.reported:
            return False
        return slot.current.number == number and slot.current.state is _State.LIVE

    def answered(self, number: int, reply: ControlReply, now_ms: int) -> list[Action]:
        """The exchange answered a control message. A refusal is remembered; silence will ask again."""
        slot = self._slot_of_connection.get(number)
        connection = self._connection(slot, number)
        if slot is None or connection is None:
            return []
        if isinstance(reply.id, int):
            connection.unanswered.discard(reply.id)
        slot.refusal = (
            "" if reply.error_code is None else f"control message refused: {reply.error_message} ({reply.error_code})"
        )
        return []

    def leaving(self, number: int, now_ms: int) -> list[Action]:
        """The exchange announced that it will end this connection: another takes its place before that."""
        connection = self._connection(self._slot_of_connection.get(number), number)
        if connection is not None:
            connection.is_leaving = True
        return self.due(now_ms)

    def due(self, now_ms: int) -> list[Action]:
        """Do whatever has become due by `now_ms`."""
        for slot in list(self._slots.values()):
            self._let_go_of_the_retired(slot, now_ms)
            self._give_up_on_the_slow(slot, now_ms)
            self._notice_silence(slot, now_ms)
            self._rotate(slot, now_ms)
            self._open_what_is_missing(slot, now_ms)
            if slot.failures and (since := slot.healthy_since_ms) is not None:
                # A connection that opens proves nothing; only sustained data forgives earlier failures.
                slot.failures = 0 if now_ms >= since + self._backoff_reset_ms else slot.failures
            for connection in (slot.current, slot.successor):
                if connection is not None and connection.state is not _State.OPENING:
                    self._subscribe(slot, connection, now_ms)
        return self._take_actions()

    def next_deadline_ms(self) -> int | None:
        """When `due` should next be called, if nothing else happens before."""
        deadlines: list[int] = []
        for slot in self._slots.values():
            deadlines += slot.retiring.values()
            if slot.retry_at_ms is not None:
                deadlines.append(slot.retry_at_ms)
            if slot.failures and slot.healthy_since_ms is not None:
                deadlines.append(slot.healthy_since_ms + self._backoff_reset_ms)
            current, successor = slot.current, slot.successor
            for connection in (current, successor):
                if connection is None:
                    continue
                if connection.state is _State.OPENING:
                    deadlines.append(connection.started_ms + self._open_timeout_ms)
                elif (sending_ms := self._next_send_ms(slot, connection)) is not None:
                    deadlines.append(sending_ms)
            if successor is not None and successor.state is not _State.OPENING:
                deadlines.append(successor.opened_ms + self._proving_ms)
            if current is None or current.state is _State.OPENING:
                continue
            is_left_alone = successor is None and slot.retry_at_ms is None
            if is_left_alone or slot.reported is not False:
                deadlines.append(self._heard_ms(current) + self._silent_ms)
            if is_left_alone and current.state is _State.LIVE:
                deadlines.append(max(current.opened_ms + current.rotate_after_ms, self._next_rotation_ms))
                if current.is_leaving:
                    deadlines.append(slot.may_leave_ms)
        return min(deadlines, default=None)

    def trouble_with(self, stream: str) -> str:
        """Why the connection of `stream` does not deliver; empty if it does or if nothing is known yet."""
        slot = self._slot_of_stream.get(stream)
        return slot.cause if slot is not None and slot.reported is False else ""

    def status(self, now_ms: int) -> tuple[SlotStatus, ...]:
        """All slots, for showing."""
        return tuple(
            SlotStatus(
                slot=slot.name,
                state=self._state_in_words(slot),
                streams=len(slot.streams),
                reconnects=slot.reconnects,
                rotations=slot.rotations,
                age_ms=None if (heard_ms := self._last_data_ms(slot)) is None else max(0, now_ms - heard_ms),
                cause=slot.refusal if slot.reported else slot.cause,
            )
            for slot in self._slots.values()
        )

    # Slots.

    def _slot_with_room(self, stream: str) -> _Slot:
        route, number = route_of(stream), 1
        while True:
            name = route if number == 1 else f"{route}-{number}"
            slot = self._slots.get(name)
            if slot is None:
                slot = self._slots[name] = _Slot(name, route)
            # Where nothing else must speak, a place is left for the canary.
            room = self._room if slot.speakers or _must_speak(stream) else max(1, self._room - 1)
            if len(slot.streams) - (slot.canary in slot.streams) < room:
                return slot
            number += 1

    def _place_canaries(self, now_ms: int) -> None:
        for slot in self._slots.values():
            if slot.canary and (slot.speakers or slot.canary not in self._slot_of_stream):
                del slot.streams[slot.canary]
                slot.canary = ""
            if not slot.speakers and not slot.canary and len(slot.streams) < self._room:
                others = (other for other in self._slots.values() if other.route == slot.route and other.speakers)
                chosen = next((name for other in others for name in other.streams if _must_speak(name)), "")
                if chosen:
                    slot.canary = chosen
                    slot.streams[chosen] = _Stream(now_ms + self._stale_ms)

    def _end_slot(self, slot: _Slot, cause: str) -> None:
        for connection in (slot.current, slot.successor):
            if connection is not None:
                self._close(slot, connection, cause)
        for number in slot.retiring:
            self._actions.append(Close(number, cause))
            self._slot_of_connection.pop(number, None)
        del self._slots[slot.name]

    def _connection(self, slot: _Slot | None, number: int) -> _Connection | None:
        if slot is not None:
            for connection in (slot.current, slot.successor):
                if connection is not None and connection.number == number:
                    return connection
        return None

    def _heard_ms(self, connection: _Connection) -> int:
        return connection.opened_ms if connection.last_data_ms is None else connection.last_data_ms

    def _last_data_ms(self, slot: _Slot) -> int | None:
        return slot.current.last_data_ms if slot.current is not None else None

    def _state_in_words(self, slot: _Slot) -> str:
        if slot.current is None:
            return "reconnecting" if slot.reported is not None else "opening"
        if slot.reported is False and slot.current.state is _State.LIVE:
            return "silent"
        return "rotating" if slot.rotating and slot.successor is not None else slot.current.state.value

    # Opening, losing, replacing.

    @property
    def _proving_ms(self) -> int:
        return max(self._stale_ms, self._open_timeout_ms)

    def _open(self, slot: _Slot, now_ms: int) -> _Connection:
        named = list(slot.streams)[:STREAMS_IN_URL]
        rotate_after_ms = round(self._rotate_ms * (1 - self._rotation_random.uniform(0, ROTATION_SPREAD)))
        connection = _Connection(self._next_connection, set(named), now_ms, rotate_after_ms)
        self._next_connection += 1
        self._slot_of_connection[connection.number] = slot
        slot.attempts.append(now_ms)
        slot.retry_at_ms = None
        # Symbols may hold characters beyond ASCII; in a URL they travel percent-encoded.
        query = "/".join(quote(stream, safe="@!_") for stream in named)
        self._actions.append(Open(connection.number, slot.name, f"/{slot.route}/stream?streams={query}"))
        return connection

    def _close(self, slot: _Slot, connection: _Connection, cause: str) -> None:
        self._slot_of_connection.pop(connection.number, None)
        self._actions.append(Close(connection.number, cause))

    def _gone(self, slot: _Slot, number: int, cause: str, now_ms: int) -> None:
        """A connection of this slot is no more: plan the next one."""
        if slot.retiring.pop(number, None) is not None:
            return
        if slot.successor is not None and slot.successor.number == number:
            slot.successor = None
            self._plan_retry(slot, now_ms)
        elif slot.current is not None and slot.current.number == number:
            slot.current, slot.successor, slot.rotating = slot.successor, None, False
            self._report_unhealthy(slot, cause)
            if slot.current is None:
                self._plan_retry(slot, now_ms)

    def _plan_retry(self, slot: _Slot, now_ms: int) -> None:
        """Full jitter: anywhere between now and a bound that doubles with each failure."""
        bound_ms = min(self._backoff_cap_ms, self._backoff_first_ms * 2**slot.failures)
        slot.failures = min(slot.failures + 1, 30)
        slot.retry_at_ms = now_ms + round(self._random.uniform(0, bound_ms))
        if len(slot.attempts) == ATTEMPTS_PER_MINUTE:
            slot.retry_at_ms = max(slot.retry_at_ms, slot.attempts[0] + self._minute_ms)

    def _promote(self, slot: _Slot, successor: _Connection, now_ms: int) -> None:
        """The successor delivers everything: it takes the place, and the old connection is read out and let go."""
        if slot.current is not None:
            slot.retiring[slot.current.number] = now_ms + self._retire_ms
        slot.current, slot.successor = successor, None
        if slot.rotating:
            slot.rotations += 1
            slot.rotating = False
            slot.speaker = successor.number
        slot.retry_at_ms = None
        self._report_healthy(slot, successor, now_ms)

    def _let_go_of_the_retired(self, slot: _Slot, now_ms: int) -> None:
        for number in [number for number, until_ms in slot.retiring.items() if now_ms >= until_ms]:
            del slot.retiring[number]
            self._slot_of_connection.pop(number, None)
            self._actions.append(Close(number, "replaced"))

    def _give_up_on_the_slow(self, slot: _Slot, now_ms: int) -> None:
        for connection in (slot.current, slot.successor):
            if connection is None:
                continue
            if connection.state is _State.OPENING and now_ms >= connection.started_ms + self._open_timeout_ms:
                cause = "did not open in time"
            elif (
                connection is slot.successor
                and connection.state is not _State.OPENING
                and now_ms >= connection.opened_ms + self._proving_ms
            ):
                cause = "opened but delivered nothing"
            else:
                continue
            self._close(slot, connection, cause)
            self._gone(slot, connection.number, cause, now_ms)

    def _notice_silence(self, slot: _Slot, now_ms: int) -> None:
        """A silent connection is kept, in case its symbols are merely quiet, while another is tried beside it."""
        current = slot.current
        if current is None or current.state is _State.OPENING:
            return
        silent_ms = now_ms - self._heard_ms(current)
        if silent_ms < self._silent_ms:
            return
        self._report_unhealthy(slot, f"no timely data for {silent_ms} ms")
        if slot.successor is None and slot.retry_at_ms is None:
            self._plan_retry(slot, now_ms)

    def _rotate(self, slot: _Slot, now_ms: int) -> None:
        current = slot.current
        if (
            current is None
            or current.state is not _State.LIVE
            or slot.successor is not None
            or slot.retry_at_ms is not None
        ):
            return
        if current.is_leaving and now_ms >= slot.may_leave_ms:
            # Announced ends of many connections come together and cannot wait; one place is not left in a circle.
            slot.may_leave_ms = now_ms + self._rotations_apart_ms
        elif now_ms < max(current.opened_ms + current.rotate_after_ms, self._next_rotation_ms):
            return
        self._next_rotation_ms = now_ms + self._rotations_apart_ms
        slot.rotating = True
        slot.successor = self._open(slot, now_ms)

    def _open_what_is_missing(self, slot: _Slot, now_ms: int) -> None:
        if slot.current is None:
            if slot.retry_at_ms is None or now_ms >= slot.retry_at_ms:
                slot.current = self._open(slot, now_ms)
        elif slot.successor is None and slot.retry_at_ms is not None and now_ms >= slot.retry_at_ms:
            slot.retry_at_ms = None
            if slot.rotating or not slot.reported:
                slot.successor = self._open(slot, now_ms)

    # Subscriptions.

    def _subscribe(self, slot: _Slot, connection: _Connection, now_ms: int) -> None:
        """Bring what the connection was asked for in line with what is wanted, at the pace the exchange allows."""
        while not self._pacing_ms(connection, now_ms):
            if unwanted := sorted(connection.asked - slot.streams.keys())[:STREAMS_PER_MESSAGE]:
                connection.asked.difference_update(unwanted)
                text = encode_unsubscribe(unwanted, self._next_request)
            elif missing := [stream for stream in slot.streams if stream not in connection.asked]:
                missing = missing[:STREAMS_PER_MESSAGE]
                connection.asked.update(missing)
                text = encode_subscribe(missing, self._next_request)
            elif connection is slot.current and slot.reported and (silent := self._silent_streams(slot, now_ms)):
                silent = silent[:STREAMS_PER_MESSAGE]
                for stream in silent:
                    state = slot.streams[stream]
                    state.silences = min(state.silences + 1, QUIET_DOUBLINGS)
                    state.ask_again_ms = now_ms + self._stale_ms * 2**state.silences
                text = encode_subscribe(silent, self._next_request)
            else:
                return
            connection.unanswered.add(self._next_request)
            connection.sent_at.append(now_ms)
            self._next_request += 1
            self._actions.append(Send(connection.number, text))

    def _silent_streams(self, slot: _Slot, now_ms: int) -> list[str]:
        return [name for name, stream in slot.streams.items() if _must_speak(name) and now_ms >= stream.ask_again_ms]

    def _pacing_ms(self, connection: _Connection, now_ms: int) -> int:
        """How long the next control message has to wait."""
        if len(connection.sent_at) < MESSAGES_PER_SECOND:
            return 0
        return max(0, connection.sent_at[0] + self._second_ms - now_ms)

    def _next_send_ms(self, slot: _Slot, connection: _Connection) -> int | None:
        free_ms = connection.sent_at[0] + self._second_ms if len(connection.sent_at) == MESSAGES_PER_SECOND else None
        if connection.asked != slot.streams.keys():
            # With room to send, `due` has sent already; what is left waits for the pace.
            return free_ms
        if connection is not slot.current or not slot.reported:
            return None
        asking_ms = min((s.ask_again_ms for name, s in slot.streams.items() if _must_speak(name)), default=None)
        return asking_ms if asking_ms is None or free_ms is None else max(asking_ms, free_ms)

    # Health.

    def _report_healthy(self, slot: _Slot, connection: _Connection, now_ms: int) -> None:
        if slot.speaker not in (None, connection.number):
            slot.reconnects += 1
            self.reconnects += 1
        slot.speaker = connection.number
        if slot.reported:
            return
        slot.reported = True
        slot.healthy_since_ms = now_ms
        slot.retry_at_ms = None
        self._actions.append(Health(slot.name, True, ""))

    def _report_unhealthy(self, slot: _Slot, cause: str) -> None:
        slot.cause = cause
        slot.healthy_since_ms = None
        if slot.reported is not False:
            slot.reported = False
            self._actions.append(Health(slot.name, False, cause))

    def _take_actions(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions


def _must_speak(stream: str) -> bool:
    """True for streams that a living market fills all the time; the others may rightly be quiet for long."""
    return "@bookTicker" in stream or "@markPrice" in stream
