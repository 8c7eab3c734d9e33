"""The strict grammar of numbers."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labkit.errors import LocalProtocolError, RemoteProtocolError
from labkit.wire.numbers import format_decimal, parse_decimal

sendable = st.decimals(
    min_value=Decimal("-999999999999999"), max_value=Decimal("999999999999999"), allow_nan=False, places=15
)


@pytest.mark.parametrize("text", ["0", "-0", "0.000", "91234.50", "-0.00012300", "999999999999999.999999999999999"])
def test_plain_digits_are_read_exactly(text: str) -> None:
    assert str(parse_decimal(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("NaN", id="not a number"),
        pytest.param("Infinity", id="infinity"),
        pytest.param("1e5", id="exponent"),
        pytest.param("1_000", id="underscore"),
        pytest.param("１２", id="full-width digits"),
        pytest.param("١", id="arabic digits"),
        pytest.param("+1", id="plus sign"),
        pytest.param(" 1", id="leading blank"),
        pytest.param("1\n", id="trailing newline"),
        pytest.param(".5", id="no digit before the point"),
        pytest.param("5.", id="no digit after the point"),
        pytest.param("1,5", id="comma"),
        pytest.param("1" * 16, id="sixteen digits"),
        pytest.param("0." + "1" * 16, id="sixteen decimals"),
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_decimal(text)


@given(sendable)
@example(Decimal("1E+3"))
@example(Decimal("1E-15"))
@example(Decimal("-0"))
def test_what_is_written_is_read_back_as_the_same_number(value: Decimal) -> None:
    assert parse_decimal(format_decimal(value)) == value


@given(st.text())
def test_any_text_is_a_number_or_refused(text: str) -> None:
    with suppress(RemoteProtocolError):
        assert parse_decimal(text).is_finite()


def test_trailing_zeros_survive() -> None:
    assert format_decimal(Decimal("0.500")) == "0.500"


def test_an_exponent_is_never_written() -> None:
    assert (format_decimal(Decimal("1E+3")), format_decimal(Decimal("1E-7"))) == ("1000", "0.0000001")


def test_an_endless_quotient_is_rounded_to_fifteen_decimals() -> None:
    assert format_decimal(Decimal(200_000) / 3) == "66666.666666666666667"


@pytest.mark.parametrize("value", ["NaN", "sNaN", "Infinity", "1E15", "-1E20", "999999999999999.9999999999999999"])
def test_what_the_grammar_cannot_carry_is_our_own_error(value: str) -> None:
    with pytest.raises(LocalProtocolError):
        format_decimal(Decimal(value))
