"""A lane: the queue, the dispatcher and the calls in flight of one destination."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from sessionsight.capture.records import DropReason, QueuedRecord, Record
from sessionsight.delivery.dispatcher import Dispatcher
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import LaneQueue
from sessionsight.delivery.sender_pool import Sender, SenderPool
from sessionsight.delivery.stats import LaneStats
from sessionsight.delivery.stores.base import DeadLetter, LaneBatch
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


class Lane:
    """Delivers entries to one destination. The dispatcher thread of the client runs it.

    Args:
        destination: The vendor.
        queue: Its queue in the client's spool.
        transport: Sends the calls.
        pool: Threads on which they are sent.
        call: Makes the dispatcher thread run the lane soon. Returns False if no thread can be started.
        options: Time limits and callbacks.
        logger: For the lane's problems.
        linger: Seconds that a ready record may wait for others to share its call.
    """

    def __init__(
        self,
        destination: Destination,
        queue: LaneQueue,
        *,
        transport: Transport,
        pool: SenderPool,
        call: Callable[[Lane], bool],
        options: DeliveryOptions,
        logger: ThrottledLogger,
        linger: float,
    ) -> None:
        self.name = destination.name
        self._destination = destination
        self._linger = linger
        self._max_records = destination.limits.max_records
        self._logger = LaneLogger(self.name, logger)
        self._queue = queue
        self._call = call
        self._sender = Sender(transport, pool, self.call, gzip_above=destination.limits.gzip_above)
        self._dispatcher = Dispatcher(destination, queue, self._sender, options, self._logger, linger=linger)
        # Re-entrant, as the queue's lock is.
        self._lock = threading.RLock()
        self.due = float("inf")
        """When to run it at the latest, on the monotonic clock."""
        self.called = False
        """True while it is called and does not run yet. Only `call` and the dispatcher thread change it."""
        self._idle = True
        """True while it is not due soon, so that a new record must call it."""
        self._flush_count = 0
        self._inline = False

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
        """Report that records were enqueued in the lane's queue."""
        # During the linger the lane runs by itself.
        if self._idle or self._queue.depth()[0] >= self._max_records:
            self.call()

    def call(self) -> bool:
        """Make the dispatcher thread run the lane soon. Return False if no thread can be started."""
        return self._call(self)

    def run(self) -> float:
        """Do what can be done now. Return when the lane is due again, on the monotonic clock."""
        self._idle = False
        wait = self._run_once()
        self._idle = wait > self._linger
        if self._idle and self._queue.depth()[0]:
            # A record arrived before the flag was set, so nobody has called.
            wait = self._run_once()
        self.due = time.monotonic() + wait
        return self.due

    def erase(self, user_id: str) -> None:
        """Do not send a user's records of until now that the dispatcher holds."""
        self._dispatcher.erase(user_id)

    def run_inline(self, deadline: float, sleep: Callable[[float], object], *, wait_for_retries: bool) -> bool:
        """Send on the calling thread, because this process cannot run background threads.

        Args:
            deadline: When to return at the latest, on the monotonic clock.
            sleep: Blocks for some seconds, or until the lane is called.
            wait_for_retries: Also wait until failed calls can be repeated.

        Returns:
            True if no record is left.
        """
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
                if remaining <= 0 or not (wait_for_retries or self._sender.in_flight):
                    return False
                sleep(min(wait, remaining))
        finally:
            self._dispatcher.deadline = end
            self._inline = False

    @property
    def pending(self) -> int:
        """The number of this process's entries that are not resolved."""
        return self._queue.pending

    @property
    def in_flight(self) -> int:
        """The number of this process's records in flight."""
        return sum(len(job.entries) for job, _ in [*self._dispatcher._in_flight.values()])

    def begin_flush(self) -> None:
        """Send without lingering, until `end_flush` has been called as often."""
        with self._lock:
            self._flush_count += 1
            self._dispatcher.schedule.flushing = True

    def end_flush(self) -> None:
        """End what `begin_flush` has begun."""
        with self._lock:
            self._flush_count -= 1
            self._dispatcher.schedule.flushing = self._flush_count > 0

    def join(self, deadline: float) -> bool:
        """Wait until everything is delivered, or until the deadline on the monotonic clock."""
        return self._queue.join(deadline)

    def begin_shutdown(self, deadline: float) -> None:
        """Send everything now, and start no call that would take longer than until the end of the process."""
        self._dispatcher.deadline = deadline
        self._queue.begin_shutdown()
        self.begin_flush()

    def close(self) -> int:
        """Accept no more records, without waiting. Return the number of records that are lost."""
        return self._queue.close()

    def close_connections(self) -> None:
        """Shut down the connections. Calls in flight are aborted."""
        self._sender.close()

    def resume(self) -> None:
        """End a pause or a backoff, and send now."""
        self._dispatcher.resume()
        self.call()

    def stats(self) -> LaneStats:
        """Return a snapshot of the lane's counters."""
        return self._queue.snapshot(self._dispatcher.state)

    def dead_letters(self) -> list[DeadLetter]:
        """Return the lane's dead letters, oldest first."""
        return self._queue.dead_letters()

    def _run_once(self) -> float:
        try:
            self._logger.flush_buffered()
            return self._dispatcher.run_once()
        except (Exception, SystemExit) as error:
            # A bug must not end the lane; the records that it concerns remain pending.
            self._logger.internal_error(error)
            return 1.0
