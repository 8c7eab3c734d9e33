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

UNITS = {"minutes": "min", "sigmas": "σ", "nats": "nats", "labels": "labels", "symbol": "× equity", "margin": "× cost"}
"""By the last word of a setting's name, which is where units stand; whatever is not here is a plain number."""


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
    meaning: str
    default: float


@cache
def trader_settings() -> tuple[Setting, ...]:
    """Every setting of the trader that a slider can move, group by group."""
    meanings = _meanings()
    settings = []
    for field in msgspec.structs.fields(TraderConfig):
        kind, meta = get_args(field.type)
        low, high, step = meta.extra["slider"]
        words = field.name.split("_")
        settings.append(
            Setting(
                key=field.name,
                label=" ".join(words).capitalize(),
                group=meta.extra["group"],
                low=low,
                high=high,
                step=step,
                whole=kind is int,
                unit=UNITS.get(words[-1], ""),
                meaning=meanings[field.name],
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
