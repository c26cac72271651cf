"""A context processor for templates."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

__all__ = ["analytics"]


def analytics(request: HttpRequest) -> dict[str, Any]:
    """Add the request's analytics as `analytics`; None for a request without analytics.

    Example:
        >>> TEMPLATES = [
        ...     {
        ...         "BACKEND": "django.template.backends.django.DjangoTemplates",
        ...         "OPTIONS": {"context_processors": ["sessionsight_django.context_processors.analytics"]},
        ...     }
        ... ]
    """
    return {"analytics": getattr(request, "analytics", None)}
