"""A spool in memory: bounded, fast, and lost when the process is killed."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.clock import Clock
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.dedupe import DedupeWindow
from sessionsight.delivery.queue.priority import PriorityDeque
from sessionsight.delivery.stats import LaneStats, RecordStatus
from sessionsight.delivery.stores.base import CAPTURED, DEAD, DELIVERED, PENDING, DeadLetter, LaneBatch, lane_stats
from sessionsight.delivery.threads import WakeEvent

__all__ = ["MemoryQueue", "MemorySpool"]


class MemorySpool:
    """A `Spool` in memory."""

    durable = False

    def __init__(self, options: DeliveryOptions, *, clock: Clock = time) -> None:
        self._options = options
        self._clock = clock
        self._lanes: dict[str, MemoryQueue] = {}

    def lane(self, lane: str) -> MemoryQueue:
        """Return the queue of a lane."""
        queue = self._lanes.get(lane)
        return queue or self._lanes.setdefault(lane, MemoryQueue(self._options, clock=self._clock))

    def enqueue(self, batches: Sequence[LaneBatch]) -> None:
        """Add records to all lanes. No other process can deliver them."""
        for batch in batches:
            self.lane(batch.lane).enqueue(batch.entries, batch.dropped)

    def status(self, lane: str, random: bytes) -> RecordStatus:
        """Return what is known of a record."""
        return self.lane(lane).status(random)

    def erase(self, lane: str, user_id: str) -> int:
        """Drop a user's records and dead letters."""
        return self.lane(lane).erase(user_id)

    def close(self) -> None:
        """Do nothing: there is no resource to release."""


class MemoryQueue:
    """The `LaneQueue` of one lane, under one lock."""

    def __init__(self, options: DeliveryOptions, *, clock: Clock = time) -> None:
        self._clock = clock
        self._entries = PriorityDeque(max_records=options.queue_records, max_bytes=options.queue_bytes)
        self._counts: Counter[str] = Counter()
        self._last_error: str | None = None
        self._dead_letters: deque[DeadLetter] = deque()
        self._max_dead = options.dead_letters
        self._dedupe = DedupeWindow(options.dedupe_keys, options.dedupe_window)
        # Re-entrant: a signal handler or a finalizer may capture something while this thread is in here.
        self._lock = threading.RLock()
        # No condition variable: eventlet, when it patches late, replaces the lock in it, and nothing can wait then.
        self._waiters: list[WakeEvent] = []
        self._closed = False
        self._evicted = 0
        self.on_resolved: Callable[[Sequence[QueuedRecord]], None] | None = None
        self._ready_since: float | None = None

    def enqueue(self, entries: Sequence[QueuedRecord], dropped: Sequence[DropReason] = ()) -> int:
        """Add entries, and count those that were dropped.

        Returns:
            The number of ready entries.
        """
        number = len(entries) + len(dropped)
        with self._lock:
            self._counts[CAPTURED] += number
            if dropped:
                self._counts.update(reason.value for reason in dropped)
            if self._closed:
                self._drop(len(entries), DropReason.SHUTDOWN)
                self._notify_resolved(entries)
                return 0
            accepted = [entry for entry in entries if entry.record.key is None or self._dedupe.add(entry)]
            self._drop(len(entries) - len(accepted), DropReason.DUPLICATE)
            evicted = self._entries.put(accepted)
            for entry in evicted:
                self._dedupe.remove(entry)
            self._drop(len(evicted), DropReason.QUEUE_FULL)
            self._evicted += len(evicted)
            if evicted or len(accepted) < len(entries):
                kept = {id(entry) for entry in accepted} - {id(entry) for entry in evicted}
                self._notify_resolved([entry for entry in entries if id(entry) not in kept] + evicted)
            if self._ready_since is None and self._entries.ready:
                self._ready_since = self._clock.monotonic()
            return self._entries.ready

    def claim(self, max_records: int, max_bytes: int) -> list[QueuedRecord]:
        """Claim the next entries."""
        with self._lock:
            claimed = self._entries.claim(max_records, max_bytes)
            if not self._entries.ready:
                self._ready_since = None
            return claimed

    def depth(self) -> tuple[int, int, float | None]:
        """Return the number of ready entries, their size, and since when (monotonic clock) the first one is ready."""
        with self._lock:
            return self._entries.ready, self._entries.ready_bytes, self._ready_since

    def maintain(self) -> float:
        """Do nothing: no other process shares the queue."""
        return float("inf")

    def mark_in_flight(self, entries: Sequence[QueuedRecord], *, durably: bool) -> Sequence[QueuedRecord] | None:
        """Return the entries; none once the queue is closed, because they are counted as lost."""
        with self._lock:
            return () if self._closed else entries

    def clear_in_flight(self, entries: Sequence[QueuedRecord], *, durably: bool) -> None:
        """Do nothing: the flag is not stored."""

    def requeue(self, entries: Sequence[QueuedRecord]) -> None:
        """Make claimed entries ready again, in front of all others."""
        with self._lock:
            self._entries.requeue(entries)
            if self._ready_since is None and self._entries.ready:
                self._ready_since = self._clock.monotonic()

    @property
    def is_unused(self) -> bool:
        """True if nothing is pending, and nothing was counted that `export_counts` has not returned."""
        return not self._counts[CAPTURED]

    def export_counts(self) -> tuple[Counter[str], list[DeadLetter]]:
        """Remove what is resolved, which another queue counts from now on, and return counters and dead letters."""
        with self._lock:
            counts, dead = self._counts, [*self._dead_letters]
            resolved = counts.total() - counts[CAPTURED] + len(dead)
            self._counts = Counter({CAPTURED: counts[CAPTURED] - resolved})
            self._dead_letters.clear()
            counts[CAPTURED] = resolved
            return counts, dead

    def import_counts(self, counts: Counter[str], dead: Sequence[DeadLetter]) -> None:
        """Add what `export_counts` has returned."""
        with self._lock:
            self._counts.update(counts)
            self._dead_letters.extendleft(reversed(dead))

    def remove_transferred(self, entries: Sequence[QueuedRecord]) -> None:
        """Remove claimed entries that were moved to another queue, with their keys."""
        with self._lock:
            self._counts[CAPTURED] -= len(entries)
            for entry in entries:
                self._dedupe.remove(entry)
            self._done(entries)

    def ack(self, entries: Sequence[QueuedRecord]) -> None:
        """Remove delivered entries."""
        with self._lock:
            if not self._closed:
                self._counts[DELIVERED] += len(entries)
                self._done(entries)
                self._notify_resolved(entries)

    def drop(self, entries: Sequence[QueuedRecord], reason: DropReason) -> None:
        """Remove entries that will not be sent."""
        with self._lock:
            if not self._closed:
                self._drop(len(entries), reason)
                self._done(entries)
                self._notify_resolved(entries)

    def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Remove entries that cannot be delivered, and keep them as dead letters."""
        with self._lock:
            if not self._closed:
                self._dead_letters.extend(letters)
                while len(self._dead_letters) > self._max_dead:
                    self._dead_letters.popleft()
                    self._drop(1, DropReason.DEAD_LETTERS_FULL)
                entries = [letter.entry for letter in letters]
                self._done(entries)
                self._notify_resolved(entries)

    def set_last_error(self, message: str | None) -> None:
        """Set the last error for statistics."""
        self._last_error = message

    def pop_evicted_count(self) -> int:
        """Return the number of evicted entries since the last call."""
        with self._lock:
            evicted, self._evicted = self._evicted, 0
            return evicted

    def begin_shutdown(self) -> None:
        """Do nothing: no entry is deferred."""

    def join(self, deadline: float) -> bool:
        """Wait until nothing is pending, or until the deadline on the monotonic clock."""
        wake = WakeEvent()
        self._waiters.append(wake)
        try:
            while self._entries.pending:
                remaining = deadline - self._clock.monotonic()
                if remaining <= 0 or self._closed:
                    return False
                wake.wait(remaining)
            return True
        finally:
            self._waiters.remove(wake)

    def owned_or_ready(self, handles: Sequence[int]) -> Sequence[int]:
        """Return all handles: no other process can claim anything."""
        return handles

    def close(self) -> int:
        """Accept no more entries, and count the pending ones as lost.

        Returns:
            Their number.
        """
        with self._lock:
            if self._closed:
                return 0
            lost = self._entries.pending
            self._drop(lost, DropReason.SHUTDOWN)
            self._entries.remove(lambda _: True)
            self._closed = True
            self._notify()
            return lost

    def dead_letters(self) -> list[DeadLetter]:
        """Return the dead letters, oldest first."""
        with self._lock:
            return list(self._dead_letters)

    def status(self, random: bytes) -> RecordStatus:
        """Return what is known of the record with these random bytes. Claimed entries are not searched."""
        with self._lock:
            for letter in self._dead_letters:
                if letter.entry.record.random == random:
                    return RecordStatus(state="dead", reason=letter.reason, message=letter.message)
            if self._entries.select(lambda entry: entry.record.random == random):
                return RecordStatus(state="pending")
            if self._entries.pending > self._entries.ready:
                return RecordStatus(state="unknown", message="it may be one of those that are being sent")
            return RecordStatus(state="not_found")

    def erase(self, user_id: str) -> int:
        """Drop a user's ready entries and dead letters, and return their number."""
        with self._lock:
            entries = self._entries.remove(lambda entry: entry.user_id == user_id)
            if not self._entries.ready:
                self._ready_since = None
            kept = [letter for letter in self._dead_letters if letter.entry.user_id != user_id]
            dead = len(self._dead_letters) - len(kept)
            self._dead_letters = deque(kept)
            self._drop(len(entries) + dead, DropReason.ERASED)
            self._notify_resolved(entries)
            self._notify()
            return len(entries) + dead

    @property
    def pending(self) -> int:
        """The number of entries that are not resolved."""
        with self._lock:
            return 0 if self._closed else self._entries.pending

    def counts(self) -> Counter[str]:
        """Return the counters that are not zero."""
        with self._lock:
            return +Counter({**self._counts, PENDING: self.pending, DEAD: len(self._dead_letters)})

    def snapshot(self, state: str) -> LaneStats:
        """Return the counters."""
        return lane_stats(self.counts(), state=state, last_error=self._last_error)

    def _done(self, entries: Sequence[QueuedRecord]) -> None:
        self._entries.done(entries)
        if self._waiters:
            self._notify()

    def _notify(self) -> None:
        for wake in self._waiters.copy():
            wake.set()

    def _notify_resolved(self, entries: Sequence[QueuedRecord]) -> None:
        if self.on_resolved is not None:
            self.on_resolved(entries)

    def _drop(self, number: int, reason: DropReason) -> None:
        if number:
            self._counts[reason.value] += number
