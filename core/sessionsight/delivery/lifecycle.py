"""The end of the process: one deadline, shared by all clients, that nothing exceeds."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from sessionsight.delivery import threads
from sessionsight.log import logger

__all__ = [
    "Closable",
    "Working",
    "close_all",
    "ends_silently",
    "install_sigterm",
    "keep",
    "register",
    "release",
    "serves_one_request",
]


class Closable(Protocol):
    """What has to be closed before the process ends."""

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that it may take."""

    def begin_shutdown(self, deadline: float) -> None:
        """Start to deliver what is left; does not wait. The deadline is on the monotonic clock."""

    def finish_shutdown(self, deadline: float) -> bool:
        """Wait for that until the deadline, then stop. Returns whether nothing was lost."""


class Working(Closable, Protocol):
    """Something closable of one process that has taken records in."""

    @property
    def pid(self) -> int:
        """The process it belongs to."""


_open: weakref.WeakSet[Closable] = weakref.WeakSet()
_working: set[Working] = set()
_hooked: set[int] = set()
_imported_in = os.getpid()


def register(closable: Closable) -> None:
    """Close this when the process exits, together with all others, if it still exists by then."""
    _open.add(closable)
    _hook_exit()


def keep(working: Working) -> None:
    """Close this when the process exits, even if nobody else remembers it."""
    _working.add(working)
    _hook_exit()


def release(working: Working) -> None:
    """This has been closed."""
    _working.discard(working)


def close_all() -> None:
    """Close everything that is registered, by one deadline."""
    pid = os.getpid()
    closables = [*_open, *(working for working in _working.copy() if working.pid == pid)]
    _open.clear()
    _working.clear()
    if not closables:
        return
    _harmlessly(threads.do_without)
    deadline = time.monotonic() + max(closable.shutdown_timeout for closable in closables)
    for closable in closables:
        _harmlessly(closable.begin_shutdown, deadline)
    for closable in closables:
        _harmlessly(closable.finish_shutdown, deadline)


def _harmlessly(step: Callable[..., object], *arguments: float) -> None:
    try:
        step(*arguments)
    except Exception:
        logger.exception("internal error at the end of the process")


def _hook_exit() -> None:
    pid = os.getpid()
    if pid in _hooked:
        return
    if not _hooked:
        atexit.register(close_all)
    _hooked.add(pid)
    # A child of multiprocessing leaves without atexit, or forgets what was registered before the fork.
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing import util

        util.Finalize(None, close_all, exitpriority=0)
    # So does a child of Celery's, but for this signal, which no other process gets.
    signals = sys.modules.get("celery.signals")
    if signals is not None:
        signals.worker_process_shutdown.connect(_at_celerys_end, weak=False)


def _at_celerys_end(**_: object) -> None:
    close_all()


def ends_silently() -> bool:
    """Return whether this process may end by `os._exit`, which runs no exit handlers.

    True in a child of `os.fork`, and in a job of RQ, whose work horses are forked or spawned and end in this way
    (https://github.com/rq/rq/blob/master/rq/worker/base.py). False where something else runs at the end:
    `multiprocessing`'s finalizers, Celery's signal, the graceful stop of gunicorn and uWSGI.
    """
    modules = sys.modules
    if "gunicorn.arbiter" in modules or "uwsgi" in modules:
        return False
    if (process := modules.get("multiprocessing.process")) is not None and process.parent_process() is not None:
        return False
    billiard = modules.get("billiard.process")  # Celery's own multiprocessing
    if billiard is not None and billiard.current_process().name != "MainProcess":
        return False
    if os.getpid() != _imported_in:
        return True
    rq = modules.get("rq")  # the job is known on the thread alone that runs it
    return rq is not None and (rq.get_current_job() is not None or _main_thread_is_in("rq", "main_work_horse"))


def serves_one_request() -> bool:
    """Return whether this process was forked for one request, after which it ends by `os._exit`.

    So do `socketserver.ForkingMixIn` and what is built on it: werkzeug's own server with `processes=`, and `wsgiref`
    with that class.
    """
    return os.getpid() != _imported_in and _main_thread_is_in("socketserver", "process_request")


def _main_thread_is_in(package: str, function: str) -> bool:
    """Return whether the main thread is within a call of a function of this name in this package."""
    if package not in sys.modules:
        return False
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_code.co_name == function and frame.f_globals.get("__name__", "").partition(".")[0] == package:
            return True
        frame = frame.f_back
    return False


def install_sigterm() -> None:
    """Make SIGTERM exit the interpreter in the ordinary way, so that what is left gets delivered.

    For bare scripts and workers without a server: the servers' own graceful stop covers it. A
    handler that is installed already is called first.
    """
    previous = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        if callable(previous):
            previous(number, frame)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, handle)
