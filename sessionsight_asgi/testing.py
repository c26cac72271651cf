"""Analytics for requests and scopes that the tests of ASGI apps have made."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from sessionsight import Analytics, Client
from sessionsight.adapters import RequestScope, default_client
from sessionsight_asgi.connection import install_property
from sessionsight_asgi.request import AsgiRequest

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.websockets import WebSocket

    from sessionsight_asgi.connection import AnalyticsRequest, AnalyticsWebSocket

__all__ = ["with_analytics"]

_Scope = TypeVar("_Scope", bound=MutableMapping[str, Any])


@overload
def with_analytics(connection: Request, client: Client | None = None) -> AnalyticsRequest: ...
@overload
def with_analytics(connection: WebSocket, client: Client | None = None) -> AnalyticsWebSocket: ...
@overload
def with_analytics(connection: _Scope, client: Client | None = None) -> _Scope: ...
def with_analytics(
    connection: Request | WebSocket | MutableMapping[str, Any], client: Client | None = None
) -> Request | WebSocket | MutableMapping[str, Any]:
    """Add analytics to a request that a test has made, as the middleware does to those of a server.

    Afterwards `request.analytics`, `scope["analytics"]` and the dependency `get_analytics` find them. Each record is
    submitted at once, because there is no response to wait for.

    Args:
        connection: Starlette's or FastAPI's `Request` or `WebSocket`, or an ASGI scope.
        client: The process's own by default.

    Returns:
        The same request or scope. A request is typed as `AnalyticsRequest`, a websocket as `AnalyticsWebSocket`.

    Raises:
        NoClientError: No client was given, and the process has none yet.

    Example:
        >>> from sessionsight import Settings
        >>> scope = {"type": "http", "method": "GET", "path": "/orders", "headers": []}
        >>> analytics = with_analytics(scope, Client(Settings(disabled=True)))["analytics"]
        >>> analytics.capture("order_processed").accepted
        True
    """
    # A request is a mapping too, but not a mutable one.
    scope = connection if isinstance(connection, MutableMapping) else connection.scope
    owner = cast("Client", default_client()) if client is None else client
    request_scope = RequestScope(owner, AsgiRequest(scope))
    request_scope.end()
    scope["analytics"] = Analytics(request_scope)
    install_property()
    return connection
