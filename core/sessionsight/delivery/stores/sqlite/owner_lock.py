"""The locks of owners of claims: each locks one byte of its own in a file beside the database.

The lock ends with the process, however it ends. It depends on no clock, so a clock that jumps or a process that is
stopped does not lose any claim.

All processes use the same file, whichever user they run as. It has the owner, group and mode of the database, as the
files that SQLite keeps beside it do. So every user of the database can check which owners are alive.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
from pathlib import Path
from secrets import randbits

from sessionsight.delivery.stores.errors import StoreUnavailable

__all__ = ["LOCK_SUFFIX", "UNCLAIMED", "OwnerLock"]

UNCLAIMED = 0
LOCK_SUFFIX = "-lock"


class _LockFile:
    """The file in which owners lock a byte.

    A process opens it once, because closing it anywhere drops all of the process's locks.

    Raises:
        OSError: It cannot be opened, or is not a lock file.
    """

    def __init__(self, database: str) -> None:
        self.path = f"{database}{LOCK_SUFFIX}"
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        created = True
        try:
            self._descriptor = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            created = False
            self._descriptor = os.open(self.path, flags)
        try:
            self._opened = found = os.fstat(self._descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size:
                raise OSError(f"{self.path} is not the lock of a spool; move it away, or choose another path")
            _copy_permissions(self._descriptor, Path(database).stat(), created=created)
        except BaseException:
            os.close(self._descriptor)
            raise

    def is_current(self) -> bool:
        """Return whether this file is still open, and still the one at its path."""
        try:
            return self._is_open() and os.path.samestat(self._opened, Path(self.path).stat())
        except OSError:
            return False

    def lock(self, owner: int, kind: int = fcntl.LOCK_EX) -> bool:
        """Lock an owner's byte, and return whether that succeeded."""
        try:
            fcntl.lockf(self._descriptor, kind | fcntl.LOCK_NB, 1, owner)
        except OSError:
            return False
        return True

    def unlock(self, owner: int) -> None:
        """Unlock an owner's byte."""
        with contextlib.suppress(OSError):
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, owner)

    def close_if_unused(self) -> None:
        """Close the file, unless an owner of this process holds a lock in it."""
        if self not in _held.values():
            with contextlib.suppress(OSError):
                if self._is_open():
                    os.close(self._descriptor)

    def _is_open(self) -> bool:
        """Return whether the descriptor still refers to the file: a daemon may have closed and reused it."""
        return os.path.samestat(self._opened, os.fstat(self._descriptor))


# Process id and owner, to the file in which it holds its lock. A process cannot test its own locks, and would consider
# its own owners dead. By process id, so that a child uses neither a lock that another thread held at the fork nor the
# parent's descriptor.
_held: dict[tuple[int, int], _LockFile] = {}
_mutexes: dict[int, threading.RLock] = {}


def _mutex() -> threading.RLock:
    return _mutexes.setdefault(os.getpid(), threading.RLock())


class OwnerLock:
    """A new owner of claims in a database.

    Args:
        database: The path of the database, which exists.

    Raises:
        StoreUnavailable: No lock file can be created beside it.
    """

    def __init__(self, database: str) -> None:
        self._database = database
        self.id = randbits(48) + 1
        with _mutex():
            self._acquire()

    def is_alive(self, owner: int) -> bool:
        """Return whether an owner holds its lock; True if that cannot be tested."""
        with _mutex():
            file = _held.get((os.getpid(), self.id))
            # Once this lock is released, the descriptor may be another file's.
            if file is None or (os.getpid(), owner) in _held:
                return True
            # A shared lock, so that two processes that test at the same time do not see each other as the owner.
            if not file.lock(owner, fcntl.LOCK_SH):
                return True
            file.unlock(owner)
            return False

    def renew(self) -> None:
        """Lock the file that is at the path now, if it was deleted or replaced. Until then no owner can be tested.

        Raises:
            StoreUnavailable: That has failed.
        """
        with _mutex():
            file = _held.get((os.getpid(), self.id))
            if file is not None and not file.is_current():
                self._acquire()
                file.close_if_unused()

    def release(self) -> None:
        """Release the lock. Other processes may recover the remaining claims of this owner."""
        with _mutex():
            file = _held.pop((os.getpid(), self.id), None)
            if file is not None:
                file.unlock(self.id)
                file.close_if_unused()

    def _acquire(self) -> None:
        pid, path = os.getpid(), f"{self._database}{LOCK_SUFFIX}"
        opened = (file for (holder, _), file in _held.items() if holder == pid and file.path == path)
        try:
            file = next((file for file in opened if file.is_current()), None) or _LockFile(self._database)
        except OSError as error:
            raise StoreUnavailable(str(error)) from error
        if file.lock(self.id) and file.is_current():
            _held[pid, self.id] = file
        else:
            file.close_if_unused()
            raise StoreUnavailable(f"{path} cannot be locked; that is tried again")


def _copy_permissions(descriptor: int, database: os.stat_result, *, created: bool) -> None:
    """Give the lock file the mode and the group of the database, and its owner if this process runs as root.

    Root changes only a file that it has just created: the folder's owner may have put another one there.
    """
    if created or os.geteuid():
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, stat.S_IMODE(database.st_mode))
        with contextlib.suppress(OSError):
            os.fchown(descriptor, database.st_uid if os.geteuid() == 0 else -1, database.st_gid)
