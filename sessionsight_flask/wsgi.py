"""The WSGI middleware of `sessionsight.wsgi`, under the name that Flask projects look for."""

from sessionsight.wsgi import KEY, AnalyticsMiddleware, EnvironReader

__all__ = ["KEY", "AnalyticsMiddleware", "EnvironReader"]
