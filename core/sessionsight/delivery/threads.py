"""Threads of delivery: support by the host, start in an empty context, and a wake-up event."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from contextvars import Context

__all__ = ["WakeEvent", "available", "hide_trio", "prepare_gevent_for_exit", "start_in_empty_context"]

# Seconds; far below what the operating system can count, and waking once too often does no harm.
_LONGEST_WAIT = 3600.0


def available() -> bool:
    """Return False under a uWSGI that runs no threads of its apps: before 2.0.27, without `enable-threads`."""
    return bool(getattr(sys.modules.get("uwsgi"), "has_threads", True))


def start_in_empty_context(thread: threading.Thread) -> None:
    """Start a thread without the context variables of the request that happens to need it first.

    Libraries such as Sentry pass a thread the context in which it is started. That would be the first visitor's, as
    long as the process lives.

    Raises:
        RuntimeError: The interpreter is shutting down and starts no threads.
    """
    Context().run(thread.start)


def hide_trio() -> None:
    """Make `import trio` fail in the ordinary way where eventlet has patched the sockets.

    httpcore imports trio where it is installed. On eventlet's sockets that raises an AttributeError, which httpcore
    does not expect; trio could not run there.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("socket"):
        sys.modules.setdefault("trio", None)  # type: ignore[arg-type]  # Python's own way to say "not installed"


def prepare_gevent_for_exit() -> None:
    """Let gevent's greenlets send at exit without new threads and processes.

    Python 3.12.0 to 3.12.2 cannot start any at exit (https://github.com/python/cpython/issues/113964), and gevent
    resolves host names in a thread.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("socket"):
        return
    # httpcore imports trio where it is installed, which starts a process. trio does not run under gevent anyway.
    sys.modules.setdefault("trio", None)  # type: ignore[arg-type]  # as above
    try:
        monkey.get_original("_thread", "start_new_thread")(int, ())
    except RuntimeError:
        from gevent import get_hub  # type: ignore[import-untyped]
        from gevent.resolver import blocking, thread  # type: ignore[import-untyped]

        hub = get_hub()
        if isinstance(hub.resolver, thread.Resolver):
            # It blocks all greenlets during a lookup, but at exit only delivery runs.
            hub.resolver = blocking.Resolver()


class WakeEvent:
    """A wake-up event for worker threads that is safe to set from signal handlers and finalizers.

    These may capture something while the same thread is inside `set`. A `threading.Event` has a lock around its flag
    and would deadlock, so this is a bare lock, held while nobody is to wake up. A `SimpleQueue` would do too, but a
    child that C code forks from Python 3.13 may crash in it when a thread of the parent waited in another one.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Create the lock again, because gevent may have replaced its class. No thread may be waiting."""
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        """Wake one thread now, or at its next wait."""
        # eventlet's locks count each release, instead of refusing the second one.
        if self._unset.locked():
            with suppress(RuntimeError):  # another thread was faster
                self._unset.release()

    def wait(self, seconds: float = _LONGEST_WAIT) -> bool:
        """Block until `set` is called or the time is over. Return True if `set` was called."""
        return self._unset.acquire(timeout=min(max(seconds, 0.0), _LONGEST_WAIT))
