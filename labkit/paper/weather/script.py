"""Weather scripts: which fault, when, for how long, on what, how often, from which seed. TOML or JSON, or by name.

    name = "a bad minute"
    seed = 7
    [[spell]]
    fault = "unknown-executed"
    start_seconds = 10
    duration_seconds = 60
    probability = 0.5
    match = { method = "POST", path = "/fapi/v1/order" }
    parameters = { }

Times count from the moment the weather is switched on, in seconds of life (see `faults`). What a script names wrongly
is refused with the nearest right word.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from labkit.errors import ConfigError
from labkit.paper.weather.faults import FAULTS, Fault, Value

Seconds = Annotated[float, Meta(ge=0)]
Probability = Annotated[float, Meta(ge=0, le=1)]


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a spell strikes. Patterns with `*` and `?`; what is empty is left to the fault."""

    method: str = ""
    path: str = ""
    symbol: str = ""
    """Of a request or a stream; a request that names none is struck by no such spell."""
    stream: str = ""
    """e.g. `btcusdt@bookTicker` or `*@kline_1m`; the account's own stream is `user`."""
    event: str = ""
    """Kind of a user event, e.g. `ORDER_TRADE_UPDATE`."""
    route: str = ""
    """`public`, `market` or `private`."""


class Spell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault over one span of time."""

    fault: str
    start_seconds: Seconds = 0.0
    duration_seconds: Seconds | None = None
    """Until the weather is cleared if None."""
    probability: Probability = 1.0
    times: Annotated[int, Meta(ge=1)] | None = None
    """Strike at most so often."""
    skip: Annotated[int, Meta(ge=0)] = 0
    """Let so many matches pass first."""
    match: Match = Match()
    parameters: dict[str, Value] = {}

    @property
    def kind(self) -> Fault:
        return FAULTS[self.fault]

    def parameter(self, name: str) -> Value:
        """What the script says, or the fault's default."""
        return self.parameters.get(name, self.kind.parameters[name])

    def number(self, name: str) -> float:
        value = self.parameter(name)
        assert not isinstance(value, str)
        return float(value)

    def strikes_request(self, method: str, path: str, symbol: str) -> bool:
        match, kind = self.match, self.kind
        return (
            fnmatchcase(method, match.method or kind.methods)
            and fnmatchcase(path, match.path or kind.paths)
            and fnmatchcase(symbol, match.symbol or "*")
        )

    def strikes_stream(self, route: str, stream: str, event: str = "") -> bool:
        match, kind = self.match, self.kind
        return (
            fnmatchcase(route, match.route or "*")
            and fnmatchcase(stream, match.stream or kind.streams)
            and fnmatchcase(stream.partition("@")[0].upper(), match.symbol or "*")
            and fnmatchcase(event, match.event or "*")
        )

    def strikes_route(self, route: str) -> bool:
        return fnmatchcase(route, self.match.route or "*")


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole weather."""

    name: str
    description: str = ""
    seed: int = 1
    spells: tuple[Spell, ...] = msgspec.field(name="spell", default=())


def read_script(values: Mapping[str, Any]) -> Script:
    """A script from plain values.

    Raises:
        ConfigError: a word nobody knows, with the nearest one that exists, or a value that cannot be.
    """
    try:
        script = msgspec.convert(values, Script)
    except msgspec.ValidationError as error:
        raise ConfigError(f"weather: {error}", field="weather") from error
    for spell in script.spells:
        if spell.fault not in FAULTS:
            raise ConfigError(_unknown("fault", spell.fault, FAULTS), field="weather")
        known = spell.kind.parameters
        for name, value in spell.parameters.items():
            if name not in known:
                raise ConfigError(_unknown(f"parameter of {spell.fault}", name, known), field="weather")
            if isinstance(known[name], str) is not isinstance(value, str):
                wanted = "a text" if isinstance(known[name], str) else "a number"
                raise ConfigError(f"weather: {spell.fault}: {name} = {value!r} must be {wanted}", field="weather")
    return script


def find_script(name_or_path: str, *, seed: int | None = None) -> Script:
    """A ready-made weather by name, or the script in a TOML or JSON file.

    Raises:
        ConfigError: there is neither, or the file is no script.
    """
    name_or_path = str(name_or_path)
    script = WEATHERS.get(name_or_path)
    if script is None:
        path = Path(name_or_path)
        if path.suffix not in (".toml", ".json"):
            raise ConfigError(
                _unknown("weather", name_or_path, WEATHERS) + "; a script is a .toml or .json file", field="weather"
            )
        script = read_script(_plain(path))
    return script if seed is None else msgspec.structs.replace(script, seed=seed)


def _plain(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text()
        values = tomllib.loads(text) if path.suffix == ".toml" else msgspec.json.decode(text)
    except OSError as error:
        raise ConfigError(f"weather: {path}: {error.strerror}", field="weather") from error
    except (tomllib.TOMLDecodeError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"weather: {path}: {error}", field="weather") from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"weather: {path}: must hold a table", field="weather")
    return values


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    words = sorted(known)
    near = difflib.get_close_matches(name, words, n=1, cutoff=0.4)
    return f"weather: unknown {what} {name!r}; " + (
        f"did you mean {near[0]!r}?" if near else f"known: {', '.join(words) or 'none'}"
    )


_ORDERS = Match(method="POST", path="/fapi/v1/order")
_PRICES = Match(stream="*@bookTicker")

_READY_MADE = (
    Script(
        name="drizzle",
        description="A little delay everywhere, now and then a lost or doubled frame.",
        spells=(
            Spell(fault="reply-delay", probability=0.2, parameters={"delay_ms": 150, "jitter_ms": 300}),
            Spell(fault="frame-delay", parameters={"delay_ms": 20, "jitter_ms": 180}),
            Spell(fault="frame-drop", probability=0.02, match=_PRICES),
            Spell(fault="frame-duplicate", probability=0.02),
        ),
    ),
    Script(
        name="flaky-rest",
        description="Orders end in doubt, questions fail, limits are told now and then.",
        spells=(
            Spell(fault="execute-then-drop-reply", probability=0.15, match=_ORDERS),
            Spell(fault="drop-before-execute", probability=0.15, match=_ORDERS),
            Spell(fault="unknown-executed", probability=0.1, match=_ORDERS),
            Spell(fault="timeout-executed-late", probability=0.1, match=_ORDERS),
            Spell(fault="service-unavailable", probability=0.05, match=Match(method="GET")),
            Spell(fault="rate-limited", probability=0.005),
        ),
    ),
    Script(
        name="silent-feed",
        description="Every 30 s the open market connections fall silent and go on answering pings.",
        spells=tuple(
            Spell(fault="freeze", start_seconds=10 + 30 * turn, duration_seconds=15, match=Match(route=route))
            for turn in range(10)
            for route in ("public", "market")
        ),
    ),
    Script(
        name="half-open",
        description="The open market connections die without a word, once a minute.",
        spells=tuple(
            Spell(fault="half-open", start_seconds=10 + 60 * turn, match=Match(route="public")) for turn in range(10)
        ),
    ),
    Script(
        name="bad-prices",
        description="One quote in ten is nonsense: NaN, 0, negative, crossed, far away, in odd digits.",
        spells=tuple(
            Spell(fault=fault, probability=0.015)
            for fault in (
                "price-nan",
                "price-zero",
                "price-negative",
                "price-empty",
                "price-crossed",
                "price-jump",
                "price-full-width",
                "price-exponent",
                "truncate-frame",
            )
        ),
    ),
    Script(
        name="lossy-account",
        description="Events of the account are lost, doubled and out of order; its key expires.",
        spells=(
            Spell(fault="user-event-loss", probability=0.2),
            Spell(fault="user-event-duplicate", probability=0.2),
            Spell(fault="user-event-reorder", probability=0.2),
            Spell(fault="listen-key-expiry", start_seconds=120),
        ),
    ),
    Script(
        name="maintenance",
        description="For two minutes the exchange is away: streams cut, handshakes and requests answered with 503.",
        spells=(
            Spell(fault="daily-cut"),
            Spell(fault="service-unavailable", duration_seconds=120),
            Spell(fault="refuse-handshake", duration_seconds=120, parameters={"status": 503}),
        ),
    ),
    Script(
        name="banned",
        description="429 at first, then a ban of two minutes.",
        spells=(
            Spell(fault="rate-limited", times=1),
            Spell(fault="ban", start_seconds=30, times=1),
        ),
    ),
    Script(
        name="restart",
        description="The exchange restarts: ten seconds away, then update ids from low numbers.",
        spells=(Spell(fault="venue-restart"),),
    ),
    Script(
        name="storm",
        description="Most of it at once, for as long as you let it.",
        spells=(
            Spell(fault="reply-delay", probability=0.3, parameters={"delay_ms": 300, "jitter_ms": 1_500}),
            Spell(fault="execute-then-drop-reply", probability=0.1, match=_ORDERS),
            Spell(fault="drop-before-execute", probability=0.1, match=_ORDERS),
            Spell(fault="timeout-executed-late", probability=0.1, match=_ORDERS),
            Spell(fault="service-unavailable", probability=0.03),
            Spell(fault="frame-delay", parameters={"delay_ms": 20, "jitter_ms": 400}),
            Spell(fault="frame-drop", probability=0.05, match=_PRICES),
            Spell(fault="frame-duplicate", probability=0.05),
            Spell(fault="price-jump", probability=0.01),
            Spell(fault="price-nan", probability=0.01),
            Spell(fault="truncate-frame", probability=0.01),
            Spell(fault="user-event-loss", probability=0.1),
            *(
                Spell(fault=fault, start_seconds=20 + 60 * turn, match=Match(route=route))
                for turn in range(10)
                for fault, route in (("reset", "public"), ("vanish", "market"), ("reset", "private"))
            ),
        ),
    ),
)

WEATHERS: dict[str, Script] = {script.name: script for script in _READY_MADE}
"""Ready-made weathers by name."""
