"""The compiled code that runs is the code that stands in the files."""

from __future__ import annotations

from pathlib import Path

import labkit.trader
from labkit.trader.compiling import CACHE_FOLDER, COMPILED_MODULES, compiled


def test_every_module_with_compiled_code_is_part_of_the_cache_key() -> None:
    room = Path(labkit.trader.__file__).parent
    using = {path.stem for path in room.glob("*.py") if "@compiled" in path.read_text()}
    assert using - set(COMPILED_MODULES) == set()


def test_decorating_leaves_the_cache_of_everybody_else_where_it_is() -> None:
    import numba

    before = numba.config.CACHE_DIR

    @compiled
    def twice(value: float) -> float:
        return 2.0 * value

    assert twice(1.5) == 3.0
    assert before == numba.config.CACHE_DIR
    assert CACHE_FOLDER.parent.name == "__pycache__"
