"""A server that replays a recording, written for the tests with no code of ours: the standard library and `websockets`.

    python replay_server.py CONFIG.json

CONFIG names `lines` (a file: seconds since the start, a tab, a combined frame or `!cut`), `wait_for` (the streams that
must be subscribed to before it plays, at first and after each cut) and `klines` (a file: rows as the exchange answers
them); each may be null. It prints one JSON line with its two addresses. Frames of streams that nobody has subscribed
to are not sent. `POST /control/answer` with {"status", "type", "body"} says how every request but the time is answered
from then on; null ends that. At a cut it drops all connections without a farewell.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve

HOST = "127.0.0.1"
STREAM_OF_FRAME = re.compile(r'\{"stream":"([^"]+)"')
QUIET_BEFORE_A_CUT_SECONDS = 0.2
"""What was sent before a cut is to arrive: a reset would throw away what the other side has not read yet."""


# ---------------------------------------------------------------------------------------------------------- streams


class Replay:
    def __init__(self, lines: list[str], wait_for: list[str]) -> None:
        self.lines = lines
        self.wait_for = wait_for
        self.readers: dict[str, ServerConnection] = {}
        self.changed = asyncio.Event()

    async def visit(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.subscribe(socket, parse_qs(urlsplit(socket.request.path).query).get("streams", [""])[0].split("/"))
        async for text in socket:
            request = json.loads(text)
            if request["method"] == "SUBSCRIBE":
                self.subscribe(socket, request["params"])
            await socket.send(json.dumps({"result": None, "id": request["id"]}))

    def subscribe(self, socket: ServerConnection, streams: list[str]) -> None:
        self.readers |= dict.fromkeys(streams, socket)
        self.changed.set()

    async def play(self) -> None:
        await self.everybody_here()
        begin = time.monotonic()
        for line in self.lines:
            due, _, frame = line.partition("\t")
            if (wait := begin + float(due) - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if frame == "!cut":
                await asyncio.sleep(QUIET_BEFORE_A_CUT_SECONDS)
                dropped, self.readers = set(self.readers.values()), {}
                for socket in dropped:
                    socket.transport.abort()
                await self.everybody_here()
            elif (found := STREAM_OF_FRAME.match(frame)) and found[1] in self.readers:
                await self.readers[found[1]].send(frame)

    async def everybody_here(self) -> None:
        while not self.readers.keys() >= set(self.wait_for):
            self.changed.clear()
            await self.changed.wait()


# -------------------------------------------------------------------------------------------------------------- REST


class Rest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    klines: list[list[Any]] = []  # noqa: RUF012
    told: dict[str, Any] | None = None

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if url.path == "/control/answer":
            Rest.told = json.loads(body)
            self.answer(200, "application/json", "{}")
        elif url.path == "/fapi/v1/time":
            self.answer(200, "application/json", json.dumps({"serverTime": time.time_ns() // 1_000_000}))  # noqa: TID251
        elif Rest.told is not None:
            self.answer(Rest.told["status"], Rest.told["type"], Rest.told["body"])
        elif url.path == "/fapi/v1/klines":
            self.answer(200, "application/json", json.dumps(self.page(parse_qs(url.query))))
        else:
            self.answer(404, "application/json", "{}")

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def page(self, query: dict[str, list[str]]) -> list[list[Any]]:
        first, last = int(query["startTime"][0]), int(query["endTime"][0])
        limit = int(query.get("limit", ["500"])[0])
        return [row for row in Rest.klines if first <= row[0] <= last][:limit]

    def answer(self, status: int, kind: str, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_args: object) -> None:
        pass


async def main(lines: list[str], wait_for: list[str]) -> None:
    rest = ThreadingHTTPServer((HOST, 0), Rest)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    replay = Replay(lines, wait_for)
    async with serve(replay.visit, HOST, 0, compression=None) as streams:
        port = next(iter(streams.sockets)).getsockname()[1]
        addresses = {"rest": f"http://{HOST}:{rest.server_port}", "streams": f"ws://{HOST}:{port}"}
        print(json.dumps(addresses), flush=True)
        await replay.play()
        await streams.serve_forever()


if __name__ == "__main__":
    config = json.loads(Path(sys.argv[1]).read_text())
    if config["klines"]:
        Rest.klines = json.loads(Path(config["klines"]).read_text())
    recorded = Path(config["lines"]).read_text(encoding="utf-8").splitlines() if config["lines"] else []
    asyncio.run(main(recorded, config["wait_for"]))
