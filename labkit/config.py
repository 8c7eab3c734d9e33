"""Config: every setting of labkit in one frozen, typed object.

Sources, the later wins: defaults, `labkit.toml` in the working folder, `LABKIT_*` variables, arguments. A name nobody
knows is an error that tells the nearest valid one. Units stand in the names; rates are fractions. Secrets are not
settings: keys come from the environment or the keyring (see `labkit.exchange`).
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from labkit.domain.slips import written_setting
from labkit.errors import ConfigError

Positive = Annotated[float, Meta(gt=0)]
PositiveInt = Annotated[int, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
NonNegative = Annotated[float, Meta(ge=0)]
SymbolName = Annotated[str, Meta(pattern=r"^[A-Z0-9_]{2,30}$|^[^\x00-\x7f]+[A-Z0-9]*$")]


def _slider(group: str, low: float, high: float, step: float) -> dict[str, Any]:
    """What a slider offers of a setting: the range worth trying, in steps, among others of its group."""
    return {"group": group, "slider": (low, high, step)}


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections of the configuration."""


class TraderConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the SelfLearningTrader believes about time, cost and risk (defaults: reference/self-learning §3)."""

    decision_every_minutes: Annotated[int, Meta(ge=1, le=240, extra=_slider("Time", 1, 60, 1))] = 5
    """A symbol is decided on every so many market minutes, symbols staggered."""
    horizon_minutes: Annotated[int, Meta(ge=5, le=1440, extra=_slider("Time", 5, 240, 5))] = 30
    """Time-out of a bracket."""
    barrier_sigmas: Annotated[float, Meta(ge=0.2, le=5, extra=_slider("Exits", 0.2, 3, 0.05))] = 1.0
    """Stop and target distance in units of the horizon's volatility."""
    cost_margin: Annotated[float, Meta(ge=0, le=10, extra=_slider("Entries", 0, 3, 0.05))] = 0.25
    """Trade only if the expected value exceeds this multiple of the cost."""
    kelly_fraction: Annotated[float, Meta(ge=0, le=1, extra=_slider("Size", 0, 1, 0.01))] = 0.25
    """Share of the stake that would make equity grow fastest if the probabilities were true."""
    max_leverage_per_symbol: Annotated[float, Meta(gt=0, le=20, extra=_slider("Size", 0.05, 3, 0.05))] = 0.5
    """Cap on notional over equity, per symbol."""
    cold_start_labels: Annotated[float, Meta(ge=0, extra=_slider("Entries", 0, 5_000, 50))] = 1000.0
    """Sizes ramp up linearly until this many weighted labels have matured."""
    evidence_nats: Annotated[float, Meta(ge=0, le=50, extra=_slider("Entries", 0, 20, 0.5))] = 9.0
    """Log-loss saved against a coin (nats) that is worth a whole stake; a third of it is the least. 0 asks for none."""
    slippage_rate: Annotated[float, Meta(ge=0, le=0.05, extra=_slider("Costs", 0, 0.002, 0.00005))] = 0.0
    """Expected slippage per side beyond half the spread, as a fraction. What fills are measured to lose beyond it is
    added; a backtest's broker charges it."""
    taker_fee_rate: Annotated[float, Meta(ge=0, le=0.01, extra=_slider("Costs", 0, 0.002, 0.00005))] = 0.0005
    """Fee per side the trader reckons with, as a fraction of notional."""
    prior_confidence_z: Annotated[float, Meta(ge=0, le=5, extra=_slider("Entries", 0, 3, 0.05))] = 0.5
    """How many standard errors are subtracted from the calibration slope."""
    drawdown_half: Annotated[float, Meta(ge=0, le=1, extra=_slider("Size", 0.01, 0.5, 0.01))] = 0.10
    """Sizes are halved once equity lies this fraction below its peak."""
    drawdown_stop: Annotated[float, Meta(ge=0, le=1, extra=_slider("Size", 0.02, 0.8, 0.01))] = 0.20
    """No entries once equity lies this fraction below its peak."""
    warm_up_minutes: Annotated[int, Meta(ge=0, extra=_slider("Time", 0, 10_080, 60))] = 2_880
    """So much history is lived through before the first entry."""
    trailing_start_fraction: Annotated[float, Meta(ge=0, le=1, extra=_slider("Exits", 0, 1, 0.05))] = 0.6
    """The trailing stop arms once this fraction of the way to the target is earned."""
    trailing_gap_fraction: Annotated[float, Meta(gt=0, le=1, extra=_slider("Exits", 0.05, 1, 0.05))] = 0.4
    """Distance of the trailing stop from the best price, as a fraction of the stop distance."""


class RiskConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hard caps that hold whatever the trader wants (invariant I32)."""

    max_order_notional: Decimal = Decimal(25_000)
    max_position_notional: Decimal = Decimal(50_000)
    max_open_positions: Annotated[int, Meta(ge=1, le=400)] = 10
    max_daily_loss_fraction: Fraction = 0.10
    max_orders_per_minute: PositiveInt = 60
    leverage: Annotated[int, Meta(ge=1, le=125)] = 5
    """Leverage set at the exchange for every traded symbol."""


class MonitorConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """WebSocketMonitor: when a stream counts as stale and how it comes back."""

    stale_after_ms: PositiveInt = 3_000
    """A quote older than this (market time, scaled with speed) is never used for a decision."""
    open_timeout_ms: PositiveInt = 5_000
    backoff_first_ms: PositiveInt = 250
    backoff_cap_ms: PositiveInt = 30_000
    backoff_reset_after_ms: PositiveInt = 30_000
    rotate_after_hours: Annotated[float, Meta(gt=0, lt=24)] = 23.0
    liquidity_scale: Positive = 10.0
    """`get_liquidity_score` is (bid quantity + ask quantity) / this, capped to 1."""
    streams_per_connection: Annotated[int, Meta(ge=1, le=1024)] = 1024


class ClientConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """BinanceClient: time, limits and patience."""

    receive_window_ms: Annotated[int, Meta(ge=1, le=5_000)] = 5_000
    request_timeout_ms: PositiveInt = 10_000
    weight_share: Fraction = 0.8
    """Share of each of the exchange's limits, weight and orders, that labkit allows itself."""
    listen_key_every_ms: PositiveInt = 20 * 60_000
    reconcile_every_ms: PositiveInt = 60_000


class PaperConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PaperExchange: the account and what the exchange charges."""

    opening_balance: Decimal = Decimal(10_000)
    maker_fee_rate: Decimal = Decimal("0.0002")
    taker_fee_rate: Decimal = Decimal("0.0005")
    cross_margin: bool = True
    history_days: Annotated[int, Meta(ge=1, le=120)] = 21
    """How much of the simulated past exists before the lab opens."""
    planted_edge: Annotated[float, Meta(ge=-1, le=1)] = 0.12
    """Momentum drift of the simulated market in units of one minute's volatility (0 = no edge). Always disclosed."""
    quotes_per_second: Annotated[float, Meta(gt=0, le=50)] = 1.0
    """Simulated quote updates per symbol and market second."""
    weather: str = ""
    """Faults on demand: the name of a ready-made weather (`labkit weather ls`) or a script (.toml, .json)."""
    weather_after_seconds: NonNegative = 60.0
    """So many seconds of life pass before the weather begins, so that the lab can open its books in peace."""


class ReportConfig(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """DailyReporter."""

    at_utc: Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "00:00"
    timeout_seconds: PositiveInt = 180


class Config(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a lab.

    `market` is `simulated`, `tape` or `live`: whose prices the paper exchange trades at. `speed` is market seconds per
    wall second; `"max"` runs in virtual time.
    """

    symbols: Annotated[tuple[SymbolName, ...], Meta(min_length=1)] = (
        "BTCUSDT",
        "ETHUSDT",
        "SOLUSDT",
        "BNBUSDT",
        "XRPUSDT",
        "DOGEUSDT",
    )
    market: Annotated[str, Meta(pattern=r"^(simulated|tape|live)$")] = "simulated"
    tapes: tuple[str, ...] = ()
    seed: Annotated[int, Meta(ge=0)] = 1
    speed: Annotated[float, Meta(gt=0, le=1000)] | str = 30.0
    data_dir: str = "data"
    market_start: str = "2026-01-05T00:00:00Z"
    """First moment of the simulated market that is lived through rather than remembered."""
    trader: TraderConfig = TraderConfig()
    risk: RiskConfig = RiskConfig()
    monitor: MonitorConfig = MonitorConfig()
    client: ClientConfig = ClientConfig()
    paper: PaperConfig = PaperConfig()
    report: ReportConfig = ReportConfig()

    @property
    def TRADING_SYMBOLS(self) -> list[str]:  # noqa: N802 - the name the first design of labkit used
        """The traded symbols as a list."""
        return list(self.symbols)

    @property
    def virtual_time(self) -> bool:
        """True if time is virtual: as fast as the machine allows."""
        return self.speed == "max"

    def fingerprint(self) -> str:
        """A short hash of everything that can change a decision (not where files live, nor how fast time runs)."""
        plain = to_plain(self)
        del plain["data_dir"], plain["speed"]
        return hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).hexdigest()[:16]


def home() -> Path:
    """The folder relative paths start from: the checkout or project around the working folder, else that folder.

    A notebook's working folder is `notebooks/`; its data belongs beside it, not into it.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "labkit.toml").exists() or (folder / "labkit" / "__init__.py").exists():
            return folder
    return here


def to_plain(config: Section) -> dict[str, Any]:
    """The configuration as nested dictionaries of plain values."""
    plain: dict[str, Any] = msgspec.to_builtins(config)
    return plain


SAVED_CONFIGS = "configs"
"""Below the data folder: settings that were saved under a name."""


def save_settings(folder: Path, name: str, trader: Mapping[str, float]) -> Path:
    """Keep settings of the trader under a name; `labkit.start(config=name)` starts with them. Returns the file.

    Raises:
        ConfigError: the name would not make a file of its own, or a setting is wrong.
    """
    path = _saved_path(folder, name)
    change_config(Config(), {"trader": trader})
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{key} = {value!r}" for key, value in trader.items()]
    path.write_text("\n".join(["[trader]", *lines, ""]))
    return path


def saved_settings(folder: Path, name: str) -> dict[str, Any]:
    """What was saved under that name, by dotted names.

    Raises:
        ConfigError: nothing was; tells what there is.
    """
    path = _saved_path(folder, name)
    if not path.is_file():
        known = ", ".join(sorted(own.stem for own in path.parent.glob("*.toml"))) or "none"
        raise ConfigError(f"no settings are saved as {name!r} in {path.parent}; saved: {known}", field="config")
    return _flatten(_from_file(path))


def load_saved_config(name: str, overrides: Mapping[str, Any]) -> Config:
    """As `load_config` at home, with what was saved under that name in the data folder; `overrides` go before it.

    Raises:
        ConfigError: nothing was saved under that name (tells what there is), or a setting is wrong.
    """
    asked = load_config(overrides, folder=home())
    saved = saved_settings(home() / asked.data_dir, name)
    if asked.market == "live":
        # The real market has its own pace, whatever was saved.
        saved.pop("speed", None)
    return load_config({**saved, **overrides}, folder=home())


def _saved_path(folder: Path, name: str) -> Path:
    if not re.fullmatch(r"\w[\w -]{0,60}", name):
        raise ConfigError(
            f"{name!r} is no name to save settings under: letters, digits, spaces, - and _ only", field="config"
        )
    return folder / SAVED_CONFIGS / f"{name}.toml"


def differences(running: Config, asked: Config) -> str:
    """Where `asked` differs from `running`, in words: `speed is 60.0, not 61.0`."""
    one, other = _flatten(to_plain(running)), _flatten(to_plain(asked))
    return "; ".join(f"{name} is {one[name]}, not {other[name]}" for name in one if one[name] != other[name])


def load_config(
    overrides: Mapping[str, Any] | None = None,
    *,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """The configuration from defaults, `labkit.toml`, `LABKIT_*` variables and `overrides`, the later wins.

    Args:
        overrides: nested or dotted names, e.g. `{"speed": 60, "trader.horizon_minutes": 20}`.
        folder: where `labkit.toml` is looked for; the working folder if None.
        environ: the environment; `LABKIT_TRADER__HORIZON_MINUTES=20` sets `trader.horizon_minutes`.

    Raises:
        ConfigError: a name nobody knows (the nearest one is told) or a value out of range, with field and source.
    """
    return _merged(
        ("labkit.toml", _from_file((folder or Path.cwd()) / "labkit.toml")),
        ("environment", _from_environment(os.environ if environ is None else environ)),
        (ARGUMENTS, dict(overrides or {})),
    )


def change_config(config: Config, overrides: Mapping[str, Any]) -> Config:
    """`config` with other values of some settings, by nested or dotted names; nothing else is read.

    Raises:
        ConfigError: a name nobody knows (the nearest one is told) or a value out of range.
    """
    return _merged(("configuration", to_plain(config)), (ARGUMENTS, overrides))


def _merged(*sources: tuple[str, Mapping[str, Any]]) -> Config:
    merged: dict[str, Any] = {}
    for source, values in sources:
        for dotted, value in _flatten(values).items():
            _check_name(dotted, value, source)
            _set(merged, dotted, _number_if_it_is_one(value) if dotted == "speed" else value)
    if merged.get("market") == "live":
        # The real market is as fast as life; nobody should have to say so.
        merged.setdefault("speed", 1.0)
    try:
        config = msgspec.convert(merged, Config, strict=False)
    except msgspec.ValidationError as error:
        field = str(error).partition("`$")[2].strip("`.").removesuffix("`")
        raise ConfigError(f"setting {field or '?'}: {str(error).partition(' - at')[0]}", field=field) from error
    _check_whole(config)
    return config


ARGUMENTS = "arguments"
_IGNORED_VARIABLES = {"LABKIT_REAL_DATA", "LABKIT_CI_NO_SKIPS", "LABKIT_API_KEY", "LABKIT_API_SECRET"}


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}", field=str(path)) from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith("LABKIT_") or name in _IGNORED_VARIABLES:
            continue
        dotted = name.removeprefix("LABKIT_").lower().replace("__", ".")
        # Lists are written with commas.
        found[dotted] = [part.strip() for part in text.split(",") if part.strip()] if dotted in _LISTS else text
    return found


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, Section):
            value = to_plain(value)
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{dotted}.")
        else:
            flat[dotted] = value
    return flat


def _names(section: type[Section], prefix: str = "") -> dict[str, Any]:
    names: dict[str, Any] = {}
    for field in msgspec.structs.fields(section):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            names |= _names(field.type, f"{prefix}{field.name}.")
        else:
            names[f"{prefix}{field.name}"] = field.type
    return names


FIELDS: dict[str, Any] = _names(Config)
"""Every setting by its dotted name, with its type."""

SECTIONS = {
    field.name: tuple(each.name for each in msgspec.structs.fields(field.type))
    for field in msgspec.structs.fields(Config)
    if isinstance(field.type, type) and issubclass(field.type, Section)
}
"""The names of the settings of every section."""

_LISTS = {"symbols", "tapes"}


def _check_name(dotted: str, value: object, source: str) -> None:
    if dotted in FIELDS:
        return
    if any(word in dotted.lower() for word in ("key", "secret", "token", "password")):
        raise ConfigError(
            f"setting {dotted!r} (from {source}) looks like a secret, and secrets are not settings: put them into the "
            "environment as LABKIT_API_KEY and LABKIT_API_SECRET, remove them here, and revoke the key if this file "
            "or notebook was ever shared (value not shown)",
            field=dotted,
        )
    if own := [name for name in FIELDS if name.startswith(f"{dotted}.")]:
        raise ConfigError(
            f"setting {dotted!r} (from {source}) is a section: give it as a dictionary, e.g. "
            f"{dotted}={{{own[0].removeprefix(f'{dotted}.')!r}: ...}}",
            field=dotted,
        )
    near = [name for name in FIELDS if name.rpartition(".")[2] == dotted]
    near = near or difflib.get_close_matches(dotted, FIELDS, n=1, cutoff=0.4)
    section, _, setting = near[0].rpartition(".") if near else ("", "", "")
    if section and source == ARGUMENTS and "." not in dotted and not isinstance(value, str):
        # Python's calls cannot write a dotted name as it stands.
        hint = f"write {written_setting(section, setting, value)}"
    else:
        hint = f"did you mean {near[0]!r}?" if near else f"known settings: {', '.join(FIELDS)}"
    raise ConfigError(f"unknown setting {dotted!r} (from {source}); {hint}", field=dotted)


def _number_if_it_is_one(value: Any) -> Any:
    """Text from a file or the environment as a number, where it is one: `speed` may be a number or "max"."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _set(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = list(value) if isinstance(value, tuple) else value


def _check_whole(config: Config) -> None:
    if isinstance(config.speed, str) and config.speed != "max":
        raise ConfigError(
            f"setting speed: {config.speed!r} is neither a number of market seconds per second nor 'max'", field="speed"
        )
    for dotted, value in _flatten(to_plain(config)).items():
        if FIELDS[dotted] is Decimal and not Decimal(value).is_finite():
            raise ConfigError(f"setting {dotted}: {value} is not a finite number", field=dotted)
    if config.paper.opening_balance <= 0:
        raise ConfigError("setting paper.opening_balance: must be above 0 USDT", field="paper.opening_balance")
    if len(set(config.symbols)) != len(config.symbols):
        raise ConfigError("setting symbols: a symbol is listed twice", field="symbols")
    if config.market == "live" and config.speed != 1:
        raise ConfigError(
            f"setting speed: {config.speed} is not possible, a live market runs as fast as life (speed=1)",
            field="speed",
        )
    if config.market == "tape" and not config.tapes:
        raise ConfigError("setting tapes: market 'tape' needs at least one recording", field="tapes")
    for tape in config.tapes:
        if not Path(tape).exists():
            raise ConfigError(f"setting tapes: no such file or folder: {tape}", field="tapes")
