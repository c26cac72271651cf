"""The protocols of a lane's queue and of a process's spool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stats import LaneStats, RecordStatus
from sessionsight.delivery.stores.base import DeadLetter, LaneBatch, Store
from sessionsight.delivery.stores.errors import StoreError
from sessionsight.log import ThrottledLogger

__all__ = ["LaneQueue", "SharedStore", "Spool"]


class LaneQueue(Protocol):
    """One lane's queue, counters, dead letters and deduplication keys.

    Any thread may use it. Every change keeps the sum of the counters. A claimed entry is pending until the thread
    that has claimed it calls `ack`, `drop` or `dead_letter`.
    """

    on_resolved: Callable[[Sequence[QueuedRecord]], None] | None
    """Called with entries that are delivered, dropped or dead-lettered here, so that a request can wait for them."""

    def depth(self) -> tuple[int, int, float | None]:
        """Return the number of ready entries, their size, and since when (monotonic clock) the first one is ready."""

    def claim(self, max_records: int, max_bytes: int) -> Sequence[QueuedRecord]:
        """Claim the next entries, goals first, and at least one if there is any."""

    def maintain(self) -> float:
        """Recover abandoned entries and retry failed writes. Called once per dispatcher iteration.

        Returns:
            When to call it again at the latest, on the monotonic clock.
        """

    def mark_in_flight(self, entries: Sequence[QueuedRecord], *, durably: bool) -> Sequence[QueuedRecord] | None:
        """Return those of the claimed entries that this process still holds. Only these may be sent.

        The others were released, to this process or to another one, and are claimed again before they are sent.

        Args:
            entries: The entries of the next call.
            durably: Store that the entries are in flight. If the process ends before their outcome is known, they
                become dead letters (`unknown`) and are not sent again.

        Returns:
            The entries that may be sent, in the same order; None if the flag cannot be stored now, so that none of
            them may be sent.
        """

    def clear_in_flight(self, entries: Sequence[QueuedRecord], *, durably: bool) -> None:
        """Report that entries are no longer in flight, and not resolved either.

        Args:
            entries: The entries of a call.
            durably: As it was given to `mark_in_flight`.
        """

    def ack(self, entries: Sequence[QueuedRecord]) -> None:
        """Remove delivered entries."""

    def drop(self, entries: Sequence[QueuedRecord], reason: DropReason) -> None:
        """Remove entries that will not be sent."""

    def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Remove entries that cannot be delivered, and keep them as dead letters."""

    def set_last_error(self, message: str | None) -> None:
        """Set the last error for statistics; None after a success."""

    def pop_evicted_count(self) -> int:
        """Return the number of entries that a full queue has evicted since the last call."""

    def begin_shutdown(self) -> None:
        """Send deferred entries as well from now on, because the process ends soon."""

    def join(self, deadline: float) -> bool:
        """Wait until this process has no pending entry, or until the deadline on the monotonic clock."""

    def owned_or_ready(self, handles: Sequence[int]) -> Collection[int]:
        """Return those of the handles, as returned by `Spool.enqueue`, that no other process has claimed."""

    def close(self) -> int:
        """Accept no more entries.

        Returns:
            The number of pending entries that are lost, and counted as `shutdown`.
        """

    def dead_letters(self) -> list[DeadLetter]:
        """Return the dead letters, oldest first."""

    @property
    def pending(self) -> int:
        """The number of this process's entries that are not resolved, of which those in a store may count as one."""

    def snapshot(self, state: str) -> LaneStats:
        """Return the counters.

        Args:
            state: The lane's state, which becomes part of the result.
        """


class Spool(Protocol):
    """The queues of all lanes in one process."""

    @property
    def durable(self) -> bool:
        """True if queued records outlive the process. `enqueue` then does blocking I/O."""

    def lane(self, lane: str) -> LaneQueue:
        """Return the queue of a lane, the same one at each call."""

    def enqueue(self, batches: Sequence[LaneBatch]) -> Mapping[tuple[str, bytes], int] | None:
        """Add records to all lanes in one step, and count those that were dropped.

        Returns:
            Lane and random bytes of each accepted record, to the handle under which other processes find it.
            Duplicates are not in it. None if no other process can deliver the records.
        """

    def status(self, lane: str, random: bytes) -> RecordStatus:
        """Return what is known of the record with these random bytes. Reads the whole queue of the lane."""

    def erase(self, lane: str, user_id: str) -> int:
        """Drop a user's records and dead letters, as `erased`. Records that a thread has claimed are not dropped.

        Returns:
            Their number.

        Raises:
            StoreError: The store cannot be written. What waits in memory was dropped.
        """

    def close(self) -> None:
        """Release all resources, after all queues were closed."""


class SharedStore(Protocol):
    """The store of a durable spool, as the queues of its lanes use it."""

    store: Store
    options: DeliveryOptions
    logger: ThrottledLogger
    clock: Clock
    maintained: bool
    """True once this process has recovered abandoned records."""

    def maintain(self) -> bool:
        """Recover abandoned records and maintain the store and all lanes, unless another thread does."""

    def maintain_if_due(self) -> float:
        """Do the same if it is due, and return when to call this again at the latest, on the monotonic clock."""

    def maintain_soon(self, seconds: float = 0.0) -> None:
        """Run the maintenance after this time at the latest."""

    def log_error(self, error: StoreError) -> None:
        """Log an error of the store, unless it is only busy."""

    def retry_soon(self, error: StoreError) -> None:
        """Log an error of the store, and try again soon what it has prevented."""

    def unconfirmed(self, lane: str) -> Counter[str]:
        """Return what writes add to a lane's counters that may be in the store or not."""

    def enqueue_again(self, lane: str, entries: Sequence[QueuedRecord]) -> None:
        """Add records of a replaced store to the current one, or in memory if that fails."""

    def enqueue_from_fallback(self, lane: str, entries: Sequence[QueuedRecord]) -> None:
        """Add records to the store that have waited in memory.

        Raises:
            StoreError: The store still cannot be written.
        """

    def import_fallback_counts(self, lane: str, counts: Counter[str], dead_letters: Sequence[DeadLetter]) -> None:
        """Add the counts and dead letters of entries to the store that were resolved in memory.

        Raises:
            StoreError: The store still cannot be written.
        """
