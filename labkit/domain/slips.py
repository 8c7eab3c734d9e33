"""A person's slips with names: a call that does not fit, a name that is not there. One sentence, with what to write.

Python answers these with a TypeError or an AttributeError and a traceback, and a notebook with a screen of it.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import wraps
from inspect import Parameter
from typing import Any, ParamSpec, TypeVar

from labkit.errors import UnfitCall, UnknownName

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

LIKENESS = 0.6
"""How alike two names must be for one to be proposed in place of the other."""

Sections = Mapping[str, Collection[str]]
"""Names of settings by the parameter that takes them as a dictionary."""
NO_SECTIONS: Sections = {}


def answers_slips(function: Callable[P, R]) -> Callable[P, R]:
    """Have `function` answer a call that does not fit its parameters with `UnfitCall`; any other call is left alone."""
    return slips_answered()(function)


def slips_answered(name: str = "", sections: Sections = NO_SECTIONS) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`answers_slips` for a function that people call by another `name`, or that takes settings in `sections`."""

    def answering(function: Callable[P, R]) -> Callable[P, R]:
        called_by = name or function.__qualname__.rpartition(".")[2]

        @wraps(function)
        def called(*args: P.args, **named: P.kwargs) -> R:
            try:
                return function(*args, **named)
            except TypeError:
                # Looked at only now: a call that fits costs nothing, and a TypeError from within stays what it is.
                if said := misfit(called_by, function, args, named, sections):
                    raise UnfitCall(said) from None
                raise

        return called

    return answering


def methods_answer_slips(sections: Sections = NO_SECTIONS) -> Callable[[C], C]:
    """`slips_answered` for every public method of a class."""

    def answering(kind: C) -> C:
        for name, member in list(vars(kind).items()):
            if inspect.isfunction(member) and not name.startswith("_"):
                setattr(kind, name, slips_answered(sections=sections)(member))
        return kind

    return answering


def misfit(
    name: str,
    function: Callable[..., Any],
    args: Sequence[object],
    named: Mapping[str, object],
    sections: Sections = NO_SECTIONS,
) -> str:
    """Why `function`, which people call by `name`, cannot be called with these, in words; empty if it can."""
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **named)
    except TypeError as error:
        complaint = str(error)
    else:
        return ""
    known = [p for p in signature.parameters.values() if p.name != "self"]
    takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in known)
    names = [p.name for p in known if p.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)]
    unknown = [word for word in named if word not in names and not takes_any]
    if unknown:
        wrong = unknown[0]
        settings = {each: section for section in names for each in sections.get(section, ())}
        near = [] if wrong in settings else nearest(wrong, [word for word in names if word not in named])
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        elif meant := [wrong] if wrong in settings else nearest(wrong, settings):
            hint = f"write {written_setting(settings[meant[0]], meant[0], named[wrong])}"
        else:
            hint = f"it takes {', '.join(names) or 'no values'}"
        return f"{name}() takes no {wrong!r}; {hint}"
    return f"{name}(): {complaint}; write {_written(name, known)}"


def written_setting(section: str, setting: str, value: object) -> str:
    """How a setting of a section is handed over, e.g. `trader={"horizon_minutes": 60}`.

    Only a number is repeated: anything else may be a secret in the wrong place.
    """
    return f'{section}={{"{setting}": {value if isinstance(value, int | float) else "..."}}}'


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """What `name` was probably meant to be: all of `known` that begin with it, or else the one most alike, if any."""
    words = sorted(known)
    begun = [word for word in words if word.startswith(name)]
    return begun or difflib.get_close_matches(name, words, n=1, cutoff=LIKENESS)


def unknown_name(owner: str, name: str, known: Iterable[str]) -> AttributeError:
    """What to raise for `owner.name`, of which there are only `known`. Python's own protocols get their plain error."""
    if name.startswith("_"):
        return AttributeError(f"{owner} has no attribute {name!r}")
    near = nearest(name, known)
    hint = (
        f"did you mean {' or '.join(f'{owner}.{word}' for word in near)}?"
        if near
        else f"dir({owner}) lists what there is"
    )
    return UnknownName(f"{owner} has no {name!r}; {hint}")


def _written(name: str, parameters: Iterable[Parameter]) -> str:
    """`name` and its parameters as a person writes the call, without types."""
    words, named_only = [], False
    for p in parameters:
        if p.kind is Parameter.VAR_KEYWORD:
            words.append("NAME=VALUE, ...")
            continue
        named_only = named_only or p.kind is Parameter.KEYWORD_ONLY
        if p.default is Parameter.empty:
            words.append(f"{p.name}=..." if named_only else p.name)
        else:
            words.append(f"{p.name}={p.default!r}")
    return f"{name}({', '.join(words)})"
