"""What each error answer means: may the request have been executed, and what next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from labkit.wire.faults import ERROR_OF_CODE, decode_error_body, error_body, to_error

NOW_MS = 1_795_375_275_568

FAULTS = [
    (400, -1000, "An unknown error occurred while processing the request.", OutcomeUnknown),
    (400, -1001, "Internal error; unable to process your request. Please try again.", ExchangeUnavailable),
    (400, -1001, "Disconnected.", OutcomeUnknown),
    (401, -1002, "You are not authorized to execute this request.", AuthenticationFailed),
    (429, -1003, "Too many requests; current limit is 2400 requests per minute.", RateLimited),
    (400, -1003, "Too many requests.", RateLimited),
    (400, -1006, "An unexpected response was received. Execution status unknown.", OutcomeUnknown),
    (408, -1007, "Timeout waiting for response from backend server.", OutcomeUnknown),
    (400, -1007, "Timeout waiting for response from backend server.", OutcomeUnknown),
    (400, -1013, "Invalid message.", FilterViolation),
    (429, -1015, "Too many new orders; current limit is 300 orders per 10 SECOND.", RateLimited),
    (400, -1016, "This service is no longer available.", ExchangeUnavailable),
    (400, -1021, "Timestamp for this request is outside of the recvWindow.", ClockSkew),
    (400, -1022, "Signature for this request is not valid.", AuthenticationFailed),
    (400, -1102, "Mandatory parameter 'symbol' was not sent.", RequestRejected),
    (400, -1111, "Precision is over the maximum defined for this asset.", FilterViolation),
    (400, -1121, "Invalid symbol.", RequestRejected),
    (400, -1125, "This listenKey does not exist.", ListenKeyGone),
    (400, -2010, "NEW_ORDER_REJECTED", RequestRejected),
    (400, -2011, "Unknown order sent.", UnknownOrder),
    (400, -2013, "Order does not exist.", UnknownOrder),
    (401, -2014, "API-key format invalid.", AuthenticationFailed),
    (401, -2015, "Invalid API-key, IP, or permissions for action.", AuthenticationFailed),
    (400, -2018, "Balance is insufficient.", InsufficientMargin),
    (400, -2019, "Margin is insufficient.", InsufficientMargin),
    (400, -2022, "ReduceOnly Order is rejected.", RequestRejected),
    (400, -4003, "Quantity less than or equal to zero.", FilterViolation),
    (400, -4016, "Limit price can't be higher than 9953.53", FilterViolation),
    (400, -4116, "ClientOrderId is duplicated.", OutcomeUnknown),
    (400, -4120, "Order type not supported for this endpoint.", RequestRejected),
    (400, -4131, "The counterparty's best price does not meet the PERCENT_PRICE filter limit.", FilterViolation),
    (400, -4164, "Order's notional must be no smaller than 50 (unless you choose reduce only)", FilterViolation),
    (400, -5022, "The Post Only order will be rejected.", RequestRejected),
    (400, -5028, "Timestamp for this request is outside of the ME recvWindow.", ClockSkew),
    (400, -9999, "A code of the future.", RequestRejected),
    (503, -1000, "Unknown error, please check your request or try again later.", OutcomeUnknown),
    (503, 0, "Service Unavailable.", ExchangeUnavailable),
    (503, -1001, "Internal error; unable to process your request. Please try again.", ExchangeUnavailable),
    (
        503,
        -1008,
        "Request throttled by system-level protection. Reduce-only/close-position orders are exempt. Please try again.",
        ExchangeUnavailable,
    ),
    (
        503,
        -1008,
        "Server is currently overloaded with other requests. Please try again in a few minutes.",
        OutcomeUnknown,
    ),
    (500, -2019, "Margin is insufficient.", OutcomeUnknown),
    (418, -1003, "Way too many requests; IP(1.2.3.4) banned until 1795375395568.", IpBanned),
    (418, 0, "I'm a teapot", IpBanned),
]


@pytest.mark.parametrize(("status", "code", "message", "error"), FAULTS, ids=[f"{f[0]} {f[1]} {f[2]}" for f in FAULTS])
def test_each_error_answer_has_one_meaning(status: int, code: int, message: str, error: type[ExchangeError]) -> None:
    fault = to_error(status, error_body(code, message), {}, now_ms=NOW_MS)
    assert (type(fault), fault.code, fault.http_status, fault.text) == (error, code, status, message)


@pytest.mark.parametrize(("code", "error"), ERROR_OF_CODE.items())
def test_every_code_of_the_table_is_honoured_in_a_plain_refusal(code: int, error: type[ExchangeError]) -> None:
    assert type(to_error(400, error_body(code, "words"), {}, now_ms=NOW_MS)) is error


@pytest.mark.parametrize(
    ("status", "error"),
    [
        pytest.param(202, OutcomeUnknown, id="a challenge page instead of an answer"),
        pytest.param(302, OutcomeUnknown, id="a redirect"),
        pytest.param(403, RequestRejected, id="the firewall"),
        pytest.param(404, RequestRejected, id="no such path"),
        pytest.param(408, OutcomeUnknown, id="the back end timed out"),
        pytest.param(418, IpBanned, id="banned"),
        pytest.param(429, RateLimited, id="too many"),
        pytest.param(451, RequestRejected, id="region blocked"),
        pytest.param(500, OutcomeUnknown, id="internal error"),
        pytest.param(502, OutcomeUnknown, id="bad gateway"),
        pytest.param(503, OutcomeUnknown, id="a page of a content network"),
        pytest.param(504, OutcomeUnknown, id="gateway time-out"),
    ],
)
def test_a_page_that_is_not_json_is_judged_by_its_status(status: int, error: type[ExchangeError]) -> None:
    fault = to_error(status, b"<html><script>alert(1)</script></html>", {}, now_ms=NOW_MS)
    assert type(fault) is error
    assert "<" not in str(fault)


def test_a_documented_text_counts_even_without_its_json() -> None:
    assert type(to_error(503, b"Service Unavailable.\n", {}, now_ms=NOW_MS)) is ExchangeUnavailable


def test_a_text_that_only_resembles_a_documented_one_proves_nothing() -> None:
    assert type(to_error(503, error_body(0, "Service Unavailable"), {}, now_ms=NOW_MS)) is OutcomeUnknown


@pytest.mark.parametrize(
    ("header", "message", "expected_ms"),
    [
        pytest.param("7", "", 7_000, id="header in seconds"),
        pytest.param(None, "banned until 1795375395568.", 120_000, id="end of the ban in the text"),
        pytest.param("7", "banned until 1795375395568.", 120_000, id="the longer of both"),
        pytest.param(None, "banned until 1000.", 0, id="a ban that is over"),
        pytest.param("Fri, 31 Dec 2027 23:59:59 GMT", "", 0, id="a date is not understood"),
        pytest.param("-5", "", 0, id="a negative number is not understood"),
        pytest.param("9" * 5000, "", 0, id="an absurd number is not understood"),
        pytest.param(None, "", 0, id="nothing said"),
    ],
)
def test_the_silence_asked_for_is_read(header: str | None, message: str, expected_ms: int) -> None:
    headers = {} if header is None else {"retry-after": header}
    fault = to_error(418, error_body(-1003, message), headers, now_ms=NOW_MS)
    assert isinstance(fault, IpBanned)
    assert fault.retry_after_ms == expected_ms


@given(st.integers(100, 599), st.binary())
def test_any_answer_becomes_an_error_of_ours(status: int, body: bytes) -> None:
    assert isinstance(to_error(status, body, {}, now_ms=NOW_MS), ExchangeError)


@given(st.integers(500, 599), st.integers(-6000, 0), st.text())
def test_an_unrecognised_server_error_is_never_a_definite_no(status: int, code: int, message: str) -> None:
    fault = to_error(status, error_body(code, "?" + message), {}, now_ms=NOW_MS)
    assert type(fault) in (OutcomeUnknown, IpBanned)


@given(st.integers(-9999, 9999), st.text(st.characters(exclude_categories=["Cs"])))
def test_an_error_body_reads_back(code: int, message: str) -> None:
    assert decode_error_body(error_body(code, message)) == (code, message)


@pytest.mark.real_data
def test_recorded_error_bodies_are_understood(real_data: Path) -> None:
    entries = json.loads((real_data / "rest" / "fapi-error-bodies.json").read_text())
    for entry in entries:
        body = json.dumps(entry["body"]).encode() if isinstance(entry["body"], dict) else entry["body"].encode()
        fault = to_error(entry["http"] or 400, body, {}, now_ms=NOW_MS)
        if isinstance(entry["body"], dict):
            assert (fault.code, fault.text) == (entry["body"]["code"], entry["body"]["msg"])
        if entry["http"] == 503:
            assert type(fault) is OutcomeUnknown, entry


@pytest.mark.parametrize(("status", "words"), [(403, "firewall"), (451, "region")])
def test_who_is_not_let_in_is_told_why_in_words_and_never_in_a_page(status: int, words: str) -> None:
    error = to_error(status, b"<html><script>alert(1)</script>", {}, now_ms=NOW_MS)
    assert words in str(error)
    assert "<" not in str(error)
