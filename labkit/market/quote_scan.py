"""The short way from recorded lines to a table of quotes: one compiled pass over a block's bytes.

It takes a block only if every line is spelled as the exchange spells it: a receive time, one blank, a combined frame,
and in a bookTicker frame seven plain members among whatever else. Anything else it refuses whole, and the caller reads
line by line. Numbers are exact: digits up to 2⁵³ over a power of ten up to 10²², whose quotient is the nearest double.
Times are UTC nanoseconds and exchange milliseconds, prices quote asset. Compiled, and in one file, so that its cache is
true. Used by `market.tapes`.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numba
import numpy as np
import numpy.typing as npt

SYMBOL_SLOTS = 4_096
MOST_SYMBOLS = SYMBOL_SLOTS // 2
LARGEST_EXACT = 2**53

_POWERS = np.array([10.0**places for places in range(23)])
_STREAM = np.frombuffer(b'{"stream":"', np.uint8)
_KIND = np.frombuffer(b"bookTicker", np.uint8)
_DATA = np.frombuffer(b'","data":{', np.uint8)

# What a quote consists of, as bits; E is what spot does not tell.
_BID, _BIDS, _ASK, _ASKS, _SYMBOL, _UPDATE_ID, _EVENT = 1, 2, 4, 8, 16, 32, 64
_NEEDED = _BID | _BIDS | _ASK | _ASKS | _SYMBOL | _UPDATE_ID

_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_NUMBERS = numba.types.Array(numba.int64, 1, "C")
_TABLE = numba.types.Array(numba.int64, 2, "C")
_FLOATS = numba.types.Array(numba.float64, 2, "C")
_helper: Any = numba.njit


class QuoteColumns(msgspec.Struct, frozen=True):
    """The quotes of one block, by columns. `codes` are places in `symbols`; `numbers` holds bid price and quantity,
    ask price and quantity."""

    symbols: tuple[str, ...]
    times: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64]
    update_ids: npt.NDArray[np.int64]
    event_times_ms: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.float64]


def scan_quotes(text: bytes, lines: int) -> QuoteColumns | None:
    """The quotes among `lines` whole lines of the raw layout, or None if one of them is out of the ordinary."""
    try:
        text.isascii() or text.decode()
    except UnicodeDecodeError:
        return None
    integers = np.empty((4, lines), np.int64)
    numbers = np.empty((4, lines))
    names = np.empty((MOST_SYMBOLS, 2), np.int64)
    told = np.zeros(2, np.int64)
    if not _scan(np.frombuffer(text, np.uint8), integers, numbers, names, told):
        return None
    count, distinct = told.tolist()
    symbols = tuple(text[start:end].decode() for start, end in names[:distinct].tolist())
    times, codes, update_ids, event_times_ms = integers[:, :count]
    return QuoteColumns(symbols, times, codes, update_ids, event_times_ms, numbers[:, :count])


@_helper  # type: ignore[untyped-decorator]
def _starts_with(data: Any, at: Any, end: Any, wanted: Any) -> Any:  # pragma: no cover - compiled
    if end - at < wanted.size:
        return False
    for place in range(wanted.size):  # noqa: SIM110 - numba knows no generators
        if data[at + place] != wanted[place]:
            return False
    return True


# As in `quote_lane`: numba's cache sees changes of its own file only, so each of the two has its own.
@_helper  # type: ignore[untyped-decorator]
def _integer(data: Any, at: Any, end: Any) -> Any:  # pragma: no cover - compiled
    """A JSON integer of up to 18 digits without a sign: its value and where it ends (-1 if none)."""
    value, begin = np.int64(0), at
    while at < end and 48 <= data[at] <= 57:
        if at - begin == 18:
            return value, -1
        value = value * 10 + np.int64(data[at] - 48)
        at += 1
    if at == begin or (data[begin] == 48 and at - begin > 1):
        return value, -1
    return value, at


@_helper  # type: ignore[untyped-decorator]
def _decimal(data: Any, at: Any, end: Any) -> Any:  # pragma: no cover - compiled
    """Digits with at most one point among them: the nearest double and where it ends (-1 if none)."""
    digits, places, begin, has_point = np.int64(0), 0, at, False
    while at < end and (48 <= data[at] <= 57 or (data[at] == 46 and not has_point and at > begin)):
        if data[at] == 46:
            has_point = True
        else:
            if digits > LARGEST_EXACT // 10 - 1:
                return 0.0, -1
            digits = digits * 10 + np.int64(data[at] - 48)
            places += has_point
        at += 1
    if (
        at == begin
        or data[at - 1] == 46
        or places > 22
        or (data[begin] == 48 and at > begin + 1 and data[begin + 1] != 46)
    ):
        return 0.0, -1
    return np.float64(digits) / _POWERS[places], at


@_helper  # type: ignore[untyped-decorator]
def _text_end(data: Any, at: Any, end: Any) -> Any:  # pragma: no cover - compiled
    """Where a plain JSON text ends (-1 if it holds an escape or a control character)."""
    while at < end and data[at] != 34:
        if data[at] < 32 or data[at] == 92:
            return -1
        at += 1
    return at if at < end else -1


@_helper  # type: ignore[untyped-decorator]
def _code_of(data: Any, begin: Any, end: Any, slots: Any, names: Any, told: Any) -> Any:  # pragma: no cover - compiled
    """The number of a symbol, a new one if it was not met before (-1 if there are too many)."""
    key = np.uint64(14695981039346656037)
    for place in range(begin, end):
        key = (key ^ np.uint64(data[place])) * np.uint64(1099511628211)
    slot = np.int64(key & np.uint64(SYMBOL_SLOTS - 1))
    while slots[slot] >= 0:
        code = slots[slot]
        start = names[code, 0]
        if names[code, 1] - start == end - begin:
            is_it = True
            for place in range(end - begin):
                if data[start + place] != data[begin + place]:
                    is_it = False
                    break
            if is_it:
                return code
        slot = (slot + 1) & (SYMBOL_SLOTS - 1)
    code = told[1]
    if code == MOST_SYMBOLS:
        return np.int64(-1)
    slots[slot] = code
    names[code, 0], names[code, 1] = begin, end
    told[1] += 1
    return code


@_helper  # type: ignore[untyped-decorator]
def _quote(
    data: Any, at: Any, end: Any, row: Any, integers: Any, numbers: Any, slots: Any, names: Any, told: Any
) -> Any:  # pragma: no cover - compiled
    """Read the members of a quote's `data` from `at` on; where its closing brace is, or -1."""
    seen = 0
    integers[3, row] = 0
    while True:
        # A member is at least "x":0 and two braces follow the last one.
        if end - at < 6 or data[at] != 34:
            return -1
        name_end = _text_end(data, at + 1, end)
        if name_end < 0 or name_end + 2 >= end or data[name_end + 1] != 58:
            return -1
        letter = data[at + 1] if name_end == at + 2 else np.uint8(0)
        at = name_end + 2
        bit = 0
        if data[at] == 34:
            begin = at + 1
            if letter == 98 or letter == 66 or letter == 97 or letter == 65:
                value, at = _decimal(data, begin, end)
                if at < 0 or at >= end or data[at] != 34:
                    return -1
                if letter == 98:
                    bit, place = _BID, 0
                elif letter == 66:
                    bit, place = _BIDS, 1
                elif letter == 97:
                    bit, place = _ASK, 2
                else:
                    bit, place = _ASKS, 3
                if value <= 0.0 and (letter == 98 or letter == 97):
                    return -1
                numbers[place, row] = value
            else:
                at = _text_end(data, begin, end)
                if at < 0 or letter == 117 or letter == 69:
                    return -1
                if letter == 115:
                    bit = _SYMBOL
                    code = _code_of(data, begin, at, slots, names, told)
                    if code < 0:
                        return -1
                    integers[1, row] = code
            at += 1
        else:
            whole, at = _integer(data, at, end)
            if at < 0 or letter == 98 or letter == 66 or letter == 97 or letter == 65 or letter == 115:
                return -1
            if letter == 117:
                bit = _UPDATE_ID
                integers[2, row] = whole
            elif letter == 69:
                bit = _EVENT
                integers[3, row] = whole
        if seen & bit:
            return -1
        seen |= bit
        if at >= end:
            return -1
        if data[at] == 125:
            return at if seen & _NEEDED == _NEEDED else -1
        if data[at] != 44:
            return -1
        at += 1


@numba.njit(numba.boolean(_BYTES, _TABLE, _FLOATS, _TABLE, _NUMBERS), cache=True, nogil=True)
def _scan(data: Any, integers: Any, numbers: Any, names: Any, told: Any) -> bool:  # pragma: no cover - compiled
    """Write the quotes of all lines; False where one line is not ordinary."""
    slots = np.full(SYMBOL_SLOTS, -1, np.int64)
    at, size = 0, data.size
    while at < size:
        begin = at
        while at < size and 48 <= data[at] <= 57:
            at += 1
        if at - begin != 19 and at - begin != 16:
            return False
        received = np.int64(0)
        for place in range(begin, at):
            received = received * 10 + np.int64(data[place] - 48)
        if at - begin == 16:
            received *= 1_000
        if at >= size or data[at] != 32 or not _starts_with(data, at + 1, size, _STREAM):
            return False
        name = at + 1 + _STREAM.size
        at = _text_end(data, name, size)
        if at < 0:
            return False
        mark = at - _KIND.size - 1
        is_quote = (
            mark >= name
            and _starts_with(data, mark + 1, size, _KIND)
            and (data[mark] == 64 or (data[mark] == 33 and mark == name))
        )
        if is_quote:
            if not _starts_with(data, at, size, _DATA):
                return False
            at = _quote(data, at + _DATA.size, size, told[0], integers, numbers, slots, names, told)
            if at < 0 or size - at < 3 or data[at + 1] != 125 or data[at + 2] != 10:
                return False
            integers[0, told[0]] = received
            told[0] += 1
            at += 3
        else:
            while at < size and data[at] != 10:
                at += 1
            if at == size:
                return False
            at += 1
    return True
