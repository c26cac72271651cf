"""Event loops of asyncio and trio: tells whether this thread runs one, and keeps blocking work away from it."""

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

# Our own, so that a slow disk takes none of the threads that Starlette serves plain functions with.
_WORKERS = 8
_pool: tuple[int, ThreadPoolExecutor] | None = None


def on_event_loop() -> bool:
    """Tell whether an event loop runs on this thread, so that nothing here may block.

    Neither library is imported: a loop runs only where that has happened already.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:  # `get_running_loop` raises where there is none
        return True
    trio = sys.modules.get("trio")
    return trio is not None and _in_trio(trio)


def _in_trio(trio: object) -> bool:
    lowlevel = getattr(trio, "lowlevel", None)
    in_trio_run = getattr(lowlevel, "in_trio_run", None)
    if in_trio_run is not None:
        return bool(in_trio_run())
    if lowlevel is None:  # during its import
        return False
    try:  # trio before 0.23
        lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True


async def run_in_worker(work: Callable[[], _Result]) -> _Result:
    """Run something that blocks on a worker thread, under a copy of the current context.

    Whoever waits may be cancelled; the work goes on.

    Args:
        work: Takes no arguments.
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
    """The threads of this process; a forked child has none of its parent's."""
    global _pool  # noqa: PLW0603  # one for all clients
    pid = os.getpid()
    if _pool is None or _pool[0] != pid:
        from concurrent.futures import ThreadPoolExecutor  # few need it

        _pool = pid, ThreadPoolExecutor(_WORKERS, thread_name_prefix="sessionsight-worker")
    return _pool[1]


class LoopEvent:
    """An event that a coroutine waits for and that any thread may set. Made on the loop that waits.

    Waiting takes no thread, so that thousands of requests may do so at once.
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
        """Wake whoever waits. May be called on any thread, and after the loop has ended."""
        with suppress(RuntimeError):  # the loop is closed
            self._set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set, but not longer than this. Returns whether it was set."""
        await self._wait(seconds)
        return self._is_set()


def _resolve(future: Any) -> None:
    if not future.done():  # it is cancelled together with the loop's tasks
        future.set_result(None)


async def _wait_in_trio(event: Any, seconds: float | None) -> None:
    import trio

    with trio.move_on_after(float("inf") if seconds is None else seconds):
        await event.wait()
