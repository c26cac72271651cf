"""Records wait in this process's memory: bounded, quick, and gone when it is killed."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import DeadLetter, LaneBatch
from sessionsight.delivery.queue.dedupe import DedupeWindow
from sessionsight.delivery.queue.priority import PriorityDeque
from sessionsight.delivery.stats import LaneCounters, LaneStats
from sessionsight.delivery.threads import WakeEvent

__all__ = ["MemoryQueue", "MemorySpool"]


class MemorySpool:
    """A `Spool` in memory."""

    durable = False

    def __init__(self, options: DeliveryOptions) -> None:
        self._options = options
        self._lanes: dict[str, MemoryQueue] = {}

    def lane(self, lane: str) -> MemoryQueue:
        """The queue of the lane of this name."""
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = MemoryQueue(self._options)
        return queue

    def enqueue(self, shares: Sequence[LaneBatch]) -> None:
        """Take records in, lane by lane. No other process sees them."""
        for share in shares:
            self.lane(share.lane).enqueue(share.entries, share.dropped)

    def close(self) -> None:
        """Nothing is open."""


class MemoryQueue:
    """The `LaneQueue` of one lane, under one lock."""

    def __init__(self, options: DeliveryOptions) -> None:
        self._entries = PriorityDeque(max_records=options.queue_records, max_bytes=options.queue_bytes)
        self._ledger = LaneCounters()
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
        self._waiting_since: float | None = None

    def enqueue(self, entries: Sequence[QueuedRecord], dropped: Sequence[DropReason] = ()) -> int:
        """Take records in, and count those that were dropped at the door.

        Returns:
            How many records wait now.
        """
        number = len(entries) + len(dropped)
        with self._lock:
            self._ledger.captured += number
            self._ledger.dropped.update(dropped)
            if self._closed:
                self._drop(len(entries), DropReason.SHUTDOWN)
                self._tell_settled(entries)
                return 0
            fresh = [entry for entry in entries if self._claim_key(entry)]
            self._drop(len(entries) - len(fresh), DropReason.DUPLICATE)
            evicted = self._entries.put(fresh)
            for entry in evicted:
                self._dedupe.release(entry)
            lost = len(evicted)
            self._drop(lost, DropReason.QUEUE_FULL)
            self._evicted += lost
            if lost or len(fresh) < len(entries):
                kept = {id(entry) for entry in fresh} - {id(entry) for entry in evicted}
                self._tell_settled([entry for entry in entries if id(entry) not in kept] + evicted)
            if self._waiting_since is None and self._entries.waiting:
                self._waiting_since = time.monotonic()
            return self._entries.waiting

    def claim(self, max_records: int, max_bytes: int) -> list[QueuedRecord]:
        """Take the next entries to be sent."""
        with self._lock:
            claimed = self._entries.claim(max_records, max_bytes)
            if not self._entries.waiting:
                self._waiting_since = None
            return claimed

    def depth(self) -> tuple[int, int, float | None]:
        """How many records wait, their bytes, and since when (monotonic clock) the first one does."""
        with self._lock:
            return self._entries.waiting, self._entries.waiting_bytes, self._waiting_since

    def maintain(self) -> float:
        """Nothing is left over by anybody."""
        return float("inf")

    def mark_in_flight(self, entries: Sequence[QueuedRecord], *, durably: bool) -> Sequence[QueuedRecord] | None:
        """Return the entries, or none of them once the queue is closed: they are counted as lost by then."""
        with self._lock:
            return () if self._closed else entries

    def clear_in_flight(self, entries: Sequence[QueuedRecord]) -> None:
        """Nothing to do, for nothing was remembered."""

    def requeue(self, entries: Sequence[QueuedRecord]) -> None:
        """These were claimed, and wait again, in front of all others."""
        with self._lock:
            self._entries.requeue(entries)
            if self._waiting_since is None and self._entries.waiting:
                self._waiting_since = time.monotonic()

    def export_counts(self) -> tuple[int, Counter[DropReason], list[DeadLetter]]:
        """Remove outcomes that another queue counts from now on, and return them: delivered, dropped, dead letters."""
        with self._lock:
            delivered, dropped, dead = self._ledger.delivered, self._ledger.dropped, list(self._dead_letters)
            self._ledger.captured -= delivered + dropped.total() + len(dead)
            self._ledger.delivered, self._ledger.dropped, self._ledger.dead = 0, Counter(), 0
            self._dead_letters.clear()
            return delivered, dropped, dead

    def import_counts(self, delivered: int, dropped: Counter[DropReason], dead: Sequence[DeadLetter]) -> None:
        """The opposite of `hand_over`."""
        with self._lock:
            self._ledger.captured += delivered + dropped.total() + len(dead)
            self._ledger.delivered += delivered
            self._ledger.dropped.update(dropped)
            self._ledger.dead += len(dead)
            self._dead_letters.extendleft(reversed(dead))

    def remove_transferred(self, entries: Sequence[QueuedRecord]) -> None:
        """These were claimed, and are in another queue from now on, with their keys."""
        with self._lock:
            self._ledger.captured -= len(entries)
            for entry in entries:
                self._dedupe.release(entry)
            self._settle(entries)

    def ack(self, entries: Sequence[QueuedRecord]) -> None:
        """These have arrived."""
        with self._lock:
            if not self._closed:
                number = len(entries)
                self._ledger.delivered += number
                self._settle(entries)
                self._tell_settled(entries)

    def drop(self, entries: Sequence[QueuedRecord], reason: DropReason) -> None:
        """These will not be sent, and are not kept."""
        with self._lock:
            if not self._closed:
                self._drop(len(entries), reason)
                self._settle(entries)
                self._tell_settled(entries)

    def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """These cannot be delivered, and are kept as dead letters."""
        with self._lock:
            if not self._closed:
                number = len(letters)
                self._dead_letters.extend(letters)
                self._ledger.dead += number
                while len(self._dead_letters) > self._max_dead:
                    self._dead_letters.popleft()
                    self._ledger.dead -= 1
                    self._drop(1, DropReason.DEAD_LETTERS_FULL)
                entries = [letter.entry for letter in letters]
                self._settle(entries)
                self._tell_settled(entries)

    def set_last_error(self, message: str | None) -> None:
        """Remember what went wrong last, for statistics."""
        self._ledger.last_error = message

    def pop_evicted_count(self) -> int:
        """How many records a full queue has cost since the last call."""
        with self._lock:
            evicted, self._evicted = self._evicted, 0
            return evicted

    def begin_shutdown(self) -> None:
        """Nothing is held back."""

    def join(self, deadline: float) -> bool:
        """Wait until nothing is pending, or until the deadline on the monotonic clock."""
        wake = WakeEvent()
        self._waiters.append(wake)
        try:
            while self._entries.pending:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self._closed:
                    return False
                wake.wait(remaining)
            return True
        finally:
            self._waiters.remove(wake)

    def owned_or_ready(self, records: Sequence[int]) -> Sequence[int]:
        """All of them: no other process can take anything."""
        return records

    def close(self) -> int:
        """Accept nothing more; what is pending is counted as lost in the shutdown.

        Returns:
            How many records that are.
        """
        with self._lock:
            if self._closed:
                return 0
            lost = self._entries.pending
            self._drop(lost, DropReason.SHUTDOWN)
            self._entries.drain()
            self._closed = True
            self._notify()
            return lost

    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters, oldest first."""
        with self._lock:
            return list(self._dead_letters)

    @property
    def pending(self) -> int:
        """Records that are not settled."""
        with self._lock:
            return 0 if self._closed else self._entries.pending

    def snapshot(self, state: str) -> LaneStats:
        """The ledger as a value."""
        with self._lock:
            return self._ledger.snapshot(pending=0 if self._closed else self._entries.pending, state=state)

    def _settle(self, entries: Sequence[QueuedRecord]) -> None:
        self._entries.done(entries)
        self._notify()

    def _notify(self) -> None:
        for wake in self._waiters.copy():
            wake.set()

    def _tell_settled(self, entries: Sequence[QueuedRecord]) -> None:
        if self.on_resolved is not None:
            self.on_resolved(entries)

    def _drop(self, number: int, reason: DropReason) -> None:
        if number:
            self._ledger.dropped[reason] += number

    def _claim_key(self, entry: QueuedRecord) -> bool:
        return entry.record.key is None or self._dedupe.claim(entry)
