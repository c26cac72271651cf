"""Statements on the dead letters of a SQLite store. Each function is a step within a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from sessionsight.capture.records import DropReason
from sessionsight.delivery.stores.base import DeadLetterQuery, Failure, NewRecord, StoredDeadLetter
from sessionsight.delivery.stores.sqlite.ledger import increment
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED

__all__ = ["add", "add_queued", "delete", "find", "requeue", "trim"]

_COLUMNS = (
    "lane, priority, record, size, enqueued_at, died_at, reason, message, status, attempts, first_attempt, last_attempt"
)


def add(connection: sqlite3.Connection, dead: Iterable[tuple[int, int, NewRecord]], *, now: float) -> None:
    """Add dead letters, given by lane and row id, which were never queued here."""
    connection.executemany(
        f"INSERT INTO dead_letters ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        [
            (lane, record.priority, row_id, record.size, record.enqueued_at, now, *_values(record.failure))
            for lane, row_id, record in dead
            if record.failure is not None
        ],
    )


def add_queued(
    connection: sqlite3.Connection, where: str, rows: Sequence[tuple[int, ...]], failure: Failure, *, now: float
) -> int:
    """Add dead letters for rows of the queue that match a condition, and return their number."""
    return connection.executemany(
        f"INSERT INTO dead_letters ({_COLUMNS})"  # noqa: S608
        f" SELECT lane, priority, record, size, enqueued_at, ?, ?, ?, ?, ?, ?, ? FROM queue WHERE {where}",
        [(now, *_values(failure), *row) for row in rows],
    ).rowcount


def trim(connection: sqlite3.Connection, lane: int, *, keep: int) -> None:
    """Drop the oldest dead letters of a lane above `keep`."""
    (number,) = connection.execute("SELECT count(*) FROM dead_letters WHERE lane = ?", (lane,)).fetchone()
    if number > keep:
        connection.execute(
            "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE lane = ? ORDER BY id LIMIT ?)",
            (lane, number - keep),
        )
        increment(connection, {(lane, DropReason.DEAD_LETTERS_FULL.value): number - keep})


def find(connection: sqlite3.Connection, query: DeadLetterQuery, limit: int = -1) -> list[StoredDeadLetter]:
    """Return the selected dead letters, oldest first."""
    where, parameters = _where(query)
    select = (
        "SELECT dead_letters.id, record, lanes.name, enqueued_at, died_at, records.body,"  # noqa: S608
        f" {', '.join(Failure.__struct_fields__)}"
        " FROM dead_letters JOIN lanes ON lanes.lane = dead_letters.lane JOIN records ON records.id = record"
        f" WHERE {where} ORDER BY dead_letters.id LIMIT ?"
    )
    found: list[StoredDeadLetter] = []
    for row_id, record, lane, enqueued_at, died_at, body, *values in connection.execute(select, (*parameters, limit)):
        failure = Failure(**dict(zip(Failure.__struct_fields__, values, strict=True)))
        found.append(
            StoredDeadLetter(
                id=row_id,
                handle=record,
                lane=lane,
                enqueued_at=enqueued_at,
                died_at=died_at,
                failure=failure,
                body=body,
            )
        )
    return found


def requeue(connection: sqlite3.Connection, query: DeadLetterQuery, *, now: float) -> int:
    """Queue the selected dead letters again, as if they were captured now, and return their number."""
    where, parameters = _where(query)
    connection.execute(
        "UPDATE records SET refcount = refcount"  # noqa: S608
        f" + (SELECT count(*) FROM dead_letters WHERE dead_letters.record = records.id AND {where})"
        f" WHERE id IN (SELECT record FROM dead_letters WHERE {where})",
        (*parameters, *parameters),
    )
    connection.execute(
        "INSERT INTO queue (lane, claimed_by, priority, record, size, enqueued_at)"  # noqa: S608
        f" SELECT lane, ?, priority, record, size, ? FROM dead_letters WHERE {where}",
        (UNCLAIMED, now, *parameters),
    )
    return connection.execute(f"DELETE FROM dead_letters WHERE {where}", parameters).rowcount  # noqa: S608


def delete(connection: sqlite3.Connection, query: DeadLetterQuery, *, counter: str) -> int:
    """Delete the selected dead letters, count them as dropped, and return their number."""
    where, parameters = _where(query)
    lanes = connection.execute(
        f"SELECT lane, count(*) FROM dead_letters WHERE {where} GROUP BY lane",  # noqa: S608
        parameters,
    ).fetchall()
    increment(connection, {(lane, counter): number for lane, number in lanes})
    return connection.execute(f"DELETE FROM dead_letters WHERE {where}", parameters).rowcount  # noqa: S608


def _values(failure: Failure | None) -> tuple[object, ...]:
    return tuple(getattr(failure, name) for name in Failure.__struct_fields__)


def _where(query: DeadLetterQuery) -> tuple[str, list[object]]:
    """Return the condition of a query in SQL, and its parameters."""
    conditions = {
        "dead_letters.lane = (SELECT lane FROM lanes WHERE name = ?)": query.lane,
        "dead_letters.reason = ?": query.reason,
        "dead_letters.died_at < ?": query.died_before,
        "dead_letters.died_at > ?": query.died_after,
        "instr((SELECT body FROM records WHERE id = dead_letters.record), ?)": query.contains,
    }
    given: dict[str, object] = {condition: value for condition, value in conditions.items() if value is not None}
    parts = [*given]
    if query.ids:
        parts.append(f"dead_letters.id IN ({', '.join('?' * len(query.ids))})")
    return " AND ".join(parts) or "1", [*given.values(), *query.ids]
