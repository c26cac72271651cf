"""The chain of a Starlette app's middlewares, followed through their attributes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["is_added_to_starlette", "layers"]

_DEPTH = 100  # no app has that many middlewares, unless its chain is cyclic


def layers(app: Any) -> Iterator[Any]:
    """Iterate over an app and what it wraps, from outside to inside.

    A Starlette app keeps its middlewares in `middleware_stack`, once it has made them; each of them keeps what it wraps
    in `app`.
    """
    for _ in range(_DEPTH):
        if app is None:
            return
        yield app
        app = getattr(app, "middleware_stack", None) or getattr(app, "app", None)


def is_added_to_starlette(app: Any) -> bool:
    """Return whether a middleware that wraps this app was added by Starlette's `add_middleware`.

    Starlette instantiates such middlewares when it serves its first message, around its own `ExceptionMiddleware`.
    """
    module = sys.modules.get("starlette.middleware.exceptions")
    if module is None or hasattr(app, "middleware_stack"):
        return False
    return any(isinstance(layer, module.ExceptionMiddleware) for layer in layers(app))
