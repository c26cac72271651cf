"""`sessionsight.current()` in the threads that a request starts."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from starlette.concurrency import run_in_threadpool

from sessionsight import Analytics, current
from sessionsight_asgi import AnalyticsMiddleware
from tests.adapters.recording import Recorder


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
