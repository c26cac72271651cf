"""`request.analytics` for Starlette and FastAPI. Other ASGI frameworks use `scope["analytics"]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessionsight import Analytics, NoClientError
from sessionsight.adapters import scope_of
from sessionsight_asgi.request import AsgiRequest, HTTPConnection, Request

if TYPE_CHECKING:
    from starlette.websockets import WebSocket
else:
    try:
        from starlette.websockets import WebSocket
    except ImportError:  # another ASGI framework, or none
        WebSocket = object

__all__ = ["AnalyticsRequest", "AnalyticsWebSocket", "get_analytics", "install_property"]


class AnalyticsRequest(Request):
    """Starlette's and FastAPI's request with `analytics` declared, for annotations.

    It is never instantiated: a view gets the framework's own request.

    Example:
        >>> from fastapi import FastAPI
        >>> app = FastAPI()
        >>> @app.post("/orders")
        ... async def create_order(request: AnalyticsRequest) -> None:
        ...     request.analytics.capture("order_processed")
    """

    @property
    def analytics(self) -> Analytics:
        """Captures under this request's context; see `Analytics`."""
        return _analytics(self)


class AnalyticsWebSocket(WebSocket):
    """Starlette's and FastAPI's websocket with `analytics` declared, for annotations."""

    @property
    def analytics(self) -> Analytics:
        """Captures under the context of the request that opened the websocket; see `Analytics`."""
        return _analytics(self)


async def get_analytics(connection: HTTPConnection) -> Analytics:
    """Return the analytics of a request or websocket, as a dependency for FastAPI.

    It is async so that FastAPI need not call it in a thread. Elsewhere, `request.analytics` and
    `sessionsight.current()` give the same object.

    Raises:
        NoClientError: `AnalyticsMiddleware` does not serve this app.

    Example:
        >>> from typing import Annotated
        >>> from fastapi import Depends, FastAPI
        >>> app = FastAPI()
        >>> @app.post("/orders")
        ... async def create_order(analytics: Annotated[Analytics, Depends(get_analytics)]) -> None:
        ...     analytics.capture("order_processed")
    """
    return _analytics(connection)


def install_property() -> None:
    """Give Starlette's requests and websockets a read-only `analytics`, once, where Starlette is installed."""
    if HTTPConnection is not None and not hasattr(HTTPConnection, "analytics"):
        HTTPConnection.analytics = property(_analytics)  # type: ignore[attr-defined]


def _analytics(connection: HTTPConnection) -> Analytics:
    """Return the analytics of this request, which must have passed `sessionsight_asgi.AnalyticsMiddleware`."""
    analytics = connection.scope.get("analytics")
    if isinstance(analytics, Analytics):
        scope_of(analytics).bind_request(AsgiRequest(connection.scope))
        return analytics
    raise NoClientError(
        "this request has no analytics, because the middleware does not serve its app: "
        "call app.add_middleware(sessionsight_asgi.AnalyticsMiddleware)"
    )
