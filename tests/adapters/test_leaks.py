"""Objects of a request are freed when its response is over, without the garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from werkzeug.test import EnvironBuilder

from sessionsight import current
from sessionsight.wsgi import AnalyticsMiddleware as WsgiMiddleware
from sessionsight_asgi import AnalyticsMiddleware as AsgiMiddleware
from sessionsight_flask import SessionSight
from tests.adapters.recording import COOKIE, Recorder

REQUESTS = 500


class Owned:
    """Something that only the request holds."""


@pytest.fixture(autouse=True)
def _no_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_asgi_scopes_are_freed(recorder: Recorder) -> None:
    alive: weakref.WeakSet[Owned] = weakref.WeakSet()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["number"] % 10 == 0:
            current().capture("seen")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def nothing(*_: Any) -> Any:
        return {"type": "http.disconnect"}

    served = AsgiMiddleware(app, recorder.client)
    for number in range(REQUESTS):
        owned = Owned()
        alive.add(owned)
        scope = {"type": "http", "path": "/", "headers": [(b"cookie", COOKIE.encode())], "number": number, "own": owned}
        await served(scope, nothing, nothing)
        del scope, owned
    assert len(alive) == 0
    assert recorder.handed_over == REQUESTS // 10


def test_wsgi_environs_are_freed(recorder: Recorder) -> None:
    alive: weakref.WeakSet[Owned] = weakref.WeakSet()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        if environ["number"] % 10 == 0:
            current().capture("seen")
        start_response("200 OK", [])
        return [b"ok"]

    served = WsgiMiddleware(app, recorder.client)
    for number in range(REQUESTS):
        owned = Owned()
        alive.add(owned)
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_COOKIE": COOKIE, "number": number, "own": owned}
        body: Any = served(environ, lambda *_: lambda _: None)
        assert list(body) == [b"ok"]
        body.close()
        del environ, owned, body
    assert len(alive) == 0
    assert recorder.handed_over == REQUESTS // 10


def test_flask_requests_are_freed(recorder: Recorder) -> None:
    app = flask.Flask("shop")
    SessionSight(app, client=recorder.client)
    alive: weakref.WeakSet[Owned] = weakref.WeakSet()

    @app.get("/")
    def view() -> str:
        if flask.request.environ["number"] % 10 == 0:
            current().capture("seen")
        return "ok"

    template = EnvironBuilder(headers=[("Cookie", COOKIE)]).get_environ()
    for number in range(REQUESTS):
        owned = Owned()
        alive.add(owned)
        environ = {**template, "number": number, "own": owned}
        body: Any = app(environ, lambda *_: lambda _: None)
        assert list(body) == [b"ok"]
        body.close()
        del environ, owned, body
    assert len(alive) == 0
    assert recorder.handed_over == REQUESTS // 10
