"""The end of the process: one deadline, shared by all clients, that nothing exceeds."""

from __future__ import annotations

import atexit
import signal
import sys
import time
import weakref
from types import FrameType
from typing import Protocol

__all__ = ["Closable", "install_sigterm", "register"]


class Closable(Protocol):
    """What has to be closed before the process ends."""

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that it may take."""

    def hurry_until(self, deadline: float) -> None:
        """Start to deliver what is left; does not wait. The deadline is on the monotonic clock."""

    def close_by(self, deadline: float) -> bool:
        """Wait for that until the deadline, then stop. Returns whether nothing was lost."""


_open: weakref.WeakSet[Closable] = weakref.WeakSet()
_registered = False


def register(closable: Closable) -> None:
    """Close this when the interpreter exits, together with all others."""
    global _registered
    _open.add(closable)
    if not _registered:
        _registered = True
        atexit.register(close_all)


def close_all() -> None:
    """Close everything that is registered, by one deadline."""
    closables = list(_open)
    if not closables:
        return
    deadline = time.monotonic() + max(closable.shutdown_timeout for closable in closables)
    for closable in closables:
        closable.hurry_until(deadline)
    for closable in closables:
        closable.close_by(deadline)
    _open.clear()


def install_sigterm() -> None:
    """Make SIGTERM exit the interpreter in the ordinary way, so that what is left gets delivered.

    For bare scripts and workers without a server: the servers' own graceful stop covers it. A
    handler that is installed already is called first.
    """
    previous = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        if callable(previous):
            previous(number, frame)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, handle)
