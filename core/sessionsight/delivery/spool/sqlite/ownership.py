"""Whose claims still count: an owner lives as long as it holds the lock on a file of its own.

The lock goes with the process, however that ends. No clock is asked, so that neither a clock that jumps
nor a process that was stopped for a while makes anybody lose what they hold.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import time
from pathlib import Path
from secrets import randbits

__all__ = ["NOBODY", "Ownership", "is_alive", "is_old", "remove_stray", "strays"]

NOBODY = 0

# An owner is known in the file, or holds its lock, long before its lock's file is so old.
_OLD = 60.0

# Somebody may take a lock's file for a stray just before it is locked.
_ATTEMPTS = 5

# A process never sees its own locks on files, and would take its own owners for dead.
_held: set[tuple[int, int]] = set()


class Ownership:
    """A new owner of rows in the file at a path.

    Raises:
        OSError: The lock's file cannot be made.
    """

    def __init__(self, path: str) -> None:
        self.pid = os.getpid()
        for _ in range(_ATTEMPTS):
            self.id = randbits(48) + 1
            self.path = _lock_path(path, self.id)
            self._descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            with contextlib.suppress(OSError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if Path(self.path).exists():  # nobody has taken it for a stray and removed it
                    break
            Path(self.path).unlink(missing_ok=True)
            os.close(self._descriptor)
        else:
            raise OSError(f"no lock can be had beside {path}")
        _held.add((self.pid, self.id))

    def give_up(self) -> None:
        """Let go of the lock: whatever this owner still holds is anybody's."""
        if self.pid != os.getpid() or (self.pid, self.id) not in _held:
            return
        _held.discard((self.pid, self.id))
        with contextlib.suppress(OSError):
            Path(self.path).unlink()
        os.close(self._descriptor)


def is_alive(path: str, owner: int) -> bool:
    """Whether an owner of rows in the file at this path holds its lock."""
    if (os.getpid(), owner) in _held:
        return True
    return _is_locked(_lock_path(path, owner))


def strays(path: str) -> list[tuple[int, str]]:
    """The same, but for this process's own, with the names of their locks' files."""
    return [(owner, name) for owner, name in _found(path) if (os.getpid(), owner) not in _held]


def _found(path: str) -> list[tuple[int, str]]:
    prefix = f"{path}.owner-"
    found: list[tuple[int, str]] = []
    for name in glob.glob(f"{glob.escape(prefix)}*"):  # noqa: PTH207  the prefix is a path, not a pattern
        with contextlib.suppress(ValueError):
            found.append((int(name.removeprefix(prefix), 16), name))
    return found


def is_old(name: str) -> bool:
    """Whether the lock's file was made more than a minute ago, so that its owner would be known by now."""
    try:
        return Path(name).stat().st_mtime < time.time() - _OLD
    except OSError:
        return False


def remove_stray(name: str) -> None:
    """Remove the lock's file of an owner that is dead."""
    if not _is_locked(name):
        with contextlib.suppress(OSError):
            Path(name).unlink()


def _lock_path(path: str, owner: int) -> str:
    return f"{path}.owner-{owner:x}"


def _is_locked(name: str) -> bool:
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:  # it cannot be told; better late than twice
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
