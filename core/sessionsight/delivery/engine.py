"""The delivery engine of one process: the lanes of a client, and what they have in common.

A forked child gets a new engine and never touches the old one, whose locks another thread may have held at the fork.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING

from sessionsight.capture.interfaces import Batch, OpenScope
from sessionsight.capture.records import DropReason, QueuedRecord, Record
from sessionsight.delivery import lifecycle, threads
from sessionsight.delivery.console_transport import ConsoleTransport
from sessionsight.delivery.dispatch_thread import DispatchThread
from sessionsight.delivery.erasure import Erasure, erase_user
from sessionsight.delivery.flags import FlagService
from sessionsight.delivery.httpx_transport import HttpxTransport
from sessionsight.delivery.lane import Lane
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import Spool
from sessionsight.delivery.queue.factory import open_spool
from sessionsight.delivery.queue.priority import estimate_memory
from sessionsight.delivery.stats import LaneStats, RecordStatus
from sessionsight.delivery.stores.base import DeadLetter, LaneBatch
from sessionsight.delivery.transport import Transport
from sessionsight.delivery.waiters import DeliveryWaiter, WaiterTracker
from sessionsight.destinations.base import Destination
from sessionsight.destinations.console import Console
from sessionsight.event_loop import on_event_loop
from sessionsight.log import ThrottledLogger
from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext
from sessionsight.spool_url import is_durable
from sessionsight.workers import may_have_peers

if TYPE_CHECKING:
    from sessionsight.delivery.queue.encoding import Write

__all__ = ["Engine", "MakeTransport"]

# Of batches. A record may linger in its lane for longer, but a full call must not wait before that.
_MAX_LINGER = 0.05
# Seconds between checks if other processes have claimed records that a request waits for.
_RESOLVED_INTERVAL = 0.05
# Seconds until records of an open response are submitted.
_OPEN_INTERVAL = 0.5

MakeTransport = Callable[[Destination], Transport]


class Engine:
    """Owns the lanes of one client in one process, and passes submitted batches to them."""

    def __init__(
        self,
        destinations: Sequence[Destination],
        options: DeliveryOptions,
        logger: ThrottledLogger,
        make_transport: MakeTransport | None = None,
        spool: str = "memory",
    ) -> None:
        self.pid = os.getpid()
        self.logger = logger
        self.shutdown_timeout = options.shutdown_timeout
        self._flush_timeout = options.flush_timeout
        self._threadless = not threads.available()
        self._registered = False
        self._closed = False
        self._checked_keys = is_durable(spool)
        # Seconds for which captures may still wait for delivery, where the process may end by os._exit.
        self._wait_left = 0.0
        self._serves_one_request = False
        self._counts: Counter[str] = Counter()
        # Re-entrant: a signal handler or a finalizer may capture something while this thread holds it.
        self._counts_lock = threading.RLock()

        def transport(destination: Destination) -> Transport:
            if make_transport is not None:
                return make_transport(destination)
            if isinstance(destination, Console):
                return ConsoleTransport()
            return HttpxTransport.from_options(options, connections=destination.limits.concurrency)

        self._destinations = destinations
        self._create_transport = transport
        self._spool: Spool = open_spool(spool, options, logger)
        durable = self._spool.durable
        # Records that are not in a durable spool yet are lost with the process, so they do not linger.
        linger = 0.0 if durable else min(options.linger, _MAX_LINGER)
        self._thread = DispatchThread(
            self._process_batches,
            self._log_internal_error,
            linger=linger,
            blocking=durable,
            delivers=options.delivery == "background" or not durable,  # the spool of some forks is in memory
            tick=self._tick,
        )
        self._submit_queue = self._thread.queue
        self._lanes = {
            each.name: Lane(
                each,
                self._spool.lane(each.name),
                transport=transport(each),
                pool=self._thread.pool,
                call=self._thread.call,
                options=options,
                logger=logger,
                linger=options.linger - linger,
            )
            for each in destinations
        }
        self._thread.lanes = tuple(self._lanes.values())
        self.flags = FlagService(destinations, options, logger, make_transport)
        self._open: deque[OpenScope] = deque()
        self._waiters = WaiterTracker()
        for name in self._lanes:
            self._spool.lane(name).on_resolved = partial(self._waiters.resolve, name)

    @property
    def durable(self) -> bool:
        """True if queued records survive the process."""
        return self._spool.durable

    def submit(self, batch: Batch) -> None:
        """Enqueue the records of a request in every lane that accepts them.

        With a durable spool they are written when this returns; on an event loop, a thread writes them soon after.
        """
        if not self._lanes:
            return
        first = self._register()
        if isinstance(batch.waiter, DeliveryWaiter):
            self._waiters.batch_submitted(batch.waiter)
        if not self._spool.durable or on_event_loop():
            self._submit_queue.put(batch)
        else:
            if self._submit_queue.busy:
                # Batches that an event loop has submitted earlier are written first, and not in a transaction of the
                # current context.
                Context().run(self._submit_queue.drain)
            self._process_batches([batch])
        if first:
            self._serves_one_request = lifecycle.serves_one_request()
            # Other processes deliver what a job leaves in a durable spool; a server that forks for each request may be
            # the only process.
            if self._serves_one_request or (not self._spool.durable and lifecycle.may_skip_exit_handlers()):
                self._wait_left = self._flush_timeout
        if self._wait_left:
            self._wait_for_delivery(batch)
        if self._threadless:
            self._thread.send_inline(time.monotonic() + self._flush_timeout)

    def encode(self, batch: Batch) -> Write:
        """Return what a batch adds to a durable spool, for a transaction that writes it itself.

        Raises:
            UnencodableRecord: One of the records cannot be encoded.
        """
        if self._lanes:
            self._register()
        from sessionsight.delivery.queue.encoding import encode_batches  # only durable spools need it

        return encode_batches(self._lane_batches([batch]))

    def _register(self) -> bool:
        """Let the process deliver at its exit, and what a durable spool has. Return True at the first call."""
        if self._registered:
            return False
        self._registered = True
        lifecycle.register_engine(self)
        if self._spool.durable:
            for lane in self._lanes.values():
                lane.call()
        return True

    def _wait_for_delivery(self, batch: Batch) -> None:
        """Wait until captured records are delivered, because this process may end by `os._exit` right after.

        All such waits together take no longer than one `flush` may. A process that serves requests is a server, which
        shuts down gracefully.
        """
        if not (self._serves_one_request or isinstance(batch.context, TrackingContext)):
            self._wait_left = 0.0
        elif not on_event_loop() and not threading.current_thread().name.startswith("sessionsight-"):
            began = time.monotonic()
            self.flush(began + self._wait_left)
            self._wait_left = max(self._wait_left - (time.monotonic() - began), 0.0)
            if not self._wait_left:
                self.logger.log(
                    logging.WARNING,
                    "this process may end by os._exit, as forked children and RQ's jobs do, so each capture has waited "
                    f"for its delivery; after {self._flush_timeout:g} s in total they no longer wait. Call flush() "
                    "before the process ends, or capture within scope(flush=True)",
                    key="wait_left",
                )

    def submit_soon(self, scope: OpenScope) -> None:
        """Submit within a second the records that an open response has captured."""
        if self._lanes and not self._threadless:
            self._open.append(scope)
            self._thread.call_later(_OPEN_INTERVAL)

    def start(self) -> None:
        """Start delivery before anything is captured, because the spool may hold records of other processes."""
        if self._lanes and not self._threadless:
            self._register()

    def _process_batches(self, batches: Sequence[Batch]) -> None:
        """Enqueue the records of batches in the lanes. Each record is accounted for, whatever fails."""
        left = list(batches)
        waiters = [batch.waiter for batch in batches if isinstance(batch.waiter, DeliveryWaiter)]
        try:
            lane_batches = self._lane_batches(left)
            if waiters:
                self._waiters.track(left, lane_batches)
            rows = self._spool.enqueue(lane_batches)
            left.clear()  # the lanes account for them now
            if waiters and rows is not None:
                self._waiters.set_rows(lane_batches, rows)
                self._thread.call_later(_RESOLVED_INTERVAL)
            for lane_batch in lane_batches:
                self._lanes[lane_batch.lane].notify()
        except BaseException as error:
            self._log_internal_error(error, left)
            if not isinstance(error, Exception):
                raise
        finally:
            for waiter in waiters:
                self._waiters.batch_processed(waiter)

    def _lane_batches(self, batches: list[Batch]) -> list[LaneBatch]:
        """Return what each lane accepts of batches. A batch that fails is counted as lost and removed."""
        entries = self._resolve_contexts(batches)
        self._warn_about_keys(batches)
        selected = (lane.select(some, drop) for drop, some in entries.items() for lane in self._lanes.values())
        return [*filter(None, selected)]

    def new_waiter(self) -> DeliveryWaiter:
        """Return a waiter for the batches of one request, which may wait for `flush_timeout` in total."""
        return DeliveryWaiter(self._waiters, self._flush_timeout, self._process_submitted)

    def _process_submitted(self, deadline: float) -> None:
        """Enqueue submitted batches in the lanes; without threads, deliver them as well."""
        if self._threadless:
            self.flush(deadline)
        else:
            self._submit_queue.drain()

    def _tick(self) -> float | None:
        """Do periodic work on the dispatcher thread. Return the seconds until the next call, or None."""
        self._submit_open()
        # Other processes may have claimed records that requests wait for.
        waiting = self._waiters.rows()
        for name, rows in waiting.items():
            self._waiters.resolve_rows(name, rows.difference(self._spool.lane(name).owned_or_ready([*rows])))
        return _RESOLVED_INTERVAL if waiting else None

    def _submit_open(self) -> None:
        """Submit the records of open responses. An error in one does not affect the others."""
        for _ in range(len(self._open)):
            with suppress(IndexError):  # another thread has removed it
                scope = self._open.popleft()
                try:
                    scope.submit_pending()
                except Exception as error:
                    self._log_internal_error(error)

    def _warn_about_keys(self, batches: Sequence[Batch]) -> None:
        """At the first record with a key, warn if other workers do not see that key."""
        if self._checked_keys or not any(record.key is not None for batch in batches for record in batch.records):
            return
        self._checked_keys = True
        if may_have_peers():
            self.logger.log(
                logging.WARNING,
                "key= counts within this process only, which may be one of several workers: a repeat that another one "
                "serves is delivered again; set a durable spool, such as sqlite:////var/lib/shop/analytics.db",
            )

    def _resolve_contexts(self, batches: list[Batch]) -> dict[DropReason | None, list[QueuedRecord]]:
        """Resolve contexts, and group entries by drop reason. A batch that fails is counted as lost and removed."""
        now = time.time()
        entries: dict[DropReason | None, list[QueuedRecord]] = {}
        for batch in batches.copy():
            try:
                context, drop = batch.resolve()
                distinct_id = context.signal.distinct_id
                if distinct_id is not None and context.user_id is not None and distinct_id != context.user_id:
                    self.increment("mismatched")
                some = entries.setdefault(drop, [])
                own = context  # counted with the first record
                for record in batch.records:
                    some.append(QueuedRecord(record, context, now, memory=estimate_memory(record, own)))
                    own = EMPTY_CONTEXT
            except Exception as error:
                batches.remove(batch)
                self._log_internal_error(error, [batch])
        return entries

    def _log_internal_error(self, error: BaseException, lost: Sequence[Batch] = ()) -> None:
        number = sum(len(batch.records) for batch in lost)
        self.increment("rejected", number)
        message = f"internal error, {type(error).__name__}: {error}; {number} records are lost"
        self.logger.log(logging.ERROR, message, key="submit_queue")

    def flush(self, deadline: float) -> bool:
        """Wait until every lane is empty, or until the deadline on the monotonic clock."""
        self._submit_queue.drain()
        return self._thread.flush(deadline)

    def begin_shutdown(self, deadline: float) -> None:
        """Make every lane send its records until the deadline; does not wait."""
        self._submit_open()
        self._submit_queue.drain()
        for lane in self._lanes.values():
            lane.begin_shutdown(deadline)
            if self._thread.running:
                lane.call()

    def finish_shutdown(self, deadline: float) -> bool:
        """Deliver until the deadline, then stop. Return True if nothing was lost."""
        if not self._closed:  # otherwise nothing can be delivered, although others may have left records
            self.flush(deadline)
        lost = {name: number for name, number in self.close().items() if number}
        if lost:
            details = ", ".join(f"{number} for {name}" for name, number in lost.items())
            self.logger.log(logging.WARNING, f"shutdown: records were lost that could not be delivered: {details}")
        return not lost

    def retire(self) -> None:
        """End all threads once everything is delivered, because the client has been garbage-collected.

        Safe in finalizers, because it does not wait.
        """
        if self._closed or self.pid != os.getpid():
            return
        if self._registered or self._thread.running:
            self._thread.retire(self.close)
        else:
            self._spool.close()  # reading statistics has opened it

    def close(self) -> dict[str, int]:
        """Stop all lanes, without waiting. Return the number of records that each has lost."""
        self._closed = True
        lifecycle.unregister_engine(self)
        self._thread.stop()
        self._submit_queue.drain()
        lost = {name: lane.close() for name, lane in self._lanes.items()}
        self._waiters.resolve_all()
        self._spool.close()
        return lost

    def resume(self, name: str | None = None) -> None:
        """End the pause or backoff of one lane, or of all."""
        for lane in self._lanes.values() if name is None else [self._lanes[name]]:
            lane.resume()

    def increment(self, counter: str, number: int = 1) -> None:
        """Increment a counter that is not specific to a lane."""
        with self._counts_lock:
            self._counts[counter] += number

    def counts(self) -> Counter[str]:
        """Return the counters of `increment`."""
        self._submit_queue.drain()
        with self._counts_lock:
            return self._counts.copy()

    def stats(self) -> dict[str, LaneStats]:
        """Return a snapshot of each lane's counters."""
        self._submit_queue.drain()
        return {name: lane.stats() for name, lane in self._lanes.items()}

    def status(self, record: Record) -> dict[str, RecordStatus]:
        """Return what each lane that the record goes to knows of it."""
        self._submit_queue.drain()
        lanes = [name for name, lane in self._lanes.items() if lane.accepts(record)]
        return {name: self._spool.status(name, record.random) for name in lanes}

    def erase(self, user_id: str, timeout: float) -> list[Erasure]:
        """Erase a user in each lane and at its vendor."""
        self._submit_queue.drain()
        for lane in self._lanes.values():
            lane.erase(user_id)
        return [
            erase_user(destination, self._spool, self._create_transport, user_id, timeout)
            for destination in self._destinations
        ]

    def dead_letters(self) -> list[DeadLetter]:
        """Return the dead letters of all lanes."""
        return [letter for lane in self._lanes.values() for letter in lane.dead_letters()]
