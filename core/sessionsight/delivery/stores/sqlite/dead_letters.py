"""Dead letters in a spool's file: found, tried again, dropped."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter

import msgspec
from msgspec import Struct

from sessionsight.capture.records import DropReason
from sessionsight.delivery.queue.base import DeadLetter
from sessionsight.delivery.queue.codec import decode_entry
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED
from sessionsight.delivery.stores.sqlite.queries import count

__all__ = ["DeadLetterQuery", "StoredDeadLetter", "dead_letter_unreadable", "drop", "find", "of_lane", "retry"]


class StoredDeadLetter(Struct, frozen=True, kw_only=True):
    """A dead letter as it lies in the file."""

    id: int
    died: float
    """Unix seconds."""
    letter: DeadLetter | None
    """None when the record cannot be read."""
    lane: str
    reason: str
    message: str
    body: bytes


class DeadLetterQuery(Struct, frozen=True, kw_only=True):
    """Which dead letters are meant: those that fit everything that is given."""

    ids: tuple[int, ...] = ()
    lane: str | None = None
    reason: str | None = None
    died_before: float | None = None
    """Unix seconds."""
    died_after: float | None = None

    def where(self) -> tuple[str, list[object]]:
        """The condition in SQL, and its parameters."""
        conditions: dict[str, object] = {}
        if self.lane is not None:
            conditions["dead.lane = (SELECT lane FROM lanes WHERE name = ?)"] = self.lane
        if self.reason is not None:
            conditions["dead.reason = ?"] = self.reason
        if self.died_before is not None:
            conditions["dead.died < ?"] = self.died_before
        if self.died_after is not None:
            conditions["dead.died > ?"] = self.died_after
        parts = [*conditions]
        if self.ids:
            parts.append(f"dead.id IN ({', '.join('?' * len(self.ids))})")
        return " AND ".join(parts) or "1", [*conditions.values(), *self.ids]


_FOUND = (
    "SELECT dead.id, lanes.name, dead.since, dead.record, records.body, dead.reason, dead.message, dead.status,"
    " dead.attempts, dead.first_attempt, dead.last_attempt, dead.died"
    " FROM dead JOIN lanes ON lanes.lane = dead.lane JOIN records ON records.id = dead.record"
)


def find(connection: sqlite3.Connection, chosen: DeadLetterQuery, limit: int = -1) -> list[StoredDeadLetter]:
    """Those that are meant, oldest first."""
    where, parameters = chosen.where()
    found: list[StoredDeadLetter] = []
    for number, lane, since, row, body, reason, message, status, attempts, first, last, died in connection.execute(
        f"{_FOUND} WHERE {where} ORDER BY dead.id LIMIT ?",  # the condition is made above
        (*parameters, limit),
    ):
        letter = None
        with contextlib.suppress(msgspec.MsgspecError):  # it is dead for just that
            letter = DeadLetter(
                destination=lane,
                entry=decode_entry(body, since=since, row=row),
                reason=reason,
                message=message,
                status=status,
                attempts=attempts,
                first_attempt=first,
                last_attempt=last,
            )
        found.append(
            StoredDeadLetter(id=number, died=died, letter=letter, lane=lane, reason=reason, message=message, body=body)
        )
    return found


def of_lane(connection: sqlite3.Connection, lane: str) -> list[DeadLetter]:
    """The dead letters of a lane, oldest first, as far as they can be read."""
    return [stored.letter for stored in find(connection, DeadLetterQuery(lane=lane)) if stored.letter is not None]


def retry(connection: sqlite3.Connection, chosen: DeadLetterQuery) -> int:
    """Queue those that are meant again, as if they had been captured now. Their keys do not count as second ones.

    Returns:
        How many.
    """
    where, parameters = chosen.where()
    connection.execute(
        f"UPDATE records SET users = users + (SELECT count(*) FROM dead WHERE dead.record = records.id AND {where})"  # noqa: S608
        f" WHERE id IN (SELECT record FROM dead WHERE {where})",
        (*parameters, *parameters),
    )
    connection.execute(
        "INSERT INTO queue (lane, owner, rank, record, size, since)"  # noqa: S608
        f" SELECT lane, ?, rank, record, size, ? FROM dead WHERE {where}",
        (UNCLAIMED, time.time(), *parameters),
    )
    return connection.execute(f"DELETE FROM dead WHERE {where}", parameters).rowcount  # noqa: S608


def drop(connection: sqlite3.Connection, chosen: DeadLetterQuery) -> int:
    """Throw away those that are meant, and count them so.

    Returns:
        How many.
    """
    where, parameters = chosen.where()
    lanes = connection.execute(f"SELECT lane, count(*) FROM dead WHERE {where} GROUP BY lane", parameters).fetchall()  # noqa: S608
    count(connection, Counter({(lane, DropReason.DEAD_LETTER_DROPPED.value): number for lane, number in lanes}))
    return connection.execute(f"DELETE FROM dead WHERE {where}", parameters).rowcount  # noqa: S608


def dead_letter_unreadable(connection: sqlite3.Connection, lane: int, owner: int, *, row: int, message: str) -> None:
    """Make a dead letter of a row whose body cannot be read."""
    connection.execute(
        "INSERT INTO dead (lane, rank, record, size, since, died, reason, message, attempts)"
        " SELECT lane, rank, record, size, since, ?, 'internal_error', ?, 0 FROM queue"
        " WHERE lane = ? AND owner = ? AND record = ?",
        (time.time(), f"cannot be read: {message}", lane, owner, row),
    )
    connection.execute("DELETE FROM queue WHERE lane = ? AND owner = ? AND record = ?", (lane, owner, row))
