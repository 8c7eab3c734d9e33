"""HTTP over sockets: the `HttpTransport` that talks to a real address.

Sends exactly the bytes it is given, once: no retry, no redirect, no proxy, no cookie. Times in wall milliseconds. The
exchange client owns one per address and closes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.edge.address import exchange_address
from labkit.wire.transport import ConnectionLost, HttpRequest, HttpResponse, NotSent

if TYPE_CHECKING:
    import aiohttp

FORM = "application/x-www-form-urlencoded"


class SocketHttp:
    """One exchange's REST address, e.g. `https://demo-fapi.binance.com`; connections are kept alive.

    Args:
        base_url: scheme, host and port; `ConfigError` if it is not that.
        timeout_ms: patience for one whole answer; half of it may be spent on connecting.

    The sockets belong to the event loop of the first request.
    """

    def __init__(self, base_url: str, *, timeout_ms: int) -> None:
        self._base_url = exchange_address(base_url, schemes=("http", "https"))
        self._timeout_ms = timeout_ms
        self._session: aiohttp.ClientSession | None = None

    @property
    def base_url(self) -> str:
        """Where the bytes go; the exchange client holds it against its list of allowed hosts."""
        return self._base_url

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send once and read the whole answer, whatever its status.

        Raises `NotSent` if no byte of the request can have left, `ConnectionLost` for every later failure.
        """
        # Half a second of import that only those who open sockets pay for.
        import aiohttp
        import yarl

        session = self._session = self._session or self._open_session()
        query = f"?{request.query}" if request.query else ""
        try:
            # encoded=True: the signature covers these very bytes, so nothing may be normalised.
            url = yarl.URL(f"{self._base_url}{request.path}{query}", encoded=True)
            async with session.request(
                request.method,
                url,
                data=request.body.encode() if request.body else None,
                headers=_with_content_type(request),
                allow_redirects=False,
            ) as response:
                body = await response.read()
                headers = {name.lower(): value for name, value in response.headers.items()}
                return HttpResponse(status=response.status, body=body, headers=headers)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise NotSent(_words(exc, "cannot connect")) from exc
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise ConnectionLost(_words(exc, "no answer in time")) from exc

    async def close(self) -> None:
        """Close the connections; a later `send` opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        import aiohttp

        seconds = self._timeout_ms / 1000
        session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=seconds, connect=seconds / 2),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        # Left alone, aiohttp sends a DELETE or PUT again when a kept-alive connection breaks. Whether a request is
        # worth repeating is for the client to decide; aiohttp has no public switch for it.
        session._retry_connection = False
        return session


def _with_content_type(request: HttpRequest) -> dict[str, str]:
    headers = dict(request.headers)
    if request.body and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = FORM
    return headers


def _words(exc: BaseException, otherwise: str) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else otherwise
