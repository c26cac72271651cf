"""The store protocol, and the values that queues and stores exchange.

A store keeps encoded records; only queues know what is in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from sessionsight.capture.records import DropReason, QueuedRecord
from sessionsight.delivery.stats import LaneStats

__all__ = [
    "CAPTURED",
    "DEAD",
    "DELIVERED",
    "FALLBACK",
    "MAX_TAKEOVERS",
    "PENDING",
    "SUSPECT_TAKEOVERS",
    "Claim",
    "Claimed",
    "Counts",
    "DeadLetter",
    "DeadLetterQuery",
    "DeadLetterStore",
    "Enqueued",
    "Failure",
    "LaneBatch",
    "NewRecord",
    "Outcome",
    "Store",
    "StoreStats",
    "StoredDeadLetter",
    "complete_counts",
    "lane_stats",
    "next_claim",
    "record_size",
    "store_stats",
]

# The counters of a lane besides those that are named after a `DropReason`.
CAPTURED = "captured"
DELIVERED = "delivered"
PENDING = "pending"
DEAD = "dead"
FALLBACK = "bypassed"
"""Records that waited in memory because the store could not be written in time; not part of the ledger's sum."""

MAX_TAKEOVERS = 5
"""How often a record is taken over from a process that has ended, until it becomes a dead letter."""
SUSPECT_TAKEOVERS = 2
"""Takeovers after which a record is a suspect: it may have ended the processes, and is claimed alone.

All records that a process had claimed are taken over together. Once they are claimed one at a time, a takeover counts
only for the suspect that the process has claimed last, so that the others do not become dead letters with it.
"""

_NOT_DROPPED = frozenset({CAPTURED, DELIVERED, PENDING, DEAD, FALLBACK})
# Bytes of a record besides its properties, in a batch or in a store; an estimate.
_ENVELOPE = 400


# --- values of queues -----------------------------------------------------------------------------


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


# --- values of stores -----------------------------------------------------------------------------

Counts = Mapping[tuple[str, str], int]
"""Lane and counter, to the number to add."""


class Failure(Struct, frozen=True, kw_only=True):
    """Why a record is a dead letter. The fields are those of `DeadLetter`."""

    reason: str
    message: str
    status: int | None = None
    attempts: int = 0
    first_attempt: float | None = None
    last_attempt: float | None = None


class NewRecord(Struct, frozen=True, kw_only=True):
    """A record to be added to the queues of some lanes."""

    lanes: Sequence[str]
    body: bytes
    priority: int
    """Records with a lower number are claimed first, and evicted last."""
    size: int
    """The size that counts for `Store.claim`."""
    enqueued_at: float
    """Unix seconds."""
    dedupe_key: str | None = None
    """Within the deduplication window, each lane accepts one record with this key."""
    failure: Failure | None = None
    """Set for a record that is added as a dead letter."""


class Enqueued(Struct, frozen=True):
    """The result of `Store.enqueue`."""

    handles: Sequence[Mapping[str, int]]
    """For each record in its order: the lanes that have accepted it, to its handle there. Duplicates are not in it."""
    evicted: Mapping[str, int]
    """Lane to the number of records that were dropped to make room."""


class Claim(Struct, frozen=True):
    """A record that this process has claimed, or may claim."""

    handle: int
    enqueued_at: float
    body: bytes


class Claimed(Struct, frozen=True):
    """The result of `Store.claim`."""

    epoch: int
    """The store's epoch in which the records were claimed."""
    claims: Sequence[Claim]
    more: bool
    """True if the lane has more records that are ready."""


class Outcome(Struct, frozen=True, kw_only=True):
    """The same outcome of some claimed records.

    Without counter and failure the records have certainly not arrived: they stay claimed, and are no longer in flight.
    """

    handles: Sequence[int]
    counter: str | None = None
    """Remove the records, and count them as this: `delivered`, or the reason for which they are dropped."""
    failure: Failure | None = None
    """Make dead letters of them."""


class StoredDeadLetter(Struct, frozen=True, kw_only=True):
    """A dead letter as a store has it."""

    id: int
    handle: int
    """The record's handle while it was queued."""
    lane: str
    enqueued_at: float
    died_at: float
    """Unix seconds."""
    failure: Failure
    body: bytes


class DeadLetterQuery(Struct, frozen=True, kw_only=True):
    """A selection of dead letters: those that match every condition that is set."""

    ids: tuple[int, ...] = ()
    lane: str | None = None
    reason: str | None = None
    died_before: float | None = None
    """Unix seconds."""
    died_after: float | None = None
    contains: bytes | None = None
    """Bytes within the body."""


class StoreStats(Struct, frozen=True, kw_only=True):
    """The contents and the size of a store."""

    lanes: dict[str, LaneStats]
    claimed: dict[str, int]
    """Lane to the number of its pending records that a process has claimed: they are in flight, or will be next."""
    oldest: float | None
    """When the oldest pending record was enqueued, in Unix seconds."""
    bypassed: int
    """Records that waited in memory because the store could not be written in time, delivered ones included."""
    used_bytes: int
    file_bytes: int | None = None
    """The size of the file; None if the store is not a file."""
    owners: int
    """Processes that have claimed records, including those that have ended without releasing their claims."""
    schema: int


# --- protocols ------------------------------------------------------------------------------------


class DeadLetterStore(Protocol):
    """The dead letters of all lanes, for queues and for the command line."""

    def find(self, query: DeadLetterQuery, *, limit: int = -1) -> list[StoredDeadLetter]:
        """Return the selected dead letters, oldest first; -1 for all."""

    def requeue(self, query: DeadLetterQuery) -> int:
        """Queue the selected dead letters again, as if they were captured now, and return their number.

        Their keys are not checked.
        """

    def delete(self, query: DeadLetterQuery, *, counter: str) -> int:
        """Delete the selected dead letters, count them as dropped for this reason, and return their number."""


class Store(DeadLetterStore, Protocol):
    """Records of all lanes, shared by processes and kept beyond the life of each.

    A store does blocking I/O and nothing else: encoding, buffering, retries and fallback to memory are the queue's
    part. It starts no thread, logs only what happens to its data, and compares no clocks of different hosts. Any
    thread may call any method. Each method is atomic, and raises `StoreError` if it has changed nothing, or
    `AnswerLost` if it may have. All but `enqueue` may be repeated then; `enqueue` may be with the same `batch_id`.

    `timeout` is the number of seconds for which a method may wait for other writers.
    """

    @property
    def name(self) -> str:
        """The store's name in log messages."""

    @property
    def epoch(self) -> int:
        """An identifier that changes when the stored data is replaced, after which no claim is valid."""

    @property
    def joins(self) -> bool:
        """True if `enqueue` writes into an open transaction of the calling code, which the records belong to."""

    def enqueue(self, records: Sequence[NewRecord], counts: Counts, *, batch_id: bytes, timeout: float) -> Enqueued:
        """Add records to their lanes, and add to the counters.

        A record whose key was seen within the deduplication window is counted as a duplicate. If the store is full,
        the oldest unclaimed records are evicted by priority, and counted.

        Args:
            records: The records.
            counts: What to add to the counters. It contains all lanes of the records.
            batch_id: Random bytes. A repeated call with the same bytes has no further effect.
            timeout: See the class.
        """

    def claim(self, lane: str, *, max_records: int, max_bytes: int, timeout: float) -> Claimed:
        """Claim a lane's next ready records for this process, by priority, and at least one if there is any.

        A suspect (`SUSPECT_TAKEOVERS`) is claimed alone, and on trial until the process claims another one.
        """

    def claimed(self, lane: str) -> Claimed:
        """Return the records that this process has claimed and that are not in flight."""

    def mark_in_flight(self, lane: str, handles: Sequence[int], *, timeout: float) -> tuple[int, Collection[int]]:
        """Set the in-flight flag of the records that this process still holds.

        If the process ends before their outcome is stored, another process may make dead letters of them.

        Returns:
            The store's epoch, and the handles of the records that are marked.
        """

    def settle(self, lane: str, outcomes: Sequence[Outcome], *, timeout: float) -> None:
        """Apply outcomes in their order. Records that this process no longer holds are ignored.

        A suspect that stays claimed is no longer on trial.
        """

    def ready(self) -> Collection[str]:
        """Return the lanes that have records that no process has claimed."""

    def unresolved(self, lane: str) -> tuple[int, int] | None:
        """Return the lowest and the highest handle of the records that this process or no process has claimed.

        None if there are none.
        """

    def owned_or_ready(self, lane: str, handles: Sequence[int], *, timeout: float) -> Collection[int]:
        """Return those of the handles whose record this process or no process has claimed."""

    def search(self, lane: str, fragment: bytes) -> list[Claim]:
        """Return the lane's queued records, claimed or not, whose body contains these bytes."""

    def discard(self, lane: str, handles: Sequence[int], *, counter: str) -> int:
        """Drop those of these records that no process has claimed, count them as this, and return their number."""

    def counts(self, lane: str) -> Counter[str]:
        """Return the lane's counters, with the number of pending records and of dead letters."""

    def check(self) -> Mapping[str, Sequence[Claim]]:
        """Check that the store still is where it was, and follow it if it was replaced.

        Returns:
            Lane to ready records that the replaced store contained. The caller enqueues them again.
        """

    def recover(self, in_flight: Failure | None, poison: Failure) -> tuple[int, int]:
        """Make the claims of processes that have ended ready again, and count that as a takeover of each record.

        A takeover of a suspect counts only while it is on trial.

        Args:
            in_flight: Make dead letters of their records in flight; None to make them ready as well.
            poison: Make dead letters of records that were taken over `MAX_TAKEOVERS` times.

        Returns:
            The numbers of records that became dead letters for either reason.
        """

    def maintain(self) -> None:
        """Free space: remove old keys and old dead letters, and compact, as far as that is due."""

    def close(self) -> None:
        """Release this process's claims that are not in flight, and all resources."""


def next_claim(ready: Iterable[tuple[int, int]], max_bytes: int) -> tuple[int, bool]:
    """Return the number of records that one claim takes, and whether it is a suspect that is claimed alone.

    Args:
        ready: Size and takeovers of the next records.
        max_bytes: The highest sum of their sizes, unless it is one record.
    """
    total = number = 0
    for size, takeovers in ready:
        total += size
        if takeovers >= SUSPECT_TAKEOVERS:
            return (number, False) if number else (1, True)
        if number and total > max_bytes:
            break
        number += 1
    return number, False


def complete_counts(counts: Counter[str], most: int) -> Counter[str]:
    """Return a lane's counters. If `most` pending records were counted, their number follows from the others."""
    if counts[PENDING] == most:
        others = sum(number for name, number in counts.items() if name not in (CAPTURED, FALLBACK, PENDING))
        counts[PENDING] = counts[CAPTURED] - others
    return counts


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


def store_stats(counts: Mapping[str, Counter[str]], **others: Any) -> StoreStats:
    """Return the statistics of a store by the counters of its lanes.

    Args:
        counts: Lane to counters.
        **others: The other fields.
    """
    lanes = {lane: lane_stats(found, state="-", last_error=None) for lane, found in sorted(counts.items())}
    return StoreStats(lanes=lanes, bypassed=sum(found[FALLBACK] for found in counts.values()), **others)


def record_size(entry: QueuedRecord) -> int:
    """Return the estimated number of bytes of a record in a batch or in a store."""
    return len(entry.record.properties) + _ENVELOPE
