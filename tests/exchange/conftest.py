"""An exchange that answers with bytes a test wrote, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import pytest

from labkit.config import ClientConfig
from labkit.edge.clocks import VirtualClock, VirtualTimeLoop, run_in_virtual_time
from labkit.exchange.binance_client import BinanceClient
from labkit.exchange.credentials import Credentials
from labkit.wire.transport import HttpRequest, HttpResponse

T = TypeVar("T")
START_MS = 1_795_375_260_000

Answer = HttpResponse | Exception | Callable[[HttpRequest], Any]


def answer(body: Any, status: int = 200, **headers: str) -> HttpResponse:
    return HttpResponse(
        status=status,
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def error(status: int, code: int, message: str, **headers: str) -> HttpResponse:
    return answer({"code": code, "msg": message}, status, **headers)


class ScriptedExchange:
    """A transport body that plays back answers by method and path; the last answer of a script repeats."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.requests: list[tuple[int, HttpRequest]] = []
        self._scripts: dict[tuple[str, str], list[Answer]] = {}

    def on(self, method: str, path: str, *answers: Answer) -> None:
        self._scripts[method, path] = list(answers)

    async def send(self, request: HttpRequest) -> HttpResponse:
        self.requests.append((self.clock.now_ms(), request))
        script = self._scripts[request.method, request.path]
        told = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(told, Exception):
            raise told
        if isinstance(told, HttpResponse):
            return told
        result = told(request)
        return await result if isinstance(result, Awaitable) else result

    async def close(self) -> None: ...

    def sent(self, method: str, path: str) -> list[dict[str, str]]:
        """The parameters of every request of one kind, in order."""
        return [
            dict(parse_qsl(request.query + request.body, keep_blank_values=True))
            for _, request in self.requests
            if (request.method, request.path) == (method, path)
        ]

    def times(self, method: str, path: str) -> list[int]:
        """When each request of one kind was sent, in ms since the test began."""
        return [
            time_ms - START_MS for time_ms, request in self.requests if (request.method, request.path) == (method, path)
        ]


class VirtualLab:
    """A scripted exchange, its clock, and clients of it."""

    def __init__(self) -> None:
        self.loop = VirtualTimeLoop()
        self.clock = VirtualClock(self.loop, start_ms=START_MS)
        self.exchange = ScriptedExchange(self.clock)
        self.credentials = Credentials("canary-key-4242", "canary-secret-4242")
        self.server_offset_ms = 0
        self.exchange.on(
            "GET", "/fapi/v1/time", lambda _: answer({"serverTime": self.clock.now_ms() + self.server_offset_ms})
        )

    def client(self, config: ClientConfig | None = None, **options: Any) -> BinanceClient:
        return BinanceClient(self.exchange, self.clock, config, options.pop("credentials", self.credentials), **options)

    def now(self) -> int:
        """Milliseconds since the test began."""
        return self.clock.now_ms() - START_MS

    async def sleep(self, milliseconds: int) -> None:
        await asyncio.sleep(milliseconds / 1_000)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        return run_in_virtual_time(main, self.loop)


@pytest.fixture
def lab() -> Iterator[VirtualLab]:
    made = VirtualLab()
    yield made
    if not made.loop.is_closed():
        made.loop.close()
