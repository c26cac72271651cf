"""Conversion of queued records and dead letters to those of a store, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from sessionsight.capture.records import Goal, QueuedRecord, random_bytes, record_id
from sessionsight.delivery.queue.codec import decode_entry, encode_entry
from sessionsight.delivery.stores.base import (
    CAPTURED,
    DEAD,
    DELIVERED,
    FALLBACK,
    PENDING,
    Claim,
    DeadLetter,
    Failure,
    LaneBatch,
    NewRecord,
    StoredDeadLetter,
    record_size,
)
from sessionsight.delivery.stores.errors import UnencodableRecord

__all__ = ["Write", "decode_claims", "decode_dead_letter", "encode_batches", "encode_outcomes", "failure_of"]

_PRIORITY_GOAL, _PRIORITY_OTHER = 0, 1


class Write(Struct, frozen=True):
    """The arguments of one call of `Store.enqueue`, which may have to be repeated."""

    batch_id: bytes
    records: Sequence[NewRecord]
    counts: Mapping[tuple[str, str], int]
    randoms: Sequence[bytes] = ()
    """The random bytes of each record."""
    added: Mapping[str, tuple[int, int]] = {}
    """Lane to the number of records, duplicates included, and their size."""

    def lane_counts(self, lane: str) -> Counter[str]:
        """Return what this adds to the counters of a lane, the records included."""
        records = [record.failure for record in self.records if lane in record.lanes]
        found = Counter({counter: number for (name, counter), number in self.counts.items() if name == lane})
        found[PENDING], found[DEAD] = records.count(None), len(records) - records.count(None)
        return found


def encode_batches(batches: Sequence[LaneBatch], *, bypassed: bool = False) -> Write:
    """Return the write of a request's records, each once for all of its lanes.

    Args:
        batches: The records of each lane. A record of several lanes is the same object in each of them.
        bypassed: The records have waited in memory.

    Raises:
        UnencodableRecord: One of the records cannot be encoded.
    """
    counts: dict[tuple[str, str], int] = {}
    added: dict[str, tuple[int, int]] = {}
    entries: dict[int, tuple[QueuedRecord, list[str], int]] = {}
    for batch in batches:
        lane = batch.lane
        counts[lane, CAPTURED] = counts.get((lane, CAPTURED), 0) + len(batch.entries) + len(batch.dropped)
        if bypassed:
            counts[lane, FALLBACK] = len(batch.entries)
        for reason in batch.dropped:
            counts[lane, reason.value] = counts.get((lane, reason.value), 0) + 1
        number, total = added.get(lane, (0, 0))
        for entry in batch.entries:
            known = entries.get(id(entry.record))
            if known is None:
                known = entries[id(entry.record)] = (entry, [], record_size(entry))
            known[1].append(lane)
            total += known[2]
        added[lane] = number + len(batch.entries), total
    records = [_new_record(entry, lanes, _encode(entry), size) for entry, lanes, size in entries.values()]
    return Write(random_bytes(), records, counts, [entry.record.random for entry, _, _ in entries.values()], added)


def encode_outcomes(lane: str, outcomes: Counter[str], dead_letters: Sequence[DeadLetter]) -> Write:
    """Return the write of outcomes of records that were never in the store.

    A dead letter whose record cannot be encoded is kept without it, and its message says so.
    """
    counts = {(lane, counter): number for counter, number in outcomes.items()}
    counts[lane, FALLBACK] = outcomes[DELIVERED] + len(dead_letters)
    records: list[NewRecord] = []
    for letter in dead_letters:
        failure, body = failure_of(letter), b""
        try:
            body = _encode(letter.entry)
        except UnencodableRecord as error:
            message = f"{letter.message}; the record itself {str(error).removeprefix('a record ')}"
            failure = msgspec.structs.replace(failure, message=message)
        records.append(_new_record(letter.entry, [lane], body, record_size(letter.entry), failure))
    return Write(random_bytes(), records, counts)


def failure_of(letter: DeadLetter) -> Failure:
    """Return the reason of a dead letter."""
    return Failure(**{name: getattr(letter, name) for name in Failure.__struct_fields__})


def decode_claims(claims: Sequence[Claim]) -> tuple[list[QueuedRecord], dict[int, str]]:
    """Return the records of claims, and the handles of those that cannot be decoded with the error."""
    entries: list[QueuedRecord] = []
    unreadable: dict[int, str] = {}
    for claim in claims:
        try:
            entries.append(decode_entry(claim.body, enqueued_at=claim.enqueued_at, handle=claim.handle))
        except Exception as error:  # written by another release, or damaged
            unreadable[claim.handle] = str(error)
    return entries, unreadable


def decode_dead_letter(stored: StoredDeadLetter) -> DeadLetter | None:
    """Return a dead letter; None if its record cannot be decoded, which may be the reason."""
    try:
        entry = decode_entry(stored.body, enqueued_at=stored.enqueued_at, handle=stored.handle)
    except msgspec.MsgspecError:
        return None
    return DeadLetter(destination=stored.lane, entry=entry, **msgspec.structs.asdict(stored.failure))


def _encode(entry: QueuedRecord) -> bytes:
    try:
        return encode_entry(entry)
    except Exception as error:  # a context that the application has created may contain any value
        raise UnencodableRecord(f"a record cannot be written ({type(error).__name__}: {error})") from error


def _new_record(
    entry: QueuedRecord, lanes: Sequence[str], body: bytes, size: int, failure: Failure | None = None
) -> NewRecord:
    record = entry.record
    return NewRecord(
        lanes=lanes,
        body=body,
        priority=_PRIORITY_GOAL if type(record) is Goal else _PRIORITY_OTHER,
        size=size,
        enqueued_at=entry.enqueued_at,
        dedupe_key=None if record.key is None else record_id(record),
        failure=failure,
    )
