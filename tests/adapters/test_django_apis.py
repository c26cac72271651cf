"""Views of Django REST framework and django-ninja."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.adapters.django_site import ANALYTICS, AUTH, SESSIONS, browser, site
from tests.adapters.recording import Recorder

# isort: split
from django.test import AsyncClient
from django.urls import path

from sessionsight import current

pytest.importorskip("rest_framework")
ninja = pytest.importorskip("ninja")

STACK = (ANALYTICS, SESSIONS, AUTH)
REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
}


class User:
    """A user of a token."""

    is_authenticated = True
    pk = 7


def seen_by(recorder: Recorder) -> list[tuple[str, str | None]]:
    return [(event["event_name"], event.get("person_id")) for event in recorder.events()]


def test_rest_framework_views_have_analytics_and_their_own_users(recorder: Recorder) -> None:
    authentication, exceptions, response, views = (
        importlib.import_module(f"rest_framework.{name}")  # which has no types
        for name in ("authentication", "exceptions", "response", "views")
    )

    class ByToken(authentication.BaseAuthentication):  # type: ignore[misc, name-defined]
        def authenticate(self, request: Any) -> Any:
            return (User(), None) if request.headers.get("Authorization") else None

    class Orders(views.APIView):  # type: ignore[misc, name-defined]
        authentication_classes = (ByToken,)
        permission_classes = ()

        def get(self, request: Any) -> Any:
            assert request.analytics is current()
            request.analytics.capture("listed")
            return response.Response({"orders": []})

        def post(self, request: Any) -> Any:
            request.analytics.capture("ordered", {"number": request.data["number"]})
            raise exceptions.NotFound

    with site(recorder, path("orders/", Orders.as_view()), middleware=STACK, REST_FRAMEWORK=REST_FRAMEWORK):
        client = browser()
        assert client.get("/orders/").json() == {"orders": []}
        assert client.get("/orders/", HTTP_AUTHORIZATION="Token 1").json() == {"orders": []}
        refused = client.post("/orders/", {"number": 3}, content_type="application/json", HTTP_AUTHORIZATION="Token 1")
        assert refused.status_code == 404
    assert seen_by(recorder) == [("listed", None), ("listed", "7"), ("ordered", "7")]
    assert {event["path"] for event in recorder.events()} == {"/orders/"}


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_ninja_operations_have_analytics(kind: str, recorder: Recorder) -> None:
    api = ninja.NinjaAPI(urls_namespace=kind)

    def order(request: Any, number: int) -> Any:
        assert request.analytics is current()
        request.analytics.capture("ordered", {"number": number})
        return {"number": number}

    async def async_order(request: Any, number: int) -> Any:
        return order(request, number)

    api.get("/orders/{int:number}")(order if kind == "sync" else async_order)
    with site(recorder, path("api/", api.urls), middleware=STACK):
        response = await browser(AsyncClient).get("/api/orders/3")
        assert response.json() == {"number": 3}
        assert (await browser(AsyncClient).get("/api/orders/three")).status_code == 404
    [event] = recorder.events()
    assert (event["event_name"], event["path"], event["anonymous_id"]) == ("ordered", "/api/orders/3", "visitor-1")
