"""sessionsight for any WSGI app: Pyramid, Bottle, Falcon, or a function."""

from sessionsight.wsgi.middleware import KEY, AnalyticsMiddleware, EnvironReader

__all__ = ["KEY", "AnalyticsMiddleware", "EnvironReader"]
