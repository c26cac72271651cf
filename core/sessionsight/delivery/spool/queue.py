"""Records wait in this process's memory, bounded; goals stay longest."""

from __future__ import annotations

from collections.abc import Sequence

from sessionsight.delivery.spool.backlog import Backlog
from sessionsight.records import Entry, Goal

__all__ = ["MemoryQueue", "size_of"]

# What a queued record takes besides its properties, about.
_OVERHEAD = 400


class MemoryQueue:
    """The waiting records of one lane. Not locked: its books are.

    Args:
        max_records: The bound on records, claimed ones included.
        max_bytes: The bound on the size of those that wait; the claimed ones are few.
    """

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._goals = Backlog()
        self._others = Backlog()
        self._waiting_bytes = 0
        self._claimed = 0

    @property
    def waiting(self) -> int:
        """Records that nobody has claimed."""
        return len(self._goals) + len(self._others)

    @property
    def waiting_bytes(self) -> int:
        """Their size, about."""
        return self._waiting_bytes

    @property
    def pending(self) -> int:
        """Records that are not settled, claimed or not."""
        return self.waiting + self._claimed

    def put(self, entries: Sequence[Entry]) -> list[Entry]:
        """Add entries; returns those that had to go: events before goals, oldest first."""
        for entry in entries:
            size = size_of(entry)
            (self._goals if type(entry.record) is Goal else self._others).append(entry)
            self._waiting_bytes += size
        if entries:
            now = entries[-1].since
            self._goals.pack(now)
            self._others.pack(now)
        evicted: list[Entry] = []
        while self.waiting and self._full():
            entry = (self._others or self._goals).popleft()
            size = size_of(entry)
            self._waiting_bytes -= size
            evicted.append(entry)
        return evicted

    def claim(self, max_records: int, max_bytes: int) -> list[Entry]:
        """Take the next entries, goals first, at least one if there is any."""
        claimed: list[Entry] = []
        total = 0
        while len(claimed) < max_records and (queue := self._goals or self._others):
            size = size_of(queue.first())
            if claimed and total + size > max_bytes:
                break
            claimed.append(queue.popleft())
            total += size
        number = len(claimed)
        self._waiting_bytes -= total
        self._claimed += number
        return claimed

    def settle(self, entries: Sequence[Entry]) -> None:
        """These claimed entries are done with."""
        number = len(entries)
        self._claimed -= number

    def put_back(self, entries: Sequence[Entry]) -> None:
        """These claimed entries wait again, in front of all others."""
        for entry in reversed(entries):
            (self._goals if type(entry.record) is Goal else self._others).appendleft(entry)
            self._waiting_bytes += size_of(entry)
        self._claimed -= len(entries)

    def drain(self) -> list[Entry]:
        """Take everything that waits, and settle it."""
        drained = [queue.popleft() for queue in (self._goals, self._others) for _ in range(len(queue))]
        self._waiting_bytes = 0
        return drained

    def _full(self) -> bool:
        return self.pending > self._max_records or self._waiting_bytes > self._max_bytes


def size_of(entry: Entry) -> int:
    """What an entry counts for in bytes."""
    return len(entry.record.properties) + _OVERHEAD
