"""A request class for the annotations of views, which declares `request.analytics` for type checkers."""

from __future__ import annotations

from django.http import HttpRequest

from sessionsight import Analytics

__all__ = ["AnalyticsRequest"]


class AnalyticsRequest(HttpRequest):
    """Django's request, with the analytics that the middleware adds. For annotations; it is never instantiated.

    A project with a request class of its own derives it from this one.

    Example:
        >>> from django.http import HttpResponse
        >>> def pay(request: AnalyticsRequest) -> HttpResponse:
        ...     request.analytics.capture("order_processed", {"order_id": "ord_1"})
        ...     return HttpResponse("Thank you")
    """

    analytics: Analytics
    """Captures under this request's context; see `Analytics`."""
