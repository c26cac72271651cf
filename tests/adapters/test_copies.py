"""Requests are copied and pickled by code that does not know of us: each copy works, and has the same analytics."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from fastapi import FastAPI
from flask import Flask, copy_current_request_context, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from werkzeug.test import run_wsgi_app

from sessionsight.capture.current import set_default_client
from sessionsight.wsgi import ENVIRON_KEY
from sessionsight.wsgi import AnalyticsMiddleware as WSGIMiddleware
from sessionsight_asgi import AnalyticsMiddleware
from sessionsight_django import AnalyticsMiddleware as DjangoMiddleware
from sessionsight_flask import SessionSight
from tests.adapters.django_site import browser, site
from tests.adapters.recording import COOKIE, Recorder, environ

HEADERS = {"Cookie": COOKIE}
COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy]


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder()
    set_default_client(recorder.client)
    return recorder


def seen(recorder: Recorder) -> list[tuple[str, str]]:
    """The events, and whose they are."""
    return [(event["event_name"], event["anonymous_id"]) for event in recorder.events()]


# --- Django -------------------------------------------------------------------------------------------


def serve(recorder: Recorder, view: Callable[[Any], HttpResponse], request: Any = None) -> None:
    """A request through our middleware alone, since Django's match of its path can be neither copied nor pickled."""
    with site(recorder, view):
        middleware: Any = DjangoMiddleware(view)
        request = request or RequestFactory().get("/", HTTP_COOKIE=COOKIE)
        assert middleware(request).content == b"ok"
        request.close()


@pytest.mark.parametrize("way", COPIES)
def test_copies_of_djangos_requests_capture_for_the_same_response(
    way: Callable[[Any], Any], recorder: Recorder
) -> None:
    def view(request: Any) -> HttpResponse:
        copied = way(request)
        assert copied.analytics is request.analytics
        copied.analytics.capture("copied")
        assert recorder.handed_over == 0
        return HttpResponse("ok")

    serve(recorder, view)
    assert seen(recorder) == [("copied", "visitor-1")]


def test_closing_a_copy_does_not_end_the_analytics(recorder: Recorder) -> None:
    def view(request: Any) -> HttpResponse:
        request.analytics.capture("before")
        for copied in (copy.deepcopy(request), pickle.loads(pickle.dumps(request))):
            copied.close()
        assert recorder.handed_over == 0
        request.analytics.capture("after")
        return HttpResponse("ok")

    serve(recorder, view)
    assert [name for name, _ in seen(recorder)] == ["before", "after"]


def test_what_somebody_else_hooked_onto_close_is_called_for_the_copy_too(recorder: Recorder) -> None:
    closed: list[str] = []

    def view(request: Any) -> HttpResponse:
        copy.deepcopy(request).close()
        return HttpResponse("ok")

    request = RequestFactory().get("/")
    request.close = lambda: closed.append("closed")  # type: ignore[method-assign]
    serve(recorder, view, request)
    assert closed == ["closed", "closed"]


@pytest.mark.parametrize("factory", [RequestFactory, AsyncRequestFactory])
def test_a_pickled_request_of_django_captures_at_once(factory: Any, recorder: Recorder) -> None:
    pickles: list[bytes] = []

    def view(request: Any) -> HttpResponse:
        pickles.append(pickle.dumps(request))
        return HttpResponse("ok")

    serve(recorder, view, factory().get("/", headers=HEADERS))
    with site(recorder):  # whose settings say which client is the process's own
        pickle.loads(pickles[0]).analytics.capture("unpickled")
    assert seen(recorder) == [("unpickled", "visitor-1")]


def test_a_request_that_djangos_test_client_has_kept_can_be_pickled(recorder: Recorder) -> None:
    def view(request: Any) -> HttpResponse:
        return HttpResponse("ok")

    with site(recorder, view):
        served = browser().get("/view/").wsgi_request
        served.resolver_match = None
        pickle.loads(pickle.dumps(served)).analytics.capture("unpickled")
    copy.deepcopy(served).analytics.capture("copied")
    assert seen(recorder) == [("unpickled", "visitor-1"), ("copied", "visitor-1")]


# --- ASGI ---------------------------------------------------------------------------------------------


class Copying:
    """A middleware that serves a copy of the scope, as hypercorn's ProxyFixMiddleware does."""

    def __init__(self, app: Any, way: Callable[[Any], Any]) -> None:
        self.app, self.way = app, way

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(self.way(scope), receive, send)


async def home(request: Request) -> PlainTextResponse:
    analytics = request.scope["analytics"]
    copied: Any = copy.copy(request)
    assert copied.analytics is analytics
    copied.analytics.capture("home")
    return PlainTextResponse("ok")


def starlette() -> Any:
    return Starlette(routes=[Route("/", home)])


def fastapi() -> Any:
    app = FastAPI()
    app.add_api_route("/", home, response_model=None)
    return app


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("make", [starlette, fastapi])
def test_a_copy_of_the_scope_may_be_served(make: Callable[[], Any], way: Any, recorder: Recorder) -> None:
    app = AnalyticsMiddleware(Copying(make(), way), recorder.client)
    assert TestClient(app).get("/", headers=HEADERS).text == "ok"
    assert seen(recorder) == [("home", "visitor-1")]


def test_the_analytics_of_a_scope_can_be_pickled(recorder: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        pickle.loads(pickle.dumps(scope))["analytics"].capture("unpickled")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def main() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"cookie", COOKIE.encode())]}
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await AnalyticsMiddleware(app, recorder.client)(scope, send, send)  # type: ignore[arg-type]

    anyio.run(main)
    assert seen(recorder) == [("unpickled", "visitor-1")]


# --- Flask and WSGI -----------------------------------------------------------------------------------


def test_copies_of_an_environ_have_the_same_analytics(recorder: Recorder) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        for way in COPIES:
            assert way(environ)[ENVIRON_KEY] is environ[ENVIRON_KEY]
        pickle.loads(pickle.dumps(environ))[ENVIRON_KEY].capture("unpickled")
        start_response("200 OK", [])
        return [b"ok"]

    given = environ(**{"wsgi.errors": io.StringIO(), "wsgi.input": io.BytesIO()})
    body, _, _ = run_wsgi_app(WSGIMiddleware(app, recorder.client), given, buffered=True)
    assert list(body) == [b"ok"]
    assert seen(recorder) == [("unpickled", "visitor-1")]


def test_copies_of_flasks_request_have_the_same_analytics(recorder: Recorder) -> None:
    app = Flask("shop")
    SessionSight(app, client=recorder.client)

    @app.get("/")
    def home() -> str:
        plain = request._get_current_object()  # type: ignore[attr-defined]
        assert copy.copy(plain).analytics is plain.analytics

        @copy_current_request_context
        def work() -> None:
            assert request.analytics is plain.analytics  # type: ignore[attr-defined]
            request.analytics.capture("work")  # type: ignore[attr-defined]

        work()
        return "ok"

    body, _, _ = run_wsgi_app(app.wsgi_app, environ(PATH_INFO="/"), buffered=True)
    assert list(body) == [b"ok"]
    assert seen(recorder) == [("work", "visitor-1")]
