"""The circuit breaker: how much may still be asked of an exchange that is not well.

Pure: times come in as market milliseconds, level changes go out as values. Four levels, each a row of one table, so
that a worse level can never permit more, and opening is slowed before it is forbidden. Trouble is kept as the moment
at which it will be forgotten: each fault pushes that moment away, each success pulls it nearer, and time does the
rest. `HALTED` is the exception: it is left only through a successful probe. A ban by the exchange silences everything,
closing included, until its window ends; at any other time closing has a lane. `BinanceClient` is the caller.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec


class BreakerLevel(IntEnum):
    """From well to worst; the larger, the less is permitted."""

    NORMAL = 0
    CAUTIOUS = 1
    """Trade, one opening at a time, but ask for nothing that can wait."""
    REDUCE_ONLY = 2
    """Open nothing new; close, cancel and ask."""
    HALTED = 3
    """Only closing, and a probe now and then."""


class Action(StrEnum):
    """What a request is for."""

    CLOSE = "close"
    CANCEL = "cancel"
    QUERY = "query"
    OPEN = "open"
    HISTORY = "history"
    PROBE = "probe"
    """A harmless question that finds out whether a halted exchange is back."""


class Fault(StrEnum):
    """What went wrong. A business rejection is not a fault: the exchange is well, only our request was not."""

    TRANSPORT = "transport"
    """No connection, a cut connection or a time-out."""
    SERVER = "server"
    """A 5xx answer, or one that leaves the outcome unknown."""
    OVERLOADED = "overloaded"
    """The exchange asks for reduce-only traffic (-1008)."""
    RATE_LIMITED = "rate_limited"
    """429: be silent for the server's window."""
    BANNED = "banned"
    """418, or not let in at all (403, 451): be silent until the ban ends."""


WORST_LEVEL_FOR = {
    Action.HISTORY: BreakerLevel.NORMAL,
    Action.OPEN: BreakerLevel.CAUTIOUS,
    Action.QUERY: BreakerLevel.REDUCE_ONLY,
    Action.CANCEL: BreakerLevel.REDUCE_ONLY,
    Action.CLOSE: BreakerLevel.HALTED,
    Action.PROBE: BreakerLevel.HALTED,
}
"""The worst level at which each action still passes.

At `HALTED` only what may end the halt passes: a probe, and a close. Nothing is lost by trying a close at an exchange
that is silent for reasons of its own, a position without its exit may lose everything, and a close that gets through
calls for the probe at once. Not so in the window of a 429 or 418: there nothing passes, the stops that rest at the
exchange do their work, and asking would only make the ban longer.
"""

OPENINGS_APART_MS = 2_000
"""At `CAUTIOUS`: enough for each of a handful of symbols to enter within the patience of a request."""

POINT_MS = 10_000
"""One point of trouble is forgotten in ten seconds."""
FLOOR_POINTS = {BreakerLevel.CAUTIOUS: 2, BreakerLevel.REDUCE_ONLY: 4, BreakerLevel.HALTED: 8}
"""Points of trouble at which each level begins."""
FAULT_POINTS = {Fault.TRANSPORT: 1, Fault.SERVER: 1, Fault.OVERLOADED: 0}
SUCCESS_RELIEF_MS = POINT_MS // 4
"""What one success makes up for: an exchange that answers four times in five is not halted."""
DEFAULT_SILENCE_MS = {Fault.RATE_LIMITED: 60_000, Fault.BANNED: 120_000}
"""The window where the server tells none: a whole weight window, or the shortest documented ban."""
FIRST_PROBE_MS = 1_000
LONGEST_PROBE_MS = 60_000
"""Probes that fail come rarer and rarer, doubling up to this."""

_FLOOR_MS = {level: points * POINT_MS for level, points in FLOOR_POINTS.items()}


class BreakerState(msgspec.Struct, frozen=True, kw_only=True):
    """All a breaker knows. Times in market milliseconds."""

    level: BreakerLevel = BreakerLevel.NORMAL
    """The level last announced."""
    since_ms: int = 0
    cause: str = ""
    """Why it is not normal, in words; empty when it is."""
    trouble_until_ms: int = 0
    """When all trouble will be forgotten, if no more comes."""
    halted: bool = False
    silent_until_ms: int = 0
    """Nothing at all is sent before this."""
    next_probe_ms: int = 0
    failed_probes: int = 0
    last_opening_ms: int | None = None
    """When something was last sent to open a position."""


class LevelChange(msgspec.Struct, frozen=True, kw_only=True):
    """The breaker moved from `before` to `level` at market time `time_ms`, or its silence became longer.

    Written down, these are all a breaker after a restart must know (`CircuitBreaker.after`).
    """

    time_ms: int
    before: BreakerLevel
    level: BreakerLevel
    cause: str
    since_ms: int
    next_probe_ms: int | None
    """When a halted exchange is asked next; None at other levels."""
    silent_until_ms: int
    trouble_until_ms: int


class CircuitBreaker:
    """One breaker guards one exchange address. Reading never changes it; `observe_*` returns what changed."""

    def __init__(self, state: BreakerState | None = None) -> None:
        self._state = state or BreakerState()

    @classmethod
    def after(cls, change: LevelChange) -> CircuitBreaker:
        """The breaker as it stood at `change`: its halt and its silence hold. Good answers since then are forgotten."""
        return cls(
            BreakerState(
                level=change.level,
                since_ms=change.since_ms,
                cause="" if change.level is BreakerLevel.NORMAL else change.cause,
                trouble_until_ms=change.trouble_until_ms,
                halted=change.level is BreakerLevel.HALTED,
                silent_until_ms=change.silent_until_ms,
                next_probe_ms=change.next_probe_ms or 0,
            )
        )

    def to_state(self) -> BreakerState:
        return self._state

    @property
    def cause(self) -> str:
        return self._state.cause

    @property
    def since_ms(self) -> int:
        """When the level last announced began; 0 if it never moved."""
        return self._state.since_ms

    @property
    def next_probe_ms(self) -> int | None:
        """When a halted exchange may be asked next; None unless halted."""
        return self._state.next_probe_ms if self._state.halted else None

    @property
    def silent_until_ms(self) -> int:
        """Nothing is sent before this moment."""
        return self._state.silent_until_ms

    def level(self, now_ms: int) -> BreakerLevel:
        if self._state.halted:
            return BreakerLevel.HALTED
        trouble_ms = self._state.trouble_until_ms - now_ms
        if trouble_ms >= _FLOOR_MS[BreakerLevel.REDUCE_ONLY]:
            return BreakerLevel.REDUCE_ONLY
        if trouble_ms >= _FLOOR_MS[BreakerLevel.CAUTIOUS]:
            return BreakerLevel.CAUTIOUS
        return BreakerLevel.NORMAL

    def permits(self, action: Action, now_ms: int) -> bool:
        """Whether a request for `action` may be sent at `now_ms`."""
        state = self._state
        if now_ms < state.silent_until_ms:
            return False
        if action is Action.PROBE and state.halted:
            return now_ms >= state.next_probe_ms
        return self.level(now_ms) <= WORST_LEVEL_FOR[action]

    def retry_after_ms(self, action: Action, now_ms: int) -> int:
        """How long from `now_ms` until `action` may pass, or until a probe may open the way; at least 0."""
        if self.permits(action, now_ms):
            return 0
        state = self._state
        if state.halted:
            return max(state.next_probe_ms, state.silent_until_ms, now_ms) - now_ms
        # Permitted again once trouble is below the floor of the first level that forbids it.
        return state.trouble_until_ms - now_ms - _FLOOR_MS[BreakerLevel(WORST_LEVEL_FOR[action] + 1)] + 1

    def standing(self, now_ms: int) -> LevelChange:
        """Where the breaker stands since it last moved, in the form of a change."""
        return self._change(now_ms, self._state.level, self._state.cause)

    def slow_ms(self, action: Action, now_ms: int) -> int:
        """How long from `now_ms` a permitted `action` must still wait, because the one before it was just sent."""
        last_ms = self._state.last_opening_ms
        if action is not Action.OPEN or last_ms is None or self.level(now_ms) is BreakerLevel.NORMAL:
            return 0
        return max(0, last_ms + OPENINGS_APART_MS - now_ms)

    def observe_sending(self, now_ms: int, action: Action) -> None:
        """A request for `action` leaves now."""
        if action is Action.OPEN:
            self._state = msgspec.structs.replace(self._state, last_opening_ms=now_ms)

    def observe_time(self, now_ms: int) -> tuple[LevelChange, ...]:
        """Announce a level that time alone has lowered."""
        return self._announce(now_ms, "trouble is over")

    def observe_success(self, now_ms: int, action: Action) -> tuple[LevelChange, ...]:
        """The exchange answered a request for `action`; a business rejection is an answer too."""
        changes = self.observe_time(now_ms)
        state = self._state
        if not state.halted:
            self._state = msgspec.structs.replace(
                state, trouble_until_ms=max(now_ms, state.trouble_until_ms - SUCCESS_RELIEF_MS)
            )
            return changes + self._announce(now_ms, "the exchange answers again")
        if now_ms < state.silent_until_ms:
            # The answer to something sent before the ban proves nothing about the ban.
            return changes
        if action is not Action.PROBE:
            # A close that got through is a reason to probe at once.
            self._state = msgspec.structs.replace(state, next_probe_ms=min(state.next_probe_ms, now_ms))
            return changes
        # Back on foot, not yet at a run: reduce-only for the time of one point, then cautious, then normal.
        self._state = msgspec.structs.replace(
            state,
            halted=False,
            failed_probes=0,
            trouble_until_ms=now_ms + _FLOOR_MS[BreakerLevel.REDUCE_ONLY] + POINT_MS,
        )
        return changes + self._announce(now_ms, "a probe succeeded")

    def observe_fault(
        self, now_ms: int, fault: Fault, retry_after_ms: int = 0, cause: str = ""
    ) -> tuple[LevelChange, ...]:
        """A request failed; `retry_after_ms` is the server's window (429, 418), 0 where it told none."""
        changes = self.observe_time(now_ms)
        cause = cause or fault.value
        if fault in DEFAULT_SILENCE_MS:
            window_ms = retry_after_ms if retry_after_ms > 0 else DEFAULT_SILENCE_MS[fault]
            silent_until_ms = max(self._state.silent_until_ms, now_ms + window_ms)
            longer = silent_until_ms > self._state.silent_until_ms
            self._state = msgspec.structs.replace(
                self._state, halted=True, silent_until_ms=silent_until_ms, next_probe_ms=silent_until_ms
            )
            return changes + self._announce(now_ms, cause, longer_silence=longer)
        trouble_until_ms = max(self._state.trouble_until_ms, now_ms) + FAULT_POINTS[fault] * POINT_MS
        if fault is Fault.OVERLOADED:
            # Reduce-only is what it asks for; more often said it is not more.
            trouble_until_ms = max(trouble_until_ms, now_ms + _FLOOR_MS[BreakerLevel.REDUCE_ONLY] + POINT_MS)
        # Beyond the floor of HALTED more trouble says nothing new, and must not outlast the halt.
        trouble_until_ms = min(trouble_until_ms, now_ms + _FLOOR_MS[BreakerLevel.HALTED])
        self._state = msgspec.structs.replace(self._state, trouble_until_ms=trouble_until_ms)
        if self._state.halted:
            self._postpone_probe(now_ms)
        elif trouble_until_ms - now_ms >= _FLOOR_MS[BreakerLevel.HALTED]:
            self._state = msgspec.structs.replace(
                self._state, halted=True, failed_probes=0, next_probe_ms=now_ms + FIRST_PROBE_MS
            )
        return changes + self._announce(now_ms, cause)

    def _postpone_probe(self, now_ms: int) -> None:
        state = self._state
        if now_ms < state.next_probe_ms:
            # Requests that were under way when the halt began: no probe has failed yet.
            return
        failed_probes = state.failed_probes + 1
        wait_ms = min(LONGEST_PROBE_MS, FIRST_PROBE_MS << min(failed_probes, 16))
        self._state = msgspec.structs.replace(state, failed_probes=failed_probes, next_probe_ms=now_ms + wait_ms)

    def _announce(self, now_ms: int, cause: str, *, longer_silence: bool = False) -> tuple[LevelChange, ...]:
        before, after = self._state.level, self.level(now_ms)
        if before is after and not longer_silence:
            return ()
        # What brought the trouble stays its cause for as long as any of it is left.
        kept = cause if after > before or longer_silence else self._state.cause
        if after is BreakerLevel.NORMAL:
            kept = ""
        since_ms = now_ms if before is not after else self._state.since_ms
        self._state = msgspec.structs.replace(self._state, level=after, since_ms=since_ms, cause=kept)
        return (self._change(now_ms, before, cause),)

    def _change(self, now_ms: int, before: BreakerLevel, cause: str) -> LevelChange:
        state = self._state
        return LevelChange(
            time_ms=now_ms,
            before=before,
            level=state.level,
            cause=cause,
            since_ms=state.since_ms,
            next_probe_ms=self.next_probe_ms,
            silent_until_ms=state.silent_until_ms,
            trouble_until_ms=state.trouble_until_ms,
        )
