"""sessionsight for Django."""

from sessionsight_django.middleware import AnalyticsMiddleware
from sessionsight_django.typed import AnalyticsRequest

__all__ = ["AnalyticsMiddleware", "AnalyticsRequest"]
