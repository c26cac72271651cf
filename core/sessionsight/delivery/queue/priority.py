"""A bounded queue in memory that evicts events before goals."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from sys import getsizeof

import msgspec
from msgspec.structs import astuple

from sessionsight.capture.records import Goal, QueuedRecord
from sessionsight.delivery.stores.base import record_size
from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext

__all__ = ["PriorityDeque"]

# Bytes of the objects of a queued record, and of a context of its own, without their text: measured by
# `python -m benchmarks.rows.memory`.
_RECORD_OBJECTS = 250
_CONTEXT_OBJECTS = 450

_encode_into = msgspec.msgpack.Encoder().encode_into


class _Fifo:
    """Entries in FIFO order, with the memory that each takes."""

    __slots__ = ("entries", "memory")

    def __init__(self) -> None:
        self.entries: deque[QueuedRecord] = deque()
        # A second deque, because pairs would be additional objects for the garbage collector.
        self.memory: deque[int] = deque()

    def __len__(self) -> int:
        return len(self.entries)

    def popleft(self) -> tuple[QueuedRecord, int]:
        return self.entries.popleft(), self.memory.popleft()

    def remove(self, condition: Callable[[QueuedRecord], bool]) -> list[tuple[QueuedRecord, int]]:
        removed: list[tuple[QueuedRecord, int]] = []
        for _ in range(len(self)):
            pair = self.popleft()
            if condition(pair[0]):
                removed.append(pair)
            else:
                self.entries.append(pair[0])
                self.memory.append(pair[1])
        return removed


class PriorityDeque:
    """The entries of one lane in the order of sending. Not thread-safe: its queue holds a lock.

    Args:
        max_records: The largest number of entries, claimed ones included.
        max_bytes: The most memory that ready entries take; claimed ones are few.
    """

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._goals = _Fifo()
        self._others = _Fifo()
        self._ready_bytes = 0
        self._memory = 0
        self._claimed = 0
        self._last_context: TrackingContext = EMPTY_CONTEXT
        self._buffer = bytearray()

    @property
    def ready(self) -> int:
        """The number of ready entries."""
        return len(self._goals.entries) + len(self._others.entries)

    @property
    def ready_bytes(self) -> int:
        """Their size together, by `record_size`."""
        return self._ready_bytes

    @property
    def memory(self) -> int:
        """The estimated bytes of memory that they take."""
        return self._memory

    @property
    def pending(self) -> int:
        """The number of entries that are not resolved, ready or claimed."""
        return self.ready + self._claimed

    def put(self, entries: Sequence[QueuedRecord]) -> list[QueuedRecord]:
        """Add entries, and return those that were evicted: the oldest ones, events before goals."""
        for entry in entries:
            memory = self._memory_of(entry)
            queue = self._goals if type(entry.record) is Goal else self._others
            queue.entries.append(entry)
            queue.memory.append(memory)
            self._memory += memory
            self._ready_bytes += record_size(entry)
        evicted: list[QueuedRecord] = []
        while self.ready and self._full():
            entry, memory = (self._others if self._others.entries else self._goals).popleft()
            self._memory -= memory
            self._ready_bytes -= record_size(entry)
            evicted.append(entry)
        return evicted

    def claim(self, max_records: int, max_bytes: int) -> list[QueuedRecord]:
        """Claim the next entries, goals first, and at least one if there is any.

        Args:
            max_records: The largest number of entries.
            max_bytes: Their largest size together, by `record_size`.
        """
        claimed: list[QueuedRecord] = []
        size = memory = 0
        for queue in (self._goals, self._others):
            entries, memories = queue.entries, queue.memory
            while entries and len(claimed) < max_records:
                larger = size + record_size(entries[0])
                if claimed and larger > max_bytes:
                    break
                size = larger
                claimed.append(entries.popleft())
                memory += memories.popleft()
            if entries:
                break
        self._ready_bytes -= size
        self._memory -= memory
        self._claimed += len(claimed)
        return claimed

    def done(self, entries: Sequence[QueuedRecord]) -> None:
        """Remove claimed entries."""
        self._claimed -= len(entries)

    def requeue(self, entries: Sequence[QueuedRecord]) -> None:
        """Make claimed entries ready again, in front of all others."""
        for entry in reversed(entries):
            memory = self._memory_of(entry)
            queue = self._goals if type(entry.record) is Goal else self._others
            queue.entries.appendleft(entry)
            queue.memory.appendleft(memory)
            self._memory += memory
            self._ready_bytes += record_size(entry)
        self._claimed -= len(entries)

    def select(self, condition: Callable[[QueuedRecord], bool]) -> list[QueuedRecord]:
        """Return the ready entries for which a function returns True."""
        return [entry for entry in (*self._goals.entries, *self._others.entries) if condition(entry)]

    def remove(self, condition: Callable[[QueuedRecord], bool]) -> list[QueuedRecord]:
        """Remove the ready entries for which a function returns True, and return them."""
        removed = [pair for queue in (self._goals, self._others) for pair in queue.remove(condition)]
        self._memory -= sum(memory for _, memory in removed)
        self._ready_bytes -= sum(record_size(entry) for entry, _ in removed)
        return [entry for entry, _ in removed]

    def drain(self) -> list[QueuedRecord]:
        """Remove all ready entries, and return them."""
        drained = [*self._goals.entries, *self._others.entries]
        self._goals, self._others = _Fifo(), _Fifo()
        self._ready_bytes = self._memory = 0
        return drained

    def _full(self) -> bool:
        return self.pending > self._max_records or self._memory > self._max_bytes

    def _memory_of(self, entry: QueuedRecord) -> int:
        """Return the estimated memory of an entry. A context that several entries share is counted with the first."""
        shared = entry.context is self._last_context or entry.context is EMPTY_CONTEXT
        self._last_context = entry.context
        buffer = self._buffer
        try:
            # The fastest way to measure the text in them: a third of a microsecond.
            _encode_into(entry.record if shared else entry, buffer)
            text = len(buffer)
        except Exception:  # a context that the application has created may contain any value
            text = _text_of(entry)
        return text + _RECORD_OBJECTS + (0 if shared else _CONTEXT_OBJECTS)


def _text_of(entry: QueuedRecord) -> int:
    context = entry.context
    parts = (entry.record, context, context.page, context.signal, context.sessionsight)
    return sum(getsizeof(value) for part in parts for value in astuple(part))
