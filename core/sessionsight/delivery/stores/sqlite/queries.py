"""Statements on the queues of a SQLite store. Each function is a step within a transaction."""

from __future__ import annotations

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
from sessionsight.delivery.stores.sql_dead_letters import SqlDeadLetters
from sessionsight.delivery.stores.sqlite.connection import Cursor

__all__ = [
    "JOINED",
    "READY_LANES",
    "ROW",
    "UNCLAIMED",
    "claim",
    "dead_letters",
    "enqueue",
    "evict",
    "recover",
    "settle",
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
    ) SELECT lane FROM ready WHERE lane IS NOT NULL"""
# The number of records that are evicted at once, and in one transaction; requests wait for it.
_EVICT, _MAX_EVICTED = 100, 1000


def increment(cursor: Cursor, counts: Counts) -> None:
    """Add to the counters of lanes."""
    cursor.executemany(
        "INSERT INTO counts VALUES (?, ?, ?)"
        " ON CONFLICT (lane, counter) DO UPDATE SET number = number + excluded.number",
        [(lane, counter, number) for (lane, counter), number in counts.items() if number],
    )


dead_letters = SqlDeadLetters(
    increment, queue="queue", select=f"SELECT record, lane, priority, size, enqueued_at, body FROM {JOINED}"
)


def enqueue(
    cursor: Cursor,
    records: Sequence[NewRecord],
    counts: Counts,
    *,
    epoch: int,
    options: DeliveryOptions,
    now: float,
) -> list[dict[str, int]]:
    """Add records to their lanes, each body once, and return `Enqueued.handles`."""
    (newest,) = cursor.execute("SELECT max(id) FROM records").fetchone()
    next_id = epoch if newest is None else newest + 1
    numbers = Counter(counts)
    bodies: list[tuple[int, int, bytes]] = []
    rows: list[tuple[object, ...]] = []
    handles: list[dict[str, int]] = []
    for record in records:
        lanes, key = record.lanes, record.dedupe_key
        if record.failure is not None:
            dead_letters.add(cursor, record, record.failure, died_at=now)
            dead_letters.trim(cursor, keep=options.dead_letters)
            lanes = ()
        elif key is not None:
            lanes = [lane for lane in lanes if _add_key(cursor, lane, key, record.enqueued_at, options.dedupe_window)]
            duplicates = Counter(record.lanes) - Counter(lanes)
            numbers.update((lane, DropReason.DUPLICATE.value) for lane in duplicates.elements())
        handles.append(dict.fromkeys(lanes, next_id))
        if lanes:
            bodies.append((next_id, len(lanes), record.body))
            values = record.priority, next_id, record.size, record.enqueued_at, key
            rows += [(UNCLAIMED, lane, *values) for lane in lanes]
            next_id += 1
    cursor.executemany("INSERT INTO records VALUES (?, ?, ?)", bodies)
    cursor.executemany("INSERT INTO queue VALUES (?, ?, ?, ?, ?, ?, 0, ?, 0)", rows)
    increment(cursor, numbers)
    return handles


def _add_key(cursor: Cursor, lane: str, key: str, now: float, window: float) -> bool:
    """Remember a key, and return whether it is new within the window, before and after: the clock may be set back."""
    return bool(
        cursor.execute(
            "INSERT INTO keys VALUES (?, ?, ?)"
            " ON CONFLICT (lane, dedupe_key) DO UPDATE SET seen_at = excluded.seen_at"
            " WHERE abs(keys.seen_at - excluded.seen_at) >= ?",
            (lane, key, now, window),
        ).rowcount
    )


def claim(cursor: Cursor, lane: str, owner: int, *, max_records: int, max_bytes: int) -> tuple[list[Claim], bool]:
    """Claim the next rows of a lane for an owner, by priority, and return them, and whether more are ready."""
    cursor.execute("INSERT OR IGNORE INTO owners VALUES (?)", (owner,))
    found = cursor.execute(
        f"SELECT size, takeovers, priority, record, enqueued_at, body FROM {JOINED}"
        " WHERE claimed_by = ? AND lane = ? ORDER BY priority, record LIMIT ?",
        (UNCLAIMED, lane, max_records + 1),
    ).fetchall()
    number, suspect = next_claim((row[:2] for row in found[:max_records]), max_bytes)
    if suspect:  # another one is no longer on trial
        cursor.execute("UPDATE queue SET in_flight = 0 WHERE claimed_by = ? AND in_flight = 2", (owner,))
    if number:
        _, _, priority, record, *_ = found[number - 1]
        cursor.execute(
            "UPDATE queue SET claimed_by = ?, in_flight = ?"
            " WHERE claimed_by = ? AND lane = ? AND (priority, record) <= (?, ?)",
            (owner, 2 if suspect else 0, UNCLAIMED, lane, priority, record),
        )
    return [Claim(*row) for _, _, _, *row in found[:number]], len(found) > number


def settle(
    cursor: Cursor, lane: str, owner: int, outcomes: Sequence[Outcome], *, options: DeliveryOptions, now: float
) -> int:
    """Apply outcomes to the rows that the owner still holds, and return the number of those that were counted."""
    counted = 0
    for outcome in outcomes:
        rows = [(owner, lane, handle) for handle in outcome.handles]
        if outcome.failure is not None:
            for row in rows:
                dead_letters.bury(cursor, ROW, row, outcome.failure, died_at=now)
            dead_letters.trim(cursor, keep=options.dead_letters)
        elif outcome.counter is not None:
            deleted = cursor.executemany(f"DELETE FROM queue WHERE {ROW}", rows).rowcount
            increment(cursor, {(lane, outcome.counter): deleted})
            counted += deleted
        else:
            cursor.executemany(f"UPDATE queue SET in_flight = 0 WHERE {ROW}", rows)
    return counted


def recover(
    cursor: Cursor,
    ended: Sequence[int],
    in_flight: Failure | None,
    poison: Failure,
    *,
    options: DeliveryOptions,
    now: float,
) -> tuple[int, int]:
    """Release all claims of owners that have ended, and count their takeovers. See `Store.recover`."""
    last_chance = f"claimed_by = ? AND in_flight <> 0 AND takeovers >= {MAX_TAKEOVERS - 1}"
    unknown = poisoned = 0
    for owner in ended:
        if in_flight is not None:
            unknown += dead_letters.bury(cursor, "claimed_by = ? AND in_flight = 1", [owner], in_flight, died_at=now)
        poisoned += dead_letters.bury(cursor, last_chance, [owner], poison, died_at=now)
        cursor.execute(
            f"UPDATE queue SET claimed_by = {UNCLAIMED}, in_flight = 0,"
            f" takeovers = takeovers + (in_flight <> 0 OR takeovers < {SUSPECT_TAKEOVERS}) WHERE claimed_by = ?",
            [owner],
        )
        cursor.execute("DELETE FROM owners WHERE owner = ?", [owner])
    dead_letters.trim(cursor, keep=options.dead_letters)
    return unknown, poisoned


def release_owner(cursor: Cursor, owner: int) -> None:
    """Release an owner's claims, except those in flight, which are recovered once its lock is free."""
    cursor.execute(
        "UPDATE queue SET claimed_by = ?, in_flight = 0 WHERE claimed_by = ? AND in_flight <> 1", (UNCLAIMED, owner)
    )
    cursor.execute(
        "DELETE FROM owners WHERE owner = ? AND NOT EXISTS (SELECT 1 FROM queue WHERE claimed_by = owner)", (owner,)
    )


def evict(cursor: Cursor, max_bytes: int) -> Counter[str]:
    """Drop records while the file is too large, dead letters and keys included, and return their number by lane.

    The oldest unclaimed ones go first, events before goals. If one transaction does not suffice, the next one goes on.
    """
    evicted: Counter[str] = Counter()
    while evicted.total() < _MAX_EVICTED and used_bytes(cursor) > max_bytes:
        oldest = _oldest(cursor, priority=1) or _oldest(cursor, priority=0)
        if not oldest:
            break
        cursor.executemany(f"DELETE FROM queue WHERE {ROW}", [(UNCLAIMED, lane, it) for it, lane, _ in oldest])
        # So that a repeated call is not a duplicate.
        cursor.executemany("DELETE FROM keys WHERE lane = ? AND dedupe_key = ?", [row[1:] for row in oldest])
        evicted.update(lane for _, lane, _ in oldest)
    increment(cursor, {(lane, DropReason.QUEUE_FULL.value): number for lane, number in evicted.items()})
    return evicted


def _oldest(cursor: Cursor, *, priority: int) -> list[tuple[Any, ...]]:
    """Return the record, lane and key of the oldest unclaimed rows of all lanes."""
    select = (
        "SELECT record, lane, dedupe_key FROM queue WHERE claimed_by = ? AND lane = ? AND priority = ?"
        " ORDER BY record LIMIT ?"
    )
    lanes = cursor.execute(READY_LANES).fetchall()
    found = (row for lane in lanes for row in cursor.execute(select, (UNCLAIMED, *lane, priority, _EVICT)))
    return sorted(found)[:_EVICT]


def used_bytes(cursor: Cursor) -> int:
    """Return the size of the file without its free pages."""
    names = "page_count", "freelist_count", "page_size"
    pages, free, size = (cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int((pages - free) * size)
