"""What a lane holds and owes, under one lock: its queue, its ledger, its dead letters, its keys."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence

from msgspec import Struct

from sessionsight.delivery.ledger import LaneStats, Ledger
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.spool.base import LaneQueue
from sessionsight.records import DropReason, Entry, Goal, record_id

__all__ = ["Books", "DeadLetter"]


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A record that could not be delivered, kept with the reason."""

    destination: str
    entry: Entry
    reason: str
    """`refused`, `too_large`, `unknown` (it may have arrived), `expired` or `internal_error`."""
    message: str
    """The vendor's own words."""
    status: int | None
    attempts: int
    first_attempt: float | None
    """Unix seconds; None when it never left."""
    last_attempt: float | None


class Books:
    """The shared state of one lane. Every change keeps the ledger's sum."""

    def __init__(self, queue: LaneQueue, options: DeliveryOptions) -> None:
        self._queue = queue
        self._ledger = Ledger()
        self._dead: deque[DeadLetter] = deque()
        self._max_dead = options.dead_letters
        self._keys = KeyWindow(options.dedupe_keys, options.dedupe_window)
        # Re-entrant: a signal handler or a finalizer may capture something while this thread is in here.
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self._evicted = 0
        self._waiting_since: float | None = None

    def enter(self, entries: Sequence[Entry], dropped: Sequence[DropReason] = ()) -> int:
        """Take records in, and count those that were dropped at the door.

        Returns:
            How many records wait now.
        """
        number = len(entries) + len(dropped)
        with self._changed:
            self._ledger.captured += number
            self._ledger.dropped.update(dropped)
            if self._closed:
                self._drop(len(entries), DropReason.SHUTDOWN)
                return 0
            fresh = [entry for entry in entries if self._is_new(entry)]
            self._drop(len(entries) - len(fresh), DropReason.DUPLICATE)
            evicted = self._queue.put(fresh)
            for entry in evicted:
                self._keys.release(entry)
            lost = len(evicted)
            self._drop(lost, DropReason.QUEUE_FULL)
            self._evicted += lost
            if self._waiting_since is None and self._queue.waiting:
                self._waiting_since = time.monotonic()
            return self._queue.waiting

    def claim(self, max_records: int, max_bytes: int) -> list[Entry]:
        """Take the next entries to be sent."""
        with self._changed:
            claimed = self._queue.claim(max_records, max_bytes)
            if not self._queue.waiting:
                self._waiting_since = None
            return claimed

    def waiting(self) -> tuple[int, int, float | None]:
        """How many records wait, their bytes, and since when (monotonic clock) the first one does."""
        with self._changed:
            return self._queue.waiting, self._queue.waiting_bytes, self._waiting_since

    def delivered(self, entries: Sequence[Entry]) -> None:
        """These have arrived."""
        with self._changed:
            if not self._closed:
                number = len(entries)
                self._ledger.delivered += number
                self._settle(entries)

    def dropped(self, entries: Sequence[Entry], reason: DropReason) -> None:
        """These will not be sent, and are not kept."""
        with self._changed:
            if not self._closed:
                self._drop(len(entries), reason)
                self._settle(entries)

    def died(self, letters: Sequence[DeadLetter]) -> None:
        """These cannot be delivered, and are kept as dead letters."""
        with self._changed:
            if not self._closed:
                number = len(letters)
                self._dead.extend(letters)
                self._ledger.dead += number
                while len(self._dead) > self._max_dead:
                    self._dead.popleft()
                    self._ledger.dead -= 1
                    self._drop(1, DropReason.DEAD_LETTERS_FULL)
                self._settle([letter.entry for letter in letters])

    def failed(self, message: str | None) -> None:
        """Remember what went wrong last, for statistics."""
        self._ledger.last_error = message

    def take_evicted(self) -> int:
        """How many records a full queue has cost since the last call."""
        with self._changed:
            evicted, self._evicted = self._evicted, 0
            return evicted

    def wait_until_empty(self, deadline: float) -> bool:
        """Wait until nothing is pending, or until the deadline on the monotonic clock."""
        with self._changed:
            while self._queue.pending:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self._closed:
                    return False
                self._changed.wait(remaining)
            return True

    def close(self) -> int:
        """Accept nothing more; what is pending is counted as lost in the shutdown.

        Returns:
            How many records that are.
        """
        with self._changed:
            if self._closed:
                return 0
            lost = self._queue.pending
            self._drop(lost, DropReason.SHUTDOWN)
            self._queue.drain()
            self._closed = True
            self._changed.notify_all()
            return lost

    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters, oldest first."""
        with self._changed:
            return list(self._dead)

    @property
    def pending(self) -> int:
        """Records that are not settled."""
        with self._changed:
            return 0 if self._closed else self._queue.pending

    def read(self, state: str) -> LaneStats:
        """The ledger as a value."""
        with self._changed:
            return self._ledger.read(pending=0 if self._closed else self._queue.pending, state=state)

    def _settle(self, entries: Sequence[Entry]) -> None:
        self._queue.settle(entries)
        self._changed.notify_all()

    def _drop(self, number: int, reason: DropReason) -> None:
        if number:
            self._ledger.dropped[reason] += number

    def _is_new(self, entry: Entry) -> bool:
        return entry.record.key is None or self._keys.claim(entry)


class KeyWindow:
    """Remembers idempotency keys for a while, as many as fit."""

    def __init__(self, max_keys: int, seconds: float) -> None:
        self._max_keys = max_keys
        self._seconds = seconds
        self._seen: OrderedDict[str, float] = OrderedDict()

    def claim(self, entry: Entry) -> bool:
        """Whether the entry's key is new within the window; it is remembered from now on."""
        key, now = _scope(entry), entry.since
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

    def release(self, entry: Entry) -> None:
        """Forget the key of an entry that is lost, so that a repeated call may succeed it."""
        if entry.record.key is not None:
            self._seen.pop(_scope(entry), None)


def _scope(entry: Entry) -> str:
    """What a key is unique in: kind, name and key, which is what the id is derived from."""
    record = entry.record
    direction = record.direction if isinstance(record, Goal) else ""
    return f"{direction}{record_id(record)}"
