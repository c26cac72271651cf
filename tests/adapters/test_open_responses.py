"""Records of a response that stays open are delivered while it is open.

That holds for a stream, a websocket over WSGI, a long request.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import anyio
import pytest
from werkzeug.test import create_environ

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import StreamingHttpResponse
from django.test import RequestFactory
from flask import Flask
from flask import Response as FlaskResponse

from sessionsight.wsgi import AnalyticsMiddleware as WsgiMiddleware
from sessionsight_asgi import AnalyticsMiddleware
from sessionsight_flask import SessionSight, current_analytics
from tests.adapters.django_site import site
from tests.adapters.recording import COOKIE, Recorder
from tests.support.server import PATIENCE, auntil, until


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pending records are sent immediately, rather than after half a second."""
    monkeypatch.setattr("sessionsight.delivery.engine._OPEN_INTERVAL", 0.01)


def scope(path: str = "/") -> dict[str, Any]:
    headers = [(b"host", b"shop.example"), (b"cookie", COOKIE.encode())]
    return {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers, "scheme": "http"}


async def receive() -> Any:
    await anyio.sleep_forever()


class Receive:
    def __init__(self) -> None:
        self._inbox: list[dict[str, Any]] = [{"type": "http.request", "body": b""}]

    async def __call__(self) -> dict[str, Any]:
        if not self._inbox:
            await anyio.sleep_forever()
        return self._inbox.pop()


async def ignore(message: Any) -> None:
    pass


async def test_on_asgi(recorder: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        scope["analytics"].capture("opened")
        await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
        await auntil(lambda: recorder.arrived == ["opened"], "it has arrived, though nothing follows")
        await send({"type": "http.response.body", "body": b""})

    await AnalyticsMiddleware(app, client=recorder.client)(scope(), receive, ignore)
    assert recorder.names() == ["opened"]


def test_on_wsgi(recorder: Recorder) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        environ["sessionsight.analytics"].capture("opened")
        yield b"data: x\n\n"
        until(lambda: recorder.arrived == ["opened"], "it has arrived, though nothing follows")
        yield b"data: y\n\n"

    body: Any = WsgiMiddleware(app, recorder.client)(
        create_environ("/", headers={"Cookie": COOKIE}), lambda *_: lambda _: None
    )
    assert len(list(body)) == 2
    body.close()
    assert recorder.names() == ["opened"]


def test_of_a_websocket_over_wsgi_which_never_starts_a_response(recorder: Recorder) -> None:
    closed = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["sessionsight.analytics"].capture("said")
        assert closed.wait(PATIENCE)
        return []

    def serve() -> None:
        served = WsgiMiddleware(app, recorder.client)
        environ = create_environ("/", headers={"Cookie": COOKIE, "Upgrade": "websocket"})
        body: Any = served(environ, lambda *_: lambda _: None)
        body.close()

    serving = threading.Thread(target=serve)
    serving.start()
    until(lambda: recorder.arrived == ["said"], "it has arrived, and the socket is open")
    closed.set()
    serving.join()
    assert recorder.names() == ["said"]


def test_of_flask(recorder: Recorder) -> None:
    app = Flask("shop")
    SessionSight(app, client=recorder.client)

    @app.get("/<name>/")
    def stream(name: str) -> FlaskResponse:
        current_analytics.capture("opened")

        def rows() -> Iterator[bytes]:
            yield b"a"
            until(lambda: recorder.arrived == ["opened"], "it has arrived, though nothing follows")
            yield b"b"

        return FlaskResponse(rows())

    with app.test_client(use_cookies=False).get("/x/", headers={"Cookie": COOKIE}) as response:
        assert response.data == b"ab"
    [event] = recorder.events()
    assert (event["event_name"], event["anonymous_id"]) == ("opened", "visitor-1")


def streams(request: Any) -> Any:
    def rows() -> Iterator[bytes]:
        request.analytics.capture("opened")
        yield b"a"
        until(lambda: arrived() == ["opened"], "it has arrived, though nothing follows")
        yield b"b"

    return StreamingHttpResponse(rows())


async def async_streams(request: Any) -> Any:
    async def rows() -> AsyncIterator[bytes]:
        request.analytics.capture("opened")
        yield b"a"
        await auntil(lambda: arrived() == ["opened"], "it has arrived, though nothing follows")
        yield b"b"

    return StreamingHttpResponse(rows())


def arrived() -> list[str]:
    return seen[-1].arrived


seen: list[Recorder] = []


@pytest.fixture
def _seen(recorder: Recorder) -> Iterator[None]:
    seen.append(recorder)
    yield
    seen.clear()


@pytest.mark.usefixtures("_seen")
def test_of_django_on_wsgi(recorder: Recorder) -> None:
    with site(recorder, streams):
        environ = RequestFactory().get("/streams/", HTTP_COOKIE=COOKIE).environ
        response: Any = WSGIHandler()(environ, lambda *_: lambda _: None)
        assert list(response) == [b"a", b"b"]
        response.close()
    assert recorder.names() == ["opened"]


@pytest.mark.usefixtures("_seen")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_of_django_on_asgi(recorder: Recorder) -> None:
    with site(recorder, async_streams):
        await ASGIHandler()(scope("/async_streams/"), Receive(), ignore)
    assert recorder.names() == ["opened"]
