"""Whatever becomes of a stream of Django's, all that its request captured is handed over."""

from __future__ import annotations

import asyncio
import gc
import io
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
import django
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, StreamingHttpResponse
from django.test import RequestFactory
from django.utils.deprecation import MiddlewareMixin

from sessionsight import current
from tests.adapters.django_site import ANALYTICS, site
from tests.adapters.recording import COOKIE, Recorder
from tests.support.server import auntil

GZIP = "django.middleware.gzip.GZipMiddleware"

pytestmark = [
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators"),
    # Nor does Django close the file with the request's body.
    pytest.mark.filterwarnings("ignore:Exception ignored in.*SpooledTemporaryFile"),
]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Collects what a failed response has left here, and not in another test."""
    yield
    gc.collect()


class Broken(Exception):
    """Error in a stream."""


def rows(request: Any) -> Iterator[bytes]:
    yield b"a" * 500
    request.analytics.capture("in_stream")
    raise Broken


async def async_rows(request: Any) -> AsyncIterator[bytes]:
    yield b"a" * 500
    await asyncio.sleep(0)
    request.analytics.capture("in_stream")
    raise Broken


def fails(request: Any) -> Any:
    request.analytics.capture("before")
    return StreamingHttpResponse(rows(request))


async def async_fails(request: Any) -> Any:
    request.analytics.capture("before")
    return StreamingHttpResponse(async_rows(request))


class BrokenFile(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        raise Broken


def file_fails(request: Any) -> Any:
    request.analytics.capture("before")
    return FileResponse(BrokenFile(b"content"))


class Receive:
    """The request; then the client stays, or goes when it is told to."""

    def __init__(self) -> None:
        self._inbox = [{"type": "http.request", "body": b""}]
        self.gone = asyncio.Event()

    async def __call__(self) -> dict[str, Any]:
        if self._inbox:
            return self._inbox.pop()
        await self.gone.wait()
        return {"type": "http.disconnect"}


def scope(path: str, **headers: str) -> dict[str, Any]:
    given = {"host": "shop.example", "cookie": COOKIE, **headers}
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
    }


def environ(path: str) -> dict[str, Any]:
    return dict(RequestFactory().get(path, HTTP_COOKIE=COOKIE).environ)


async def ignore(message: Any) -> None:
    pass


def scoped_rows(recorder: Recorder) -> Iterator[bytes]:
    with recorder.client.scope(user_id="user_1"):
        for _ in range(2):
            current().capture("for_another")
            yield b"a"
    current().capture("for_the_visitor")
    yield b"b"


async def async_scoped_rows(recorder: Recorder) -> AsyncIterator[bytes]:
    for part in scoped_rows(recorder):
        await asyncio.sleep(0)
        yield part


async def test_a_scope_that_a_stream_has_opened_lasts_until_its_end(recorder: Recorder) -> None:
    def plain(request: Any) -> Any:
        return StreamingHttpResponse(scoped_rows(recorder))

    async def asynchronous(request: Any) -> Any:
        return StreamingHttpResponse(async_scoped_rows(recorder))

    with site(recorder, plain, asynchronous):
        await wsgi("/plain/")
        await asgi("/asynchronous/")
    assert [*zip(recorder.names(), recorder.users(), strict=True)] == 2 * [
        ("for_another", "user_1"), ("for_another", "user_1"), ("for_the_visitor", None)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("view", "names"),
    [(fails, ["before", "in_stream"]), (async_fails, ["before", "in_stream"]), (file_fails, ["before"])],
)
@pytest.mark.parametrize("flush", ["background", "inline"])
async def test_one_that_raises_on_asgi(view: Any, names: list[str], flush: Any) -> None:
    recorder = Recorder(flush=flush)
    with site(recorder, view), pytest.raises(Broken):
        await ASGIHandler()(scope(f"/{view.__name__}/"), Receive(), ignore)
    if flush == "inline":
        assert recorder.arrived == names
    assert recorder.names() == names
    recorder.client.shutdown()


@pytest.mark.parametrize("view", [fails, async_fails])
async def test_one_that_raises_below_a_middleware_that_compresses_it(view: Any, recorder: Recorder) -> None:
    with site(recorder, view, middleware=(GZIP, ANALYTICS)), pytest.raises(Broken):
        await ASGIHandler()(scope(f"/{view.__name__}/", accept_encoding="gzip"), Receive(), ignore)
    assert recorder.names() == ["before", "in_stream"]


@pytest.mark.parametrize("flush", ["background", "inline"])
def test_one_that_raises_on_wsgi(flush: Any) -> None:
    recorder = Recorder(flush=flush)
    with site(recorder, fails):
        response: Any = WSGIHandler()(environ("/fails/"), lambda *_: lambda _: None)
        with pytest.raises(Broken):
            list(response)
        if flush == "inline":
            assert recorder.arrived == ["before", "in_stream"]
        response.close()
    assert recorder.names() == ["before", "in_stream"]
    recorder.client.shutdown()


async def endless(request: Any) -> Any:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            request.analytics.capture("tick")
            yield b"x"
            await asyncio.sleep(0)

    return StreamingHttpResponse(chunks())


@pytest.mark.skipif(django.VERSION < (5,), reason="Django 4.2 does not notice that a client went away")
async def test_one_whose_client_goes_away(recorder: Recorder) -> None:
    receive = Receive()
    chunks: list[Any] = []

    async def send(message: Any) -> None:
        chunks.append(message)
        if len(chunks) == 3:
            receive.gone.set()
        await asyncio.sleep(0)

    with site(recorder, endless):
        await ASGIHandler()(scope("/endless/"), receive, send)
    assert len(recorder.names()) >= 2
    assert {*recorder.names()} == {"tick"}


async def test_one_that_the_server_cannot_send(recorder: Recorder) -> None:
    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the client has gone")

    with site(recorder, endless), pytest.raises(OSError, match="the client has gone"):
        await ASGIHandler()(scope("/endless/"), Receive(), send)
    await auntil(lambda: recorder.handed_over == 1, "what nobody ends leaves within a second")
    assert recorder.names() == ["tick"]


class Replaces(MiddlewareMixin):
    """Answers with another stream, and never reads the view's."""

    def process_response(self, request: Any, response: Any) -> Any:
        response.streaming_content = [b"instead"]
        return response


def answers(request: Any) -> Any:
    request.analytics.capture("seen")
    return StreamingHttpResponse(iter([b"never read"]))


async def asgi(path: str) -> None:
    await ASGIHandler()(scope(path), Receive(), ignore)


async def wsgi(path: str) -> None:
    response: Any = WSGIHandler()(environ(path), lambda *_: lambda _: None)
    list(response)
    response.close()


@pytest.mark.parametrize("served", [asgi, wsgi])
async def test_one_that_is_never_read(served: Callable[[str], Any], recorder: Recorder) -> None:
    with site(recorder, answers, middleware=(f"{__name__}.Replaces", ANALYTICS)):
        await served("/answers/")
    assert recorder.names() == ["seen"]
