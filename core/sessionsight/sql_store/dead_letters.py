"""Dead letters and counters of the outbox. Steps within a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from sessionsight.sql_store.dialect import UNCLAIMED, contains, insert_rows, marks, now
from sessionsight.stores import DeadLetterQuery, DropReason, Failure, NewRecord, StoredDeadLetter

__all__ = ["add", "add_queued", "delete", "expire", "find", "increment", "requeue", "storable", "trim"]

_FAILURE = ", ".join(Failure.__struct_fields__)
_COLUMNS = f"handle, lane, priority, size, enqueued_at, body, died_at, {_FAILURE}"
_VALUES = ", ".join(["%s"] * len(Failure.__struct_fields__))


def increment(cursor: Any, counts: Mapping[tuple[str, str], int]) -> None:
    """Add to counters, by rows of their own, so that processes do not wait for each other."""
    rows = [(lane, counter, number) for (lane, counter), number in counts.items() if number]
    insert_rows(cursor, "INSERT INTO sessionsight_count (lane, counter, number) VALUES (%s, %s, %s)", rows)


def add(cursor: Any, dead: Iterable[tuple[str, NewRecord]]) -> None:
    """Add dead letters that were never queued here, by lane."""
    for lane, record, failure in ((lane, record, record.failure) for lane, record in dead if record.failure):
        cursor.execute(
            f"INSERT INTO sessionsight_dead_letter ({_COLUMNS})"
            f" VALUES (0, %s, %s, %s, %s, %s, {now(cursor.db)}, {_VALUES})",
            [lane, record.priority, record.size, record.enqueued_at, record.body, *_values(failure)],
        )


def add_queued(cursor: Any, where: str, parameters: Sequence[Any], failure: Failure) -> int:
    """Move records that match a condition from the queue to the dead letters, and return their number."""
    cursor.execute(
        f"INSERT INTO sessionsight_dead_letter ({_COLUMNS}) SELECT id, lane, priority, size, enqueued_at, body,"
        f" {now(cursor.db)}, {_VALUES} FROM sessionsight_queue WHERE {where}",
        [*_values(failure), *parameters],
    )
    if cursor.rowcount:
        cursor.execute(f"DELETE FROM sessionsight_queue WHERE {where}", parameters)
    return int(cursor.rowcount)


def trim(cursor: Any, lane: str, *, keep: int) -> None:
    """Drop the oldest dead letters of a lane above `keep`."""
    cursor.execute("SELECT count(*) FROM sessionsight_dead_letter WHERE lane = %s", [lane])
    excess = cursor.fetchone()[0] - keep
    if excess > 0:
        cursor.execute("SELECT id FROM sessionsight_dead_letter WHERE lane = %s ORDER BY id LIMIT %s", [lane, excess])
        ids = [id_ for (id_,) in cursor.fetchall()]
        cursor.execute(f"DELETE FROM sessionsight_dead_letter WHERE id IN ({marks(ids)})", ids)
        increment(cursor, {(lane, DropReason.DEAD_LETTERS_FULL.value): cursor.rowcount})


def expire(cursor: Any, max_age: float) -> None:
    """Drop dead letters that are older than this number of seconds."""
    cursor.execute(f"SELECT {now(cursor.db)}")
    before = float(cursor.fetchone()[0]) - max_age
    delete(cursor, DeadLetterQuery(died_before=before), counter=DropReason.DEAD_LETTERS_EXPIRED.value)


def find(cursor: Any, query: DeadLetterQuery, limit: int = -1) -> list[StoredDeadLetter]:
    """Return the selected dead letters, oldest first."""
    where, parameters = _where(query, cursor.db)
    cursor.execute(
        f"SELECT id, handle, lane, enqueued_at, died_at, body, {_FAILURE} FROM sessionsight_dead_letter"
        f" WHERE {where} ORDER BY id{' LIMIT %s' if limit >= 0 else ''}",
        [*parameters, limit] if limit >= 0 else parameters,
    )
    return [
        StoredDeadLetter(
            id=id_,
            handle=handle,
            lane=lane,
            enqueued_at=enqueued_at,
            died_at=died_at,
            body=bytes(body),
            failure=Failure(**dict(zip(Failure.__struct_fields__, values, strict=True))),
        )
        for id_, handle, lane, enqueued_at, died_at, body, *values in cursor.fetchall()
    ]


def requeue(cursor: Any, query: DeadLetterQuery) -> int:
    """Queue the selected dead letters again, as if they were captured now, and return their number."""
    where, parameters = _where(query, cursor.db)
    cursor.execute(
        "INSERT INTO sessionsight_queue (lane, priority, size, enqueued_at, claimed_by, in_flight, takeovers, body)"
        f" SELECT lane, priority, size, {now(cursor.db)}, %s, %s, 0, body FROM sessionsight_dead_letter WHERE {where}"
        " ORDER BY id",
        [UNCLAIMED, False, *parameters],
    )
    cursor.execute(f"DELETE FROM sessionsight_dead_letter WHERE {where}", parameters)
    return int(cursor.rowcount)


def delete(cursor: Any, query: DeadLetterQuery, *, counter: str) -> int:
    """Delete the selected dead letters, count them as dropped, and return their number."""
    where, parameters = _where(query, cursor.db)
    cursor.execute(
        f"SELECT lane, count(*) FROM sessionsight_dead_letter WHERE {where} GROUP BY lane",
        parameters,
    )
    numbers = {(lane, counter): number for lane, number in cursor.fetchall()}
    cursor.execute(f"DELETE FROM sessionsight_dead_letter WHERE {where}", parameters)
    increment(cursor, numbers)
    return sum(numbers.values())


def storable(failure: Failure) -> Failure:
    """Return a failure with the vendor's words as every database stores them."""
    return replace(failure, message=failure.message.replace("\0", "").encode(errors="replace").decode())


def _values(failure: Failure) -> list[Any]:
    found = storable(failure)
    return [getattr(found, name) for name in Failure.__struct_fields__]


def _where(query: DeadLetterQuery, connection: Any) -> tuple[str, list[Any]]:
    """Return the condition of a query in SQL, and its parameters."""
    conditions = {
        "lane = %s": query.lane,
        "reason = %s": query.reason,
        "died_at < %s": query.died_before,
        "died_at > %s": query.died_after,
        contains(connection): query.contains,
    }
    given = {condition: value for condition, value in conditions.items() if value is not None}
    parts = [*given, *([f"id IN ({marks(query.ids)})"] if query.ids else [])]
    return " AND ".join(parts) or "1 = 1", [*given.values(), *query.ids]
