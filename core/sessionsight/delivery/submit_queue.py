"""Submission queue: requests enqueue batches without blocking, and a background thread processes them.

Putting a batch in takes neither a lock nor a look at the request, which keeps the end of a response cheap. Whoever
needs to see everything, such as a flush, drains the queue itself. With a durable spool only event loops use it,
because processing a batch writes it to the disk.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from sessionsight.capture.interfaces import Batch
from sessionsight.delivery import threads
from sessionsight.delivery.wake_event import Wake

__all__ = ["Intake"]

# Batches taken in one step, so that a long row of them holds up nobody for long.
_AT_ONCE = 200
# Beyond so many the thread does not keep up, and whoever puts something in does the work.
_MOST = 2_000
_NEVER = float("inf")


class Intake:
    """Collects batches, and passes them on in order.

    Args:
        take: Takes some of them, and answers for them even if it raises; called by one thread at a time.
        fault: Told of what has been raised on the thread, which goes on.
        pause: Seconds for which the thread lets batches gather while there are some.
        blocking: `take` does I/O, so that whoever puts a batch in must not do the thread's work.
        tick: Called by the thread when `call_later` has asked for it; returns after how many seconds to call it
            again, or None.
    """

    def __init__(
        self,
        take: Callable[[Sequence[Batch]], None],
        fault: Callable[[BaseException], None],
        *,
        pause: float,
        blocking: bool = False,
        tick: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._take = take
        self._fault = fault
        self._pause = pause
        self._blocking = blocking
        self._draining = False
        self._tick = tick
        self._tick_at = _NEVER
        self._inbox: deque[Batch] = deque()
        self._wake = Wake()
        # Re-entrant: a signal handler or a finalizer may capture something while this thread is in here.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._idle = True
        self._stopped = False
        self._then: Callable[[], None] | None = None

    def put(self, batch: Batch) -> None:
        """Leave a batch."""
        self._inbox.append(batch)
        # While batches come in the thread looks by itself; it is called only from a longer sleep.
        if self._idle:
            self._call()
        elif len(self._inbox) > _MOST and not self._blocking:
            self.drain()

    @property
    def busy(self) -> bool:
        """True while a batch is not completely processed. May be read on any thread."""
        return self._draining or bool(self._inbox)

    def call_later(self, seconds: float) -> None:
        """Have the thread call `tick` after this time, unless it does so earlier anyway. Without threads, never."""
        now = time.monotonic()
        if now + seconds < self._tick_at:
            self._tick_at = now + seconds
            if self._idle and not self._stopped and (self._thread is not None or self._start()):
                self._wake.set()

    @property
    def ticks(self) -> bool:
        """True when a call of `tick` is scheduled."""
        return self._tick_at < _NEVER

    def drain(self) -> bool:
        """Pass on what is there now; another thread that does so is waited for. Returns whether there was anything."""
        number = 0
        with self._lock:
            # Set before anything is taken out, for `busy`.
            was_draining, self._draining = self._draining, True
            try:
                # No longer than it takes to pass on what was there at first: others go on putting things in.
                for _ in range(0, len(self._inbox), _AT_ONCE):
                    batches = self._next()
                    number += len(batches)
                    self._take(batches)
            finally:
                self._draining = was_draining
        return number > 0

    def stop(self) -> None:
        """Pass on what is there, and from now on each batch at once."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopped = self._idle = True
        if thread is not None:
            self._wake.set()
        self.drain()

    def retire(self, then: Callable[[], None]) -> None:
        """Pass on what is there, on the thread, and end it; nothing will be put in any more.

        Safe in finalizers: nothing is waited for.

        Args:
            then: Called when that is done.
        """
        self._then = then
        self._stopped = True
        if self._thread is not None:
            self._wake.set()
        else:
            then()

    def _next(self) -> list[Batch]:
        batches: list[Batch] = []
        with suppress(IndexError):  # a signal handler that captures something may drain the rest in the midst of this
            while len(batches) < _AT_ONCE:
                batches.append(self._inbox.popleft())
        return batches

    def _call(self) -> None:
        self._idle = False
        if self._thread is not None:
            self._wake.set()
        elif self._stopped or not self._start():
            self._idle = True
            self.drain()

    def _start(self) -> bool:
        """Start the thread. False where none can be had."""
        with self._lock:
            if self._thread is None and not self._stopped and threads.run():
                self._wake.renew()
                self._thread = threading.Thread(target=self._run, name="sessionsight-intake", daemon=True)
                try:
                    threads.start(self._thread)
                except RuntimeError:  # the interpreter is shutting down
                    self._thread = None
        return self._thread is not None

    def _run(self) -> None:
        while not self._stopped:
            self._gather()
            while self._outlive_drain():
                self._gather()
                self._tick_if_due()
            self._tick_if_due()
            self._idle = True
            # Something may have come in between; the flag was not up yet, so nobody called. And an earlier
            # wait may have heard the call to stop.
            if not (self._inbox or self._stopped):
                self._wake.wait(self._tick_at - time.monotonic())
            self._idle = False
        self._idle = True
        self._outlive_drain()
        if self._then is not None:
            self._then()

    def _tick_if_due(self) -> None:
        if time.monotonic() < self._tick_at:
            return
        self._tick_at = _NEVER  # first, so that whoever asks for the next one meanwhile is heard
        try:
            again = self._tick()
        except (Exception, SystemExit) as error:
            self._fault(error)
        else:
            if again is not None:
                self._tick_at = min(self._tick_at, time.monotonic() + again)

    def _outlive_drain(self) -> bool:
        """As `drain`. What others have captured must not wait for ever because of a fault."""
        try:
            return self.drain()
        except (Exception, SystemExit) as error:  # the latter ends threads without a sound
            self._fault(error)
            return True

    def _gather(self) -> None:
        """A pause, also before the first look: the request that rang is not over yet, and others may follow it."""
        if not self._stopped:
            self._wake.wait(self._pause)
