"""Locks that show which owners of claims are alive: each locks an empty file of its own beside the database.

The lock ends with the process, however it ends. It depends on no clock, so a clock that jumps or a process that is
stopped does not lose any claim. Processes of all users can test it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from sessionsight.delivery.stores.errors import StoreUnavailable

__all__ = ["OwnerLock", "is_alive", "remove"]

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def _path(database: str, owner: int) -> Path:
    return Path(f"{database}-owner-{owner:x}")


def is_alive(database: str, owner: int) -> bool:
    """Return whether an owner holds its lock; True if that cannot be tested."""
    try:
        descriptor = os.open(_path(database, owner), _FLAGS)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        # A shared lock, so that two processes that test at the same time do not see each other as the owner.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def remove(database: str, owner: int) -> None:
    """Remove the file of an owner that is not alive, and has no claims any more."""
    with contextlib.suppress(OSError):
        _path(database, owner).unlink()


class OwnerLock:
    """The lock of an owner, which is held until `release` or the end of this process.

    Args:
        database: The path of the database.
        owner: The owner's id.

    Raises:
        StoreUnavailable: No file can be created beside the database, or none can be locked there.
    """

    def __init__(self, database: str, owner: int) -> None:
        self._database = database
        self._owner = owner
        self._descriptor = -1
        self.renew()

    def renew(self) -> None:
        """Lock a new file if the last one was deleted, or if a daemon has closed it. Until then the owner seems dead.

        Raises:
            StoreUnavailable: That has failed.
        """
        if self._is_current():
            return
        remove(self._database, self._owner)
        try:
            self._descriptor = os.open(_path(self._database, self._owner), _FLAGS | os.O_CREAT | os.O_EXCL)
            os.fchmod(self._descriptor, 0o444)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # another process may test it at this moment
        except OSError as error:
            raise StoreUnavailable(str(error)) from error

    def release(self) -> None:
        """Release the lock. Other processes may recover the remaining claims of this owner."""
        if self._is_current():
            remove(self._database, self._owner)
            os.close(self._descriptor)

    def close(self) -> None:
        """Close the file in a forked child, which would keep the lock beyond the end of its parent."""
        if self._is_current():
            os.close(self._descriptor)

    def _is_current(self) -> bool:
        """Return whether the file is open, and still the one at its path."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), _path(self._database, self._owner).stat())
        except OSError:
            return False
