"""The WSGI middleware of `sessionsight.wsgi`, under the name that Flask projects look for."""

from sessionsight.wsgi import ENVIRON_KEY, AnalyticsMiddleware, EnvironRequest

__all__ = ["ENVIRON_KEY", "AnalyticsMiddleware", "EnvironRequest"]
