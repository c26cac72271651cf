"""Records wait in this process's memory, bounded; goals stay longest."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from sys import getsizeof

import msgspec
from msgspec.structs import astuple

from sessionsight.capture.records import Goal, QueuedRecord
from sessionsight.request.context import EMPTY_CONTEXT, TrackingContext

__all__ = ["PriorityDeque", "size_of"]

# Bytes of a record besides its properties in a batch or a file, about.
_ENVELOPE = 400
# What the objects of a queued record, and those of a context of its own, take besides the text in them: measured
# by `python -m benchmarks.rows.memory`.
_RECORD_OBJECTS = 250
_CONTEXT_OBJECTS = 450

_encode_into = msgspec.msgpack.Encoder().encode_into


class _Fifo:
    """Entries in their order, each with the memory that it takes."""

    __slots__ = ("entries", "memory")

    def __init__(self) -> None:
        self.entries: deque[QueuedRecord] = deque()
        # Beside the entries: a pair for each would be one more object for the garbage collector.
        self.memory: deque[int] = deque()

    def __len__(self) -> int:
        return len(self.entries)

    def append(self, entry: QueuedRecord, memory: int) -> None:
        self.entries.append(entry)
        self.memory.append(memory)

    def appendleft(self, entry: QueuedRecord, memory: int) -> None:
        self.entries.appendleft(entry)
        self.memory.appendleft(memory)

    def popleft(self) -> tuple[QueuedRecord, int]:
        return self.entries.popleft(), self.memory.popleft()


class PriorityDeque:
    """The waiting records of one lane. Not locked: its queue is.

    Args:
        max_records: The bound on records, claimed ones included.
        max_bytes: The bound on the memory of those that wait; the claimed ones are few.
    """

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._goals = _Fifo()
        self._others = _Fifo()
        self._waiting_bytes = 0
        self._memory = 0
        self._claimed = 0
        self._last_context: TrackingContext = EMPTY_CONTEXT
        self._buffer = bytearray()

    @property
    def waiting(self) -> int:
        """Records that nobody has claimed."""
        return len(self._goals) + len(self._others)

    @property
    def waiting_bytes(self) -> int:
        """How large they are together, by `size_of`."""
        return self._waiting_bytes

    @property
    def memory(self) -> int:
        """The bytes of memory that they take, about."""
        return self._memory

    @property
    def pending(self) -> int:
        """Records that are not settled, claimed or not."""
        return self.waiting + self._claimed

    def put(self, entries: Sequence[QueuedRecord]) -> list[QueuedRecord]:
        """Add entries; returns those that had to go: events before goals, oldest first."""
        for entry in entries:
            memory = self._memory_of(entry)
            (self._goals if type(entry.record) is Goal else self._others).append(entry, memory)
            self._memory += memory
            self._waiting_bytes += size_of(entry)
        evicted: list[QueuedRecord] = []
        while self.waiting and self._full():
            entry, memory = (self._others or self._goals).popleft()
            self._memory -= memory
            self._waiting_bytes -= size_of(entry)
            evicted.append(entry)
        return evicted

    def claim(self, max_records: int, max_bytes: int) -> list[QueuedRecord]:
        """Take the next entries, goals first, at least one if there is any.

        Args:
            max_records: How many at most.
            max_bytes: How large they may be together, by `size_of`.
        """
        claimed: list[QueuedRecord] = []
        total = 0
        while len(claimed) < max_records and (queue := self._goals or self._others):
            size = size_of(queue.entries[0])
            if claimed and total + size > max_bytes:
                break
            entry, memory = queue.popleft()
            claimed.append(entry)
            total += size
            self._memory -= memory
        self._waiting_bytes -= total
        self._claimed += len(claimed)
        return claimed

    def done(self, entries: Sequence[QueuedRecord]) -> None:
        """These claimed entries are done with."""
        self._claimed -= len(entries)

    def requeue(self, entries: Sequence[QueuedRecord]) -> None:
        """These claimed entries wait again, in front of all others."""
        for entry in reversed(entries):
            memory = self._memory_of(entry)
            (self._goals if type(entry.record) is Goal else self._others).appendleft(entry, memory)
            self._memory += memory
            self._waiting_bytes += size_of(entry)
        self._claimed -= len(entries)

    def drain(self) -> list[QueuedRecord]:
        """Take everything that waits, and settle it."""
        drained = [*self._goals.entries, *self._others.entries]
        self._goals, self._others = _Fifo(), _Fifo()
        self._waiting_bytes = self._memory = 0
        return drained

    def _full(self) -> bool:
        return self.pending > self._max_records or self._memory > self._max_bytes

    def _memory_of(self, entry: QueuedRecord) -> int:
        """Bytes of memory that an entry takes, about. A context that several share is counted with the first."""
        shared = entry.context is self._last_context or entry.context is EMPTY_CONTEXT
        self._last_context = entry.context
        buffer = self._buffer
        try:
            # The quickest way to the length of all text in them, a third of a microsecond.
            _encode_into(entry.record if shared else entry, buffer)
            text = len(buffer)
        except Exception:  # a context made by hand may hold anything
            text = _text_of(entry)
        return text + _RECORD_OBJECTS + (0 if shared else _CONTEXT_OBJECTS)


def size_of(entry: QueuedRecord) -> int:
    """Estimate the bytes of an entry in a batch or a file."""
    return len(entry.record.properties) + _ENVELOPE


def _text_of(entry: QueuedRecord) -> int:
    context = entry.context
    parts = (entry.record, context, context.page, context.signal, context.sessionsight)
    return sum(getsizeof(value) for part in parts for value in astuple(part))
