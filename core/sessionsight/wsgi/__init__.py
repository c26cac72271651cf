"""sessionsight for any WSGI app: Pyramid, Bottle, Falcon, or a function."""

from sessionsight.wsgi.middleware import ENVIRON_KEY, AnalyticsMiddleware, EnvironRequest

__all__ = ["ENVIRON_KEY", "AnalyticsMiddleware", "EnvironRequest"]
