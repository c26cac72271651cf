"""Exit hooks: deliver what is left when the process ends, by one deadline for all clients."""

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
    "ProcessOwned",
    "close_all",
    "install_sigterm",
    "may_skip_exit_handlers",
    "register",
    "register_engine",
    "serves_one_request",
    "unregister_engine",
]

# Seconds until a signal that has interrupted delivery is sent again.
_SIGNAL_AGAIN = 0.01


class Closable(Protocol):
    """An object that has to be closed before the process ends."""

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that closing may take."""

    def begin_shutdown(self, deadline: float) -> None:
        """Start to deliver what is left, without waiting. The deadline is on the monotonic clock."""

    def finish_shutdown(self, deadline: float) -> bool:
        """Wait for that until the deadline, then stop. Return True if nothing was lost."""


class ProcessOwned(Closable, Protocol):
    """A closable object that belongs to one process and has accepted records."""

    @property
    def pid(self) -> int:
        """The process it belongs to."""


_open: weakref.WeakSet[Closable] = weakref.WeakSet()
_engines: set[ProcessOwned] = set()
_hooked_pids: set[int] = set()
_imported_in = os.getpid()


def register(closable: Closable) -> None:
    """Close this when the process exits, unless it has been garbage-collected before."""
    _open.add(closable)
    _hook_exit()


def register_engine(engine: ProcessOwned) -> None:
    """Close this when the process exits, and keep it alive until then."""
    _engines.add(engine)
    _hook_exit()


def unregister_engine(engine: ProcessOwned) -> None:
    """Forget an engine that has been closed."""
    _engines.discard(engine)


def close_all() -> None:
    """Close all registered objects, by one deadline."""
    pid = os.getpid()
    closables = [*_open, *(engine for engine in _engines.copy() if engine.pid == pid)]
    _open.clear()
    _engines.clear()
    if not closables:
        return
    _log_exceptions(threads.prepare_gevent_for_exit)
    deadline = time.monotonic() + max(closable.shutdown_timeout for closable in closables)
    for closable in closables:
        _log_exceptions(closable.begin_shutdown, deadline)
    for closable in closables:
        _log_exceptions(closable.finish_shutdown, deadline)


def _log_exceptions(step: Callable[..., object], *arguments: float) -> None:
    try:
        step(*arguments)
    except Exception:
        logger.exception("internal error at the end of the process")


def _hook_exit() -> None:
    pid = os.getpid()
    if pid in _hooked_pids:
        return
    if not _hooked_pids:
        atexit.register(close_all)
    _hooked_pids.add(pid)
    # A child of multiprocessing skips atexit, or drops what was registered before the fork.
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing import util

        util.Finalize(None, close_all, exitpriority=0)
    # So does a child of Celery, which sends this signal instead.
    signals = sys.modules.get("celery.signals")
    if signals is not None:
        signals.worker_process_shutdown.connect(_on_celery_shutdown, weak=False)


def _on_celery_shutdown(**_: object) -> None:
    close_all()


def may_skip_exit_handlers() -> bool:
    """Return True if this process may end by `os._exit`, which runs no exit handlers.

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
    rq = modules.get("rq")  # only the thread that runs the job knows it
    return rq is not None and (rq.get_current_job() is not None or _main_thread_is_in("rq", "main_work_horse"))


def serves_one_request() -> bool:
    """Return True if this process was forked for one request, after which it ends by `os._exit`.

    `socketserver.ForkingMixIn` does that, and so do servers built on it: werkzeug's with `processes=`, and `wsgiref`
    with that class.
    """
    return os.getpid() != _imported_in and _main_thread_is_in("socketserver", "process_request")


def _main_thread_is_in(package: str, function: str) -> bool:
    """Return True if the main thread is within a call of a function of this name in this package."""
    if package not in sys.modules:
        return False
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_code.co_name == function and frame.f_globals.get("__name__", "").partition(".")[0] == package:
            return True
        frame = frame.f_back
    return False


def install_sigterm() -> None:
    """Make SIGTERM exit the interpreter normally, so that remaining records are delivered.

    For scripts and workers without a server; a server's graceful stop delivers by itself. A handler that is already
    installed is called first.
    """
    previous = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        if _is_delivering(frame):
            again = threading.Timer(_SIGNAL_AGAIN, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        if callable(previous):
            previous(number, frame)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, handle)


def _is_delivering(frame: FrameType | None) -> bool:
    """Return True if a signal has interrupted a thread of delivery, which must account for its records first.

    Signals are handled on the main thread, which runs all threads where gevent or eventlet has replaced them.
    """
    while frame is not None:
        if frame.f_code.co_name == "_run" and frame.f_globals.get("__name__", "").startswith(f"{__package__}."):
            return True
        frame = frame.f_back
    return False
