"""One destination's own way through delivery, on a thread of its own: no vendor delays another."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery import threads
from sessionsight.delivery.dispatcher import Dispatcher
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import DeadLetter, LaneBatch, LaneQueue
from sessionsight.delivery.reports import Reports
from sessionsight.delivery.sender_pool import Senders
from sessionsight.delivery.stats import LaneStats
from sessionsight.delivery.transport import Transport
from sessionsight.delivery.wake_event import Wake
from sessionsight.destinations.base import Destination
from sessionsight.log import ThrottledLogger

__all__ = ["Lane"]

_REMEDIES = {
    DropReason.NO_SESSION: "no session id: is SessionSight's browser script on the page, and does the request "
    "carry its ss_sid cookie? Elsewhere give session_id=, or bind a context",
    DropReason.NO_IDENTITY: "nobody to attribute them to: give user_id= or anonymous_id= (not empty), "
    "call identify(), or let the browser send its ids",
}

# Seconds between two looks whether anything is left, once nobody holds the client.
_RETIRED_LOOK = 1.0


class Lane:
    """Takes entries from any thread, at once, and delivers them from its own.

    The thread is started by the first entry, so that a process that is forked before has none.
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
        self._logger = logger
        self._reports = Reports(self.name, options, logger)
        self._queue = queue
        self._wake = Wake()
        self._senders = Senders(transport, name=f"sessionsight-{self.name}", wake=self._wake)
        self._dispatcher = Dispatcher(destination, self._queue, self._senders, options, logger)
        self._thread: threading.Thread | None = None
        # Re-entrant, as the queue's lock is.
        self._lock = threading.RLock()
        self._idle = True
        self._stopped = False
        self._flushers = 0
        self._here = False
        self._then: Callable[[], None] | None = None

    def share_of(self, entries: Sequence[QueuedRecord], drop: DropReason | None = None) -> LaneBatch | None:
        """Those of the entries that this destination has a place for; None when there is none.

        Args:
            entries: Records with their context.
            drop: Count them as dropped for this reason instead.
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
            except Exception as error:  # a destination of the user's; its build_requests() will have to cope
                self._reports.log(
                    logging.ERROR, f"the destination failed with {type(error).__name__}: {error}", key="drop_reason"
                )
                reason = drop
            if reason is None:
                accepted.append(entry)
            else:
                dropped.append(reason)
                if remedy := _REMEDIES.get(reason):
                    message = f"{record.kind} {record.label!r} skipped, {remedy}"
                    self._reports.log(logging.WARNING, message, key=reason)
        return LaneBatch(self.name, accepted, dropped) if accepted or dropped else None

    def notice(self) -> None:
        """Something has been entered in the lane's queue."""
        # During the linger the thread wakes by itself; it is called only from a longer sleep.
        if self._thread is None or self._idle or self._queue.depth()[0] >= self._max_records:
            self._call()

    def start(self) -> None:
        """Look after what may wait already."""
        self._call()

    def hurry(self) -> None:
        """Send without waiting for company, until as many calls of `relax`."""
        with self._lock:
            self._flushers += 1
            self._dispatcher.agenda.hurry = True
        if self._queue.pending:
            self._call()

    def relax(self) -> None:
        """The opposite of `hurry`."""
        with self._lock:
            self._flushers -= 1
            self._dispatcher.agenda.hurry = self._flushers > 0

    def wait(self, deadline: float, *, fair: float) -> bool:
        """Wait until everything is delivered.

        Args:
            deadline: When to give up, on the monotonic clock.
            fair: The same, where no thread can be started and the caller's own has to do it.
        """
        if not self._queue.pending:
            return True
        if not self._call():
            return self._deliver_here(fair, patient=True)
        return self._queue.join(deadline)

    def send_here(self, deadline: float) -> None:
        """Send on the caller's thread what can be sent at once, for no thread of the lane's would run."""
        self.hurry()
        try:
            self._deliver_here(deadline, patient=False)
        finally:
            self.relax()

    def end_by(self, deadline: float) -> None:
        """The process ends at this time: send everything now, and nothing that would take longer."""
        self._dispatcher.deadline = deadline
        self._queue.begin_shutdown()
        self.hurry()

    def close(self) -> int:
        """Stop, without waiting. Returns how many records are lost by that."""
        with self._lock:
            self._stopped = True
            alone = self._thread is None
        lost = self._queue.close()
        if alone:
            self._senders.stop()
        else:
            self._wake.set()
        return lost

    def retire(self, then: Callable[[], None]) -> None:
        """End the threads once everything is delivered; nothing will be taken in any more.

        Args:
            then: Called when nothing is left.
        """
        self._then = then
        self.hurry()
        if self._thread is not None:
            self._wake.set()
        elif not self._queue.pending:
            then()

    def resume(self) -> None:
        """Try again at once after a pause or failures."""
        self._dispatcher.resume()
        self._call()

    def stats(self) -> LaneStats:
        """The lane's ledger now."""
        return self._queue.snapshot(self._dispatcher.state)

    def dead_letters(self) -> list[DeadLetter]:
        """The lane's dead letters, oldest first."""
        return self._queue.dead_letters()

    def _call(self) -> bool:
        """Wake the thread, starting it if need be. False when no thread can be started."""
        if self._thread is None and not self._start():
            return False
        self._wake.set()
        return True

    def _start(self) -> bool:
        with self._lock:
            if self._thread is None and not self._stopped:
                # Set before it runs, for whoever comes here again meanwhile.
                self._thread = threading.Thread(target=self._run, name=f"sessionsight-{self.name}", daemon=True)
                try:
                    self._wake.renew()
                    self._senders.prepare()
                    threads.start(self._thread)
                except RuntimeError:
                    self._thread = None
                    return False
        return True

    def _run(self) -> None:
        while not self._stopped:
            wait = self._turn()
            self._idle = wait > self._linger
            if self._idle and self._queue.depth()[0]:
                # Something came in between; the flag was not up yet, so nobody called.
                wait = self._turn()
            if self._then is not None and not self._queue.pending:
                break
            if not self._stopped:
                # Others who share a durable spool may deliver the last of it without a word.
                self._wake.wait(wait if self._then is None else min(wait, _RETIRED_LOOK))
            self._idle = False
        self._senders.stop()
        if self._then is not None:
            self._then()

    def _turn(self) -> float:
        try:
            self._logger.flush_buffered()
            return self._dispatcher.turn()
        except (Exception, SystemExit) as error:
            # A fault of ours must not end the lane; what was in hand stays pending in the ledger.
            self._reports.fault(error)
            return 1.0

    def _deliver_here(self, deadline: float, *, patient: bool) -> bool:
        """Do the thread's work until the lane is empty, or until the deadline; if not patient, without any pause."""
        if self._here:  # a signal handler, or a function of the user's, has captured something in the midst of it
            return False
        self._here = True
        end, self._dispatcher.deadline = self._dispatcher.deadline, min(self._dispatcher.deadline, deadline)
        try:
            while True:
                wait = self._turn()
                if not self._queue.pending:
                    return True
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not (patient or self._senders.in_flight):
                    return False
                self._wake.wait(min(wait, remaining))
        finally:
            self._dispatcher.deadline = end
            self._here = False
