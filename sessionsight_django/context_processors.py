"""What templates can be given."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

__all__ = ["analytics"]


def analytics(request: HttpRequest) -> dict[str, Any]:
    """The request's analytics as `analytics`; None for a request that has none.

    Example:
        >>> TEMPLATES = [
        ...     {
        ...         "BACKEND": "django.template.backends.django.DjangoTemplates",
        ...         "OPTIONS": {"context_processors": ["sessionsight_django.context_processors.analytics"]},
        ...     }
        ... ]
    """
    return {"analytics": getattr(request, "analytics", None)}
