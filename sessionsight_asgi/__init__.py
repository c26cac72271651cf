"""sessionsight for any ASGI app, Starlette and FastAPI among them."""

from sessionsight_asgi.connection import AnalyticsRequest, AnalyticsWebSocket, get_analytics
from sessionsight_asgi.middleware import AnalyticsMiddleware

__all__ = ["AnalyticsMiddleware", "AnalyticsRequest", "AnalyticsWebSocket", "get_analytics"]
