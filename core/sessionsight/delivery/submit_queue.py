"""Submission queue: requests enqueue batches without blocking, and the dispatcher thread processes them.

`put` takes no lock and does not read the request, which keeps the end of a response cheap. Callers that need all
batches processed, such as a flush, drain the queue themselves. With a durable spool only event loops use it, because
processing a batch writes it to the disk.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from sessionsight.capture.interfaces import Batch

__all__ = ["SubmitQueue"]

# Batches processed in one step, so that a long queue blocks no caller for long.
_CHUNK = 200
# With more batches than this the thread does not keep up, and `put` drains the queue itself.
_MAX_BACKLOG = 2_000


class SubmitQueue:
    """Queue of batches that are processed in order.

    Args:
        process: Processes some batches and accounts for them even if it raises; called by one thread at a time.
        wake: Wakes the thread that drains the queue. Returns False if there is none, and `put` drains it then.
        blocking: `process` does I/O, so `put` must not call it because of a long queue.
    """

    def __init__(
        self, process: Callable[[Sequence[Batch]], None], wake: Callable[[], bool], *, blocking: bool = False
    ) -> None:
        self._process = process
        self._wake = wake
        self._blocking = blocking
        self._draining = False
        self._batches: deque[Batch] = deque()
        # Re-entrant: a signal handler or a finalizer may capture something while this thread holds it.
        self._lock = threading.RLock()
        self.polled = False
        """True while the thread drains the queue at intervals, so that `put` need not wake it."""

    def put(self, batch: Batch) -> None:
        """Enqueue a batch."""
        self._batches.append(batch)
        if not self.polled:
            self.polled = True
            if not self._wake():
                self.polled = False
                self.drain()
        elif len(self._batches) > _MAX_BACKLOG and not self._blocking:
            self.drain()

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def busy(self) -> bool:
        """True while a batch is not completely processed. May be read on any thread."""
        return bool(self._batches) or self._draining  # in this order, because `drain` removes a batch after it set this

    def drain(self) -> bool:
        """Process all queued batches, after waiting for another thread that does so. Return True if there were any."""
        number = 0
        with self._lock:
            # Set before a batch is removed, because `busy` must not be False in between.
            was_draining, self._draining = self._draining, True
            try:
                # Bounded by the number of batches at the start, because other threads keep adding some.
                for _ in range(0, len(self._batches), _CHUNK):
                    batches = self._next()
                    number += len(batches)
                    self._process(batches)
            finally:
                self._draining = was_draining
        return number > 0

    def _next(self) -> list[Batch]:
        batches: list[Batch] = []
        with suppress(IndexError):  # a signal handler that captures something may drain the rest meanwhile
            while len(batches) < _CHUNK:
                batches.append(self._batches.popleft())
        return batches
