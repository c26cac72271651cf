"""Waiters, with which a request waits until its own records are resolved (`flush="inline"`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from sessionsight.capture.interfaces import Batch
from sessionsight.capture.records import QueuedRecord
from sessionsight.delivery.stores.base import LaneBatch
from sessionsight.event_loop import LoopEvent

__all__ = ["DeliveryWaiter", "WaiterTracker"]

Key = tuple[str, bytes]
"""A lane, and the random bytes of a record."""


class DeliveryWaiter:
    """Signals when every lane has delivered, dropped or dead-lettered the records of one request.

    Args:
        tracker: Receives the reports of the lanes.
        timeout: Seconds that all waits for this waiter may take together.
        process: Processes batches that are not in the lanes yet; its argument is the deadline (monotonic clock).
    """

    def __init__(self, tracker: WaiterTracker, timeout: float, process: Callable[[float], object]) -> None:
        self._tracker = tracker
        self._timeout = timeout
        self._process = process
        self._deadline: float | None = None
        self.keys: set[Key] = set()
        """Records that are not resolved. Only the tracker changes it."""
        self.submitted = 0
        """Number of batches that are not in the lanes yet. Only the tracker changes it."""
        self.callbacks: list[Callable[[], None]] = []
        """Called once, when everything is resolved. Only the tracker changes it."""

    @property
    def resolved(self) -> bool:
        """True when all records are resolved."""
        return not (self.submitted or self.keys)

    def start(self) -> None:
        """Start the timeout, and process what was submitted. May block while the spool is written."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._timeout
        if not self.resolved:
            self._process(self._deadline)

    def wait(self) -> None:
        """Block this thread until everything is resolved or the timeout is over."""
        self.start()
        event = threading.Event()
        if self._tracker.call_when_resolved(self, event.set) and not event.wait(self._remaining()):
            self._tracker.untrack(self)

    async def wait_async(self) -> None:
        """Wait as `wait` does after `start`, without blocking the event loop (asyncio or trio)."""
        event = LoopEvent()
        if self._tracker.call_when_resolved(self, event.set) and not await event.wait(self._remaining()):
            self._tracker.untrack(self)

    def _remaining(self) -> float:
        return 0.0 if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)


class WaiterTracker:
    """Maps records to the waiters that wait for them. One for all lanes of an engine; used by any thread."""

    def __init__(self) -> None:
        # Re-entrant: a signal handler or a finalizer may capture something while this thread holds it.
        self._lock = threading.RLock()
        self._waiting: dict[Key, DeliveryWaiter] = {}
        # Rows of a durable spool, of which other processes may deliver some.
        self._rows: dict[Key, int] = {}

    def batch_submitted(self, waiter: DeliveryWaiter) -> None:
        """Count a batch with this waiter as submitted."""
        with self._lock:
            waiter.submitted += 1

    def track(self, batches: Sequence[Batch], lane_batches: Sequence[LaneBatch]) -> None:
        """Connect the entries that lanes are about to enqueue to the waiters of their batches."""
        waiters = {record.random: batch.waiter for batch in batches for record in batch.records}
        with self._lock:
            for lane, random in _keys(lane_batches):
                if isinstance(waiter := waiters.get(random), DeliveryWaiter):
                    self._waiting[lane, random] = waiter
                    waiter.keys.add((lane, random))

    def batch_processed(self, waiter: DeliveryWaiter) -> None:
        """Count a batch with this waiter as processed: it is in the lanes, or lost."""
        with self._lock:
            waiter.submitted -= 1
            callbacks = _pop_callbacks(waiter)
        _call_all(callbacks)

    def resolve(self, lane: str, entries: Sequence[QueuedRecord]) -> None:
        """Mark entries as resolved in a lane: delivered, dropped or dead-lettered."""
        if self._waiting:  # called for each batch of each lane
            self._resolve_keys([(lane, entry.record.random) for entry in entries])

    def call_when_resolved(self, waiter: DeliveryWaiter, callback: Callable[[], None]) -> bool:
        """Call this once, on any thread, when everything is resolved. Return False if that is already the case."""
        with self._lock:
            if waiter.resolved:
                return False
            waiter.callbacks.append(callback)
            return True

    def untrack(self, waiter: DeliveryWaiter) -> None:
        """Stop tracking a waiter whose wait is over."""
        with self._lock:
            for key in waiter.keys:
                self._waiting.pop(key, None)
                self._rows.pop(key, None)
            waiter.keys.clear()
            waiter.callbacks.clear()

    def resolve_all(self) -> None:
        """End all waits, because the lanes are closed."""
        self._resolve_keys(list(self._waiting))

    def set_rows(self, lane_batches: Sequence[LaneBatch], rows: Mapping[Key, int]) -> None:
        """Record the rows in which a durable spool has stored entries; one without a row was a duplicate."""
        with self._lock:
            awaited = [key for key in _keys(lane_batches) if key in self._waiting]
            self._rows.update((key, rows[key]) for key in awaited if key in rows)
        self._resolve_keys([key for key in awaited if key not in rows])

    def rows(self) -> dict[str, set[int]]:
        """Return the rows of a durable spool that a waiter waits for, by lane."""
        rows: dict[str, set[int]] = {}
        with self._lock:
            for (lane, _), row in self._rows.items():
                rows.setdefault(lane, set()).add(row)
        return rows

    def resolve_rows(self, lane: str, rows: set[int]) -> None:
        """Resolve rows that are deleted, or claimed by another process."""
        with self._lock:
            keys = [key for key, row in self._rows.items() if key[0] == lane and row in rows]
        self._resolve_keys(keys)

    def _resolve_keys(self, keys: Sequence[Key]) -> None:
        callbacks: list[Callable[[], None]] = []
        with self._lock:
            for key in keys:
                self._rows.pop(key, None)
                if (waiter := self._waiting.pop(key, None)) is not None:
                    waiter.keys.discard(key)
                    callbacks += _pop_callbacks(waiter)
        _call_all(callbacks)


def _keys(lane_batches: Sequence[LaneBatch]) -> list[Key]:
    return [(batch.lane, entry.record.random) for batch in lane_batches for entry in batch.entries]


def _pop_callbacks(waiter: DeliveryWaiter) -> list[Callable[[], None]]:
    """Remove and return the callbacks of a waiter, if everything is resolved."""
    if not waiter.resolved:
        return []
    callbacks, waiter.callbacks = waiter.callbacks, []
    return callbacks


def _call_all(callbacks: Sequence[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()
