"""Everything that belongs to one process: the lanes of a client and what they share.

A forked child gets a new engine and never touches the old one, whose locks another thread may
have held at the fork.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from sessionsight.capture.interfaces import Batch, OpenScope
from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery import lifecycle, threads
from sessionsight.delivery.console import ConsoleTransport
from sessionsight.delivery.lane import Lane
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import DeadLetter, LaneBatch, Spool
from sessionsight.delivery.queue.factory import is_durable, open_spool
from sessionsight.delivery.receipts import DeliveryReceipt, ReceiptTracker
from sessionsight.delivery.stats import LaneStats
from sessionsight.delivery.submit_queue import Intake
from sessionsight.delivery.transport import HttpxTransport, Transport
from sessionsight.delivery.workers import may_have_peers
from sessionsight.destinations.base import Destination
from sessionsight.event_loop import on_event_loop
from sessionsight.log import ThrottledLogger
from sessionsight.request.context import TrackingContext

__all__ = ["Engine", "MakeTransport"]

# A record may linger in its lane for much longer, but a full batch must not wait for that before it gets there.
_LONGEST_PAUSE = 0.02
# Between checks of what other processes have taken of records that a request waits for.
_SETTLED_INTERVAL = 0.05
# Seconds until what an open response has captured is submitted.
_OPEN_INTERVAL = 0.5

MakeTransport = Callable[[Destination], Transport]


class Engine:
    """The lanes of one client in one process."""

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
        self._alone = not threads.run()
        self._kept = False
        self._retired = 0
        self._closed = False
        self._looked_at_keys = is_durable(spool)
        # Seconds for which captures may still wait for delivery, where the process may end without a word.
        self._patience = 0.0
        self._serves_one_request = False
        self._counts: Counter[str] = Counter()
        # Re-entrant: a signal handler or a finalizer may capture something while this thread is counting.
        self._counting = threading.RLock()

        def transport(destination: Destination) -> Transport:
            if make_transport is not None:
                return make_transport(destination)
            if destination.limits.via == "console":
                return ConsoleTransport()
            return HttpxTransport(
                connections=destination.limits.concurrency,
                proxy=options.proxy,
                ca_bundle=options.ca_bundle,
                trust_env=options.trust_env,
                max_response_bytes=options.max_response_bytes,
            )

        self._spool: Spool = open_spool(spool, options, logger)
        durable = self._spool.durable
        # What waits for a durable spool is lost with the process, so it does not linger there.
        pause = 0.0 if durable else min(options.linger, _LONGEST_PAUSE)
        self._intake = Intake(self._take, self._fault, pause=pause, blocking=durable, tick=self._tick)
        self._lanes = {
            destination.name: Lane(
                destination,
                self._spool.lane(destination.name),
                transport(destination),
                options,
                logger,
            )
            for destination in destinations
        }
        self._open: deque[OpenScope] = deque()
        self._receipts = ReceiptTracker()
        for name in self._lanes:
            self._spool.lane(name).on_resolved = partial(self._receipts.settled, name)

    @property
    def durable(self) -> bool:
        """Whether what waits survives the process."""
        return self._spool.durable

    def submit(self, batch: Batch) -> None:
        """Take in the records of a request, for every lane that has a place for them.

        With a durable spool they are written when this returns, but on an event loop, where a thread writes them soon.
        """
        if not self._lanes:
            return
        first = not self._kept
        if first:
            self._kept = True
            lifecycle.keep(self)
        if isinstance(batch.receipt, DeliveryReceipt):
            self._receipts.submitted(batch.receipt)
        if not self._spool.durable or on_event_loop():
            self._intake.put(batch)
        else:
            if self._intake.busy:
                self._intake.drain()  # what an event loop has put in before is written before this
            self._take([batch])
        if first and self._spool.durable:
            self._start_lanes()
        if first:
            self._serves_one_request = lifecycle.serves_one_request()
            # A durable spool keeps the records of a job for others; a server that forks for each request may be alone.
            if self._serves_one_request or (not self._spool.durable and lifecycle.ends_silently()):
                self._patience = self._flush_timeout
        if self._patience:
            self._wait_a_while(batch)
        if self._alone:
            for lane, fair in self._shares(time.monotonic() + self._flush_timeout):
                lane.send_here(fair)

    def _wait_a_while(self, batch: Batch) -> None:
        """Wait until what was captured is delivered, since this process may end by `os._exit` right after.

        All such waits together take no longer than one `flush` may. A process that serves requests is a server, which
        stops in an orderly way.
        """
        if not (self._serves_one_request or isinstance(batch.context, TrackingContext)):
            self._patience = 0.0
        elif not on_event_loop() and not threading.current_thread().name.startswith("sessionsight-"):
            began = time.monotonic()
            self.flush(began + self._patience)
            self._patience = max(self._patience - (time.monotonic() - began), 0.0)
            if not self._patience:
                self.logger.log(
                    logging.WARNING,
                    "this process may end by os._exit, as forked children and RQ's jobs do, so each capture has waited "
                    f"for its delivery; after {self._flush_timeout:g} s in all they wait no more. Call flush() before "
                    "the process ends, or capture within scope(flush=True)",
                    key="patience",
                )

    def watch(self, scope: OpenScope) -> None:
        """Submit within a second what an open response has captured."""
        if self._lanes and not self._alone:
            self._open.append(scope)
            if not self._intake.ticks:
                self._intake.call_later(_OPEN_INTERVAL)

    def start(self) -> None:
        """Deliver what others may have left, where threads run, though nothing has been captured here yet."""
        if self._lanes and not self._kept and not self._alone:
            self._kept = True
            lifecycle.keep(self)
            self._start_lanes()

    def _start_lanes(self) -> None:
        """Others may have left something in any lane."""
        for lane in self._lanes.values():
            lane.start()

    def _take(self, batches: Sequence[Batch]) -> None:
        """Give each lane its share. Whatever goes wrong, each record is accounted for."""
        left = list(batches)
        receipts = [batch.receipt for batch in batches if isinstance(batch.receipt, DeliveryReceipt)]
        try:
            entries = self._settle(left)
            if not self._looked_at_keys:
                self._look_at_keys(left)
            shares = [
                share
                for drop, some in entries.items()
                for lane in self._lanes.values()
                if (share := lane.share_of(some, drop)) is not None
            ]
            if receipts:
                self._expect(left, shares)
            rows = self._spool.enqueue(shares)
            left.clear()  # from here on they are in the lanes' ledgers
            if receipts and rows is not None:
                for share in shares:
                    self._receipts.located(share.lane, share.entries, rows)
                self._intake.call_later(_SETTLED_INTERVAL)
            for share in shares:
                self._lanes[share.lane].notice()
        except BaseException as error:
            self._fault(error, left)
            if not isinstance(error, Exception):
                raise
        finally:
            for receipt in receipts:
                self._receipts.entered(receipt)

    def _expect(self, batches: Sequence[Batch], shares: Sequence[LaneBatch]) -> None:
        """Wait for what the lanes take of the batches that have a receipt."""
        receipts = {
            record.random: batch.receipt
            for batch in batches
            if isinstance(batch.receipt, DeliveryReceipt)
            for record in batch.records
        }
        for share in shares:
            self._receipts.expect(share.lane, share.entries, receipts)

    def new_receipt(self) -> DeliveryReceipt:
        """A receipt for the batches of one request, which may wait for `flush_timeout` in all."""
        return DeliveryReceipt(self._receipts, self._flush_timeout, self._process)

    def _process(self, deadline: float) -> None:
        """Pass on what was submitted; where no thread delivers it, deliver it as well."""
        if self._alone:
            self.flush(deadline)
        else:
            self._intake.drain()

    def _tick(self) -> float | None:
        """Do what has to be done now and then, on the intake's thread. Returns when to do it again, in seconds."""
        self._submit_open()
        # Which of the records that requests wait for have been taken over by other processes?
        waiting = self._receipts.rows()
        for name, rows in waiting.items():
            self._receipts.gone(name, rows.difference(self._spool.lane(name).owned_or_ready([*rows])))
        return _SETTLED_INTERVAL if waiting else None

    def _submit_open(self) -> None:
        """Submit what open responses have captured. One that fails keeps the others from nothing."""
        for _ in range(len(self._open)):
            with suppress(IndexError):  # another thread was quicker
                scope = self._open.popleft()
                try:
                    scope.submit_pending()
                except Exception as error:
                    self._fault(error)

    def _look_at_keys(self, batches: Sequence[Batch]) -> None:
        """At the first record with a key, say so if other workers will not know of it."""
        if not any(record.key is not None for batch in batches for record in batch.records):
            return
        self._looked_at_keys = True
        if may_have_peers():
            self.logger.log(
                logging.WARNING,
                "key= counts within this process only, which may be one of several workers: a repeat that another one "
                "serves is delivered again; set a durable spool, such as sqlite:////var/lib/shop/analytics.db",
            )

    def _settle(self, batches: list[Batch]) -> dict[DropReason | None, list[QueuedRecord]]:
        """Work out contexts. A batch that has none is counted as lost, and taken out of the list."""
        now = time.time()
        entries: dict[DropReason | None, list[QueuedRecord]] = {}
        for batch in batches.copy():
            try:
                context, drop = batch.resolve()
                distinct_id = context.signal.distinct_id
                if distinct_id is not None and context.user_id is not None and distinct_id != context.user_id:
                    self.count("mismatched")
                entries.setdefault(drop, []).extend([QueuedRecord(record, context, now) for record in batch.records])
            except Exception as error:
                batches.remove(batch)
                self._fault(error, [batch])
        return entries

    def _fault(self, error: BaseException, lost: Sequence[Batch] = ()) -> None:
        number = sum(len(batch.records) for batch in lost)
        self.count("rejected", number)
        message = f"internal error, {type(error).__name__}: {error}; {number} records are lost"
        self.logger.log(logging.ERROR, message, key="intake")

    def flush(self, deadline: float) -> bool:
        """Wait until every lane is empty, or until the deadline on the monotonic clock."""
        self._intake.drain()
        lanes = list(self._lanes.values())
        for lane in lanes:
            lane.hurry()
        try:
            empty = True
            for lane, fair in self._shares(deadline):
                empty &= lane.wait(deadline, fair=fair)
            return empty
        finally:
            for lane in lanes:
                lane.relax()

    def begin_shutdown(self, deadline: float) -> None:
        """Let every lane send what it has, in what time is left."""
        self._submit_open()
        self._intake.drain()
        for lane in self._lanes.values():
            lane.end_by(deadline)

    def finish_shutdown(self, deadline: float) -> bool:
        """Deliver what can be delivered until the deadline, then stop. Returns whether nothing was lost."""
        self.flush(deadline)
        lost = {name: number for name, number in self.close().items() if number}
        if lost:
            details = ", ".join(f"{number} for {name}" for name, number in lost.items())
            self.logger.log(logging.WARNING, f"shutdown: records were lost that could not be delivered: {details}")
        return not lost

    def retire(self) -> None:
        """End all threads once everything is delivered: nobody can reach the client any more.

        Safe in finalizers: nothing is waited for.
        """
        if self._kept and not self._closed and self.pid == os.getpid():
            self._intake.retire(self._retire_lanes)

    def _retire_lanes(self) -> None:
        for lane in self._lanes.values():
            lane.retire(self._lane_retired)

    def _lane_retired(self) -> None:
        with self._counting:
            self._retired += 1
            last = self._retired == len(self._lanes)
        if last:
            self.close()

    def close(self) -> dict[str, int]:
        """Stop all lanes, without waiting. Returns what each has lost by that."""
        self._closed = True
        lifecycle.release(self)
        self._intake.stop()
        lost = {name: lane.close() for name, lane in self._lanes.items()}
        self._receipts.forget_all()
        self._spool.close()
        return lost

    def _shares(self, deadline: float) -> Iterator[tuple[Lane, float]]:
        """Each lane in its turn, with its share of the time that is left then."""
        lanes = list(self._lanes.values())
        for left, lane in zip(range(len(lanes), 0, -1), lanes, strict=True):
            now = time.monotonic()
            yield lane, now + (deadline - now) / left

    def resume(self, name: str | None = None) -> None:
        """Let one lane, or all, try again at once."""
        for lane in self._lanes.values() if name is None else [self._lanes[name]]:
            lane.resume()

    def count(self, what: str, number: int = 1) -> None:
        """Count something that belongs to no lane."""
        with self._counting:
            self._counts[what] += number

    def counts(self) -> Counter[str]:
        """What `count` has counted."""
        self._intake.drain()
        with self._counting:
            return self._counts.copy()

    def stats(self) -> dict[str, LaneStats]:
        """The ledger of each lane."""
        self._intake.drain()
        return {name: lane.stats() for name, lane in self._lanes.items()}

    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters of all lanes."""
        return [letter for lane in self._lanes.values() for letter in lane.dead_letters()]
