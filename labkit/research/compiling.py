"""The numeric core of research, compiled as the trader's is, into a cache of its own that cannot go stale either."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from labkit.trader import compiling as trader_compiling

Function = TypeVar("Function", bound=Callable[..., object])

COMPILED_MODULES = ("brokerage", "compiling", "leaks", "lessons", "planted_markets", "simulation")
"""Modules of this room that compiled code comes from or reads constants of."""

_EXITS = Path(trader_compiling.__file__).with_name("exits.py")

CACHE_FOLDER = trader_compiling.cache_folder(
    # What is compiled here contains the trader's step and its exit rules.
    Path(__file__).parent,
    COMPILED_MODULES,
    builds_on=trader_compiling.CACHE_FOLDER.name + _EXITS.read_text(),
)


def compiled(function: Function) -> Function:
    """`function` compiled into the cache of this room."""
    return trader_compiling.compile_into(CACHE_FOLDER, function)
