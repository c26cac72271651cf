"""A lane: the queue, dispatcher and thread of one destination, so that no vendor delays another."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from sessionsight.capture.records import DropReason, QueuedRecord, Record
from sessionsight.delivery import threads
from sessionsight.delivery.dispatcher import Dispatcher
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import LaneQueue
from sessionsight.delivery.sender_pool import SenderPool
from sessionsight.delivery.stats import LaneStats
from sessionsight.delivery.stores.base import DeadLetter, LaneBatch
from sessionsight.delivery.threads import WakeEvent
from sessionsight.delivery.transport import Transport
from sessionsight.destinations.base import Destination
from sessionsight.log import LaneLogger, ThrottledLogger

__all__ = ["Lane"]

_HINTS = {
    DropReason.NO_SESSION: "no session id: is SessionSight's browser script on the page, and does the request "
    "carry its ss_sid cookie? Elsewhere give session_id=, or bind a context",
    DropReason.NO_IDENTITY: "no user or visitor to attribute it to: give user_id= or anonymous_id= (not empty), "
    "call identify(), or let the browser send its ids",
}

# Seconds between checks for remaining records once the client is retired.
_RETIRED_INTERVAL = 1.0


class Lane:
    """Delivers entries to one destination on a background thread.

    The thread is started by the first entry, so that a process that is forked before that has none.
    """

    def __init__(
        self,
        destination: Destination,
        queue: LaneQueue,
        transport: Transport,
        options: DeliveryOptions,
        logger: ThrottledLogger,
    ) -> None:
        self.name = destination.name
        self._destination = destination
        self._linger = options.linger
        self._max_records = destination.limits.max_records
        self._logger = LaneLogger(self.name, logger)
        self._queue = queue
        self._wake = WakeEvent()
        self._senders = SenderPool(transport, name=f"sessionsight-{self.name}", wake=self._wake)
        self._dispatcher = Dispatcher(destination, self._queue, self._senders, options, self._logger)
        self._thread: threading.Thread | None = None
        # Re-entrant, as the queue's lock is.
        self._lock = threading.RLock()
        self._idle = True
        self._stopped = False
        self._flush_count = 0
        self._inline = False
        self._on_retired: Callable[[], None] | None = None

    def accepts(self, record: Record) -> bool:
        """Return whether the record goes to this destination, as far as its kind and its `destinations` decide that."""
        named = record.destinations is None or self.name in record.destinations
        return named and self._destination.supports(type(record))

    def select(self, entries: Sequence[QueuedRecord], drop: DropReason | None = None) -> LaneBatch | None:
        """Return the entries that this destination accepts, and the reasons of those that it drops; None if neither.

        Args:
            entries: Records with their context.
            drop: Drop them all, for this reason.
        """
        destination = self._destination
        accepted: list[QueuedRecord] = []
        dropped: list[DropReason] = []
        for entry in entries:
            record = entry.record
            if record.destinations is not None and self.name not in record.destinations:
                continue
            try:
                if not destination.supports(type(record)):
                    continue
                reason = drop or destination.drop_reason(record, entry.context)
            except Exception as error:  # a custom destination; its build_requests() gets the record
                self._logger.log(
                    logging.ERROR, f"the destination failed with {type(error).__name__}: {error}", key="drop_reason"
                )
                reason = drop
            if reason is None:
                accepted.append(entry)
            else:
                dropped.append(reason)
                if hint := _HINTS.get(reason):
                    message = f"{record.kind} {record.label!r} skipped, {hint}"
                    self._logger.log(logging.WARNING, message, key=reason)
        return LaneBatch(self.name, accepted, dropped) if accepted or dropped else None

    def notify(self) -> None:
        """Wake the thread if it needs it: records have been entered in the lane's queue."""
        # During the linger the thread wakes by itself.
        if self._thread is None or self._idle or self._queue.depth()[0] >= self._max_records:
            self._wake_thread()

    @property
    def running(self) -> bool:
        """True once the lane's thread has been started."""
        return self._thread is not None

    def start(self) -> None:
        """Start the thread, because the spool may hold records already."""
        self._wake_thread()

    def erase(self, user_id: str) -> None:
        """Do not send a user's records of until now that the dispatcher holds."""
        self._dispatcher.erase(user_id)

    def begin_flush(self) -> None:
        """Send without lingering, until `end_flush` has been called as often."""
        with self._lock:
            self._flush_count += 1
            self._dispatcher.schedule.flushing = True
        if self._queue.pending:
            self._wake_thread()

    def end_flush(self) -> None:
        """End what `begin_flush` has begun."""
        with self._lock:
            self._flush_count -= 1
            self._dispatcher.schedule.flushing = self._flush_count > 0

    def wait(self, deadline: float, *, inline_deadline: float) -> bool:
        """Wait until everything is delivered.

        Args:
            deadline: When to return, on the monotonic clock.
            inline_deadline: The same, where no thread can be started and the calling thread delivers.
        """
        if not self._queue.pending:
            return self._queue.join(deadline)  # at shutdown it also prevents further calls
        if not self._wake_thread():
            return self._run_inline(inline_deadline, wait_for_retries=True)
        return self._queue.join(deadline)

    def send_inline(self, deadline: float) -> None:
        """Send what is ready on the calling thread, because this process cannot run background threads."""
        self.begin_flush()
        try:
            self._run_inline(deadline, wait_for_retries=False)
        finally:
            self.end_flush()

    def begin_shutdown(self, deadline: float) -> None:
        """Send everything now, and start no call that would take longer than until the end of the process."""
        self._dispatcher.deadline = deadline
        self._queue.begin_shutdown()
        self.begin_flush()

    def close(self) -> int:
        """Stop, without waiting. Return the number of records that are lost."""
        with self._lock:
            self._stopped = True
            threadless = self._thread is None
        lost = self._queue.close()
        if threadless:
            self._senders.stop()
        else:
            self._wake.set()
        return lost

    def retire(self, on_retired: Callable[[], None]) -> None:
        """End the threads once everything is delivered. The lane accepts nothing after this.

        Args:
            on_retired: Called when nothing is left.
        """
        self._on_retired = on_retired
        self.begin_flush()
        if self._thread is not None:
            self._wake.set()
        elif not self._queue.pending:
            on_retired()

    def resume(self) -> None:
        """End a pause or a backoff, and send now."""
        self._dispatcher.resume()
        self._wake_thread()

    def stats(self) -> LaneStats:
        """Return a snapshot of the lane's counters."""
        return self._queue.snapshot(self._dispatcher.state)

    def dead_letters(self) -> list[DeadLetter]:
        """Return the lane's dead letters, oldest first."""
        return self._queue.dead_letters()

    def _wake_thread(self) -> bool:
        """Wake the thread, and start it if needed. Return False when no thread can be started."""
        if self._thread is None and not self._start():
            return False
        self._wake.set()
        return True

    def _start(self) -> bool:
        with self._lock:
            if self._thread is None and not self._stopped:
                # Set before it runs, because a signal handler may get here meanwhile.
                self._thread = threading.Thread(target=self._run, name=f"sessionsight-{self.name}", daemon=True)
                try:
                    self._wake.reset()
                    self._senders.start()
                    threads.start_in_empty_context(self._thread)
                except RuntimeError:
                    self._thread = None
                    return False
        return True

    def _run(self) -> None:
        while not self._stopped:
            wait = self._run_once()
            self._idle = wait > self._linger
            if self._idle and self._queue.depth()[0]:
                # A record arrived before the flag was set, so nobody has woken this thread.
                wait = self._run_once()
            if self._on_retired is not None and not self._queue.pending:
                break
            if not self._stopped:
                # Other processes that share a durable spool may deliver the rest, and nothing reports that here.
                self._wake.wait(wait if self._on_retired is None else min(wait, _RETIRED_INTERVAL))
            self._idle = False
        self._senders.stop()
        if self._on_retired is not None:
            self._on_retired()

    def _run_once(self) -> float:
        try:
            self._logger.flush_buffered()
            return self._dispatcher.run_once()
        except (Exception, SystemExit) as error:
            # A bug must not end the lane; the records that it concerns remain pending.
            self._logger.internal_error(error)
            return 1.0

    def _run_inline(self, deadline: float, *, wait_for_retries: bool) -> bool:
        """Do the thread's work until the lane is empty or the deadline is over, with or without waiting for retries."""
        if self._inline:  # a signal handler or a callback has captured something during this
            return False
        self._inline = True
        end, self._dispatcher.deadline = self._dispatcher.deadline, min(self._dispatcher.deadline, deadline)
        try:
            while True:
                wait = self._run_once()
                if not self._queue.pending:
                    return True
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not (wait_for_retries or self._senders.in_flight):
                    return False
                self._wake.wait(min(wait, remaining))
        finally:
            self._dispatcher.deadline = end
            self._inline = False
