"""What an error answer means: status, code and text to one error of ours, by table (protocol §6.2, §6.3).

The question each row answers is whether the request may have been executed. Only a documented proof makes it a
definite no; an unrecognised 5xx, a time-out at the exchange and an answer nobody can read are `OutcomeUnknown`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from labkit.errors import (
    AuthenticationFailed,
    ClockSkew,
    ExchangeError,
    ExchangeUnavailable,
    FilterViolation,
    InsufficientMargin,
    IpBanned,
    ListenKeyGone,
    OutcomeUnknown,
    RateLimited,
    RequestRejected,
    UnknownOrder,
)
from labkit.wire.shapes import UNREADABLE, encode_json

ERROR_OF_CODE: dict[int, type[ExchangeError]] = {
    # The matching engine may have got it.
    -1000: OutcomeUnknown,
    -1001: OutcomeUnknown,
    -1006: OutcomeUnknown,
    -1007: OutcomeUnknown,
    -1008: OutcomeUnknown,
    # labkit never reuses a client order id: "duplicate" means an earlier copy of this very request arrived.
    -4116: OutcomeUnknown,
    -1016: ExchangeUnavailable,
    -1003: RateLimited,
    -1015: RateLimited,
    -1021: ClockSkew,
    -5028: ClockSkew,
    -1002: AuthenticationFailed,
    -1022: AuthenticationFailed,
    -2014: AuthenticationFailed,
    -2015: AuthenticationFailed,
    -1125: ListenKeyGone,
    -2011: UnknownOrder,
    -2013: UnknownOrder,
    -2018: InsufficientMargin,
    -2019: InsufficientMargin,
    -1013: FilterViolation,
    -1111: FilterViolation,
    -4001: FilterViolation,
    -4002: FilterViolation,
    -4003: FilterViolation,
    -4004: FilterViolation,
    -4005: FilterViolation,
    -4006: FilterViolation,
    -4007: FilterViolation,
    -4013: FilterViolation,
    -4014: FilterViolation,
    -4016: FilterViolation,
    -4023: FilterViolation,
    -4024: FilterViolation,
    -4131: FilterViolation,
    -4164: FilterViolation,
    -4183: FilterViolation,
    -4184: FilterViolation,
}
"""Codes with a meaning of their own; every other code of a 4xx answer is a plain `RequestRejected`."""

NOT_EXECUTED_TEXTS = frozenset(
    {
        "Service Unavailable.",
        "Internal error; unable to process your request. Please try again.",
        "Request throttled by system-level protection. Reduce-only/close-position orders are exempt. Please try again.",
    }
)
"""The texts that prove, and are documented to prove, that a 503 request was not executed.

The code alone does not: an order answered with -1008 "Server is currently overloaded with other requests. Please try
again in a few minutes." was found to be live (recorded 2025-09-22).
"""

WORDS_FOR_STATUS = {
    403: "refused by the exchange's firewall",
    418: "banned by the exchange",
    429: "too many requests",
    451: "the exchange does not serve this region",
}
"""What a status means that comes without an error body of the exchange."""

_BANNED_UNTIL = re.compile(r"banned until ([0-9]{1,15})")
_SECONDS = re.compile(r"[0-9]{1,9}\Z")


class _ErrorBody(msgspec.Struct, frozen=True):
    code: int
    message: str = msgspec.field(name="msg")


_decode_body = msgspec.json.Decoder(_ErrorBody).decode


def error_body(code: int, message: str) -> bytes:
    """The JSON body of an error answer."""
    return encode_json({"code": code, "msg": message})


def decode_error_body(body: bytes) -> tuple[int, str] | None:
    """Code and text of an error body, or None where `body` is not one (a firewall's page, nothing at all)."""
    try:
        fault = _decode_body(body)
    except UNREADABLE:
        return None
    return fault.code, fault.message


def to_error(status: int, body: bytes, headers: Mapping[str, str], *, now_ms: int) -> ExchangeError:
    """The error an answer with this status means; to be raised by the caller.

    Args:
        status: HTTP status of an answer that is not a usable success.
        body: as received; a body that is not a JSON error is never quoted.
        headers: names in lower case; `retry-after` (seconds) is honoured.
        now_ms: market time in UTC ms, to turn "banned until" into a duration.

    A `RateLimited` error carries 0 as `retry_after_ms` where the exchange named no time.
    """
    code, message = decode_error_body(body) or (0, _plain_text(status, body))
    error = _kind(status, code, message)
    if issubclass(error, RateLimited):
        return error(
            message, code=code, http_status=status, retry_after_ms=_retry_after_ms(message, headers, now_ms=now_ms)
        )
    return error(message, code=code, http_status=status)


def _plain_text(status: int, body: bytes) -> str:
    """A documented text that came without its JSON, or words of our own: a firewall's page is never quoted."""
    text = body[:200].decode(errors="replace").strip()
    return text if text in NOT_EXECUTED_TEXTS else WORDS_FOR_STATUS.get(status, f"HTTP {status} without an error body")


def _kind(status: int, code: int, message: str) -> type[ExchangeError]:
    if status == 418 or (code == -1003 and _BANNED_UNTIL.search(message)):
        return IpBanned
    if status == 429:
        return RateLimited
    if message in NOT_EXECUTED_TEXTS:
        return ExchangeUnavailable
    # 408 is the exchange's own time-out; below 400 stands an answer nobody expected, which proves nothing.
    if status >= 500 or status == 408 or status < 400:
        return OutcomeUnknown
    return ERROR_OF_CODE.get(code, RequestRejected)


def _retry_after_ms(message: str, headers: Mapping[str, str], *, now_ms: int) -> int:
    """The longest silence the answer asks for, in ms from `now_ms`."""
    waits = [0]
    if _SECONDS.match(seconds := headers.get("retry-after", "").strip()):
        waits.append(int(seconds) * 1000)
    if banned := _BANNED_UNTIL.search(message):
        waits.append(int(banned[1]) - now_ms)
    return max(waits)
