"""Finding one record, or the records of one user, in a SQLite store. The bodies have no index, so all are read."""

from __future__ import annotations

import sqlite3

import msgspec

from sessionsight.capture.records import DropReason
from sessionsight.delivery.stats import RecordStatus
from sessionsight.delivery.stores.codec import decode_entry
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED
from sessionsight.delivery.stores.sqlite.queries import increment

__all__ = ["erase_user", "record_status"]

_QUEUE = "FROM queue JOIN records ON records.id = queue.record WHERE queue.lane = ?"
_DEAD_LETTERS = "FROM dead_letters JOIN records ON records.id = dead_letters.record WHERE dead_letters.lane = ?"
# A body contains bytes and text as they are, so most others need no decoding.
_CONTAINS = "AND instr(records.body, ?)"


def record_status(connection: sqlite3.Connection, lane: int, random: bytes) -> RecordStatus:
    """Return what is known of the record with these random bytes."""
    dead = connection.execute(
        f"SELECT reason, message {_DEAD_LETTERS} {_CONTAINS}",
        (lane, random),
    ).fetchone()
    if dead is not None:
        return RecordStatus(state="dead", reason=dead[0], message=dead[1])
    pending = connection.execute(f"SELECT 1 {_QUEUE} {_CONTAINS}", (lane, random)).fetchone()
    return RecordStatus(state="not_found" if pending is None else "pending")


def erase_user(connection: sqlite3.Connection, lane: int, user_id: str) -> int:
    """Delete a user's unclaimed records and dead letters, count them as dropped, and return their number."""
    sought = (lane, user_id.encode())
    queued = connection.execute(
        f"SELECT queue.priority, queue.record, records.body {_QUEUE} {_CONTAINS} AND claimed_by = ?",
        (*sought, UNCLAIMED),
    ).fetchall()
    rows = [(lane, UNCLAIMED, priority, record) for priority, record, body in queued if _is_about(body, user_id)]
    connection.executemany("DELETE FROM queue WHERE lane = ? AND claimed_by = ? AND priority = ? AND record = ?", rows)
    dead = connection.execute(
        f"SELECT dead_letters.id, records.body {_DEAD_LETTERS} {_CONTAINS}",
        sought,
    ).fetchall()
    letters = [(row_id,) for row_id, body in dead if _is_about(body, user_id)]
    connection.executemany("DELETE FROM dead_letters WHERE id = ?", letters)
    number = len(rows) + len(letters)
    increment(connection, {(lane, DropReason.ERASED.value): number})
    return number


def _is_about(body: bytes, user_id: str) -> bool:
    try:
        return decode_entry(body, enqueued_at=0.0, handle=0).user_id == user_id
    except msgspec.MsgspecError:  # a dead letter, because it cannot be read
        return False
