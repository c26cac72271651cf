"""A spool's file: opened once in a process, used by any of its threads in turn."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from sessionsight.delivery.stores.errors import (
    CorruptStore,
    ForeignDatabase,
    ReentrantCall,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
    map_sqlite_error,
)
from sessionsight.delivery.stores.sqlite import database_files, fork
from sessionsight.delivery.stores.sqlite.database_files import Identity
from sessionsight.delivery.stores.sqlite.owner_lock import LOCK_SUFFIX
from sessionsight.delivery.stores.sqlite.schema import check_before_open, is_foreign, prepare

__all__ = ["SqliteConnection"]

T = TypeVar("T")

# After a failure the file is left alone for so long; a full disk does not empty within a request.
_REST = 1.0
# Between two tries while another process writes: for a request, and for whoever gives way to requests.
_REQUEST_PAUSE = 0.0005
_PAUSE = 0.005
# Whoever gives way leaves the file to others for this long after a transaction, or for as long as that took.
_GIVE_WAY = 0.001
# How long a request waits while the file rests because another one has waited in vain.
_SHORT_WAIT = 0.05
# A connection does no checkpoint within a request; should nobody else do any, one of 64 MiB ends that.
_LAST_RESORT_PAGES = 16_384
# To what size a log is cut when it begins anew.
_LOG_BYTES = 4 * 1024 * 1024


class SqliteConnection:
    """One connection, under one lock that is held for a transaction and no longer.

    Args:
        path: Where the file is, or will be.
        synchronous: `"normal"`, or `"full"` to wait for the disk at each commit.
        on_open: Called with each new connection and the base of the file's row ids, within the transaction
            that makes it usable.
        on_quarantine: Told where a damaged file was moved to, and why. Without it, such a file stays where it is.
    """

    def __init__(
        self,
        path: str,
        *,
        synchronous: str,
        on_open: Callable[[sqlite3.Connection, int], None] | None = None,
        on_quarantine: Callable[[str, str], None] | None = None,
    ) -> None:
        self.pid = os.getpid()
        self.path = path
        self._synchronous = synchronous
        self._on_open = on_open
        self._on_quarantine = on_quarantine
        # Re-entrant: a signal handler or a finalizer may capture something while this thread is in here.
        self._lock = threading.RLock()
        self._inside = False
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._checkpoint_lock = threading.Lock()
        self._checkpoint_connection: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        # What was found to be a spool's: the file, and those beside it.
        self._ours: set[Identity] = set()
        self._rest_until = 0.0
        self._busy_until = 0.0
        self._others_until = 0.0
        self._fault: StoreError | None = None
        self._held: list[threading.Lock | threading.RLock] = []
        fork.watch(self)

    def write(self, work: Callable[[sqlite3.Connection], T], *, wait: float, urgent: bool = False) -> T:
        """Do some work in one transaction: all of it is written, or nothing.

        Args:
            work: Gets the connection. Whatever else it changes it must be able to change again: it is called
                anew where its transaction could not be ended.
            wait: How many seconds others may keep us from it.
            urgent: A request waits for it, so that it goes before what is not urgent. Once one has waited in
                vain, the next ones do not wait for long, for a while.

        Raises:
            StoreError: Nothing was written.
        """
        if urgent:
            return self._write_for_request(work, wait)
        time.sleep(min(max(self._others_until - time.monotonic(), 0), wait))
        return self._try_until(time.monotonic() + wait, _PAUSE, partial(self._written, work, gives_way=True))

    def read(self, work: Callable[[sqlite3.Connection], T], *, wait: float) -> T:
        """Do some work that only reads. Each statement sees one moment.

        It is tried even while the file rests: a full disk can be read.

        Raises:
            StoreError: It cannot be read.
        """
        return self._try_until(time.monotonic() + wait, _PAUSE, partial(self._found, work))

    @property
    def is_full(self) -> bool:
        """Whether there was no room for what was written last."""
        return isinstance(self._fault, StoreFull)

    def is_same_file(self) -> bool:
        """Whether the file at the path is still the one that is open; it may have been moved or deleted."""
        return self._identity is None or database_files.identity(self.path) == self._identity

    def reopen(self) -> None:
        """Let go of the file; whatever is at its path is opened when it is needed next."""
        with self._lock:
            self._disconnect()

    def close(self) -> None:
        """Close the connection for good. Each later operation opens one for itself, and closes it at its end."""
        with self._lock:
            self._closed = True
            if not self._inside:
                self._disconnect()

    def checkpoint(self, *, restart: bool) -> None:
        """Write the log back to the file, on a connection of its own that keeps nobody waiting.

        Args:
            restart: Have the log begin anew. Whoever wants to write meanwhile waits for it.

        Raises:
            StoreError: It cannot be done.
        """
        with self._checkpoint_lock:
            if self._connection is None or self.pid != os.getpid():
                return
            try:
                self._checkpoint_connection = sqlite3.connect(
                    self.path, timeout=0.5, isolation_level=None, check_same_thread=False
                )
                # Most of it is done without SQLite's lock on writing, which only what is left then needs.
                self._checkpoint_connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                if restart:
                    self._checkpoint_connection.execute("PRAGMA wal_checkpoint(RESTART)")
            except sqlite3.Error as error:
                raise map_sqlite_error(error) from error
            finally:
                if self._checkpoint_connection is not None:
                    self._checkpoint_connection.close()
                self._checkpoint_connection = None

    # --- forks -----------------------------------------------------------------------------------

    def hold(self, seconds: float) -> None:
        """Before a fork: close, and let no thread open it again until `let_go`."""
        self._held = [lock for lock in (self._checkpoint_lock, self._lock) if lock.acquire(timeout=seconds)]
        if self._lock in self._held and not self._inside:
            self._disconnect()

    def let_go(self) -> None:
        """After the fork, in the parent."""
        held, self._held = self._held, []
        for lock in reversed(held):
            lock.release()

    def renounce(self) -> list[object]:
        """After the fork, in the child: this object is the parent's."""
        opened: list[object] = [
            connection for connection in (self._connection, self._checkpoint_connection) if connection is not None
        ]
        self._connection = self._checkpoint_connection = None
        self._lock, self._checkpoint_lock, self._held = threading.RLock(), threading.Lock(), []
        return opened

    # --- inside ----------------------------------------------------------------------------------

    def _write_for_request(self, work: Callable[[sqlite3.Connection], T], wait: float) -> T:
        now = time.monotonic()
        rests = now < self._busy_until
        deadline = now + (min(wait, _SHORT_WAIT) if rests else wait)
        try:
            return self._try_until(deadline, _REQUEST_PAUSE, partial(self._written, work))
        except StoreBusy:
            if not rests:
                self._busy_until = time.monotonic() + _REST
            raise

    def _try_until(self, deadline: float, pause: float, attempt: Callable[[float], T]) -> T:
        """Try again while others are busy with the file.

        Between two tries we sleep ourselves, outside the lock, so that our other threads may come first. SQLite
        would sleep longer and longer within it, up to 0.1 s, and miss each gap that a busy file has.
        """
        while True:
            try:
                return attempt(deadline)
            except StoreBusy:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(pause)

    def _written(self, work: Callable[[sqlite3.Connection], T], deadline: float, *, gives_way: bool = False) -> T:
        if (fault := self._fault) is not None and time.monotonic() < self._rest_until:
            raise type(fault)(*fault.args)
        with self._entered(deadline) as connection:
            connection.execute("BEGIN IMMEDIATE")
            begun = time.monotonic()
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise
            self._fault = None
            if gives_way:
                now = time.monotonic()
                self._others_until = now + max(now - begun, _GIVE_WAY)
            return result

    def _found(self, work: Callable[[sqlite3.Connection], T], deadline: float) -> T:
        with self._entered(deadline) as connection:
            return work(connection)

    @contextlib.contextmanager
    def _entered(self, deadline: float) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone; faults are map_sqlite_error, and a bad connection is let go of."""
        if not self._lock.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise StoreBusy("another thread is writing")
        try:
            if self._inside:
                raise ReentrantCall("this thread is in the midst of writing")
            self._inside = True
            try:
                yield self._connection or self._open()
            except sqlite3.Error as error:
                fault = map_sqlite_error(error)
                if not isinstance(fault, StoreBusy):
                    self._give_up(fault)
                raise fault from error
            finally:
                self._inside = False
                if self._closed:
                    self._disconnect()
        finally:
            self._lock.release()

    def _give_up(self, fault: StoreError) -> None:
        # To open a file takes room, which others may have taken by then: what is open on a full disk stays open.
        if not isinstance(fault, StoreFull) or self._connection is None or self._connection.in_transaction:
            self._disconnect()
        if isinstance(fault, CorruptStore):
            self._set_aside(fault)
        else:
            self._rest(fault)

    def _rest(self, fault: StoreError) -> None:
        """Fail to write for a while without trying. A reader that fails meanwhile does not make that longer."""
        now = time.monotonic()
        if now >= self._rest_until:
            self._rest_until = now + _REST
        self._fault = fault

    def _open(self) -> sqlite3.Connection:
        if self.pid != os.getpid():
            raise StoreUnavailable("it belongs to the process that this one was forked from")
        try:
            connection = self._connect()
        except OSError as error:
            fault = (ForeignDatabase if isinstance(error, FileNotFoundError) else StoreUnavailable)(str(error))
            self._give_up(fault)
            raise fault from error
        except StoreError as fault:
            if not isinstance(fault, StoreBusy):
                self._give_up(fault)
            raise
        self._connection = connection
        suffixes = database_files.FILE_SUFFIXES
        self._ours = {found for suffix in suffixes if (found := database_files.identity(self.path + suffix))}
        return connection

    def _connect(self) -> sqlite3.Connection:
        database_files.create(self.path, self._ours)
        self._identity = database_files.identity(self.path)
        if not Path(self.path).is_file():
            raise ForeignDatabase("it is not a regular file")
        check_before_open(self.path)  # the next lines write, and the database may be another program's
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous.upper()}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LAST_RESORT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            base = prepare(connection)
            if self._on_open is not None:
                self._on_open(connection, base)
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self.pid == os.getpid():
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _set_aside(self, fault: StoreError) -> None:
        """Move a damaged file out of the way, unless somebody else has done so already."""
        if self._on_quarantine is None or not self.is_same_file():
            return
        was_spool = self._identity in self._ours or Path(f"{self.path}{LOCK_SUFFIX}").exists()
        if is_foreign(self.path, was_spool=was_spool):
            self._rest(
                ForeignDatabase(f"{fault}; nothing shows that it was a spool, so it is left alone: move it away")
            )
            return
        try:
            aside = database_files.set_aside(self.path)
        except OSError as error:
            self._rest(StoreUnavailable(str(error)))
            return
        self._identity = None
        self._on_quarantine(aside, str(fault))


def _roll_back(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
