"""`sessionsight.current()` in threads and tasks that a request starts, while it lives and afterwards."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from werkzeug.test import Client as Browser

from sessionsight import Analytics, current
from sessionsight.capture.current import set_default_client
from sessionsight.wsgi import AnalyticsMiddleware as WsgiMiddleware
from sessionsight_asgi import AnalyticsMiddleware
from tests.adapters.django_site import browser, site
from tests.adapters.recording import COOKIE, Recorder

# isort: split
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient as DjangoAsyncClient


async def in_a_pool(call: Callable[[], Analytics]) -> Analytics:
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.wrap_future(pool.submit(contextvars.copy_context().run, call))


async def in_a_task(call: Callable[[], Analytics]) -> Analytics:
    async def task() -> Analytics:
        return call()

    return await asyncio.create_task(task())


async def by_asgiref(call: Callable[[], Analytics]) -> Analytics:
    return await sync_to_async(call)()


@pytest.mark.parametrize("run", [run_in_threadpool, asyncio.to_thread, by_asgiref, in_a_pool, in_a_task])
async def test_current_finds_the_requests_analytics(
    run: Callable[[Callable[[], Analytics]], Awaitable[Analytics]], recorder: Recorder
) -> None:
    found: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(await run(current) is scope["analytics"])

    async def nothing(*_: Any) -> Any:
        return {"type": "http.disconnect"}

    await AnalyticsMiddleware(app, recorder.client)({"type": "http", "path": "/", "headers": []}, nothing, nothing)
    assert found == [True]


# --- Work that outlives its request: a worker that the first request starts ------------------------------


class Worker:
    """Captures for whoever is put into its queue, on a thread with a copy of the context in which it was started."""

    def __init__(self) -> None:
        self.jobs: queue.Queue[str | None] = queue.Queue()
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=contextvars.copy_context().run, args=(self.work,))
        self.thread.start()
        self.jobs.put("ada")
        self.jobs.join()

    def work(self) -> None:
        while (user := self.jobs.get()) is not None:
            current().capture("mailed", user_id=user)
            self.jobs.task_done()

    def finish(self) -> None:
        self.jobs.put("bob")
        self.jobs.put(None)
        assert self.thread is not None
        self.thread.join()


@pytest.fixture
def worker() -> Worker:
    return Worker()


def of_whom(recorder: Recorder) -> list[tuple[str, str]]:
    return [(event["person_id"], event["anonymous_id"]) for event in recorder.events()]


ONLY_ADA_HAS_THE_VISITORS_IDS = [("ada", "visitor-1"), ("bob", "bob")]


def test_behind_wsgi_it_captures_as_nobodys_visitor_afterwards(
    worker: Worker, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        worker.start()
        start_response("200 OK", [])
        return [b"ok"]

    with Browser(WsgiMiddleware(app, recorder.client), use_cookies=False).get("/", headers={"Cookie": COOKIE}) as got:
        assert got.data == b"ok"
    worker.finish()
    assert of_whom(recorder) == ONLY_ADA_HAS_THE_VISITORS_IDS
    assert [message for message in caplog.messages if "sessionsight.carry(function)" in message]


async def test_behind_asgi_it_captures_as_nobodys_visitor_afterwards(recorder: Recorder) -> None:
    jobs: asyncio.Queue[str] = asyncio.Queue()
    tasks: list[asyncio.Task[None]] = []

    async def work() -> None:
        while True:
            user = await jobs.get()
            current().capture("mailed", user_id=user)
            jobs.task_done()

    async def order(request: Any) -> PlainTextResponse:
        if not tasks:
            tasks.append(asyncio.create_task(work()))
        jobs.put_nowait(request.query_params["user"])
        await jobs.join()
        return PlainTextResponse("ok", background=BackgroundTask(below, request.query_params["user"]))

    def below(user: str) -> None:
        current().capture("later", user_id=user)

    class Passing(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            current().capture("before", user_id=request.query_params["user"])
            return await call_next(request)

    app = Starlette(routes=[Route("/", order)], middleware=[Middleware(Passing)])
    served = AnalyticsMiddleware(app, recorder.client)
    for user in ("ada", "bob"):
        async with AsyncClient(transport=ASGITransport(served), base_url="http://shop.example") as http:
            await http.get(f"/?user={user}", headers={"Cookie": "ss_vid=of-" + user})
    tasks[0].cancel()
    found = [(event["event_name"], event["person_id"], event["anonymous_id"]) for event in recorder.events()]
    assert sorted(found) == [
        ("before", "ada", "of-ada"),
        ("before", "bob", "of-bob"),
        ("later", "ada", "of-ada"),
        ("later", "bob", "of-bob"),
        ("mailed", "ada", "of-ada"),
        ("mailed", "bob", "bob"),
    ]


async def test_a_websockets_task_that_outlives_it_captures_as_nobodys_visitor(recorder: Recorder) -> None:
    go_on = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def later() -> None:
        current().capture("mailed", user_id="ada")
        await go_on.wait()
        current().capture("mailed", user_id="bob")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(asyncio.create_task(later()))
        await asyncio.sleep(0)

    async def nothing(*_: Any) -> Any:
        return {"type": "websocket.disconnect"}

    connection = {"type": "websocket", "path": "/", "headers": [(b"cookie", COOKIE.encode())]}
    await AnalyticsMiddleware(app, recorder.client)(connection, nothing, nothing)
    go_on.set()
    await tasks[0]
    assert of_whom(recorder) == ONLY_ADA_HAS_THE_VISITORS_IDS


def test_behind_django_it_captures_as_nobodys_visitor_afterwards(worker: Worker, recorder: Recorder) -> None:
    def view(request: Any) -> HttpResponse:
        worker.start()
        return HttpResponse("ok")

    set_default_client(recorder.client)
    with site(recorder, view):
        assert browser().get("/view/").content == b"ok"
        worker.finish()
    assert of_whom(recorder) == ONLY_ADA_HAS_THE_VISITORS_IDS


async def test_behind_async_django_it_captures_as_nobodys_visitor_afterwards(recorder: Recorder) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def later() -> None:
        await sync_to_async(lambda: current().capture("mailed", user_id="ada"))()
        begun.set()
        await go_on.wait()
        await sync_to_async(lambda: current().capture("mailed", user_id="bob"))()

    async def view(request: Any) -> HttpResponse:
        tasks.append(asyncio.create_task(later()))
        await begun.wait()
        return HttpResponse("ok")

    with site(recorder, view):
        assert (await browser(DjangoAsyncClient).get("/view/")).content == b"ok"
        go_on.set()
        await tasks[0]
    assert of_whom(recorder) == ONLY_ADA_HAS_THE_VISITORS_IDS


def test_a_stream_is_bound_until_it_is_closed(recorder: Recorder) -> None:
    def view(request: Any) -> StreamingHttpResponse:
        def rows() -> Iterator[bytes]:
            current().capture("row")
            yield b"x"

        return StreamingHttpResponse(rows())

    with site(recorder, view):
        assert b"".join(browser().get("/view/")) == b"x"
    assert [event["anonymous_id"] for event in recorder.events()] == ["visitor-1"]
