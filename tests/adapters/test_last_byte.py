"""With a durable spool a request's records are in the file before the byte that completes its response is released."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from werkzeug.test import create_environ
from werkzeug.wsgi import FileWrapper

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse as DjangoFile
from django.http import HttpResponse, HttpResponseNotModified, StreamingHttpResponse
from django.test import RequestFactory
from flask import Flask
from flask import Response as FlaskResponse

from sessionsight.wsgi import AnalyticsMiddleware as WsgiMiddleware
from sessionsight_asgi import AnalyticsMiddleware
from sessionsight_flask import SessionSight
from tests.adapters.django_site import ANALYTICS, CONDITIONAL, site
from tests.adapters.recording import COOKIE, DurableRecorder

START = "http.response.start"
BODY = "http.response.body"

# Of each part of a response, in order: whether the record has to be in the file when it is released.
Released = list[bool]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[DurableRecorder]:
    recorder = DurableRecorder(tmp_path)
    yield recorder
    recorder.stop()


# --- ASGI ----------------------------------------------------------------------------------------


def scope(method: str = "GET", **more: Any) -> dict[str, Any]:
    headers = [(b"host", b"shop.example"), (b"cookie", COOKIE.encode())]
    return {"type": "http", "method": method, "path": "/", "query_string": b"", "headers": headers, **more}


class Receive:
    """The request, and after that nothing: the client stays."""

    def __init__(self) -> None:
        self._inbox: list[dict[str, Any]] = [{"type": "http.request", "body": b""}]

    async def __call__(self) -> dict[str, Any]:
        if not self._inbox:
            await anyio.sleep_forever()
        return self._inbox.pop()


async def released(app: Any, recorder: DurableRecorder, scope: dict[str, Any]) -> Released:
    """Return whether the record was in the file, at each message that the server got."""
    seen: Released = []

    async def send(message: Any) -> None:
        seen.append(recorder.on_disk > 0)

    await app(scope, Receive(), send)
    assert recorder.on_disk == 1
    return seen


def start(length: str | None = None, status: int = 200, **more: Any) -> dict[str, Any]:
    headers = [] if length is None else [(b"content-length", length.encode())]
    return {"type": START, "status": status, "headers": headers, **more}


def body(size: int, *, more: bool = True) -> dict[str, Any]:
    return {"type": BODY, "body": b"x" * size, "more_body": more}


FILE = {"type": "http.response.zerocopysend", "file": 3, "more_body": True}
END = {"type": BODY}


@pytest.mark.parametrize(
    ("method", "messages", "expected"),
    [
        ("GET", [start(), body(5), END], [False, False, True]),
        ("GET", [start("5"), body(5), END], [False, True, True]),
        ("GET", [start("5"), body(2), body(3), body(0), END], [False, False, True, True, True]),
        ("GET", [start("5"), body(9), END], [False, True, True]),
        ("GET", [start("5"), body(4), END], [False, False, True]),
        ("GET", [start("many"), body(5), END], [False, False, True]),
        ("GET", [start("0"), END], [True, True]),
        ("GET", [start(status=204), END], [True, True]),
        ("GET", [start("5", status=304), END], [True, True]),
        ("HEAD", [start("5"), END], [True, True]),
        ("GET", [start("5"), {**FILE, "count": 3}, {**FILE, "count": 2}, END], [False, False, True, True]),
        ("GET", [start("5"), FILE, END], [False, True, True]),
        ("GET", [start("5"), {"type": "http.response.pathsend", "path": "/file"}], [False, True]),
        (
            "GET",
            [start("5", trailers=True), body(5), END, {"type": "http.response.trailers", "headers": []}],
            [False, True, True, True],
        ),
    ],
)
async def test_on_asgi(method: str, messages: list[Any], expected: Released, durable: DurableRecorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["analytics"].capture("seen")
        for message in messages:
            await send(message)

    assert await released(AnalyticsMiddleware(app, durable.client), durable, scope(method)) == expected


def plain(request: Request) -> Response:
    request.analytics.capture("seen")  # type: ignore[attr-defined]
    return PlainTextResponse("hello")


def stream(request: Request) -> Response:
    request.analytics.capture("seen")  # type: ignore[attr-defined]
    return StreamingResponse(iter([b"he", b"llo"]), headers={"Content-Length": "5"})


def file(request: Request) -> Response:
    request.analytics.capture("seen")  # type: ignore[attr-defined]
    return FileResponse(__file__)


@pytest.mark.parametrize("view", [plain, stream, file])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "in BaseHTTPMiddleware"])
@pytest.mark.parametrize("extensions", [{}, {"http.response.pathsend": {}}], ids=["", "pathsend"])
async def test_of_starlettes_responses(
    view: Callable[[Request], Response],
    method: str,
    wrapped: bool,
    extensions: dict[str, Any],
    durable: DurableRecorder,
) -> None:
    app = Starlette(routes=[Route("/", view, methods=["GET", "HEAD"])])
    if wrapped:

        async def passing(request: Request, call_next: Any) -> Any:
            return await call_next(request)

        app.add_middleware(BaseHTTPMiddleware, dispatch=passing)
    app.add_middleware(AnalyticsMiddleware, client=durable.client)

    left: list[int] = []  # bytes of the body that a client still waits for; with HEAD there are none
    at_the_end: Released = []

    async def send(message: Any) -> None:
        if message["type"] == START:
            [length] = [int(value) for name, value in message["headers"] if name == b"content-length"]
            left.append(0 if method == "HEAD" else length)
        elif message["type"] == BODY:
            left[0] -= len(message.get("body", b""))
        else:
            left[0] = 0
        if left[0] <= 0:
            at_the_end.append(durable.on_disk > 0)

    await app(scope(method, extensions=extensions), Receive(), send)
    assert at_the_end
    assert all(at_the_end)


# --- WSGI ----------------------------------------------------------------------------------------


def chunks_and_records(app: Any, recorder: DurableRecorder, method: str = "GET", **more: Any) -> Released:
    """Return whether the record was in the file when the app had returned, at each chunk, and after the last one."""
    environ = {**create_environ("/", method=method, headers={"Cookie": COOKIE}), **more}
    response: Any = app(environ, lambda *_: lambda _: None)
    seen = [recorder.on_disk > 0]
    seen += [recorder.on_disk > 0 for _ in response]
    seen.append(recorder.on_disk > 0)
    response.close()
    assert recorder.on_disk == 1
    return seen


def one_by_one(*chunks: bytes) -> Iterator[bytes]:
    yield from chunks


@pytest.mark.parametrize(
    ("start", "chunks", "expected"),
    [
        ("GET 200", one_by_one(b"he", b"llo"), [False, False, False, True]),
        ("GET 200 5", one_by_one(b"he", b"llo", b""), [False, False, True, True, True]),
        ("GET 200 5", [b"he", b"llo"], [False, False, True, True]),
        ("GET 200", [b"hello"], [False, True, True]),  # its length is computed by the server
        ("GET 200 0", [b""], [True, True, True]),
        ("GET 200 0", [], [True, True]),
        ("GET 204", [], [True, True]),
        ("GET 304 5", [], [True, True]),
        ("HEAD 200 5", one_by_one(b"hello"), [True, True, True]),
        ("GET 200 4", one_by_one(b"hello"), [False, True, True]),
        ("GET 200 6", one_by_one(b"hello"), [False, False, True]),
    ],
)
def test_on_wsgi(start: str, chunks: Iterable[bytes], expected: Released, durable: DurableRecorder) -> None:
    method, status, *length = start.split()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["sessionsight.analytics"].capture("seen")
        start_response(f"{status} Whatever", [("Content-Length", value) for value in length])
        return chunks

    assert chunks_and_records(WsgiMiddleware(app, durable.client), durable, method) == expected


@pytest.mark.parametrize(("method", "first"), [("GET", False), ("HEAD", True)])
def test_on_wsgi_where_the_app_starts_late(method: str, first: bool, durable: DurableRecorder) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        environ["sessionsight.analytics"].capture("seen")
        start_response("200 OK", [("Content-Length", "5")])
        yield b"he"
        yield b"llo"

    released = chunks_and_records(WsgiMiddleware(app, durable.client), durable, method)
    assert released == [False, first, True, True]


def test_on_wsgi_where_the_server_sends_a_file(durable: DurableRecorder) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["sessionsight.analytics"].capture("seen")
        start_response("200 OK", [("Content-Length", "5")])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"hello"))  # type: ignore[no-any-return]

    more: dict[str, Any] = {"wsgi.file_wrapper": FileWrapper}
    assert all(chunks_and_records(WsgiMiddleware(app, durable.client), durable, **more))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", ["text", "stream", "nothing"])
def test_of_flasks_responses(method: str, kind: str, durable: DurableRecorder) -> None:
    app = Flask("shop")
    SessionSight(app, client=durable.client)

    @app.get("/")
    def view() -> Any:
        from flask import request

        request.analytics.capture("seen")  # type: ignore[attr-defined]
        if kind == "nothing":
            return "", 204
        return (
            FlaskResponse(one_by_one(b"he", b"llo"), headers={"Content-Length": "5"}) if kind == "stream" else "hello"
        )

    released = chunks_and_records(app, durable, method)
    if kind == "nothing" or method == "HEAD":
        assert all(released)
    else:
        assert released == ([False, False, True, True] if kind == "stream" else [False, True, True])


def test_on_wsgi_a_record_is_in_the_file_before_an_exception_goes_on(durable: DurableRecorder) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["sessionsight.analytics"].capture("seen")
        raise LookupError

    with pytest.raises(LookupError):
        chunks_and_records(WsgiMiddleware(app, durable.client), durable)
    assert durable.on_disk == 1


# --- Django --------------------------------------------------------------------------------------


def django_view(request: Any) -> Any:
    request.analytics.capture("seen")
    return HttpResponse("hello")


def sized(request: Any) -> Any:
    request.analytics.capture("before")
    return StreamingHttpResponse(capturing(request), headers={"Content-Length": "5"})


def endless(request: Any) -> Any:
    request.analytics.capture("before")
    return StreamingHttpResponse(capturing(request))


def capturing(request: Any) -> Iterator[bytes]:
    yield b"he"
    request.analytics.capture("in_stream")
    yield b"llo"


def asynchronous(request: Any) -> Any:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in capturing(request):
            yield chunk

    request.analytics.capture("before")
    return StreamingHttpResponse(chunks(), headers={"Content-Length": "5"})


def download(request: Any) -> Any:
    request.analytics.capture("seen")
    return DjangoFile(io.BytesIO(b"hello"))


def nothing(request: Any) -> Any:
    request.analytics.capture("seen")
    return StreamingHttpResponse(iter([b""]), status=204)


def unchanged(request: Any) -> Any:
    request.analytics.capture("seen")
    return StreamingHttpResponse(iter([b"hello"]), headers={"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})


def django_wsgi(path: str, recorder: DurableRecorder, method: str = "GET", **headers: Any) -> list[int]:
    """How many records were in the file when Django had returned, at each chunk, and after the last one."""
    environ = RequestFactory().generic(method, path, HTTP_COOKIE=COOKIE, HTTP_HOST="shop.example", **headers).environ
    response: Any = WSGIHandler()(environ, lambda *_: lambda _: None)
    seen = [recorder.on_disk, *(recorder.on_disk for _ in response), recorder.on_disk]
    response.close()
    return seen


@pytest.mark.parametrize(
    ("view", "method", "expected"),
    [
        (django_view, "GET", [1, 1, 1]),
        (django_view, "HEAD", [1, 1, 1]),
        (sized, "GET", [1, 1, 2, 2]),
        (endless, "GET", [1, 1, 1, 2]),
        (sized, "HEAD", [1, 1, 2, 2]),
        (download, "GET", [1, 1, 1]),
        (nothing, "GET", [1, 1, 1]),
    ],
)
def test_of_django_on_wsgi(view: Any, method: str, expected: list[int], durable: DurableRecorder) -> None:
    with site(durable, view):
        assert django_wsgi(f"/{view.__name__}/", durable, method) == expected


def test_of_a_stream_that_another_middleware_of_django_replaces(durable: DurableRecorder) -> None:
    with site(durable, unchanged, middleware=(CONDITIONAL, ANALYTICS)):
        since = "Wed, 21 Oct 2015 07:28:00 GMT"
        assert django_wsgi("/unchanged/", durable, HTTP_IF_MODIFIED_SINCE=since)[0] == 1
    assert durable.on_disk == 1


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (django_view, [1, 1]),
        (sized, [1, 2, 2, 2]),  # Django makes a list of it before it sends anything
        (asynchronous, [1, 1, 2, 2]),
        (download, [1, 1, 1]),
        (nothing, [1, 1, 1]),
    ],
)
async def test_of_django_on_asgi(view: Any, expected: list[int], durable: DurableRecorder) -> None:
    seen: list[int] = []

    async def send(message: Any) -> None:
        seen.append(durable.on_disk)

    with site(durable, view):
        await ASGIHandler()({**scope(), "path": f"/{view.__name__}/"}, Receive(), send)
    assert seen == expected


def not_modified(request: Any) -> Any:
    request.analytics.capture("seen")
    return HttpResponseNotModified()


def test_of_djangos_304(durable: DurableRecorder) -> None:
    with site(durable, not_modified):
        assert django_wsgi("/not_modified/", durable)[0] == 1
