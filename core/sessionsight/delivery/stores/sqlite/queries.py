"""Statements on the queues of a SQLite store. Each function is a step within a transaction."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sessionsight.capture.records import DropReason
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.stores.base import (
    MAX_TAKEOVERS,
    SUSPECT_TAKEOVERS,
    Claim,
    Counts,
    Failure,
    NewRecord,
    Outcome,
    next_claim,
)
from sessionsight.delivery.stores.sqlite import dead_letters
from sessionsight.delivery.stores.sqlite.dead_letters import increment

__all__ = [
    "JOINED",
    "READY_LANES",
    "ROW",
    "UNCLAIMED",
    "claim",
    "enqueue",
    "evict",
    "recover",
    "release_owner",
    "settle",
    "used_bytes",
]

UNCLAIMED = 0
# A handle does not contain the priority, which is a part of the key.
ROW = "claimed_by = ? AND lane = ? AND priority IN (0, 1) AND record = ?"
JOINED = "queue JOIN records ON records.id = queue.record"
# One look-up for each lane that has unclaimed rows.
READY_LANES = f"""
    WITH RECURSIVE ready (lane) AS (
        SELECT min(lane) FROM queue WHERE claimed_by = {UNCLAIMED}
        UNION ALL
        SELECT (SELECT min(lane) FROM queue WHERE claimed_by = {UNCLAIMED} AND lane > ready.lane)
        FROM ready WHERE ready.lane IS NOT NULL
    ) SELECT lane FROM ready WHERE lane IS NOT NULL"""  # noqa: S608
# The number of records that are evicted at once, and in one transaction; requests wait for it.
_EVICT, _MAX_EVICTED = 100, 1000


def enqueue(
    connection: sqlite3.Connection,
    records: Sequence[NewRecord],
    counts: Counts,
    *,
    epoch: int,
    options: DeliveryOptions,
    now: float,
) -> list[dict[str, int]]:
    """Add records to their lanes, each body once, and return `Enqueued.handles`."""
    (newest,) = connection.execute("SELECT max(id) FROM records").fetchone()
    next_id = epoch if newest is None else newest + 1
    numbers = dict(counts)
    bodies: list[tuple[int, int, bytes]] = []
    rows: list[tuple[int, str, int, int, int, float, str | None]] = []
    handles: list[dict[str, int]] = []
    for record in records:
        wanted, key = record.lanes, record.dedupe_key
        if record.failure is not None:
            dead_letters.add(connection, record, keep=options.dead_letters, now=now)
            wanted = ()
        elif key is not None:
            at, window = record.enqueued_at, options.dedupe_window
            wanted = [lane for lane in wanted if _add_key(connection, lane, key, at, window)]
            for lane, number in (Counter(record.lanes) - Counter(wanted)).items():
                counter = lane, DropReason.DUPLICATE.value
                numbers[counter] = numbers.get(counter, 0) + number
        handles.append(dict.fromkeys(wanted, next_id))
        if wanted:
            bodies.append((next_id, len(wanted), record.body))
            rows += [
                (UNCLAIMED, lane, record.priority, next_id, record.size, record.enqueued_at, key) for lane in wanted
            ]
            next_id += 1
    connection.executemany("INSERT INTO records VALUES (?, ?, ?)", bodies)
    connection.executemany("INSERT INTO queue VALUES (?, ?, ?, ?, ?, ?, 0, ?, 0)", rows)
    increment(connection, numbers)
    return handles


def _add_key(connection: sqlite3.Connection, lane: str, key: str, now: float, window: float) -> bool:
    """Remember a key, and return whether it is new within the window, before and after: the clock may be set back."""
    return bool(
        connection.execute(
            "INSERT INTO keys VALUES (?, ?, ?)"
            " ON CONFLICT (lane, dedupe_key) DO UPDATE SET seen_at = excluded.seen_at"
            " WHERE abs(keys.seen_at - excluded.seen_at) >= ?",
            (lane, key, now, window),
        ).rowcount
    )


def claim(
    connection: sqlite3.Connection, lane: str, owner: int, *, max_records: int, max_bytes: int
) -> tuple[list[Claim], bool]:
    """Claim the next rows of a lane for an owner, by priority, and return them, and whether more are ready."""
    connection.execute("INSERT OR IGNORE INTO owners VALUES (?)", (owner,))
    found = connection.execute(
        f"SELECT size, takeovers, priority, record, enqueued_at, body FROM {JOINED}"  # noqa: S608
        " WHERE claimed_by = ? AND lane = ? ORDER BY priority, record LIMIT ?",
        (UNCLAIMED, lane, max_records + 1),
    ).fetchall()
    number, suspect = next_claim((row[:2] for row in found[:max_records]), max_bytes)
    if suspect:  # another one is no longer on trial
        connection.execute("UPDATE queue SET in_flight = 0 WHERE claimed_by = ? AND in_flight = 2", (owner,))
    if number:
        _, _, priority, record, *_ = found[number - 1]
        connection.execute(
            "UPDATE queue SET claimed_by = ?, in_flight = ?"
            " WHERE claimed_by = ? AND lane = ? AND (priority, record) <= (?, ?)",
            (owner, 2 if suspect else 0, UNCLAIMED, lane, priority, record),
        )
    return [Claim(*row) for _, _, _, *row in found[:number]], len(found) > number


def settle(connection: sqlite3.Connection, lane: str, owner: int, outcome: Outcome, *, keep: int, now: float) -> None:
    """Apply an outcome to the rows that the owner still holds, and keep this number of dead letters."""
    rows = [(owner, lane, handle) for handle in outcome.handles]
    if outcome.failure is not None:
        dead_letters.move(connection, ROW, rows, outcome.failure, keep=keep, now=now)
    elif outcome.counter is not None:
        deleted = connection.executemany(f"DELETE FROM queue WHERE {ROW}", rows).rowcount  # noqa: S608
        increment(connection, {(lane, outcome.counter): deleted})
    else:
        connection.executemany(f"UPDATE queue SET in_flight = 0 WHERE {ROW}", rows)  # noqa: S608


def recover(
    connection: sqlite3.Connection,
    abandoned: Sequence[int],
    in_flight: Failure | None,
    poison: Failure,
    *,
    keep: int,
    now: float,
) -> tuple[int, int]:
    """Release all claims of owners that have ended, and count their takeovers. See `Store.recover`."""
    rows = [(owner,) for owner in abandoned]
    unknown = 0
    if in_flight is not None:
        unknown = dead_letters.move(connection, "claimed_by = ? AND in_flight = 1", rows, in_flight, keep=keep, now=now)
    last_chance = f"claimed_by = ? AND in_flight <> 0 AND takeovers >= {MAX_TAKEOVERS - 1}"
    poisoned = dead_letters.move(connection, last_chance, rows, poison, keep=keep, now=now)
    connection.executemany(
        f"UPDATE queue SET claimed_by = {UNCLAIMED}, in_flight = 0,"  # noqa: S608
        f" takeovers = takeovers + (in_flight <> 0 OR takeovers < {SUSPECT_TAKEOVERS}) WHERE claimed_by = ?",
        rows,
    )
    connection.executemany("DELETE FROM owners WHERE owner = ?", rows)
    return unknown, poisoned


def release_owner(connection: sqlite3.Connection, owner: int) -> None:
    """Release an owner's claims, except those in flight, which are recovered once its lock is free."""
    connection.execute(
        "UPDATE queue SET claimed_by = ?, in_flight = 0 WHERE claimed_by = ? AND in_flight <> 1", (UNCLAIMED, owner)
    )
    connection.execute(
        "DELETE FROM owners WHERE owner = ? AND NOT EXISTS (SELECT 1 FROM queue WHERE claimed_by = owner)", (owner,)
    )


def evict(connection: sqlite3.Connection, max_bytes: int) -> Counter[str]:
    """Drop records while the file is too large, dead letters and keys included, and return their number by lane.

    The oldest unclaimed ones go first, events before goals. If one transaction does not suffice, the next one goes on.
    """
    evicted: Counter[str] = Counter()
    while evicted.total() < _MAX_EVICTED and used_bytes(connection) > max_bytes:
        oldest = _oldest(connection, priority=1) or _oldest(connection, priority=0)
        if not oldest:
            break
        connection.executemany(f"DELETE FROM queue WHERE {ROW}", [(UNCLAIMED, lane, it) for it, lane, _ in oldest])  # noqa: S608
        # So that a repeated call is not a duplicate.
        connection.executemany("DELETE FROM keys WHERE lane = ? AND dedupe_key = ?", [row[1:] for row in oldest])
        evicted.update(lane for _, lane, _ in oldest)
    increment(connection, {(lane, DropReason.QUEUE_FULL.value): number for lane, number in evicted.items()})
    return evicted


def _oldest(connection: sqlite3.Connection, *, priority: int) -> list[tuple[Any, ...]]:
    """Return the record, lane and key of the oldest unclaimed rows of all lanes."""
    select = (
        "SELECT record, lane, dedupe_key FROM queue WHERE claimed_by = ? AND lane = ? AND priority = ?"
        " ORDER BY record LIMIT ?"
    )
    lanes = connection.execute(READY_LANES).fetchall()
    found = (row for lane in lanes for row in connection.execute(select, (UNCLAIMED, *lane, priority, _EVICT)))
    return sorted(found)[:_EVICT]


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return the size of the file without its free pages."""
    names = "page_count", "freelist_count", "page_size"
    pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int((pages - free) * size)
