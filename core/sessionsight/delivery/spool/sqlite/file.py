"""A spool's file: opened once in a process, used by any of its threads in turn."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from sessionsight.delivery.spool.sqlite import forks
from sessionsight.delivery.spool.sqlite.faults import Busy, Corrupt, Nested, SpoolFault, Unusable, translated
from sessionsight.delivery.spool.sqlite.schema import is_foreign, prepare

__all__ = ["SIDES", "SpoolFile"]

T = TypeVar("T")

SIDES = ("", "-wal", "-shm")
"""The file itself, and those that SQLite keeps beside it."""

# After a failure the file is left alone for so long; a full disk does not empty within a request.
_REST = 1.0
# A connection does no checkpoint within a request; should nobody else do any, one of 64 MiB ends that.
_LAST_RESORT_PAGES = 16_384
# To what size a log is cut when it begins anew.
_LOG_BYTES = 4 * 1024 * 1024


class SpoolFile:
    """One connection, under one lock that is held for a transaction and no longer.

    Args:
        path: Where the file is, or will be.
        synchronous: `"normal"`, or `"full"` to wait for the disk at each commit.
        on_open: Called with each new connection and the base of the file's row ids, within the transaction
            that makes it usable.
        on_corrupt: Told where a damaged file was moved to, and why. Without it, such a file stays where it is.
    """

    def __init__(
        self,
        path: str,
        *,
        synchronous: str,
        on_open: Callable[[sqlite3.Connection, int], None] | None = None,
        on_corrupt: Callable[[str, str], None] | None = None,
    ) -> None:
        self.pid = os.getpid()
        self.path = path
        self._synchronous = synchronous
        self._on_open = on_open
        self._on_corrupt = on_corrupt
        # Re-entrant: a signal handler or a finalizer may capture something while this thread is in here.
        self._lock = threading.RLock()
        self._inside = False
        self._connection: sqlite3.Connection | None = None
        self._aside_lock = threading.Lock()
        self._aside: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._rest_until = 0.0
        self._fault: SpoolFault | None = None
        self._held: list[threading.Lock | threading.RLock] = []
        forks.watch(self)

    def write(self, work: Callable[[sqlite3.Connection], T], *, wait: float) -> T:
        """Do some work in one transaction: all of it is written, or nothing.

        Args:
            work: Gets the connection. Whatever else it changes it must be able to change again: it is called
                anew where its transaction could not be ended.
            wait: How many seconds others may keep us from it.

        Raises:
            SpoolFault: Nothing was written.
        """
        deadline = time.monotonic() + wait
        pause = 0.0002
        while True:
            try:
                with self._entered(deadline) as connection:
                    connection.execute("BEGIN IMMEDIATE")
                    try:
                        result = work(connection)
                        connection.execute("COMMIT")
                    except BaseException:
                        _roll_back(connection)
                        raise
                    return result
            except Busy:
                if time.monotonic() >= deadline:
                    raise
            # Another process is writing. Our other threads may come first meanwhile.
            time.sleep(pause)
            pause = min(pause * 2, 0.002)

    def read(self, work: Callable[[sqlite3.Connection], T], *, wait: float) -> T:
        """Do some work that only reads. Each statement sees one moment.

        Raises:
            SpoolFault: It cannot be read.
        """
        with self._entered(time.monotonic() + wait) as connection:
            return work(connection)

    def is_ours(self) -> bool:
        """Whether the file at the path is still the one that is open; it may have been moved or deleted."""
        if self._identity is None:
            return True
        try:
            found = Path(self.path).stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def reopen(self) -> None:
        """Let go of the file; whatever is at its path is opened when it is needed next."""
        with self._lock:
            self._disconnect()

    def checkpoint(self, *, restart: bool) -> None:
        """Write the log back to the file, on a connection of its own that keeps nobody waiting.

        Args:
            restart: Have the log begin anew. Whoever wants to write meanwhile waits for it.

        Raises:
            SpoolFault: It cannot be done.
        """
        with self._aside_lock:
            if self._connection is None or self.pid != os.getpid():
                return
            try:
                self._aside = sqlite3.connect(self.path, timeout=0.5, isolation_level=None, check_same_thread=False)
                self._aside.execute(f"PRAGMA wal_checkpoint({'RESTART' if restart else 'PASSIVE'})")
            except sqlite3.Error as error:
                raise translated(error) from error
            finally:
                if self._aside is not None:
                    self._aside.close()
                self._aside = None

    # --- forks -----------------------------------------------------------------------------------

    def hold(self, seconds: float) -> None:
        """Before a fork: close, and let no thread open it again until `let_go`."""
        self._held = [lock for lock in (self._aside_lock, self._lock) if lock.acquire(timeout=seconds)]
        if self._lock in self._held and not self._inside:
            self._disconnect()

    def let_go(self) -> None:
        """After the fork, in the parent."""
        held, self._held = self._held, []
        for lock in reversed(held):
            lock.release()

    def renounce(self) -> list[object]:
        """After the fork, in the child: this object is the parent's."""
        opened: list[object] = [connection for connection in (self._connection, self._aside) if connection is not None]
        self._connection = self._aside = None
        self._lock, self._aside_lock, self._held = threading.RLock(), threading.Lock(), []
        return opened

    # --- inside ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _entered(self, deadline: float) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone; faults are translated, and a bad connection is let go of."""
        if not self._lock.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise Busy("another thread is writing")
        try:
            if self._inside:
                raise Nested("this thread is in the midst of writing")
            self._inside = True
            try:
                yield self._connection or self._open(deadline)
            except sqlite3.Error as error:
                fault = translated(error)
                if not isinstance(fault, Busy):
                    self._give_up(fault)
                raise fault from error
            finally:
                self._inside = False
        finally:
            self._lock.release()

    def _give_up(self, fault: SpoolFault) -> None:
        self._disconnect()
        if isinstance(fault, Corrupt):
            self._set_aside(fault)
        else:
            self._rest(fault)

    def _rest(self, fault: SpoolFault) -> None:
        """Fail for a while without trying."""
        self._fault, self._rest_until = fault, time.monotonic() + _REST

    def _open(self, deadline: float) -> sqlite3.Connection:
        if self.pid != os.getpid():
            raise Unusable("it belongs to the process that this one was forked from")
        if self._fault is not None and time.monotonic() < self._rest_until:
            raise self._fault
        self._fault = None
        try:
            _make_private(self.path)
            found = Path(self.path).stat()
            self._identity = (found.st_dev, found.st_ino)
            connection = sqlite3.connect(
                self.path,
                timeout=max(deadline - time.monotonic(), 0.01),
                isolation_level=None,
                check_same_thread=False,
            )
        except (OSError, sqlite3.Error) as error:
            fault = Unusable(str(error)) if isinstance(error, OSError) else translated(error)
            self._give_up(fault)
            raise fault from error
        try:
            self._set_up(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, SpoolFault) and not isinstance(error, Busy):
                self._give_up(error)
            raise
        self._connection = connection
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
        # From here on `write` waits, outside the lock, so that other threads may come first.
        connection.execute("PRAGMA busy_timeout = 0")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self.pid == os.getpid():
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _set_aside(self, fault: SpoolFault) -> None:
        """Move a damaged file out of the way, unless somebody else has done so already."""
        if self._on_corrupt is None or not self.is_ours():
            return
        if is_foreign(self.path):
            self._rest(Unusable(f"{fault}; it is a damaged database of something else"))
            return
        aside = f"{self.path}.corrupt-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        try:
            for side in SIDES:
                with contextlib.suppress(FileNotFoundError):
                    Path(self.path + side).rename(aside + side)
        except OSError as error:
            self._rest(Unusable(str(error)))
            return
        self._identity = None
        self._on_corrupt(aside, str(fault))


def _make_private(path: str) -> None:
    """Create the file for its owner alone, if it is not there. SQLite gives its side files the same mode."""
    if Path(path).exists():
        return
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not Path(path).exists():
            # The log of a database that was deleted, and that others may have open still, is no log of this one.
            for side in SIDES[1:]:
                with contextlib.suppress(FileNotFoundError):
                    Path(path + side).unlink()
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)  # also for a child that was forked meanwhile
        os.close(folder)


def _roll_back(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
