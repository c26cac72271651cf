"""Which owners of claims are alive: each locks a byte of its own in one file beside the spool.

The lock goes with the process, however that ends. No clock is asked, so neither a clock that jumps nor a process that
was stopped for a while makes anybody lose what they hold.

All processes use the same file, whichever user they run as. It has the owner, group and mode of the database, as the
files have that SQLite keeps beside it. So whoever may use the database can tell which owners are alive.
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

# A process never sees its own locks, and would take its own owners for dead.
_alive_here: set[tuple[int, int]] = set()


class _LockFile:
    """The file in which owners lock a byte. A process opens it once, because closing it anywhere drops all its locks.

    Raises:
        OSError: It cannot be opened, or is something else.
    """

    def __init__(self, database: str) -> None:
        self.path = f"{database}{LOCK_SUFFIX}"
        self.users = 0
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
            _share_like(self._descriptor, Path(database).stat(), created=created)
        except BaseException:
            os.close(self._descriptor)
            raise

    def is_current(self) -> bool:
        """Return whether this file is still open, and the one at its path."""
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
        """Return whether the descriptor is still ours: a daemon may have closed all, and opened something else."""
        return os.path.samestat(self._opened, os.fstat(self._descriptor))


# By process, so that a child uses neither a lock that another thread held at the fork nor the parent's descriptor.
_guards: dict[int, threading.RLock] = {}
_files: dict[tuple[int, str], _LockFile] = {}


def _guard() -> threading.RLock:
    return _guards.setdefault(os.getpid(), threading.RLock())


class OwnerLock:
    """A new owner of claims in a database.

    Args:
        database: The path of the database, which exists.

    Raises:
        OSError: There can be no lock beside it.
    """

    def __init__(self, database: str) -> None:
        self.pid = os.getpid()
        self._database = database
        for _ in range(_ATTEMPTS):
            self.id = randbits(48) + 1
            if self._acquire():
                _alive_here.add((self.pid, self.id))
                return
        raise OSError(f"no lock can be had beside {database}")

    def is_alive(self, owner: int) -> bool:
        """Return whether an owner holds its lock; also True where that cannot be told."""
        if (os.getpid(), owner) in _alive_here:
            return True
        with _guard():
            # Once this lock is released, the descriptor may be another file's.
            if not self._is_held():
                return True
            # A shared lock, so that two processes that ask at the same time do not take each other for the owner.
            if not self._file.lock(owner, fcntl.LOCK_SH):
                return True
            self._file.unlock(owner)
            return False

    def renew(self) -> bool:
        """If somebody has deleted or replaced the file, lock the one that is there now.

        Returns:
            Whether that succeeded; until then nobody can tell which owners are alive. False after `release`.

        Raises:
            OSError: There can be no lock beside the database.
        """
        with _guard():
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
        """Give up the lock: whatever this owner still claims may be recovered by others."""
        with _guard():
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
    with _guard():
        file = _files.get((pid, database))
        if file is None or not file.is_current():
            file = _files[pid, database] = _LockFile(database)
        file.users += 1
        return file


def _release(file: _LockFile) -> None:
    pid = os.getpid()
    with _guard():
        file.users -= 1
        if not file.users:
            file.close()
            key = (pid, file.path.removesuffix(LOCK_SUFFIX))
            if _files.get(key) is file:
                del _files[key]


def _share_like(descriptor: int, database: os.stat_result, *, created: bool) -> None:
    """Give the lock file to whoever may use the database.

    Root changes a file only if it has just created it: the folder's owner may have put a link to another one there.
    """
    if created or os.geteuid():
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, stat.S_IMODE(database.st_mode))
        with contextlib.suppress(OSError):
            os.fchown(descriptor, database.st_uid if os.geteuid() == 0 else -1, database.st_gid)
