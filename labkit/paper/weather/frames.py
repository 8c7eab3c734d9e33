"""What weather does to the bytes of one frame or answer. Plain functions, bytes to bytes; nothing here is drawn.

A stream frame may be raw or combined (`{"stream":…,"data":{…}}`): fields are found by their names wherever they stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from labkit.paper.weather.script import Spell

PRICE_FIELDS = {
    "bookTicker": "ba",
    "markPrice": "p",
    "aggTrade": "p",
    "trade": "p",
    "kline": "ochl",
    "miniTicker": "coh",
}
DEEP = b"[" * 100_000
_FULL_WIDTH = str.maketrans("0123456789.", "０１２３４５６７８９．")

Rewrite = Callable[[str], str]
"""The text of a price, quotes included, to what is told instead."""


def rewrite_frame(spell: Spell, frame: bytes, stream: str) -> bytes:
    """`frame` as `spell` leaves it. Frames without the field in question stay as they are."""
    fault = spell.fault
    if (rewrite := _PRICE_REWRITES.get(fault)) is not None:
        return _rewrite_prices(frame, stream, rewrite)
    match fault:
        case "truncate-frame":
            return frame[: int(len(frame) * spell.number("kept_share"))]
        case "garbage-frame":
            return b"\x16\x03\x01 this is not what you asked for"
        case "deep-frame":
            return DEEP
        case "oversize-frame":
            return b'"' + b"x" * int(spell.number("size")) + b'"'
        case "price-jump" | "mark-apart":
            return _rewrite_prices(frame, stream, _scaled_by(1 + Decimal(str(spell.number("share")))))
        case "price-crossed":
            return _swapped(frame, b"b", b"a")
        case "one-sided":
            return _replaced(frame, "A", lambda told: '"0"')
        case "event-time-skew":
            return _shifted(frame, b"E", int(spell.number("offset_ms")))
        case "wrong-symbol":
            return _replaced(frame, "s", lambda told: f'"{spell.parameter("symbol")}"')
        case "update-id-gap":
            return _shifted(frame, b"pu", -1)
        case _:
            # An unknown field, first in the innermost object that tells what happened.
            at = frame.find(b'{"e"')
            return frame if at < 0 else frame[: at + 1] + b'"zz":{"new":[1]},' + frame[at + 1 :]


def restarted_update_id(frame: bytes, base: int) -> bytes:
    """The update id counted from `base` on."""
    return _shifted(frame, b"u", -base)


def update_id_of(frame: bytes) -> int | None:
    """The update id a frame tells, if it tells one."""
    found = _number(b"u").search(frame)
    return int(found[2]) if found else None


def shut_down_notice(now_ms: int) -> bytes:
    """What is told before the exchange shuts down a connection."""
    return b'{"e":"serverShutdown","E":%d}' % now_ms


# Answers


def without_the_young(path: str, body: bytes, since_ms: int) -> bytes | None:
    """An answer without orders and trades born after `since_ms`; None if nothing is left of a single order."""
    told = msgspec.json.decode(body)
    if isinstance(told, dict):
        return None if path.endswith(("/order", "/openOrder")) and told.get("time", 0) > since_ms else body
    rows = [row for row in told if not (isinstance(row, dict) and "orderId" in row and row.get("time", 0) > since_ms)]
    return msgspec.json.encode(rows)


def drifted_answer(body: bytes) -> bytes:
    """An answer with a field nobody knows and without `avgPrice`, wherever it stands."""

    def drift(value: Any) -> Any:
        if isinstance(value, list):
            return [drift(each) for each in value]
        if isinstance(value, dict):
            return {name: drift(each) for name, each in value.items() if name != "avgPrice"} | {"zz": {"new": [1]}}
        return value

    return msgspec.json.encode(drift(msgspec.json.decode(body)))


# Fields


def _rewrite_prices(frame: bytes, stream: str, rewrite: Rewrite) -> bytes:
    kind = stream.partition("@")[2].partition("@")[0].partition("_")[0]
    for field in PRICE_FIELDS.get(kind, ""):
        frame = _replaced(frame, field, rewrite)
    return frame


def _replaced(frame: bytes, field: str, rewrite: Rewrite) -> bytes:
    pattern = re.compile(rb'("%b":)("[^"]*")' % field.encode())
    return pattern.sub(lambda found: found[1] + rewrite(found[2].decode()).encode(), frame)


def _swapped(frame: bytes, one: bytes, other: bytes) -> bytes:
    pattern = re.compile(rb'"(%b|%b)":"' % (one, other))
    return pattern.sub(lambda found: b'"' + (other if found[1] == one else one) + b'":"', frame)


def _number(field: bytes) -> re.Pattern[bytes]:
    return re.compile(rb'("%b":)(\d+)' % field)


def _shifted(frame: bytes, field: bytes, by: int) -> bytes:
    return _number(field).sub(lambda found: found[1] + str(int(found[2]) + by).encode(), frame)


def _scaled_by(factor: Decimal) -> Rewrite:
    def rewrite(told: str) -> str:
        price = Decimal(told.strip('"'))
        return f'"{(price * factor).quantize(price):f}"'

    return rewrite


_PRICE_REWRITES: dict[str, Rewrite] = {
    "price-nan": lambda told: "NaN",
    "price-infinite": lambda told: '"Infinity"',
    "price-zero": lambda told: '"0"',
    "price-negative": lambda told: f'"-{told[1:]}',
    "price-empty": lambda told: '""',
    "price-full-width": lambda told: told.translate(_FULL_WIDTH),
    "price-underscore": lambda told: f"{told[:2]}_{told[2:]}",
    "price-exponent": lambda told: f'{told[:-1]}e1"',
}
