"""sessionsight for Django."""

from sessionsight_django.middleware import AnalyticsMiddleware

__all__ = ["AnalyticsMiddleware"]
