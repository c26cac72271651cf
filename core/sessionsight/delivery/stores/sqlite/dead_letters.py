"""Statements on the dead letters and counters of a SQLite store. Each function is a step within a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from sessionsight.capture.records import DropReason
from sessionsight.delivery.stores.base import Counts, DeadLetterQuery, Failure, NewRecord, StoredDeadLetter

__all__ = ["add", "delete", "find", "increment", "move", "take"]

_FAILURE = ", ".join(Failure.__struct_fields__)
_MARKS = ", ".join("?" * len(Failure.__struct_fields__))
_INSERT = f"INSERT INTO dead_letters (lane, priority, record, size, enqueued_at, body, died_at, {_FAILURE})"


def add(connection: sqlite3.Connection, record: NewRecord, *, keep: int, now: float) -> None:
    """Add a record that was never queued here, and keep this number of dead letters."""
    values = record.priority, record.size, record.enqueued_at, record.body, now, *_values(record.failure)
    connection.executemany(
        f"{_INSERT} VALUES (?, ?, 0, ?, ?, ?, ?, {_MARKS})", [(lane, *values) for lane in record.lanes]
    )
    _trim(connection, keep)


def move(
    connection: sqlite3.Connection,
    where: str,
    rows: Sequence[tuple[object, ...]],
    failure: Failure,
    *,
    keep: int,
    now: float,
) -> int:
    """Make dead letters of rows of the queue that match a condition, and return their number."""
    number = connection.executemany(
        f"{_INSERT} SELECT lane, priority, record, size, enqueued_at, body, ?, {_MARKS}"  # noqa: S608
        f" FROM queue JOIN records ON records.id = queue.record WHERE {where}",
        [(now, *_values(failure), *row) for row in rows],
    ).rowcount
    connection.executemany(f"DELETE FROM queue WHERE {where}", rows)  # noqa: S608
    _trim(connection, keep)
    return number


def _trim(connection: sqlite3.Connection, keep: int) -> None:
    """Drop the oldest dead letters of each lane above `keep`."""
    counted = connection.execute("SELECT lane, count(*) FROM dead_letters GROUP BY lane").fetchall()
    for lane, number in counted:
        if number > keep:
            connection.execute(
                "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE lane = ? ORDER BY id LIMIT ?)",
                (lane, number - keep),
            )
            increment(connection, {(lane, DropReason.DEAD_LETTERS_FULL.value): number - keep})


def find(connection: sqlite3.Connection, query: DeadLetterQuery, limit: int = -1) -> list[StoredDeadLetter]:
    """Return the selected dead letters, oldest first."""
    where, parameters = _where(query)
    columns = "id", "record", "lane", "enqueued_at", "died_at", "body"
    found = connection.execute(
        f"SELECT {', '.join(columns)}, {_FAILURE} FROM dead_letters WHERE {where} ORDER BY id LIMIT ?",  # noqa: S608
        (*parameters, limit),
    )
    names = "id", "handle", *columns[2:]
    return [
        StoredDeadLetter(
            **dict(zip(names, row, strict=False)),
            failure=Failure(**dict(zip(Failure.__struct_fields__, row[len(names) :], strict=True))),
        )
        for row in found
    ]


def take(connection: sqlite3.Connection, query: DeadLetterQuery, *, now: float) -> list[NewRecord]:
    """Remove the selected dead letters, and return their records as if they were captured now."""
    where, parameters = _where(query)
    found = connection.execute(
        f"SELECT lane, priority, size, body FROM dead_letters WHERE {where} ORDER BY id",  # noqa: S608
        parameters,
    ).fetchall()
    connection.execute(f"DELETE FROM dead_letters WHERE {where}", parameters)  # noqa: S608
    return [
        NewRecord(lanes=[lane], body=body, priority=priority, size=size, enqueued_at=now)
        for lane, priority, size, body in found
    ]


def delete(connection: sqlite3.Connection, query: DeadLetterQuery, *, counter: str) -> int:
    """Delete the selected dead letters, count them as dropped, and return their number."""
    where, parameters = _where(query)
    lanes = connection.execute(
        f"SELECT lane, count(*) FROM dead_letters WHERE {where} GROUP BY lane",  # noqa: S608
        parameters,
    ).fetchall()
    increment(connection, {(lane, counter): number for lane, number in lanes})
    return connection.execute(f"DELETE FROM dead_letters WHERE {where}", parameters).rowcount  # noqa: S608


def increment(connection: sqlite3.Connection, counts: Counts) -> None:
    """Add to the counters of lanes."""
    connection.executemany(
        "INSERT INTO counts VALUES (?, ?, ?)"
        " ON CONFLICT (lane, counter) DO UPDATE SET number = number + excluded.number",
        [(lane, counter, number) for (lane, counter), number in counts.items() if number],
    )


def _values(failure: Failure | None) -> tuple[object, ...]:
    return tuple(getattr(failure, name) for name in Failure.__struct_fields__)


def _where(query: DeadLetterQuery) -> tuple[str, list[object]]:
    """Return the condition of a query in SQL, and its parameters."""
    conditions = {
        "lane = ?": query.lane,
        "reason = ?": query.reason,
        "died_at < ?": query.died_before,
        "died_at > ?": query.died_after,
        "instr(body, ?)": query.contains,
    }
    given: dict[str, object] = {condition: value for condition, value in conditions.items() if value is not None}
    parts = [*given]
    if query.ids:
        parts.append(f"id IN ({', '.join('?' * len(query.ids))})")
    return " AND ".join(parts) or "1", [*given.values(), *query.ids]
