"""Starlette's and FastAPI's own ways to the analytics of a request. Other ASGI frameworks use `scope["analytics"]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessionsight import Analytics, NoClientError

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection, Request
    from starlette.websockets import WebSocket
else:
    try:
        from starlette.requests import HTTPConnection, Request
        from starlette.websockets import WebSocket
    except ImportError:  # another ASGI framework, or none
        HTTPConnection = None
        Request = WebSocket = object

__all__ = ["AnalyticsRequest", "AnalyticsWebSocket", "HTTPConnection", "Request", "get_analytics", "install_property"]


class AnalyticsRequest(Request):
    """Starlette's and FastAPI's request with `analytics` declared, for annotations.

    The request that a view gets stays the framework's own.

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
    """The analytics of a request or websocket, as a dependency for FastAPI.

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
    """The analytics of this request; `sessionsight_asgi.AnalyticsMiddleware` must be installed."""
    analytics = connection.scope.get("analytics")
    if isinstance(analytics, Analytics):
        analytics.follow(connection.scope)
        return analytics
    raise NoClientError(
        "this request has no analytics, because the middleware does not serve its app: "
        "call app.add_middleware(sessionsight_asgi.AnalyticsMiddleware)"
    )
