"""The inbox: what the app's transactions write, and how a relay takes it in. Steps within a transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate
from typing import Any

import msgspec
from msgspec.structs import replace

from sessionsight.delivery.stores.sql_dead_letters import storable
from sessionsight.sql_store.dead_letters import dead_letters, enqueue, increment
from sessionsight.sql_store.dialect import (
    UNCLAIMED,
    commit_durably,
    delete_rows,
    ignore_conflicts,
    insert_rows,
    marks,
    now,
    server_time,
    skip_locked,
)
from sessionsight.stores import CAPTURED, Counts, DeliveryOptions, DropReason, Failure, NewRecord

__all__ = ["UNCLAIMED", "UNREADABLE_LANE", "insert", "row", "take_in"]

UNREADABLE_LANE = "unreadable"
"""The lane of dead letters that this release cannot read at all."""
_BATCH, _BATCH_BYTES = 200, 1 << 20  # hand-overs taken in by one transaction

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(tuple[list[NewRecord], list[tuple[str, str, int]]]).decode


def row(records: Sequence[NewRecord], counts: Counts, batch_id: bytes) -> tuple[str, bytes]:
    """Return the columns of a hand-over."""
    numbers = [(lane, counter, number) for (lane, counter), number in counts.items()]
    clean = [
        record if record.failure is None else replace(record, failure=storable(record.failure)) for record in records
    ]
    return batch_id.hex(), _encode((clean, numbers))


def insert(cursor: Any, columns: tuple[str, bytes]) -> None:
    """Add a hand-over, unless it is there already. One statement, which nothing else has to precede."""
    connection = cursor.db
    statement = f"INSERT INTO sessionsight_inbox (batch_id, body, created_at) VALUES (%s, %s, {now(connection)})"
    cursor.execute(ignore_conflicts(connection, statement), columns)


def take_in(cursor: Any, options: DeliveryOptions) -> bool:
    """Move the oldest hand-overs to the queues of their lanes.

    Returns:
        True if there may be more.
    """
    connection = cursor.db
    cursor.execute(
        f"SELECT id, batch_id, body FROM sessionsight_inbox ORDER BY id LIMIT %s{skip_locked(connection)}",
        [_BATCH],
    )
    rows = cursor.fetchall()
    if not rows:
        return False
    commit_durably(cursor)  # after a crash the same ids would be given to other records
    ends = accumulate(len(body) for _, _, body in rows)
    found = [one for one, end in zip(rows, ends, strict=True) if one is rows[0] or end <= _BATCH_BYTES]
    delete_rows(cursor, "sessionsight_inbox", [id_ for id_, _, _ in found])
    batches = [batch for _, batch, _ in found]
    cursor.execute(f"SELECT batch_id FROM sessionsight_batch WHERE batch_id IN ({marks(batches)})", batches)
    known = {batch for (batch,) in cursor.fetchall()}
    new = [(batch, bytes(body)) for _, batch, body in found if batch not in known]
    insert_rows(
        cursor,
        f"INSERT INTO sessionsight_batch (batch_id, seen_at) VALUES (%s, {now(connection)})",
        [(batch,) for batch, _ in new],
    )
    counts: Counter[tuple[str, str]] = Counter()
    queued: list[tuple[str, NewRecord]] = []
    dead: list[tuple[NewRecord, Failure]] = []
    for _, body in new:
        for record in _read(body, counts):
            if record.failure is not None:
                dead.append((record, record.failure))
                continue
            for lane in record.lanes:
                if record.dedupe_key is None or _is_new(cursor, lane, record, options.dedupe_window):
                    queued.append((lane, record))
                else:
                    counts[lane, DropReason.DUPLICATE.value] += 1
    enqueue(cursor, queued)
    increment(cursor, counts)
    if dead:
        died_at = server_time(cursor)
        for record, failure in dead:
            dead_letters.add(cursor, record, failure, died_at=died_at)
        dead_letters.trim(cursor, keep=options.dead_letters)
    return len(found) < len(rows) or len(rows) == _BATCH


def _read(body: bytes, counts: Counter[tuple[str, str]]) -> list[NewRecord]:
    """Return the records of a hand-over, and add its counts. What cannot be read becomes a dead letter."""
    try:
        records, numbers = _decode(body)
    except msgspec.MsgspecError as error:
        failure = Failure(reason="internal_error", message=f"another release has written this: {error}")
        counts[UNREADABLE_LANE, CAPTURED] += 1
        return [NewRecord(lanes=[UNREADABLE_LANE], body=body, priority=1, size=0, enqueued_at=0.0, failure=failure)]
    for lane, counter, number in numbers:
        counts[lane, counter] += number
    return records


def _is_new(cursor: Any, lane: str, record: NewRecord, window: float) -> bool:
    """Remember a key, and return whether the lane has not seen it within the window, before or after."""
    hashed = sha256(f"{lane}\0{record.dedupe_key}".encode(errors="surrogatepass")).hexdigest()
    statement = "INSERT INTO sessionsight_key (hash, seen_at) VALUES (%s, %s)"
    cursor.execute(ignore_conflicts(cursor.db, statement), [hashed, record.enqueued_at])
    if cursor.rowcount:
        return True
    cursor.execute(
        "UPDATE sessionsight_key SET seen_at = %s WHERE hash = %s AND abs(seen_at - %s) >= %s",
        [record.enqueued_at, hashed, record.enqueued_at, window],
    )
    return bool(cursor.rowcount)
