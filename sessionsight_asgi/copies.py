"""Copies of a scope: where a middleware has put the user into one, the scope that we were given lacks the user."""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping
from types import CodeType, FrameType
from typing import Any

__all__ = ["scope_of_caller"]

_DEPTH = 100  # frames; the innermost function that has a scope is seldom more than ten away
_HOLDERS = ("self", "request", "websocket", "connection")


def scope_of_caller(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any] | None:
    """Return the copy of a scope that the calling code works with, if it works with a copy.

    Django Channels' middlewares, and others, hand on a copy with the user in it. Nothing leads from a scope to its
    copies, but each holds the same analytics. So the copy is looked for among the functions that are being called
    right now: as their `scope`, or as that of their `self` or `request`. Not where the scope has a user of its own.
    """
    if "user" in scope:
        return None
    analytics = scope.get("analytics")
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # as the standard library's logging finds its caller
    for _ in range(_DEPTH):
        if frame is None:
            break
        code = frame.f_code
        known = _known.get(id(code))
        for name in _learn(frame) if known is None else known[1]:
            value = frame.f_locals.get(name)
            found = value if name == "scope" else getattr(value, "__dict__", _NOTHING).get("scope")
            if isinstance(found, MutableMapping) and found.get("analytics") is analytics:
                return None if found is scope else found
        frame = frame.f_back
    return None


_NOTHING: Mapping[str, Any] = {}
_MAX_KNOWN = 10_000
# Of functions that have been asked about, by id: to ask Python for the names of their variables takes longer than all
# the rest. The function's code is kept, so that no other gets its id.
_known: dict[int, tuple[CodeType, tuple[str, ...]]] = {}


def _learn(frame: FrameType) -> tuple[str, ...]:
    """Return the variables of a function that may lead to a scope; none of our own."""
    code, module = frame.f_code, frame.f_globals.get("__name__", "")
    variables = {*code.co_varnames, *code.co_freevars}
    ours = module.partition(".")[0] in {"sessionsight", "sessionsight_asgi"}
    names = () if ours else tuple(name for name in ("scope", *_HOLDERS) if name in variables)
    if len(_known) < _MAX_KNOWN:
        _known[id(code)] = code, names
    return names
