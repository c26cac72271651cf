"""Our middleware among Django's own: every way a response can go, and nothing that a site would notice."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.adapters.django_site import (
    ANALYTICS,
    AUTH,
    COMMON,
    CONDITIONAL,
    FETCH_FROM_CACHE,
    SESSIONS,
    UPDATE_CACHE,
    asgi,
    browser,
    site,
    wsgi,
)
from tests.adapters.recording import Recorder

# isort: split
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import connection, connections
from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext

from sessionsight import current

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": __name__}}
ORDERS = {
    "outermost": lambda others: (ANALYTICS, *others),
    "innermost": lambda others: (*others, ANALYTICS),
}


@pytest.fixture(params=ORDERS)
def around(request: pytest.FixtureRequest) -> Any:
    """Where the middleware stands among others."""
    return ORDERS[request.param]


def plain(request: Any) -> HttpResponse:
    request.analytics.capture("seen")
    assert current() is request.analytics
    return HttpResponse("ok")


async def on_the_loop(request: Any) -> HttpResponse:
    request.analytics.capture("seen")
    await asyncio.sleep(0)
    assert current() is request.analytics
    return HttpResponse("ok")


def stream(request: Any) -> StreamingHttpResponse:
    def chunks() -> Iterator[bytes]:
        for letter in (b"o", b"k"):
            current().capture("seen")
            yield letter

    return StreamingHttpResponse(chunks())


async def async_stream(request: Any) -> StreamingHttpResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for letter in (b"o", b"k"):
            current().capture("seen")
            yield letter

    return StreamingHttpResponse(chunks())


def file(request: Any) -> FileResponse:
    request.analytics.capture("seen")
    return FileResponse(io.BytesIO(b"ok"), filename="file.txt")


# --- Every kind of view under every kind of server --------------------------------------------------


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume (a|)synchronous iterators:Warning")
@pytest.mark.parametrize("view", [plain, on_the_loop, stream, async_stream, file])
def test_under_wsgi(view: Any, around: Any, recorder: Recorder) -> None:
    with site(recorder, view, middleware=around((COMMON, CONDITIONAL))):
        assert wsgi(WSGIHandler(), f"/{view.__name__}/")[2] == b"ok"
        assert b"".join(browser().get(f"/{view.__name__}/")) == b"ok"
    assert recorder.names() == ["seen"] * (4 if "stream" in view.__name__ else 2)


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume (a|)synchronous iterators:Warning")
@pytest.mark.parametrize("view", [plain, on_the_loop, stream, async_stream, file])
async def test_under_asgi(view: Any, around: Any, recorder: Recorder) -> None:
    with site(recorder, view, middleware=around((COMMON, CONDITIONAL))):
        messages = await asgi(ASGIHandler(), f"/{view.__name__}/")
        assert b"".join(message.get("body", b"") for message in messages) == b"ok"
        response = await browser(AsyncClient).get(f"/{view.__name__}/")
        chunks = [chunk async for chunk in response] if view is async_stream else list(response)
        assert b"".join(chunks) == b"ok"
    assert recorder.names() == ["seen"] * (4 if "stream" in view.__name__ else 2)


# --- Answers that are not the view's ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [(LookupError, 500), (Http404, 404), (PermissionDenied, 403), (SuspiciousOperation, 400)],
)
async def test_what_was_captured_before_an_exception_is_kept(
    error: type[Exception], status: int, around: Any, recorder: Recorder
) -> None:
    def fails(request: Any) -> HttpResponse:
        request.analytics.capture("seen")
        raise error

    async def async_fails(request: Any) -> HttpResponse:
        request.analytics.capture("seen")
        raise error

    with site(recorder, fails, async_fails, middleware=around((COMMON, CONDITIONAL))):
        for name in ("fails", "async_fails"):
            assert (await browser(AsyncClient).get(f"/{name}/")).status_code == status
    assert recorder.names() == ["seen", "seen"]


def test_redirects_of_append_slash_and_missing_pages_go_through(around: Any, recorder: Recorder) -> None:
    with site(recorder, plain, middleware=around((COMMON,))):
        moved = browser().get("/plain")
        assert (moved.status_code, moved["Location"]) == (301, "/plain/")
        assert browser().get("/plain", follow=True).content == b"ok"
        assert browser().get("/nowhere/").status_code == 404
    assert recorder.names() == ["seen"]


@pytest.mark.parametrize("kind", ["plain", "stream"])
async def test_a_304_ends_the_request_on_asgi_as_well(kind: str, around: Any, recorder: Recorder) -> None:
    async def tagged(request: Any) -> Any:
        request.analytics.capture("seen")
        response = HttpResponse("ok") if kind == "plain" else StreamingHttpResponse(chunks())
        response["ETag"] = '"one"'
        return response

    async def chunks() -> AsyncIterator[bytes]:
        yield b"ok"

    with site(recorder, tagged, middleware=around((CONDITIONAL,))):
        messages = await asgi(ASGIHandler(), "/tagged/", **{"if-none-match": '"one"'})
    assert messages[0]["status"] == 304
    assert recorder.names() == ["seen"]


# --- What a site would notice: nothing --------------------------------------------------------------


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A user in the database."""
    connections.settings["default"]["NAME"] = str(tmp_path_factory.mktemp("database") / "db.sqlite3")
    connection.close()
    call_command("migrate", verbosity=0)
    return User.objects.create_user("ada", password="secret")


def quiet(request: Any) -> HttpResponse:
    if hasattr(request, "analytics"):
        request.analytics.capture("seen")
        request.analytics.goals.increment("visits")
        request.analytics.identify(traits={"plan": "pro"})
        assert request.analytics.context.page.route == "quiet/"
        assert not request.session.accessed
    return HttpResponse("ok")


def asks(request: Any) -> HttpResponse:
    return HttpResponse(request.user.get_username())


CACHE = (UPDATE_CACHE, SESSIONS, AUTH, COMMON, CONDITIONAL, FETCH_FROM_CACHE)


@pytest.mark.parametrize("view", [quiet, asks])
@pytest.mark.parametrize("others", [CACHE, (SESSIONS, AUTH)], ids=["cached", "uncached"])
def test_no_query_no_vary_and_no_session_of_our_making(
    view: Any, others: Any, around: Any, recorder: Recorder, ada: Any
) -> None:
    database = "django.contrib.sessions.backends.db"
    answers: list[Any] = []
    for middleware in (others, around(others)):  # without ours, and with it
        with site(recorder, view, middleware=middleware, CACHES=CACHES, SESSION_ENGINE=database):
            cache.clear()
            client = browser()
            client.force_login(ada)
            for _ in range(3):
                with CaptureQueriesContext(connection) as captured:
                    response = client.get(f"/{view.__name__}/")
                dated = {"Age", "Date", "Expires"}  # a second may begin in between
                headers = {name: value for name, value in response.items() if name not in dated}
                answers.append((len(captured), headers, list(response.cookies), response.content))
    assert answers[:3] == answers[3:]
    assert answers[0][0] == (0 if view is quiet else 2)
    assert ("Vary" in answers[0][1]) is (view is asks)


def test_a_page_from_the_cache_captures_what_the_middlewares_capture_and_no_view(
    around: Any, recorder: Recorder
) -> None:
    with site(recorder, plain, middleware=around((UPDATE_CACHE, FETCH_FROM_CACHE)), CACHES=CACHES):
        cache.clear()
        for _ in range(3):
            assert browser().get("/plain/").content == b"ok"
    assert recorder.names() == ["seen"]
