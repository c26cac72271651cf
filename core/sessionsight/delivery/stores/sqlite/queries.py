"""Statements on the queues of a SQLite store. Each function is a step within a transaction."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from sessionsight.capture.records import DropReason
from sessionsight.delivery.stores.base import Claim, Counts, Failure, NewRecord, Outcome, StoredRecord
from sessionsight.delivery.stores.sqlite import dead_letters
from sessionsight.delivery.stores.sqlite.ledger import increment
from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED

__all__ = [
    "claim",
    "claimed",
    "count_unresolved",
    "discard",
    "drain_unclaimed",
    "enqueue",
    "ensure_lanes",
    "lane_number",
    "last_id",
    "mark_in_flight",
    "owned_or_ready",
    "owners",
    "ready_lanes",
    "recover_abandoned",
    "release_owner",
    "search",
    "settle",
]

# A handle does not contain the priority, which is a part of the key.
_ROW = "lane = ? AND claimed_by = ? AND priority IN (0, 1) AND record = ?"


def ensure_lanes(connection: sqlite3.Connection, names: Collection[str]) -> dict[str, int]:
    """Add lanes that the file does not have yet, and return the numbers of all."""
    connection.executemany("INSERT OR IGNORE INTO lanes (name) VALUES (?)", [(name,) for name in names])
    return dict(connection.execute("SELECT name, lane FROM lanes"))


def lane_number(connection: sqlite3.Connection, name: str) -> int:
    """Return the number of a lane; 0, which no lane has, if the file does not have it."""
    found = connection.execute("SELECT lane FROM lanes WHERE name = ?", (name,)).fetchone()
    return int(found[0]) if found else 0


# --- enqueue --------------------------------------------------------------------------------------


def enqueue(
    connection: sqlite3.Connection,
    records: Sequence[NewRecord],
    counts: Counts,
    *,
    lanes: Mapping[str, int],
    epoch: int,
    window: float,
    keep: int,
    now: float,
) -> list[dict[str, int]]:
    """Add records to their lanes, each body once.

    Args:
        connection: Within a transaction.
        records: The records.
        counts: What to add to the counters.
        lanes: Names to numbers.
        epoch: The file's first row id.
        window: The number of seconds within which a key is a duplicate.
        keep: The number of dead letters that each lane keeps.
        now: The time of dead letters.

    Returns:
        As `Enqueued.handles`.
    """
    newest = last_id(connection)
    next_id = epoch if newest is None else newest + 1
    numbers = {(lanes[lane], counter): number for (lane, counter), number in counts.items()}
    bodies: list[tuple[int, int, bytes]] = []
    rows: list[tuple[int, int, int, int, int, float, str | None]] = []
    handles: list[dict[str, int]] = []
    dead: list[tuple[int, int, NewRecord]] = []
    for record in records:
        wanted, key = record.lanes, record.dedupe_key
        if record.failure is not None:
            dead += [(lanes[lane], next_id, record) for lane in wanted]
            wanted = ()
        elif key is not None:
            wanted = _new_lanes(connection, record, lanes, window)
            for lane, number in (Counter(record.lanes) - Counter(wanted)).items():
                counter = lanes[lane], DropReason.DUPLICATE.value
                numbers[counter] = numbers.get(counter, 0) + number
        handles.append(dict.fromkeys(wanted, next_id))
        if wanted or record.failure is not None:
            bodies.append((next_id, len(wanted), record.body))
            rows += [
                (lanes[lane], UNCLAIMED, record.priority, next_id, record.size, record.enqueued_at, key)
                for lane in wanted
            ]
            next_id += 1
    connection.executemany("INSERT INTO records VALUES (?, ?, ?)", bodies)
    connection.executemany(
        "INSERT INTO queue (lane, claimed_by, priority, record, size, enqueued_at, dedupe_key)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    if dead:
        dead_letters.add(connection, dead, now=now)
        for number in {number for number, _, _ in dead}:
            dead_letters.trim(connection, number, keep=keep)
    increment(connection, numbers)
    return handles


def _new_lanes(connection: sqlite3.Connection, record: NewRecord, lanes: Mapping[str, int], window: float) -> list[str]:
    """Remember a record's key, and return the lanes in which it is not a duplicate."""
    at, key = record.enqueued_at, record.dedupe_key
    return [lane for lane in record.lanes if _add_key(connection, lanes[lane], key, at, window)]


def _add_key(connection: sqlite3.Connection, lane: int, key: str | None, now: float, window: float) -> bool:
    """Remember a key, and return whether it is new within the window, before and after: the clock may be set back."""
    return bool(
        connection.execute(
            "INSERT INTO keys VALUES (?, ?, ?)"
            " ON CONFLICT (lane, dedupe_key) DO UPDATE SET seen_at = excluded.seen_at"
            " WHERE abs(keys.seen_at - excluded.seen_at) >= ?",
            (lane, key, now, window),
        ).rowcount
    )


# --- claims ---------------------------------------------------------------------------------------


def claim(
    connection: sqlite3.Connection, lane: int, owner: int, *, max_records: int, max_bytes: int, now: float
) -> tuple[list[Claim], bool]:
    """Claim the next rows of a lane for an owner, by priority.

    Returns:
        The rows, at least one if there is any, and whether more are ready.
    """
    connection.execute("INSERT OR IGNORE INTO owners SELECT ?, ?, ?", (owner, os.getpid(), now))
    found = connection.execute(
        "SELECT queue.priority, queue.size, queue.record, queue.enqueued_at, records.body"
        " FROM queue JOIN records ON records.id = queue.record"
        " WHERE queue.lane = ? AND queue.claimed_by = ? ORDER BY queue.priority, queue.record LIMIT ?",
        (lane, UNCLAIMED, max_records + 1),
    ).fetchall()
    total = number = 0
    for _, size, *_ in found[:max_records]:
        total += size
        if number and total > max_bytes:
            break
        number += 1
    if number:
        priority, _, record, *_ = found[number - 1]
        connection.execute(
            "UPDATE queue SET claimed_by = ? WHERE lane = ? AND claimed_by = ? AND (priority, record) <= (?, ?)",
            (owner, lane, UNCLAIMED, priority, record),
        )
    return [Claim(*row) for _, _, *row in found[:number]], len(found) > number


def claimed(connection: sqlite3.Connection, lane: int, owner: int) -> list[Claim]:
    """Return the rows that an owner has claimed and that are not in flight."""
    found = connection.execute(
        "SELECT queue.record, queue.enqueued_at, records.body FROM queue JOIN records ON records.id = queue.record"
        " WHERE queue.lane = ? AND queue.claimed_by = ? AND queue.in_flight = 0",
        (lane, owner),
    )
    return [Claim(*row) for row in found]


def mark_in_flight(connection: sqlite3.Connection, lane: int, owner: int, handles: Sequence[int]) -> set[int]:
    """Set the in-flight flag of the rows that the owner still holds, and return their ids."""
    update = f"UPDATE queue SET in_flight = 1 WHERE {_ROW}"  # noqa: S608
    return {handle for handle in handles if connection.execute(update, (lane, owner, handle)).rowcount}


def settle(connection: sqlite3.Connection, lane: int, owner: int, outcome: Outcome, *, keep: int, now: float) -> None:
    """Apply an outcome to the rows that the owner still holds, and keep this number of dead letters."""
    rows = [(lane, owner, handle) for handle in outcome.handles]
    if outcome.failure is None and outcome.counter is None:
        connection.executemany(f"UPDATE queue SET in_flight = 0 WHERE {_ROW}", rows)  # noqa: S608
        return
    if outcome.failure is not None:
        dead_letters.add_queued(connection, _ROW, rows, outcome.failure, now=now)
    deleted = connection.executemany(f"DELETE FROM queue WHERE {_ROW}", rows).rowcount  # noqa: S608
    if outcome.counter is not None:
        increment(connection, {(lane, outcome.counter): deleted})
    else:
        dead_letters.trim(connection, lane, keep=keep)


def discard(connection: sqlite3.Connection, lane: int, handles: Sequence[int], counter: str) -> int:
    """Delete unclaimed rows, count them, and return their number."""
    rows = [(lane, UNCLAIMED, handle) for handle in handles]
    deleted = connection.executemany(f"DELETE FROM queue WHERE {_ROW}", rows).rowcount if rows else 0  # noqa: S608
    increment(connection, {(lane, counter): deleted})
    return deleted


def recover_abandoned(
    connection: sqlite3.Connection, abandoned: Sequence[int], in_flight: Failure | None, *, keep: int, now: float
) -> int:
    """Release all claims of owners that have ended.

    Args:
        connection: Within a transaction.
        abandoned: The ids of these owners.
        in_flight: Make dead letters of records in flight.
        keep: The number of dead letters that each lane keeps.
        now: The time of the dead letters.

    Returns:
        The number of records that became dead letters.
    """
    dead = 0
    for owner in abandoned:
        for (lane,) in connection.execute("SELECT lane FROM lanes").fetchall():
            if in_flight is not None:
                where, row = "lane = ? AND claimed_by = ? AND in_flight = 1", (lane, owner)
                number = dead_letters.add_queued(connection, where, [row], in_flight, now=now)
                if number:
                    dead += number
                    connection.execute(f"DELETE FROM queue WHERE {where}", row)  # noqa: S608
                    dead_letters.trim(connection, lane, keep=keep)
            connection.execute(
                "UPDATE queue SET claimed_by = ?, in_flight = 0 WHERE lane = ? AND claimed_by = ?",
                (UNCLAIMED, lane, owner),
            )
        connection.execute("DELETE FROM owners WHERE owner = ?", (owner,))
    return dead


def release_owner(connection: sqlite3.Connection, owner: int) -> None:
    """Release an owner's claims, except those in flight, which are recovered once its lock is free."""
    for (lane,) in connection.execute("SELECT lane FROM lanes").fetchall():
        connection.execute(
            "UPDATE queue SET claimed_by = ? WHERE lane = ? AND claimed_by = ? AND in_flight = 0",
            (UNCLAIMED, lane, owner),
        )
    connection.execute(
        "DELETE FROM owners WHERE owner = ? AND NOT EXISTS"
        " (SELECT 1 FROM lanes JOIN queue ON queue.lane = lanes.lane AND queue.claimed_by = owners.owner)",
        (owner,),
    )


def drain_unclaimed(connection: sqlite3.Connection, owner: int) -> dict[str, list[Claim]]:
    """Remove all unclaimed rows, and those that the owner holds and that are not in flight, from a replaced file.

    Returns:
        Lane to unclaimed records. The owner knows its own.
    """
    found: dict[str, list[Claim]] = {}
    for name, *row in connection.execute(
        "SELECT lanes.name, queue.record, queue.enqueued_at, records.body FROM lanes"
        " JOIN queue ON queue.lane = lanes.lane AND queue.claimed_by = ? JOIN records ON records.id = queue.record",
        (UNCLAIMED,),
    ):
        found.setdefault(name, []).append(Claim(*row))
    connection.execute(
        "DELETE FROM queue WHERE claimed_by = ? OR (claimed_by = ? AND in_flight = 0)", (UNCLAIMED, owner)
    )
    return found


# --- reads ----------------------------------------------------------------------------------------


def ready_lanes(connection: sqlite3.Connection) -> list[str]:
    """Return the lanes that have unclaimed rows. Lanes without rows cost nothing."""
    found = connection.execute(
        "WITH RECURSIVE used (lane) AS (SELECT min(lane) FROM queue UNION ALL"
        " SELECT (SELECT min(lane) FROM queue WHERE lane > used.lane) FROM used WHERE used.lane IS NOT NULL)"
        " SELECT name FROM used JOIN lanes USING (lane)"
        " WHERE EXISTS (SELECT 1 FROM queue WHERE queue.lane = used.lane AND queue.claimed_by = ?)",
        (UNCLAIMED,),
    )
    return [name for (name,) in found]


def last_id(connection: sqlite3.Connection) -> int | None:
    """Return the newest record's row id."""
    (row_id,) = connection.execute("SELECT max(id) FROM records").fetchone()
    return None if row_id is None else int(row_id)


def owners(connection: sqlite3.Connection) -> list[int]:
    """Return the ids of all owners of claims."""
    return [owner for (owner,) in connection.execute("SELECT owner FROM owners")]


def count_unresolved(connection: sqlite3.Connection, lane: int, owner: int, last: int | None) -> int:
    """Return the number of rows that the owner or no process has claimed, up to a hundred and up to a row id."""
    (number,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM queue WHERE lane = ? AND claimed_by IN (?, ?)"
        " AND (? IS NULL OR record <= ?) LIMIT 100)",
        (lane, UNCLAIMED, owner, last, last),
    ).fetchone()
    return int(number)


def owned_or_ready(connection: sqlite3.Connection, lane: int, owner: int, row_ids: Sequence[int]) -> set[int]:
    """Return those of the row ids that the owner or no process has claimed."""
    marks = ", ".join("?" * len(row_ids))
    found = connection.execute(
        f"SELECT record FROM queue WHERE lane = ? AND claimed_by IN (?, ?) AND record IN ({marks})",  # noqa: S608
        (lane, UNCLAIMED, owner, *row_ids),
    )
    return {row_id for (row_id,) in found}


def search(connection: sqlite3.Connection, lane: int, fragment: bytes) -> list[StoredRecord]:
    """Return the rows whose body contains these bytes. The bodies have no index, so all are read."""
    found = connection.execute(
        "SELECT queue.record, records.body, queue.claimed_by = ?"
        " FROM queue JOIN records ON records.id = queue.record WHERE queue.lane = ? AND instr(records.body, ?)",
        (UNCLAIMED, lane, fragment),
    )
    return [StoredRecord(row_id, body, bool(ready)) for row_id, body, ready in found]
