"""Detects event loops of asyncio and trio, and runs blocking work outside of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["LoopEvent", "on_event_loop", "run_in_worker"]

_Result = TypeVar("_Result")

# A separate pool, so that a slow disk does not occupy the threads on which Starlette runs plain functions.
_WORKERS = 8
_pool: tuple[int, ThreadPoolExecutor] | None = None


def on_event_loop() -> bool:
    """Return whether an event loop runs on this thread, so that nothing may block.

    The libraries are not imported, because a running loop has imported its library.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:  # `get_running_loop` raises without a loop
        return True
    trio = sys.modules.get("trio")
    return trio is not None and _in_trio(trio)


def _in_trio(trio: object) -> bool:
    lowlevel = getattr(trio, "lowlevel", None)
    in_trio_run = getattr(lowlevel, "in_trio_run", None)
    if in_trio_run is not None:
        return bool(in_trio_run())
    if lowlevel is None:  # trio is being imported
        return False
    try:  # trio before 0.23
        lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True


async def run_in_worker(work: Callable[[], _Result]) -> _Result:
    """Run a blocking function on a worker thread, in a copy of the current context.

    The caller may be cancelled; the function continues.

    Args:
        work: A function without arguments.
    """
    event = LoopEvent()
    try:
        future = _workers().submit(copy_context().run, work)
    except RuntimeError:  # the interpreter is shutting down
        return work()
    future.add_done_callback(lambda _: event.set())
    await event.wait()
    return future.result()


def _workers() -> ThreadPoolExecutor:
    """Return the thread pool of this process. A forked child cannot use its parent's threads."""
    global _pool  # noqa: PLW0603  # shared by all clients
    pid = os.getpid()
    if _pool is None or _pool[0] != pid:
        from concurrent.futures import ThreadPoolExecutor  # rarely needed

        _pool = pid, ThreadPoolExecutor(_WORKERS, thread_name_prefix="sessionsight-worker")
    return _pool[1]


class LoopEvent:
    """An event that a coroutine waits for and that any thread may set. Created on the loop that waits.

    Waiting does not occupy a thread, so that thousands of requests can wait at once.
    """

    def __init__(self) -> None:
        asyncio = sys.modules.get("asyncio")
        loop = None if asyncio is None else asyncio._get_running_loop()
        self._wait: Callable[[float | None], Any]
        self._is_set: Callable[[], bool]
        self._set: Callable[[], object]
        if loop is not None:
            future = loop.create_future()
            self._wait = lambda seconds: asyncio.wait([future], timeout=seconds)  # type: ignore[union-attr]
            self._is_set = future.done
            self._set = lambda: loop.call_soon_threadsafe(_resolve, future)
        else:
            import trio

            event, token = trio.Event(), trio.lowlevel.current_trio_token()
            self._wait = lambda seconds: _wait_in_trio(event, seconds)
            self._is_set = event.is_set
            self._set = lambda: token.run_sync_soon(event.set)

    def set(self) -> None:
        """Wake the waiting coroutine. May be called on any thread, and after the loop has ended."""
        with suppress(RuntimeError):  # the loop is closed
            self._set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until the event is set or the timeout has elapsed. Return whether it was set."""
        await self._wait(seconds)
        return self._is_set()


def _resolve(future: Any) -> None:
    if not future.done():  # the loop has cancelled it with its tasks
        future.set_result(None)


async def _wait_in_trio(event: Any, seconds: float | None) -> None:
    import trio

    with trio.move_on_after(float("inf") if seconds is None else seconds):
        await event.wait()
