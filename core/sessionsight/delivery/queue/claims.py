"""The entries that one lane of this process has claimed in a store and not resolved yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Sequence

from sessionsight.capture.records import QueuedRecord
from sessionsight.clock import Clock

__all__ = ["Claims", "ReadyHint", "split_stored"]


class Claims:
    """Tracks the entries that this process holds; a lane may send no others.

    Used by any thread. A claim ends when its entry is resolved, when the claims are closed, because the store releases
    them then, and when the store in which it was made was replaced.
    """

    def __init__(self) -> None:
        # Re-entrant: a signal handler or a finalizer may capture something while this thread is in here.
        self._lock = threading.RLock()
        self._prefetched: deque[QueuedRecord] = deque()
        # Handle to entry, unless it is in flight.
        self._held: dict[int, QueuedRecord] = {}
        self._in_flight: set[int] = set()
        # Handles of entries in flight that the store has not marked, because they may be sent twice.
        self._unmarked: set[int] = set()
        self._epoch = 0
        self._closed = False

    @property
    def prefetched(self) -> int:
        """The number of claimed entries that the lane has not used yet."""
        return len(self._prefetched)

    @property
    def in_flight(self) -> int:
        """The number of entries that are in flight."""
        return len(self._in_flight) + len(self._unmarked)

    def add(self, entries: Sequence[QueuedRecord]) -> None:
        """Add entries that were claimed."""
        with self._lock:
            if not self._closed:
                self._held.update({entry.handle: entry for entry in entries})
                self._prefetched.extend(entries)

    def pop_prefetched(self, number: int) -> list[QueuedRecord]:
        """Return up to `number` of the entries that were added, oldest first."""
        with self._lock:
            return [self._prefetched.popleft() for _ in range(min(number, len(self._prefetched)))]

    def remove_prefetched(self, user_id: str) -> list[QueuedRecord]:
        """Remove the entries about a user that the lane has not used yet, and return them. They are still held."""
        with self._lock:
            removed = [entry for entry in self._prefetched if entry.user_id == user_id]
            self._prefetched = deque(entry for entry in self._prefetched if entry.user_id != user_id)
            return removed

    def holds(self, handle: int) -> bool:
        """Return whether an entry is held or in flight."""
        return handle in self._held or handle in self._in_flight

    def still_held(self, entries: Sequence[QueuedRecord]) -> list[QueuedRecord]:
        """Return those of the entries that may be sent. Entries in memory have no claim and are always held."""
        with self._lock:
            if self._closed:
                return []
            return [entry for entry in entries if not entry.handle or self._is_held(entry)]

    def begin_unmarked(self, entries: Sequence[QueuedRecord]) -> None:
        """Add entries in flight that the store does not mark. They are still held."""
        with self._lock:
            self._unmarked.update(entry.handle for entry in entries)

    def end_unmarked(self, entries: Sequence[QueuedRecord]) -> None:
        """Remove entries that are no longer in flight, and not resolved."""
        with self._lock:
            self._unmarked.difference_update(entry.handle for entry in entries)

    def mark_in_flight(self, entries: Sequence[QueuedRecord], handles: Collection[int], *, epoch: int) -> None:
        """Mark handles as in flight that were marked in the store in this epoch. The other entries are not held."""
        with self._lock:
            self._in_flight.update(handles)
            if epoch == self._epoch:  # otherwise `switch_epoch` returns them
                for entry in entries:
                    self._held.pop(entry.handle, None)

    def clear_in_flight(self, entries: Sequence[QueuedRecord]) -> list[QueuedRecord]:
        """Hold entries again that have not arrived.

        Returns:
            Those that cannot be held, because the store in which they were claimed was replaced.
        """
        with self._lock:
            self._held.update({entry.handle: entry for entry in entries if entry.handle in self._in_flight})
            self._in_flight.difference_update(self._held)
            return [entry for entry in entries if entry.handle not in self._held]

    def resolve(self, entries: Sequence[QueuedRecord]) -> None:
        """Remove entries whose outcome is known."""
        with self._lock:
            for entry in entries:
                self._held.pop(entry.handle, None)
                self._in_flight.discard(entry.handle)
                self._unmarked.discard(entry.handle)

    def switch_epoch(self, epoch: int) -> list[QueuedRecord]:
        """Set the store's epoch. If it has changed, end all claims.

        Returns:
            The entries that were held and are not in flight, which must be enqueued again.
        """
        with self._lock:
            if epoch == self._epoch:
                return []
            held = list(self._held.values())
            self._clear()
            self._epoch = epoch
            return held

    def close(self) -> None:
        """End all claims, and accept no more."""
        with self._lock:
            self._closed = True
            self._clear()

    def _is_held(self, entry: QueuedRecord) -> bool:
        """Return whether this record is held: a file that comes back may have given its row id to another record."""
        held = self._held.get(entry.handle)
        return held is not None and held.record.random == entry.record.random

    def _clear(self) -> None:
        self._prefetched.clear()
        self._held.clear()
        self._in_flight.clear()
        self._unmarked.clear()


class ReadyHint:
    """A local estimate of the entries that are ready in the store, kept to avoid polling it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Re-entrant: a signal handler or a finalizer may capture something while this thread is in here.
        self._lock = threading.RLock()
        self.number = 0
        self.size = 0
        self.since: float | None = None
        """When the first of them was added, on the monotonic clock; None if none is known."""

    def add(self, number: int, size: int) -> None:
        """Add entries that were enqueued."""
        with self._lock:
            self.number += number
            self.size += size
            if self.since is None:
                self.since = self._clock.monotonic()

    def reset(self) -> None:
        """Forget all entries. Called before a claim, so that entries which are added during it are kept."""
        with self._lock:
            self.number, self.size, self.since = 0, 0, None


def split_stored(entries: Sequence[QueuedRecord]) -> tuple[list[QueuedRecord], list[QueuedRecord]]:
    """Return the entries that are in the store, and those that are in memory."""
    return [entry for entry in entries if entry.handle], [entry for entry in entries if not entry.handle]
