"""The connection to a store's file: one in each process, shared by its threads, and closed before a fork.

SQLite's locks belong to a process, and so does its library's knowledge of them. A child that uses an inherited
connection, or opens the same file again, corrupts the file or waits forever for its own parent's lock. A fork that
skips Python's hooks leaves the child with an open connection; that child and its own children never open the file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from weakref import WeakSet

from sessionsight.clock import Clock
from sessionsight.delivery.stores.errors import (
    CorruptStore,
    ForeignDatabase,
    ReentrantCall,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from sessionsight.delivery.stores.sqlite import database_files
from sessionsight.delivery.stores.sqlite.database_files import Identity
from sessionsight.delivery.stores.sqlite.owner_lock import OwnerLock
from sessionsight.delivery.stores.sqlite.schema import check_before_open, ensure_schema

__all__ = ["Cursor", "SqliteConnection", "map_error", "was_inherited"]

# Seconds for which a fork waits for another thread's transaction.
_FORK_TIMEOUT = 1.0
# The first statement of a block that only reads.
_READ = "SELECT 1 FROM sqlite_master"
# Seconds between two attempts while another process writes.
_POLL_INTERVAL = 0.001
# Commits do not checkpoint, because a request may wait for them, unless the log has reached 64 MiB.
_LAST_RESORT_PAGES = 16_384
# The size to which the log is truncated after a complete checkpoint.
_LOG_BYTES = 4 * 1024 * 1024


class Cursor(sqlite3.Cursor):
    """A cursor that also executes the statements that all SQL stores share."""

    db = SimpleNamespace(vendor="sqlite")

    def execute(self, statement: str, parameters: Any = ()) -> Self:
        """Execute a statement with `%s` or `?` for its parameters."""
        return super().execute(statement.replace("%s", "?"), parameters)


class SqliteConnection:
    """One connection under a lock that is held for one transaction at a time.

    Args:
        path: The file, which is created if it does not exist.
        synchronous: `"normal"`, or `"full"` to wait for the disk at each commit.
        clock: The time of waits.
    """

    def __init__(self, path: str, *, synchronous: str, clock: Clock = time) -> None:
        self.clock = clock
        self.pid = os.getpid()
        self.path = path
        self.synchronous = synchronous
        # Re-entrant: a signal handler or a finalizer may capture something while this thread is in here.
        self._lock = threading.RLock()
        self._inside = False
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        # A file that was found to be damaged, and its error. A part of it may still accept records, and keep them.
        self._damaged: tuple[Identity | None, str] = (None, "")
        # The file that was open last, and those that SQLite keeps beside it.
        self._known_files: set[Identity] = set()
        self.epoch = 0
        """The first row id of the file that was open last; 0 if there is none."""
        self.is_full = False
        """True if the last write has failed because of missing space."""
        self.owner_lock: OwnerLock | None = None
        """The lock of the owner that claims records in the file, which a forked child must not keep."""
        _connections.add(self)

    def write(self, timeout: float) -> AbstractContextManager[Cursor]:
        """Run the block in one transaction, with a cursor.

        Args:
            timeout: Seconds to wait for other writers.

        Raises:
            StoreError: Nothing was written.
        """
        return self.use("BEGIN IMMEDIATE", timeout)

    def read(self, timeout: float) -> AbstractContextManager[Cursor]:
        """Run the block, which only reads, with a cursor outside a transaction.

        Raises:
            StoreError: The file cannot be read.
        """
        return self.use(_READ, timeout)

    @contextlib.contextmanager
    def use(self, first: str, timeout: float) -> Iterator[Cursor]:
        """Run the block on this thread alone, after a first statement, which is tried again while the file is busy.

        The sleep is outside the lock, so that other threads of this process can write meanwhile. SQLite's own busy
        handler would sleep inside it, for up to 0.1 s at a time, and miss most gaps between other transactions.
        """
        deadline = self.clock.monotonic() + timeout
        while (connection := self._begin(first, deadline)) is None:
            self.clock.sleep(_POLL_INTERVAL)
        try:
            with connection:  # commits, or rolls back
                cursor = connection.cursor(Cursor)
                try:
                    yield cursor
                finally:
                    cursor.close()
            if first != _READ:
                self.is_full = False
        except (sqlite3.Error, OSError) as error:
            raise self._handled(map_error(error)) from error
        finally:
            self._end()

    def is_same_file(self) -> bool:
        """Return whether the file at the path is still the open one, which may have been moved or deleted."""
        return self._identity is None or database_files.identity(self.path) == self._identity

    def disconnect(self) -> None:
        """Close the connection. The next call opens the file at the path."""
        with self._lock:
            self._close_connection()

    def close(self) -> None:
        """Close the connection permanently. Each later call opens one for itself, and closes it at its end."""
        with self._lock:
            self._closed = True
            if not self._inside:
                self._close_connection()

    @property
    def is_open(self) -> bool:
        """True while there is a connection."""
        return self._connection is not None

    # --- inside ----------------------------------------------------------------------------------

    def _begin(self, first: str, deadline: float) -> sqlite3.Connection | None:
        """Lock the connection and execute the first statement; return None if the file is busy before the deadline."""
        if self.pid != os.getpid():
            raise StoreUnavailable("it was opened by the process that this one was forked from")
        if not self._lock.acquire(timeout=max(deadline - self.clock.monotonic(), 0)):
            raise StoreBusy("another thread is writing")
        if self._inside:
            self._lock.release()
            raise ReentrantCall("this thread is writing already")
        self._inside = True
        try:
            try:
                (self._connection or self._open()).execute(first)
            except (sqlite3.Error, OSError) as error:
                raise self._handled(map_error(error)) from error
        except BaseException as error:
            self._end()
            if isinstance(error, StoreBusy) and self.clock.monotonic() < deadline:
                return None
            raise
        return self._connection

    def _end(self) -> None:
        self._inside = False
        if self._closed:
            self._close_connection()
        self._lock.release()

    def _handled(self, error: StoreError) -> StoreError:
        """Close the connection after most errors, and return the error.

        An exception that a frame of its own traceback names would keep all callers alive, the request included, until
        the garbage collector runs.
        """
        if not isinstance(error, StoreBusy):
            self.is_full = isinstance(error, StoreFull)
            # Opening a file needs space, so the connection stays open on a full disk.
            if not self.is_full or self._connection is None or self._connection.in_transaction:
                self._close_connection()
        if isinstance(error, CorruptStore):
            self._damaged = self._identity, str(error)
        return error

    def _open(self) -> sqlite3.Connection:
        database_files.create(self.path, self._known_files)
        self._identity = database_files.identity(self.path)
        if not Path(self.path).is_file():
            raise ForeignDatabase("it is not a regular file")
        if self._identity == self._damaged[0]:
            raise CorruptStore(self._damaged[1])
        check_before_open(self.path)  # the next lines write
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._configure(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        suffixes = database_files.FILE_SUFFIXES
        self._known_files = {found for suffix in suffixes if (found := database_files.identity(self.path + suffix))}
        return connection

    def _configure(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA synchronous = {self.synchronous.upper()}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LAST_RESORT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        connection.execute("BEGIN IMMEDIATE")
        self.epoch = ensure_schema(connection)
        connection.execute("COMMIT")
        # After the tables of a new file, so that its header is not only in the log.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(_READ).fetchone()  # creates the log, which is then known

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


# --- errors ---------------------------------------------------------------------------------------

# Result codes: https://www.sqlite.org/rescode.html
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# Extended result codes for quotas and file size limits, and for a disk without space for the log's index.
_NO_SPACE = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_SHMSIZE})


def map_error(error: sqlite3.Error | OSError) -> StoreError:
    """Return the store error for an error of sqlite3, or of a file."""
    if isinstance(error, OSError):
        return (ForeignDatabase if isinstance(error, FileNotFoundError) else StoreUnavailable)(str(error))
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    primary = code & 0xFF
    if primary in _BUSY:
        return StoreBusy(str(error))
    if primary in _DAMAGED:
        advice = "the file is damaged, or not a spool: move it away with its -wal and -shm, and a new one is created"
        return CorruptStore(f"{error}; {advice}")
    if code in _NO_SPACE:
        name = error.sqlite_errorname
        return StoreFull(f"{error} ({name}: is the disk full, or a quota or a limit on files reached?)")
    return (StoreFull if primary == sqlite3.SQLITE_FULL else StoreUnavailable)(str(error))


# --- forks ----------------------------------------------------------------------------------------

_connections: WeakSet[SqliteConnection] = WeakSet()
# Paths of files that were open when this process or one of its ancestors was forked.
_inherited_paths: set[str] = set()


def was_inherited(path: str) -> bool:
    """Return whether the file at this path was open when this process or one of its ancestors was forked."""
    _in_child()
    return path in _inherited_paths


def _before_fork() -> None:
    """Close all connections, and prevent new ones until the fork is over."""
    _in_child()  # this process may have been forked without hooks
    # In one order, so that two threads that fork at once do not wait for each other.
    for connection in sorted(_connections, key=id):
        if connection._lock.acquire(timeout=_FORK_TIMEOUT) and not connection._inside:
            connection._close_connection()


def _in_parent() -> None:
    for connection in list(_connections):
        with contextlib.suppress(RuntimeError):  # another thread was using the connection for too long
            connection._lock.release()


def _in_child() -> None:
    """Leave the connections and locks of the process that this one was forked from."""
    for connection in list(_connections):
        if connection.pid != os.getpid():
            _connections.discard(connection)
            if connection.owner_lock is not None:
                connection.owner_lock.close()
            if connection.is_open:
                from ctypes import py_object, pythonapi

                _inherited_paths.add(connection.path)
                pythonapi.Py_IncRef(py_object(connection))  # never closed here, even when the interpreter exits


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
