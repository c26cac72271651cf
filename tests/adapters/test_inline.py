"""`flush="inline"`, on every way that a request may take: its records have arrived before it is over.

The vendor is asked for an hour, so that a request that waits for another one's records is waited for until the timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from werkzeug.test import create_environ

from tests.conformance import django_project  # noqa: F401  # sets Django up

# isort: split
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import RequestFactory
from flask import Flask

from sessionsight.wsgi import AnalyticsMiddleware as WsgiMiddleware
from sessionsight_asgi import AnalyticsMiddleware
from sessionsight_flask import SessionSight, current_analytics
from tests.adapters.django_site import site
from tests.adapters.recording import COOKIE, Recorder
from tests.support.server import PATIENCE, auntil


@pytest.fixture
def inline() -> Iterator[Recorder]:
    recorder = Recorder(flush="inline", flush_timeout=3600.0, linger=3600.0)
    yield recorder
    recorder.open.set()
    recorder.client.shutdown(PATIENCE)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Failed(Exception):
    pass


# --- ASGI ----------------------------------------------------------------------------------------


def scope(kind: str = "http") -> dict[str, Any]:
    headers = [(b"host", b"shop.example"), (b"cookie", COOKIE.encode())]
    return {"type": kind, "method": "GET", "path": "/", "query_string": b"", "headers": headers, "scheme": "http"}


async def receive() -> Any:
    await anyio.sleep_forever()


async def ignore(message: Any) -> None:
    pass


async def test_a_view_of_asgi_that_raises(inline: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["analytics"].capture("seen")
        raise Failed

    with pytest.raises(Failed):
        await AnalyticsMiddleware(app, inline.client)(scope(), receive, ignore)
    assert inline.arrived == ["seen"]


async def test_what_a_background_task_of_asgi_captures(inline: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        scope["analytics"].capture("later")

    await AnalyticsMiddleware(app, inline.client)(scope(), receive, ignore)
    assert inline.arrived == ["later"]


async def test_what_a_websocket_captures(inline: Recorder) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        scope["analytics"].capture("said")

    await AnalyticsMiddleware(app, inline.client)(scope("websocket"), receive, ignore)
    assert inline.arrived == ["said"]


async def test_a_background_task_of_starlette(inline: Recorder) -> None:
    async def endpoint(request: Request) -> PlainTextResponse:
        request.analytics.capture("seen")  # type: ignore[attr-defined]

        def task() -> None:
            request.analytics.capture("mailed")  # type: ignore[attr-defined]

        return PlainTextResponse("ok", background=BackgroundTask(task))

    app = Starlette(routes=[Route("/", endpoint)])
    await AnalyticsMiddleware(app, inline.client)(scope(), receive, ignore)
    assert inline.arrived == ["seen", "mailed"]


# --- WSGI ----------------------------------------------------------------------------------------


def wsgi(app: Any, **headers: str) -> Any:
    return app(create_environ("/", headers={"Cookie": COOKIE}), lambda *_: lambda _: None)


def test_a_view_of_wsgi_that_raises(inline: Recorder) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["sessionsight.analytics"].capture("seen")
        raise Failed

    with pytest.raises(Failed):
        wsgi(WsgiMiddleware(app, inline.client))
    assert inline.arrived == ["seen"]


def test_a_stream_of_wsgi_that_raises(inline: Recorder) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"
        environ["sessionsight.analytics"].capture("seen")
        raise Failed

    body = wsgi(WsgiMiddleware(app, inline.client))
    with pytest.raises(Failed):
        list(body)
    assert inline.arrived == ["seen"]
    body.close()


def test_what_is_captured_while_a_response_of_wsgi_is_closed(inline: Recorder) -> None:
    class Body:
        def __init__(self, analytics: Any) -> None:
            self.analytics = analytics

        def __iter__(self) -> Iterator[bytes]:
            yield b"a"

        def close(self) -> None:
            self.analytics.capture("later")

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Body(environ["sessionsight.analytics"])

    body = wsgi(WsgiMiddleware(app, inline.client))
    list(body)
    body.close()
    assert inline.arrived == ["later"]


@pytest.mark.parametrize("passed_on", [True, False])
def test_a_view_of_flask_that_raises(passed_on: bool, inline: Recorder) -> None:
    app = Flask("shop")
    app.config["PROPAGATE_EXCEPTIONS"] = passed_on
    SessionSight(app, client=inline.client)

    @app.get("/")
    def view() -> str:
        current_analytics.capture("seen")
        raise Failed

    if passed_on:
        with pytest.raises(Failed):
            wsgi(app)
    else:
        list(wsgi(app))
    assert inline.arrived == ["seen"]


# --- Django --------------------------------------------------------------------------------------


def raises(request: Any) -> Any:
    request.analytics.capture("seen")
    raise Failed


async def async_raises(request: Any) -> Any:
    request.analytics.capture("seen")
    raise Failed


class Receive:
    def __init__(self) -> None:
        self._inbox: list[dict[str, Any]] = [{"type": "http.request", "body": b""}]

    async def __call__(self) -> dict[str, Any]:
        if not self._inbox:
            await anyio.sleep_forever()
        return self._inbox.pop()


@pytest.mark.parametrize("passed_on", [True, False])
def test_a_view_of_django_that_raises(passed_on: bool, inline: Recorder) -> None:
    environ = RequestFactory().get("/raises/", HTTP_COOKIE=COOKIE).environ
    with site(inline, raises, DEBUG_PROPAGATE_EXCEPTIONS=passed_on):
        if passed_on:
            with pytest.raises(Failed):
                WSGIHandler()(environ, lambda *_: lambda _: None)
        else:
            WSGIHandler()(environ, lambda *_: lambda _: None)
    assert inline.arrived == ["seen"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("view", [raises, async_raises])
async def test_a_view_of_django_on_asgi_whose_exception_is_passed_on(view: Any, inline: Recorder) -> None:
    async def send(message: Any) -> None:
        raise AssertionError("there is no response")

    class Handler(ASGIHandler):
        async def read_body(self, receive: Any) -> Any:
            self.body = await super().read_body(receive)
            return self.body

    with site(inline, view, DEBUG_PROPAGATE_EXCEPTIONS=True):
        handler = Handler()
        with pytest.raises(Failed):
            await handler({**scope(), "path": f"/{view.__name__}/"}, Receive(), send)
    handler.body.close()  # Django leaves it open
    assert inline.arrived == ["seen"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("view", [raises, async_raises])
async def test_a_view_of_django_on_asgi_that_raises(view: Any, inline: Recorder) -> None:
    arrived: list[list[str]] = []

    async def send(message: Any) -> None:
        arrived.append(inline.arrived.copy())

    with site(inline, view):
        await ASGIHandler()({**scope(), "path": f"/{view.__name__}/"}, Receive(), send)
    assert arrived[0] == ["seen"]


# --- Many at once --------------------------------------------------------------------------------


async def pay(request: Request) -> PlainTextResponse:
    request.analytics.capture("paid")  # type: ignore[attr-defined]
    return PlainTextResponse("ok")


def health(request: Request) -> PlainTextResponse:  # a plain function: Starlette calls it on a worker thread
    return PlainTextResponse("ok")


def starlette(inline: Recorder) -> Any:
    return AnalyticsMiddleware(Starlette(routes=[Route("/pay/", pay), Route("/health/", health)]), inline.client)


async def django_pay(request: Any) -> Any:
    request.analytics.capture("paid")
    return HttpResponse("ok")


async def django_health(request: Any) -> Any:
    await asyncio.to_thread(int)  # as a look-up of a host name, or anything else in the loop's own pool
    return HttpResponse("ok")


async def many_wait(app: Any, inline: Recorder, pay: str, health: str) -> None:
    """Ninety requests wait for a vendor that is silent, and one that captures nothing is served meanwhile."""
    answered: list[int] = []
    inline.open.clear()

    async with ask(app) as http:

        async def paying() -> None:
            response = await http.get(pay)
            answered.append(response.status_code)

        async with anyio.create_task_group() as tasks:
            for _ in range(90):
                tasks.start_soon(paying)
            await auntil(lambda: inline.handed_over == 90, "all have captured something")
            with anyio.fail_after(PATIENCE):
                assert (await http.get(health)).status_code == 200
            assert answered == []
            inline.open.set()
    assert answered == [200] * 90
    assert len(inline.arrived) == 90


def ask(app: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(
        transport=transport, base_url="http://shop.example", headers={"Cookie": COOKIE}, timeout=3600
    )


async def test_of_starlette_take_no_worker_threads(inline: Recorder) -> None:
    await many_wait(starlette(inline), inline, "/pay/", "/health/")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_of_django_take_no_worker_threads(inline: Recorder) -> None:
    with site(inline, django_pay, django_health):
        await many_wait(ASGIHandler(), inline, "/django_pay/", "/django_health/")
