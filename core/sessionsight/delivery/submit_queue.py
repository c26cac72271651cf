"""Submission queue: requests enqueue batches without blocking, and a background thread processes them.

`put` takes no lock and does not read the request, which keeps the end of a response cheap. Callers that need all
batches processed, such as a flush, drain the queue themselves. With a durable spool only event loops use it, because
processing a batch writes it to the disk.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from sessionsight.capture.interfaces import Batch
from sessionsight.delivery import threads
from sessionsight.delivery.threads import WakeEvent

__all__ = ["SubmitQueue"]

# Batches processed in one step, so that a long queue blocks no caller for long.
_CHUNK = 200
# With more batches than this the thread does not keep up, and `put` drains the queue itself.
_MAX_BACKLOG = 2_000
_NEVER = float("inf")


class SubmitQueue:
    """Queue of batches and the thread that processes them in order.

    Args:
        process: Processes some batches and accounts for them even if it raises; called by one thread at a time.
        log_error: Called with exceptions raised on the thread, which continues.
        linger: Seconds that the thread waits for more batches.
        blocking: `process` does I/O, so `put` must never call it.
        tick: Called by the thread when `call_later` has scheduled it; returns the seconds until the next call, or
            None.
    """

    def __init__(
        self,
        process: Callable[[Sequence[Batch]], None],
        log_error: Callable[[BaseException], None],
        *,
        linger: float,
        blocking: bool = False,
        tick: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._process = process
        self._log_error = log_error
        self._linger_seconds = linger
        self._blocking = blocking
        self._draining = False
        self._tick = tick
        self._tick_at = _NEVER
        self._inbox: deque[Batch] = deque()
        self._wake = WakeEvent()
        # Re-entrant: a signal handler or a finalizer may capture something while this thread holds it.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._idle = True
        self._stopped = False
        self._on_retired: Callable[[], None] | None = None

    def put(self, batch: Batch) -> None:
        """Enqueue a batch."""
        self._inbox.append(batch)
        # While batches arrive the thread polls by itself; it is woken only from a longer sleep.
        if self._idle:
            self._notify()
        elif len(self._inbox) > _MAX_BACKLOG and not self._blocking:
            self.drain()

    @property
    def busy(self) -> bool:
        """True while a batch is not completely processed. May be read on any thread."""
        return self._draining or bool(self._inbox)

    def call_later(self, seconds: float) -> None:
        """Schedule a call of `tick` on the thread, unless an earlier one is scheduled. Does nothing without threads."""
        now = time.monotonic()
        if now + seconds < self._tick_at:
            self._tick_at = now + seconds
            if self._idle and not self._stopped and (self._thread is not None or self._start()):
                self._wake.set()

    @property
    def ticks(self) -> bool:
        """True while a call of `tick` is scheduled."""
        return self._tick_at < _NEVER

    def drain(self) -> bool:
        """Process all queued batches, after waiting for another thread that does so. Return True if there were any."""
        number = 0
        with self._lock:
            # Set before a batch is removed, because `busy` must not be False in between.
            was_draining, self._draining = self._draining, True
            try:
                # Bounded by the number of batches at the start, because other threads keep adding some.
                for _ in range(0, len(self._inbox), _CHUNK):
                    batches = self._next()
                    number += len(batches)
                    self._process(batches)
            finally:
                self._draining = was_draining
        return number > 0

    def stop(self) -> None:
        """Process all queued batches, and from now on each batch in `put`."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopped = self._idle = True
        if thread is not None:
            self._wake.set()
        self.drain()

    def retire(self, on_retired: Callable[[], None]) -> None:
        """Process all queued batches on the thread, then end it. The queue accepts nothing after this.

        Safe in finalizers, because it does not wait.

        Args:
            on_retired: Called when that is done.
        """
        self._on_retired = on_retired
        self._stopped = True
        if self._thread is not None:
            self._wake.set()
        else:
            on_retired()

    def _next(self) -> list[Batch]:
        batches: list[Batch] = []
        with suppress(IndexError):  # a signal handler that captures something may drain the rest meanwhile
            while len(batches) < _CHUNK:
                batches.append(self._inbox.popleft())
        return batches

    def _notify(self) -> None:
        self._idle = False
        if self._thread is not None:
            self._wake.set()
        elif self._stopped or not self._start():
            self._idle = True
            self.drain()

    def _start(self) -> bool:
        """Start the thread. Return False where none can be started."""
        with self._lock:
            if self._thread is None and not self._stopped and threads.available():
                self._wake.reset()
                self._thread = threading.Thread(target=self._run, name="sessionsight-submit", daemon=True)
                try:
                    threads.start_in_empty_context(self._thread)
                except RuntimeError:  # the interpreter is shutting down
                    self._thread = None
        return self._thread is not None

    def _run(self) -> None:
        while not self._stopped:
            self._linger()
            while self._safe_drain():
                self._linger()
                self._tick_if_due()
            self._tick_if_due()
            self._idle = True
            # A batch may have arrived before the flag was set, so nobody has woken this thread. And an earlier wait
            # may have consumed the wake-up of `stop`.
            if not (self._inbox or self._stopped):
                self._wake.wait(self._tick_at - time.monotonic())
            self._idle = False
        self._idle = True
        self._safe_drain()
        if self._on_retired is not None:
            self._on_retired()

    def _tick_if_due(self) -> None:
        if time.monotonic() < self._tick_at:
            return
        self._tick_at = _NEVER  # reset first, because `call_later` may schedule the next one meanwhile
        try:
            again = self._tick()
        except (Exception, SystemExit) as error:
            self._log_error(error)
        else:
            if again is not None:
                self._tick_at = min(self._tick_at, time.monotonic() + again)

    def _safe_drain(self) -> bool:
        """Drain, and log exceptions: a bug must not keep later batches waiting forever."""
        try:
            return self.drain()
        except (Exception, SystemExit) as error:  # SystemExit would end the thread silently
            self._log_error(error)
            return True

    def _linger(self) -> None:
        """Wait before draining, even the first time: the request is still running, and others usually follow."""
        if not self._stopped:
            self._wake.wait(self._linger_seconds)
