"""The records that one lane of this process has claimed in the spool's file, and has not settled yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Sequence

from sessionsight.capture.records import QueuedRecord

__all__ = ["Claims", "split_stored"]


class Claims:
    """Tells what this process still holds, which is all that a lane may send.

    Used by any thread. A claim ends when its record is settled, when the claims are closed, because the file gives
    them back then, and when another file has replaced the one in which it was made.
    """

    def __init__(self) -> None:
        # Re-entrant: a signal handler or a finalizer may capture something while this thread is in here.
        self._lock = threading.RLock()
        self._prefetched: deque[QueuedRecord] = deque()
        # Row to entry, unless it is in flight.
        self._held: dict[int, QueuedRecord] = {}
        self._in_flight: set[int] = set()
        self._base = 0
        self._closed = False

    @property
    def prefetched(self) -> int:
        """How many claimed records have not been taken yet."""
        return len(self._prefetched)

    @property
    def in_flight(self) -> int:
        """How many records are marked as in flight."""
        return len(self._in_flight)

    def add(self, entry: QueuedRecord) -> None:
        """Add a record that was claimed."""
        with self._lock:
            if not self._closed:
                self._held[entry.handle] = entry
                self._prefetched.append(entry)

    def take(self, number: int) -> list[QueuedRecord]:
        """Take up to this many of the records that were added, the oldest first."""
        with self._lock:
            return [self._prefetched.popleft() for _ in range(min(number, len(self._prefetched)))]

    def still_held(self, entries: Sequence[QueuedRecord]) -> list[QueuedRecord]:
        """Return those of the entries that may be sent. Entries in memory are not the file's to give back."""
        with self._lock:
            if self._closed:
                return []
            return [entry for entry in entries if not entry.handle or self._is_held(entry)]

    def mark_in_flight(self, entries: Sequence[QueuedRecord], rows: Collection[int], *, base: int) -> None:
        """Remember which rows were marked as in flight in the file with this base; others are not ours any more."""
        with self._lock:
            self._in_flight.update(rows)
            if base == self._base:  # otherwise `follow` returns them
                for entry in entries:
                    self._held.pop(entry.handle, None)

    def clear_in_flight(self, entries: Sequence[QueuedRecord]) -> list[QueuedRecord]:
        """Hold entries again that have come back.

        Returns:
            Those that cannot be, because the file in which they were claimed has been replaced.
        """
        with self._lock:
            self._held.update({entry.handle: entry for entry in entries if entry.handle in self._in_flight})
            self._in_flight.difference_update(self._held)
            return [entry for entry in entries if entry.handle not in self._held]

    def settle(self, entries: Sequence[QueuedRecord]) -> None:
        """Forget entries whose outcome is known."""
        with self._lock:
            for entry in entries:
                self._held.pop(entry.handle, None)
                self._in_flight.discard(entry.handle)

    def follow(self, base: int) -> list[QueuedRecord]:
        """Use the file with this base from now on.

        Returns:
            What was claimed in another file and is not in flight; nobody holds it now.
        """
        with self._lock:
            if base == self._base:
                return []
            left = list(self._held.values())
            self._clear()
            self._base = base
            return left

    def close(self) -> None:
        """Hold nothing any more, now or later."""
        with self._lock:
            self._closed = True
            self._clear()

    def _is_held(self, entry: QueuedRecord) -> bool:
        """Return whether this very record is held: a file that comes back may have given its row to another one."""
        held = self._held.get(entry.handle)
        return held is not None and held.record.random == entry.record.random

    def _clear(self) -> None:
        self._prefetched.clear()
        self._held.clear()
        self._in_flight.clear()


def split_stored(entries: Sequence[QueuedRecord]) -> tuple[list[QueuedRecord], list[QueuedRecord]]:
    """Return the entries that are in the file, and those that are in memory."""
    return [entry for entry in entries if entry.handle], [entry for entry in entries if not entry.handle]
