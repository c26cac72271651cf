"""What a lane keeps in memory while its file cannot be used, until the file takes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.base import DeadLetter, LaneBatch
from sessionsight.delivery.queue.memory import MemoryQueue

__all__ = ["FallbackBuffer"]

# What moves in one transaction.
_MOST = 500


class FallbackBuffer:
    """Two queue in memory: what may be sent from there, and what has a key, which only the file can judge."""

    def __init__(self, options: DeliveryOptions) -> None:
        self.free = MemoryQueue(options)
        """What may be sent."""
        self.held = MemoryQueue(options)
        """What waits for the file."""
        self._moved = 0

    @property
    def pending(self) -> int:
        """Records that are not settled."""
        return self.free.pending + self.held.pending

    def take_in(self, share: LaneBatch, *, hold: bool) -> None:
        """Take records in where the file cannot.

        Args:
            share: The records.
            hold: Whether those with a key wait for the file.
        """
        held = [entry for entry in share.entries if hold and entry.record.key is not None]
        free = [entry for entry in share.entries if not (hold and entry.record.key is not None)]
        self.held.enqueue(held)
        self.free.enqueue(free, share.dropped)

    def move(
        self,
        enter: Callable[[Sequence[QueuedRecord]], None],
        import_counts: Callable[[int, Counter[DropReason], Sequence[DeadLetter]], None],
    ) -> int:
        """Give everything to the file; what it does not take stays here.

        Args:
            enter: Writes records into the file.
            import_counts: Writes the outcomes of others: the number delivered, those dropped, dead letters.

        Returns:
            How many records have been here since it succeeded last, wherever they went from here.

        Raises:
            StoreError: The file still cannot be written.
        """
        for queue in (self.held, self.free):
            while moving := queue.claim(_MOST, 1 << 30):
                try:
                    enter(moving)
                except BaseException:
                    queue.requeue(moving)
                    raise
                queue.remove_transferred(moving)
                self._moved += len(moving)
            settled = queue.export_counts()
            if any(settled):
                try:
                    import_counts(*settled)
                except BaseException:
                    queue.import_counts(*settled)
                    raise
                delivered, _, dead = settled
                self._moved += delivered + len(dead)
        moved, self._moved = self._moved, 0
        return moved

    def let_go(self) -> None:
        """From here on what was held may be sent."""
        while freed := self.held.claim(_MOST, 1 << 30):
            self.held.remove_transferred(freed)
            self.free.enqueue(freed)

    def take_evicted(self) -> int:
        """How many records have found no room since the last call."""
        return self.free.pop_evicted_count() + self.held.pop_evicted_count()

    def close(self) -> int:
        """Accept nothing more. Returns how many records are lost by that."""
        return self.free.close() + self.held.close()
