"""Delivery receipts, with which a request waits until its own records are settled (`flush="inline"`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from sessionsight.capture.records import QueuedRecord
from sessionsight.event_loop import LoopEvent

__all__ = ["DeliveryReceipt", "ReceiptTracker"]

Key = tuple[str, bytes]
"""A lane, and the random bytes of a record."""


class DeliveryReceipt:
    """Signals when every lane has delivered, dropped or dead-lettered the records of one request.

    Args:
        tracker: Receives the reports of the lanes.
        timeout: Seconds that all waits for this receipt may take together.
        process: Processes batches that are not in the lanes yet; its argument is the deadline (monotonic clock).
    """

    def __init__(self, tracker: ReceiptTracker, timeout: float, process: Callable[[float], object]) -> None:
        self._tracker = tracker
        self._timeout = timeout
        self._process = process
        self._deadline: float | None = None
        self.keys: set[Key] = set()
        """Records that are not settled. Only the tracker changes it."""
        self.submitted = 0
        """Number of batches that are not in the lanes yet. Only the tracker changes it."""
        self.callbacks: list[Callable[[], None]] = []
        """Called once, when everything is settled. Only the tracker changes it."""

    @property
    def settled(self) -> bool:
        """True when all records are settled."""
        return not (self.submitted or self.keys)

    def start(self) -> None:
        """Start the timeout, and process what was submitted. May block while the spool is written."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._timeout
        if not self.settled:
            self._process(self._deadline)

    def wait(self) -> None:
        """Block this thread until everything is settled or the timeout is over."""
        self.start()
        event = threading.Event()
        if self._tracker.call_when_settled(self, event.set) and not event.wait(self._remaining()):
            self._tracker.untrack(self)

    async def wait_async(self) -> None:
        """Wait as `wait` does after `start`, without blocking the event loop (asyncio or trio)."""
        event = LoopEvent()
        if self._tracker.call_when_settled(self, event.set) and not await event.wait(self._remaining()):
            self._tracker.untrack(self)

    def _remaining(self) -> float:
        return 0.0 if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)


class ReceiptTracker:
    """Maps records to the receipts that wait for them. One for all lanes of an engine; used by any thread."""

    def __init__(self) -> None:
        # Re-entrant: a signal handler or a finalizer may capture something while this thread holds it.
        self._lock = threading.RLock()
        self._waiting: dict[Key, DeliveryReceipt] = {}
        # Rows of a durable spool, of which other processes may deliver some.
        self._rows: dict[Key, int] = {}

    def batch_submitted(self, receipt: DeliveryReceipt) -> None:
        """Count a batch with this receipt as submitted."""
        with self._lock:
            receipt.submitted += 1

    def track(self, lane: str, entries: Sequence[QueuedRecord], receipts: Mapping[bytes, DeliveryReceipt]) -> None:
        """Track those of a lane's new entries that have a receipt.

        Args:
            lane: The lane's name.
            entries: The entries that are about to be enqueued.
            receipts: Receipts by the random bytes of their records.
        """
        with self._lock:
            for entry in entries:
                random = entry.record.random
                if (receipt := receipts.get(random)) is not None:
                    self._waiting[lane, random] = receipt
                    receipt.keys.add((lane, random))

    def batch_processed(self, receipt: DeliveryReceipt) -> None:
        """Count a batch with this receipt as processed: it is in the lanes, or lost."""
        with self._lock:
            receipt.submitted -= 1
            callbacks = _pop_callbacks(receipt)
        _call_all(callbacks)

    def settle(self, lane: str, entries: Sequence[QueuedRecord]) -> None:
        """Mark entries as settled in a lane: delivered, dropped or dead-lettered."""
        if self._waiting:  # called for each batch of each lane
            self._settle_keys([(lane, entry.record.random) for entry in entries])

    def call_when_settled(self, receipt: DeliveryReceipt, callback: Callable[[], None]) -> bool:
        """Call this once, on any thread, when everything is settled. Return False if that is already the case."""
        with self._lock:
            if receipt.settled:
                return False
            receipt.callbacks.append(callback)
            return True

    def untrack(self, receipt: DeliveryReceipt) -> None:
        """Stop tracking a receipt whose wait is over."""
        with self._lock:
            for key in receipt.keys:
                self._waiting.pop(key, None)
                self._rows.pop(key, None)
            receipt.keys.clear()
            receipt.callbacks.clear()

    def settle_all(self) -> None:
        """End all waits, because the lanes are closed."""
        self._settle_keys(list(self._waiting))

    def set_rows(self, lane: str, entries: Sequence[QueuedRecord], rows: Mapping[Key, int]) -> None:
        """Record the rows in which a durable spool has stored a lane's entries.

        Args:
            lane: The lane's name.
            entries: All entries that it was given.
            rows: The row of each; an entry without one was rejected as a duplicate.
        """
        with self._lock:
            awaited = [key for entry in entries if (key := (lane, entry.record.random)) in self._waiting]
            self._rows.update((key, rows[key]) for key in awaited if key in rows)
        self._settle_keys([key for key in awaited if key not in rows])

    def rows(self) -> dict[str, set[int]]:
        """Return the rows of a durable spool that a receipt waits for, by lane."""
        rows: dict[str, set[int]] = {}
        with self._lock:
            for (lane, _), row in self._rows.items():
                rows.setdefault(lane, set()).add(row)
        return rows

    def settle_rows(self, lane: str, rows: set[int]) -> None:
        """Settle rows that are deleted, or claimed by another process."""
        with self._lock:
            keys = [key for key, row in self._rows.items() if key[0] == lane and row in rows]
        self._settle_keys(keys)

    def _settle_keys(self, keys: Sequence[Key]) -> None:
        callbacks: list[Callable[[], None]] = []
        with self._lock:
            for key in keys:
                self._rows.pop(key, None)
                if (receipt := self._waiting.pop(key, None)) is not None:
                    receipt.keys.discard(key)
                    callbacks += _pop_callbacks(receipt)
        _call_all(callbacks)


def _pop_callbacks(receipt: DeliveryReceipt) -> list[Callable[[], None]]:
    """Remove and return the callbacks of a receipt, if everything is settled."""
    if not receipt.settled:
        return []
    callbacks, receipt.callbacks = receipt.callbacks, []
    return callbacks


def _call_all(callbacks: Sequence[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()
