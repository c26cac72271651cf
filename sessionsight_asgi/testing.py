"""For the tests of ASGI apps: analytics for requests and scopes that no middleware has seen."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sessionsight import Analytics, Client
from sessionsight.current import default
from sessionsight_asgi.connection import install_property
from sessionsight_asgi.reader import ScopeReader

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

__all__ = ["with_analytics"]

_Connection = TypeVar("_Connection", bound="HTTPConnection | MutableMapping[str, Any]")


def with_analytics(connection: _Connection, client: Client | None = None) -> _Connection:
    """Give a request that a test has made its analytics, as the middleware does with those of a server.

    Afterwards `request.analytics`, `scope["analytics"]` and the dependency `get_analytics` find them. Each record is
    submitted at once, because there is no response to wait for.

    Args:
        connection: Starlette's or FastAPI's `Request` or `WebSocket`, or an ASGI scope.
        client: The process's own by default.

    Returns:
        The same request or scope.

    Raises:
        NoClientError: No client was given, and the process has none yet.

    Example:
        >>> from sessionsight import Settings
        >>> scope = {"type": "http", "method": "GET", "path": "/orders", "headers": []}
        >>> with_analytics(scope, Client(Settings(disabled=True)))["analytics"].capture("order_processed")
    """
    scope = connection if isinstance(connection, MutableMapping) else connection.scope
    owner = cast("Client", default()) if client is None else client
    analytics = Analytics(owner, ScopeReader(), scope)
    analytics.end()
    scope["analytics"] = analytics
    install_property()
    return connection
