"""Which idempotency keys were seen lately: of two records with the same one, the second is refused."""

from __future__ import annotations

from collections import OrderedDict

from sessionsight.capture.records import QueuedRecord, record_id

__all__ = ["DedupeWindow", "dedupe_key"]


class DedupeWindow:
    """Remembers idempotency keys for a while, as many as fit."""

    def __init__(self, max_keys: int, seconds: float) -> None:
        self._max_keys = max_keys
        self._seconds = seconds
        self._seen: OrderedDict[str, float] = OrderedDict()

    def claim(self, entry: QueuedRecord) -> bool:
        """Whether the entry's key is new within the window; it is remembered from now on."""
        key, now = dedupe_key(entry), entry.enqueued_at
        while self._seen:
            oldest, since = next(iter(self._seen.items()))
            if now - since < self._seconds:
                break
            self._seen.pop(oldest, None)
        if key in self._seen:
            return False
        self._seen[key] = now
        while len(self._seen) > self._max_keys:
            self._seen.popitem(last=False)
        return True

    def release(self, entry: QueuedRecord) -> None:
        """Forget the key of an entry that is lost, so that a repeated call may succeed it."""
        if entry.record.key is not None:
            self._seen.pop(dedupe_key(entry), None)


def dedupe_key(entry: QueuedRecord) -> str:
    """What a key is unique in: kind, name and key, from which the id is derived."""
    return record_id(entry.record)
