"""How the numeric core is compiled: one decorator, and a cache that cannot go stale.

numba looks only at the file of the function it caches, so an entry point would go on running the old machine code of
a helper changed in another file. Here the cache folder bears a hash of all compiled sources of a room; it lives next
to them, or where numba puts caches by default if the package folder cannot be written.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])

COMPILED_MODULES = (
    "compiling",
    "drift",
    "evidence",
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


def cache_folder(room: Path, modules: Iterable[str], builds_on: str = "") -> Path:
    """Where the machine code of these modules of `room` is kept; `builds_on` names the code of others it contains."""
    digest = hashlib.sha256(builds_on.encode())
    for name in modules:
        digest.update((room / f"{name}.py").read_bytes())
    return room / "__pycache__" / f"compiled-{digest.hexdigest()[:16]}"


CACHE_FOLDER = cache_folder(Path(__file__).parent, COMPILED_MODULES)


def compile_into(folder: Path, function: Function) -> Function:
    """`function` compiled on first call, without the GIL, cached in `folder`. IEEE semantics: never `fastmath`."""
    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(folder)  # numba reads it while decorating; nobody else's cache moves
    try:
        return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    finally:
        settings.CACHE_DIR = before


def compiled(function: Function) -> Function:
    """`function` compiled into the cache of this room."""
    return compile_into(CACHE_FOLDER, function)


def forget_old_machine_code(folder: Path = CACHE_FOLDER) -> None:
    """Remove the caches beside `folder` of sources that are no more."""
    for other in folder.parent.glob("compiled-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
