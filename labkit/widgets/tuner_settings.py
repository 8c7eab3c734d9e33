"""The trader's settings as a tuner offers them: range, step, unit and meaning, read off the typed configuration."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from functools import cache
from typing import get_args

import msgspec

from labkit.config import TraderConfig

LABELS = {
    "decision_every_minutes": ("Decide every", "min"),
    "horizon_minutes": ("Time-out", "min"),
    "warm_up_minutes": ("Warm-up", "min"),
    "barrier_sigmas": ("Stop and target", "σ"),
    "trailing_start_fraction": ("Trailing arms at", "of target"),
    "trailing_gap_fraction": ("Trailing distance", "of stop"),
    "cost_margin": ("Least value", "× cost"),
    "cold_start_labels": ("Ramp-up", "labels"),
    "evidence_nats": ("Evidence asked", "nats"),
    "prior_confidence_z": ("Caution", "std errors"),
    "kelly_fraction": ("Kelly share", "of stake"),
    "max_leverage_per_symbol": ("Most per symbol", "× equity"),
    "drawdown_half": ("Half size below", "of peak"),
    "drawdown_stop": ("No entry below", "of peak"),
    "slippage_rate": ("Slippage a side", "of price"),
    "taker_fee_rate": ("Fee a side", "of value"),
}
"""What a trader calls a setting, and the unit of its number."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting and the slider it deserves."""

    key: str
    label: str
    group: str
    low: float
    high: float
    step: float
    whole: bool
    """True if it is a whole number."""
    unit: str
    tooltip: str
    """What it does, its range, unit and default, and its name in the configuration."""
    default: float


@cache
def trader_settings() -> tuple[Setting, ...]:
    """Every setting of the trader that a slider can move, group by group."""
    meanings = _meanings()
    settings = []
    for field in msgspec.structs.fields(TraderConfig):
        kind, meta = get_args(field.type)
        low, high, step = meta.extra["slider"]
        label, unit = LABELS[field.name]
        span = f"{low:g} to {high:g} {unit}, by default {field.default:g}"
        settings.append(
            Setting(
                key=field.name,
                label=label,
                group=meta.extra["group"],
                low=low,
                high=high,
                step=step,
                whole=kind is int,
                unit=unit,
                tooltip=f"{meanings[field.name]}\n{span} (trader.{field.name})",
                default=field.default,
            )
        )
    groups = list(dict.fromkeys(setting.group for setting in settings))
    return tuple(sorted(settings, key=lambda setting: groups.index(setting.group)))


def _meanings() -> dict[str, str]:
    """The docstrings below the attributes of `TraderConfig`; Python itself forgets them."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(TraderConfig)))
    assert isinstance(tree.body[0], ast.ClassDef)
    body = tree.body[0].body
    return {
        named.target.id: " ".join(told.value.value.split())
        for named, told in itertools.pairwise(body)
        if isinstance(named, ast.AnnAssign)
        and isinstance(named.target, ast.Name)
        and isinstance(told, ast.Expr)
        and isinstance(told.value, ast.Constant)
        and isinstance(told.value.value, str)
    }
