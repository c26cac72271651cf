"""Finding, retrying and dropping the dead letters of a SQLite store."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter

import msgspec
from msgspec import Struct

from sessionsight.capture.records import DropReason
from sessionsight.delivery.stores.base import DeadLetter
from sessionsight.delivery.stores.codec import decode_entry
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED
from sessionsight.delivery.stores.sqlite.queries import increment

__all__ = ["DeadLetterQuery", "StoredDeadLetter", "drop", "find", "of_lane", "retry"]


class StoredDeadLetter(Struct, frozen=True, kw_only=True):
    """A row of the table of dead letters."""

    id: int
    died_at: float
    """Unix seconds."""
    letter: DeadLetter | None
    """None when the record cannot be decoded."""
    lane: str
    reason: str
    message: str
    body: bytes


class DeadLetterQuery(Struct, frozen=True, kw_only=True):
    """A selection of dead letters: those that match every condition that is set."""

    ids: tuple[int, ...] = ()
    lane: str | None = None
    reason: str | None = None
    died_before: float | None = None
    """Unix seconds."""
    died_after: float | None = None

    def where(self) -> tuple[str, list[object]]:
        """Return the condition in SQL, and its parameters."""
        conditions: dict[str, object] = {}
        if self.lane is not None:
            conditions["dead_letters.lane = (SELECT lane FROM lanes WHERE name = ?)"] = self.lane
        if self.reason is not None:
            conditions["dead_letters.reason = ?"] = self.reason
        if self.died_before is not None:
            conditions["dead_letters.died_at < ?"] = self.died_before
        if self.died_after is not None:
            conditions["dead_letters.died_at > ?"] = self.died_after
        parts = [*conditions]
        if self.ids:
            parts.append(f"dead_letters.id IN ({', '.join('?' * len(self.ids))})")
        return " AND ".join(parts) or "1", [*conditions.values(), *self.ids]


_SELECT = (
    "SELECT dead_letters.id, lanes.name, dead_letters.enqueued_at, dead_letters.record, records.body,"
    " dead_letters.reason, dead_letters.message, dead_letters.status, dead_letters.attempts,"
    " dead_letters.first_attempt, dead_letters.last_attempt, dead_letters.died_at"
    " FROM dead_letters JOIN lanes ON lanes.lane = dead_letters.lane JOIN records ON records.id = dead_letters.record"
)


def find(connection: sqlite3.Connection, query: DeadLetterQuery, limit: int = -1) -> list[StoredDeadLetter]:
    """Return the selected dead letters, oldest first."""
    where, parameters = query.where()
    found: list[StoredDeadLetter] = []
    for number, lane, at, row_id, body, reason, message, status, attempts, first, last, died_at in connection.execute(
        f"{_SELECT} WHERE {where} ORDER BY dead_letters.id LIMIT ?",  # the condition has placeholders only
        (*parameters, limit),
    ):
        letter = None
        with contextlib.suppress(msgspec.MsgspecError):  # it became a dead letter because of that
            letter = DeadLetter(
                destination=lane,
                entry=decode_entry(body, enqueued_at=at, handle=row_id),
                reason=reason,
                message=message,
                status=status,
                attempts=attempts,
                first_attempt=first,
                last_attempt=last,
            )
        found.append(
            StoredDeadLetter(
                id=number, died_at=died_at, letter=letter, lane=lane, reason=reason, message=message, body=body
            )
        )
    return found


def of_lane(connection: sqlite3.Connection, lane: str) -> list[DeadLetter]:
    """Return the dead letters of a lane, oldest first, without those that cannot be decoded."""
    return [stored.letter for stored in find(connection, DeadLetterQuery(lane=lane)) if stored.letter is not None]


def retry(connection: sqlite3.Connection, query: DeadLetterQuery) -> int:
    """Queue the selected dead letters again, as if they were captured now. Their keys are not checked.

    Returns:
        Their number.
    """
    where, parameters = query.where()
    connection.execute(
        "UPDATE records SET refcount = refcount"  # noqa: S608
        f" + (SELECT count(*) FROM dead_letters WHERE dead_letters.record = records.id AND {where})"
        f" WHERE id IN (SELECT record FROM dead_letters WHERE {where})",
        (*parameters, *parameters),
    )
    connection.execute(
        "INSERT INTO queue (lane, claimed_by, priority, record, size, enqueued_at)"  # noqa: S608
        f" SELECT lane, ?, priority, record, size, ? FROM dead_letters WHERE {where}",
        (UNCLAIMED, time.time(), *parameters),
    )
    return connection.execute(f"DELETE FROM dead_letters WHERE {where}", parameters).rowcount  # noqa: S608


def drop(connection: sqlite3.Connection, query: DeadLetterQuery) -> int:
    """Delete the selected dead letters, and count them as dropped.

    Returns:
        Their number.
    """
    where, parameters = query.where()
    lanes = connection.execute(
        f"SELECT lane, count(*) FROM dead_letters WHERE {where} GROUP BY lane",  # noqa: S608
        parameters,
    ).fetchall()
    increment(connection, Counter({(lane, DropReason.DEAD_LETTER_DROPPED.value): number for lane, number in lanes}))
    return connection.execute(f"DELETE FROM dead_letters WHERE {where}", parameters).rowcount  # noqa: S608
