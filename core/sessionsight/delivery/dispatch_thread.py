"""The dispatcher thread of a client: processes submitted batches, runs each lane when it is due, and never blocks."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from sessionsight.capture.interfaces import Batch
from sessionsight.delivery import threads
from sessionsight.delivery.lane import Lane
from sessionsight.delivery.sender_pool import SenderPool
from sessionsight.delivery.submit_queue import SubmitQueue
from sessionsight.delivery.threads import WakeEvent

__all__ = ["DispatchThread"]

T = TypeVar("T")

_NEVER = float("inf")
# Seconds between checks for remaining records once the client is retired.
_RETIRED_INTERVAL = 1.0
# Seconds that the thread may take to store the outcome of a last call.
_JOIN_TIMEOUT = 2.0


class DispatchThread:
    """Starts a client's thread when it is needed first, so that a process that is forked before that has none.

    Args:
        process: Processes some batches and accounts for them even if it raises; called by one thread at a time.
        log_error: Called with exceptions raised on the thread, which continues.
        linger: Seconds that the thread waits for more batches.
        blocking: `process` does I/O.
        delivers: False if the lanes send nothing and only write to their store what is in memory.
        tick: Called on the thread when `call_later` has scheduled it; returns the seconds until the next call, or
            None.
    """

    def __init__(
        self,
        process: Callable[[Sequence[Batch]], None],
        log_error: Callable[[BaseException], None],
        *,
        linger: float,
        blocking: bool = False,
        delivers: bool = True,
        tick: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.queue = SubmitQueue(process, self.wake, blocking=blocking)
        self.pool = SenderPool()
        self.lanes: Sequence[Lane] = ()
        """Set before the thread is started."""
        self._log_error = log_error
        self._linger = linger
        self._delivers = delivers
        self._tick = tick
        self._tick_at = _NEVER
        self._drain_at = _NEVER
        self._called: deque[Lane] = deque()
        self._lanes_due = _NEVER
        """When the first lane is due, or earlier; on the monotonic clock."""
        self._event = WakeEvent()
        # Re-entrant: a signal handler or a finalizer may capture something while this thread holds it.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._finishing = False
        self._on_retired: Callable[[], object] | None = None

    @property
    def running(self) -> bool:
        """True once the thread has been started."""
        return self._thread is not None

    def wake(self) -> bool:
        """Wake the thread, and start it if needed. Return False when no thread can be started."""
        started = self._thread is not None or self._start()
        if threading.current_thread() is not self._thread:
            self._event.set()  # a caller of `wait` may be woken as well
        return started

    def call(self, lane: Lane) -> bool:
        """Run a lane as soon as possible, if it has anything to do. Return False when no thread can be started."""
        if not (self._delivers or lane.pending):
            return True
        if not lane.called:
            lane.called = True
            self._called.append(lane)
        return self.wake()

    def call_later(self, seconds: float) -> None:
        """Schedule a call of `tick` on the thread, unless an earlier one is scheduled. Does nothing without threads."""
        at = time.monotonic() + seconds
        if at < self._tick_at:
            self._tick_at = at
            self.wake()

    def flush(self, deadline: float) -> bool:
        """Wait until every lane is empty, or until the deadline on the monotonic clock.

        Where no thread can be started, this one delivers for each lane in turn, each in an equal part of the time.
        """
        for lane in self.lanes:
            lane.begin_flush()
            if lane.pending:
                lane.call()
        try:
            empty = True
            for lane, lane_deadline in self._split(deadline):
                if lane.pending and not lane.call():
                    empty &= lane.run_inline(lane_deadline, self._event.wait, wait_for_retries=True)
                else:
                    empty &= lane.join(deadline)  # at shutdown it also prevents further calls
            return empty
        finally:
            for lane in self.lanes:
                lane.end_flush()

    def send_inline(self, deadline: float) -> None:
        """Send what is ready on this thread, because this process cannot run background threads."""
        for lane, lane_deadline in self._split(deadline):
            if not (self._delivers or lane.pending):
                continue
            lane.begin_flush()
            try:
                lane.run_inline(lane_deadline, self._event.wait, wait_for_retries=False)
            finally:
                lane.end_flush()

    def _split(self, deadline: float) -> Iterator[tuple[Lane, float]]:
        """Yield each lane with a deadline that gives it an equal part of the remaining time."""
        for left, lane in zip(range(len(self.lanes), 0, -1), self.lanes, strict=True):
            now = time.monotonic()
            yield lane, now + (deadline - now) / left

    def finish_in_flight(self, deadline: float) -> None:
        """End the thread when the calls in flight are completed, or at the deadline. The lanes start no more calls."""
        self._finishing = True
        if (thread := self._thread) is not None:
            self._event.set()
            thread.join(max(deadline - time.monotonic(), 0.0))
            self.stop()
            thread.join(_JOIN_TIMEOUT)

    def stop(self) -> None:
        """End the thread, without waiting for it. From now on, each batch is processed when it is submitted."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopped = True
        self.queue.polled = False
        if thread is not None:
            self._event.set()
        else:
            self._stop_senders()

    def retire(self, on_retired: Callable[[], object]) -> None:
        """End the thread once everything is delivered. Nothing is submitted after this.

        Safe in finalizers, because it does not wait.

        Args:
            on_retired: Called when nothing is left.
        """
        self._on_retired = on_retired
        for lane in self.lanes:
            lane.begin_flush()
        if self._thread is not None:
            for lane in self.lanes:
                self.call(lane)
            self.wake()
        elif not any(lane.pending for lane in self.lanes):
            on_retired()

    def _start(self) -> bool:
        """Start the thread. Return False where none can be started."""
        with self._lock:
            if self._thread is None and not self._stopped and threads.available():
                # Set before it runs, because a signal handler may get here meanwhile.
                self._thread = threading.Thread(target=self._run, name="sessionsight-dispatcher", daemon=True)
                try:
                    self._event.reset()
                    if self._delivers:
                        self.pool.start()
                    threads.start_in_empty_context(self._thread)
                except RuntimeError:  # the interpreter is shutting down
                    self._thread = None
        return self._thread is not None

    def _run(self) -> None:
        while not self._stopped:
            # Lanes last, because the other two may call some.
            wake_at = min(self._tick_if_due(), self._process_batches(), self._run_lanes())
            if self._on_retired is not None:
                if not (self.queue.busy or any(lane.pending for lane in self.lanes)):
                    self._guarded(self._on_retired)
                    break
                # Other processes that share a durable spool may deliver the rest, and nothing reports that here.
                wake_at = min(wake_at, time.monotonic() + _RETIRED_INTERVAL)
            if self._finishing and not any(lane.in_flight for lane in self.lanes):
                break
            self.queue.polled = self._drain_at < _NEVER
            # A batch may have arrived before the flag was set, so nobody has woken this thread.
            missed = not self.queue.polled and len(self.queue) > 0
            self._event.wait(0.0 if missed else wake_at - time.monotonic())
        self.queue.polled = False
        self._guarded(self.queue.drain)
        self._stop_senders()

    def _process_batches(self) -> float:
        """Process the queued batches when they have lingered. Return when to call this again, on the monotonic clock.

        The first batch lingers as well: its request is still running, and others usually follow.
        """
        now = time.monotonic()
        if self._on_retired is not None:
            self._drain_at = now
        elif self._drain_at == _NEVER and self.queue:
            self._drain_at = now + self._linger
        if now >= self._drain_at:
            drained = self._guarded(self.queue.drain)
            self._drain_at = time.monotonic() + self._linger if drained else _NEVER
        return self._drain_at

    def _run_lanes(self) -> float:
        """Run the lanes that were called or are due. Return when the next one is due, on the monotonic clock."""
        now = time.monotonic()
        if now >= self._lanes_due:
            self._lanes_due = min((lane.due for lane in self.lanes if lane.due > now), default=_NEVER)
            for lane in self.lanes:
                if lane.due <= now:
                    self.call(lane)
        for _ in range(len(self._called)):
            lane = self._called.popleft()
            lane.called = False
            self._lanes_due = min(self._lanes_due, lane.run())
        return 0.0 if self._called else self._lanes_due

    def _tick_if_due(self) -> float:
        if time.monotonic() >= self._tick_at:
            self._tick_at = _NEVER  # reset first, because `call_later` may schedule the next one meanwhile
            again = self._guarded(self._tick)
            if again is not None:
                self._tick_at = min(self._tick_at, time.monotonic() + again)
        return self._tick_at

    def _guarded(self, step: Callable[[], T]) -> T | None:
        """Call a step, and log exceptions: a bug must not keep later batches waiting forever."""
        try:
            return step()
        except (Exception, SystemExit) as error:  # SystemExit would end the thread silently
            self._log_error(error)
            return None

    def _stop_senders(self) -> None:
        self.pool.stop()
        for lane in self.lanes:
            lane.close_connections()
