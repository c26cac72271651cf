"""While a test records, what its client has read of a response can be looked at, though nothing is closed yet."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from werkzeug.test import EnvironBuilder

from sessionsight import Client, Settings
from sessionsight.testing import record
from sessionsight.wsgi import ENVIRON_KEY
from sessionsight.wsgi import AnalyticsMiddleware as WSGIMiddleware
from sessionsight_asgi import AnalyticsMiddleware as ASGIMiddleware

DESTINATIONS = {"analyse": {"public_key": "pk_live_1"}}


def view(request: HttpRequest) -> HttpResponse:
    request.analytics.capture("seen")  # type: ignore[attr-defined]
    return HttpResponse("ok")


urlpatterns = [path("", view)]


def start_response(*_: Any) -> Any:
    return len


def test_of_a_django_view() -> None:
    with (
        override_settings(
            MIDDLEWARE=["sessionsight_django.AnalyticsMiddleware"],
            ROOT_URLCONF=__name__,
            SESSIONSIGHT={"DESTINATIONS": DESTINATIONS},
        ),
        record() as seen,
    ):
        response: Any = WSGIHandler()(EnvironBuilder().get_environ(), start_response)
        assert b"".join(response) == b"ok"
        seen.assert_captured("seen")
        response.close()
        assert len(seen.events) == 1


def test_of_a_wsgi_app() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ[ENVIRON_KEY].capture("seen")
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    client = Client(Settings.from_mapping({"destinations": DESTINATIONS}))
    with record() as seen:
        body: Any = WSGIMiddleware(app, client)(EnvironBuilder().get_environ(), start_response)
        assert next(iter(body)) == b"ok"
        seen.assert_captured("seen")
        body.close()
        assert len(seen.events) == 1
    client.shutdown()


def test_of_an_asgi_app() -> None:
    names: list[list[str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["analytics"].capture("seen")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def receive() -> Any:
        return {"type": "http.request"}

    client = Client(Settings.from_mapping({"destinations": DESTINATIONS}))
    with record() as seen:

        async def send(message: Any) -> None:
            names.append([event.name for event in seen.events])

        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        asyncio.run(ASGIMiddleware(app, client)(scope, receive, send))
    client.shutdown()
    assert names == [[], ["seen"]]
