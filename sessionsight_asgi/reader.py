"""How a request is read from an ASGI scope."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

from sessionsight.request.raw import snapshot_scope
from sessionsight_asgi.connection import HTTPConnection, Request
from sessionsight_asgi.copies import scope_of_caller

__all__ = ["Scope", "ScopeReader"]

Scope = MutableMapping[str, Any]

# Of an authenticated user, in this order. `display_name` is not among them: it is for people, and
# two users may share it.
_USER_IDS = ("identity", "id", "pk", "username")


class ScopeReader:
    """Reads ASGI scopes: those of any server, with what Starlette and FastAPI add to them."""

    snapshot = staticmethod(snapshot_scope)

    def copy_of_caller(self, request: Scope) -> Scope | None:
        """The copy of the scope that the calling code works with, where Django Channels may have made one.

        Looking for it takes some microseconds, which nobody else pays.
        """
        return scope_of_caller(request) if "channels" in sys.modules else None

    def native(self, request: Scope) -> Any:
        """A Starlette `Request`, or `HTTPConnection` of a websocket; the scope where Starlette is not installed.

        The former are mappings over the scope, so that `request["path"]` works with each.
        """
        if HTTPConnection is None:
            return request
        return Request(request) if request["type"] == "http" else HTTPConnection(request)

    def user_id(self, request: Scope) -> str | None:
        """The id of `scope["user"]`, where an authentication middleware has put an authenticated user there.

        A lazy object of Django's counts once it has been evaluated: to evaluate it may cost a query.
        """
        user = _evaluated(request.get("user"))
        if user is None or not getattr(user, "is_authenticated", False):
            return None
        for name in _USER_IDS:
            try:
                found = getattr(user, name, None)
            except NotImplementedError:  # Starlette's BaseUser leaves it to its subclasses
                continue
            if found is not None and found != "":
                return str(found)
        return None

    def route(self, request: Scope) -> str | None:
        """The template of the matched route, below the paths that apps are mounted at."""
        route = request.get("route")
        if "fastapi" in request:
            # FastAPI 0.165 shares a router's routes between all that include it, and keeps the path with
            # the prefix of the inclusion here.
            included = request["fastapi"].get("effective_route_context")
            if included is not None and included.original_route is route:
                route = included
        path = getattr(route, "path", None)
        if not isinstance(path, str):
            return None
        root_path: str = request.get("root_path", "")
        if not root_path:
            return path
        # What was there before the first mount is the deployment's business, not the app's.
        return root_path.removeprefix(request.get("app_root_path", root_path)) + path


def _evaluated(user: Any) -> Any:
    functional = sys.modules.get("django.utils.functional")
    if functional is None or not isinstance(user, functional.LazyObject):
        return user
    wrapped = vars(user).get("_wrapped", functional.empty)
    return None if wrapped is functional.empty else wrapped
