"""FeedBook: how good the data of one day were, gathered while the ledger is folded. Used by `labkit.engine.history`."""

from __future__ import annotations

from collections import Counter

from labkit.domain import events as ev
from labkit.domain.clock import DAY_MS, MINUTE_MS
from labkit.domain.day_history import Connection, FeedQuality, Outage

BREAKER = "circuit breaker"


class FeedBook:
    """Takes in every event of the ledger, and tells of the day that begins at `start_ms`."""

    def __init__(self, start_ms: int) -> None:
        self._start_ms, self._end_ms = start_ms, start_ms + DAY_MS
        self._open: dict[str, Outage] = {}
        self._over: list[Outage] = []
        self._recovers: set[str] = set()
        """What has told that it is well: of these an outage lasts until it does so again."""
        self._latest_ms = start_ms
        self._counted: dict[str, ev.StreamCounts] = {}
        self._connections: dict[str, Connection] = {}
        self._first_minute_ms: int | None = None
        self._last_minute_ms = start_ms
        self._minutes = self._missed = 0
        self._without_bar: Counter[str] = Counter()
        self._without_quote: Counter[str] = Counter()
        self._weight = self._weight_limit = 0
        self._latency_ms = 0.0

    def take_in(self, event: ev.Event, symbols: tuple[str, ...]) -> None:
        """`symbols` are those traded at the time."""
        in_day = event.time_ms >= self._start_ms
        match event:
            case ev.EngineStarted():
                # While the lab was off nothing was out of order; its connections count from nothing again.
                self._close_feed(self._latest_ms)
                self._counted.clear()
            case ev.EngineStopped():
                self._close_feed(event.time_ms)
            case ev.FeedChanged():
                self._feed_changed(event)
            case ev.BreakerMoved():
                self._close(BREAKER, event.time_ms)
                if event.level != "NORMAL":
                    self._open[BREAKER] = Outage(BREAKER, f"{event.level}: {event.cause}", event.time_ms, event.time_ms)
            case ev.MinuteClosed() if in_day:
                self._minute(event, symbols)
            case ev.FeedObserved():
                self._observed(event, in_day=in_day)
            case _:
                pass
        self._latest_ms = event.time_ms

    def quality(self) -> FeedQuality:
        """The day as far as the ledger tells; what is still out of order counts until the last event."""
        still = [self._until(outage, self._latest_ms) for outage in self._open.values()]
        shown = [part for outage in (*self._over, *still) if (part := self._of_day(outage))]
        first, last = self._first_minute_ms, self._last_minute_ms
        span = 0 if first is None else (last - first) // MINUTE_MS + 1
        return FeedQuality(
            outages=tuple(sorted(shown, key=lambda outage: outage.start_ms)),
            connections=tuple(self._connections[name] for name in sorted(self._connections)),
            minutes=self._minutes,
            missed_minutes=self._missed,
            minutes_off=span - self._minutes,
            without_bar=dict(self._without_bar),
            without_quote=dict(self._without_quote),
            weight_used=self._weight,
            weight_limit=self._weight_limit,
            latency_ms_p99=self._latency_ms,
        )

    def _feed_changed(self, event: ev.FeedChanged) -> None:
        if event.healthy:
            self._recovers.add(event.what)
        elif event.what in self._open and self._open[event.what].cause == event.cause:
            # Trouble that goes on is told again now and then.
            return
        self._close(event.what, event.time_ms)
        if not event.healthy:
            self._open[event.what] = Outage(event.what, event.cause, event.time_ms, event.time_ms)

    def _close_feed(self, time_ms: int) -> None:
        for what in [what for what in self._open if what != BREAKER]:
            self._close(what, time_ms)

    def _close(self, what: str, time_ms: int) -> None:
        if outage := self._open.pop(what, None):
            self._over.append(self._until(outage, time_ms))

    def _until(self, outage: Outage, end_ms: int) -> Outage:
        return Outage(outage.what, outage.cause, outage.start_ms, end_ms)

    def _of_day(self, outage: Outage) -> Outage | None:
        """The part of an outage that lies in the day; one of what never tells that it is well has no length."""
        lasts = outage.what in self._recovers or outage.what == BREAKER
        start_ms = max(outage.start_ms, self._start_ms)
        end_ms = min(outage.end_ms if lasts else outage.start_ms, self._end_ms)
        return Outage(outage.what, outage.cause, start_ms, end_ms) if end_ms >= start_ms else None

    def _minute(self, event: ev.MinuteClosed, symbols: tuple[str, ...]) -> None:
        if self._first_minute_ms is None:
            self._first_minute_ms = event.open_time_ms
        self._last_minute_ms = event.open_time_ms
        self._minutes += 1
        self._without_bar.update(symbol for symbol in symbols if symbol not in event.bars)
        if not event.entries_allowed:
            self._missed += 1
        else:
            self._without_quote.update(symbol for symbol in symbols if symbol not in event.quotes)

    def _observed(self, event: ev.FeedObserved, *, in_day: bool) -> None:
        for now in event.streams:
            before = self._counted.get(now.name) or ev.StreamCounts(now.name, 0, 0, 0)
            self._counted[now.name] = now
            if in_day:
                so_far = self._connections.get(now.name) or Connection(now.name, 0, 0, 0)
                self._connections[now.name] = Connection(
                    now.name,
                    so_far.frames + now.frames - before.frames,
                    so_far.reconnects + now.reconnects - before.reconnects,
                    so_far.rejected + now.rejected - before.rejected,
                )
        if in_day:
            self._weight = max(self._weight, event.weight_used)
            self._weight_limit = event.weight_limit
            self._latency_ms = max(self._latency_ms, event.latency_ms_p99)
