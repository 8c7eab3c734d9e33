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
from functools import lru_cache
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

# The columns of a symbol. A price or quantity is one number: its digits, and its count of decimals in the last bits.
EPOCH, MIDS, IS_UNREAD, IS_UNTOLD, IS_LISTENED_TO, FOLLOWED, NAME_SIZE, SYMBOL_SIZE = 0, 1, 2, 3, 4, 5, 6, 7
BID, BIDS, ASK, ASKS, UPDATE_ID, EVENT_MS, RECEIVED_NS = 8, 9, 10, 11, 12, 13, 14
NAME = 16
SYMBOL = NAME + LONGEST_NAME // 8
COLUMNS = SYMBOL + LONGEST_NAME // 8
_READ = struct.Struct("=7q")
# Products of a whole number and a place are exact in any context as wide as this one.
_exact = Context(prec=40).multiply
_PLACE = [Decimal(f"1E-{places}") for places in range(16)]
PLACES_BITS = 4
MOST_DIGITS = 10**17
KEPT_DECIMALS = 1 << 16

# All that is known lies in one array, because handing over several costs more than a quote does. It begins with what
# the lane notes: how many frames it took, the row whose quote a listener waits for, whether there is something the
# session was not told, the limit of age, where the index of names lies and its size, how many latencies were measured,
# and the last of these.
TAKEN, WAITED_FOR, IS_NEWS, STALE_MS, INDEX, INDEX_SIZE, MEASURED, LATENCIES = 0, 1, 2, 3, 4, 5, 6, 7
ROWS = LATENCIES + KEPT_LATENCIES + 1

_BEGINNING = np.frombuffer(b'{"stream":"', np.uint8)
_MIDDLE = np.frombuffer(b'@bookTicker","data":{"e":"bookTicker"', np.uint8)

_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
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
    numba.int64(_BYTES, _TABLE, _NUMBERS, numba.int64, numba.int64, numba.int64, numba.int64, numba.boolean),
    cache=True,
)
def _take(
    data: Any, spans: Any, memory: Any, first: int, count: int, epoch: int, received_ns: int, is_told: bool
) -> int:  # pragma: no cover - compiled
    """Take frames from `first` on until one is not ordinary; returns its number.

    If `is_told`, also until one was listened to; returns the number of the next one, negative.
    """
    texts, index, last_slot = memory.view(np.uint8), memory[INDEX], memory[INDEX_SIZE] - 1
    stale_ms = memory[STALE_MS]
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
        row, slot = np.int64(-1), np.int64(key & np.uint64(last_slot))
        while memory[index + slot] >= 0:
            candidate = memory[index + slot]
            if memory[candidate + NAME_SIZE] == length:
                is_it, text = True, (candidate + NAME) * 8
                for place in range(length):
                    if texts[text + place] != data[name + place]:
                        is_it = False
                        break
                if is_it:
                    row = candidate
                    break
            slot = (slot + 1) & last_slot
        if row < 0 or memory[row + EPOCH] != epoch:
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
                    if at < 0 or digits == 0 or digits >= MOST_DIGITS:
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
                    at += memory[row + SYMBOL_SIZE]
                    if at >= end:
                        return number
                    text = (row + SYMBOL) * 8
                    for place in range(at - begin):
                        if texts[text + place] != data[begin + place]:
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
        mids, held = bid_units + ask_units, memory[row + MIDS]
        if update_id <= memory[row + UPDATE_ID] or abs(mids - held) > held // BAND_PARTS:
            return number
        if now_ms - event_ms > stale_ms or event_ms - now_ms > stale_ms:
            return number

        memory[row + MIDS], memory[row + IS_UNREAD], memory[row + IS_UNTOLD] = mids, 1, 1
        memory[row + BID], memory[row + BIDS] = bid << PLACES_BITS | bid_places, bids << PLACES_BITS | bids_places
        memory[row + ASK], memory[row + ASKS] = ask << PLACES_BITS | ask_places, asks << PLACES_BITS | asks_places
        memory[row + UPDATE_ID], memory[row + EVENT_MS], memory[row + RECEIVED_NS] = update_id, event_ms, received_ns
        memory[LATENCIES + memory[MEASURED] % KEPT_LATENCIES] = now_ms - event_ms
        memory[MEASURED] += 1
        memory[TAKEN] += 1
        memory[IS_NEWS] = 1
        if is_told and memory[row + IS_LISTENED_TO]:
            memory[WAITED_FOR] = row
            return -(number + 1)
    return count


class QuoteLane:
    """The rows of all symbols, and the short way into them. Used by `QuoteCache`, which owns what they mean.

    A row is named by where it begins in the lane's memory.
    """

    def __init__(self, *, stale_after_ms: int) -> None:
        self._symbols: dict[int, str] = {}
        self._streams: dict[int, str] = {}
        self._free: list[int] = []
        self._rows_made = 0
        self._array = np.zeros(ROWS, np.int64)
        self._array[STALE_MS] = stale_after_ms
        self._grow(16)

    # Who is followed.

    def add(self, symbol: str) -> int:
        """The row of a symbol that nobody follows yet."""
        if self._free:
            row = self._free.pop()
        else:
            row = ROWS + self._rows_made * COLUMNS
            self._rows_made += 1
            if row == self._memory[INDEX]:
                self._grow(2 * self._rows_made)
        self._symbols[row] = symbol
        self._streams[row] = book_ticker_stream(symbol)
        self._clear(row)
        self._array[row + IS_LISTENED_TO] = True
        self._write_names(row, symbol)
        self._put_into_index(row, symbol)
        return row

    def remove(self, row: int) -> None:
        """The symbol of this row is watched no more."""
        self._clear(row)
        del self._symbols[row], self._streams[row]
        self._free.append(row)
        self._rebuild_index()

    def follow(self, row: int, quote: Quote, epoch: int) -> None:
        """Take what ordinarily comes after `quote`, an accepted quote of connection `epoch`."""
        units = (quote.bid_price + quote.ask_price).scaleb(PLACES)
        # A price finer or larger than the lane can hold is left to the strict way.
        if units == int(units) and 0 < units <= 2 * LARGEST_PRICE and quote.update_id >= 0:
            memory = self._memory
            memory[row + UPDATE_ID] = quote.update_id
            memory[row + MIDS] = int(units)
            memory[row + IS_UNREAD] = 0
            memory[row + EPOCH] = memory[row + FOLLOWED] = epoch

    def leave(self, row: int) -> None:
        """Take nothing more of this row until it is followed again."""
        self._memory[row + EPOCH] = NOBODY

    def leave_all(self) -> None:
        """Take nothing more of any row until it is followed again."""
        for row in self._symbols:
            self._memory[row + EPOCH] = NOBODY

    def listen(self, row: int, is_listened_to: bool) -> None:
        """Whether somebody wants to see each quote of this row; at first it is so."""
        self._memory[row + IS_LISTENED_TO] = is_listened_to

    # Frames in.

    def take(self, frames: Frames, first: int, epoch: int, received_ns: int, is_told: bool) -> int:
        """Take ordinary frames of connection `epoch` from number `first` on; returns the number of the first one left.

        If `is_told`, it also ends behind a frame whose symbol is listened to, which `waited_for` then names; to tell
        this, the number is returned as a negative one.
        """
        number: int = _take(frames.array, frames.spans, self._array, first, frames.count, epoch, received_ns, is_told)
        return number

    def heard(self) -> list[tuple[int, str, int]]:
        """Connection, stream and time in ms of the last quote taken of each row, since this was last asked."""
        memory = self._memory
        if not memory[IS_NEWS]:
            return []
        memory[IS_NEWS] = 0
        told = []
        for row, stream in self._streams.items():
            if memory[row + IS_UNTOLD]:
                memory[row + IS_UNTOLD] = 0
                told.append((memory[row + FOLLOWED], stream, memory[row + RECEIVED_NS] // 1_000_000))
        return told

    @property
    def taken(self) -> int:
        """How many frames the lane has taken in all."""
        return self._memory[TAKEN]

    def waited_for(self) -> str:
        """The symbol whose quote, just taken, a listener must be told."""
        return self._symbols[self._memory[WAITED_FOR]]

    # Facts out.

    def unread(self, row: int) -> Quote | None:
        """The row's quote if one came since it was last followed or read; asking again gives None."""
        memory = self._memory
        if not memory[row + IS_UNREAD]:
            return None
        memory[row + IS_UNREAD] = 0
        bid, bids, ask, asks, update_id, event_ms, received_ns = _READ.unpack_from(memory, (row + BID) * 8)
        return Quote(
            self._symbols[row],
            _decimals[bid],
            _decimals[bids],
            _decimals[ask],
            _decimals[asks],
            update_id,
            event_ms,
            received_ns,
        )

    def note_latency(self, latency_ms: int) -> None:
        """Keep one measurement of receive time minus exchange time."""
        memory = self._memory
        memory[LATENCIES + memory[MEASURED] % KEPT_LATENCIES] = latency_ms
        memory[MEASURED] += 1

    def latencies_ms(self) -> npt.NDArray[np.int64]:
        """The last measurements, in no order."""
        return self._array[LATENCIES : LATENCIES + min(self._memory[MEASURED], KEPT_LATENCIES)]

    # Inside.

    def _grow(self, room: int) -> None:
        """Memory for `room` rows and, behind them, the index: a table of rows by the hash of their name."""
        index_size = 4
        while index_size < 2 * room:
            index_size *= 2
        index = ROWS + room * COLUMNS
        kept = self._array[: max(ROWS, int(self._array[INDEX]))]
        self._array = np.zeros(index + index_size, np.int64)
        self._array[: len(kept)] = kept
        self._array[INDEX], self._array[INDEX_SIZE] = index, index_size
        # The same memory; a memoryview gives single numbers several times as fast as an array does.
        self._memory: memoryview[int] = self._array.data.cast("B").cast("q")
        self._rebuild_index()

    def _clear(self, row: int) -> None:
        self._array[row : row + COLUMNS] = 0
        self._array[row + EPOCH] = NOBODY

    def _write_names(self, row: int, symbol: str) -> None:
        names = ((symbol.lower().encode(), NAME_SIZE, NAME), (symbol.encode(), SYMBOL_SIZE, SYMBOL))
        if max(len(text) for text, _, _ in names) <= LONGEST_NAME:
            texts = self._array.view(np.uint8)
            for text, size, begin in names:
                self._array[row + size] = len(text)
                at = (row + begin) * 8
                texts[at : at + len(text)] = np.frombuffer(text, np.uint8)

    def _rebuild_index(self) -> None:
        self._array[self._memory[INDEX] :] = NOBODY
        for row, symbol in self._symbols.items():
            self._put_into_index(row, symbol)

    def _put_into_index(self, row: int, symbol: str) -> None:
        memory = self._memory
        index, last_slot = memory[INDEX], memory[INDEX_SIZE] - 1
        if memory[row + NAME_SIZE]:
            slot = _hash(symbol.lower().encode()) & last_slot
            while memory[index + slot] >= 0:
                slot = (slot + 1) & last_slot
            memory[index + slot] = row


class _Decimals(dict[int, Decimal]):
    """The exact number of a column. Prices and quantities come back again and again, so the last ones are kept."""

    def __missing__(self, number: int) -> Decimal:
        if len(self) >= KEPT_DECIMALS:
            self.clear()
        decimal = self[number] = _exact(number >> PLACES_BITS, _PLACE[number & 15])
        return decimal


_decimals = _Decimals()


@lru_cache(maxsize=4_096)
def _hash(name: bytes) -> int:
    """FNV-1a, as the compiled scan computes it."""
    key = 14695981039346656037
    for byte in name:
        key = (key ^ byte) * 1099511628211 & 0xFFFFFFFFFFFFFFFF
    return key
