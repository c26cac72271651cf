"""The plain ASGI middleware around frameworks that know nothing of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from sessionsight import Analytics, carry, current
from sessionsight_asgi import AnalyticsMiddleware
from tests.adapters.recording import COOKIE, Recorder
from tests.conformance import django_project  # noqa: F401  # sets Django up

Messages = list[dict[str, Any]]


def scope(path: str = "/", kind: str = "http", **more: Any) -> dict[str, Any]:
    common = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "client": ("192.0.2.1", 4000),
        "server": ("shop.example", 80),
        "headers": [(b"host", b"shop.example"), (b"cookie", COOKIE.encode())],
        "extensions": {},
        "state": {},
    }
    return {**common, **({"method": "GET"} if kind == "http" else {"subprotocols": []}), **more}


async def talk(app: Any, connection: dict[str, Any], *inbox: dict[str, Any], stays: bool = False) -> Messages:
    """Run one connection of a server whose client sends these messages, and then leaves, or stays for the answer."""
    waiting = list(inbox)
    answered = anyio.Event()
    sent: Messages = []

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop(0)
        if stays:
            await answered.wait()
        return {"type": f"{connection['type']}.disconnect", "code": 1000}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        done = message["type"] == "http.response.body" and not message.get("more_body")
        if done or message["type"] == "websocket.close":
            answered.set()

    await app(connection, receive, send)
    return sent


async def get(app: Any, path: str = "/") -> tuple[int, bytes]:
    with anyio.fail_after(10):
        sent = await talk(app, scope(path), {"type": "http.request", "body": b"", "more_body": False}, stays=True)
    status = next(message["status"] for message in sent if message["type"] == "http.response.start")
    return status, b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")


async def lifespan(app: Any) -> list[str]:
    sent: list[str] = []
    inbox = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> dict[str, str]:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    return sent


def quart_app(on_shutdown: Callable[[], object]) -> Any:
    from quart import Quart, Response, request, stream_with_context, websocket

    app = Quart("shop")

    @app.get("/")
    async def view() -> str:
        assert current() is cast("Any", request.scope)["analytics"]
        current().capture("view")
        return "ok"

    @app.get("/stream")
    async def stream() -> Response:
        @stream_with_context
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(2):
                current().capture("chunk")
                yield b"x"

        return Response(chunks())

    @app.get("/fails")
    async def fails() -> str:
        current().capture("before the failure")
        raise LookupError

    @app.websocket("/ws")
    async def ws() -> None:
        current().capture(str(await websocket.receive()))

    app.after_serving(_awaited(on_shutdown))
    logging.getLogger("shop").disabled = True
    return app


def _awaited(call: Callable[[], object]) -> Any:
    async def awaited() -> None:
        call()

    return awaited


def litestar_app(on_shutdown: Callable[[], object]) -> Any:
    from litestar import Litestar, WebSocket, websocket
    from litestar import Request as LitestarRequest
    from litestar import get as route
    from litestar.response import Stream

    async def view(request: LitestarRequest[Any, Any, Any]) -> str:
        assert current() is request.scope["analytics"]  # type: ignore[typeddict-item]
        current().capture("view")
        return "ok"

    async def stream() -> Stream:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(2):
                current().capture("chunk")
                yield b"x"

        return Stream(chunks())

    async def fails() -> str:
        current().capture("before the failure")
        raise LookupError

    async def ws(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        current().capture(await socket.receive_text())
        await socket.close()

    for function in (view, stream, fails):
        function.__globals__.update(LitestarRequest=LitestarRequest, Stream=Stream)
    ws.__globals__.update(WebSocket=WebSocket)
    return Litestar(
        [
            route("/", media_type="text/plain")(view),
            route("/stream")(stream),
            route("/fails")(fails),
            websocket("/ws")(ws),
        ],
        on_shutdown=[on_shutdown],
        logging_config=None,
        openapi_config=None,
    )


def django_app(on_shutdown: Callable[[], object]) -> Any:
    from django.core.handlers.asgi import ASGIHandler
    from django.http import HttpResponse, StreamingHttpResponse
    from django.test import override_settings
    from django.urls import path

    async def view(request: Any) -> HttpResponse:
        assert current() is request.scope["analytics"]
        current().capture("view")
        return HttpResponse("ok")

    def stream(request: Any) -> StreamingHttpResponse:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(2):
                current().capture("chunk")
                yield b"x"

        return StreamingHttpResponse(chunks())

    def fails(request: Any) -> HttpResponse:
        current().capture("before the failure")
        raise LookupError

    logging.getLogger("django.request").disabled = True
    urls = type("Urls", (), {"urlpatterns": [path("", view), path("stream", stream), path("fails", fails)]})
    with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=[]):
        handler = ASGIHandler()

    async def app(connection: Any, receive: Any, send: Any) -> None:
        with override_settings(ROOT_URLCONF=urls):
            await handler(connection, receive, send)

    return app


APPS = {"quart": quart_app, "litestar": litestar_app, "django": django_app}


@pytest.mark.parametrize("framework", APPS)
async def test_views_streams_and_failures_of_other_frameworks_have_analytics(
    framework: str, recorder: Recorder
) -> None:
    app = AnalyticsMiddleware(APPS[framework](lambda: None), recorder.client)
    assert await get(app) == (200, b"ok")
    assert await get(app, "/stream") == (200, b"xx")
    assert (await get(app, "/fails"))[0] == 500
    assert (await get(app, "/missing"))[0] == 404
    assert recorder.names() == ["view", "chunk", "chunk", "before the failure"]
    assert {event["anonymous_id"] for event in recorder.events()} == {"visitor-1"}


@pytest.mark.parametrize("framework", ["quart", "litestar"])
async def test_websockets_of_other_frameworks_have_analytics(framework: str, recorder: Recorder) -> None:
    app = AnalyticsMiddleware(APPS[framework](lambda: None), recorder.client)
    inbox = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "said"}]
    with anyio.fail_after(10):
        await talk(app, scope("/ws", "websocket"), *inbox, stays=True)
    assert recorder.names() == ["said"]
    assert recorder.events()[0]["url"] == "http://shop.example/ws"


@pytest.mark.parametrize("framework", ["quart", "litestar"])
async def test_the_lifespan_of_other_frameworks_is_passed_on_and_drained(framework: str, recorder: Recorder) -> None:
    app = APPS[framework](lambda: recorder.client.bind(user_id="user_1").capture("stopped"))
    assert await lifespan(AnalyticsMiddleware(app, recorder.client)) == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert recorder.arrived == ["stopped"]


# --- Starlette: what stands beside us, above and below ---------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_neighbours_of_the_base_class_above_and_below_leave_nothing_behind(backend: Any, recorder: Recorder) -> None:
    seen: list[tuple[str, bool]] = []

    def neighbour(name: str) -> Any:
        async def dispatch(request: Request, call_next: Any) -> Any:
            seen.append((f"{name} before", "analytics" in request.scope and current() is request.scope["analytics"]))
            response = await call_next(request)
            seen.append((f"{name} after", "analytics" in request.scope and current() is request.scope["analytics"]))
            return response

        return dispatch

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            current().capture("chunk")
            yield b"x"

    async def endpoint(request: Request) -> StreamingResponse:
        current().capture("view")
        return StreamingResponse(chunks())

    app = Starlette(routes=[Route("/", endpoint)])
    app.add_middleware(BaseHTTPMiddleware, dispatch=neighbour("below"))
    app.add_middleware(AnalyticsMiddleware, client=recorder.client)
    app.add_middleware(BaseHTTPMiddleware, dispatch=neighbour("above"))
    with TestClient(app, backend=backend, headers={"cookie": COOKIE}) as client:
        assert client.get("/").text == "xxx"
        assert client.get("/").text == "xxx"
    one = [("above before", False), ("below before", True), ("below after", True), ("above after", False)]
    # What is above us sees the analytics once we have put them there, but they are not current in its task.
    assert [(name, found) for name, found in seen if name != "above after"] == [*one[:3], *one[:3]]
    assert recorder.names() == ["view", "chunk", "chunk", "chunk"] * 2


def test_a_mounted_app_with_a_middleware_of_its_own_is_attached_once(recorder: Recorder) -> None:
    other = Recorder()

    def endpoint(request: Request) -> PlainTextResponse:
        current().capture("inner")
        return PlainTextResponse("ok")

    inner = FastAPI()
    inner.add_route("/", endpoint)
    inner.add_middleware(AnalyticsMiddleware, client=other.client)
    app = Starlette(routes=[Mount("/inner", inner)])
    app.add_middleware(AnalyticsMiddleware, client=recorder.client)
    assert TestClient(AnalyticsMiddleware(app, recorder.client), headers={"cookie": COOKIE}).get("/inner/").text == "ok"
    assert (recorder.names(), other.names()) == (["inner"], [])
    other.client.shutdown()


# --- Clients that leave, on asyncio and trio --------------------------------------------------------------


both_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@both_loops
async def test_server_sent_events_keep_what_was_captured_when_the_client_leaves(recorder: Recorder) -> None:
    async def events() -> AsyncIterator[str]:
        try:
            while True:
                current().capture("event")
                yield "data: x\n\n"
                await anyio.sleep_forever()
        finally:
            current().capture("left")

    def endpoint(request: Request) -> StreamingResponse:
        return StreamingResponse(events(), media_type="text/event-stream")

    app = AnalyticsMiddleware(Starlette(routes=[Route("/", endpoint)]), recorder.client)
    with anyio.fail_after(5):
        sent = await talk(app, scope(), {"type": "http.request"})
    assert sent[0]["type"] == "http.response.start"
    assert recorder.names()[:1] in ([], ["event"])  # the client may have left before the first event
    assert recorder.handed_over == len(recorder.names())


@both_loops
async def test_tasks_that_outlive_their_request_keep_its_ids_only_if_they_are_given_them(recorder: Recorder) -> None:
    go_on = anyio.Event()

    async def later(analytics: Analytics | None = None) -> None:
        await go_on.wait()
        (analytics or current()).capture("later", user_id="bob")

    async with anyio.create_task_group() as tasks:

        async def app(connection: Any, receive: Any, send: Any) -> None:
            current().capture("view", user_id="ada")
            tasks.start_soon(later)
            tasks.start_soon(carry(later))
            tasks.start_soon(later, connection["analytics"])
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

        await talk(AnalyticsMiddleware(app, recorder.client), scope())
        assert recorder.handed_over == 1
        go_on.set()
    found = sorted((event["event_name"], event["anonymous_id"]) for event in recorder.events())
    assert found == [("later", "bob"), ("later", "visitor-1"), ("later", "visitor-1"), ("view", "visitor-1")]
