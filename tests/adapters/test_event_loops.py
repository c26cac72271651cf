"""Nothing durable is waited for on an event loop, and what was captured is written all the same, in order and once.

Somebody else holds the file. It is released by the very loop that serves the request: were that loop to wait for the
file, the records would have to go to memory when `spool_timeout` is over.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from sessionsight_asgi import AnalyticsMiddleware
from tests.adapters.recording import COOKIE, DurableRecorder
from tests.support.server import PATIENCE, auntil


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[DurableRecorder]:
    recorder = DurableRecorder(tmp_path, spool_timeout=5.0)
    yield recorder
    recorder.stop()


def scope(kind: str = "http") -> dict[str, Any]:
    headers = [(b"host", b"shop.example"), (b"cookie", COOKIE.encode())]
    return {"type": kind, "method": "GET", "path": "/", "query_string": b"", "headers": headers, "scheme": "http"}


async def receive() -> Any:
    await anyio.sleep_forever()


async def ignore(message: Any) -> None:
    pass


async def websocket(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    scope["analytics"].capture("seen")
    await send({"type": "websocket.close"})


async def background_task(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
    scope["analytics"].capture("seen")


async def many(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    for _ in range(2_500):
        scope["analytics"].capture("seen")


async def settled(recorder: DurableRecorder, number: int = 1) -> None:
    await auntil(lambda: recorder.on_disk == number, "the file has it")
    assert (recorder.on_disk, recorder.bypassed) == (number, 0)


@pytest.mark.parametrize(
    ("app", "kind", "number"),
    [
        (websocket, "websocket", 1),
        (background_task, "http", 1),
        (many, "websocket", 2_500),
    ],
)
async def test_a_capture_does_not_wait(app: Any, kind: str, number: int, durable: DurableRecorder) -> None:
    with durable.locked() as release:
        await AnalyticsMiddleware(app, client=durable.client)(scope(kind), receive, ignore)
        release()
        await settled(durable, number)


async def test_a_request_that_is_cancelled_does_not_wait(durable: DurableRecorder) -> None:
    with durable.locked() as release:
        with anyio.CancelScope() as cancelling:

            async def app(scope: Any, receive: Any, send: Any) -> None:
                scope["analytics"].capture("seen")
                cancelling.cancel()
                await anyio.lowlevel.checkpoint()

            await AnalyticsMiddleware(app, client=durable.client)(scope(), receive, ignore)
        release()
        await settled(durable)


async def test_a_capture_outside_requests_does_not_wait(durable: DurableRecorder) -> None:
    with durable.locked() as release:
        durable.client.bind(user_id="user_1").capture("seen")
        release()
        await settled(durable)


async def test_a_plain_function_that_a_coroutine_calls_does_not_wait(durable: DurableRecorder) -> None:
    def called() -> None:
        durable.client.bind(user_id="user_1").capture("seen")

    with durable.locked() as release:
        called()
        release()
        await settled(durable)


@pytest.mark.parametrize("raises", [True, False])
async def test_the_end_of_a_request_is_waited_for_and_the_loop_goes_on(raises: bool, durable: DurableRecorder) -> None:
    captured = anyio.Event()
    released: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["analytics"].capture("seen")
        captured.set()
        if raises:
            raise LookupError
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def serve() -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                released.append(durable.on_disk)

        try:
            await AnalyticsMiddleware(app, client=durable.client)(scope(), receive, send)
        except LookupError:
            released.append(durable.on_disk)

    with durable.locked() as release:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            await captured.wait()
            await anyio.lowlevel.checkpoint()
            release()
    assert released == [1]
    assert durable.bypassed == 0


async def test_what_a_loop_and_what_a_thread_captures_keeps_its_order(durable: DurableRecorder) -> None:
    analytics = durable.client.bind(user_id="user_1")
    for number in range(20):
        analytics.capture(f"loop {number}")
        await anyio.to_thread.run_sync(analytics.capture, f"thread {number}")
    durable.open.set()
    names = await anyio.to_thread.run_sync(durable.names)
    assert names == [f"{where} {number}" for number in range(20) for where in ("loop", "thread")]


async def test_what_no_thread_has_written_yet_is_pending_and_a_flush_writes_it(durable: DurableRecorder) -> None:
    analytics = durable.client.bind(user_id="user_1")
    for _ in range(300):
        analytics.capture("seen")
    stats = await anyio.to_thread.run_sync(durable.client.stats)
    lane = stats.lanes["analyse"]
    assert (lane.captured, lane.pending, lane.balanced) == (300, 300, True)
    durable.open.set()
    assert await durable.client.aflush(PATIENCE)
    assert durable.arrived == ["seen"] * 300


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_uvloop_is_a_loop_as_well(
    durable: DurableRecorder, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(sys.prefix) / "uvloop")  # where `.ci/run` installs it, away from the servers
    uvloop = pytest.importorskip("uvloop", reason="needs uvloop: pip install uvloop")

    async def capture() -> None:
        durable.client.bind(user_id="user_1").capture("seen")
        release()
        await settled(durable)

    with durable.locked() as release:
        await asyncio.to_thread(uvloop.run, capture())
