"""In-memory fallback buffer for a lane whose store cannot be used."""

from __future__ import annotations

import logging
from collections import Counter

from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import SharedStore
from sessionsight.delivery.queue.memory import MemoryQueue
from sessionsight.delivery.stores.base import CAPTURED, DELIVERED, LaneBatch

__all__ = ["FallbackBuffer"]

# The number of entries that one transaction moves to the store.
_MAX_RECORDS = 500


class FallbackBuffer:
    """Two memory queues: entries that may be sent now, and keyed ones that wait for the store to deduplicate them."""

    def __init__(self, options: DeliveryOptions, *, clock: Clock) -> None:
        self.sendable = MemoryQueue(options, clock=clock)
        self.deferred = MemoryQueue(options, clock=clock)
        # Entries that were in the buffer since it was empty last, including those sent from here.
        self._moved = 0

    @property
    def pending(self) -> int:
        """The number of entries that are not resolved."""
        return self.deferred.pending + self.sendable.pending  # in this order, in which entries move

    def put(self, batch: LaneBatch, *, defer_keyed: bool) -> None:
        """Add entries.

        Args:
            batch: The entries.
            defer_keyed: Whether those with a key wait for the store.
        """
        deferred = [entry for entry in batch.entries if defer_keyed and entry.record.key is not None]
        sendable = [entry for entry in batch.entries if not (defer_keyed and entry.record.key is not None)]
        self.deferred.enqueue(deferred)
        self.sendable.enqueue(sendable, batch.dropped)

    def counts(self) -> Counter[str]:
        """Return the counters of both queues."""
        return self.sendable.counts() + self.deferred.counts()

    def drain_to(self, spool: SharedStore, lane: str) -> None:
        """Move all entries and counts to the store, and log that. Those that it does not accept stay here.

        Raises:
            StoreError: The store still cannot be written.
        """
        for queue in (self.deferred, self.sendable):
            if queue.is_unused:  # as in nearly all lanes
                continue
            while moving := queue.claim(_MAX_RECORDS, 1 << 30):
                try:
                    spool.enqueue_from_fallback(lane, moving)
                except BaseException:
                    queue.requeue(moving)
                    raise
                queue.remove_transferred(moving)
                self._moved += len(moving)
            counts, dead_letters = queue.export_counts()
            if counts[CAPTURED]:
                try:
                    spool.import_fallback_counts(lane, counts, dead_letters)
                except BaseException:
                    queue.import_counts(counts, dead_letters)
                    raise
                self._moved += counts[DELIVERED] + len(dead_letters)
        if self._moved:
            message = f"{lane}: the spool can be written again; {self._moved} records had to wait in memory"
            spool.logger.log(logging.INFO, message, key=f"spool again:{lane}")
            self._moved = 0

    def release_deferred(self) -> None:
        """Make deferred entries sendable."""
        while released := self.deferred.claim(_MAX_RECORDS, 1 << 30):
            self.sendable.enqueue(released)
            self.deferred.remove_transferred(released)

    def pop_evicted_count(self) -> int:
        """Return the number of evicted entries since the last call."""
        return self.sendable.pop_evicted_count() + self.deferred.pop_evicted_count()

    def close(self) -> int:
        """Accept no more entries, and return the number of those that are lost."""
        return self.sendable.close() + self.deferred.close()
