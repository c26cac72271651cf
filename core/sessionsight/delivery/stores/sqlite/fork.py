"""No connection to a spool's file is open across a fork.

SQLite's locks belong to a process, and so does what its library remembers of them: a child that uses an
inherited connection, or opens the same file again, corrupts the file or waits for its own parent's lock
until it ends. So connections are closed before a fork. A fork that skips Python's hooks leaves the child
with an open one; such a child, and whatever is forked from it, never opens that file.
"""

from __future__ import annotations

import os
from typing import Any, Protocol
from weakref import WeakSet

__all__ = ["ForkAware", "was_inherited", "watch"]

# How long a fork may wait for a transaction of another thread's.
_PATIENCE = 1.0


class ForkAware(Protocol):
    """What must not be open while the process forks."""

    pid: int
    """The process that has opened it."""
    path: str

    def hold(self, seconds: float) -> None:
        """Close, once nobody is in the midst of something, and stay closed until `let_go`."""

    def let_go(self) -> None:
        """It may be opened again."""

    def renounce(self) -> list[object]:
        """In a child: forget everything, without closing it. Returns what was open."""


_watched: WeakSet[ForkAware] = WeakSet()
# Paths of files that were open when this process, or one that it descends from, was forked.
_inherited_paths: set[str] = set()
_hooked = False


def watch(forkable: ForkAware) -> None:
    """Close this before each fork from now on."""
    global _hooked  # noqa: PLW0603  hooks cannot be taken back, so they are set once
    _watched.add(forkable)
    if not _hooked:
        _hooked = True
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def was_inherited(path: str) -> bool:
    """Return whether the file at this path was open when this process, or an ancestor of it, was forked."""
    _in_child()
    return path in _inherited_paths


def _before() -> None:
    for forkable in sorted(_watched, key=id):
        if forkable.pid == os.getpid():
            forkable.hold(_PATIENCE)


def _in_parent() -> None:
    for forkable in list(_watched):
        if forkable.pid == os.getpid():
            forkable.let_go()


def _in_child() -> None:
    pid = os.getpid()
    for forkable in list(_watched):
        if forkable.pid != pid:
            for connection in forkable.renounce():
                _inherited_paths.add(forkable.path)
                _leak(connection)
            _watched.discard(forkable)


def _leak(connection: Any) -> None:
    """Not even the end of the interpreter may close what is the parent's."""
    from ctypes import py_object, pythonapi

    pythonapi.Py_IncRef(py_object(connection))
