"""Closes SQLite connections before a fork.

SQLite's locks belong to a process, and so does its library's knowledge of them. A child that uses an inherited
connection, or opens the same file again, corrupts the file or waits forever for its own parent's lock. So connections
are closed before a fork. A fork that skips Python's hooks leaves the child with an open connection; that child and its
own children never open the file.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["ForkAware", "register", "was_inherited"]


class ForkAware(Protocol):
    """An object that holds a connection, which must be closed while the process forks."""

    pid: int
    """The process that has created it."""
    path: str

    @property
    def is_open(self) -> bool:
        """True while there is a connection."""

    def before_fork(self) -> None:
        """Close the connection once no thread uses it, and keep it closed until `after_fork`."""

    def after_fork(self) -> None:
        """Allow connections again in the parent."""


_registered: WeakSet[ForkAware] = WeakSet()
# Paths of files that were open when this process or one of its ancestors was forked.
_inherited_paths: set[str] = set()
_hooked = False


def register(connection: ForkAware) -> None:
    """Close this before each fork from now on."""
    global _hooked  # noqa: PLW0603  hooks cannot be unregistered, so they are registered once
    _registered.add(connection)
    if not _hooked:
        _hooked = True
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def was_inherited(path: str) -> bool:
    """Return whether the file at this path was open when this process or one of its ancestors was forked."""
    _in_child()
    return path in _inherited_paths


def _before() -> None:
    for connection in sorted(_registered, key=id):
        if connection.pid == os.getpid():
            connection.before_fork()


def _in_parent() -> None:
    for connection in list(_registered):
        if connection.pid == os.getpid():
            connection.after_fork()


def _in_child() -> None:
    from ctypes import py_object, pythonapi

    for connection in list(_registered):
        if connection.pid != os.getpid():
            _registered.discard(connection)
            if connection.is_open:
                _inherited_paths.add(connection.path)
                pythonapi.Py_IncRef(py_object(connection))  # never closed here, even when the interpreter exits
