"""The bell of a thread that sleeps until there is something to do."""

from __future__ import annotations

import queue
from contextlib import suppress

__all__ = ["Wake"]

# Seconds; far below what the operating system can count, and waking once too often harms nothing.
_LONGEST = 3600.0


class Wake:
    """Wakes one thread. Like an `Event`, but it may be set from anywhere.

    A signal handler or a finalizer may capture something while this very thread is inside `set`.
    An `Event` has a lock and would deadlock; `SimpleQueue` is made for that.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Take the kind of queue that fits the threads of now, which gevent may have replaced. No thread may wait."""
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Wake the thread now, or at its next wait."""
        if self._tokens.empty():
            self._tokens.put(None)

    def wait(self, seconds: float = _LONGEST) -> bool:
        """Sleep until `set` is called, but not longer than this. Returns whether it was called."""
        try:
            self._tokens.get(timeout=min(max(seconds, 0.0), _LONGEST))
        except queue.Empty:
            return False
        with suppress(queue.Empty):
            while True:
                self._tokens.get_nowait()
        return True
