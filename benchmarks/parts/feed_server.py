"""The exchange of the feed benchmark: a process of its own, in the standard library alone, with none of our code.

    python benchmarks/parts/feed_server.py SYMBOLS COUNT [--paced]

It prints its port, answers the few REST calls that clients open with, and accepts WebSockets on `/public`, `/market`
and `/private` as well as on the old addresses without a route, filled by their address or by SUBSCRIBE. Best quotes
flow where the exchange lets them flow: not on `/market` or `/private`. When every symbol is subscribed to, it sends a
warm-up, pauses, and sends `COUNT` quotes: as fast as the client reads, or, paced, one at a time, 2,000 a second.
Everything but the times in a frame is made before the first one is sent.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import hashlib
import json
import logging
import time
from urllib.parse import parse_qs, unquote, urlsplit

HOST = "127.0.0.1"
WARM_UP_ROUNDS = 40
"""So many quotes of each symbol come first and are not measured."""
WARM_UP_SECONDS_PER_ROUND = 0.01
PAUSE_SECONDS = 1.0
"""Between the warm-up and the quotes that are measured."""
PACE_PER_SECOND = 2_000
FIRST_UPDATE_ID = 2_710_246_762_461
FRAMES_AT_ONCE = 500
MOST_UNSENT_BYTES = 1 << 20
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
EVENT_TIME = b"1111111111111"
TRADE_TIME = b"1111111111110"
"""What stands in a ready-made frame for its times."""


def names_of_symbols(number: int) -> tuple[str, ...]:
    return tuple(f"COIN{at:03}USDT" for at in range(number))


def now_ms() -> int:
    # No code of ours, so no Clock.
    return time.time_ns() // 1_000_000  # noqa: TID251


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """An unmasked frame of a server."""
    length = len(payload)
    if length < 126:
        return bytes([0x80 | opcode, length]) + payload
    if length < 1 << 16:
        return bytes([0x80 | opcode, 126]) + length.to_bytes(2, "big") + payload
    return bytes([0x80 | opcode, 127]) + length.to_bytes(8, "big") + payload


def quote(symbol: str, number: int) -> bytes:
    """The frame of quote `number` in a combined stream, without its times; the price wanders a little."""
    cents = 2_814_510 + number % 97
    event = (
        f'{{"e":"bookTicker","u":{FIRST_UPDATE_ID + number},"s":"{symbol}","ps":"{symbol}",'
        f'"b":"{cents // 100}.{cents % 100:02}","B":"3.868","a":"{(cents + 1) // 100}.{(cents + 1) % 100:02}",'
        f'"A":"{number % 9 + 1}.887","T":{TRADE_TIME.decode()},"E":{EVENT_TIME.decode()},"st":1}}'
    )
    return frame(f'{{"stream":"{symbol.lower()}@bookTicker","data":{event}}}'.encode())


def raw(combined: bytes) -> bytes:
    """The same frame in a stream of its own."""
    return frame(combined[combined.index(b'"data":') + 7 : -1])


def timed(frames: bytes) -> bytes:
    """The same frames with the times of this moment; the length of a time does not change any more."""
    at_ms = now_ms()
    return frames.replace(EVENT_TIME, b"%d" % at_ms).replace(TRADE_TIME, b"%d" % (at_ms - 5))


def exchange_info(names: tuple[str, ...]) -> dict[str, object]:
    """As much of the exchange's rules as clients insist on."""
    limits = [("REQUEST_WEIGHT", "MINUTE", 1, 2400), ("ORDERS", "MINUTE", 1, 1200), ("ORDERS", "SECOND", 10, 300)]
    limit_names = ("rateLimitType", "interval", "intervalNum", "limit")
    symbols = [
        {
            "symbol": symbol,
            "pair": symbol,
            "contractType": "PERPETUAL",
            "deliveryDate": 4133404800000,
            "onboardDate": 1569398400000,
            "status": "TRADING",
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": symbol.removesuffix("USDT"),
            "quoteAsset": "USDT",
            "marginAsset": "USDT",
            "pricePrecision": 2,
            "quantityPrecision": 3,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "underlyingType": "COIN",
            "underlyingSubType": ["PoW"],
            "triggerProtect": "0.0500",
            "liquidationFee": "0.012500",
            "marketTakeBound": "0.05",
            "maxMoveOrderLimit": 10000,
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "4529764", "tickSize": "0.01"},
                {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
                {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "120", "stepSize": "0.001"},
                {"filterType": "MAX_NUM_ORDERS", "limit": 200},
                {"filterType": "MIN_NOTIONAL", "notional": "5"},
                {
                    "filterType": "PERCENT_PRICE",
                    "multiplierUp": "1.0500",
                    "multiplierDown": "0.9500",
                    "multiplierDecimal": "4",
                },
            ],
            "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
            "permissionSets": ["GRID", "COPY"],
        }
        for symbol in names
    ]
    return {
        "timezone": "UTC",
        "serverTime": now_ms(),
        "futuresType": "U_MARGINED",
        "rateLimits": [dict(zip(limit_names, limit, strict=True)) for limit in limits],
        "exchangeFilters": [],
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": symbols,
    }


class Exchange:
    """All connections, and what is sent to them."""

    def __init__(self, symbols: tuple[str, ...], count: int, *, is_paced: bool) -> None:
        self.symbols = symbols
        self.count = count
        self.is_paced = is_paced
        self.warm_up = WARM_UP_ROUNDS * len(symbols)
        self.connections: list[Connection] = []
        self._quotes = [quote(symbols[n % len(symbols)], n) for n in range(self.warm_up + count)]
        # A collection that looks at all of them would stop the load for a moment.
        gc.freeze()
        self._load: asyncio.Task[None] | None = None

    def subscribed(self) -> None:
        """Streams were added: begin as soon as every symbol has a reader."""
        if self._load is None and len(self._readers()) == len(self.symbols):
            self._load = asyncio.create_task(self._send_everything())

    def answer(self, path: str) -> object:
        """The body of a REST answer."""
        if path.endswith("/exchangeInfo"):
            return exchange_info(self.symbols)
        if path.endswith("/time"):
            return {"serverTime": now_ms()}
        if path.endswith(("/account", "/balance")):
            return {"assets": [], "positions": [], "balances": []}
        return {}

    def _readers(self) -> dict[str, Connection]:
        return {symbol: connection for connection in self.connections for symbol in connection.quoted}

    async def _send_everything(self) -> None:
        readers, names = self._readers(), self.symbols
        by_turn = [readers[name] for name in names]
        if not by_turn[0].is_combined:
            self._quotes = [raw(ready) for ready in self._quotes]
        quotes = [(by_turn[number % len(names)], ready) for number, ready in enumerate(self._quotes)]
        for begin in range(0, self.warm_up, len(names)):
            for connection, ready in quotes[begin : begin + len(names)]:
                connection.transport.write(timed(ready))
            await asyncio.sleep(WARM_UP_SECONDS_PER_ROUND)
        await asyncio.sleep(PAUSE_SECONDS)
        await (self._send_paced if self.is_paced else self._send_fast)(quotes[self.warm_up :])

    async def _send_paced(self, quotes: list[tuple[Connection, bytes]]) -> None:
        rest = time.sleep  # Blocking on purpose: a loop's timers are too coarse for half a millisecond.
        begin = time.monotonic()
        for number, (connection, ready) in enumerate(quotes):
            rest(max(0.0, begin + number / PACE_PER_SECOND - time.monotonic()))
            connection.transport.write(timed(ready))
            if number % 20 == 0:
                await asyncio.sleep(0)

    async def _send_fast(self, quotes: list[tuple[Connection, bytes]]) -> None:
        for begin in range(0, len(quotes), FRAMES_AT_ONCE):
            chunks: dict[Connection, list[bytes]] = {}
            for connection, ready in quotes[begin : begin + FRAMES_AT_ONCE]:
                chunks.setdefault(connection, []).append(ready)
            for connection, chunk in chunks.items():
                connection.transport.write(timed(b"".join(chunk)))
            # Pings are answered and other streams served in between, whether or not anybody has to be waited for.
            await asyncio.sleep(0)
            for connection in chunks:
                await connection.may_write.wait()
                if connection.transport.is_closing():
                    return


class Connection(asyncio.Protocol):
    """One socket: some REST requests, or a WebSocket."""

    transport: asyncio.Transport

    def __init__(self, exchange: Exchange) -> None:
        self.quoted: list[str] = []
        self.is_combined = False
        self.may_write = asyncio.Event()
        self.may_write.set()
        self._exchange = exchange
        self._route = ""
        self._data = b""
        self._is_websocket = False
        self._marks: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(MOST_UNSENT_BYTES)
        self._exchange.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._exchange.connections.remove(self)
        self.may_write.set()
        if self._marks is not None:
            self._marks.cancel()

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (self._take_frame if self._is_websocket else self._take_request)():
            pass

    # REST, and the way into a WebSocket.

    def _take_request(self) -> bool:
        head, blank_line, rest = self._data.partition(b"\r\n\r\n")
        if not blank_line:
            return False
        first_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return False
        self._data = rest[length:]
        url = urlsplit(first_line.split(" ")[1])
        if headers.get("upgrade", "").lower() == "websocket":
            digest = hashlib.sha1(headers["sec-websocket-key"].encode() + WEBSOCKET_GUID).digest()
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
            )
            self._is_websocket = True
            self._open_streams(url.path, unquote(url.query))
        else:
            body = json.dumps(self._exchange.answer(url.path)).encode()
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-MBX-USED-WEIGHT-1M: 1\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
        return True

    def _open_streams(self, path: str, query: str) -> None:
        first, _, others = path.strip("/").partition("/")
        self._route, form = (first, others) if first in ("public", "market", "private") else ("", path.strip("/"))
        self.is_combined = form.startswith("stream")
        named = parse_qs(query).get("streams", [form.partition("/")[2]])[0]
        self._subscribe([name for name in named.split("/") if "@" in name])

    # The WebSocket.

    def _take_frame(self) -> bool:
        data = self._data
        if len(data) < 2:
            return False
        opcode, length, at = data[0] & 0x0F, data[1] & 0x7F, 2
        if length == 126:
            length, at = int.from_bytes(data[2:4], "big"), 4
        elif length == 127:
            length, at = int.from_bytes(data[2:10], "big"), 10
        if len(data) < at + 4 + length:
            return False
        mask = data[at : at + 4]
        payload = bytes(byte ^ mask[number % 4] for number, byte in enumerate(data[at + 4 : at + 4 + length]))
        self._data = data[at + 4 + length :]
        if opcode == 8:
            self.transport.write(frame(payload, 8))
            self.transport.close()
        elif opcode == 9:
            self.transport.write(frame(payload, 10))
        elif opcode == 1:
            request = json.loads(payload)
            self.transport.write(frame(json.dumps({"result": None, "id": request["id"]}).encode()))
            if request["method"] == "SUBSCRIBE":
                self._subscribe(request["params"])
        return True

    def _subscribe(self, names: list[str]) -> None:
        for name in names:
            symbol, _, kind = name.partition("@")
            if kind == "bookTicker" and self._route in ("", "public") and symbol.upper() not in self.quoted:
                self.quoted.append(symbol.upper())
            # One mark price a second shows whoever asks for any that the connection lives.
            if kind == "markPrice@1s" and self._route in ("", "market") and self._marks is None:
                self._marks = asyncio.create_task(self._send_marks(symbol))
        self._exchange.subscribed()

    async def _send_marks(self, symbol: str) -> None:
        while True:
            at_ms = now_ms()
            event = (
                f'{{"e":"markPriceUpdate","E":{at_ms},"s":"{symbol.upper()}","p":"28145.15","ap":"28145.15",'
                f'"P":"28145.15","i":"28145.00","r":"0.00010000","T":{at_ms // 28_800_000 * 28_800_000 + 28_800_000},'
                f'"st":1}}'
            )
            self.transport.write(frame(f'{{"stream":"{symbol}@markPrice@1s","data":{event}}}'.encode()))
            await asyncio.sleep(1)


async def serve(exchange: Exchange) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(exchange), HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("symbols", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--paced", action="store_true")
    options = parser.parse_args()
    # Whoever has heard enough hangs up in the middle of everything.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    asyncio.run(serve(Exchange(names_of_symbols(options.symbols), options.count, is_paced=options.paced)))
