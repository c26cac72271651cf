"""Statements on the tables of a SQLite store. Each function is a step within a transaction."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from sessionsight.capture.records import DropReason, Goal, QueuedRecord, record_id
from sessionsight.delivery.stores.base import (
    CAPTURED,
    DELIVERED,
    FALLBACK,
    DeadLetter,
    Enqueued,
    LaneBatch,
    record_size,
)
from sessionsight.delivery.stores.codec import decode_entry, encode_entry
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED

__all__ = [
    "Counts",
    "Row",
    "claim",
    "clear_in_flight",
    "dead_letter",
    "delete",
    "drain_unclaimed",
    "enqueue",
    "ensure_lanes",
    "import_counts",
    "increment",
    "mark_in_flight",
    "trim_dead_letters",
]

Counts = dict[tuple[int, str], int]
"""Lane and counter, to the number to add."""

Row = tuple[int, float, bytes]
"""Id, time of enqueueing, and body of a queued record."""

_PRIORITY_GOAL, _PRIORITY_OTHER = 0, 1

_ROW = "lane = ? AND claimed_by = ? AND priority = ? AND record = ?"
_DEAD_LETTER_COLUMNS = (
    "lane, priority, record, size, enqueued_at, died_at, reason, message, status, attempts, first_attempt, last_attempt"
)


def ensure_lanes(connection: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    """Add lanes that the file does not have yet, and return the numbers of all."""
    connection.executemany("INSERT OR IGNORE INTO lanes (name) VALUES (?)", [(name,) for name in names])
    return dict(connection.execute("SELECT name, lane FROM lanes"))


def increment(connection: sqlite3.Connection, counts: Counts) -> None:
    """Add to the counters."""
    connection.executemany(
        "INSERT INTO counts VALUES (?, ?, ?)"
        " ON CONFLICT (lane, counter) DO UPDATE SET number = number + excluded.number",
        [(lane, counter, number) for (lane, counter), number in counts.items() if number],
    )


def enqueue(
    connection: sqlite3.Connection,
    batches: Sequence[LaneBatch],
    bodies: Mapping[int, bytes],
    *,
    lanes: Mapping[str, int],
    epoch: int,
    window: float,
) -> Enqueued:
    """Add records to all lanes that accept them, each body once.

    Args:
        connection: Within a transaction.
        batches: The records of each lane. A record of several lanes is the same object in each of them.
        bodies: The `id()` of each record to its encoded body.
        lanes: Names to numbers.
        epoch: The file's first row id.
        window: The number of seconds within which a key is a duplicate.
    """
    (newest,) = connection.execute("SELECT max(id) FROM records").fetchone()
    next_id = epoch if newest is None else newest + 1
    counts: Counts = {}
    handles: dict[tuple[str, bytes], int] = {}
    added: dict[str, tuple[int, int]] = {}
    # By the `id()` of each record: priority, row id, size and time of enqueueing; and the number of lanes.
    rows: dict[int, tuple[int, int, int, float]] = {}
    refcounts: dict[int, int] = {}
    queued: list[tuple[int, int, int, int, float]] = []
    for batch in batches:
        lane = lanes[batch.lane]
        number, size = added.get(batch.lane, (0, 0))
        for entry in batch.entries:
            record = entry.record
            if record.key is not None and not _add_key(connection, lane, entry, window):
                _add(counts, lane, DropReason.DUPLICATE.value)
                continue
            known = id(record)
            row = rows.get(known)
            if row is None:
                row = rows[known] = (_priority(entry), next_id, record_size(entry), entry.enqueued_at)
                refcounts[known] = 0
                next_id += 1
            refcounts[known] += 1
            queued.append((lane, *row))
            handles[batch.lane, record.random] = row[1]
            number += 1
            size += row[2]
        added[batch.lane] = number, size
        _add(counts, lane, CAPTURED, len(batch.entries) + len(batch.dropped))
        for reason in batch.dropped:
            _add(counts, lane, reason.value)
    connection.executemany(
        "INSERT INTO records VALUES (?, ?, ?)",
        [(row_id, refcounts[known], bodies[known]) for known, (_, row_id, _, _) in rows.items()],
    )
    connection.executemany(
        "INSERT INTO queue (lane, claimed_by, priority, record, size, enqueued_at)"  # noqa: S608
        f" VALUES (?, {UNCLAIMED}, ?, ?, ?, ?)",
        queued,
    )
    increment(connection, counts)
    return Enqueued(handles, added, {})


def claim(
    connection: sqlite3.Connection, lane: int, owner: int, *, max_records: int, max_bytes: int, now: float
) -> tuple[list[Row], bool]:
    """Claim the next rows of a lane for an owner, goals first.

    Returns:
        The rows, at least one if there is any, and whether more are ready.
    """
    connection.execute("INSERT OR IGNORE INTO owners SELECT ?, ?, ?", (owner, os.getpid(), now))
    found = connection.execute(
        "SELECT queue.priority, queue.record, queue.size, queue.enqueued_at, records.body"
        " FROM queue JOIN records ON records.id = queue.record"
        " WHERE queue.lane = ? AND queue.claimed_by = ? ORDER BY queue.priority, queue.record LIMIT ?",
        (lane, UNCLAIMED, max_records + 1),
    ).fetchall()
    total = claimed = 0
    for _, _, size, _, _ in found[:max_records]:
        total += size
        if claimed and total > max_bytes:
            break
        claimed += 1
    if claimed:
        priority, record, *_ = found[claimed - 1]
        connection.execute(
            "UPDATE queue SET claimed_by = ? WHERE lane = ? AND claimed_by = ? AND (priority, record) <= (?, ?)",
            (owner, lane, UNCLAIMED, priority, record),
        )
    return [(record, at, body) for _, record, _, at, body in found[:claimed]], len(found) > claimed


def mark_in_flight(connection: sqlite3.Connection, lane: int, owner: int, entries: Sequence[QueuedRecord]) -> set[int]:
    """Set the in-flight flag of the rows that the owner still holds, and return their ids."""
    return {
        row[-1]
        for row in _rows(lane, owner, entries)
        if connection.execute(f"UPDATE queue SET in_flight = 1 WHERE {_ROW}", row).rowcount  # noqa: S608
    }


def clear_in_flight(connection: sqlite3.Connection, lane: int, owner: int, entries: Sequence[QueuedRecord]) -> None:
    """Clear the in-flight flag."""
    connection.executemany(f"UPDATE queue SET in_flight = 0 WHERE {_ROW}", _rows(lane, owner, entries))  # noqa: S608


def delete(
    connection: sqlite3.Connection, lane: int, owner: int, entries: Sequence[QueuedRecord], counter: str
) -> None:
    """Delete rows that the owner holds, and count them as delivered or as dropped for a reason."""
    cursor = connection.executemany(f"DELETE FROM queue WHERE {_ROW}", _rows(lane, owner, entries))  # noqa: S608
    increment(connection, {(lane, counter): cursor.rowcount})


def dead_letter(
    connection: sqlite3.Connection, lane: int, owner: int, dead_letters: Sequence[DeadLetter], *, keep: int, now: float
) -> None:
    """Make dead letters of rows that the owner holds, and drop the oldest ones of the lane above `keep`."""
    connection.executemany(
        f"INSERT INTO dead_letters ({_DEAD_LETTER_COLUMNS})"  # noqa: S608
        f" SELECT lane, priority, record, size, enqueued_at, ?, ?, ?, ?, ?, ?, ? FROM queue WHERE {_ROW}",
        [
            (now, *_failure(letter), lane, owner, _priority(letter.entry), letter.entry.handle)
            for letter in dead_letters
        ],
    )
    entries = [letter.entry for letter in dead_letters]
    connection.executemany(f"DELETE FROM queue WHERE {_ROW}", _rows(lane, owner, entries))  # noqa: S608
    trim_dead_letters(connection, lane, keep=keep)


def dead_letter_unreadable(
    connection: sqlite3.Connection, lane: int, owner: int, unreadable: Mapping[int, str], *, keep: int, now: float
) -> None:
    """Make dead letters of rows that the owner holds and whose body cannot be decoded."""
    for row_id, error in unreadable.items():
        connection.execute(
            "INSERT INTO dead_letters (lane, priority, record, size, enqueued_at, died_at, reason, message, attempts)"
            " SELECT lane, priority, record, size, enqueued_at, ?, 'internal_error', ?, 0 FROM queue"
            " WHERE lane = ? AND claimed_by = ? AND record = ?",
            (now, f"cannot be read: {error}", lane, owner, row_id),
        )
        connection.execute("DELETE FROM queue WHERE lane = ? AND claimed_by = ? AND record = ?", (lane, owner, row_id))
    trim_dead_letters(connection, lane, keep=keep)


def import_counts(
    connection: sqlite3.Connection,
    lane: int,
    *,
    delivered: int,
    dropped: Counter[DropReason],
    dead_letters: Sequence[DeadLetter],
    now: float,
) -> int:
    """Count records that were resolved without ever having been in the file, and add their dead letters.

    Returns:
        The number of dead letters that are stored without their record because it cannot be encoded.
    """
    counts: Counts = {(lane, reason.value): number for reason, number in dropped.items()}
    counts[lane, DELIVERED] = delivered
    counts[lane, CAPTURED] = delivered + dropped.total() + len(dead_letters)
    counts[lane, FALLBACK] = delivered + len(dead_letters)
    increment(connection, counts)
    unencoded = 0
    for given in dead_letters:
        letter, body = _encode_dead_letter(given)
        unencoded += not body
        entry = letter.entry
        row_id = connection.execute("INSERT INTO records (refcount, body) VALUES (0, ?)", (body,)).lastrowid
        connection.execute(
            f"INSERT INTO dead_letters ({_DEAD_LETTER_COLUMNS})"  # noqa: S608
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                lane, _priority(entry), row_id, record_size(entry), entry.enqueued_at, now, *_failure(letter),
            ),
        )  # fmt: skip
    return unencoded


def trim_dead_letters(connection: sqlite3.Connection, lane: int, *, keep: int) -> None:
    """Drop the oldest dead letters of a lane above `keep`."""
    (number,) = connection.execute("SELECT count(*) FROM dead_letters WHERE lane = ?", (lane,)).fetchone()
    if number > keep:
        connection.execute(
            "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE lane = ? ORDER BY id LIMIT ?)",
            (lane, number - keep),
        )
        increment(connection, {(lane, DropReason.DEAD_LETTERS_FULL.value): number - keep})


def drain_unclaimed(connection: sqlite3.Connection, owner: int) -> dict[str, list[QueuedRecord]]:
    """Remove all unclaimed rows, and those that the owner holds and that are not in flight, from a replaced file.

    Returns:
        Lane to unclaimed records. The owner knows its own.
    """
    found: dict[str, list[QueuedRecord]] = {}
    for row_id, name, enqueued_at, body in connection.execute(
        "SELECT queue.record, lanes.name, queue.enqueued_at, records.body FROM lanes"
        " JOIN queue ON queue.lane = lanes.lane AND queue.claimed_by = ? JOIN records ON records.id = queue.record",
        (UNCLAIMED,),
    ).fetchall():
        with contextlib.suppress(msgspec.MsgspecError):
            found.setdefault(name, []).append(decode_entry(body, enqueued_at=enqueued_at, handle=row_id))
    connection.execute(
        "DELETE FROM queue WHERE claimed_by = ? OR (claimed_by = ? AND in_flight = 0)", (UNCLAIMED, owner)
    )
    return found


def _add(counts: Counts, lane: int, counter: str, number: int = 1) -> None:
    counts[lane, counter] = counts.get((lane, counter), 0) + number


def _add_key(connection: sqlite3.Connection, lane: int, entry: QueuedRecord, window: float) -> bool:
    """Remember a key, and return whether it is new within the window, before and after: the clock may be set back."""
    return bool(
        connection.execute(
            "INSERT INTO keys VALUES (?, ?, ?)"
            " ON CONFLICT (lane, dedupe_key) DO UPDATE SET seen_at = excluded.seen_at"
            " WHERE abs(keys.seen_at - excluded.seen_at) >= ?",
            (lane, record_id(entry.record), entry.enqueued_at, window),
        ).rowcount
    )


def _encode_dead_letter(letter: DeadLetter) -> tuple[DeadLetter, bytes]:
    """Return a dead letter and its encoded record; empty if that cannot be encoded, which its message then says."""
    try:
        return letter, encode_entry(letter.entry)
    except Exception as error:  # a context that the application has created may contain any value
        why = f"the record itself cannot be written ({type(error).__name__}: {error})"
        return replace(letter, message=f"{letter.message}; {why}"), b""


def _failure(letter: DeadLetter) -> tuple[object, ...]:
    return (
        letter.reason,
        letter.message,
        letter.status,
        letter.attempts,
        letter.first_attempt,
        letter.last_attempt,
    )


def _rows(lane: int, owner: int, entries: Sequence[QueuedRecord]) -> list[tuple[int, int, int, int]]:
    return [(lane, owner, _priority(entry), entry.handle) for entry in entries]


def _priority(entry: QueuedRecord) -> int:
    return _PRIORITY_GOAL if type(entry.record) is Goal else _PRIORITY_OTHER
