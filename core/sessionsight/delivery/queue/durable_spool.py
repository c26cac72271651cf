"""A spool whose records are in a store, or in memory while the store cannot be used."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from weakref import WeakSet

import msgspec
from msgspec.structs import replace

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.codec import decode_entry
from sessionsight.delivery.queue.durable import BUSY_TIMEOUT, DurableLaneQueue
from sessionsight.delivery.queue.encoding import Write, decode_claims, encode_batches, encode_outcomes
from sessionsight.delivery.queue.priority import estimate_memory
from sessionsight.delivery.stats import RecordStatus
from sessionsight.delivery.stores.base import MAX_TAKEOVERS, DeadLetter, DeadLetterQuery, Failure, LaneBatch, Store
from sessionsight.delivery.stores.errors import (
    AnswerLost,
    ReentrantCall,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UnencodableRecord,
)
from sessionsight.log import ThrottledLogger
from sessionsight.test_mode import test_mode

__all__ = ["DurableSpool"]

# Seconds for which requests do not try to write after one of them has failed to.
_COOL_DOWN = 1.0
# Seconds between two maintenance runs, at least: then records of other processes are noticed.
_MAINTAIN_EVERY = 2.0
# Seconds until the next attempt while something is in memory that should be in the store.
_RETRY_AFTER = 0.1
_RETRY_UNAVAILABLE_AFTER, _RETRY_UNAVAILABLE_MAX = 1.0, 8.0
# Seconds between two checks for records of other processes, which double while there are none, up to the second value.
_POLL_EVERY, _POLL_IDLE = 0.05, 5.0

_INTERRUPTED = Failure(reason="unknown", message="the process ended before it received the vendor's reply", attempts=1)
_POISON = Failure(
    reason="internal_error",
    message=f"{MAX_TAKEOVERS} processes ended without notice while they handled this record",
    attempts=MAX_TAKEOVERS,
)

_open_spools: WeakSet[DurableSpool] = WeakSet()


class DurableSpool:
    """A `Spool` over a store. Records of finished requests outlive the process.

    Records are accepted even if the store cannot be used: they wait in memory until it can.

    Args:
        store: The store, of this process.
        options: Bounds and time limits.
        logger: For errors of the store.
        clock: The time of maintenance and retries.
    """

    durable = True
    queue_class: type[DurableLaneQueue] = DurableLaneQueue

    def __init__(self, store: Store, options: DeliveryOptions, logger: ThrottledLogger, *, clock: Clock = time) -> None:
        self.store = store
        self.options = options
        self.logger = logger
        self.clock = clock
        self.maintained = False
        """True once this process has recovered abandoned records."""
        self._pid = os.getpid()
        self._lanes: dict[str, DurableLaneQueue] = {}
        self._maintaining = threading.Lock()
        self._next_maintenance = self._cool_down_until = 0.0
        self.polls = False
        """Check for records of other processes also between two maintenance runs."""
        self._poll_interval, self._next_poll = _POLL_EVERY, float("inf")
        self.outage = 0
        """The number of maintenance runs since the store could be used last; 0 if it can be used."""
        self._last_error = StoreError()
        # Writes that may be in the store or not. They are repeated, and none of their records is sent before that.
        self._unconfirmed: list[Write] = []
        self._closed = False
        # Tests create a client for each value of a setting, and none of these delivers anything.
        if not test_mode.suppressed and any(self._shares_store_with(other) for other in _open_spools):
            logger.log(
                logging.WARNING,
                f"spool {store.name}: two clients of this process share it, so each may deliver the other's records "
                "with its own keys; use one client for both, or give each a spool of its own",
                key="shared",
            )
        _open_spools.add(self)

    def lane(self, lane: str) -> DurableLaneQueue:
        """Return the queue of a lane."""
        queue = self._lanes.get(lane)
        return queue or self._lanes.setdefault(lane, self.queue_class(lane, self))

    # --- records ---------------------------------------------------------------------------------

    def enqueue(self, batches: Sequence[LaneBatch]) -> Mapping[tuple[str, bytes], int] | None:
        """Add records to all lanes in the store, or in memory if that fails within `spool_timeout`."""
        if not batches:
            return None
        for batch in batches:
            self.lane(batch.lane)
        try:
            # A record of an open transaction must not get to memory, which a rollback does not reach.
            if self.clock.monotonic() < self._cool_down_until and not self.store.joins:
                raise type(self._last_error)(*self._last_error.args)  # without the traceback
            return self._write(encode_batches(batches), timeout=self.options.spool_timeout)
        except StoreError as error:
            self._enqueue_in_fallback(batches, error)
            return None

    def enqueue_from_fallback(self, lane: str, entries: Sequence[QueuedRecord]) -> None:
        """Add records to the store that have waited in memory.

        Raises:
            StoreError: The store still cannot be written.
        """
        self._write(encode_batches([LaneBatch(lane, entries)], bypassed=True), timeout=BUSY_TIMEOUT)

    def import_fallback_counts(self, lane: str, counts: Counter[str], dead_letters: Sequence[DeadLetter]) -> None:
        """Add the counts and dead letters of entries to the store that were resolved in memory.

        Raises:
            StoreError: The store still cannot be written.
        """
        self._write(encode_outcomes(lane, counts, dead_letters), timeout=BUSY_TIMEOUT)

    def enqueue_again(self, lane: str, entries: Sequence[QueuedRecord]) -> None:
        """Add records of a replaced store to the current one, or in memory if that fails."""
        if not entries:
            return
        moved = [replace(one, handle=0, memory=estimate_memory(one.record, one.context)) for one in entries]
        batches = [LaneBatch(lane, moved)]
        try:
            self._write(encode_batches(batches), timeout=BUSY_TIMEOUT)
        except StoreError as error:
            self._enqueue_in_fallback(batches, error)

    def unconfirmed(self, lane: str) -> Counter[str]:
        """Return what writes add to a lane's counters that may be in the store or not."""
        if not self._unconfirmed:  # each capture asks
            return Counter()
        return sum((write.lane_counts(lane) for write in list(self._unconfirmed)), Counter[str]())

    def status(self, lane: str, random: bytes) -> RecordStatus:
        """Return what is known of a record, in memory and in the store."""
        fallback = self._flushed(lane).fallback
        found = [fallback.sendable.status(random), fallback.deferred.status(random)]
        if any(random in write.randoms for write in self._unconfirmed):
            found.append(RecordStatus(state="pending"))
        try:
            found.append(self._stored_status(lane, random))
        except StoreError as error:
            self.log_error(error)
            found.append(RecordStatus(state="unknown", message=f"the spool cannot be read: {error}"))
        known = [status for status in found if status.state in ("pending", "dead")]
        unknown = [status for status in found if status.state == "unknown"]
        return [*known, *unknown, *found][0]

    def erase(self, lane: str, user_id: str) -> int:
        """Drop a user's records and dead letters, in memory and in the store."""
        queue = self._flushed(lane)
        prefetched = queue.drop_prefetched(user_id, DropReason.ERASED)
        in_memory = queue.fallback.sendable.erase(user_id) + queue.fallback.deferred.erase(user_id)
        self._confirm()
        fragment = user_id.encode()
        found = self.store.search(lane, fragment)
        queued = [stored.handle for stored in found if _is_about(stored.body, user_id)]
        in_store = self.store.discard(lane, queued, counter=DropReason.ERASED.value)
        letters = self.store.find(DeadLetterQuery(lane=lane, contains=fragment))
        dead = tuple(stored.id for stored in letters if _is_about(stored.body, user_id))
        if dead:
            in_store += self.store.delete(DeadLetterQuery(ids=dead), counter=DropReason.ERASED.value)
        return prefetched + in_memory + in_store

    # --- maintenance -----------------------------------------------------------------------------

    def maintain_if_due(self) -> float:
        """Maintain the store and all lanes if that is due, and return when to call this again at the latest."""
        now = self.clock.monotonic()
        done = now >= self._next_maintenance and self.maintain()
        if not done and self._maintaining.locked():  # another thread does, and may find records of any lane
            return now + _RETRY_AFTER
        if now >= self._next_poll:
            self._find_ready()
        return min(self._next_maintenance, self._next_poll)

    def maintain_soon(self, seconds: float = 0.0) -> None:
        """Run the maintenance after this time at the latest."""
        self._next_maintenance = min(self._next_maintenance, self.clock.monotonic() + seconds)

    def maintain(self) -> bool:
        """Recover abandoned records, maintain the store, and move what waits in memory to it, for all lanes.

        Returns:
            False if another thread is doing that.
        """
        if self._closed or not self._maintaining.acquire(blocking=False):
            return False
        self.maintained = True
        self._next_maintenance = self.clock.monotonic() + max(_MAINTAIN_EVERY, self._poll_interval)
        lost = False
        try:
            for step in (self._check_store, self.store.maintain, self._recover, self._confirm):
                try:
                    step()
                except StoreError as error:
                    lost |= isinstance(error, StoreUnavailable) and not isinstance(error, StoreFull)
                    self.retry_soon(error)
            self._set_outage(self.outage + 1 if lost else 0)
            for queue in list(self._lanes.values()):
                if not queue.write_pending():
                    break  # each lane would wait for as long
            self._find_ready()
        finally:
            self._maintaining.release()
        return True

    def retry_soon(self, error: StoreError) -> None:
        """Log an error of the store, and try again soon what it has prevented."""
        self.log_error(error)
        if not self.outage:
            self.maintain_soon(_RETRY_UNAVAILABLE_AFTER if isinstance(error, StoreUnavailable) else _RETRY_AFTER)

    def log_error(self, error: StoreError) -> None:
        """Log an error of the store, unless it is only busy, or was logged when the store could not be used first."""
        if not (self.outage or self._closed or isinstance(error, (StoreBusy, ReentrantCall))):
            self.logger.log(
                logging.ERROR,
                f"spool {self.store.name}: {error}; records are kept in memory until it can be used",
                key="spool",
            )

    def close(self) -> None:
        """Close the store."""
        self._closed = True
        self.store.close()

    @property
    def idle(self) -> bool:
        """True if no record was ready for some seconds."""
        return self._poll_interval == _POLL_IDLE

    # --- inside ----------------------------------------------------------------------------------

    def _write(self, write: Write, *, timeout: float) -> Mapping[tuple[str, bytes], int] | None:
        """Write records, or remember that they may be in the store and return None."""
        try:
            return self._write_once(write, timeout=timeout)
        except AnswerLost as error:
            self._unconfirmed.append(write)
            self._cool_down(error)
            self.retry_soon(error)
            return None

    def _write_once(self, write: Write, *, timeout: float) -> Mapping[tuple[str, bytes], int]:
        enqueued = self.store.enqueue(write.records, write.counts, batch_id=write.batch_id, timeout=timeout)
        self._cool_down_until = 0.0
        self._poll_interval = _POLL_EVERY
        if self.outage:
            self._set_outage(0)
            self.maintain_soon()
        for lane, (number, size) in write.added.items():
            if number:
                self.lane(lane).ready_hint.add(number, size)
        for lane, number in enqueued.evicted.items():
            if lane in self._lanes:
                self._lanes[lane].add_evicted(number)
        found = zip(write.randoms, enqueued.handles, strict=False)
        return {(lane, random): handle for random, lanes in found for lane, handle in lanes.items()}

    def _enqueue_in_fallback(self, batches: Sequence[LaneBatch], error: StoreError) -> None:
        self.log_error(error)
        if isinstance(error, StoreBusy):
            self.logger.log(
                logging.WARNING,
                f"spool {self.store.name}: others were writing for {self.options.spool_timeout:g} s; a "
                "request's records wait in memory until they can be written",
                key="busy",
            )
        if isinstance(error, (StoreBusy, StoreUnavailable)) and not isinstance(error, UnencodableRecord):
            self._cool_down(error)
        for batch in batches:
            queue = self._lanes[batch.lane]
            queue.fallback.put(batch, defer_keyed=queue.can_defer(error))
        if not self.outage:
            self.maintain_soon(_RETRY_AFTER)

    def _cool_down(self, error: StoreError) -> None:
        """Start the cool-down, unless it has started already."""
        now = self.clock.monotonic()
        if now >= self._cool_down_until:
            self._cool_down_until, self._last_error = now + _COOL_DOWN, type(error)(*error.args)

    def _confirm(self) -> None:
        """Repeat the writes that may be in the store.

        Raises:
            StoreError: That is still unknown.
        """
        for write in list(self._unconfirmed):
            self._write_once(write, timeout=BUSY_TIMEOUT)
            with contextlib.suppress(ValueError):  # another thread has repeated it as well
                self._unconfirmed.remove(write)

    def _stored_status(self, lane: str, random: bytes) -> RecordStatus:
        for letter in self.store.find(DeadLetterQuery(lane=lane, contains=random), limit=1):
            return RecordStatus(state="dead", reason=letter.failure.reason, message=letter.failure.message)
        return RecordStatus(state="pending" if self.store.search(lane, random) else "not_found")

    def _flushed(self, lane: str) -> DurableLaneQueue:
        """Return the queue of a lane, whose outcomes are written as far as possible."""
        queue = self.lane(lane)
        queue.flush_writes()
        return queue

    def _check_store(self) -> None:
        for lane, claims in self.store.check().items():
            self.lane(lane)
            entries, _ = decode_claims(claims)  # no process can send the others
            self.enqueue_again(lane, entries)

    def _recover(self) -> None:
        in_flight = _INTERRUPTED if self.options.goals_on_unknown == "dead_letter" else None
        unknown, poisoned = self.store.recover(in_flight, _POISON)
        if poisoned:
            self.logger.log(
                logging.ERROR,
                f"{poisoned} records became dead letters ({_POISON.reason}), because {_POISON.message}; look for the "
                "cause in before_send, and in the logs of the host",
                key="dead:poison",
            )
        if unknown:
            self.logger.log(
                logging.WARNING,
                f"{unknown} records became dead letters (unknown), because a process ended while they were in "
                "flight: they may have arrived, and sending them again might count them twice",
                key="dead:unknown:owner",
            )

    def _set_outage(self, outage: int) -> None:
        """Set for how many maintenance runs the store could not be used; the next one waits longer."""
        if outage:
            delay = min(_RETRY_UNAVAILABLE_AFTER * 2 ** (outage - 1), _RETRY_UNAVAILABLE_MAX)
            self._next_maintenance = self.clock.monotonic() + delay
        elif self.outage:
            self.logger.log(logging.WARNING, f"spool {self.store.name} can be used again", key="spool again")
            self._poll_interval = _POLL_EVERY
            self.maintain_soon(_MAINTAIN_EVERY)
        self.outage = outage

    def _find_ready(self) -> None:
        """Notice records that other processes have left, in all lanes at once."""
        ready: Collection[str] = ()
        try:
            ready = self.store.ready()
        except StoreError as error:
            self.log_error(error)
        found = [self._lanes[name] for name in ready if name in self._lanes]
        for queue in found:
            if queue.ready_hint.since is None:
                queue.ready_hint.add(1, 0)
        self._poll_interval = _POLL_EVERY if found else min(self._poll_interval * 2, _POLL_IDLE)
        if found:
            self.maintain_soon(_MAINTAIN_EVERY)
        self._next_poll = self.clock.monotonic() + self._poll_interval if self.polls else float("inf")

    def _shares_store_with(self, other: DurableSpool) -> bool:
        return other.store.name == self.store.name and other._pid == self._pid and not other._closed


def _is_about(body: bytes, user_id: str) -> bool:
    try:
        return decode_entry(body, enqueued_at=0.0, handle=0).user_id == user_id
    except msgspec.MsgspecError:  # a dead letter, because it cannot be read
        return False
