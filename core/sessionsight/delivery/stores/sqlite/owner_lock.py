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

__all__ = ["UNCLAIMED", "OwnerLock"]

UNCLAIMED = 0


class _LockFile:
    """The file in which owners lock a byte.

    A process opens it once, because closing it anywhere drops all of the process's locks.
    """

    def __init__(self, database: str) -> None:
        self.path = f"{database}-lock"
        flags, created = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, True
        try:
            self._descriptor = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            created, self._descriptor = False, os.open(self.path, flags)
        found, wanted = os.fstat(self._descriptor), Path(database).stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size:
            os.close(self._descriptor)
            raise OSError(f"{self.path} is not the lock of a spool; move it away, or choose another path")
        if created or os.geteuid():  # root changes no file that the folder's owner may have put there
            with contextlib.suppress(OSError):
                os.fchmod(self._descriptor, stat.S_IMODE(wanted.st_mode))
                os.fchown(self._descriptor, -1 if os.geteuid() else wanted.st_uid, wanted.st_gid)

    def is_current(self) -> bool:
        """Return whether this file is still the one at its path, and open: a daemon may have closed it."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), Path(self.path).stat())
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
        if self not in _held.values() and self.is_current():
            os.close(self._descriptor)


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

    def release(self) -> None:
        """Release the lock. Other processes may recover the remaining claims of this owner."""
        with _mutex():
            file = _held.pop((os.getpid(), self.id), None)
            if file is not None:
                file.unlock(self.id)
                file.close_if_unused()

    def _acquire(self) -> None:
        pid, path = os.getpid(), f"{self._database}-lock"
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
