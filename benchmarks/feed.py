"""What one bookTicker message costs: the CPU time of the client's process, all clients on one server, side by side.

    python benchmarks/feed.py [--rounds 3] [--only NAME ...]

The server is a process of its own that writes ready-made frames of 50 symbols. *Full load* sends them as fast as the
client reads; *paced* sends 2,000 a second, one at a time. Each client runs in a fresh process and is measured from
just before its first message to its last. The absolute figures are this machine's; the ratios are the result. A
client whose library is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import logging
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

SYMBOLS = tuple(f"COIN{number:02}USDT" for number in range(50))
PACE_PER_SECOND = 2_000
PACED_MESSAGES = 8_000
PREPARING_SECONDS = 1.0
FRAMES_AT_ONCE = 1_000
HOST = "127.0.0.1"


# ---------------------------------------------------------------------------------------------------------- the server


def text_frame(payload: bytes) -> bytes:
    """An unmasked text frame of a server."""
    length = len(payload)
    return bytes([0x81, length] if length < 126 else [0x81, 126, length >> 8, length & 0xFF]) + payload


def book_ticker(symbol: str, update_id: int, at_ms: int, *, combined: bool) -> bytes:
    """A frame as the exchange writes it; the price wanders a little."""
    cents = 2_814_510 + update_id % 97
    bid = f"{cents // 100}.{cents % 100:02}"
    event = (
        f'{{"e":"bookTicker","u":{2_710_246_762_461 + update_id},"s":"{symbol}","ps":"{symbol}",'
        f'"b":"{bid}","B":"3.868","a":"{bid}","A":"{update_id % 9 + 1}.887",'
        f'"T":{at_ms - 5},"E":{at_ms},"st":1}}'
    )
    return text_frame((f'{{"stream":"{symbol.lower()}@bookTicker","data":{event}}}' if combined else event).encode())


async def serve(count: int, paced: bool) -> None:
    """Print the port, then send `count` messages, spread over the symbols, to each client that comes."""
    from websockets.frames import Frame
    from websockets.server import ServerProtocol

    from labkit.edge.clocks import SystemClock

    clock_ms = SystemClock().now_ms
    rest = time.sleep  # Blocking on purpose: a loop's timers are too coarse for half a millisecond.

    async def send_quotes(writer: asyncio.StreamWriter, symbols: list[str], share: int, combined: bool) -> None:
        for number, symbol in enumerate(symbols):
            writer.write(book_ticker(symbol, number, clock_ms(), combined=combined))
        await asyncio.sleep(PREPARING_SECONDS)
        if paced:
            begin = time.monotonic()
            for number in range(share):
                rest(max(0.0, begin + number / PACE_PER_SECOND - time.monotonic()))
                symbol = symbols[number % len(symbols)]
                writer.write(book_ticker(symbol, 1000 + number, clock_ms(), combined=combined))
                if number % 20 == 0:
                    await asyncio.sleep(0)
            return
        at_ms = clock_ms()
        # Whole frames at a time: an answer to a ping must not fall into the middle of one.
        chunks = [
            b"".join(
                book_ticker(symbols[number % len(symbols)], 1000 + number, at_ms, combined=combined)
                for number in range(begin_number, min(share, begin_number + FRAMES_AT_ONCE))
            )
            for begin_number in range(0, share, FRAMES_AT_ONCE)
        ]
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()

    async def send_marks(writer: asyncio.StreamWriter) -> None:
        while True:
            at_ms = clock_ms()
            event = (
                f'{{"e":"markPriceUpdate","E":{at_ms},"s":"{SYMBOLS[0]}","p":"28145.15","i":"28145.00","r":"0.0001",'
                f'"T":{at_ms + 60_000}}}'
            )
            writer.write(text_frame(f'{{"stream":"{SYMBOLS[0].lower()}@markPrice@1s","data":{event}}}'.encode()))
            await asyncio.sleep(1)

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol, sending = ServerProtocol(), None
        try:
            while data := await reader.read(1 << 16):
                protocol.receive_data(data)
                for event in protocol.events_received():
                    if isinstance(event, Frame):
                        continue
                    protocol.send_response(protocol.accept(event))
                    url = urlsplit(event.path)
                    streams = parse_qs(url.query).get("streams", [url.path.rpartition("/")[2]])[0].split("/")
                    symbols = [name.partition("@")[0].upper() for name in streams if name.endswith("@bookTicker")]
                    for chunk in protocol.data_to_send():
                        writer.write(chunk)
                    share = count * len(symbols) // len(SYMBOLS)
                    combined = "/stream" in url.path
                    if symbols[:1] == [SYMBOLS[0]] and combined:
                        # What does not fit into the address is subscribed to; here everybody gets all of them.
                        symbols, share = list(SYMBOLS), count
                    work = send_quotes(writer, symbols, share, combined) if symbols else send_marks(writer)
                    sending = asyncio.create_task(work)
                for chunk in protocol.data_to_send():
                    writer.write(chunk)
        except ConnectionError:
            pass
        finally:
            if sending is not None:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                    await sending
            writer.close()

    # Whoever has heard enough hangs up in the middle of everything.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    server = await asyncio.start_server(visit, HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# --------------------------------------------------------------------------------------------------------- the clients


class Progress:
    """Counts messages and measures CPU time between the warm-up and the last one."""

    def __init__(self, count: int) -> None:
        self.left = count + len(SYMBOLS)
        self.done = asyncio.get_running_loop().create_future()

    def message(self) -> None:
        self.left -= 1
        if not self.left:
            self.done.set_result(None)


COMBINED = "/public/stream?streams=" + "/".join(f"{symbol.lower()}@bookTicker" for symbol in SYMBOLS)


async def until(progress: Progress, reading: Callable[[], Awaitable[Any]]) -> float:
    """CPU seconds from the end of the warm-up to the last message."""
    task = asyncio.ensure_future(reading())
    await asyncio.sleep(PREPARING_SECONDS / 2)
    before = time.process_time()
    await progress.done
    seconds = time.process_time() - before
    task.cancel()
    return seconds


async def json_per_symbol(port: int, count: int) -> float:
    from websockets.asyncio.client import connect

    progress, prices = Progress(count), {}

    async def read(symbol: str) -> None:
        async with connect(f"ws://{HOST}:{port}/public/ws/{symbol.lower()}@bookTicker", compression=None) as socket:
            async for text in socket:
                event = json.loads(text)
                prices[event["s"]] = float(event["b"]), float(event["a"])
                progress.message()

    async def read_all() -> None:
        await asyncio.gather(*(read(symbol) for symbol in SYMBOLS))

    return await until(progress, read_all)


def struct_decoder() -> Callable[[bytes], Any]:
    import msgspec

    fields = [("u", int), ("s", str), ("b", str), ("B", str), ("a", str), ("A", str), ("E", int)]
    event = msgspec.defstruct("Event", fields)
    combined = msgspec.defstruct("Combined", [("stream", str), ("data", event)])
    return msgspec.json.Decoder(combined).decode


async def websockets_msgspec(port: int, count: int) -> float:
    from websockets.asyncio.client import connect

    progress, prices, decode = Progress(count), {}, struct_decoder()

    async def read() -> None:
        async with connect(f"ws://{HOST}:{port}{COMBINED}", compression=None) as socket:
            while True:
                event = decode(await socket.recv(decode=False)).data
                prices[event.s] = event
                progress.message()

    return await until(progress, read)


async def aiohttp_msgspec(port: int, count: int) -> float:
    import aiohttp

    progress, prices, decode = Progress(count), {}, struct_decoder()

    async def read() -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{HOST}:{port}{COMBINED}") as socket:
            async for message in socket:
                event = decode(message.data).data
                prices[event.s] = event
                progress.message()

    return await until(progress, read)


async def picows_msgspec(port: int, count: int) -> float:
    from picows import WSFrame, WSListener, WSTransport, ws_connect

    progress, prices, decode = Progress(count), {}, struct_decoder()

    class Listener(WSListener):  # type: ignore[misc]
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            event = decode(frame.get_payload_as_memoryview()).data
            prices[event.s] = event
            progress.message()

    async def read() -> None:
        await ws_connect(Listener, f"ws://{HOST}:{port}{COMBINED}")

    return await until(progress, read)


async def monitor(port: int, count: int, *, listening: bool = False) -> float:
    from labkit.config import MonitorConfig
    from labkit.edge.websocket import SocketStreams
    from labkit.market.websocket_monitor import WebSocketMonitor

    # The frames of a full load are made in advance, on a busy machine some seconds before they are sent.
    config = MonitorConfig(stale_after_ms=60_000)
    streams = SocketStreams(f"ws://{HOST}:{port}", open_timeout_ms=5_000)
    watched = WebSocketMonitor(SYMBOLS, streams=streams, config=config)
    heard: list[str] = [""]
    if listening:
        watched.on_quote = lambda quote: heard.__setitem__(0, quote.symbol)

    async def all_here() -> None:
        while watched.frames_by_stream_type["bookTicker"] < count + len(SYMBOLS):
            await asyncio.sleep(0.1)

    await watched.start()
    await asyncio.sleep(PREPARING_SECONDS / 2)
    before = time.process_time()
    await all_here()
    seconds = time.process_time() - before
    assert not watched.rejected, watched.rejected
    assert all(watched.fresh_quote(symbol) for symbol in SYMBOLS)
    print(f"handling p50 {watched.handling_ms_p50:.3f} ms, p99 {watched.handling_ms_p99:.3f} ms", file=sys.stderr)
    await watched.stop()
    return seconds


async def monitor_with_listener(port: int, count: int) -> float:
    return await monitor(port, count, listening=True)


Client = Callable[[int, int], Awaitable[float]]

CLIENTS: dict[str, tuple[Client, bool, tuple[str, ...], int]] = {
    "json, a connection per symbol": (json_per_symbol, False, ("websockets",), 50_000),
    "websockets + msgspec + uvloop": (websockets_msgspec, True, ("websockets", "msgspec", "uvloop"), 100_000),
    "aiohttp + msgspec": (aiohttp_msgspec, False, ("aiohttp", "msgspec"), 100_000),
    "picows + msgspec": (picows_msgspec, False, ("picows", "msgspec"), 400_000),
    "picows + msgspec + uvloop": (picows_msgspec, True, ("picows", "msgspec", "uvloop"), 400_000),
    "WebSocketMonitor": (monitor, False, ("labkit", "websockets", "numba"), 400_000),
    "WebSocketMonitor + uvloop": (monitor, True, ("labkit", "websockets", "numba", "uvloop"), 400_000),
    "WebSocketMonitor, on_quote heard": (monitor_with_listener, False, ("labkit", "websockets"), 200_000),
}
"""Name: the client, whether it runs on uvloop, the libraries it needs, messages at full load."""
YARDSTICKS = ("picows + msgspec + uvloop", "picows + msgspec", "aiohttp + msgspec")
"""The others are told as multiples of the first of these that is there."""


# ------------------------------------------------------------------------------------------------------- the comparison


def version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def measure(name: str, *, paced: bool) -> float:
    """CPU microseconds per message of one client in a process of its own."""
    count = PACED_MESSAGES if paced else CLIENTS[name][3]
    mine = [sys.executable, __file__]
    with subprocess.Popen(
        [*mine, "--serve", str(count), *(["--paced"] if paced else [])], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            done = subprocess.run(
                [*mine, "--client", name, "--port", port, "--count", str(count)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                timeout=120,
            )
        finally:
            server.kill()
    return float(done.stdout) / count * 1e6


def run_client(name: str, port: int, count: int) -> None:
    client, on_uvloop, _, _ = CLIENTS[name]
    factory = None
    if on_uvloop:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        print(runner.run(client(port, count)))  # type: ignore[arg-type]


def reading_costs() -> tuple[float, float, float]:
    """Microseconds of `get_quote` right after a new quote and again, and MB that 400 symbols grow by over a million."""
    from labkit.market.quotes import QuoteCache
    from labkit.wire.frames import Frames
    from labkit.wire.streams import decode_frame

    symbols = tuple(f"COIN{number:03}USDT" for number in range(400))
    cache = QuoteCache(symbols, stale_after_ms=3_000)
    at_ms = 1_767_571_200_000
    frames = [book_ticker(symbol, 1, at_ms, combined=True)[4:] for symbol in symbols]
    for symbol, frame in zip(symbols, frames, strict=True):
        cache.accept_quote(decode_frame(frame, at_ms * 1_000_000), 1)  # type: ignore[arg-type]
        cache.follow(symbol, 1)
    new = again = 0.0
    rounds = 2_500
    tracemalloc.start()
    for number in range(rounds + 5):
        batch = Frames.of([book_ticker(symbol, 2 + number, at_ms, combined=True)[4:] for symbol in symbols])
        assert cache.lane.take(batch, 0, 1, at_ms * 1_000_000, False) == 400
        if number == 5:
            grown = tracemalloc.get_traced_memory()[0]
    grown = tracemalloc.get_traced_memory()[0] - grown
    tracemalloc.stop()
    for number in range(200):
        batch = Frames.of([book_ticker(symbol, 9_000 + number, at_ms, combined=True)[4:] for symbol in symbols])
        cache.lane.take(batch, 0, 1, at_ms * 1_000_000, False)
        before = time.perf_counter()
        for symbol in symbols:
            cache.quote(symbol)
        between = time.perf_counter()
        for symbol in symbols:
            cache.quote(symbol)
        new += between - before
        again += time.perf_counter() - between
    return new / 80_000 * 1e6, again / 80_000 * 1e6, grown / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=CLIENTS, default=[])
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--paced", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.paced))
        return
    if options.client:
        run_client(options.client, options.port, options.count)
        return

    libraries = sorted({library for _, _, needed, _ in CLIENTS.values() for library in needed})
    print(f"Python {platform.python_version()}; " + ", ".join(f"{name} {version(name) or '-'}" for name in libraries))
    names = []
    for name, (_, _, needed, _) in CLIENTS.items():
        if missing := [library for library in needed if version(library) is None]:
            print(f"left out: {name} (not installed: {', '.join(missing)})")
        elif not options.only or name in options.only:
            names.append(name)
    # Round by round, so that a busy moment of the machine does not hit one client alone.
    figures: dict[tuple[str, bool], list[float]] = {}
    for _ in range(options.rounds):
        for name in names:
            for paced in (False, True):
                figures.setdefault((name, paced), []).append(measure(name, paced=paced))
    medians = {key: statistics.median(values) for key, values in figures.items()}
    yardstick = next((name for name in YARDSTICKS if name in names), names[0])
    print(f"\nCPU µs per message, median of {options.rounds}; in brackets as a multiple of {yardstick}")
    print(f"{'client':<34}{'full load':>18}{f'paced {PACE_PER_SECOND}/s':>20}")
    for name in names:
        cells = []
        for paced in (False, True):
            cost = medians[name, paced]
            cells.append(f"{cost:.2f} ({cost / medians[yardstick, paced]:.2f})")
        print(f"{name:<34}{cells[0]:>18}{cells[1]:>20}")
    new, again, grown = reading_costs()
    print(f"\nget_quote: {new:.2f} µs for a new quote, {again:.2f} µs again")
    print(f"memory: {grown:+.3f} MB over 1,000,000 quotes of 400 symbols")


if __name__ == "__main__":
    main()
