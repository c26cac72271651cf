"""Deduplication window of a queue in memory."""

from __future__ import annotations

from collections import OrderedDict

from sessionsight.capture.records import QueuedRecord, record_id

__all__ = ["DedupeWindow"]


class DedupeWindow:
    """The idempotency keys of recent entries. A key is unique for its kind and name of record.

    Args:
        max_keys: The number of keys that are remembered.
        seconds: The time for which a key is remembered.
    """

    def __init__(self, max_keys: int, seconds: float) -> None:
        self._max_keys = max_keys
        self._seconds = seconds
        self._seen: OrderedDict[str, float] = OrderedDict()

    def add(self, entry: QueuedRecord) -> bool:
        """Remember an entry's key, and return whether it is new within the window."""
        key, now = record_id(entry.record), entry.enqueued_at
        while self._seen:
            oldest, seen_at = next(iter(self._seen.items()))
            if now - seen_at < self._seconds:
                break
            self._seen.pop(oldest, None)
        if key in self._seen:
            return False
        self._seen[key] = now
        while len(self._seen) > self._max_keys:
            self._seen.popitem(last=False)
        return True

    def remove(self, entry: QueuedRecord) -> None:
        """Forget the key of an entry that is dropped, so that a repeated call is not a duplicate."""
        if entry.record.key is not None:
            self._seen.pop(record_id(entry.record), None)
