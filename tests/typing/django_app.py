"""Django views: a request class of the project's own tells a type checker of `request.analytics`."""

from typing import assert_type

from django.http import HttpRequest, HttpResponse

from sessionsight import Analytics, current
from sessionsight_django import AnalyticsMiddleware


class ShopRequest(HttpRequest):
    analytics: Analytics


def create_order(request: ShopRequest) -> HttpResponse:
    assert_type(request.analytics, Analytics)
    request.analytics.capture("order_processed", {"order_id": 1})
    request.analytics.goals.increment("monthly-revenue", amount=49, using="default")
    request.analytics.identify("user_1", on_commit=False)
    return HttpResponse("ok")


async def refund(request: HttpRequest) -> HttpResponse:
    current().goals.decrement("monthly-revenue", amount=49)
    return HttpResponse("ok")


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


middleware = AnalyticsMiddleware(view)
asynchronous = AnalyticsMiddleware(refund)
