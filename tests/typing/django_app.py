"""Django views: `AnalyticsRequest`, or a class that inherits from it, declares `request.analytics`."""

from typing import assert_type

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views import View

from sessionsight import Analytics, current
from sessionsight_django import AnalyticsMiddleware, AnalyticsRequest


class ShopRequest(AnalyticsRequest):
    tenant: str


class OrderView(View):
    def post(self, request: AnalyticsRequest) -> HttpResponse:
        request.analytics.capture("order_processed")
        return HttpResponse("ok")


def sign_up(request: AnalyticsRequest) -> HttpResponse:
    request.analytics.goals.increment("user-signups")
    request.analytics.capture(5)  # type: ignore[arg-type]
    return HttpResponse("ok")


async def leave(request: AnalyticsRequest) -> HttpResponse:
    request.analytics.capture("account_closed")
    return HttpResponse("ok")


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


urlpatterns = [path("sign-up", sign_up), path("leave", leave), path("orders", OrderView.as_view())]
middleware = AnalyticsMiddleware(view)
asynchronous = AnalyticsMiddleware(refund)
