"""Reads requests from ASGI scopes, with what Starlette and FastAPI add to them."""

from __future__ import annotations

import sys
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sessionsight.adapters import HeaderNames, RequestData, snapshot_scope
from sessionsight_asgi.copies import scope_of_caller

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection, Request
else:
    try:
        from starlette.requests import HTTPConnection, Request
    except ImportError:  # another ASGI framework, or none
        HTTPConnection, Request = None, object

__all__ = ["AsgiRequest", "HTTPConnection", "Request", "Scope"]

Scope = MutableMapping[str, Any]

# Attributes of an authenticated user, in this order. `display_name` is not among them: it is for people, and
# two users may share it.
_USER_IDS = ("identity", "id", "pk", "username")


class AsgiRequest(Struct, eq=False):
    """Reads the ASGI scope of any server.

    Args:
        scope: Of type `http` or `websocket`.
    """

    scope: Scope

    def snapshot(self, names: HeaderNames) -> Callable[[], RequestData]:
        """Return a function that gives the raw strings of the request."""
        return snapshot_scope(self.scope, names)

    def copy_of_caller(self) -> AsgiRequest | None:
        """Return the copy of the scope that the calling code works with, where Django Channels may have made one.

        The search takes some microseconds, which other frameworks do not pay.
        """
        if "channels" not in sys.modules:
            return None
        copied = scope_of_caller(self.scope)
        return None if copied is None else AsgiRequest(copied)

    def framework_request(self) -> Any:
        """Return a Starlette `Request`, or `HTTPConnection` of a websocket; the scope if Starlette is not installed.

        The former are mappings over the scope, so that `request["path"]` works with each.
        """
        if HTTPConnection is None:
            return self.scope
        return Request(self.scope) if self.scope["type"] == "http" else HTTPConnection(self.scope)

    def user_id(self) -> str | None:
        """Return the id of `scope["user"]`, where an authentication middleware has put an authenticated user there.

        A lazy object of Django's counts once it has been evaluated, because its evaluation may cost a query.
        """
        user = self.scope.get("user")
        if user is None or (user := _evaluated(user)) is None or not getattr(user, "is_authenticated", False):
            return None
        for name in _USER_IDS:
            try:
                found = getattr(user, name, None)
            except NotImplementedError:  # Starlette's BaseUser leaves it to its subclasses
                continue
            if found is not None and found != "":
                return str(found)
        return None

    def route(self) -> str | None:
        """Return the template of the matched route, below the paths that apps are mounted at."""
        scope = self.scope
        route = scope.get("route")
        if route is None:
            return None
        if "fastapi" in scope:
            # FastAPI 0.165 shares a router's routes between all that include it, and keeps the path with
            # the prefix of the inclusion here.
            included = scope["fastapi"].get("effective_route_context")
            if included is not None and included.original_route is route:
                route = included
        path = getattr(route, "path", None)
        if not isinstance(path, str):
            return None
        root_path: str = scope.get("root_path", "")
        if not root_path:
            return path
        # What the root path was before the first mount belongs to the deployment, not to the app.
        return root_path.removeprefix(scope.get("app_root_path", root_path)) + path


def _evaluated(user: Any) -> Any:
    """Return a lazy user's object, or None if it has not been evaluated; any other user as it is."""
    functional = sys.modules.get("django.utils.functional")
    if functional is None or not isinstance(user, functional.LazyObject):
        return user
    wrapped = vars(user).get("_wrapped", functional.empty)
    return None if wrapped is functional.empty else wrapped
