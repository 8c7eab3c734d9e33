"""Weather: decides what befalls each request, frame and connection. Told everything with its time; does nothing itself.

Whether a spell strikes is drawn from its script's seed, the spell's place in it, what it meets and the how-manieth such
thing it is; so two lives that send the same requests meet the same weather, on sockets and in process, whatever came
in between. `carrier` does what is decided here. Times in market milliseconds; scripts speak of life, `patience`
(the market's speed, at least 1) lies between.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from enum import Enum

import msgspec

from labkit.domain.clock import SECOND_MS
from labkit.paper.weather.faults import Where
from labkit.paper.weather.frames import (
    drifted_answer,
    restarted_update_id,
    rewrite_frame,
    shut_down_notice,
    update_id_of,
    without_the_young,
)
from labkit.paper.weather.script import Script, Spell
from labkit.wire.endpoints import decode_query
from labkit.wire.faults import error_body
from labkit.wire.transport import HttpRequest, HttpResponse

KEPT_STRIKES = 10_000
OVERTAKEN_FOR_MS = SECOND_MS
"""A frame waits no longer for others to overtake it."""
_JSON = {"content-type": "application/json"}


class Farewell(Enum):
    """How a stream connection ends."""

    CLOSE = "close"
    """With a closing handshake."""
    VANISH = "vanish"
    """The TCP connection is closed, no word said."""
    RESET = "reset"


class Ending(Enum):
    """What becomes of an answer."""

    WHOLE = "whole"
    CUT = "cut"
    """It ends in its middle, and so does the connection."""
    LOST = "lost"
    """The connection is cut before it."""
    HANG = "hang"
    """It never comes."""


class RequestFate(msgspec.Struct, frozen=True, kw_only=True):
    """What befalls one request. Waits in market ms."""

    arrives_after_ms: int = 0
    executed: bool = True
    executed_late_ms: int = 0
    """Carried out so long after it was answered."""
    answer: HttpResponse | None = None
    """Told instead of the true answer."""
    answered_after_ms: int = 0
    ending: Ending = Ending.WHOLE
    kept_share: float = 1.0
    changes: tuple[Spell, ...] = ()
    """What is done to the true answer."""


class HandshakeFate(msgspec.Struct, frozen=True, kw_only=True):
    """What befalls one handshake."""

    wait_ms: int = 0
    refused: bool = False
    status: int = 0
    """Answered with this instead of an upgrade."""


class Turn(msgspec.Struct, frozen=True):
    """A spell begins or ends."""

    spell: Spell
    begins: bool


class Strike(msgspec.Struct, frozen=True):
    """One fault that happened: to what, and when."""

    time_ms: int
    fault: str
    what: str


FAIR = RequestFate()
WELCOME = HandshakeFate()


class Gate:
    """Where one connection's frames pass. `send` queues a frame for good, `close` ends the connection."""

    __slots__ = (
        "close", "end", "firsts", "held", "key", "last_due_ms", "opened_ms", "overtaken", "route", "send",
    )  # fmt: skip

    def __init__(
        self,
        key: str,
        route: str,
        opened_ms: int,
        send: Callable[[bytes], None],
        close: Callable[[str, Farewell], None],
    ) -> None:
        self.key = key
        self.route = route
        self.opened_ms = opened_ms
        self.send = send
        self.close = close
        self.held: deque[tuple[int, bytes]] = deque()
        self.last_due_ms = 0
        self.overtaken: list[_Overtaken] = []
        self.firsts: dict[tuple[int, str], bytes] = {}
        self.end: tuple[int, str, Farewell] | None = None

    def next_due_ms(self) -> float:
        due: float = self.held[0][0] if self.held else math.inf
        for waiting in self.overtaken:
            due = min(due, waiting.until_ms)
        return due if self.end is None else min(due, self.end[0])


class _Overtaken(msgspec.Struct):
    """A frame that lets the next ones of its stream pass."""

    stream: str
    left: int
    until_ms: int
    frames: list[bytes]


class _Cast:
    """A spell on the clock."""

    def __init__(self, spell: Spell, index: int, begin_ms: int, end_ms: int | None) -> None:
        self.spell = spell
        self.index = index
        self.begin_ms = begin_ms
        self.end_ms = end_ms
        self.begun = False
        self.over = False
        self.met = 0
        self.struck = 0
        self.drawn: Counter[str] = Counter()
        self.bases: dict[str, int] = {}
        self.answers: defaultdict[str, deque[tuple[int, HttpResponse]]] = defaultdict(lambda: deque(maxlen=100))

    @property
    def active(self) -> bool:
        return self.begun and not self.over


class Weather:
    """The weather of one venue. Fair until `begin`.

    Args:
        patience: market milliseconds per millisecond of a script.
    """

    def __init__(self, patience: float = 1.0) -> None:
        self._patience = patience
        self.now_ms = 0
        self.script: Script | None = None
        self.stirring = False
        """False while the weather is fair: nothing need be asked of it."""
        self.strikes: Counter[str] = Counter()
        """How often each fault happened."""
        self.log: deque[Strike] = deque(maxlen=KEPT_STRIKES)
        """What happened last, in order."""
        self.requests_in_silence = 0
        """Requests sent into a window the exchange had asked to keep silent."""
        self.on_news: Callable[[], None] = _nobody
        self._casts: list[_Cast] = []
        self._of: dict[Where, list[_Cast]] = {where: [] for where in Where}
        self._ended: list[Turn] = []
        self._gates: dict[Gate, None] = {}
        self._opened: Counter[str] = Counter()
        self._silences: list[tuple[int, HttpResponse]] = []

    # On and off

    def begin(self, script: Script, now_ms: int, *, after_ms: int = 0) -> None:
        """Have this weather from `after_ms` (of life) on, instead of what there was."""
        self.clear(now_ms)
        start_ms = now_ms + self._scaled(after_ms)
        for index, spell in enumerate(script.spells):
            begin_ms = start_ms + self._scaled(spell.start_seconds * SECOND_MS)
            duration = spell.duration_seconds
            end_ms = None if duration is None else begin_ms + self._scaled(duration * SECOND_MS)
            cast = _Cast(spell, index, begin_ms, end_ms)
            self._casts.append(cast)
            self._of[spell.kind.where].append(cast)
        self.script = script
        self.stirring = True
        self.on_news()

    def clear(self, now_ms: int) -> None:
        """Fair weather: what was held back goes out, what was changed at the venue is put right."""
        self._ended += [Turn(cast.spell, False) for cast in self._casts if cast.active]
        self._casts.clear()
        for casts in self._of.values():
            casts.clear()
        self._silences.clear()
        for gate in list(self._gates):
            self._flush(gate, math.inf)
            gate.end = None
        self.script = None
        self.stirring = bool(self._ended)
        self.on_news()

    def turns(self, now_ms: int) -> list[Turn]:
        """Let time pass: what begins and ends at the venue by `now_ms`. Frames that are due go out."""
        self.now_ms = now_ms
        turns, self._ended = self._ended, []
        for cast in self._casts:
            if not cast.begun and cast.begin_ms <= now_ms:
                cast.begun = True
                turns.append(Turn(cast.spell, True))
                self._begin_on_connections(cast)
            if cast.begun and not cast.over and cast.end_ms is not None and cast.end_ms <= now_ms:
                cast.over = True
                turns.append(Turn(cast.spell, False))
        for gate in list(self._gates):
            self._flush(gate, now_ms)
            if gate.end is not None and gate.end[0] <= now_ms:
                _, reason, farewell = gate.end
                gate.end = None
                gate.close(reason, farewell)
        if not self._casts:
            self.stirring = False
        return turns

    def next_due_ms(self) -> int | None:
        """When `turns` next has something to do; None if never."""
        if not self.stirring:
            return None
        if self._ended:
            return self.now_ms
        due = min((gate.next_due_ms() for gate in self._gates), default=math.inf)
        for cast in self._casts:
            if not cast.begun:
                due = min(due, cast.begin_ms)
            if not cast.over and cast.end_ms is not None:
                due = min(due, cast.end_ms)
        return None if math.isinf(due) else int(due)

    def spells_now(self) -> list[Spell]:
        """All spells that hold now."""
        return [cast.spell for cast in self._casts if cast.active]

    def active(self, fault: str) -> Iterator[Spell]:
        """The spells of this fault that hold now."""
        for cast in self._casts:
            if cast.active and cast.spell.fault == fault:
                yield cast.spell

    def note(self, fault: str, what: str) -> None:
        """Count a fault that happened."""
        self.strikes[fault] += 1
        self.log.append(Strike(self.now_ms, fault, what))

    @property
    def clock_offset_ms(self) -> int:
        """How far the exchange's clock is off."""
        return sum(int(spell.number("offset_ms")) for spell in self.active("clock-jump"))

    # Requests

    def on_request(self, request: HttpRequest, now_ms: int) -> RequestFate:
        """What befalls a request that reaches the door at `now_ms`."""
        values = {**decode_query(request.body), **decode_query(request.query)}
        what = f"{request.method} {request.path}"
        if self._is_down():
            self.note("venue-restart", what)
            return RequestFate(executed=False, ending=Ending.LOST)
        for until_ms, refusal in self._silences:
            if now_ms < until_ms:
                self.requests_in_silence += 1
                return RequestFate(executed=False, answer=_with_retry_after(refusal, until_ms - now_ms))
        fate = FAIR
        for cast in self._of[Where.REQUEST]:
            spell = cast.spell
            if not cast.active or not spell.strikes_request(request.method, request.path, values.get("symbol", "")):
                continue
            # Throttling spares what reduces; and a draw is made only for what it could strike.
            if spell.fault == "throttled" and values.get("reduceOnly", "").lower() == "true":
                continue
            if self._strikes(cast, what):
                fate = self._befall(fate, cast, what, now_ms)
                if fate.answer is not None or fate.ending is not Ending.WHOLE:
                    break
        return fate

    def change_answer(
        self, fate: RequestFate, request: HttpRequest, response: HttpResponse, now_ms: int
    ) -> HttpResponse:
        """The true answer as the client is told it."""
        for spell in fate.changes:
            if response.status != 200:
                return response
            match spell.fault:
                case "schema-drift-reply":
                    response = msgspec.structs.replace(response, body=drifted_answer(response.body))
                case "garbage-reply":
                    response = msgspec.structs.replace(response, body=b'{"orderId": \xff\x00')
                case "read-lag":
                    since_ms = now_ms - self._scaled(spell.number("lag_ms"))
                    body = without_the_young(request.path, response.body, since_ms)
                    response = (
                        _error(400, -2013, "Order does not exist.")
                        if body is None
                        else msgspec.structs.replace(response, body=body)
                    )
                case _:
                    response = self._as_it_was(spell, request, response, now_ms)
        return response

    def _befall(self, fate: RequestFate, cast: _Cast, what: str, now_ms: int) -> RequestFate:
        spell = cast.spell
        replace = msgspec.structs.replace
        match spell.fault:
            case "request-delay":
                return replace(fate, arrives_after_ms=fate.arrives_after_ms + self._delay(cast, what))
            case "reply-delay":
                return replace(fate, answered_after_ms=fate.answered_after_ms + self._delay(cast, what))
            case "drop-before-execute":
                return replace(fate, executed=False, ending=Ending.LOST)
            case "execute-then-drop-reply":
                return replace(fate, ending=Ending.LOST)
            case "hang-before-execute":
                return replace(fate, executed=False, ending=Ending.HANG)
            case "execute-then-hang":
                return replace(fate, ending=Ending.HANG)
            case "truncate-reply":
                return replace(fate, ending=Ending.CUT, kept_share=spell.number("kept_share"))
            case "timeout-executed-late":
                late_ms = max(1, self._scaled(spell.number("late_ms")))
                return replace(fate, executed=False, executed_late_ms=late_ms, answer=_TIMEOUT)
            case "unexpected-response":
                return replace(fate, executed=bool(spell.parameter("executed")), answer=_UNEXPECTED)
            case "unknown-executed":
                return replace(fate, answer=_UNKNOWN)
            case "rate-limited" | "ban":
                return replace(fate, executed=False, answer=self._silence(spell, now_ms))
            case "reject":
                code, message = int(spell.number("code")), str(spell.parameter("message"))
                return replace(fate, executed=False, answer=_error(400, code, message))
            case "garbage-reply" | "read-lag" | "stale-reply" | "schema-drift-reply":
                return replace(fate, changes=(*fate.changes, spell))
            case fault:
                return replace(fate, executed=False, answer=_REFUSALS[fault])

    def _silence(self, spell: Spell, now_ms: int) -> HttpResponse:
        until_ms = now_ms + self._scaled(spell.number("seconds") * SECOND_MS)
        if spell.fault == "ban":
            text = f"Way too many requests; IP(127.0.0.1) banned until {until_ms}. Please use websocket streams."
            refusal = _error(418, -1003, text)
        else:
            refusal = _error(429, -1003, "Too many requests; current limit is 2400 requests per minute.")
        self._silences.append((until_ms, refusal))
        return _with_retry_after(refusal, until_ms - now_ms)

    def _as_it_was(self, spell: Spell, request: HttpRequest, response: HttpResponse, now_ms: int) -> HttpResponse:
        cast = next(cast for cast in self._casts if cast.spell is spell)
        asked = {**decode_query(request.query), "timestamp": "", "signature": "", "recvWindow": ""}
        answers = cast.answers[f"{request.method} {request.path} {sorted(asked.items())}"]
        answers.append((now_ms, response))
        limit_ms = now_ms - self._scaled(spell.number("lag_ms"))
        return next((told for told_ms, told in reversed(answers) if told_ms <= limit_ms), response)

    # Handshakes

    def on_handshake(self, route: str, now_ms: int) -> HandshakeFate:
        """What befalls a connection that is being opened to `route` (empty: the unrouted address)."""
        if self._is_down():
            self.note("venue-restart", f"handshake {route}")
            return HandshakeFate(refused=True)
        fate = WELCOME
        for cast in self._of[Where.HANDSHAKE]:
            spell = cast.spell
            if not cast.active or not spell.strikes_route(route) or not self._strikes(cast, f"handshake {route}"):
                continue
            match spell.fault:
                case "slow-handshake":
                    fate = HandshakeFate(wait_ms=fate.wait_ms + self._scaled(spell.number("delay_ms")))
                case "refuse-handshake":
                    return HandshakeFate(wait_ms=fate.wait_ms, status=int(spell.number("status")))
                case _:
                    return HandshakeFate(wait_ms=fate.wait_ms, refused=True)
        return fate

    # Connections and their frames

    def add(
        self, route: str, opened_ms: int, send: Callable[[bytes], None], close: Callable[[str, Farewell], None]
    ) -> Gate:
        """The gate of a new connection."""
        self._opened[route] += 1
        gate = Gate(f"{route}#{self._opened[route]}", route, opened_ms, send, close)
        self._gates[gate] = None
        for cast in self._of[Where.CONNECTION]:
            if cast.active and cast.spell.fault == "flap" and cast.spell.strikes_route(route):
                self._plan_end(cast, gate, opened_ms)
        return gate

    def remove(self, gate: Gate) -> None:
        """The connection is over."""
        self._gates.pop(gate, None)

    def pass_on(self, gate: Gate, stream: str, event: str, frame: bytes) -> list[bytes]:
        """What goes out at once when `frame` of `stream` comes to the gate; the rest is held, changed or lost."""
        now_ms = self.now_ms
        if self._is_silenced(gate, stream, event):
            return []
        frames, due_ms = [frame], now_ms
        for cast in self._of[Where.FRAME]:
            spell = cast.spell
            if not cast.active or not frames or not spell.strikes_stream(gate.route, stream, event):
                continue
            if not self._strikes(cast, f"{gate.key} {stream}"):
                continue
            match spell.fault:
                case "frame-drop" | "user-event-loss":
                    frames = []
                case "frame-duplicate" | "user-event-duplicate":
                    frames = frames * 2
                case "frame-delay":
                    due_ms += self._delay(cast, gate.key)
                case "backlog":
                    due_ms += int(spell.number("growth") * (now_ms - cast.begin_ms))
                case "frame-reorder" | "user-event-reorder":
                    until_ms = now_ms + self._scaled(OVERTAKEN_FOR_MS)
                    gate.overtaken.append(_Overtaken(stream, int(spell.number("by")) + 1, until_ms, frames))
                    frames = []
                    self.on_news()
                case "repeat-old":
                    frames = [gate.firsts.setdefault((cast.index, stream), frame)]
                case "update-id-restart":
                    frames = [self._with_new_ids(cast, stream, each) for each in frames]
                case _:
                    frames = [rewrite_frame(spell, each, stream) for each in frames]
        for spell_cast in self._of[Where.VENUE]:
            if spell_cast.active and spell_cast.spell.fault == "venue-restart" and gate.opened_ms > spell_cast.begin_ms:
                frames = [self._with_new_ids(spell_cast, stream, each) for each in frames]
        frames += self._caught_up(gate, stream)
        due_ms = max(due_ms, gate.last_due_ms)
        if not gate.held and due_ms <= now_ms:
            return frames
        if frames and not gate.held:
            gate.held.extend((due_ms, each) for each in frames)
            self.on_news()
        else:
            gate.held.extend((due_ms, each) for each in frames)
        gate.last_due_ms = due_ms
        return []

    def is_deaf(self, gate: Gate) -> bool:
        """True if nothing the client says over this connection is heard, pings included."""
        return any(self._holds_on(cast, gate) for cast in self._casts if cast.spell.fault == "half-open")

    def pings_per_second(self, gate: Gate) -> int:
        """With how many pings a second the client is plagued."""
        return sum(
            int(cast.spell.number("pings_per_second"))
            for cast in self._of[Where.CONNECTION]
            if cast.active and cast.spell.fault == "control-flood" and cast.spell.strikes_route(gate.route)
        )

    def _is_silenced(self, gate: Gate, stream: str, event: str) -> bool:
        for cast in self._of[Where.CONNECTION]:
            spell = cast.spell
            if spell.fault not in ("freeze", "half-open") or not self._holds_on(cast, gate):
                continue
            if spell.fault == "half-open" or spell.strikes_stream(gate.route, stream, event):
                self.note(spell.fault, f"{gate.key} {stream}")
                return True
        symbol = stream.partition("@")[0].upper()
        if any(spell.parameter("symbol") == symbol for spell in self.active("delisting")):
            self.note("delisting", f"{gate.key} {stream}")
            return True
        return False

    def _holds_on(self, cast: _Cast, gate: Gate) -> bool:
        spell = cast.spell
        is_meant = bool(spell.parameter("new_too")) or gate.opened_ms <= cast.begin_ms
        return cast.active and is_meant and spell.strikes_route(gate.route)

    def _begin_on_connections(self, cast: _Cast) -> None:
        """What a spell does to the connections that are open when it begins."""
        spell = cast.spell
        if spell.fault == "venue-restart":
            self.note(spell.fault, "all connections")
        for gate in list(self._gates):
            if spell.fault == "venue-restart":
                gate.close("the exchange restarts", Farewell.VANISH)
            elif spell.kind.where is Where.CONNECTION and spell.strikes_route(gate.route):
                match spell.fault:
                    case "reset" | "vanish" | "daily-cut" if self._strikes(cast, gate.key):
                        gate.close(*_ENDS[spell.fault])
                    case "server-shutdown" | "flap":
                        self._plan_end(cast, gate, max(gate.opened_ms, cast.begin_ms))

    def _plan_end(self, cast: _Cast, gate: Gate, from_ms: int) -> None:
        if not self._strikes(cast, gate.key):
            return
        spell = cast.spell
        if spell.fault == "flap":
            wait_ms, reason = spell.number("life_ms"), "the exchange hangs up"
        else:
            wait_ms, reason = spell.number("grace_ms"), "the exchange shuts down"
            gate.send(shut_down_notice(self.now_ms))
        gate.end = (from_ms + self._scaled(wait_ms), reason, Farewell.CLOSE)
        self.on_news()

    def _with_new_ids(self, cast: _Cast, stream: str, frame: bytes) -> bytes:
        update_id = update_id_of(frame)
        if update_id is None:
            return frame
        return restarted_update_id(frame, cast.bases.setdefault(stream, update_id - 1))

    def _caught_up(self, gate: Gate, stream: str) -> list[bytes]:
        """Frames that have been overtaken often enough by now."""
        freed: list[bytes] = []
        for waiting in list(gate.overtaken):
            waiting.left -= waiting.stream == stream
            if waiting.left <= 0:
                freed += waiting.frames
                gate.overtaken.remove(waiting)
        return freed

    def _flush(self, gate: Gate, until_ms: float) -> None:
        for waiting in list(gate.overtaken):
            if waiting.until_ms <= until_ms:
                gate.overtaken.remove(waiting)
                gate.held.extend((0, frame) for frame in waiting.frames)
        while gate.held and gate.held[0][0] <= until_ms:
            gate.send(gate.held.popleft()[1])

    # Chance

    def _is_down(self) -> bool:
        return any(
            cast.active and self.now_ms < cast.begin_ms + self._scaled(cast.spell.number("down_ms"))
            for cast in self._of[Where.VENUE]
            if cast.spell.fault == "venue-restart"
        )

    def _strikes(self, cast: _Cast, what: str) -> bool:
        spell = cast.spell
        cast.met += 1
        if cast.met <= spell.skip or (spell.times is not None and cast.struck >= spell.times):
            return False
        if spell.probability < 1.0 and self._draw(cast, what) >= spell.probability:
            return False
        cast.struck += 1
        self.note(spell.fault, what)
        return True

    def _delay(self, cast: _Cast, what: str) -> int:
        jitter_ms = cast.spell.number("jitter_ms")
        drawn = self._draw(cast, what) if jitter_ms else 0.0
        return self._scaled(cast.spell.number("delay_ms") + jitter_ms * drawn)

    def _draw(self, cast: _Cast, what: str) -> float:
        """A number in [0, 1) that is this seed's for this spell, this thing and this time."""
        assert self.script is not None
        cast.drawn[what] += 1
        text = f"{self.script.seed}/{cast.index}/{what}/{cast.drawn[what]}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / 2**56

    def _scaled(self, life_ms: float) -> int:
        return round(life_ms * self._patience)


def _nobody() -> None:
    """No shell waits for news yet."""


def _error(status: int, code: int, message: str) -> HttpResponse:
    return HttpResponse(status=status, body=error_body(code, message), headers=_JSON)


def _with_retry_after(refusal: HttpResponse, left_ms: int) -> HttpResponse:
    seconds = str(-(-left_ms // SECOND_MS))
    return msgspec.structs.replace(refusal, headers={**refusal.headers, "retry-after": seconds})


_ENDS: dict[str, tuple[str, Farewell]] = {
    "reset": ("reset by the exchange", Farewell.RESET),
    "vanish": ("gone without a farewell", Farewell.VANISH),
    "daily-cut": ("24 hours are over", Farewell.CLOSE),
}
_UNKNOWN = _error(503, -1000, "Unknown error, please check your request or try again later.")
_TIMEOUT = _error(
    408, -1007, "Timeout waiting for response from backend server. Send status unknown; execution status unknown."
)
_UNEXPECTED = _error(503, -1006, "An unexpected response was received from the message bus. Execution status unknown.")
_REFUSALS: dict[str, HttpResponse] = {
    "unknown-not-executed": _UNKNOWN,
    "service-unavailable": _error(503, -1000, "Service Unavailable."),
    "internal-error": _error(503, -1001, "Internal error; unable to process your request. Please try again."),
    "throttled": _error(
        503,
        -1008,
        "Request throttled by system-level protection. Reduce-only/close-position orders are exempt. Please try again.",
    ),
    "firewall": HttpResponse(
        status=403,
        body=b"<html><head><title>403 Forbidden</title></head><body><h1>403 Forbidden</h1></body></html>",
        headers={"content-type": "text/html"},
    ),
}
