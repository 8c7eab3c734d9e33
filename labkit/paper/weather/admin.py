"""The door behind the exchange: switch the weather and read the truth while it runs. Loopback only, with the API key.

    GET    /labkit/weather       what weather there is, and how often each fault struck
    POST   /labkit/weather       {"weather": NAME, "seed": 7} or a whole script; the reply is as GET's
    DELETE /labkit/weather       fair weather
    GET    /labkit/executions    the truth table: what became of every client order id

No weather touches these requests. Called by `labkit.paper.venue`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from labkit.errors import AuthenticationFailed, ConfigError, ExchangeError
from labkit.paper.truth_table import truth_table
from labkit.paper.weather.script import WEATHERS, Script, find_script, read_script
from labkit.wire.faults import error_body
from labkit.wire.transport import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from labkit.paper.venue import Venue

PREFIX = "/labkit/"


def answer(venue: Venue, request: HttpRequest, now_ms: int) -> HttpResponse:
    """Answer one request to the admin routes."""
    try:
        _authenticate(venue, request)
        match request.method, request.path.removeprefix(PREFIX):
            case "GET", "weather":
                pass
            case "POST", "weather":
                venue.weather.begin(_script(request.body), now_ms)
                venue.advance(now_ms)
            case "DELETE", "weather":
                venue.weather.clear(now_ms)
                venue.advance(now_ms)
            case "GET", "executions":
                return _reply(truth_table(venue.desk))
            case _:
                return _refuse(404, -5000, "there are GET, POST, DELETE /labkit/weather and GET /labkit/executions")
    except ConfigError as error:
        return _refuse(400, -1130, str(error))
    except ExchangeError as error:
        return _refuse(error.http_status, error.code, error.text)
    return _reply(status(venue))


def status(venue: Venue) -> dict[str, Any]:
    """What weather there is."""
    weather = venue.weather
    return {
        "weather": None if weather.script is None else weather.script.name,
        "seed": None if weather.script is None else weather.script.seed,
        "faults_now": [spell.fault for spell in weather.spells_now()],
        "strikes": dict(weather.strikes),
        "requests_in_silence": weather.requests_in_silence,
    }


def _authenticate(venue: Venue, request: HttpRequest) -> None:
    key = next((value for name, value in request.headers.items() if name.lower() == "x-mbx-apikey"), "")
    if key != venue.api_key:
        raise AuthenticationFailed("Invalid API-key, IP, or permissions for action.", code=-2015, http_status=401)


def _script(body: str) -> Script:
    try:
        told = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigError(f"weather: the body must be a JSON object: {error}", field="weather") from error
    if "weather" not in told:
        return read_script(told)
    name, seed = told["weather"], told.get("seed")
    # By name only: a request must not make the exchange read files.
    if name not in WEATHERS or not isinstance(seed, int | None):
        raise ConfigError(f"weather: {name!r}: one of {', '.join(WEATHERS)}; seed: a whole number", field="weather")
    return find_script(name, seed=seed)


def _reply(told: Any) -> HttpResponse:
    return HttpResponse(status=200, body=msgspec.json.encode(told), headers={"content-type": "application/json"})


def _refuse(status: int, code: int, message: str) -> HttpResponse:
    headers = {"content-type": "application/json"}
    return HttpResponse(status=status, body=error_body(code, message), headers=headers)
