"""QuoteLane: the short way of an ordinary bookTicker frame into the quote cache. Compiled; one file, so that its cache
is true.

The strict way (`wire.streams.decode_frame`, then `QuoteCache.accept_quote`) decides everything that needs deciding.
The lane takes a frame only if that way would certainly accept it: the exchange's plain spelling, a symbol being
followed on this very connection, all numbers valid, the update id risen, the price near the last one, the time recent.
Whatever else it sees it leaves untouched for the strict way, which alone refuses, and counts, and names.

Prices are whole numbers with a count of decimals, so nothing is rounded; times are market milliseconds.
"""

from __future__ import annotations

import struct
from decimal import Context, Decimal
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from labkit.domain.market_events import Quote
from labkit.wire.frames import Frames
from labkit.wire.streams import book_ticker_stream

KEPT_LATENCIES = 4_096
LONGEST_NAME = 48
PLACES = 8
"""Prices are compared in units of 10 to the power of minus this."""
LARGEST_PRICE = 2 * 10**18
"""In those units; the sum of two still fits 64 bits."""
BAND_PARTS = 20
"""A mid price may move by one part in so many; must be the inverse of `quotes.JUMP_BAND`."""
NOBODY = -1

# The columns of a followed symbol.
EPOCH, UPDATE_ID, MIDS, IS_UNREAD, IS_UNTOLD = 0, 1, 2, 3, 4
BID, BID_PLACES, BIDS, BIDS_PLACES, ASK, ASK_PLACES, ASKS, ASKS_PLACES = 5, 6, 7, 8, 9, 10, 11, 12
EVENT_MS, RECEIVED_NS = 13, 14
FOLLOWED, IS_LISTENED_TO = 15, 16
COLUMNS = 17
# Products of a whole number and a place are exact in any context as wide as this one.
_exact = Context(prec=40).multiply
_PLACE = [Decimal(f"1E-{places}") for places in range(16)]
_READ = struct.Struct("=8q")
_READ_AT = BID * 8

# What the lane notes: how many frames it took, the row whose quote a listener waits for, whether the session knows what
# was heard, how many latencies were measured, and the last of these.
TAKEN, WAITED_FOR, IS_NEWS, MEASURED, LATENCIES = 0, 1, 2, 3, 4

_BEGINNING = np.frombuffer(b'{"stream":"', np.uint8)
_MIDDLE = np.frombuffer(b'@bookTicker","data":{"e":"bookTicker"', np.uint8)

_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_NAMES = numba.types.Array(numba.uint8, 2, "C")
_NUMBERS = numba.types.Array(numba.int64, 1, "C")
_TABLE = numba.types.Array(numba.int64, 2, "C")
_helper: Any = numba.njit


@_helper  # type: ignore[untyped-decorator]
def _number(data: Any, at: Any, end: Any) -> Any:  # pragma: no cover - compiled
    """A number of the strict grammar, without a sign: its digits, its decimals and where it ends (-1 if none)."""
    digits, places, begin = np.int64(0), np.int64(0), at
    while at < end and 48 <= data[at] <= 57:
        if at - begin == 15:
            return digits, places, -1
        digits = digits * 10 + np.int64(data[at] - 48)
        at += 1
    if at == begin:
        return digits, places, -1
    if at < end and data[at] == 46:
        point = at
        at += 1
        while at < end and 48 <= data[at] <= 57:
            if at - begin > 18:
                return digits, places, -1
            digits = digits * 10 + np.int64(data[at] - 48)
            at += 1
        places = np.int64(at - point - 1)
        if places == 0 or places > 15:
            return digits, places, -1
    return digits, places, at


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
def _in_units(digits: Any, places: Any) -> Any:  # pragma: no cover - compiled
    """The price in units of 10 to the power of -PLACES, or -1 if that cannot be held."""
    if places > PLACES:
        return -1
    value = digits
    for _ in range(PLACES - places):
        if value > LARGEST_PRICE // 10:
            return -1
        value *= 10
    return value if value <= LARGEST_PRICE else -1


@numba.njit(
    numba.int64(
        _BYTES, _TABLE, numba.int64, numba.int64, numba.int64, numba.int64, numba.int64, numba.boolean,
        _NUMBERS, _NAMES, _TABLE, _NUMBERS,
    ),
    cache=True,
)  # fmt: skip
def _take(
    data: Any, spans: Any, first: int, count: int, epoch: int, received_ns: int, stale_ms: int, is_told: bool,
    index: Any, names: Any, rows: Any, notes: Any,
) -> int:  # fmt: skip  # pragma: no cover - compiled
    """Take frames from `first` on until one is not ordinary or, if `is_told`, was listened to; returns the next one."""
    now_ms = received_ns // 1_000_000
    for number in range(first, count):
        at, end = spans[number, 0], spans[number, 1]
        if end - at < 80:
            return number
        for place in range(_BEGINNING.size):
            if data[at + place] != _BEGINNING[place]:
                return number
        at += _BEGINNING.size

        name, key = at, np.uint64(14695981039346656037)
        while at < end and data[at] != 64:
            key = (key ^ np.uint64(data[at])) * np.uint64(1099511628211)
            at += 1
        length = at - name
        if end - at < _MIDDLE.size:
            return number
        for place in range(_MIDDLE.size):
            if data[at + place] != _MIDDLE[place]:
                return number
        at += _MIDDLE.size
        row, slot = np.int64(-1), np.int64(key & np.uint64(index.size - 1))
        while index[slot] >= 0:
            candidate = index[slot]
            if names[candidate, 0] == length:
                is_it = True
                for place in range(length):
                    if names[candidate, 2 + place] != data[name + place]:
                        is_it = False
                        break
                if is_it:
                    row = candidate
                    break
            slot = (slot + 1) & (index.size - 1)
        if row < 0 or rows[row, EPOCH] != epoch:
            return number

        seen = np.int64(0)
        update_id, event_ms = np.int64(0), np.int64(0)
        bid, bid_places, bids, bids_places = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
        ask, ask_places, asks, asks_places = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
        while True:
            # The shortest member is ,"x":0 and two braces follow it.
            if end - at < 2:
                return number
            if data[at] == 125:
                break
            if end - at < 8 or data[at] != 44 or data[at + 1] != 34:
                return number
            letter = data[at + 2]
            if not (65 <= letter <= 90 or 97 <= letter <= 122):
                return number
            if data[at + 3] != 34:
                # Two letters: nothing we read.
                if not 97 <= data[at + 3] <= 122 or data[at + 4] != 34:
                    return number
                letter = np.uint8(0)
                at += 1
            if data[at + 4] != 58:
                return number
            at += 5
            if data[at] == 34:
                at += 1
                begin = at
                if letter == 98 or letter == 66 or letter == 97 or letter == 65:
                    digits, places, at = _number(data, at, end)
                    if at < 0 or digits == 0:
                        return number
                    if letter == 98:
                        flag, bid, bid_places = 1, digits, places
                    elif letter == 66:
                        flag, bids, bids_places = 2, digits, places
                    elif letter == 97:
                        flag, ask, ask_places = 4, digits, places
                    else:
                        flag, asks, asks_places = 8, digits, places
                elif letter == 115:
                    flag = 16
                    at += names[row, 1]
                    if at >= end:
                        return number
                    for place in range(at - begin):
                        if names[row, 2 + LONGEST_NAME + place] != data[begin + place]:
                            return number
                elif letter == 117 or letter == 69 or letter == 101:
                    return number
                else:
                    flag = 0
                    while at < end and 32 <= data[at] < 127 and data[at] != 34 and data[at] != 92:
                        at += 1
                if at >= end or data[at] != 34:
                    return number
                at += 1
            else:
                value, at = _integer(data, at, end)
                if at < 0:
                    return number
                flag = 0
                if letter == 117:
                    flag, update_id = 32, value
                elif letter == 69:
                    flag, event_ms = 64, value
                elif letter in (97, 98, 65, 66, 101, 115):
                    return number
            if seen & flag:
                return number
            seen |= flag
        if seen != 127 or end - at != 2 or data[at + 1] != 125:
            return number

        bid_units, ask_units = _in_units(bid, bid_places), _in_units(ask, ask_places)
        if bid_units < 0 or ask_units < 0 or bid_units > ask_units:
            return number
        mids, held = bid_units + ask_units, rows[row, MIDS]
        if update_id <= rows[row, UPDATE_ID] or abs(mids - held) > held // BAND_PARTS:
            return number
        if now_ms - event_ms > stale_ms or event_ms - now_ms > stale_ms:
            return number

        rows[row, UPDATE_ID], rows[row, MIDS], rows[row, IS_UNREAD] = update_id, mids, 1
        rows[row, BID], rows[row, BID_PLACES], rows[row, BIDS], rows[row, BIDS_PLACES] = (
            bid, bid_places, bids, bids_places
        )  # fmt: skip
        rows[row, ASK], rows[row, ASK_PLACES], rows[row, ASKS], rows[row, ASKS_PLACES] = (
            ask, ask_places, asks, asks_places
        )  # fmt: skip
        rows[row, EVENT_MS], rows[row, RECEIVED_NS] = event_ms, received_ns
        notes[LATENCIES + notes[MEASURED] % KEPT_LATENCIES] = now_ms - event_ms
        notes[MEASURED] += 1
        notes[TAKEN] += 1
        notes[IS_NEWS] = 1
        rows[row, IS_UNTOLD] = 1
        if is_told and rows[row, IS_LISTENED_TO]:
            notes[WAITED_FOR] = row
            return number + 1
    return count


class QuoteLane:
    """The rows of all symbols, and the short way into them. Used by `QuoteCache`, which owns what they mean."""

    def __init__(self, *, stale_after_ms: int) -> None:
        self._stale_after_ms = stale_after_ms
        self._symbols: list[str] = []
        self._streams: list[str] = []
        self._free: list[int] = []
        self._index = np.full(2, -1, np.int64)
        self._names = np.zeros((0, 2 + 2 * LONGEST_NAME), np.uint8)
        self._rows = np.zeros((0, COLUMNS), np.int64)
        self._notes = np.zeros(LATENCIES + KEPT_LATENCIES, np.int64)
        self._notes[WAITED_FOR] = NOBODY
        self._memory = _numbers_in(self._rows)

    # Who is followed.

    def add(self, symbol: str) -> int:
        """The row of a symbol that nobody follows yet."""
        row = self._free.pop() if self._free else len(self._symbols)
        if row == len(self._symbols):
            self._symbols.append("")
            self._streams.append("")
            if row == len(self._rows):
                self._grow(max(16, 2 * row))
        self._symbols[row] = symbol
        self._streams[row] = book_ticker_stream(symbol)
        self._rows[row] = 0
        self._rows[row, EPOCH] = NOBODY
        self._rows[row, IS_LISTENED_TO] = True
        self._write_names(row, symbol)
        self._rebuild_index()
        return row

    def remove(self, row: int) -> None:
        """The symbol of this row is watched no more."""
        self._rows[row] = 0
        self._rows[row, EPOCH] = NOBODY
        self._symbols[row] = ""
        self._free.append(row)
        self._rebuild_index()

    def follow(self, row: int, quote: Quote, epoch: int) -> None:
        """Take what ordinarily comes after `quote`, an accepted quote of connection `epoch`."""
        units = (quote.bid_price + quote.ask_price).scaleb(PLACES)
        # A price finer or larger than the lane can hold is left to the strict way.
        if units == int(units) and 0 < units <= 2 * LARGEST_PRICE and quote.update_id >= 0:
            self._rows[row, UPDATE_ID] = quote.update_id
            self._rows[row, MIDS] = int(units)
            self._rows[row, IS_UNREAD] = 0
            self._rows[row, EPOCH] = self._rows[row, FOLLOWED] = epoch

    def leave(self, row: int) -> None:
        """Take nothing more of this row until it is followed again."""
        self._rows[row, EPOCH] = NOBODY

    def leave_all(self) -> None:
        """Take nothing more of any row until it is followed again."""
        self._rows[:, EPOCH] = NOBODY

    def listen(self, row: int, is_listened_to: bool) -> None:
        """Whether somebody wants to see each quote of this row; at first it is so."""
        self._rows[row, IS_LISTENED_TO] = is_listened_to

    # Frames in.

    def take(self, frames: Frames, first: int, epoch: int, received_ns: int, is_told: bool) -> int:
        """Take ordinary frames of connection `epoch` from number `first` on; if `is_told`, up to the first whose symbol
        is listened to, which `waited_for` then names.

        Returns the number of the first frame that was left.
        """
        number: int = _take(
            frames.array, frames.spans, first, frames.count, epoch, received_ns, self._stale_after_ms, is_told,
            self._index, self._names, self._rows, self._notes,
        )  # fmt: skip
        return number

    def heard(self) -> list[tuple[int, str, int]]:
        """Connection, stream and time in ms of the last quote taken of each row, since this was last asked."""
        if not self._notes[IS_NEWS]:
            return []
        self._notes[IS_NEWS] = 0
        told = []
        for row in np.flatnonzero(self._rows[:, IS_UNTOLD]).tolist():
            self._rows[row, IS_UNTOLD] = 0
            epoch, received_ns = int(self._rows[row, FOLLOWED]), int(self._rows[row, RECEIVED_NS])
            told.append((epoch, self._streams[row], received_ns // 1_000_000))
        return told

    @property
    def taken(self) -> int:
        """How many frames the lane has taken in all."""
        return int(self._notes[TAKEN])

    def waited_for(self) -> str:
        """The symbol whose quote, just taken, a listener must be told; asking again gives an empty string."""
        if (row := int(self._notes[WAITED_FOR])) == NOBODY:
            return ""
        self._notes[WAITED_FOR] = NOBODY
        return self._symbols[row]

    # Facts out.

    def unread(self, row: int) -> Quote | None:
        """The row's quote if one came since it was last followed or read; asking again gives None."""
        at = row * COLUMNS
        memory = self._memory
        if not memory[at + IS_UNREAD]:
            return None
        memory[at + IS_UNREAD] = 0
        bid, bid_places, bids, bids_places, ask, ask_places, asks, asks_places = _READ.unpack_from(
            memory, at * 8 + _READ_AT
        )
        return Quote(
            self._symbols[row],
            _exact(bid, _PLACE[bid_places]),
            _exact(bids, _PLACE[bids_places]),
            _exact(ask, _PLACE[ask_places]),
            _exact(asks, _PLACE[asks_places]),
            memory[at + UPDATE_ID],
            memory[at + EVENT_MS],
            memory[at + RECEIVED_NS],
        )

    def note_latency(self, latency_ms: int) -> None:
        """Keep one measurement of receive time minus exchange time."""
        notes = self._notes
        notes[LATENCIES + notes[MEASURED] % KEPT_LATENCIES] = latency_ms
        notes[MEASURED] += 1

    def latencies_ms(self) -> npt.NDArray[np.int64]:
        """The last measurements, in no order."""
        return self._notes[LATENCIES : LATENCIES + min(int(self._notes[MEASURED]), KEPT_LATENCIES)]

    # Inside.

    def _grow(self, room: int) -> None:
        for name in ("_names", "_rows"):
            old = getattr(self, name)
            new = np.zeros((room, old.shape[1]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
        self._memory = _numbers_in(self._rows)

    def _write_names(self, row: int, symbol: str) -> None:
        self._names[row] = 0
        texts = (symbol.lower().encode(), symbol.encode())
        if max(map(len, texts)) <= LONGEST_NAME:
            for number, text in enumerate(texts):
                self._names[row, number] = len(text)
                begin = 2 + number * LONGEST_NAME
                self._names[row, begin : begin + len(text)] = np.frombuffer(text, np.uint8)

    def _rebuild_index(self) -> None:
        size = 4
        while size < 2 * len(self._symbols):
            size *= 2
        self._index = np.full(size, -1, np.int64)
        for row, symbol in enumerate(self._symbols):
            if symbol and self._names[row, 0]:
                slot = _hash(symbol.lower().encode()) & (size - 1)
                while self._index[slot] >= 0:
                    slot = (slot + 1) & (size - 1)
                self._index[slot] = row


def _numbers_in(rows: npt.NDArray[np.int64]) -> memoryview[int]:
    """The same memory; a memoryview gives single numbers several times as fast as an array does."""
    return rows.reshape(-1).data.cast("B").cast("q")


def _hash(name: bytes) -> int:
    """FNV-1a, as the compiled scan computes it."""
    key = 14695981039346656037
    for byte in name:
        key = (key ^ byte) * 1099511628211 & 0xFFFFFFFFFFFFFFFF
    return key
