"""Finds copies of a scope: a middleware may have put the user into a copy, which the original scope lacks."""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping
from types import CodeType, FrameType
from typing import Any

__all__ = ["scope_of_caller"]

_DEPTH = 100  # frames; the innermost function that has a scope is rarely more than ten away
_OWNERS = ("self", "request", "websocket", "connection")


def scope_of_caller(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any] | None:
    """Return the copy of a scope that the calling code works with, if it works with a copy.

    Django Channels' middlewares, and others, pass on a copy that contains the user. A scope has no reference to its
    copies, but each contains the same analytics. The copy is therefore searched in the frames of the call stack: as
    their variable `scope`, or as the `scope` of their `self` or `request`. A scope that has a user is not searched for.
    """
    if "user" in scope:
        return None
    analytics = scope.get("analytics")
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # as the standard library's logging finds its caller
    for _ in range(_DEPTH):
        if frame is None:
            break
        code = frame.f_code
        known = _names_by_code.get(id(code))
        for name in _remember(frame) if known is None else known[1]:
            value = frame.f_locals.get(name)
            found = value if name == "scope" else getattr(value, "__dict__", _EMPTY).get("scope")
            if isinstance(found, MutableMapping) and found.get("analytics") is analytics:
                return None if found is scope else found
        frame = frame.f_back
    return None


_EMPTY: Mapping[str, Any] = {}
_MAX_CODES = 10_000
# Variable names by the id of a code object, because reading them takes longer than the rest of the search. The code
# object is kept, so that its id is not reused.
_names_by_code: dict[int, tuple[CodeType, tuple[str, ...]]] = {}


def _remember(frame: FrameType) -> tuple[str, ...]:
    """Return the names of a function's variables that may lead to a scope; none for our own functions."""
    code, module = frame.f_code, frame.f_globals.get("__name__", "")
    variables = {*code.co_varnames, *code.co_freevars}
    ours = module.partition(".")[0] in {"sessionsight", "sessionsight_asgi"}
    names = () if ours else tuple(name for name in ("scope", *_OWNERS) if name in variables)
    if len(_names_by_code) < _MAX_CODES:
        _names_by_code[id(code)] = code, names
    return names
