"""HTTP over real sockets: bytes as given, one attempt, and failures that say whether a byte can have left."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from labkit.edge.http import SocketHttp
from labkit.wire.transport import ConnectionLost, HttpRequest, NotSent

MakeHttp = Callable[..., SocketHttp]
StartTcp = Callable[[Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]], Awaitable[int]]


@pytest.fixture
async def http() -> AsyncIterator[MakeHttp]:
    """Makes transports and closes them."""
    made: list[SocketHttp] = []

    def make(base_url: str, timeout_ms: int = 5_000) -> SocketHttp:
        made.append(SocketHttp(base_url, timeout_ms=timeout_ms))
        return made[-1]

    yield make
    for transport in made:
        await transport.close()


@pytest.fixture
async def echo() -> AsyncIterator[str]:
    """A server that answers with the request line and body it got."""

    async def answer(request: web.Request) -> web.Response:
        body = await request.text()
        return web.Response(
            status=int(request.headers.get("X-Status", "200")),
            text=f"{request.method} {request.raw_path}\n{request.headers.get('Content-Type', '')}\n{body}",
            headers={"X-MBX-USED-WEIGHT-1M": "17", "Location": "/elsewhere", "Set-Cookie": "a=b"},
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


@pytest.mark.parametrize(
    "query",
    [
        "symbol=%E5%B8%81%E5%AE%89USDT&list=%5B1%2C%202%5D&signature=AbC",
        "a=1&b=%41",
        "plus=1+2&slash=a/b&colon=10:30&empty=",
        "tilde=%7E&lower=%e5",
    ],
)
async def test_path_and_query_arrive_exactly_as_given(echo: str, http: MakeHttp, query: str) -> None:
    answer = await http(echo).send(HttpRequest(method="GET", path="/fapi/v1/order", query=query))
    assert answer.body.decode().splitlines()[0] == f"GET /fapi/v1/order?{query}"


async def test_a_body_arrives_as_a_form_exactly_as_given(echo: str, http: MakeHttp) -> None:
    body = "symbol=%E5%B8%81&quantity=0.500&signature=ab%2Fc"
    answer = await http(echo).send(HttpRequest(method="POST", path="/fapi/v1/order", body=body))
    assert answer.body.decode() == f"POST /fapi/v1/order\napplication/x-www-form-urlencoded\n{body}"


async def test_headers_come_back_in_lower_case(echo: str, http: MakeHttp) -> None:
    answer = await http(echo).send(HttpRequest(method="GET", path="/fapi/v1/ping"))
    assert answer.headers["x-mbx-used-weight-1m"] == "17"


@pytest.mark.parametrize("status", [202, 302, 307, 400, 418, 429, 503])
async def test_any_status_is_an_answer_and_no_redirect_is_followed(echo: str, http: MakeHttp, status: int) -> None:
    request = HttpRequest(method="GET", path="/fapi/v1/time", headers={"X-Status": str(status)})
    answer = await http(echo).send(request)
    assert (answer.status, answer.body.startswith(b"GET /fapi/v1/time")) == (status, True)


async def test_a_refused_connection_is_not_sent(http: MakeHttp) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(NotSent):
            await http(f"http://127.0.0.1:{port}").send(HttpRequest(method="POST", path="/fapi/v1/order"))


async def test_a_tls_handshake_with_a_server_that_has_none_is_not_sent(echo: str, http: MakeHttp) -> None:
    with pytest.raises(NotSent):
        await http(echo.replace("http:", "https:")).send(HttpRequest(method="POST", path="/fapi/v1/order"))


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200", id="half a status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", id="half a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", id="half a chunk"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", id="another protocol"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_a_cut_reply_loses_the_connection_after_one_attempt(
    tcp: StartTcp, http: MakeHttp, reply: bytes, method: str
) -> None:
    attempts: list[bytes] = []

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(await read_request(reader))
        writer.write(reply)
        await writer.drain()

    transport = http(f"http://127.0.0.1:{await tcp(cut)}")
    with pytest.raises(ConnectionLost):
        await transport.send(HttpRequest(method=method, path="/fapi/v1/order"))
    assert len(attempts) == 1


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_a_request_cut_on_a_kept_connection_is_not_sent_again(tcp: StartTcp, http: MakeHttp, method: str) -> None:
    attempts: list[bytes] = []

    async def answer_once_then_cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(await read_request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        attempts.append(await read_request(reader))

    transport = http(f"http://127.0.0.1:{await tcp(answer_once_then_cut)}")
    await transport.send(HttpRequest(method="GET", path="/fapi/v1/ping"))
    with pytest.raises(ConnectionLost):
        await transport.send(HttpRequest(method=method, path="/fapi/v1/order"))
    assert len(attempts) == 2


async def test_silence_after_the_request_loses_the_connection(tcp: StartTcp, http: MakeHttp) -> None:
    heard = asyncio.Event()

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        heard.set()
        await reader.read()

    transport = http(f"http://127.0.0.1:{await tcp(stay_silent)}", 100)
    with pytest.raises(ConnectionLost):
        await transport.send(HttpRequest(method="POST", path="/fapi/v1/order"))
    assert heard.is_set()


async def test_cookies_are_not_kept(tcp: StartTcp, http: MakeHttp) -> None:
    seen: list[bytes] = []

    async def set_cookie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            seen.append(await read_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: who=you\r\nContent-Length: 2\r\n\r\n{}")

    transport = http(f"http://127.0.0.1:{await tcp(set_cookie)}")
    for _ in range(2):
        await transport.send(HttpRequest(method="GET", path="/fapi/v1/ping"))
    assert b"cookie" not in seen[1].lower()


async def test_a_proxy_of_the_environment_is_not_used(
    echo: str, http: MakeHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert (await http(echo).send(HttpRequest(method="GET", path="/fapi/v1/ping"))).status == 200


async def test_a_closed_transport_opens_again(echo: str, http: MakeHttp) -> None:
    transport = http(echo)
    await transport.send(HttpRequest(method="GET", path="/fapi/v1/ping"))
    await transport.close()
    await transport.close()
    assert (await transport.send(HttpRequest(method="GET", path="/fapi/v1/ping"))).status == 200
