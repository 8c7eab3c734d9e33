"""A person's slips with names: a call that does not fit, a name that is not there. One sentence, with what to write.

Python answers these with a TypeError or an AttributeError and a traceback, and a notebook with a screen of it.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from inspect import Parameter
from typing import Any, ParamSpec, TypeVar

from labkit.errors import UnfitCall, UnknownName

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

LIKENESS = 0.6
"""How alike two names must be for one to be proposed in place of the other."""


def answers_slips(function: Callable[P, R]) -> Callable[P, R]:
    """Have `function` answer a call that does not fit its parameters with `UnfitCall`; any other call is left alone."""
    return answers_slips_as(function.__qualname__.rpartition(".")[2])(function)


def answers_slips_as(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`answers_slips` for what a person calls by another `name` than its own."""

    def answering(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def called(*args: P.args, **named: P.kwargs) -> R:
            try:
                return function(*args, **named)
            except TypeError:
                # Looked at only now: a call that fits costs nothing, and a TypeError from within stays what it is.
                if said := misfit(name, function, args, named):
                    raise UnfitCall(said) from None
                raise

        return called

    return answering


def methods_answer_slips(kind: C) -> C:
    """`answers_slips` for every public method of a class."""
    for name, member in list(vars(kind).items()):
        if inspect.isfunction(member) and not name.startswith("_"):
            setattr(kind, name, answers_slips(member))
    return kind


def misfit(name: str, function: Callable[..., Any], args: Sequence[object], named: Mapping[str, object]) -> str:
    """Why `function`, which a person calls by `name`, cannot be called with these, in words; empty if it can."""
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
        free = [word for word in names if word not in named]
        near = nearest(unknown[0], free)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it takes {', '.join(names) or 'no values'}"
        return f"{name}() takes no {unknown[0]!r}; {hint}"
    return f"{name}(): {complaint}; write {_written(name, known)}"


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
