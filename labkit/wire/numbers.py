"""Decimal ⇄ the exchange's digit strings, by one strict grammar.

The exchange writes prices, quantities and money as plain decimal text. Anything else that Python's `Decimal` would
read (`NaN`, `1e5`, `1_000`, full-width digits, blanks) is refused: it is not a number of this protocol.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Annotated

from msgspec import Meta

from labkit.errors import LocalProtocolError, RemoteProtocolError

# \Z, not $: `$` would let a trailing newline pass.
GRAMMAR = r"^-?[0-9]{1,15}(\.[0-9]{1,15})?\Z"
NumberText = Annotated[str, Meta(pattern=GRAMMAR)]
"""The type of a number in a wire struct: still text, but proven to be one."""

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""The type of a time, an id or a count in a wire struct: what a database and a binary log can hold."""

_matches = re.compile(GRAMMAR).match
_LAST_PLACE = Decimal("1e-15")
_LIMIT = Decimal(10) ** 15
_WIDE = Context(prec=40, rounding=ROUND_HALF_EVEN)


def parse_decimal(text: str) -> Decimal:
    """The number `text` spells. Raises `RemoteProtocolError` unless it is 1-15 digits and at most 15 decimals."""
    if _matches(text) is None:
        raise RemoteProtocolError(f"not a decimal number of this protocol: {text[:40]!r}")
    return Decimal(text)


def format_decimal(value: Decimal) -> str:
    """`value` as plain digits, trailing zeros kept, never an exponent.

    What has more than 15 decimals (a quotient such as an average price) is rounded half-even to 15. Raises
    `LocalProtocolError` for what the grammar cannot carry: not finite, or more than 15 digits before the point.
    """
    text = format(value, "f")
    if _matches(text) is not None:
        return text
    if not value.is_finite() or abs(value) >= _LIMIT:
        raise LocalProtocolError(f"this number cannot be sent: {value}")
    text = format(value.quantize(_LAST_PLACE, context=_WIDE), "f")
    if _matches(text) is None:
        raise LocalProtocolError(f"this number cannot be sent: {value}")
    return text
