"""The targets that can be measured in a minute each, by id: `labkit weather figures [G5 G6 ...]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from labkit.errors import ConfigError
from labkit.research import limit_trials
from labkit.research.targets import ambiguous_sends, feed_fuzz, feed_reconnects, feed_rotation, feed_silence
from labkit.research.targets.figure import Figure


def _under_load() -> list[Figure]:
    return [
        Figure(target="G9", name=line, value=0 if well else 1, limit=0, unit="bad")
        for line, well in limit_trials.table()
    ]


TARGETS: dict[str, Callable[[], list[Figure]]] = {
    "G5": feed_fuzz.figures,
    "G6": feed_silence.figures,
    "G7": feed_reconnects.figures,
    "G8": ambiguous_sends.figures,
    "G9": _under_load,
    "G10": feed_rotation.figures,
}


def measured(ids: Sequence[str] = ()) -> Iterator[Figure]:
    """The figures of these targets, or of all.

    Raises:
        ConfigError: a target nobody measures here.
    """
    for each in ids:
        if each not in TARGETS:
            raise ConfigError(f"no figures of {each!r}: there are {', '.join(TARGETS)}", field="targets")
    for each in ids or TARGETS:
        yield from TARGETS[each]()
