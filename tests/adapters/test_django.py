from __future__ import annotations

import asyncio
import gc
import io
import threading
import weakref
import wsgiref.util
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
import django
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.apps import apps
from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AnonymousUser, User
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import connection, connections
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import clear_url_caches, include, path
from django.utils.functional import SimpleLazyObject, empty
from django.utils.version import get_version_tuple

from sessionsight import ConfigurationError, InvalidEventError, current
from sessionsight.capture.current import default_client, set_default_client
from sessionsight_django import AnalyticsMiddleware, clients
from tests.adapters.recording import COOKIE, Recorder

ANALYTICS = "sessionsight_django.AnalyticsMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
CONDITIONAL = "django.middleware.http.ConditionalGetMiddleware"

on_django_5 = pytest.mark.skipif(
    get_version_tuple(django.get_version()) < (5,),
    reason="Django 4.2 has no async logins, and does not notice that a client went away",
)

urlpatterns: list[Any] = []


@pytest.fixture(autouse=True)
def _own_urls_and_clients() -> Iterator[None]:
    urlpatterns.clear()
    clients._clients.clear()
    with override_settings(ROOT_URLCONF=__name__):
        yield
    clients._clients.clear()


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A user in the database."""
    connections.settings["default"]["NAME"] = str(tmp_path_factory.mktemp("database") / "db.sqlite3")
    connection.close()
    call_command("migrate", verbosity=0)
    return User.objects.create_user("ada", password="secret")


@contextmanager
def site(recorder: Recorder, *views: Any, middleware: Sequence[str] = (ANALYTICS,), **settings: Any) -> Iterator[None]:
    """A site with these views, under their names. Its settings are the recorder's, and so it finds that client."""
    urlpatterns.extend(path(f"{view.__name__}/<int:pk>/", view) for view in views)
    clear_url_caches()
    clients._clients.append(recorder.client)
    ours = recorder.client.settings
    options = {name: getattr(ours, name) for name in ours.__struct_fields__}
    with override_settings(MIDDLEWARE=middleware, SESSIONSIGHT=options, **settings):
        yield


def browser(kind: type[Any] = Client) -> Any:
    """Django's test client, as a visitor with an id."""
    client = kind(raise_request_exception=False)
    client.cookies["ss_vid"] = "visitor-1"
    return client


def environ(**more: Any) -> dict[str, Any]:
    return {**RequestFactory().get("/view/1/", HTTP_COOKIE=COOKIE, HTTP_HOST="shop.example").environ, **more}


def start_response(*_: Any) -> Callable[[bytes], object]:
    """Messages from a server to the app."""
    return lambda _: None


def view_of(function: Callable[[HttpRequest], Any]) -> Any:
    """A view that ignores the number in its address, and answers "ok" when the function answers nothing."""
    if iscoroutinefunction(function):

        async def async_view(request: HttpRequest, pk: int) -> Any:
            return await function(request) or HttpResponse("ok")

        async_view.__name__ = function.__name__
        return async_view

    def view(request: HttpRequest, pk: int) -> Any:
        return function(request) or HttpResponse("ok")

    view.__name__ = function.__name__
    return view


@view_of
def view(request: Any) -> None:
    request.analytics.capture("seen")


@view_of
async def async_view(request: Any) -> None:
    request.analytics.capture("seen")


# --- Where request.analytics is ------------------------------------------------------------------


def test_views_and_whatever_they_call_have_analytics(recorder: Recorder) -> None:
    @view_of
    def both(request: Any) -> None:
        assert current() is request.analytics
        request.analytics.capture("seen")

    with site(recorder, both):
        assert browser().get("/both/1/").content == b"ok"
    assert recorder.names() == ["seen"]
    assert recorder.events()[0]["path"] == "/both/1/"


async def test_async_views_have_them_as_well(recorder: Recorder) -> None:
    @view_of
    async def both(request: Any) -> None:
        assert current() is request.analytics
        assert await sync_to_async(current)() is request.analytics
        assert await asyncio.create_task(sleep_and_tell()) is request.analytics
        request.analytics.capture("seen")

    async def sleep_and_tell() -> Any:
        await asyncio.sleep(0)
        return current()

    with site(recorder, both):
        assert (await browser(AsyncClient).get("/both/1/")).content == b"ok"
    assert recorder.names() == ["seen"]


async def test_plain_views_and_plain_middlewares_work_on_asgi(recorder: Recorder) -> None:
    @view_of
    def both(request: Any) -> None:
        assert current() is request.analytics
        request.analytics.capture("seen")

    with site(recorder, both, middleware=[f"{__name__}.plain_middleware", ANALYTICS, f"{__name__}.plain_middleware"]):
        assert (await browser(AsyncClient).get("/both/1/")).content == b"ok"
    assert recorder.names() == ["in a middleware", "seen"]


def plain_middleware(get_response: Any) -> Any:
    """One that knows nothing of async."""

    def middleware(request: Any) -> Any:
        if hasattr(request, "analytics"):
            current().capture("in a middleware")
        return get_response(request)

    return middleware


def test_current_is_reset_when_the_response_is_out(recorder: Recorder) -> None:
    with site(recorder, view):
        browser().get("/view/1/")
        WSGIHandler()  # the process's client is the first that a middleware has taken up
    set_default_client(recorder.client)
    current().capture("outside", user_id="user_1")
    assert recorder.users() == [None, "user_1"]


def test_the_middleware_may_stand_in_the_list_twice(recorder: Recorder) -> None:
    with site(recorder, view, middleware=[ANALYTICS, ANALYTICS]):
        assert browser().get("/view/1/").content == b"ok"
    assert recorder.names() == ["seen"]


def test_handlers_of_errors_have_analytics_and_what_came_before_is_kept(recorder: Recorder) -> None:
    @view_of
    def fails(request: Any) -> None:
        request.analytics.capture("before")
        raise LookupError

    with site(recorder, fails):
        assert browser().get("/fails/1/").content == b"failed"
        assert browser().get("/nowhere/").content == b"missing"
    assert recorder.names() == ["before", "failed", "missing"]


def handler500(request: Any) -> HttpResponse:
    request.analytics.capture("failed")
    return HttpResponse("failed", status=500)


def handler404(request: Any, exception: Exception) -> HttpResponse:
    request.analytics.capture("missing")
    return HttpResponse("missing", status=404)


# --- The end of the response ---------------------------------------------------------------------


def test_records_are_handed_over_when_the_server_closes_the_response(recorder: Recorder) -> None:
    with site(recorder, view):
        response: Any = WSGIHandler()(environ(), start_response)
    assert (b"".join(response), recorder.handed_over) == (b"ok", 0)
    response.close()
    assert recorder.names() == ["seen"]


@pytest.mark.parametrize("middleware", [(CONDITIONAL, ANALYTICS), (ANALYTICS, CONDITIONAL)], ids=["around", "inside"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_304_in_place_of_the_response_ends_it_as_well(
    middleware: Sequence[str], streaming: bool, recorder: Recorder
) -> None:
    @view_of
    def tagged(request: Any) -> Any:
        request.analytics.capture("seen")
        response = StreamingHttpResponse(iter([b"ok"])) if streaming else HttpResponse("ok")
        response["ETag"] = '"one"'
        return response

    with site(recorder, tagged, middleware=middleware):
        assert browser().get("/tagged/1/", HTTP_IF_NONE_MATCH='"one"').status_code == 304
    assert recorder.names() == ["seen"]


def test_a_file_that_the_server_sends_stays_as_it_is_and_ends_when_it_is_closed(
    recorder: Recorder, tmp_path: Any
) -> None:
    (tmp_path / "file").write_bytes(b"content")

    @view_of
    def download(request: Any) -> Any:
        request.analytics.capture("downloaded")
        return FileResponse((tmp_path / "file").open("rb"))

    with site(recorder, download):
        request = environ(PATH_INFO="/download/1/", **{"wsgi.file_wrapper": wsgiref.util.FileWrapper})
        body: Any = WSGIHandler()(request, start_response)
    assert type(body) is wsgiref.util.FileWrapper
    assert body.filelike.name == str(tmp_path / "file")
    assert (b"".join(body), recorder.handed_over) == (b"content", 0)
    body.close()
    assert body.filelike.closed
    assert recorder.names() == ["downloaded"]


def test_streams_are_made_under_their_analytics_and_end_when_they_are_closed(recorder: Recorder) -> None:
    @view_of
    def stream(request: Any) -> Any:
        def chunks() -> Iterator[bytes]:
            for _ in range(2):
                current().capture("chunk")
                yield b"x"

        return StreamingHttpResponse(chunks())

    with site(recorder, stream):
        response: Any = WSGIHandler()(environ(PATH_INFO="/stream/1/"), start_response)
    assert (list(response), recorder.handed_over) == ([b"x", b"x"], 0)
    response.close()
    assert recorder.names() == ["chunk", "chunk"]


def test_a_stream_that_is_broken_off_closes_the_views_iterator_and_keeps_what_was_captured(recorder: Recorder) -> None:
    closed: list[bool] = []

    @view_of
    def stream(request: Any) -> Any:
        def chunks() -> Iterator[bytes]:
            try:
                while True:
                    current().capture("chunk")
                    yield b"x"
            finally:
                closed.append(True)

        return StreamingHttpResponse(chunks())

    with site(recorder, stream):
        response: Any = WSGIHandler()(environ(PATH_INFO="/stream/1/"), start_response)
    next(iter(response))
    response.close()
    assert closed == [True]
    assert recorder.names() == ["chunk"]


async def test_async_streams_are_made_under_their_analytics(recorder: Recorder) -> None:
    @view_of
    async def stream(request: Any) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(2):
                await asyncio.sleep(0)
                current().capture("chunk")
                yield b"x"

        return StreamingHttpResponse(chunks())

    with site(recorder, stream):
        sent = await asgi("/stream/1/", recorder)
    assert [(message.get("body"), number) for message, number in sent[1:3]] == [(b"x", 0), (b"x", 0)]
    assert recorder.names() == ["chunk", "chunk"]


async def asgi(
    path: str, recorder: Recorder, *, disconnect: asyncio.Event | None = None, headers: Sequence[Any] = ()
) -> list[tuple[Any, int]]:
    """A request as an ASGI server makes it; with each message, how much had been handed over by then."""
    sent: list[tuple[Any, int]] = []
    inbox = [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        if inbox:
            return inbox.pop()
        await (disconnect or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append((message, recorder.handed_over))

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"shop.example"), *(headers or [(b"cookie", COOKIE.encode())])],
    }
    await ASGIHandler()(scope, receive, send)
    return sent


async def test_on_asgi_records_are_handed_over_after_the_last_message(recorder: Recorder) -> None:
    with site(recorder, async_view):
        sent = await asgi("/async_view/1/", recorder)
    assert [(message["type"], number) for message, number in sent] == [
        ("http.response.start", 0),
        ("http.response.body", 0),
    ]
    assert recorder.names() == ["seen"]


@on_django_5
@pytest.mark.parametrize("where", ["view", "stream"])
async def test_a_client_that_goes_away_keeps_what_was_captured(where: str, recorder: Recorder) -> None:
    gone = asyncio.Event()

    @view_of
    async def waiting(request: Any) -> Any:
        request.analytics.capture("seen")
        if where == "stream":
            return StreamingHttpResponse(chunks())
        gone.set()
        await asyncio.Event().wait()
        return None

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        gone.set()
        await asyncio.Event().wait()

    with site(recorder, waiting):
        await asgi("/waiting/1/", recorder, disconnect=gone)
    assert recorder.names() == ["seen"]


def test_an_exception_that_django_passes_on_keeps_what_was_captured(recorder: Recorder) -> None:
    @view_of
    def exits(request: Any) -> None:
        request.analytics.capture("seen")
        raise SystemExit

    with site(recorder, exits), pytest.raises(SystemExit):
        browser().get("/exits/1/")
    assert recorder.names() == ["seen"]


async def test_an_async_exception_that_django_passes_on_keeps_what_was_captured(recorder: Recorder) -> None:
    @view_of
    async def fails(request: Any) -> None:
        request.analytics.capture("seen")
        raise LookupError

    with site(recorder, fails, DEBUG_PROPAGATE_EXCEPTIONS=True), pytest.raises(LookupError):
        await browser(AsyncClient).get("/fails/1/")
    assert recorder.names() == ["seen"]


def test_a_thread_captures_after_the_response_under_the_same_ids(recorder: Recorder) -> None:
    kept: list[Any] = []

    @view_of
    def keep(request: Any) -> None:
        request.user = Someone("ada")
        kept.append(request.analytics)

    with site(recorder, keep):
        browser().get("/keep/1/")
    thread = threading.Thread(target=kept[0].capture, args=("mailed",))
    thread.start()
    thread.join()
    assert recorder.handed_over == 1
    [event] = recorder.events()
    assert (event["event_name"], event["anonymous_id"], event["person_id"]) == ("mailed", "visitor-1", "ada")
    assert kept[0].context.page.route == "keep/<int:pk>/"


def test_a_request_can_be_collected_when_it_is_over(recorder: Recorder) -> None:
    requests: list[weakref.ref[Any]] = []
    kept: list[Any] = []

    @view_of
    def keep(request: Any) -> None:
        requests.append(weakref.ref(request))
        kept.append(request.analytics)

    with site(recorder, keep):
        WSGIHandler()(environ(PATH_INFO="/keep/1/"), start_response).close()
    gc.collect()
    assert requests[0]() is None


# --- Inline: before the last byte ----------------------------------------------------------------


def test_inline_delivers_before_a_plain_response_is_returned(inline: Recorder) -> None:
    with site(inline, view):
        WSGIHandler()(environ(), start_response)
    assert inline.arrived == ["seen"]


def test_inline_delivers_before_a_file_is_returned(inline: Recorder) -> None:
    @view_of
    def download(request: Any) -> Any:
        request.analytics.capture("downloaded")
        return FileResponse(io.BytesIO(b"content"))

    with site(inline, download):
        response: Any = WSGIHandler()(environ(PATH_INFO="/download/1/"), start_response)
    assert inline.arrived == ["downloaded"]
    response.close()


def test_inline_delivers_before_a_stream_is_over(inline: Recorder) -> None:
    @view_of
    def stream(request: Any) -> Any:
        request.analytics.capture("seen")
        return StreamingHttpResponse(iter([b"a", b"b"]))

    with site(inline, stream):
        response: Any = WSGIHandler()(environ(PATH_INFO="/stream/1/"), start_response)
    chunks = iter(response)
    assert (next(chunks), next(chunks), inline.arrived) == (b"a", b"b", [])
    assert (next(chunks, None), inline.arrived) == (None, ["seen"])
    response.close()


@pytest.mark.parametrize("streaming", [False, True])
async def test_inline_delivers_before_the_last_message_and_leaves_the_event_loop_alone(
    streaming: bool, inline: Recorder
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"ok"

    @view_of
    async def seen(request: Any) -> Any:
        request.analytics.capture("seen")
        return StreamingHttpResponse(chunks()) if streaming else None

    async def other_work() -> None:
        for _ in range(5):
            await asyncio.sleep(0.005)
        inline.open.set()  # only now the vendor answers: a loop that stood still would never come here

    inline.open.clear()
    working = asyncio.create_task(other_work())
    with site(inline, seen):
        sent = await asgi("/seen/1/", inline)
    await working
    assert sent[-1][1] == 1
    assert inline.arrived == ["seen"]


# --- Who it is -------------------------------------------------------------------------------------


class Someone:
    """A user of some authentication or other."""

    is_authenticated = True

    def __init__(self, pk: object) -> None:
        self.pk = pk


def lazily(make: Callable[[], object], *, evaluated: bool) -> Any:
    lazy = SimpleLazyObject(make)
    if evaluated:
        bool(lazy)
    return lazy


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        (dict, None),
        (lambda: {"user": Someone(7)}, "7"),
        (lambda: {"user": AnonymousUser()}, None),
        (lambda: {"user": Someone(None)}, None),
        (lambda: {"user": lazily(lambda: Someone(8), evaluated=True)}, "8"),
        (lambda: {"user": lazily(lambda: Someone(8), evaluated=False)}, None),
        (lambda: {"user": lazily(lambda: Someone(8), evaluated=False), "_acached_user": Someone(9)}, "9"),
        (lambda: {"user": AnonymousUser(), "_acached_user": Someone(9)}, None),
        (lambda: {"user": lazily(AnonymousUser, evaluated=True), "_acached_user": Someone(9)}, None),
    ],
    ids=[
        "no user",
        "a plain user",
        "an anonymous one",
        "one without key",
        "a lazy one that was asked for",
        "a lazy one that was not",
        "one that was awaited",
        "one that was awaited and has left",
        "a lazy one that is anonymous",
    ],
)
def test_the_user_is_whoever_is_loaded(attributes: Callable[[], Any], found: str | None, recorder: Recorder) -> None:
    @view_of
    def seen(request: Any) -> None:
        vars(request).update(attributes())
        request.analytics.capture("seen")

    with site(recorder, seen):
        browser().get("/seen/1/")
    assert recorder.users() == [found]


def test_capturing_makes_no_query_and_no_vary_and_leaves_user_and_session_alone(recorder: Recorder, ada: Any) -> None:
    left: list[bool] = []

    @view_of
    def quiet(request: Any) -> None:
        request.analytics.capture("quiet")
        _ = request.analytics.context
        left.append(vars(request)["user"]._wrapped is empty and not request.session.accessed)

    client = browser()
    client.force_login(ada)
    with site(recorder, quiet, middleware=[ANALYTICS, SESSIONS, AUTH]), CaptureQueriesContext(connection) as queries:
        response = client.get("/quiet/1/")
    assert response.content == b"ok"
    assert left == [True]
    assert len(queries) == 0
    assert "Vary" not in response.headers
    assert recorder.users() == [None]


def test_login_and_logout(recorder: Recorder, ada: Any) -> None:
    @view_of
    def asking(request: Any) -> None:
        request.analytics.capture("before asking")
        assert request.user.is_authenticated

    @view_of
    def logging_in(request: Any) -> None:
        request.analytics.capture("before login")
        login(request, authenticate(request, username="ada", password="secret"))

    @view_of
    def logging_out(request: Any) -> None:
        assert request.user.is_authenticated
        request.analytics.capture("before logout")
        logout(request)

    client = browser()
    with site(recorder, asking, logging_in, logging_out, middleware=[ANALYTICS, SESSIONS, AUTH]):
        for path in ("logging_in", "asking", "logging_out"):
            assert client.get(f"/{path}/1/").content == b"ok"
    assert recorder.names() == ["before login", "before asking", "before logout"]
    assert recorder.users() == [str(ada.pk)] * 3


@on_django_5
async def test_login_and_user_in_async_views(recorder: Recorder, ada: Any) -> None:
    from django.contrib.auth import aauthenticate, alogin

    @view_of
    async def logging_in(request: Any) -> None:
        request.analytics.capture("before login")
        await alogin(request, await aauthenticate(request, username="ada", password="secret"))

    @view_of
    async def asking(request: Any) -> None:
        await request.auser()
        request.analytics.capture("asking")

    @view_of
    async def quiet(request: Any) -> None:
        request.analytics.capture("quiet")

    client = browser(AsyncClient)
    with site(recorder, logging_in, asking, quiet, middleware=[ANALYTICS, SESSIONS, AUTH]):
        for path in ("logging_in", "asking", "quiet"):
            assert (await client.get(f"/{path}/1/")).content == b"ok"
    assert recorder.users() == [str(ada.pk), str(ada.pk), None]


@pytest.fixture
def always() -> Iterator[Recorder]:
    """Its users are always loaded."""
    recorder = Recorder(user="always")
    yield recorder
    recorder.client.shutdown()


def test_user_always_looks_the_user_up_without_a_trace(always: Recorder, ada: Any) -> None:
    left: list[bool] = []

    @view_of
    def quiet(request: Any) -> None:
        request.analytics.capture("one")
        request.analytics.capture("two")
        left.append(vars(request)["user"]._wrapped is empty and not request.session.accessed)

    @view_of
    def asking(request: Any) -> Any:
        request.analytics.capture("three")
        return HttpResponse(request.user.username)

    @view_of
    def idle(request: Any) -> None:
        pass

    client = browser()
    client.force_login(ada)
    counts: list[int] = []
    varies: list[bool] = []
    with site(always, quiet, asking, idle, middleware=[ANALYTICS, SESSIONS, AUTH]):
        for name in ("quiet", "asking", "idle"):
            with CaptureQueriesContext(connection) as queries:
                response = client.get(f"/{name}/1/")
            counts.append(len(queries))
            varies.append("Vary" in response.headers)
    assert left == [True]
    assert counts == [1, 2, 0]
    assert varies == [False, True, False]
    assert always.users() == [str(ada.pk)] * 3


def test_user_always_looks_before_a_logout(always: Recorder, ada: Any) -> None:
    @view_of
    def logging_out(request: Any) -> None:
        request.analytics.capture("before logout")
        logout(request)

    client = browser()
    client.force_login(ada)
    with site(always, logging_out, middleware=[ANALYTICS, SESSIONS, AUTH]):
        client.get("/logging_out/1/")
    assert always.users() == [str(ada.pk)]


class CountingBackend(ModelBackend):
    """Tells whenever a user is looked up."""

    looked_up: ClassVar[list[int]] = []

    def get_user(self, user_id: int) -> Any:
        self.looked_up.append(user_id)
        return super().get_user(user_id)


async def test_user_always_works_in_async_views(always: Recorder, ada: Any) -> None:
    @view_of
    async def idle(request: Any) -> None:
        pass

    CountingBackend.looked_up.clear()
    backend = f"{__name__}.CountingBackend"
    client = browser(AsyncClient)
    with site(always, async_view, idle, middleware=[ANALYTICS, SESSIONS, AUTH], AUTHENTICATION_BACKENDS=[backend]):
        await sync_to_async(client.force_login)(ada, backend)
        response = await client.get("/async_view/1/")
        assert CountingBackend.looked_up == [ada.pk]
        assert (await client.get("/idle/1/")).content == b"ok"
        assert CountingBackend.looked_up == [ada.pk]
    assert response.content == b"ok"
    assert "Vary" not in response.headers
    assert always.users() == [str(ada.pk)]


def test_user_always_is_at_peace_with_sites_without_users(always: Recorder) -> None:
    with site(always, view):
        assert browser().get("/view/1/").content == b"ok"
    with site(always, view, middleware=[ANALYTICS, SESSIONS]):
        assert browser().get("/view/1/").content == b"ok"
    assert always.users() == [None, None]


# --- Where it is -------------------------------------------------------------------------------------


def test_the_route_is_the_whole_pattern_and_none_where_nothing_matched(recorder: Recorder) -> None:
    @view_of
    def route(request: Any) -> Any:
        return HttpResponse(str(request.analytics.context.page.route))

    urlpatterns.append(path("api/", include([path("v1/orders/<int:pk>/", route)])))
    with site(recorder, route):
        assert browser().get("/route/1/").content == b"route/<int:pk>/"
        assert browser().get("/api/v1/orders/1/").content == b"api/v1/orders/<int:pk>/"


def test_the_page_is_as_djangos_settings_say(recorder: Recorder) -> None:
    with site(
        recorder,
        view,
        FORCE_SCRIPT_NAME="/app",
        SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
        USE_X_FORWARDED_HOST=True,
    ):
        request = environ(HTTP_X_FORWARDED_PROTO="https", HTTP_X_FORWARDED_HOST="www.shop.example")
        WSGIHandler()(request, start_response).close()
    assert recorder.events()[0]["url"] == "https://www.shop.example/app/view/1/"


def test_a_forwarded_host_counts_only_where_the_site_trusts_it(recorder: Recorder) -> None:
    with site(recorder, view):
        WSGIHandler()(environ(HTTP_X_FORWARDED_HOST="evil.example"), start_response).close()
    assert recorder.events()[0]["hostname"] == "shop.example"


async def test_several_cookie_headers_are_one(recorder: Recorder) -> None:
    with site(recorder, async_view):
        await asgi("/async_view/1/", recorder, headers=[(b"cookie", b"theme=dark"), (b"cookie", COOKIE.encode())])
    assert recorder.events()[0]["anonymous_id"] == "visitor-1"


# --- Configuration -------------------------------------------------------------------------------------


def test_settings_are_checked_when_the_site_starts() -> None:
    with (
        override_settings(MIDDLEWARE=[ANALYTICS], SESSIONSIGHT={"DESTINATION": {}}),
        pytest.raises(ConfigurationError, match=r"settings.SESSIONSIGHT: unknown option 'DESTINATION'; did you mean"),
    ):
        WSGIHandler()
    with (
        override_settings(SESSIONSIGHT=[]),
        pytest.raises(ConfigurationError, match=r"settings.SESSIONSIGHT must be a dict of options, not list"),
    ):
        apps.get_app_config("sessionsight_django").ready()


def test_one_client_for_each_value_of_the_settings() -> None:
    options = {"DESTINATIONS": {"analyse": {"public_key": "pk_live_1"}}}
    with override_settings(SESSIONSIGHT=options):
        first = clients.client()
        assert AnalyticsMiddleware(lambda request: HttpResponse()).client is first
        assert default_client() is first
        with override_settings(SESSIONSIGHT={**options, "CONSENT": "gpc"}):
            second = AnalyticsMiddleware(lambda request: HttpResponse()).client
        assert second is not first
        assert second.settings.consent == "gpc"
        assert clients.client() is first


def test_without_settings_the_environment_configures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYSE_KEY", "pk_live_1")
    assert [destination.name for destination in clients.client().settings.destinations] == ["analyse"]


@pytest.mark.parametrize("debug", [False, True])
def test_strictness_follows_debug(debug: bool) -> None:
    @view_of
    def wrong(request: Any) -> None:
        request.analytics.capture("")

    urlpatterns.append(path("wrong/<int:pk>/", wrong))
    clear_url_caches()
    options = {"DESTINATIONS": {"analyse": {"public_key": "pk_live_1"}}}
    with override_settings(DEBUG=debug, MIDDLEWARE=[ANALYTICS], SESSIONSIGHT=options):
        client = Client()
        if debug:
            with pytest.raises(InvalidEventError):
                client.get("/wrong/1/")
        else:
            assert client.get("/wrong/1/").content == b"ok"


def test_strictness_can_be_set() -> None:
    with override_settings(DEBUG=True, SESSIONSIGHT={"STRICT": False}):
        assert clients.client().settings.strict is False


def test_in_production_no_internal_error_reaches_the_site(caplog: pytest.LogCaptureFixture) -> None:
    def explode(request: object) -> bool:
        raise RuntimeError

    @view_of
    def odd(request: Any) -> None:
        request.user = SimpleNamespace(is_authenticated=True)  # it has no key
        request.META.update(HTTP_REFERER=3, QUERY_STRING=None)
        request.resolver_match = object()
        request.analytics.capture("seen")

    recorder = Recorder(strict=False, should_capture=explode)
    with site(recorder, odd):
        assert browser().get("/odd/1/").content == b"ok"
    assert "could not be read" in caplog.text
    recorder.client.shutdown()
