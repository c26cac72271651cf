"""The store protocol and the values that queues and stores exchange."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery.stats import LaneStats, RecordStatus

__all__ = [
    "CAPTURED",
    "DEAD",
    "DELIVERED",
    "FALLBACK",
    "PENDING",
    "Claim",
    "DeadLetter",
    "Enqueued",
    "LaneBatch",
    "Outcome",
    "Store",
    "lane_stats",
    "record_size",
]

# The counters of a lane besides those that are named after a `DropReason`.
CAPTURED = "captured"
DELIVERED = "delivered"
PENDING = "pending"
DEAD = "dead"
FALLBACK = "bypassed"
"""Records that waited in memory because the store could not be written in time; not part of the ledger's sum."""

_NOT_DROPPED = frozenset({CAPTURED, DELIVERED, PENDING, DEAD, FALLBACK})
# Bytes of a record besides its properties, in a batch or in a store; an estimate.
_ENVELOPE = 400


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A record that could not be delivered, kept with the reason."""

    destination: str
    entry: QueuedRecord
    reason: str
    """`refused`, `too_large`, `unknown` (it may have arrived), `expired` or `internal_error`."""
    message: str
    """The vendor's own words."""
    status: int | None
    attempts: int
    first_attempt: float | None
    """Unix seconds; None when it was never sent."""
    last_attempt: float | None


class LaneBatch(Struct, frozen=True):
    """One lane's part of the records that a request has captured."""

    lane: str
    entries: Sequence[QueuedRecord]
    """The records that the lane accepts."""
    dropped: Sequence[DropReason] = ()
    """The reason for each record that it drops."""


class Enqueued(Struct, frozen=True):
    """The result of `Store.enqueue`."""

    handles: Mapping[tuple[str, bytes], int]
    """Lane and random bytes of each accepted record, to its handle. Duplicates are not in it."""
    added: Mapping[str, tuple[int, int]]
    """Lane to the number of records that were added to it, and their size."""
    evicted: Mapping[str, int]
    """Lane to the number of records that were dropped to make room."""


class Claim(Struct, frozen=True):
    """The result of `Store.claim`."""

    epoch: int
    """The store's epoch in which the records were claimed."""
    entries: Sequence[QueuedRecord]
    unreadable: Mapping[int, str]
    """Handles of claimed records that cannot be decoded, to the error."""
    more: bool
    """True if the lane has more records that are ready."""


class Outcome(Struct, frozen=True, kw_only=True):
    """The result of sending some claimed records. One of its fields is not empty."""

    delivered: Sequence[QueuedRecord] = ()
    dropped: Sequence[QueuedRecord] = ()
    reason: DropReason | None = None
    """The reason for those that were dropped."""
    dead_letters: Sequence[DeadLetter] = ()
    unreadable: Mapping[int, str] = {}
    """Handles of records that cannot be decoded, to the error. They become dead letters."""
    not_sent: Sequence[QueuedRecord] = ()
    """Records that have certainly not arrived. They stay claimed, and their in-flight flag is cleared."""


class Store(Protocol):
    """Records of all lanes, shared by processes and kept beyond the life of each.

    A store does blocking I/O and nothing else: buffering, retries and fallback to memory are the queue's part. Any
    thread may call any method. Each method is atomic, and raises `StoreError` if it has changed nothing.

    `timeout` is the number of seconds for which a method may wait for other writers.
    """

    @property
    def name(self) -> str:
        """The store's name in log messages."""

    @property
    def epoch(self) -> int:
        """An identifier that changes when the stored data is replaced, after which no claim is valid."""

    def register(self, lane: str) -> None:
        """Add a lane. Called before the first record of the lane is enqueued."""

    def enqueue(
        self,
        batches: Sequence[LaneBatch],
        *,
        timeout: float,
        on_request_path: bool = False,
        from_fallback: bool = False,
    ) -> Enqueued:
        """Add records to all lanes that accept them, and count those that were dropped.

        A record whose key was seen within the deduplication window is counted as a duplicate. If the store is full,
        the oldest unclaimed records are evicted, events before goals.

        Args:
            batches: The records of each lane. A record of several lanes is the same object in each of them.
            timeout: See the class.
            on_request_path: Whether a request waits for this call.
            from_fallback: Whether the records have waited in memory; they are counted as bypassed.
        """

    def claim(self, lane: str, *, max_records: int, max_bytes: int, timeout: float) -> Claim:
        """Claim a lane's next ready records for this process, goals first, and at least one if there is any."""

    def mark_in_flight(self, lane: str, entries: Sequence[QueuedRecord], *, timeout: float) -> tuple[int, set[int]]:
        """Set the in-flight flag of the records that this process still holds.

        If the process ends before their outcome is stored, another process may make dead letters of them.

        Returns:
            The store's epoch, and the handles of the records that are marked.
        """

    def resolve(self, lane: str, outcomes: Sequence[Outcome], *, timeout: float) -> None:
        """Apply outcomes in their order. Records that this process no longer holds are ignored.

        Raises:
            StoreError: Nothing was changed.
            Exception: An internal error prevented one of the outcomes; the others were applied.
        """

    def import_counts(
        self,
        lane: str,
        *,
        delivered: int,
        dropped: Counter[DropReason],
        dead_letters: Sequence[DeadLetter],
        timeout: float,
    ) -> int:
        """Count records that were resolved without ever having been in the store, and add their dead letters.

        Returns:
            The number of dead letters that are stored without their record because it cannot be encoded.
        """

    def has_ready(self, lane: str) -> bool:
        """Return whether the lane has records that no process has claimed."""

    def last_handle(self) -> int | None:
        """Return the handle of the newest record; None if there is none."""

    def count_unresolved(self, lane: str, *, last: int | None = None) -> int:
        """Return the number of records that this process or no process has claimed, up to a hundred.

        Args:
            lane: The lane.
            last: Ignore records with a higher handle.
        """

    def owned_or_ready(self, lane: str, handles: Sequence[int], *, timeout: float) -> Collection[int]:
        """Return those of the handles whose record this process or no process has claimed."""

    def status(self, lane: str, random: bytes) -> RecordStatus:
        """Return what is known of the record with these random bytes: `pending`, `dead` or `not_found`."""

    def erase(self, lane: str, user_id: str, *, timeout: float) -> int:
        """Drop a user's unclaimed records and dead letters, as `erased`, and return their number."""

    def counts(self, lane: str) -> Counter[str]:
        """Return the lane's counters, with the number of pending records and of dead letters."""

    def dead_letters(self, lane: str) -> list[DeadLetter]:
        """Return the lane's dead letters, oldest first."""

    def check(self) -> Mapping[str, Sequence[QueuedRecord]]:
        """Check that the store still is where it was, and follow it if it was replaced.

        Returns:
            Lane to ready records that the replaced store contained. The caller enqueues them again.
        """

    def recover(self) -> int:
        """Make the claims of processes that have ended ready again, or dead letters if they were in flight.

        Returns:
            The number of records that became dead letters.
        """

    def maintain(self) -> None:
        """Free space: remove old keys and old dead letters, and compact, as far as that is due."""

    def close(self) -> None:
        """Release this process's claims that are not in flight, and all resources."""


def lane_stats(counts: Counter[str], *, state: str, last_error: str | None) -> LaneStats:
    """Return a lane's counters as statistics."""
    return LaneStats(
        captured=counts[CAPTURED],
        delivered=counts[DELIVERED],
        pending=counts[PENDING],
        dead=counts[DEAD],
        dropped={name: number for name, number in counts.items() if name not in _NOT_DROPPED},
        state=state,
        last_error=last_error,
    )


def record_size(entry: QueuedRecord) -> int:
    """Return the estimated number of bytes of a record in a batch or in a store."""
    return len(entry.record.properties) + _ENVELOPE
