"""Work that a view or a socket starts by `carry`, and that runs when its request is over, in every adapter."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, WebSocket
from flask import Flask
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.background import BackgroundTasks as StarletteTasks
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket as StarletteWebSocket
from werkzeug.test import Client as Browser

from sessionsight import carry, current
from sessionsight.wsgi import AnalyticsMiddleware as WsgiMiddleware
from sessionsight_asgi import AnalyticsMiddleware
from sessionsight_flask import SessionSight
from tests.adapters.django_site import browser, site
from tests.adapters.recording import COOKIE, Recorder
from tests.adapters.test_asgi_frameworks import get, scope, talk
from tests.support.server import PATIENCE

# isort: split
from django.http import HttpResponse
from django.test import AsyncClient

# --- The ways to start work ------------------------------------------------------------------------


class Job:
    """Work that captures once its request is over."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.finished: Callable[[], Awaitable[object]]

    def work(self) -> None:
        assert self.go_on.wait(PATIENCE)
        current().capture("mailed")

    async def work_async(self) -> None:
        assert await asyncio.to_thread(self.go_on.wait, PATIENCE)
        current().capture("mailed")


Start = Callable[[Job], None]


def executor(job: Job) -> None:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(carry(job.work))
    pool.shutdown(wait=False)
    job.finished = lambda: asyncio.wrap_future(future)


def thread(job: Job) -> None:
    started = threading.Thread(target=carry(job.work))
    started.start()
    job.finished = lambda: asyncio.to_thread(started.join, PATIENCE)


def create_task(job: Job) -> None:
    task = asyncio.create_task(carry(job.work_async)())
    job.finished = lambda: task


def run_in_executor(job: Job) -> None:
    future = asyncio.get_running_loop().run_in_executor(None, carry(job.work))
    job.finished = lambda: future


# --- The adapters: each serves one request or socket of a visitor, and calls its function meanwhile -----

Serve = Callable[[Recorder, Callable[[], None]], Awaitable[None]]


async def flask(recorder: Recorder, view: Callable[[], None], **headers: str) -> None:
    app = Flask("shop")
    SessionSight(app, client=recorder.client)

    @app.get("/")
    def index() -> str:
        view()
        return "ok"

    visitor = app.test_client(use_cookies=False)
    answer = await asyncio.to_thread(visitor.get, "/", headers={"Cookie": COOKIE, **headers})
    assert answer.data == b"ok"


async def flask_websocket(recorder: Recorder, view: Callable[[], None]) -> None:
    await flask(recorder, view, Upgrade="websocket")


async def wsgi(recorder: Recorder, view: Callable[[], None], **headers: str) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        view()
        start_response("200 OK", [])
        return [b"ok"]

    visitor = Browser(WsgiMiddleware(app, recorder.client), use_cookies=False)
    with await asyncio.to_thread(visitor.get, "/", headers={"Cookie": COOKIE, **headers}) as answer:
        assert answer.data == b"ok"


async def wsgi_websocket(recorder: Recorder, view: Callable[[], None]) -> None:
    await wsgi(recorder, view, Upgrade="websocket")


async def django(recorder: Recorder, view: Callable[[], None]) -> None:
    def index(request: Any) -> HttpResponse:
        view()
        return HttpResponse("ok")

    with site(recorder, index):
        answer = await asyncio.to_thread(browser().get, "/index/")
    assert answer.content == b"ok"


async def django_async(recorder: Recorder, view: Callable[[], None]) -> None:
    async def index(request: Any) -> HttpResponse:
        view()
        return HttpResponse("ok")

    with site(recorder, index):
        assert (await browser(AsyncClient).get("/index/")).content == b"ok"


async def starlette(recorder: Recorder, view: Callable[[], None]) -> None:
    async def index(request: Any) -> PlainTextResponse:
        view()
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", index)])
    assert await get(AnalyticsMiddleware(app, recorder.client)) == (200, b"ok")


async def fastapi_thread(recorder: Recorder, view: Callable[[], None]) -> None:
    app = FastAPI()

    @app.get("/")
    def index() -> PlainTextResponse:
        view()
        return PlainTextResponse("ok")

    assert await get(AnalyticsMiddleware(app, recorder.client)) == (200, b"ok")


async def connect(app: Any, recorder: Recorder) -> None:
    """Open a websocket, say something, and wait until the server closes it."""
    said = {"type": "websocket.receive", "text": "hello"}
    await talk(
        AnalyticsMiddleware(app, recorder.client),
        scope("/ws", "websocket"),
        {"type": "websocket.connect"},
        said,
        stays=True,
    )


async def starlette_websocket(recorder: Recorder, view: Callable[[], None]) -> None:
    async def ws(websocket: StarletteWebSocket) -> None:
        await websocket.accept()
        view()
        await websocket.close()

    await connect(Starlette(routes=[WebSocketRoute("/ws", ws)]), recorder)


async def fastapi_websocket(recorder: Recorder, view: Callable[[], None]) -> None:
    app = FastAPI()

    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        view()
        await websocket.close()

    app.add_api_websocket_route("/ws", ws)
    await connect(app, recorder)


async def quart_websocket(recorder: Recorder, view: Callable[[], None]) -> None:
    from quart import Quart, websocket

    app = Quart("shop")

    @app.websocket("/ws")
    async def ws() -> None:
        await websocket.accept()
        view()
        await websocket.close(1000)

    await connect(app, recorder)


async def litestar_websocket(recorder: Recorder, view: Callable[[], None]) -> None:
    from litestar import Litestar, WebSocket, websocket

    async def ws(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        view()
        await socket.close()

    ws.__annotations__["socket"] = WebSocket
    await connect(Litestar([websocket("/ws")(ws)], openapi_config=None), recorder)


async def channels_async(recorder: Recorder, view: Callable[[], None]) -> None:
    from channels.generic.websocket import AsyncWebsocketConsumer  # type: ignore[import-untyped]

    class Chat(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            view()
            await self.close()

    await connect(Chat.as_asgi(), recorder)


async def channels_sync(recorder: Recorder, view: Callable[[], None]) -> None:
    from channels.generic.websocket import WebsocketConsumer

    class Chat(WebsocketConsumer):  # type: ignore[misc]
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            view()
            self.close()

    await connect(Chat.as_asgi(), recorder)


async def channels_http(recorder: Recorder, view: Callable[[], None]) -> None:
    from channels.generic.http import AsyncHttpConsumer  # type: ignore[import-untyped]

    class Page(AsyncHttpConsumer):  # type: ignore[misc]
        async def handle(self, body: bytes) -> None:
            view()
            await self.send_response(200, b"ok")

    assert await get(AnalyticsMiddleware(Page.as_asgi(), recorder.client)) == (200, b"ok")


ON_A_THREAD: list[Serve] = [
    flask,
    flask_websocket,
    wsgi,
    wsgi_websocket,
    django,
    fastapi_thread,
    channels_sync,
]
ON_THE_LOOP: list[Serve] = [
    django_async,
    starlette,
    starlette_websocket,
    fastapi_websocket,
    quart_websocket,
    litestar_websocket,
    channels_async,
    channels_http,
]
CASES = [(serve, start) for serve in (*ON_A_THREAD, *ON_THE_LOOP) for start in (executor, thread)]
CASES += [(serve, start) for serve in ON_THE_LOOP for start in (create_task, run_in_executor)]


@pytest.mark.parametrize(("serve", "start"), CASES, ids=lambda case: case.__name__)
async def test_work_of_every_kind_keeps_the_visitors_ids_after_its_request(
    serve: Serve, start: Start, recorder: Recorder
) -> None:
    job = Job()

    def view() -> None:
        current().capture("viewed")
        start(job)

    await serve(recorder, view)
    assert recorder.names() == ["viewed"]
    job.go_on.set()
    await job.finished()
    assert [(event["event_name"], event["anonymous_id"]) for event in recorder.events()] == [
        ("viewed", "visitor-1"),
        ("mailed", "visitor-1"),
    ]


# --- Background tasks ------------------------------------------------------------------------------


def mail() -> None:
    current().capture("mailed")


async def mail_async() -> None:
    await asyncio.sleep(0)
    current().capture("mailed")


def starlette_tasks(*functions: Callable[[], object]) -> Any:
    tasks = StarletteTasks([BackgroundTask(function) for function in functions])

    async def index(request: Any) -> PlainTextResponse:
        return PlainTextResponse("ok", background=tasks)

    return Starlette(routes=[Route("/", index)])


def starlette_tasks_carried(*functions: Callable[[], object]) -> Any:
    async def index(request: Any) -> PlainTextResponse:
        tasks = StarletteTasks([BackgroundTask(carry(function)) for function in functions])
        return PlainTextResponse("ok", background=tasks)

    return Starlette(routes=[Route("/", index)])


def fastapi_tasks(*functions: Callable[[], object]) -> Any:
    app = FastAPI()

    async def index(tasks: BackgroundTasks) -> PlainTextResponse:
        for function in functions:
            tasks.add_task(function)
        return PlainTextResponse("ok")

    app.get("/")(index)
    return app


def fastapi_tasks_carried(*functions: Callable[[], object]) -> Any:
    app = FastAPI()

    def index(tasks: BackgroundTasks) -> PlainTextResponse:
        for function in functions:
            tasks.add_task(carry(function))
        return PlainTextResponse("ok")

    app.get("/")(index)
    return app


@pytest.mark.parametrize("make", [starlette_tasks, starlette_tasks_carried, fastapi_tasks, fastapi_tasks_carried])
async def test_background_tasks_capture_in_the_visitors_session_with_and_without_carry(
    make: Callable[..., Any], recorder: Recorder
) -> None:
    status, _ = await get(AnalyticsMiddleware(make(mail, mail_async), recorder.client))
    assert status == 200
    assert [event["anonymous_id"] for event in recorder.events()] == ["visitor-1"] * 2
