"""Tests of a user's app: the fixtures, the recorder and the inspector, as a type checker sees them."""

import unittest
from decimal import Decimal
from typing import Any, assert_type
from unittest.mock import ANY

import pytest
from django.http import HttpResponse
from django.test import RequestFactory, TestCase
from starlette.requests import Request
from starlette.types import Receive, Send
from starlette.websockets import WebSocket

from sessionsight import Analytics, CheckoutFinished, TrackingContext
from sessionsight.capture.records import DropReason
from sessionsight.testing import (
    CapturedRecord,
    LocalInspector,
    Recorder,
    allow_delivery,
    lenient,
    record,
    run_inspector,
    suppress_delivery,
)
from sessionsight_asgi import testing as asgi_testing
from sessionsight_django import AnalyticsRequest
from sessionsight_django.testing import (
    AnalyticsRequestFactory,
    AnalyticsTestCase,
    AsyncAnalyticsRequestFactory,
    with_analytics,
)


def test_an_order(analytics: Recorder) -> None:
    event = analytics.assert_captured("order_processed", {"line-items": ANY}, order_id=1, amount=Decimal("49.90"))
    assert_type(event, CapturedRecord)
    assert_type(event.user_id, str | None)
    assert_type(event.context, TrackingContext)
    analytics.assert_captured(CheckoutFinished(payment_type="one_time", amount=4900), plan="pro")
    analytics.assert_identified(7, plan="pro")
    analytics.assert_goal("monthly-revenue", amount=49, direction="decrement", metadata={"plan": "pro"})
    assert_type(analytics.goals, list[CapturedRecord])
    assert_type(analytics.assert_dropped("order_paid", "duplicate", order_id=1).skipped, dict[str, DropReason])
    analytics.clear()
    analytics.assert_nothing_captured()


@pytest.mark.sessionsight_delivery
def test_a_call(sessionsight_inspector: LocalInspector) -> None:
    [found] = sessionsight_inspector.wait(1, timeout=5, vendor="signal", event="order_processed")
    assert_type(found.accepted, bool)
    assert_type(sessionsight_inspector.destinations, dict[str, dict[str, str]])
    assert_type(sessionsight_inspector.goals()[0].total, float)


def view(request: AnalyticsRequest) -> HttpResponse:
    return HttpResponse()


def test_a_request(receive: Receive, send: Send) -> None:
    assert_type(asgi_testing.with_analytics(Request({"type": "http"})).analytics, Analytics)
    assert_type(asgi_testing.with_analytics(WebSocket({"type": "websocket"}, receive, send)).analytics, Analytics)
    scope: dict[str, Any] = {"type": "http"}
    assert_type(asgi_testing.with_analytics(scope), dict[str, Any])


class OrderTest(AnalyticsTestCase, TestCase):
    def test_it(self) -> None:
        assert_type(self.analytics, Recorder)

    @lenient()
    def test_view(self) -> None:
        assert_type(view(with_analytics(RequestFactory().get("/"))), HttpResponse)
        assert_type(view(AnalyticsRequestFactory().post("/", {"a": "b"})), HttpResponse)
        assert_type(view(AsyncAnalyticsRequestFactory().get("/")), HttpResponse)

    @allow_delivery()
    def test_delivery(self) -> None:
        with suppress_delivery(), run_inspector() as inspector:
            assert_type(inspector, LocalInspector)


class JobTest(unittest.TestCase):
    def setUp(self) -> None:
        self.analytics = self.enterContext(record())
        assert_type(self.analytics, Recorder)


def wrong(analytics: Recorder, inspector: LocalInspector) -> None:
    """Each line is an error that a type checker must find."""
    analytics.assert_captured(5)  # type: ignore[arg-type]
    analytics.assert_goal("signups", amount="5")  # type: ignore[arg-type]
    analytics.assert_goal("signups", direction="up")  # type: ignore[arg-type]
    inspector.wait(vendor="plausible")  # type: ignore[arg-type]
    inspector.records(evnt="seen")  # type: ignore[call-arg]
