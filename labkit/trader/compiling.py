"""How the numeric core is compiled: one decorator, and a cache that cannot go stale.

numba looks only at the file of the function it caches, so an entry point would go on running the old machine code of
a helper changed in another file. Here the cache folder bears a hash of all sources of this room; it lives next to
them, or where numba puts caches by default if the package folder cannot be written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])

_ROOM = Path(__file__).parent


def _hash_of_sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(_ROOM.glob("*.py")):
        digest.update(path.read_bytes())
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
