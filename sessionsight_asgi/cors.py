"""Checks that Starlette's CORSMiddleware allows Signal's headers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sessionsight_asgi.stack import layers

if TYPE_CHECKING:
    from starlette.middleware.cors import CORSMiddleware

__all__ = ["SIGNAL_HEADERS", "blocked_headers"]

SIGNAL_HEADERS = ("x-signal-session-id", "x-signal-window-id", "x-signal-distinct-id")


def blocked_headers(*apps: Any) -> list[str]:
    """Return those of Signal's headers that a CORSMiddleware in or below these apps does not allow."""
    if "starlette.middleware.cors" not in sys.modules:  # then there is none
        return []
    try:
        allowed = [{name.lower() for name in found.allow_headers} for app in apps for found in _cors(app)]
    except Exception:  # attributes of foreign objects may raise anything; the check is then skipped
        return []
    return [name for name in SIGNAL_HEADERS if any(name not in names and "*" not in names for names in allowed)]


def _cors(app: Any) -> Iterator[CORSMiddleware]:
    from starlette.middleware.cors import CORSMiddleware

    return (layer for layer in layers(app) if isinstance(layer, CORSMiddleware))
