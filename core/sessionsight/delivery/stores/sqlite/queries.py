"""Statements on the queues of a SQLite store. Each function is a step within a transaction."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence

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
    StoredRecord,
    next_claim,
)
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
_ROW = "claimed_by = ? AND lane = ? AND priority IN (0, 1) AND record = ?"
_JOINED = "queue JOIN records ON records.id = queue.record"


# --- enqueue --------------------------------------------------------------------------------------


def enqueue(
    connection: sqlite3.Connection,
    records: Sequence[NewRecord],
    counts: Counts,
    *,
    epoch: int,
    options: DeliveryOptions,
    now: float,
) -> list[dict[str, int]]:
    """Add records to their lanes, each body once.

    Args:
        connection: Within a transaction.
        records: The records.
        counts: What to add to the counters.
        epoch: The file's first row id.
        options: The window of keys, and the number of dead letters that each lane keeps.
        now: The time of dead letters.

    Returns:
        As `Enqueued.handles`.
    """
    newest = last_id(connection)
    next_id = epoch if newest is None else newest + 1
    numbers = dict(counts)
    bodies: list[tuple[int, int, bytes]] = []
    rows: list[tuple[int, str, int, int, int, float, str | None]] = []
    handles: list[dict[str, int]] = []
    for record in records:
        wanted, key = record.lanes, record.dedupe_key
        if record.failure is not None:
            dead_letters.add(connection, record, now=now)
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
    if any(record.failure is not None for record in records):
        dead_letters.trim(connection, keep=options.dead_letters)
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


# --- claims ---------------------------------------------------------------------------------------


def claim(
    connection: sqlite3.Connection, lane: str, owner: int, *, max_records: int, max_bytes: int
) -> tuple[list[Claim], bool]:
    """Claim the next rows of a lane for an owner, by priority.

    Returns:
        The rows, at least one if there is any, and whether more are ready.
    """
    connection.execute("INSERT OR IGNORE INTO owners VALUES (?)", (owner,))
    found = connection.execute(
        f"SELECT size, takeovers, priority, record, enqueued_at, body FROM {_JOINED}"  # noqa: S608
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


def claimed(connection: sqlite3.Connection, lane: str, owner: int) -> list[Claim]:
    """Return the rows that an owner has claimed and that are not in flight."""
    found = connection.execute(
        f"SELECT record, enqueued_at, body FROM {_JOINED} WHERE claimed_by = ? AND lane = ? AND in_flight <> 1",  # noqa: S608
        (owner, lane),
    )
    return [Claim(*row) for row in found]


def mark_in_flight(connection: sqlite3.Connection, lane: str, owner: int, handles: Sequence[int]) -> set[int]:
    """Set the in-flight flag of the rows that the owner still holds, and return their ids."""
    update = f"UPDATE queue SET in_flight = 1 WHERE {_ROW}"  # noqa: S608
    return {handle for handle in handles if connection.execute(update, (owner, lane, handle)).rowcount}


def settle(connection: sqlite3.Connection, lane: str, owner: int, outcome: Outcome, *, keep: int, now: float) -> None:
    """Apply an outcome to the rows that the owner still holds, and keep this number of dead letters."""
    rows = [(owner, lane, handle) for handle in outcome.handles]
    if outcome.failure is None and outcome.counter is None:
        connection.executemany(f"UPDATE queue SET in_flight = 0 WHERE {_ROW}", rows)  # noqa: S608
    elif outcome.failure is not None:
        dead_letters.move(connection, _ROW, rows, outcome.failure, keep=keep, now=now)
    else:
        deleted = connection.executemany(f"DELETE FROM queue WHERE {_ROW}", rows).rowcount  # noqa: S608
        increment(connection, {(lane, outcome.counter or ""): deleted})


def discard(connection: sqlite3.Connection, lane: str, handles: Sequence[int], counter: str) -> int:
    """Delete unclaimed rows, count them, and return their number."""
    rows = [(UNCLAIMED, lane, handle) for handle in handles]
    deleted = connection.executemany(f"DELETE FROM queue WHERE {_ROW}", rows).rowcount if rows else 0  # noqa: S608
    increment(connection, {(lane, counter): deleted})
    return deleted


def recover_abandoned(
    connection: sqlite3.Connection,
    abandoned: Sequence[int],
    in_flight: Failure | None,
    poison: Failure,
    *,
    keep: int,
    now: float,
) -> tuple[int, int]:
    """Release all claims of owners that have ended, and count their takeovers.

    Args:
        connection: Within a transaction.
        abandoned: The ids of these owners.
        in_flight: Make dead letters of records in flight.
        poison: Make dead letters of records that were taken over too often.
        keep: The number of dead letters that each lane keeps.
        now: The time of the dead letters.

    Returns:
        The numbers of records that became dead letters for either reason.
    """
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


def drain_unclaimed(connection: sqlite3.Connection, owner: int) -> dict[str, list[Claim]]:
    """Remove all unclaimed rows, and those that the owner holds and that are not in flight, from a replaced file.

    Returns:
        Lane to unclaimed records. The owner knows its own.
    """
    found: dict[str, list[Claim]] = {}
    for lane, *row in connection.execute(
        f"SELECT lane, record, enqueued_at, body FROM {_JOINED} WHERE claimed_by = ?",  # noqa: S608
        (UNCLAIMED,),
    ):
        found.setdefault(lane, []).append(Claim(*row))
    connection.execute("DELETE FROM queue WHERE claimed_by IN (?, ?) AND in_flight <> 1", (UNCLAIMED, owner))
    return found


# --- reads ----------------------------------------------------------------------------------------


def ready_lanes(connection: sqlite3.Connection) -> list[str]:
    """Return the lanes that have unclaimed rows, by one look-up for each."""
    found = connection.execute(
        "WITH RECURSIVE ready (lane) AS (SELECT min(lane) FROM queue WHERE claimed_by = :owner UNION ALL"
        " SELECT (SELECT min(lane) FROM queue WHERE claimed_by = :owner AND lane > ready.lane)"
        " FROM ready WHERE ready.lane IS NOT NULL)"
        " SELECT lane FROM ready WHERE lane IS NOT NULL",
        {"owner": UNCLAIMED},
    )
    return [lane for (lane,) in found]


def last_id(connection: sqlite3.Connection) -> int | None:
    """Return the newest record's row id."""
    (row_id,) = connection.execute("SELECT max(id) FROM records").fetchone()
    return None if row_id is None else int(row_id)


def owners(connection: sqlite3.Connection) -> list[int]:
    """Return the ids of all owners of claims."""
    return [owner for (owner,) in connection.execute("SELECT owner FROM owners")]


def count_unresolved(connection: sqlite3.Connection, lane: str, owner: int, last: int | None) -> int:
    """Return the number of rows that the owner or no process has claimed, up to a hundred and up to a row id."""
    (number,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM queue WHERE claimed_by IN (?, ?) AND lane = ?"
        " AND (? IS NULL OR record <= ?) LIMIT 100)",
        (UNCLAIMED, owner, lane, last, last),
    ).fetchone()
    return int(number)


def owned_or_ready(connection: sqlite3.Connection, lane: str, owner: int, handles: Collection[int]) -> set[int]:
    """Return those of the row ids that the owner or no process has claimed."""
    marks = ", ".join("?" * len(handles))
    found = connection.execute(
        f"SELECT record FROM queue WHERE claimed_by IN (?, ?) AND lane = ? AND record IN ({marks})",  # noqa: S608
        (UNCLAIMED, owner, lane, *handles),
    )
    return {handle for (handle,) in found}


def search(connection: sqlite3.Connection, lane: str, fragment: bytes) -> list[StoredRecord]:
    """Return the rows whose body contains these bytes. The bodies have no index, so all are read."""
    found = connection.execute(
        f"SELECT record, body, claimed_by = ? FROM {_JOINED} WHERE lane = ? AND instr(body, ?)",  # noqa: S608
        (UNCLAIMED, lane, fragment),
    )
    return [StoredRecord(handle, body, bool(ready)) for handle, body, ready in found]
