"""Thread support of the host: an old uWSGI lets threads sleep, gevent and eventlet put greenlets in their place."""

from __future__ import annotations

import sys
from contextvars import Context
from threading import Thread

__all__ = ["do_without", "hide_trio", "run", "start"]


def run() -> bool:
    """False under a uWSGI that lets its apps' threads sleep: one older than 2.0.27, without `enable-threads`."""
    return bool(getattr(sys.modules.get("uwsgi"), "has_threads", True))


def start(thread: Thread) -> None:
    """Start a thread, with nothing of the request in which that happens.

    Libraries such as Sentry hand a thread what is around its start. It would be the visitor's who came first, for
    as long as the process lives.

    Raises:
        RuntimeError: The interpreter starts no threads any more.
    """
    Context().run(thread.start)


def hide_trio() -> None:
    """Make `import trio` fail in the ordinary way where eventlet has patched the sockets.

    httpcore imports trio where it is installed. On eventlet's sockets that raises an AttributeError, which httpcore
    takes for a fault; nothing of trio could run there.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("socket"):
        sys.modules.setdefault("trio", None)  # type: ignore[arg-type]  # Python's own way to say "not there"


def do_without() -> None:
    """Let gevent's greenlets send without real threads and processes, as the interpreter's end may demand.

    Python 3.12.0 to 3.12.2 start none of them any more (https://github.com/python/cpython/issues/113964),
    and a name is looked up in a thread.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("socket"):
        return
    # httpcore imports trio where it is installed, which starts a process. Under gevent trio does not run anyway.
    sys.modules.setdefault("trio", None)  # type: ignore[arg-type]  # as above
    try:
        monkey.get_original("_thread", "start_new_thread")(int, ())
    except RuntimeError:
        from gevent import get_hub  # type: ignore[import-untyped]
        from gevent.resolver import blocking, thread  # type: ignore[import-untyped]

        hub = get_hub()
        if isinstance(hub.resolver, thread.Resolver):
            # Holds up all greenlets while it looks; nothing but the end waits for them now.
            hub.resolver = blocking.Resolver()
