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

__all__ = ["LOCK_SUFFIX", "UNCLAIMED", "OwnerLock"]

UNCLAIMED = 0
LOCK_SUFFIX = "-lock"

_ATTEMPTS = 5

# A process cannot test its own locks, and would consider its own owners dead.
_alive_here: set[tuple[int, int]] = set()


class _LockFile:
    """The file in which owners lock a byte.

    A process opens it once, because closing it anywhere drops all of the process's locks.

    Raises:
        OSError: It cannot be opened, or is not a lock file.
    """

    def __init__(self, database: str) -> None:
        self.path = f"{database}{LOCK_SUFFIX}"
        self.refcount = 0
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

    def close(self) -> None:
        """Drop all locks of this process."""
        with contextlib.suppress(OSError):
            if self._is_open():
                os.close(self._descriptor)

    def _is_open(self) -> bool:
        """Return whether the descriptor still refers to the file: a daemon may have closed and reused it."""
        return os.path.samestat(self._opened, os.fstat(self._descriptor))


# By process id, so that a child uses neither a lock that another thread held at the fork nor the parent's descriptor.
_locks_by_pid: dict[int, threading.RLock] = {}
_files_by_pid: dict[tuple[int, str], _LockFile] = {}


def _pid_lock() -> threading.RLock:
    return _locks_by_pid.setdefault(os.getpid(), threading.RLock())


class OwnerLock:
    """A new owner of claims in a database.

    Args:
        database: The path of the database, which exists.

    Raises:
        OSError: No lock file can be created beside it.
    """

    def __init__(self, database: str) -> None:
        self.pid = os.getpid()
        self._database = database
        for _ in range(_ATTEMPTS):
            self.id = randbits(48) + 1
            if self._acquire():
                _alive_here.add((self.pid, self.id))
                return
        raise OSError(f"no lock file can be created beside {database}")

    def is_alive(self, owner: int) -> bool:
        """Return whether an owner holds its lock; True if that cannot be tested."""
        if (os.getpid(), owner) in _alive_here:
            return True
        with _pid_lock():
            # Once this lock is released, the descriptor may be another file's.
            if not self._is_held():
                return True
            # A shared lock, so that two processes that test at the same time do not see each other as the owner.
            if not self._file.lock(owner, fcntl.LOCK_SH):
                return True
            self._file.unlock(owner)
            return False

    def renew(self) -> bool:
        """Lock the file that is at the path now, if it was deleted or replaced.

        Returns:
            Whether that succeeded; until then no process can test which owners are alive. False after `release`.

        Raises:
            OSError: No lock file can be created beside the database.
        """
        with _pid_lock():
            if not self._is_held():
                return False
            lost = self._file
            if lost.is_current():
                return True
            if not self._acquire():
                return False
            _release(lost)
            return True

    def release(self) -> None:
        """Release the lock. Other processes may recover the remaining claims of this owner."""
        with _pid_lock():
            if self._is_held():
                _alive_here.discard((self.pid, self.id))
                self._file.unlock(self.id)
                _release(self._file)

    def _is_held(self) -> bool:
        return (os.getpid(), self.id) in _alive_here

    def _acquire(self) -> bool:
        file = _use(self._database)
        if file.lock(self.id) and file.is_current():
            self._file = file
            return True
        _release(file)
        return False


def _use(database: str) -> _LockFile:
    pid = os.getpid()
    with _pid_lock():
        file = _files_by_pid.get((pid, database))
        if file is None or not file.is_current():
            file = _files_by_pid[pid, database] = _LockFile(database)
        file.refcount += 1
        return file


def _release(file: _LockFile) -> None:
    pid = os.getpid()
    with _pid_lock():
        file.refcount -= 1
        if not file.refcount:
            file.close()
            key = (pid, file.path.removesuffix(LOCK_SUFFIX))
            if _files_by_pid.get(key) is file:
                del _files_by_pid[key]


def _copy_permissions(descriptor: int, database: os.stat_result, *, created: bool) -> None:
    """Give the lock file the mode and the group of the database, and its owner if this process runs as root.

    Root changes only a file that it has just created: the folder's owner may have put another one there.
    """
    if created or os.geteuid():
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, stat.S_IMODE(database.st_mode))
        with contextlib.suppress(OSError):
            os.fchown(descriptor, database.st_uid if os.geteuid() == 0 else -1, database.st_gid)
