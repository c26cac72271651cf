"""A page that is served is one `$pageview`, in every framework, and nothing else is."""

from __future__ import annotations

import io
import wsgiref.util
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import flask
import pytest
from flask import Flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse

from sessionsight.wsgi import AnalyticsMiddleware as WsgiMiddleware
from sessionsight_asgi import AnalyticsMiddleware as AsgiMiddleware
from sessionsight_flask import SessionSight
from tests.adapters.django_site import browser, site
from tests.adapters.recording import COOKIE, Recorder


class Visit(Protocol):
    """Makes a request by method and path; gives the status."""

    def __call__(self, method: str, path: str, /, **headers: str) -> int:
        """Headers are named with underscores."""


def by_django(recorder: Recorder) -> Iterator[Visit]:
    def html(request: Any) -> Any:
        return HttpResponse("<p>hello")

    def stream(request: Any) -> Any:
        return StreamingHttpResponse(iter([b"<p>", b"hello"]))

    def json(request: Any) -> Any:
        return JsonResponse({})

    def moved(request: Any) -> Any:
        return HttpResponseRedirect("/html/")

    def missing(request: Any) -> Any:
        return HttpResponse("<p>nothing", status=404)

    def broken(request: Any) -> Any:
        raise RuntimeError

    with site(recorder, html, stream, json, moved, missing, broken):
        visitor = browser()

        def visit(method: str, path: str, /, **headers: str) -> int:
            response = visitor.generic(method, path, **{f"HTTP_{name.upper()}": headers[name] for name in headers})
            b"".join(response)
            response.close()
            return int(response.status_code)

        yield visit


def by_flask(recorder: Recorder) -> Iterator[Visit]:
    app = Flask("shop")
    SessionSight(app, client=recorder.client)
    views: dict[str, Callable[[], Any]] = {
        "html": lambda: "<p>hello",
        "stream": lambda: flask.Response(iter(["<p>", "hello"])),
        "json": lambda: flask.jsonify({}),
        "moved": lambda: flask.redirect("/html/"),
        "missing": lambda: ("<p>nothing", 404),
        "broken": lambda: 1 / 0,
    }
    for name, view in views.items():
        app.add_url_rule(f"/{name}/", name, view, methods=["GET", "POST"])

    def visit(method: str, path: str, /, **headers: str) -> int:
        visitor = app.test_client(use_cookies=False)
        with visitor.open(path, method=method, headers={"Cookie": COOKIE, **spelled(headers)}) as response:
            response.get_data()
            return response.status_code

    yield visit


def by_starlette(recorder: Recorder) -> Iterator[Visit]:
    def html(request: Request) -> Response:
        return Response("<p>hello", media_type="text/html")

    def stream(request: Request) -> Response:
        return StreamingResponse(iter([b"<p>", b"hello"]), media_type="text/html")

    def json(request: Request) -> Response:
        return JSONResponse({})

    def moved(request: Request) -> Response:
        return RedirectResponse("/html/", headers={"content-type": "text/html"})

    def missing(request: Request) -> Response:
        return Response("<p>nothing", status_code=404, media_type="text/html")

    def broken(request: Request) -> Response:
        raise RuntimeError

    views = (html, stream, json, moved, missing, broken)
    app = Starlette(routes=[Route(f"/{view.__name__}/", view, methods=["GET", "POST"]) for view in views])
    visitor = TestClient(
        AsgiMiddleware(app, client=recorder.client), raise_server_exceptions=False, headers={"Cookie": COOKIE}
    )

    def visit(method: str, path: str, /, **headers: str) -> int:
        return visitor.request(method, path, follow_redirects=False, headers=spelled(headers)).status_code

    yield visit


def by_wsgi(recorder: Recorder) -> Iterator[Visit]:
    answers = {
        "/html/": ("200 OK", "Text/HTML; charset=utf-8"),
        "/stream/": ("200 OK", "text/html"),
        "/json/": ("200 OK", "application/json"),
        "/moved/": ("302 Found", "text/html"),
        "/missing/": ("404 Not Found", "text/html"),
    }

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/broken/":
            raise RuntimeError
        status, kind = answers[environ["PATH_INFO"]]
        start_response(status, [("content-type", kind)])
        return iter([b"<p>", b"hello"]) if environ["PATH_INFO"] == "/stream/" else [b"<p>hello"]

    served = WsgiMiddleware(app, client=recorder.client)

    def visit(method: str, path: str, /, **headers: str) -> int:
        began: list[str] = []
        environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_COOKIE": COOKIE}
        environ.update({f"HTTP_{name.upper()}": value for name, value in headers.items()})
        environ["wsgi.input"] = io.BytesIO()
        wsgiref.util.setup_testing_defaults(environ)
        try:
            body: Any = served(environ, lambda status, headers, *_: began.append(status))  # type: ignore[arg-type]
            b"".join(body)
            body.close()
        except RuntimeError:
            return 500
        return int(began[0][:3])

    yield visit


def spelled(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


ROUTES = {by_django: "{}/", by_flask: "/{}/", by_starlette: "/{}/", by_wsgi: None}


@pytest.fixture(params=ROUTES, ids=lambda host: host.__name__)
def host(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["background", "inline"])
def flush(request: pytest.FixtureRequest) -> Any:
    return request.param


def pages(recorder: Recorder) -> list[dict[str, Any]]:
    events = recorder.events()
    assert {event["event_name"] for event in events} <= {"$pageview"}
    return [event["properties"] for event in events]


def page(host: Any, name: str) -> dict[str, Any]:
    route = ROUTES[host]
    properties = {"path": f"/{name}/", "route": route and route.format(name), "status": 200}
    return {key: value for key, value in properties.items() if value is not None}


def test_a_page_is_captured_and_nothing_else_is(host: Any, flush: Any) -> None:
    recorder = Recorder(pageviews=True, flush=flush)
    for visit in host(recorder):
        assert [visit("GET", f"/{name}/") for name in ("html", "json", "moved", "missing", "broken", "stream")] == [
            200,
            200,
            302 if host is not by_starlette else 307,
            404,
            500,
            200,
        ]
        assert visit("POST", "/html/") == 200
        assert visit("HEAD", "/html/") == 200
    assert pages(recorder) == [page(host, "html"), page(host, "stream")]


def test_by_default_no_page_is_captured(host: Any) -> None:
    recorder = Recorder()
    for visit in host(recorder):
        assert visit("GET", "/html/") == 200
    assert pages(recorder) == []


def test_a_function_of_the_request_says_which(host: Any) -> None:
    asked: list[str] = []

    def wanted(request: Any) -> bool:
        asked.append(path_of(request))
        return asked[-1] == "/stream/"

    recorder = Recorder(pageviews=wanted)
    for visit in host(recorder):
        for name in ("html", "stream", "json"):
            assert visit("GET", f"/{name}/") == 200
    assert pages(recorder) == [page(host, "stream")]
    assert asked == ["/html/", "/stream/"]


def path_of(request: Any) -> str:
    """The path of any framework's request."""
    if isinstance(request, dict):
        return str(request["PATH_INFO"])
    return str(request.url.path if isinstance(request, Request) else request.path)


def test_a_function_that_fails_means_no_and_the_page_is_served(host: Any, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(pageviews=lambda request: 1 / 0)
    for visit in host(recorder):
        assert visit("GET", "/html/") == 200
    assert pages(recorder) == []
    assert "pageviews failed, which counts as no: ZeroDivisionError" in caplog.text


def test_a_page_that_is_excluded_is_not_sent(host: Any) -> None:
    recorder = Recorder(pageviews=True, exclude_paths=("/html*",))
    for visit in host(recorder):
        assert visit("GET", "/html/") == 200
    assert pages(recorder) == []
    assert recorder.client.stats().lanes["analyse"].dropped == {"excluded": 1}


GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"

VISITS = [
    {"sec_fetch_dest": "document", "sec_fetch_mode": "navigate", "user_agent": "Mozilla/5.0 (X11; Linux x86_64)"},
    {"hx_request": "true", "hx_boosted": "true", "sec_fetch_dest": "empty", "sec_fetch_mode": "cors"},
    {"hx_request": "true", "hx_history_restore_request": "true", "sec_fetch_dest": "empty", "sec_fetch_mode": "cors"},
    {"x_turbo_request_id": "8d2a", "sec_fetch_dest": "empty", "sec_fetch_mode": "cors"},
    {"x_requested_with": "com.example.browser"},
]
NO_VISITS = [
    {"sec_purpose": "prefetch"},
    {"sec_purpose": "prefetch;prerender", "sec_fetch_dest": "document", "sec_fetch_mode": "navigate"},
    {"purpose": "prefetch"},
    {"x_purpose": "preview"},
    {"x_moz": "prefetch"},
    {"x_turbo_request_id": "8d2a", "x_sec_purpose": "prefetch"},
    {"sec_fetch_dest": "iframe", "sec_fetch_mode": "navigate"},
    {"sec_fetch_dest": "empty", "sec_fetch_mode": "cors"},
    {"sec_fetch_mode": "no-cors"},
    {"hx_request": "true"},
    {"turbo_frame": "cart", "x_turbo_request_id": "8d2a"},
    {"x_pjax": "true"},
    {"x_requested_with": "XMLHttpRequest"},
    {"user_agent": GOOGLEBOT},
]


def test_a_page_counts_when_somebody_looks_at_it(host: Any) -> None:
    recorder = Recorder(pageviews=True)
    for visit in host(recorder):
        for headers in VISITS:
            assert visit("GET", "/html/", **headers) == 200
    assert pages(recorder) == [page(host, "html")] * len(VISITS)


def test_prefetches_frames_fragments_and_bots_do_not_count(host: Any) -> None:
    recorder = Recorder(pageviews=True)
    for visit in host(recorder):
        for headers in NO_VISITS:
            assert visit("GET", "/html/", **headers) == 200
    assert pages(recorder) == []


def test_the_rule_for_bots_can_be_replaced(host: Any) -> None:
    asked: list[str] = []

    def is_bot(user_agent: str) -> bool:
        asked.append(user_agent)
        return "AcmeMonitor" in user_agent

    recorder = Recorder(pageviews=True, is_bot=is_bot)
    for visit in host(recorder):
        for agent in (GOOGLEBOT, "AcmeMonitor/1.0"):
            assert visit("GET", "/html/", user_agent=agent) == 200
        assert visit("GET", "/html/", user_agent="AcmeMonitor/1.0", purpose="prefetch") == 200
    assert pages(recorder) == [page(host, "html")]
    assert asked == [GOOGLEBOT, "AcmeMonitor/1.0"]


def test_a_rule_for_bots_that_fails_means_no(host: Any, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(pageviews=True, is_bot=lambda user_agent: 1 / 0)
    for visit in host(recorder):
        assert visit("GET", "/html/") == 200
    assert pages(recorder) == []
    assert "is_bot failed, which counts as yes: ZeroDivisionError" in caplog.text


def test_a_function_of_the_request_is_asked_of_visits_alone(host: Any) -> None:
    recorder = Recorder(pageviews=lambda request: True)
    for visit in host(recorder):
        assert visit("GET", "/html/", purpose="prefetch") == 200
        assert visit("GET", "/html/", user_agent=GOOGLEBOT) == 200
        assert visit("GET", "/html/") == 200
    assert pages(recorder) == [page(host, "html")]
