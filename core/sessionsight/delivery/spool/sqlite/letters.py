"""Dead letters in a spool's file: found, tried again, dropped."""

from __future__ import annotations

import sqlite3
import time

import msgspec

from sessionsight.delivery.spool.base import DeadLetter
from sessionsight.delivery.spool.codec import from_bytes

__all__ = ["bury_unreadable", "of_lane"]

_FOUND = (
    "SELECT dead.id, lanes.name, dead.since, dead.record, records.body, dead.reason, dead.message, dead.status,"
    " dead.attempts, dead.first_attempt, dead.last_attempt, dead.died"
    " FROM dead JOIN lanes ON lanes.lane = dead.lane JOIN records ON records.id = dead.record"
)


def of_lane(connection: sqlite3.Connection, lane: str) -> list[DeadLetter]:
    """The dead letters of a lane, oldest first."""
    found: list[DeadLetter] = []
    for _, name, since, row, body, reason, message, status, attempts, first, last, _ in connection.execute(
        f"{_FOUND} WHERE lanes.name = ? ORDER BY dead.id", (lane,)
    ):
        try:
            entry = from_bytes(body, since=since, row=row)
        except msgspec.MsgspecError:  # it is dead for just that
            continue
        found.append(
            DeadLetter(
                destination=name,
                entry=entry,
                reason=reason,
                message=message,
                status=status,
                attempts=attempts,
                first_attempt=first,
                last_attempt=last,
            )
        )
    return found


def bury_unreadable(connection: sqlite3.Connection, lane: int, owner: int, *, row: int, message: str) -> None:
    """Make a dead letter of a row whose body cannot be read."""
    connection.execute(
        "INSERT INTO dead (lane, rank, record, size, since, died, reason, message, attempts)"
        " SELECT lane, rank, record, size, since, ?, 'internal_error', ?, 0 FROM queue"
        " WHERE lane = ? AND owner = ? AND record = ?",
        (time.time(), f"cannot be read: {message}", lane, owner, row),
    )
    connection.execute("DELETE FROM queue WHERE lane = ? AND owner = ? AND record = ?", (lane, owner, row))
