"""Imports on background threads, which forks of the process wait for.

A child inherits what another thread of its parent has half imported, with the lock of that import, and never gets the
rest (https://github.com/python/cpython/issues/50970).
"""

from __future__ import annotations

import logging  # noqa: F401  # hooks run in reverse order: its hook takes the lock that imports need, so ours must run first
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["late_import"]

# Seconds that a fork waits for an import, which may wait for one of the forking thread itself.
_PATIENCE = 5.0

# Re-entrant: an import may fork, and a signal handler may import.
_lock = threading.RLock()
_held: list[bool] = []


@contextmanager
def late_import() -> Iterator[None]:
    """Import modules in this block, long after the start of the process.

    Example:
        >>> with late_import():
        ...     from hashlib import sha256
    """
    with _lock:
        yield


def _before_fork() -> None:
    _held.append(_lock.acquire(timeout=_PATIENCE))


def _after_fork() -> None:
    if _held.pop():
        _lock.release()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no forks
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
