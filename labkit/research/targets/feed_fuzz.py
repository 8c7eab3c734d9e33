"""G5: mutated JSON frames and broken WebSocket framing against the real feed, judged by a reader that shares no code.

A server written here sends each mutant between two sound frames in one piece; the sound one behind it must be shown.
What the feed then offers for decisions is held against an oracle made of `json` and the exchange's grammar. A changed
digit that is still a possible price nobody can tell from a true one: the oracle allows it, as the feed must.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import hashlib
import json
import random
import re
import struct
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from labkit.config import MonitorConfig
from labkit.domain.market_events import Quote
from labkit.edge.clocks import SystemClock
from labkit.edge.websocket import SocketStreams
from labkit.market.websocket_monitor import WebSocketMonitor
from labkit.research.targets.figure import Figure, quantile
from labkit.research.web_socket_frames import CLOSE, CONTINUATION, PING, PONG, TEXT, frame

SYMBOLS = ("BTCUSDT", "ETHUSDT")
MIDS = {"BTCUSDT": Decimal("91234.50"), "ETHUSDT": Decimal("3105.25")}
JSON_MUTANTS = 10_000
FRAMING_MUTANTS = 1_000
SHOWN_WITHIN_MS = 100
PATIENCE_SECONDS = 3.0
"""A sound frame that is not shown by then never will be."""
LEAST_TURNS = 100
GIVE_UP_AFTER = 3
STALL_SECONDS = 0.03
"""A connection that waits for bytes a broken header promised is cut by the server after this."""
FURTHEST_ID = 10**9
"""Mutants whose update id leaps further are drawn again: true ids could not catch up with them."""
_READ = frozenset(("stream", "data", "e", "u", "s", "b", "B", "a", "A", "E"))
"""What a quote is made of; other fields may be missing, twice or new (schema drift, X26)."""
_GRAMMAR = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)


# -- the oracle --------------------------------------------------------------------------------------------------


class Told(msgspec.Struct, frozen=True):
    """A quote as the oracle reads it."""

    symbol: str
    update_id: int
    bid: Decimal
    bid_quantity: Decimal
    ask: Decimal
    ask_quantity: Decimal


class _Nonsense(Exception):
    """Not a quote that may be believed."""


def read_strictly(payload: bytes) -> Told | None:
    """The quote in a combined frame, by the letter of the exchange's format; None if it is none to be believed."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in items if name in _READ]
        if len(set(names)) != len(names):
            raise _Nonsense
        return dict(items)

    def short(text: str) -> int | str:
        return int(text) if len(text) < 20 else text

    def refuse(text: str) -> Any:
        raise _Nonsense

    try:
        text = payload.decode("utf-8")
        message = json.loads(text, object_pairs_hook=pairs, parse_constant=refuse, parse_int=short)
        data = message["data"]
        name, kind = message["stream"].split("@")
        if data["e"] != "bookTicker" or kind != "bookTicker" or name != data["s"].lower():
            return None
        if not all(type(data[key]) is int and abs(data[key]) < 2**63 for key in "uE"):
            return None
        texts = [data[key] for key in "bBaA"]
        if not all(isinstance(text, str) and _GRAMMAR.fullmatch(text) for text in texts):
            return None
        bid, bid_quantity, ask, ask_quantity = map(Decimal, texts)
    except (_Nonsense, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not (0 < bid <= ask and bid_quantity > 0 and ask_quantity > 0):
        return None
    return Told(data["s"], data["u"], bid, bid_quantity, ask, ask_quantity)


class Oracle:
    """What may be offered for decisions, given what was sent."""

    def __init__(self) -> None:
        self.last: dict[str, Told] = {}
        self.allowed: set[Told] = set()

    def hear(self, payload: bytes) -> Told | None:
        """A frame was sent: from now on its quote may be offered, if it is one."""
        told = read_strictly(payload)
        if told is None or told.symbol not in SYMBOLS:
            return None
        last = self.last.get(told.symbol)
        mid = (told.bid + told.ask) / 2
        if abs(mid / MIDS[told.symbol] - 1) > Decimal("0.05") or (
            last is not None and told.update_id <= last.update_id
        ):
            return None
        self.last[told.symbol] = told
        self.allowed.add(told)
        return told

    def allows(self, quote: Told) -> bool:
        return quote in self.allowed


# -- feeds under trial -------------------------------------------------------------------------------------------


class Feed(Protocol):
    """What is tried: the feed of labkit, or one without its protections."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def offered(self, symbol: str) -> Told | None:
        """The quote that would be decided on now."""
        ...

    taken: list[Told]
    """Every quote that was offered at some moment, since it was last emptied."""


class OurFeed:
    """The real monitor."""

    def __init__(self, port: int) -> None:
        # Reconnects at once: how it backs off is another target's matter (G7).
        config = MonitorConfig(backoff_first_ms=1)
        streams = SocketStreams(f"ws://127.0.0.1:{port}", open_timeout_ms=config.open_timeout_ms)
        self.monitor = WebSocketMonitor(SYMBOLS, streams=streams, clock=SystemClock(), config=config)
        self.taken: list[Told] = []
        self.monitor.on_quote = self._on_quote

    async def start(self) -> None:
        await self.monitor.start()

    async def stop(self) -> None:
        await self.monitor.stop()

    def offered(self, symbol: str) -> Told | None:
        quote = self.monitor.fresh_quote(symbol)
        return None if quote is None else _told(quote)

    def _on_quote(self, quote: Quote) -> None:
        if self.monitor.fresh_quote(quote.symbol) is quote:
            self.taken.append(_told(quote))


class TrustingFeed:
    """The control: reads with `json` and believes what it reads, as many a client does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._task: asyncio.Task[None] | None = None
        self.taken: list[Told] = []
        self._latest: dict[str, Told] = {}

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def offered(self, symbol: str) -> Told | None:
        return self._latest.get(symbol)

    async def _run(self) -> None:
        from websockets.asyncio.client import connect

        while True:
            async with connect(f"ws://127.0.0.1:{self._port}/public/stream", compression=None) as socket:
                async for text in socket:
                    try:
                        self._believe(json.loads(text)["data"])
                    except Exception as error:
                        context = {"message": "a feed died", "exception": error}
                        asyncio.get_running_loop().call_exception_handler(context)

    def _believe(self, data: dict[str, Any]) -> None:
        prices = [Decimal(str(data[key])) for key in "bBaA"]
        told = Told(data["s"], data["u"], *prices)
        self._latest[told.symbol] = told
        self.taken.append(told)


def _told(quote: Quote) -> Told:
    return Told(quote.symbol, quote.update_id, quote.bid_price, quote.bid_quantity, quote.ask_price, quote.ask_quantity)


# -- the server --------------------------------------------------------------------------------------------------


class Server:
    """A WebSocket server of bytes: what is handed to `send` goes out as it is. Newest public connection only."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._public: asyncio.StreamWriter | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.connections = 0
        """How many public connections were made."""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        while self._open:
            await asyncio.sleep(0)

    async def connected(self, number: int) -> None:
        """Wait for the public connection of this number, counted from 1."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.connections < number:
                await asyncio.sleep(0.0005)

    def send(self, data: bytes) -> None:
        if self._public is not None:
            self._public.write(data)

    def cut(self) -> None:
        if self._public is not None:
            self._public.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        is_public = False
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            key = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
            assert key is not None
            digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
            )
            is_public = head.startswith(b"GET /public")
            if is_public:
                self._public = writer
                self.connections += 1
            # Clients' frames are masked and, being pings or farewells here, short (RFC 6455 §5.2).
            while header := await reader.read(2):
                payload = await reader.readexactly(4 + (header[1] & 0x7F))
                if header[0] & 0x0F == CLOSE:
                    return
                if header[0] & 0x0F == PING:
                    writer.write(frame(PONG, bytes(byte ^ payload[at % 4] for at, byte in enumerate(payload[4:]))))
        except (ConnectionError, asyncio.IncompleteReadError, IndexError):
            pass
        finally:
            self._open.discard(writer)
            if is_public and self._public is writer:
                self._public = None
            writer.close()


# -- mutants -----------------------------------------------------------------------------------------------------

_TOKENS = (
    b"NaN", b"Infinity", b"-Infinity", b"null", b"true", b"{}", b"[]", b'""', b'"NaN"', b'"Infinity"', b'"-1"', b'"0"',
    b'"0.0"', b'"1e5"', b'"1E400"', b'"+1"', b'" 1"', b'"1 "', b'"1_0"', b'"0x10"', b'".5"', b'"5."', b"1e999", b"-0",
    '"９１２３４"'.encode(), '"١٢٣"'.encode(), b'"1,5"', b'"' + b"9" * 5_000 + b'"', b"9" * 5_000, b'"\\u0031"', b"1.5",
    b"9223372036854775808", b"[" * 2_000, b'"91234.5\\n"', b'"--1"', b'"1.2.3"', b"0", b"-1", b'"\xff\xfe"',
)  # fmt: skip
_FIELD = re.compile(rb'"(u|s|b|B|a|A|T|E|e|stream|data)":("[^"]*"|\d+)')


def mutate(payload: bytes, chance: random.Random) -> bytes:
    """One of many ways to spoil a frame."""
    way = chance.randrange(12)
    at = chance.randrange(len(payload))
    fields = list(_FIELD.finditer(payload))
    field = chance.choice(fields)
    begin, end = field.span(2)
    match way:
        case 0:
            return payload[:at] + bytes([payload[at] ^ (1 << chance.randrange(8))]) + payload[at + 1 :]
        case 1:
            return payload[:at]
        case 2:
            return payload[:at] + bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9))) + payload[at:]
        case 3:
            return payload[:at] + payload[at + chance.randrange(1, 20) :]
        case 4 | 5 | 6:
            return payload[:begin] + chance.choice(_TOKENS) + payload[end:]
        case 7:
            # The same key twice, the second time with something else.
            other = chance.choice((*_TOKENS, b'"1"', payload[begin:end]))
            return payload[:end] + b',"' + field[1] + b'":' + other + payload[end:]
        case 8:
            one, two = sorted(chance.sample(fields, 2), key=lambda found: found.start())
            return (
                payload[: one.start(2)] + two[2] + payload[one.end(2) : two.start(2)] + one[2] + payload[two.end(2) :]
            )
        case 9:
            return payload[: field.start()] + payload[end:].lstrip(b",")
        case 10:
            return payload.replace(
                *chance.choice(((b"BTC", b"ETH"), (b"btc", b"eth"), (b"USDT", b"usdt"), (b"{", b"[")))
            )
        case _:
            digits = [place for place, byte in enumerate(payload) if 48 <= byte <= 57]
            place = chance.choice(digits)
            return payload[:place] + str(chance.randrange(10)).encode() + payload[place + 1 :]


def break_framing(payload: bytes, chance: random.Random) -> bytes:
    """Bytes that are no sound WebSocket frame, or one that is rarely seen, around `payload`."""
    sound = frame(TEXT, payload)
    way = chance.randrange(14)
    match way:
        case 0:
            return bytes([sound[0] | chance.choice((0x40, 0x20, 0x10, 0x70))]) + sound[1:]
        case 1:
            return frame(chance.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15)), payload)
        case 2:
            key = bytes(chance.randrange(256) for _ in range(4))
            masked = bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))
            return bytes([sound[0], sound[1] | 0x80]) + sound[2 : len(sound) - len(payload)] + key + masked
        case 3:
            return (
                struct.pack("!BBQ", 0x81, 127, chance.choice((1 << 63, (1 << 63) | 5, 1 << 40, 1 << 20 | 1))) + payload
            )
        case 4:
            return frame(CONTINUATION, payload)
        case 5:
            return frame(TEXT, payload[:20], final=False) + sound
        case 6:
            return frame(PING, payload[:60], final=False)
        case 7:
            return struct.pack("!BBH", 0x89, 126, 200) + b"p" * 200
        case 8:
            return frame(CLOSE, struct.pack("!H", chance.choice((0, 999, 1004, 1005, 1006, 1015, 2999, 5000))))
        case 9:
            return frame(CLOSE, b"\x03")
        case 10:
            return frame(TEXT, payload[:40] + b"\xff\xfe" + payload[40:])
        case 11:
            return sound[: chance.randrange(1, len(sound))]
        case 12:
            return bytes(chance.randrange(256) for _ in range(chance.randrange(2, 40)))
        case _:
            half = len(payload) // 2
            return frame(TEXT, payload[:half], final=False) + frame(PONG, b"") + frame(CONTINUATION, payload[half:])


# -- the trials --------------------------------------------------------------------------------------------------


class Outcome(msgspec.Struct):
    """What came of one series of mutants."""

    mutants: int = 0
    invalid_offered: int = 0
    task_deaths: int = 0
    never_shown: int = 0
    reconnections: int = 0
    wall_ms: list[float] = []
    cpu_ms: list[float] = []
    examples: list[str] = []

    def figures(self, what: str) -> list[Figure]:
        """The target's figures. Shown in time is judged by this process's own time: others may have the machine."""
        most_cpu = max(self.cpu_ms, default=float("inf"))
        median = quantile(self.wall_ms, 0.5) if self.wall_ms else float("inf")
        return [
            Figure(target="G5", name=f"{what}: mutants", value=self.mutants),
            Figure(target="G5", name=f"{what}: invalid quotes offered", value=self.invalid_offered, limit=0),
            Figure(target="G5", name=f"{what}: tasks that died", value=self.task_deaths, limit=0),
            Figure(target="G5", name=f"{what}: sound frames never shown", value=self.never_shown, limit=0),
            Figure(target="G5", name=f"{what}: next sound frame shown, median", value=median, unit="ms"),
            Figure(
                target="G5",
                name=f"{what}: the same, own time, longest",
                value=most_cpu,
                limit=SHOWN_WITHIN_MS,
                unit="ms",
            ),
        ]


class _Series:
    """One feed at one server."""

    def __init__(self, feed: Callable[[int], Feed], outcome: Outcome, chance: random.Random) -> None:
        self.server = Server()
        self.oracle = Oracle()
        self.outcome = outcome
        self._make = feed
        self._chance = chance
        self._clock = SystemClock()
        self._next_id = 1_000_000

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Feed]:
        await self.server.start()
        feed = self._make(self.server.port)
        await feed.start()
        try:
            yield feed
        finally:
            await feed.stop()
            await self.server.stop()

    def sound(self, symbol: str) -> tuple[bytes, Told]:
        """A frame as the exchange sends it, heard by the oracle."""
        last = self.oracle.last.get(symbol)
        self._next_id = max(self._next_id, last.update_id if last else 0) + 1
        payload = self._payload(symbol, self._next_id)
        told = self.oracle.hear(payload)
        assert told is not None, payload
        return payload, told

    def unheard(self, symbol: str) -> bytes:
        """A frame to be spoiled."""
        last = self.oracle.last.get(symbol)
        self._next_id = max(self._next_id, last.update_id if last else 0) + 1
        return self._payload(symbol, self._next_id)

    def _payload(self, symbol: str, update_id: int) -> bytes:
        bid = MIDS[symbol] + Decimal(self._chance.randrange(-500, 500)) / 100
        now_ms = self._clock.now_ms()
        return (
            f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"e":"bookTicker","u":{update_id},"s":"{symbol}",'
            f'"b":"{bid}","B":"{self._chance.randrange(1, 9_000) / 1_000}","a":"{bid + Decimal("0.10")}",'
            f'"A":"{self._chance.randrange(1, 9_000) / 1_000}","T":{now_ms - 1},"E":{now_ms}}}}}'
        ).encode()

    async def shown(self, feed: Feed, told: Told, seconds: float) -> bool:
        """Wait until the feed offers this very quote; False if it does not in time, or connects anew."""
        end, turns, connection = time.monotonic() + seconds, 0, self.server.connections
        while feed.offered(told.symbol) != told:
            # A machine that has others to serve may let all the time pass between two turns of ours.
            turns += 1
            if self.server.connections != connection or (time.monotonic() > end and turns > LEAST_TURNS):
                return False
            await asyncio.sleep(0)
        return True

    def judge(self, feed: Feed, mutant: bytes) -> None:
        """Count what was offered and must not have been."""
        offered = [*feed.taken, *(told for symbol in SYMBOLS if (told := feed.offered(symbol)) is not None)]
        feed.taken.clear()
        wrong = [told for told in offered if not self.oracle.allows(told)]
        self.outcome.invalid_offered += bool(wrong)
        if wrong and len(self.outcome.examples) < 100:
            self.outcome.examples.append(f"{mutant[:300]!r} -> {wrong[0]}")


async def mutated_json(feed: Callable[[int], Feed] = OurFeed, *, count: int = JSON_MUTANTS, seed: int = 5) -> Outcome:
    """Mutants of quotes, each between two sound frames, over one connection."""
    outcome, chance = Outcome(), random.Random(seed)
    series = _Series(feed, outcome, chance)
    with _counting_deaths(outcome):
        async with series.running() as running:
            await series.server.connected(1)
            for _ in range(count):
                symbol = chance.choice(SYMBOLS)
                before, _ = series.sound(symbol)
                mutant = mutate(series.unheard(symbol), chance)
                told = read_strictly(mutant)
                while told is not None and told.update_id > series._next_id + FURTHEST_ID:
                    mutant = mutate(series.unheard(symbol), chance)
                    told = read_strictly(mutant)
                series.oracle.hear(mutant)
                after, expected = series.sound(symbol)
                outcome.mutants += 1
                wall, cpu = time.monotonic(), time.process_time()
                series.server.send(frame(TEXT, before) + frame(TEXT, mutant) + frame(TEXT, after))
                if not await series.shown(running, expected, PATIENCE_SECONDS):
                    outcome.never_shown += 1
                    outcome.examples.append(f"never shown after {mutant[:300]!r}")
                    if outcome.never_shown >= GIVE_UP_AFTER:
                        break
                outcome.wall_ms.append((time.monotonic() - wall) * 1000)
                outcome.cpu_ms.append((time.process_time() - cpu) * 1000)
                series.judge(running, mutant)
    return outcome


async def broken_framing(
    feed: Callable[[int], Feed] = OurFeed, *, count: int = FRAMING_MUTANTS, seed: int = 6
) -> Outcome:
    """Bytes that break the protocol. Where the connection ends over them, the next one must show the sound frame."""
    outcome, chance = Outcome(), random.Random(seed)
    with _counting_deaths(outcome):
        for _ in range(count):
            series = _Series(feed, outcome, chance)
            async with series.running() as running:
                await series.server.connected(1)
                before, _ = series.sound("BTCUSDT")
                payload = series.unheard("BTCUSDT")
                mutant = break_framing(payload, chance)
                # Only a sound frame's payload may be offered; all of these are broken but the fragments.
                if mutant.startswith(frame(TEXT, payload[: len(payload) // 2], final=False)):
                    series.oracle.hear(payload)
                after, expected = series.sound("BTCUSDT")
                outcome.mutants += 1
                series.server.send(frame(TEXT, before) + mutant + frame(TEXT, after))
                if not await series.shown(running, expected, STALL_SECONDS):
                    outcome.reconnections += 1
                    if series.server.connections == 1:
                        series.server.cut()
                    try:
                        await series.server.connected(2)
                    except TimeoutError:
                        outcome.examples.append(f"no new connection after {mutant[:300]!r}")
                    again, expected = series.sound("BTCUSDT")
                    series.server.send(frame(TEXT, again))
                wall, cpu = time.monotonic(), time.process_time()
                if not await series.shown(running, expected, PATIENCE_SECONDS):
                    outcome.never_shown += 1
                    outcome.examples.append(f"never shown after {mutant[:300]!r}")
                outcome.wall_ms.append((time.monotonic() - wall) * 1000)
                outcome.cpu_ms.append((time.process_time() - cpu) * 1000)
                series.judge(running, mutant)
    return outcome


@contextlib.contextmanager
def _counting_deaths(outcome: Outcome):  # type: ignore[no-untyped-def]
    """Count what the loop is told of: a task that ended in an error, a callback that raised."""
    loop = asyncio.get_running_loop()

    def note(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        outcome.task_deaths += 1
        outcome.examples.append(f"died: {context}")

    before = loop.get_exception_handler()
    loop.set_exception_handler(note)
    try:
        yield
    finally:
        loop.set_exception_handler(before)


def figures() -> list[Figure]:
    """All of G5."""

    async def both() -> list[Figure]:
        return (await mutated_json()).figures("mutated JSON") + (await broken_framing()).figures("broken framing")

    # What others have left in this process must not be walked through in the middle of a measurement.
    gc.collect()
    gc.freeze()
    try:
        return asyncio.run(both())
    finally:
        gc.unfreeze()
