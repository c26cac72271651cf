"""A request class for the annotations of views, so that type checkers know of `request.analytics`."""

from __future__ import annotations

from django.http import HttpRequest

from sessionsight import Analytics

__all__ = ["AnalyticsRequest"]


class AnalyticsRequest(HttpRequest):
    """Django's request, with the analytics that the middleware adds. For annotations; nothing makes one.

    A project that annotates its own request class inherits from this one.

    Example:
        >>> from django.http import HttpResponse
        >>> def pay(request: AnalyticsRequest) -> HttpResponse:
        ...     request.analytics.capture("order_processed", {"order_id": "ord_1"})
        ...     return HttpResponse("Thank you")
    """

    analytics: Analytics
    """Captures under this request's context; see `Analytics`."""
