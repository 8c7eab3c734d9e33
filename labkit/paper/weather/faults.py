"""The faults a paper exchange can have, by name: what each does, which rows of the fault catalogue it is, its numbers.

`FAULTS` is the register that scripts are checked against and that `labkit weather ls` prints. Milliseconds and seconds
are those of life: a market that runs 30 times as fast has every fault 30 times as long in its own time, just as
labkit's own limits are.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

Value = bool | int | float | str
"""What a parameter of a fault may be."""


class Where(StrEnum):
    """At which door a fault stands."""

    REQUEST = "request"
    """One HTTP request and its answer."""
    FRAME = "frame"
    """One frame of a stream, on its way out."""
    CONNECTION = "connection"
    """An open stream connection."""
    HANDSHAKE = "handshake"
    """A connection that is being opened."""
    VENUE = "venue"
    """The exchange itself: its keys, its clock, its listings."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of fault. `parameters` are its defaults; `streams` and `paths` what it strikes unless told otherwise."""

    name: str
    where: Where
    summary: str
    catalogue: tuple[str, ...]
    """Ids of the fault catalogue (N network, X exchange, D data)."""
    parameters: dict[str, Value] = {}
    streams: str = "*"
    paths: str = "*"
    methods: str = "*"


_ORDER = "/fapi/v1/order"


def _request(
    name: str, summary: str, *catalogue: str, paths: str = "*", methods: str = "*", **parameters: Value
) -> Fault:
    return Fault(
        name=name,
        where=Where.REQUEST,
        summary=summary,
        catalogue=catalogue,
        parameters=parameters,
        paths=paths,
        methods=methods,
    )


def _frame(name: str, summary: str, *catalogue: str, streams: str = "*", **parameters: Value) -> Fault:
    return Fault(
        name=name, where=Where.FRAME, summary=summary, catalogue=catalogue, parameters=parameters, streams=streams
    )


def _of(where: Where, name: str, summary: str, *catalogue: str, **parameters: Value) -> Fault:
    return Fault(name=name, where=where, summary=summary, catalogue=catalogue, parameters=parameters)


_QUOTES = "*@bookTicker"
_MARKS = "*@markPrice*"
_USER = "user"

_ALL = (
    # Requests
    _request("request-delay", "The request arrives late.", "N10", delay_ms=2_000, jitter_ms=1_000),
    _request(
        "reply-delay", "The request is carried out at once and answered late.", "N10", delay_ms=2_000, jitter_ms=0
    ),
    _request("drop-before-execute", "The connection is cut before the request is looked at.", "X04", "N20"),
    _request("execute-then-drop-reply", "The request is carried out and its connection cut.", "X03", "N13"),
    _request("hang-before-execute", "The request is swallowed: never looked at, never answered.", "X04"),
    _request("execute-then-hang", "The request is carried out and never answered.", "X03"),
    _request("truncate-reply", "Carried out; the answer ends in its middle.", "N13", kept_share=0.5),
    _request("garbage-reply", "Carried out; the answer is a 200 whose body nobody can read.", "N13", "D10"),
    _request("unknown-executed", "503 'Unknown error', although it was carried out.", "X03"),
    _request("unknown-not-executed", "503 'Unknown error', and it was not carried out.", "X04"),
    _request("service-unavailable", "503 'Service Unavailable.', not carried out.", "X05", "X31"),
    _request("internal-error", "503 with -1001 'Internal error', not carried out.", "X05"),
    _request("timeout-executed-late", "-1007 now, carried out later.", "X06", late_ms=3_000),
    _request("unexpected-response", "-1006, carried out or not.", "X07", executed=True),
    _request(
        "throttled", "-1008 to orders that are not reduce-only, not carried out.", "X08", paths=_ORDER, methods="POST"
    ),
    _request("rate-limited", "429 with Retry-After, and again for every request inside it.", "X09", seconds=7.0),
    _request("ban", "418: everything is refused until the ban ends.", "X10", seconds=120.0),
    _request("firewall", "403 with a page of HTML.", "X11"),
    _request(
        "reject",
        "400 with a code of your choice (-2022, -2021, -2019, -4164, -1111 ...).",
        *("X16", "X17", "X18"),
        paths=_ORDER,
        methods="POST",
        code=-2022,
        message="ReduceOnly Order is rejected.",
    ),
    _request(
        "read-lag",
        "Questions do not see orders and trades younger than this.",
        "X14",
        methods="GET",
        lag_ms=2_000,
    ),
    _request(
        "stale-reply",
        "The same question is answered as it was at least this long ago.",
        "X29",
        methods="GET",
        lag_ms=3_000,
    ),
    _request("schema-drift-reply", "Answers carry a field nobody knows and lack avgPrice.", "X26"),
    # Frames
    _frame("frame-delay", "Frames come late, in order.", "D08", delay_ms=2_000, jitter_ms=0),
    _frame("backlog", "Frames come later and later, by `growth` seconds a second.", "N11", growth=0.5),
    _frame("frame-drop", "Frames are lost.", "D12"),
    _frame("frame-duplicate", "Frames come twice.", "D05", "X22"),
    _frame("frame-reorder", "A frame is overtaken by the next ones of its stream.", "D05", by=1),
    _frame("repeat-old", "Instead of news, the first frame under this spell comes again.", "D05", "D08"),
    _frame("update-id-gap", "The chain of update ids has a hole.", "D05", streams="*@depth*"),
    _frame("update-id-restart", "Update ids begin anew from low numbers.", "D06", streams=_QUOTES),
    _frame("truncate-frame", "Frames end in their middle.", "D10", kept_share=0.5),
    _frame("garbage-frame", "Frames are no JSON.", "D10"),
    _frame("deep-frame", "Frames are nested 100,000 levels deep.", "D10"),
    _frame("oversize-frame", "Frames are larger than any client should take.", "N19", "D10", size=5_000_000),
    _frame("price-nan", "Prices are the JSON text NaN.", "D01", streams=_QUOTES),
    _frame("price-infinite", "Prices are the text 'Infinity'.", "D01", streams=_QUOTES),
    _frame("price-zero", "Prices are 0.", "D02", "X25", streams=_QUOTES),
    _frame("price-negative", "Prices are below 0.", "D02", streams=_QUOTES),
    _frame("price-empty", "Prices are empty texts.", "D02", streams=_QUOTES),
    _frame("one-sided", "The ask side of the book is gone.", "D02", streams=_QUOTES),
    _frame("price-crossed", "The bid stands above the ask.", "D03", streams=_QUOTES),
    _frame("price-jump", "Prices are off by `share`.", "D04", streams=_QUOTES, share=0.5),
    _frame("price-full-width", "Prices are written in full-width digits.", "D11", streams=_QUOTES),
    _frame("price-underscore", "Prices are written like 1_0.", "D11", streams=_QUOTES),
    _frame("price-exponent", "Prices are written like 1e5.", "D11", streams=_QUOTES),
    _frame("event-time-skew", "Exchange times in frames are off.", "D07", streams=_QUOTES, offset_ms=3_600_000),
    _frame("wrong-symbol", "Frames name another symbol.", "D09", streams=_QUOTES, symbol="XRPUSDT"),
    _frame("mark-apart", "The mark price stands `share` away from the last one.", "D18", streams=_MARKS, share=0.05),
    _frame("schema-drift-frame", "Frames carry a field nobody knows.", "X26"),
    _frame("user-event-loss", "Events of the account are lost.", "X19", streams=_USER),
    _frame("user-event-duplicate", "Events of the account come twice.", "X22", streams=_USER),
    _frame("user-event-reorder", "Events of the account overtake each other.", "X22", "X23", streams=_USER, by=1),
    # Connections. Those open when the spell begins; later ones too with `new_too`.
    _of(Where.CONNECTION, "freeze", "Data stops, pings are answered.", "N05", "N06", new_too=False),
    _of(Where.CONNECTION, "half-open", "Nothing comes and nothing is heard any more.", "N03", "N04", new_too=False),
    _of(Where.CONNECTION, "reset", "The connection is reset.", "N01"),
    _of(Where.CONNECTION, "vanish", "The connection ends without a farewell.", "N02"),
    _of(Where.CONNECTION, "flap", "Every connection ends soon after it was opened.", "N15", life_ms=1_000),
    _of(Where.CONNECTION, "daily-cut", "The exchange ends the connection as it does after 24 hours.", "X01"),
    _of(Where.CONNECTION, "server-shutdown", "serverShutdown is announced, then the end.", "X02", grace_ms=5_000),
    _of(Where.CONNECTION, "control-flood", "Pings without end (on sockets only).", "N17", pings_per_second=1_000),
    # Handshakes
    _of(Where.HANDSHAKE, "slow-handshake", "The connection is accepted and not upgraded.", "N07", delay_ms=60_000),
    _of(Where.HANDSHAKE, "refuse-handshake", "The handshake is answered with an HTTP error.", "N08", status=429),
    _of(Where.HANDSHAKE, "connect-refused", "No connection comes about.", "N14", "N16"),
    # The venue
    _of(Where.VENUE, "venue-restart", "All is cut and away; update ids begin anew.", "X30", "N14", down_ms=10_000),
    _of(Where.VENUE, "listen-key-expiry", "The key of the user stream expires, as announced.", "X20"),
    _of(Where.VENUE, "listen-key-loss", "Somebody deletes the key of the user stream.", "X21"),
    _of(Where.VENUE, "clock-jump", "The exchange's clock is off.", "X12", offset_ms=2_000),
    _of(Where.VENUE, "symbol-status", "A symbol is not traded for now.", "X25", symbol="BTCUSDT", status="HALT"),
    _of(Where.VENUE, "delisting", "A symbol is listed no more and falls silent.", "X25", symbol="BTCUSDT"),
    _of(Where.VENUE, "tick-size", "A symbol has another tick size.", "X18", symbol="BTCUSDT", tick_size="1"),
    _of(Where.VENUE, "brackets-tightened", "Margin tables get stricter.", "X28", symbol="BTCUSDT", factor=2.0),
    _of(Where.VENUE, "funding-interval", "Funding falls due each so many hours.", "X27", symbol="BTCUSDT", hours=1),
    _of(
        Where.VENUE,
        "external-trade",
        "Somebody else trades on the account.",
        "X24",
        symbol="BTCUSDT",
        side="BUY",
        quantity="0.010",
    ),
)

FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}
"""Every fault by its name."""
