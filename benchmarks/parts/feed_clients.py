"""The clients of the feed benchmark, each run in a process of its own by the Python that has its library.

    python benchmarks/parts/feed_clients.py NAME PORT SYMBOLS COUNT [--uvloop] [--versions LIBRARY ...]

It prints one JSON object: the CPU seconds that this process, all its threads, took for `COUNT` quotes, and the versions
it ran with. This file imports nothing but the standard library until a client is chosen. Every client is told a best
quote the way its own documentation shows; what had to be bent to reach a server on this machine is said where it is.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib.metadata
import json
import logging
import os
import platform
import time
from collections.abc import Awaitable, Callable
from typing import Any

from feed_server import FIRST_UPDATE_ID, HOST, WARM_UP_ROUNDS, names_of_symbols


class Meter:
    """The CPU time of this process from the last quote of the warm-up to the last of all."""

    def __init__(self, symbols: int, count: int) -> None:
        self.symbols = names_of_symbols(symbols)
        self.streams = [f"{symbol.lower()}@bookTicker" for symbol in self.symbols]
        self.combined = "/public/stream?streams=" + "/".join(self.streams)
        self.warm_up = WARM_UP_ROUNDS * symbols
        self.count = count
        self.seconds = 0.0
        self.notes: dict[str, float] = {}
        """What else there is to tell."""
        self.done = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._before: float | None = None
        self._left = self.warm_up

    def message(self) -> None:
        """One more quote has arrived."""
        self._left -= 1
        if not self._left:
            self._turn()

    def messages(self, number: int) -> None:
        """So many more quotes have arrived."""
        self._left -= number
        if not self._left:
            self._turn()

    def reached(self, update_id: int) -> None:
        """All quotes up to this one were taken; for clients that tell only the newest."""
        last = FIRST_UPDATE_ID + self.warm_up - 1 + (0 if self._before is None else self.count)
        if update_id == last:
            self._turn()

    def _turn(self) -> None:
        now = time.process_time()
        if self._before is None:
            self._before, self._left = now, self.count
        else:
            self.seconds = now - self._before
            # The last quote may come to another thread.
            self._loop.call_soon_threadsafe(self.done.set_result, None)


# ------------------------------------------------------------------------------------- what one would write by oneself


async def json_per_symbol(port: int, meter: Meter) -> None:
    """What most tutorials show: `websockets`, a connection for each symbol, the json module."""
    from websockets.asyncio.client import connect

    prices = {}

    async def read(name: str) -> None:
        async with connect(f"ws://{HOST}:{port}/public/ws/{name}", compression=None) as socket:
            async for text in socket:
                event = json.loads(text)
                prices[event["s"]] = float(event["b"]), float(event["a"])
                meter.message()

    await asyncio.gather(*(read(name) for name in meter.streams))


def struct_decoder() -> Callable[[bytes | memoryview], Any]:
    """Of a combined frame, with the fields anyone needs."""
    import msgspec

    fields = [("u", int), ("s", str), ("b", str), ("B", str), ("a", str), ("A", str), ("E", int)]
    event = msgspec.defstruct("Event", fields)
    return msgspec.json.Decoder(msgspec.defstruct("Combined", [("stream", str), ("data", event)])).decode


async def websockets_msgspec(port: int, meter: Meter) -> None:
    from websockets.asyncio.client import connect

    prices, decode = {}, struct_decoder()
    async with connect(f"ws://{HOST}:{port}{meter.combined}", compression=None) as socket:
        while True:
            event = decode(await socket.recv(decode=False)).data
            prices[event.s] = event
            meter.message()


async def aiohttp_msgspec(port: int, meter: Meter) -> None:
    import aiohttp

    prices, decode = {}, struct_decoder()
    async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{HOST}:{port}{meter.combined}") as socket:
        async for message in socket:
            event = decode(message.data).data
            prices[event.s] = event
            meter.message()


async def picows_msgspec(port: int, meter: Meter) -> None:
    from picows import WSFrame, WSListener, WSTransport, ws_connect

    prices, decode = {}, struct_decoder()

    class Listener(WSListener):  # type: ignore[misc]
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            event = decode(frame.get_payload_as_memoryview()).data
            prices[event.s] = event
            meter.message()

    await ws_connect(Listener, f"ws://{HOST}:{port}{meter.combined}")
    await meter.done


async def bare_splitting(port: int, meter: Meter) -> None:
    """Frames are cut out of the bytes and thrown away: what no client in Python code comes below."""

    class Splitter(asyncio.Protocol):
        def __init__(self) -> None:
            self.data = self.frame = b""
            self.is_open = False

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            key = base64.b64encode(os.urandom(16)).decode()
            transport.write(
                f"GET {meter.combined} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
            )

        def data_received(self, data: bytes) -> None:
            data = self.data + data
            at, end, number = 0, len(data), 0
            if not self.is_open:
                at = data.index(b"\r\n\r\n") + 4
                self.is_open = True
            while at + 4 <= end:
                length = data[at + 1]
                begin = at + 2
                if length == 126:
                    length, begin = data[at + 2] << 8 | data[at + 3], at + 4
                if begin + length > end:
                    break
                self.frame = data[begin : begin + length]
                at = begin + length
                number += 1
            self.data = data[at:]
            meter.messages(number)

    await asyncio.get_running_loop().create_connection(Splitter, HOST, port)
    await meter.done


# ------------------------------------------------------------------------------------------------------- full clients


async def cryptofeed(port: int, meter: Meter) -> None:
    from cryptofeed import FeedHandler, connection
    from cryptofeed.connection import RestEndpoint, WebsocketEndpoint
    from cryptofeed.defines import TICKER
    from cryptofeed.exchanges import BinanceFutures

    async def on_ticker(ticker: Any, received_at: float) -> None:
        meter.message()

    # It refuses any address without TLS, which the others here need not pay for.
    connect = connection.connect
    connection.connect = lambda address, **options: connect(address.replace("wss:", "ws:"), **options)
    routes = BinanceFutures.rest_endpoints[0].routes
    BinanceFutures.websocket_endpoints = [WebsocketEndpoint(f"wss://{HOST}:{port}")]
    BinanceFutures.rest_endpoints = [RestEndpoint(f"http://{HOST}:{port}", routes=routes)]
    await BinanceFutures.load_symbols()
    symbols = [symbol for symbol in BinanceFutures.symbols() if symbol.endswith("-PERP")]
    handler = FeedHandler(config={"uvloop": False, "log": {"disabled": True}})
    handler.add_feed(BinanceFutures(symbols=symbols, channels=[TICKER], callbacks={TICKER: on_ticker}))
    await handler.run_async(install_signal_handlers=False)


async def ccxt(port: int, meter: Meter) -> None:
    import ccxt.pro

    exchange = ccxt.pro.binanceusdm({"options": {"fetchCurrencies": False}})
    api = exchange.urls["api"]
    for name, url in list(api.items()):
        if isinstance(url, str) and url.startswith("https://fapi.binance.com"):
            api[name] = url.replace("https://fapi.binance.com", f"http://{HOST}:{port}")
    api["ws"]["linear"] = f"ws://{HOST}:{port}/ws"
    await exchange.load_markets()
    symbols = list(exchange.symbols)
    try:
        while True:
            for ticker in (await exchange.watch_bids_asks(symbols)).values():
                meter.reached(int(ticker["info"]["u"]))
    finally:
        await exchange.close()


async def python_binance(port: int, meter: Meter) -> None:
    from binance import AsyncClient, BinanceSocketManager

    BinanceSocketManager.FSTREAM_URL = f"ws://{HOST}:{port}/"
    # Its default of 100 waiting messages ends the connection at any burst.
    manager = BinanceSocketManager(AsyncClient(), max_queue_size=meter.warm_up + meter.count)
    async with manager.futures_multiplex_socket(meter.streams, category="public") as socket:
        while True:
            message = await socket.recv()
            if "data" in message:
                meter.message()


async def unicorn(port: int, meter: Meter, *, websocket_library: str = "websockets") -> None:
    from unicorn_binance_websocket_api import BinanceWebSocketApiManager

    def on_message(message: dict[str, Any]) -> None:
        if "bookTicker" in message.get("stream", ""):
            meter.message()

    manager = BinanceWebSocketApiManager(
        exchange="binance.com-futures",
        websocket_base_uri=f"ws://{HOST}:{port}/",
        warn_on_update=False,
        output_default="dict",
        websocket_library=websocket_library,
    )
    manager.create_stream("bookTicker", list(meter.symbols), process_stream_data=on_message)
    await meter.done


async def unicorn_on_picows(port: int, meter: Meter) -> None:
    await unicorn(port, meter, websocket_library="picows")


async def official_sdk(port: int, meter: Meter) -> None:
    from binance_common.configuration import ConfigurationWebSocketStreams
    from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
        DerivativesTradingUsdsFutures,
    )

    streams = ConfigurationWebSocketStreams(stream_url=f"ws://{HOST}:{port}")
    connection = await DerivativesTradingUsdsFutures(config_ws_streams=streams).websocket_streams.create_connection()
    for symbol in meter.symbols:
        stream = await connection.individual_symbol_book_ticker_streams(symbol=symbol.lower())
        stream.on("message", lambda event: meter.message())
    await meter.done


async def nautilus(port: int, meter: Meter) -> None:
    """Its Binance data client alone, without the engine that would carry its ticks on."""
    from nautilus_trader.adapters.binance.common.enums import BinanceAccountType
    from nautilus_trader.adapters.binance.config import BinanceDataClientConfig, BinanceInstrumentProviderConfig
    from nautilus_trader.adapters.binance.factories import BinanceLiveDataClientFactory
    from nautilus_trader.cache.cache import Cache
    from nautilus_trader.common.component import LiveClock, MessageBus
    from nautilus_trader.core.uuid import UUID4
    from nautilus_trader.data.messages import SubscribeQuoteTicks
    from nautilus_trader.model.data import QuoteTick
    from nautilus_trader.model.identifiers import ClientId, InstrumentId, TraderId

    def on_data(data: Any) -> None:
        if isinstance(data, QuoteTick):
            meter.message()

    clock = LiveClock()
    bus = MessageBus(trader_id=TraderId("BENCH-001"), clock=clock)
    cache = Cache()
    bus.register(endpoint="DataEngine.process", handler=on_data)
    config = BinanceDataClientConfig(
        account_type=BinanceAccountType.USDT_FUTURES,
        base_url_http=f"http://{HOST}:{port}",
        base_url_ws=f"ws://{HOST}:{port}",
        instrument_provider=BinanceInstrumentProviderConfig(load_all=True),
    )
    client = BinanceLiveDataClientFactory.create(
        loop=asyncio.get_running_loop(), name="BINANCE", config=config, msgbus=bus, cache=cache, clock=clock
    )
    await client._connect()
    for symbol in meter.symbols:
        await client._subscribe_quote_ticks(
            SubscribeQuoteTicks(
                instrument_id=InstrumentId.from_str(f"{symbol}-PERP.BINANCE"),
                client_id=ClientId("BINANCE"),
                venue=None,
                command_id=UUID4(),
                ts_init=clock.timestamp_ns(),
            )
        )
    await meter.done


async def monitor(port: int, meter: Meter) -> None:
    """Ours with as many open positions as the ordinary settings allow; a listener hears each of their quotes."""
    from feed_monitor import measure

    await measure(port, meter, held=10)


async def monitor_holding_nothing(port: int, meter: Meter) -> None:
    """Ours without an open position: all prices are read from the cache."""
    from feed_monitor import measure

    await measure(port, meter, held=0)


async def monitor_of_many(port: int, meter: Meter) -> None:
    """Ours, with an eye on its memory and on what reading costs."""
    from feed_monitor import measure_reading

    await measure_reading(port, meter)


CLIENTS: dict[str, Callable[[int, Meter], Awaitable[None]]] = {
    "json_per_symbol": json_per_symbol,
    "websockets_msgspec": websockets_msgspec,
    "aiohttp_msgspec": aiohttp_msgspec,
    "picows_msgspec": picows_msgspec,
    "bare_splitting": bare_splitting,
    "cryptofeed": cryptofeed,
    "ccxt": ccxt,
    "python_binance": python_binance,
    "unicorn": unicorn,
    "unicorn_on_picows": unicorn_on_picows,
    "official_sdk": official_sdk,
    "nautilus": nautilus,
    "monitor": monitor,
    "monitor_holding_nothing": monitor_holding_nothing,
    "monitor_of_many": monitor_of_many,
}


async def run(name: str, port: int, meter: Meter) -> None:
    reading = asyncio.ensure_future(CLIENTS[name](port, meter))
    await asyncio.wait([reading, meter.done], return_when=asyncio.FIRST_COMPLETED)
    if not meter.done.done() or reading.done():
        await reading
    if not meter.done.done():
        raise RuntimeError("the client ended before its last quote")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=CLIENTS)
    parser.add_argument("port", type=int)
    parser.add_argument("symbols", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--versions", nargs="*", default=[], metavar="LIBRARY")
    options = parser.parse_args()
    versions = {library: importlib.metadata.version(library) for library in options.versions}
    logging.disable(logging.CRITICAL)
    factory = None
    if options.uvloop:
        import uvloop

        factory = uvloop.new_event_loop

    async def measured() -> Meter:
        meter = Meter(options.symbols, options.count)
        await run(options.name, options.port, meter)
        return meter

    meter = asyncio.Runner(loop_factory=factory).run(measured())
    told = {"seconds": meter.seconds, "notes": meter.notes, "python": platform.python_version(), "versions": versions}
    print(json.dumps(told), flush=True)
    # Threads of a foreign client would keep the process for as long as they like.
    os._exit(0)


if __name__ == "__main__":
    main()
