"""Dead letters in a table of a SQL database, for all stores that have one. Steps within a transaction.

A cursor is one of the DB-API that takes parameters as `%s`; its attribute `db.vendor` names the database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from sessionsight.capture.records import DropReason
from sessionsight.delivery.stores.base import Counts, DeadLetterQuery, Failure, NewRecord, StoredDeadLetter

__all__ = ["SqlDeadLetters", "contains", "locked", "marks", "storable"]

_FAILURE = Failure.__struct_fields__
_STORED = ("id", "handle", "lane", "enqueued_at", "died_at", "body")
_INSERT = (
    "INSERT INTO sessionsight_dead_letter"
    f" (handle, lane, priority, size, enqueued_at, body, died_at, {', '.join(_FAILURE)})"
)


class SqlDeadLetters:
    """The dead letters of a store.

    Args:
        increment: Adds to the counters of lanes.
        queue: The table of queued records.
        select: Selects their handle, lane, priority, size, time and body; a condition follows.
    """

    def __init__(self, increment: Callable[[Any, Counts], None], *, queue: str, select: str) -> None:
        self._increment = increment
        self._queue = queue
        self._select = select

    def add(self, cursor: Any, record: NewRecord, failure: Failure, *, died_at: float) -> None:
        """Add a record that was never queued here to the dead letters of its lanes."""
        for lane in record.lanes:
            values = lane, record.priority, record.size, record.enqueued_at, record.body, died_at, *_values(failure)
            cursor.execute(f"{_INSERT} VALUES (0, {marks(values)})", values)

    def bury(self, cursor: Any, where: str, parameters: Sequence[Any], failure: Failure, *, died_at: float) -> int:
        """Move queued records that match a condition to the dead letters, and return their number."""
        values = died_at, *_values(failure)
        queued = f"({self._select} WHERE {where}) AS queued"
        cursor.execute(f"{_INSERT} SELECT queued.*, {marks(values)} FROM {queued}", [*values, *parameters])
        number = int(cursor.rowcount)
        if number:
            cursor.execute(f"DELETE FROM {self._queue} WHERE {where}", parameters)
        return number

    def trim(self, cursor: Any, *, keep: int) -> None:
        """Drop the oldest dead letters of each lane above `keep`."""
        cursor.execute("SELECT lane, count(*) FROM sessionsight_dead_letter GROUP BY lane ORDER BY lane")
        for lane, excess in [(lane, number - keep) for lane, number in cursor.fetchall() if number > keep]:
            cursor.execute(
                "SELECT id FROM sessionsight_dead_letter WHERE lane = %s ORDER BY id LIMIT 1 OFFSET %s",
                [lane, excess - 1],
            )
            for (last,) in cursor.fetchall():
                cursor.execute("DELETE FROM sessionsight_dead_letter WHERE lane = %s AND id <= %s", [lane, last])
                self._increment(cursor, {(lane, DropReason.DEAD_LETTERS_FULL.value): cursor.rowcount})

    def find(self, cursor: Any, query: DeadLetterQuery, limit: int = -1) -> list[StoredDeadLetter]:
        """Return the selected dead letters, oldest first."""
        where, parameters = _where(query, cursor.db)
        select = f"SELECT {', '.join(_STORED + _FAILURE)} FROM sessionsight_dead_letter WHERE {where} ORDER BY id"
        cursor.execute(select + (" LIMIT %s" if limit >= 0 else ""), [*parameters, limit] if limit >= 0 else parameters)
        found = [dict(zip(_STORED + _FAILURE, row, strict=True)) for row in cursor.fetchall()]
        return [
            StoredDeadLetter(
                **{name: row[name] for name in _STORED} | {"body": bytes(row["body"])},
                failure=Failure(**{name: row[name] for name in _FAILURE}),
            )
            for row in found
        ]

    def take(self, cursor: Any, query: DeadLetterQuery, *, enqueued_at: float) -> list[NewRecord]:
        """Remove the selected dead letters, and return their records as if they were captured now."""
        where, parameters = _where(query, cursor.db)
        cursor.execute(
            f"SELECT id, lane, priority, size, body FROM sessionsight_dead_letter WHERE {where} ORDER BY id"
            f"{locked(cursor.db)}",  # so that nothing is queued twice
            parameters,
        )
        found = cursor.fetchall()
        if found:  # not by the condition, which later dead letters meet as well
            taken = ", ".join([str(id_) for id_, *_ in found])
            cursor.execute(f"DELETE FROM sessionsight_dead_letter WHERE id IN ({taken})")
        return [
            NewRecord(lanes=[lane], body=bytes(body), priority=priority, size=size, enqueued_at=enqueued_at)
            for _, lane, priority, size, body in found
        ]

    def delete(self, cursor: Any, query: DeadLetterQuery, *, counter: str) -> int:
        """Delete the selected dead letters, count them as dropped, and return their number."""
        where, parameters = _where(query, cursor.db)
        cursor.execute(f"SELECT DISTINCT lane FROM sessionsight_dead_letter WHERE {where}", parameters)
        numbers: dict[tuple[str, str], int] = {}
        for (lane,) in cursor.fetchall():  # another process may delete the same ones meanwhile
            cursor.execute(f"DELETE FROM sessionsight_dead_letter WHERE lane = %s AND {where}", [lane, *parameters])
            numbers[lane, counter] = cursor.rowcount
        self._increment(cursor, numbers)
        return sum(numbers.values())


def storable(failure: Failure) -> Failure:
    """Return a failure with the vendor's words as every database stores them."""
    return replace(failure, message=failure.message.replace("\0", "").encode(errors="replace").decode())


def contains(connection: Any) -> str:
    """Return the condition that a body contains bytes, which are its parameter."""
    return "position(%s::bytea in body) > 0" if connection.vendor == "postgresql" else "instr(body, %s) > 0"


def locked(connection: Any) -> str:
    """Return the clause that locks the selected rows, after waiting for other transactions."""
    return "" if connection.vendor == "sqlite" else " FOR UPDATE"  # SQLite has one writer at a time


def marks(values: Sequence[Any]) -> str:
    """Return the placeholders of a list of values, which has one at least."""
    return ", ".join(["%s"] * len(values))


def _values(failure: Failure) -> list[Any]:
    found = storable(failure)
    return [getattr(found, name) for name in _FAILURE]


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
