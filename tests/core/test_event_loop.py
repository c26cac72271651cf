from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from sessionsight.event_loop import LoopEvent, on_event_loop, run_in_worker
from tests.support.server import PATIENCE


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_plain_thread_has_no_event_loop() -> None:
    assert not on_event_loop()


async def test_coroutines_and_functions_that_they_call_have_an_event_loop() -> None:
    def called() -> bool:
        return on_event_loop()

    assert on_event_loop()
    assert called()


async def test_a_worker_thread_has_no_event_loop() -> None:
    assert await anyio.to_thread.run_sync(on_event_loop) is False
    assert await run_in_worker(on_event_loop) is False


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_thread_of_the_loops_pool_has_no_event_loop() -> None:
    assert await asyncio.to_thread(on_event_loop) is False


@pytest.mark.parametrize("inside", [True, False])
def test_an_older_trio_is_detected_by_its_token(inside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lowlevel:
        def current_trio_token(self) -> object:
            if not inside:
                raise RuntimeError("must be called from async context")
            return object()

    trio: Any = ModuleType("trio")
    trio.lowlevel = Lowlevel()
    monkeypatch.setitem(sys.modules, "trio", trio)
    assert on_event_loop() is inside


@pytest.mark.parametrize("trio", [None, ModuleType("trio")])
def test_a_missing_or_partly_imported_trio_has_no_loop(trio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio", trio)
    assert not on_event_loop()


async def test_run_in_worker_does_not_block_and_passes_results_and_exceptions() -> None:
    go_on = threading.Event()
    results: list[bool] = []

    async def work() -> None:
        results.append(await run_in_worker(lambda: go_on.wait(PATIENCE)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await anyio.lowlevel.checkpoint()
        go_on.set()
    assert results == [True]
    with pytest.raises(ZeroDivisionError):
        await run_in_worker(lambda: 1 / 0)


async def test_an_event_is_set_by_another_thread() -> None:
    event = LoopEvent()
    thread = threading.Timer(0, event.set)
    thread.start()
    assert await event.wait(PATIENCE)
    thread.join()
    event.set()
    assert await event.wait(0)


async def test_waiting_for_an_event_ends_at_the_timeout() -> None:
    assert not await LoopEvent().wait(0.001)


@pytest.mark.parametrize("run", [asyncio.run, "trio"])
def test_an_event_may_be_set_after_its_loop_has_ended(run: Any) -> None:
    import trio

    async def make() -> LoopEvent:
        return LoopEvent()

    event: LoopEvent = trio.run(make) if run == "trio" else run(make())
    event.set()


async def test_an_event_may_be_set_after_its_waiter_was_cancelled() -> None:
    events: list[LoopEvent] = []

    async def wait() -> None:
        events.append(LoopEvent())
        await events[0].wait(PATIENCE)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    events[0].set()
    await anyio.lowlevel.checkpoint()


async def test_the_work_continues_if_the_caller_is_cancelled() -> None:
    go_on, done = threading.Event(), threading.Event()

    def work() -> None:
        assert go_on.wait(PATIENCE)
        done.set()

    with anyio.CancelScope() as cancelling:
        cancelling.cancel()
        await run_in_worker(work)
    go_on.set()
    assert await anyio.to_thread.run_sync(done.wait, PATIENCE)


async def test_a_worker_sees_the_context_of_its_caller() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="outside")
    variable.set("inside")
    assert await run_in_worker(variable.get) == "inside"


async def test_a_forked_child_has_its_own_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = {await run_in_worker(threading.current_thread)}
    monkeypatch.setattr(os, "getpid", lambda: -1)
    threads.add(await run_in_worker(threading.current_thread))
    assert len(threads) == 2


async def test_at_interpreter_shutdown_the_work_runs_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        def submit(self, *_: object) -> None:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr("sessionsight.event_loop._workers", Ended)
    assert await run_in_worker(threading.current_thread) is threading.current_thread()
