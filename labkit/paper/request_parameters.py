"""What a request asks for: its parameters, checked as they are read, and the rows that fit them.

Pure. Called by `rest_routes` and by those who answer: `market_answers`, `order_answers`, `account_answers`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from labkit.errors import ExchangeError, RemoteProtocolError
from labkit.paper.order_desk import refused
from labkit.wire.numbers import parse_decimal

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class Parameters:
    """The parameters of one request, checked as they are read."""

    def __init__(self, values: Mapping[str, str], symbols: Iterable[str]) -> None:
        self.values = values
        self._symbols = frozenset(symbols)

    def text(self, name: str) -> str:
        """A mandatory text."""
        value = self.values.get(name, "")
        if not value:
            raise missing(name)
        return value

    def symbol(self) -> str:
        """The mandatory symbol, if it is listed."""
        symbol = self.text("symbol")
        if symbol not in self._symbols:
            raise refused(-1121, "Invalid symbol.")
        return symbol

    def optional_symbol(self) -> str | None:
        return self.symbol() if self.values.get("symbol") else None

    def decimal(self, name: str) -> Decimal:
        """A mandatory number."""
        try:
            return parse_decimal(self.text(name))
        except RemoteProtocolError as error:
            raise missing(name) from error

    def integer(self, name: str) -> int | None:
        """An optional whole number."""
        text = self.values.get(name, "")
        if not text:
            return None
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise refused(-1130, f"Data sent for parameter '{name}' is not valid.")
        return int(text)

    def limit(self, default: int, largest: int) -> int:
        limit = self.integer("limit")
        if limit is None:
            return default
        if not 1 <= limit <= largest:
            raise refused(-1130, "Data sent for parameter 'limit' is not valid.")
        return limit

    def window(self) -> tuple[int | None, int | None]:
        """`startTime` and `endTime`, inclusive."""
        start_ms, end_ms = self.integer("startTime"), self.integer("endTime")
        if start_ms is not None and end_ms is not None and start_ms > end_ms:
            raise refused(-1023, "Start time is greater than end time.")
        return start_ms, end_ms

    def choice(self, name: str, kind: type[E], code: int) -> E:
        """A mandatory value of an enumeration; anything else is refused with `code`."""
        text = self.text(name)
        try:
            return kind(text)
        except ValueError as error:
            raise refused(code, f"Invalid {name}.") from error

    def flag(self, name: str) -> bool:
        """An optional `true` or `false`."""
        text = self.values.get(name, "false").lower()
        if text not in ("true", "false"):
            raise refused(-1130, f"Data sent for parameter '{name}' is not valid.")
        return text == "true"


def missing(name: str) -> ExchangeError:
    return refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def one_or_all(symbol: str | None, rows: list[T]) -> T | list[T]:
    """What is known of one symbol as an object, of all as an array."""
    if symbol is None:
        return rows
    if not rows:
        raise refused(-1122, "Invalid symbol status.")
    return rows[0]


def page(
    rows: Sequence[T],
    parameters: Parameters,
    default_limit: int,
    time_of: Callable[[T], int],
    *,
    from_the_start: bool = False,
) -> list[T]:
    """The rows inside the asked window, at most `limit`: the first ones where a start is given, else the latest."""
    start_ms, end_ms = parameters.window()
    limit = parameters.limit(default_limit, 1000)
    chosen = [
        row
        for row in rows
        if (start_ms is None or time_of(row) >= start_ms) and (end_ms is None or time_of(row) <= end_ms)
    ]
    return chosen[:limit] if from_the_start or start_ms is not None else chosen[-limit:]


Answer = Callable[[Parameters, int], bytes]
"""The body for these parameters at this time."""
