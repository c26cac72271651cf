"""Views that a test calls with a request of a factory have analytics of that request."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.adapters.django_site import ANALYTICS, browser, site
from tests.adapters.recording import Recorder

# isort: split
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory

from sessionsight import InvalidEventError
from sessionsight.testing import record
from sessionsight_django.middleware import AnalyticsMiddleware
from sessionsight_django.testing import AnalyticsRequestFactory, AsyncAnalyticsRequestFactory, with_analytics


class User:
    """A user whom a test signs in by hand."""

    is_authenticated = True
    pk = 7


def view(request: Any) -> HttpResponse:
    request.analytics.capture("seen", {"method": request.method})
    request.analytics.goals.increment("views")
    return HttpResponse("ok")


@pytest.mark.parametrize("factory", [AnalyticsRequestFactory(), AsyncAnalyticsRequestFactory()])
def test_requests_of_the_factories_have_analytics(factory: Any, recorder: Recorder) -> None:
    with site(recorder), record() as analytics:
        factory.cookies["ss_sid"] = "session-1"
        request = factory.post("/orders/")
        request.user = User()
        assert view(request).content == b"ok"
        event = analytics.assert_captured("seen", method="POST")
        analytics.assert_goal("views", session_id="session-1")
    assert (event.user_id, event.context.page.path) == ("7", "/orders/")


@pytest.mark.parametrize("factory", [RequestFactory(), AsyncRequestFactory()])
def test_any_request_may_be_given_analytics(factory: Any, recorder: Recorder) -> None:
    with site(recorder), record() as analytics:
        request = factory.get("/", headers={"Cookie": "ss_sid=session-1"})
        assert with_analytics(request) is request
        view(request)
        analytics.assert_goal("views", session_id="session-1")


def test_a_wrong_call_raises_and_a_refusal_counts(recorder: Recorder) -> None:
    refusing = Recorder(consent="gpc")
    with site(refusing), record() as analytics:
        view(AnalyticsRequestFactory().get("/", headers={"Sec-GPC": "1"}))
        analytics.assert_dropped("seen", "consent")
        with pytest.raises(InvalidEventError):
            with_analytics(RequestFactory().get("/")).analytics.capture("")
    refusing.client.shutdown()


def test_without_a_recorder_records_go_where_the_settings_say(recorder: Recorder) -> None:
    with site(recorder):
        view(AnalyticsRequestFactory().get("/", HTTP_COOKIE="ss_vid=visitor-1"))
    assert [event["event_name"] for event in recorder.events()] == ["seen"]


def test_the_middleware_leaves_such_a_request_its_analytics(recorder: Recorder) -> None:
    with site(recorder), record() as analytics:
        request: Any = AnalyticsRequestFactory().get("/")
        given = request.analytics
        response: Any = AnalyticsMiddleware(view)(request)
        response.close()
        assert request.analytics is given
    assert len(analytics.events) == 1


def test_a_request_of_the_test_client_is_as_ever(recorder: Recorder) -> None:
    def plain(request: HttpRequest) -> HttpResponse:
        return view(request)

    with site(recorder, plain, middleware=(ANALYTICS,)), record() as analytics:
        assert browser().get("/plain/").status_code == 200
    assert len(analytics.events) == 1


def test_rest_frameworks_own_factory_works_with_the_helper(recorder: Recorder) -> None:
    pytest.importorskip("rest_framework")
    decorators, response, test = (
        importlib.import_module(f"rest_framework.{name}") for name in ("decorators", "response", "test")
    )

    options = {
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
    }

    with site(recorder, REST_FRAMEWORK=options), record() as analytics:

        @decorators.api_view(["POST"])  # type: ignore[untyped-decorator, unused-ignore]
        def order(request: Any) -> Any:
            request.analytics.capture("ordered", {"number": request.data["number"]})
            return response.Response()

        order(with_analytics(test.APIRequestFactory().post("/", {"number": 7}, format="json")))
        analytics.assert_captured("ordered", number=7)
