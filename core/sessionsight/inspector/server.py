"""Runs an inspector: until it is interrupted, or in a thread, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import threading
from collections.abc import Callable
from typing import Literal, Self

import uvicorn

from sessionsight.errors import ConfigurationError
from sessionsight.inspector.app import create_app
from sessionsight.inspector.options import Options
from sessionsight.inspector.store import Store

__all__ = ["RunningInspector", "run_in_thread", "serve"]

_STOP_WITHIN = 5  # seconds; replies that are under way may take that long


class RunningInspector:
    """An inspector in a thread of its own. Leaving it as a context stops it.

    Example:
        >>> with run_in_thread() as inspector:  # doctest: +SKIP
        ...     configure_my_app(inspector.url)
    """

    def __init__(self, options: Options) -> None:
        with contextlib.ExitStack() as undo:
            listener = undo.enter_context(_listen(options))
            self.url = _url(options.host, listener)
            """Where it is, without a slash at the end."""
            self.store = undo.enter_context(_open(options))
            """Store of the received requests and records."""
            self._server = _Server(self.store, options)
            undo.pop_all()
        self._thread = threading.Thread(target=self._run, args=(listener,), name="sessionsight-inspector", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer what is under way, and end; harmless when it has ended already."""
        self._server.should_exit = True
        self._thread.join()
        self.store.close()

    def _run(self, listener: socket.socket) -> None:
        with listener:
            self._server.run(sockets=[listener])


def run_in_thread(options: Options | None = None) -> RunningInspector:
    """Start an inspector beside what runs already; it takes connections when this returns.

    Args:
        options: On a free port, in memory, by default.

    Raises:
        ConfigurationError: The port is taken, the file cannot be used, or a fault or the spool is written wrongly.
    """
    return RunningInspector(options or Options(port=0))


def serve(options: Options, *, started: Callable[[str, Store], contextlib.AbstractContextManager[object]]) -> None:
    """Run an inspector until the process is interrupted.

    Args:
        options: Where, and how.
        started: Given the address and the store, once it listens; what it returns is entered while the server runs.

    Raises:
        ConfigurationError: The port is taken, the file cannot be used, or a fault or the spool is written wrongly.
    """
    with _listen(options) as listener, _open(options) as store:
        server = _Server(store, options, ws="auto")
        with started(_url(options.host, listener), store), contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends the streams first: as long as one is open, uvicorn waits."""

    def __init__(self, store: Store, options: Options, *, ws: Literal["auto", "none"] = "none") -> None:
        # No websockets in tests, where the warnings of uvicorn's websocket libraries may be errors.
        self._app = create_app(store, options)
        super().__init__(
            uvicorn.Config(
                self._app,
                loop="asyncio",
                http="h11",  # always there; httptools, which may be, refuses some of what vendors' servers take
                ws=ws,
                lifespan="off",
                log_config=None,  # the process's logging is its own, and may be under test
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_STOP_WITHIN,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all streams and connections."""
        self._app.state.feed.close()
        await super().shutdown(sockets)
        # uvicorn does not close a connection that was accepted during the shutdown.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


def _listen(options: Options) -> socket.socket:
    """Where connections wait from now on, even before the server runs."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listener = socket.create_server((options.host, options.port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigurationError(
            f"the inspector cannot listen on {options.host}, port {options.port}: {error.strerror or error}; "
            "another port may be free, and 0 finds one"
        ) from error
    # Connections inherit it. asyncio sets it only if the listener's protocol is given; without it the body of a reply
    # waits 40 ms for the acknowledgement of the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _open(options: Options) -> Store:
    try:
        return Store(options.db, options.max_records)
    except sqlite3.Error as error:
        raise ConfigurationError(f"the inspector cannot keep its records in {options.db}: {error}") from error


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{port}"
