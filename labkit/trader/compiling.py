"""How the numeric core is compiled: one decorator, and a cache that cannot go stale.

numba looks only at the file of the function it caches, so an entry point would go on running the old machine code of
a helper changed in another file. Here the cache folder bears a hash of all compiled sources of this room; it lives
next to them, or where numba puts caches by default if the package folder cannot be written.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])

_ROOM = Path(__file__).parent

COMPILED_MODULES = (
    "compiling",
    "drift",
    "feature_gate",
    "features",
    "learner",
    "policy",
    "questions",
    "state",
    "step",
    "virtual_positions",
)
"""Modules of this room that compiled code comes from or reads constants of."""


def _hash_of_sources() -> str:
    digest = hashlib.sha256()
    for name in COMPILED_MODULES:
        digest.update((_ROOM / f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]


CACHE_FOLDER = _ROOM / "__pycache__" / f"compiled-{_hash_of_sources()}"


def compiled(function: Function) -> Function:
    """`function` compiled on first call, without the GIL, cached on disk. IEEE semantics: never `fastmath`."""
    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(CACHE_FOLDER)  # numba reads it while decorating; nobody else's cache moves
    try:
        return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    finally:
        settings.CACHE_DIR = before


def forget_old_machine_code() -> None:
    """Remove the caches of sources that are no more."""
    for folder in CACHE_FOLDER.parent.glob("compiled-*"):
        if folder != CACHE_FOLDER:
            shutil.rmtree(folder, ignore_errors=True)
