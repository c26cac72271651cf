"""The database connection that only the store uses."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar
from weakref import WeakSet, finalize

from sessionsight.delivery import threads
from sessionsight.event_loop import on_event_loop
from sessionsight.stores import AnswerLost, ReentrantCall, StoreBusy, StoreUnavailable

__all__ = [
    "ANSWER_TIMEOUT",
    "CONNECT_TIMEOUT",
    "KEEPALIVES",
    "READ_TIMEOUT",
    "Connection",
    "MappedErrors",
    "OwnConnection",
]

T = TypeVar("T")

CONNECT_TIMEOUT = 5
"""Seconds."""
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
"""Options of libpq, by which a server whose host has vanished is noticed."""
READ_TIMEOUT = 60
"""Seconds for which a driver of MySQL waits for an answer, also of a server whose host has vanished."""
ANSWER_TIMEOUT = 30.0
"""Seconds for which a call waits for the database, unless it names another time."""
# Seconds for which an error is waited for that comes at the timeout.
_GRACE = 0.05
_CLOSE_TIMEOUT = 0.25
# The server's default may be SERIALIZABLE, under which relays would make transactions of the app fail.
_BEGIN = {"postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED", "mysql": "BEGIN", "sqlite": "BEGIN IMMEDIATE"}


class Connection(Protocol):
    """A connection without transactions of its own making."""

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
    """A connection with transactions of its own, which a thread runs for all threads of a process.

    So nobody waits without a limit for a server that hangs, whatever the driver does. The connection is opened when it
    is first used, and again after an error. The thread ends when it is closed.

    Args:
        connect: Opens it. In MySQL and MariaDB its transactions are READ COMMITTED.
        errors: Raises errors of the database as errors of a store.
    """

    def __init__(self, connect: Callable[[], Connection], errors: MappedErrors) -> None:
        self._connect = connect
        self._errors = errors
        # Re-entrant: a signal handler or a finalizer may use the connection while this thread starts a job.
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._worker: _Worker | None = None

    @property
    def is_open(self) -> bool:
        """True after the first use by this process, until it is closed or lost."""
        worker = self._worker
        return worker is not None and worker.connection is not None and worker.pid == os.getpid()

    def run(
        self, step: Callable[[Any], T], timeout: float, *, patience: float | None = None, durable: bool = True
    ) -> T:
        """Run a step in a transaction, and return its result.

        Args:
            step: Called with a cursor, on another thread where the host has threads.
            timeout: Seconds for which other threads may use the connection, and other processes a SQLite file.
            patience: Seconds for which to wait in all, whatever the server does; `ANSWER_TIMEOUT` if None.
            durable: False if a crash of the server may undo the transaction, as long as none that follows remains:
                PostgreSQL then does not wait for its disk.

        Raises:
            StoreError: The transaction has changed nothing, or, as `AnswerLost`, may have.
        """
        if on_event_loop():
            raise StoreUnavailable("the database cannot be used on an event loop")

        def run_step() -> T:
            with worker.transaction(timeout, durable=durable) as cursor:
                return step(cursor)

        job: Future[T] = Future()
        patience = ANSWER_TIMEOUT if patience is None else patience
        self._leave_lock_to_parent()
        with self._lock:
            worker = self._own_worker()
            if worker.is_current:
                raise ReentrantCall("this thread is using the connection")
            worker.start(job, run_step)
        try:
            if not wait([job], min(timeout, patience) + _GRACE).done and job.cancel():
                worker.forget(job)
                raise StoreBusy("other threads are using the connection")
            if not wait([job], max(patience - timeout, 0.0)).done:
                raise AnswerLost(
                    f"the database has not answered within {patience:g} s: look whether its server hangs, or whether "
                    "another session holds locks on the tables of the outbox"
                )
            return job.result()
        finally:
            del job  # which the traceback of its error would keep, and the caller's objects with it

    def close(self) -> None:
        """Close the connection; if it is in use, as soon as that has ended."""
        self._leave_lock_to_parent()
        with self._lock:
            worker, self._worker = self._worker, None
            # One that was inherited by a fork belongs to the parent.
            if worker is None or worker.pid != os.getpid():
                return
            job: Future[None] = Future()
            worker.start(job, worker.end)
        if not worker.is_current:
            with contextlib.suppress(TimeoutError):
                job.result(_CLOSE_TIMEOUT)

    def _leave_lock_to_parent(self) -> None:
        """In a forked child, replace the lock, which another thread may have held at the fork."""
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), threading.RLock()

    def _own_worker(self) -> _Worker:
        """Return the worker of this process."""
        if self._worker is None or self._worker.pid != os.getpid():
            self._worker = _Worker(self._connect, self._errors)
            finalize(self, _drop, self._worker).atexit = False  # of a store that nobody has closed
        return self._worker


class _Worker:
    """The thread that uses a connection, which it opens; where no thread can be started, the calling one."""

    def __init__(self, connect: Callable[[], Connection], errors: MappedErrors) -> None:
        self.pid = os.getpid()
        self.connection: Connection | None = None
        self._connect = connect
        self._errors = errors
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._wake = threads.WakeEvent()
        self._started = self._ended = False
        self._running: int | None = None
        _all.add(self)

    @property
    def is_current(self) -> bool:
        """True while a job runs on the calling thread: a signal handler or a finalizer has interrupted it."""
        return self._running == threading.get_ident()

    def start(self, job: Future[Any], work: Callable[[], Any]) -> None:
        """Run something after what was started before."""
        self._jobs.append((job, work))
        if not self._started:
            try:
                if not threads.available():
                    raise RuntimeError
                thread = threading.Thread(target=self._run, name="sessionsight-store", daemon=True)
                self._started = True  # before, because a signal handler may get here meanwhile
                threads.start_in_empty_context(thread)
            except RuntimeError:  # no threads, or none any more because the interpreter is shutting down
                self._started = False
                if not self.is_current:
                    self._run_jobs()
        self._wake.set()

    def forget(self, job: Future[Any]) -> None:
        """Remove a job that was cancelled: while a server hangs, there may be many."""
        with contextlib.suppress(StopIteration, ValueError, RuntimeError):  # the thread has removed it, or another one
            self._jobs.remove(next(one for one in list(self._jobs) if one[0] is job))

    def end(self) -> None:
        """Close the connection, and let the thread end."""
        self._ended = True
        self._close()

    @contextlib.contextmanager
    def transaction(self, timeout: float, *, durable: bool) -> Iterator[Any]:
        """Run the block in a transaction, with a cursor. Called by a job."""
        try:
            with self._errors():
                if self.connection is None:
                    self.connection = self._connect()
                vendor = self.connection.vendor
                with self.connection.cursor() as cursor:
                    if vendor == "sqlite":
                        cursor.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
                    cursor.execute(_BEGIN[vendor])
                    if vendor == "postgresql" and not durable:
                        cursor.execute("SET LOCAL synchronous_commit = off")
                    yield cursor
                    with self._errors(committing=True):
                        cursor.execute("COMMIT")
        except BaseException as error:
            if isinstance(error, StoreBusy) and self.connection is not None and _rolled_back(self.connection):
                raise
            self._close()  # which rolls back
            raise

    def _run(self) -> None:
        while not self._ended:
            self._run_jobs()
            if not self._ended:
                self._wake.wait()

    def _run_jobs(self) -> None:
        while self._jobs:
            job, work = self._jobs.popleft()
            if job.set_running_or_notify_cancel():
                self._running = threading.get_ident()
                try:
                    job.set_result(work())
                except BaseException as error:  # raised where the job is waited for
                    job.set_exception(error)
                self._running = None
            del job, work  # which a traceback would keep

    def _close(self) -> None:
        if self.connection is not None:
            with contextlib.suppress(Exception):
                self.connection.close()
            self.connection = None


def _drop(worker: _Worker) -> None:
    """Close a worker's connection without waiting, unless it belongs to the process that this one was forked from."""
    if worker.pid == os.getpid():
        worker.start(Future(), worker.end)


def _rolled_back(connection: Connection) -> bool:
    """Return whether a connection can be used again after an error."""
    with contextlib.suppress(Exception), connection.cursor() as cursor:
        cursor.execute("ROLLBACK")
        return True
    return False


_all: WeakSet[_Worker] = WeakSet()


def _leave_to_parent() -> None:
    """Never free inherited connections in a child: mysqlclient's ends the session of the parent when it is freed."""
    from ctypes import py_object, pythonapi

    for worker in list(_all):
        if worker.connection is not None:
            pythonapi.Py_IncRef(py_object(worker.connection))
    _all.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
