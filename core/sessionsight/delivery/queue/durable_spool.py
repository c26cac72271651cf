"""A spool whose records are in a store, or in memory while the store cannot be used."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from weakref import WeakSet

from msgspec.structs import replace

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.durable import DurableLaneQueue
from sessionsight.delivery.stats import RecordStatus
from sessionsight.delivery.stores.base import DeadLetter, LaneBatch, Store
from sessionsight.delivery.stores.errors import ReentrantCall, StoreBusy, StoreError
from sessionsight.log import ThrottledLogger
from sessionsight.test_mode import test_mode

__all__ = ["DurableSpool"]

# Seconds for which calls that no request waits for may wait for other writers.
_BUSY_TIMEOUT = 1.0

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
        self._closed = False
        # Tests create a client for each value of a setting, and none of these delivers anything.
        if not test_mode.suppressed and any(self._shares_store_with(other) for other in _open_spools):
            logger.log(
                logging.WARNING,
                f"spool {store.name}: two clients of this process share it, so each may deliver the other's records "
                "with its own keys; use one client for both, or give each a file of its own",
                key="shared",
            )
        _open_spools.add(self)

    def lane(self, lane: str) -> DurableLaneQueue:
        """Return the queue of a lane."""
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = DurableLaneQueue(lane, self)
            self.store.register(lane)
        return queue

    def enqueue(self, batches: Sequence[LaneBatch]) -> Mapping[tuple[str, bytes], int] | None:
        """Add records to all lanes in the store, or in memory if that fails within `spool_busy_timeout`."""
        if not batches:
            return None
        for batch in batches:
            self.lane(batch.lane)
        try:
            return self._enqueue(batches, timeout=self.options.spool_busy_timeout, on_request_path=True)
        except StoreError as error:
            self.log_error(error)
            if isinstance(error, StoreBusy):
                self.logger.log(
                    logging.WARNING,
                    f"spool {self.store.name}: others were writing for {self.options.spool_busy_timeout:g} s; a "
                    "request's records wait in memory until they can be written",
                    key="busy",
                )
            for batch in batches:
                self._lanes[batch.lane].enqueue_in_fallback(batch, error)
            return None

    def enqueue_from_fallback(self, lane: str, entries: Sequence[QueuedRecord]) -> None:
        """Add records to the store that have waited in memory.

        Raises:
            StoreError: The store still cannot be written.
        """
        self._enqueue([LaneBatch(lane, entries)], timeout=_BUSY_TIMEOUT, from_fallback=True)

    def import_fallback_counts(
        self, lane: str, delivered: int, dropped: Counter[DropReason], dead_letters: Sequence[DeadLetter]
    ) -> None:
        """Add the counts and dead letters of entries to the store that were resolved in memory.

        Raises:
            StoreError: The store still cannot be written.
        """
        unencoded = self.store.import_counts(
            lane, delivered=delivered, dropped=dropped, dead_letters=dead_letters, timeout=_BUSY_TIMEOUT
        )
        if unencoded:
            self.logger.log(
                logging.ERROR,
                f"{lane}: {unencoded} dead letters were kept without their records, which cannot be written",
                key=f"unwritten:{lane}",
            )

    def enqueue_again(self, lane: str, entries: Sequence[QueuedRecord]) -> None:
        """Add records of a replaced store to the current one, or in memory if that fails."""
        if not entries:
            return
        batch = LaneBatch(lane, [replace(entry, handle=0) for entry in entries])
        try:
            self._enqueue([batch], timeout=_BUSY_TIMEOUT)
        except StoreError as error:
            self.log_error(error)
            self._lanes[lane].enqueue_in_fallback(batch, error)

    def maintain(self) -> None:
        """Recover abandoned records and maintain the store, unless another thread does."""
        if self._closed or not self._maintaining.acquire(blocking=False):
            return
        self.maintained = True
        try:
            for step in (self._check_store, self._maintain_store, self._recover):
                try:
                    step()
                except StoreError as error:
                    self.log_error(error)
        finally:
            self._maintaining.release()

    def log_error(self, error: StoreError) -> None:
        """Log an error of the store, unless it is only busy."""
        if not isinstance(error, (StoreBusy, ReentrantCall)) and not self._closed:
            self.logger.log(
                logging.ERROR,
                f"spool {self.store.name}: {error}; records are kept in memory until it can be used",
                key="spool",
            )

    def status(self, lane: str, random: bytes) -> RecordStatus:
        """Return what is known of a record, in memory and in the store."""
        fallback = self._flushed(lane).fallback
        found = [fallback.sendable.status(random), fallback.deferred.status(random)]
        try:
            found.append(self.store.status(lane, random))
        except StoreError as error:
            self.log_error(error)
            found.append(RecordStatus(state="unknown", message=f"the spool cannot be read: {error}"))
        known = [status for status in found if status.state in ("pending", "dead")]
        unknown = [status for status in found if status.state == "unknown"]
        return [*known, *unknown, *found][0]

    def erase(self, lane: str, user_id: str) -> int:
        """Drop a user's records and dead letters, in memory and in the store."""
        queue = self._flushed(lane)
        prefetched = queue._claims.remove_prefetched(user_id)
        queue.drop(prefetched, DropReason.ERASED)
        in_memory = queue.fallback.sendable.erase(user_id) + queue.fallback.deferred.erase(user_id)
        return len(prefetched) + in_memory + self.store.erase(lane, user_id, timeout=_BUSY_TIMEOUT)

    def close(self) -> None:
        """Close the store."""
        self._closed = True
        self.store.close()

    def _enqueue(
        self,
        batches: Sequence[LaneBatch],
        *,
        timeout: float,
        on_request_path: bool = False,
        from_fallback: bool = False,
    ) -> Mapping[tuple[str, bytes], int]:
        enqueued = self.store.enqueue(
            batches, timeout=timeout, on_request_path=on_request_path, from_fallback=from_fallback
        )
        for lane, (number, size) in enqueued.added.items():
            if number:
                self._lanes[lane].ready_hint.add(number, size)
        for lane, number in enqueued.evicted.items():
            if lane in self._lanes:
                self._lanes[lane].add_evicted(number)
        return enqueued.handles

    def _flushed(self, lane: str) -> DurableLaneQueue:
        """Return the queue of a lane, whose outcomes are written as far as possible."""
        queue = self.lane(lane)
        queue._flush_writes()
        return queue

    def _check_store(self) -> None:
        for lane, entries in self.store.check().items():
            self.lane(lane)
            self.enqueue_again(lane, entries)

    def _maintain_store(self) -> None:
        self.store.maintain()

    def _recover(self) -> None:
        dead_lettered = self.store.recover()
        if dead_lettered:
            self.logger.log(
                logging.WARNING,
                f"{dead_lettered} records became dead letters (unknown), because a process ended while they were in "
                "flight: they may have arrived, and sending them again might count them twice",
                key="dead:unknown:owner",
            )

    def _shares_store_with(self, other: DurableSpool) -> bool:
        return other.store.name == self.store.name and other._pid == self._pid and not other._closed
