"""The database connection that only the store uses."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import Any, Protocol
from weakref import WeakSet

from sessionsight.delivery import threads
from sessionsight.event_loop import on_event_loop
from sessionsight.stores import AnswerLost, ReentrantCall, StoreBusy, StoreUnavailable

__all__ = ["CONNECT_TIMEOUT", "Connection", "MappedErrors", "OwnConnection"]

CONNECT_TIMEOUT = 5
"""Seconds."""
# Seconds for which an error is waited for that comes at the timeout.
_GRACE = 0.05
# The server's default may be SERIALIZABLE, under which relays would make transactions of the app fail.
_BEGIN = {"postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED", "mysql": "BEGIN", "sqlite": "BEGIN IMMEDIATE"}


class Connection(Protocol):
    """A connection without transactions of its own making, which any thread may use."""

    @property
    def vendor(self) -> str:
        """`postgresql`, `mysql` or `sqlite`."""

    def cursor(self) -> AbstractContextManager[Any]:
        """Return a cursor, whose attribute `db` is this connection."""

    def close(self) -> None:
        """Close it, which rolls back."""


class MappedErrors(Protocol):
    """Raises errors of the database in a block as errors of a store."""

    def __call__(self, *, committing: bool = False) -> AbstractContextManager[None]:
        """Return the context of the block, which may have had its effect although the connection was lost."""


class OwnConnection:
    """A connection with transactions of its own, which the threads of a process use in turn.

    It is opened when it is first used, and again after an error.

    Args:
        connect: Opens it. In MySQL and MariaDB its transactions are READ COMMITTED.
        errors: Raises errors of the database as errors of a store.
    """

    def __init__(self, connect: Callable[[], Connection], errors: MappedErrors) -> None:
        self._connect = connect
        self._errors = errors
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._pid = os.getpid()
        self._connection: Connection | None = None
        self._closing = False
        _all.add(self)

    @property
    def is_open(self) -> bool:
        """True after the first use by this process."""
        return self._connection is not None and self._pid == os.getpid()

    @contextlib.contextmanager
    def transaction(self, timeout: float) -> Iterator[Any]:
        """Run the block in a transaction, with a cursor.

        Args:
            timeout: Seconds for which other threads may use the connection, and other processes a SQLite file.

        Raises:
            StoreError: The transaction has changed nothing, or, as `AnswerLost`, may have.
        """
        if self._thread == threading.get_ident():
            raise ReentrantCall("this thread is using the connection")
        if not self._lock.acquire(timeout=timeout):
            raise StoreBusy("other threads are using the connection")
        try:
            self._thread = threading.get_ident()
            with self._transaction(timeout) as cursor:
                yield cursor
        finally:
            if self._closing:
                self._close()
            self._thread = None
            self._lock.release()

    def run(self, step: Callable[[Any], object], timeout: float) -> None:
        """Run a step in a transaction, and wait for it no longer than the timeout, whatever the server does.

        Args:
            step: Called with a cursor, on another thread where the host has threads.
            timeout: Seconds.

        Raises:
            StoreError: As `transaction`; `AnswerLost` if the server has not answered in time.
        """

        def run_step() -> None:
            try:
                with self.transaction(timeout) as cursor:
                    step(cursor)
            except BaseException as error:
                ended.put(error)
            else:
                ended.put(None)

        if on_event_loop():
            raise StoreUnavailable("the database cannot be used on an event loop")
        ended: SimpleQueue[BaseException | None] = SimpleQueue()
        try:
            if not threads.available():
                raise RuntimeError
            threads.start_in_empty_context(threading.Thread(target=run_step, name="sessionsight-store", daemon=True))
        except RuntimeError:  # no threads, or none any more because the interpreter is shutting down
            run_step()
        try:
            error = ended.get(timeout=timeout + _GRACE)
        except Empty:
            raise AnswerLost(f"the database has not answered within {timeout:g} s") from None
        if error is not None:
            raise error

    def close(self) -> None:
        """Close the connection; if a thread is using it, as soon as it has finished."""
        self._closing = True
        if self._thread != threading.get_ident() and self._lock.acquire(blocking=False):
            self._close()
            self._lock.release()

    def _close(self) -> None:
        """Close the connection. One that was inherited by a fork belongs to the parent."""
        connection = self._connection
        if connection is not None and self.is_open:
            with contextlib.suppress(Exception):
                connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _transaction(self, timeout: float) -> Iterator[Any]:
        try:
            with self._errors():
                if self._connection is None:
                    self._connection, self._closing = self._connect(), False
                vendor = self._connection.vendor
                with self._connection.cursor() as cursor:
                    if vendor == "sqlite":
                        cursor.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
                    cursor.execute(_BEGIN[vendor])
                    yield cursor
                    with self._errors(committing=True):
                        cursor.execute("COMMIT")
        except BaseException as error:
            if isinstance(error, StoreBusy) and self._connection is not None and _rolled_back(self._connection):
                raise
            self._close()  # which rolls back
            raise


def _rolled_back(connection: Connection) -> bool:
    """Return whether a connection can be used again after an error."""
    with contextlib.suppress(Exception), connection.cursor() as cursor:
        cursor.execute("ROLLBACK")
        return True
    return False


_all: WeakSet[OwnConnection] = WeakSet()


def _leave_to_parent() -> None:
    """Never free inherited connections in a child: mysqlclient's ends the session of the parent when it is freed."""
    from ctypes import py_object, pythonapi

    for own in list(_all):
        if own._connection is not None:
            pythonapi.Py_IncRef(py_object(own._connection))
    _all.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
