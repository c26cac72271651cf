"""A bounded queue in memory that evicts events before goals."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from sys import getsizeof

import msgspec
from msgspec.structs import astuple

from sessionsight.capture.records import Goal, QueuedRecord, Record
from sessionsight.delivery.stores.base import record_size
from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext

__all__ = ["PriorityDeque", "estimate_memory"]

# Bytes of the objects of a queued record, and of a context of its own, without their text: measured by
# `python -m benchmarks.rows.memory`.
_RECORD_OBJECTS = 250
_CONTEXT_OBJECTS = 450

_encode = msgspec.msgpack.Encoder().encode


def estimate_memory(record: Record, context: TrackingContext = EMPTY_CONTEXT) -> int:
    """Return the estimated bytes of memory of a record, with a context that no record before it has."""
    size = _RECORD_OBJECTS
    try:
        # The fastest way to measure the text in them.
        size += len(_encode(record))
        if context is not EMPTY_CONTEXT:
            size += _CONTEXT_OBJECTS + len(_encode(context))
    except Exception:  # a context that the application has created may contain any value
        parts = (record, context, context.page, context.signal, context.sessionsight)
        size += _CONTEXT_OBJECTS + sum(getsizeof(value) for part in parts for value in astuple(part))
    return size


class PriorityDeque:
    """The entries of one lane in the order of sending. Not thread-safe: its queue holds a lock.

    Args:
        max_records: The largest number of entries, claimed ones included.
        max_bytes: The most memory that ready entries take; claimed ones are few.
    """

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._goals: deque[QueuedRecord] = deque()
        self._others: deque[QueuedRecord] = deque()
        self._ready_bytes = 0
        self._memory = 0
        self.pending = 0
        """The number of entries that are not resolved, ready or claimed. A claim does not change it, not even for a
        moment, because a flush reads it without the lock. What is added is computed before, because a signal handler
        may run in any call."""

    @property
    def ready(self) -> int:
        """The number of ready entries."""
        return len(self._goals) + len(self._others)

    @property
    def ready_bytes(self) -> int:
        """Their size together, by `record_size`."""
        return self._ready_bytes

    @property
    def memory(self) -> int:
        """The estimated bytes of memory that they take."""
        return self._memory

    def put(self, entries: Sequence[QueuedRecord]) -> list[QueuedRecord]:
        """Add entries, and return those that were evicted: the oldest ones, events before goals."""
        number = len(entries)
        self.pending += number
        for entry in entries:
            (self._goals if type(entry.record) is Goal else self._others).append(entry)
        self._count(entries, 1)
        evicted: list[QueuedRecord] = []
        while self.ready and self._full():
            evicted.append((self._others or self._goals).popleft())
            self._count(evicted[-1:], -1)
            self.pending -= 1
        return evicted

    def claim(self, max_records: int, max_bytes: int) -> list[QueuedRecord]:
        """Claim the next entries, goals first, and at least one if there is any.

        Args:
            max_records: The largest number of entries.
            max_bytes: Their largest size together, by `record_size`.
        """
        claimed: list[QueuedRecord] = []
        size = 0
        for entries in (self._goals, self._others):
            while entries and len(claimed) < max_records:
                size += record_size(entries[0])
                if claimed and size > max_bytes:
                    break
                claimed.append(entries.popleft())
            if entries:
                break
        self._count(claimed, -1)
        return claimed

    def done(self, entries: Sequence[QueuedRecord]) -> None:
        """Remove claimed entries."""
        number = len(entries)
        self.pending -= number

    def requeue(self, entries: Sequence[QueuedRecord]) -> None:
        """Make claimed entries ready again, in front of all others."""
        for entry in reversed(entries):
            (self._goals if type(entry.record) is Goal else self._others).appendleft(entry)
        self._count(entries, 1)

    def select(self, condition: Callable[[QueuedRecord], bool]) -> list[QueuedRecord]:
        """Return the ready entries for which a function returns True."""
        return [entry for entry in (*self._goals, *self._others) if condition(entry)]

    def remove(self, condition: Callable[[QueuedRecord], bool]) -> list[QueuedRecord]:
        """Remove the ready entries for which a function returns True, and return them."""
        removed = self.select(condition)
        gone = {id(entry) for entry in removed}
        self._goals = deque(entry for entry in self._goals if id(entry) not in gone)
        self._others = deque(entry for entry in self._others if id(entry) not in gone)
        self._count(removed, -1)
        number = len(removed)
        self.pending -= number
        return removed

    def _full(self) -> bool:
        return self.pending > self._max_records or self._memory > self._max_bytes

    def _count(self, entries: Sequence[QueuedRecord], sign: int) -> None:
        self._ready_bytes += sign * sum([record_size(entry) for entry in entries])
        self._memory += sign * sum([entry.memory for entry in entries])
