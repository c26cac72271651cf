"""What a process knows to wait in the file, without asking the file."""

from __future__ import annotations

import threading
import time

__all__ = ["ReadyHint"]


class ReadyHint:
    """What has been entered since somebody looked into the file; it may have been claimed by others since."""

    def __init__(self) -> None:
        # Re-entrant: a signal handler or a finalizer may capture something while this thread is in here.
        self._lock = threading.RLock()
        self.number = 0
        self.size = 0
        self.since: float | None = None
        """Since when something waits, on the monotonic clock; None when nothing is known to."""

    def entered(self, number: int, size: int) -> None:
        """So many records wait that did not before."""
        with self._lock:
            self.number += number
            self.size += size
            if self.since is None:
                self.since = time.monotonic()

    def looked(self) -> None:
        """Somebody looks into the file next. What is entered after this is not forgotten by it."""
        with self._lock:
            self.number, self.size, self.since = 0, 0, None
