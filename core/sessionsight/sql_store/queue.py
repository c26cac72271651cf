"""Claims on the queues of the outbox, and the leases of their owners. Steps within a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessionsight.sql_store import dead_letters
from sessionsight.sql_store.dialect import marks, now, skip_locked
from sessionsight.sql_store.inbox import UNCLAIMED
from sessionsight.stores import Failure

__all__ = ["claim", "has_ready", "recover_ended", "renew"]

_PRIORITIES = (0, 1)


def claim(
    cursor: Any,
    lane: str,
    owner: str,
    floors: Mapping[tuple[str, int], int],
    *,
    max_records: int,
    max_bytes: int,
) -> tuple[list[Any], bool]:
    """Claim the next records of a lane for an owner, by priority.

    Args:
        cursor: Within a transaction.
        lane: The lane.
        owner: The owner.
        floors: Lane and priority, to the id from which to look: below it PostgreSQL would read dead rows.
        max_records: The highest number of records.
        max_bytes: The highest sum of their sizes, unless it is one record.

    Returns:
        Id, time, body, size and priority of each record, at least one if there is any, and whether more are ready.
    """
    found: list[Any] = []
    for priority in _PRIORITIES:
        cursor.execute(
            "SELECT id, enqueued_at, body, size, priority FROM sessionsight_queue"
            " WHERE lane = %s AND priority = %s AND id > %s AND claimed_by = %s"
            f" ORDER BY id LIMIT %s{skip_locked(cursor.db)}",
            [lane, priority, floors.get((lane, priority), 0), UNCLAIMED, max_records + 1 - len(found)],
        )
        found += cursor.fetchall()
    total = number = 0
    for _, _, _, size, _ in found[:max_records]:
        total += size
        if number and total > max_bytes:
            break
        number += 1
    if number:
        ids = [id_ for id_, *_ in found[:number]]
        cursor.execute(f"UPDATE sessionsight_queue SET claimed_by = %s WHERE id IN ({marks(ids)})", [owner, *ids])
    return found[:number], len(found) > number


def has_ready(cursor: Any, lane: str, floors: Mapping[tuple[str, int], int]) -> bool:
    """Return whether a lane has unclaimed records above the floors, as in `claim`."""
    for priority in _PRIORITIES:
        cursor.execute(
            "SELECT 1 FROM sessionsight_queue"
            " WHERE lane = %s AND priority = %s AND id > %s AND claimed_by = %s LIMIT 1",
            [lane, priority, floors.get((lane, priority), 0), UNCLAIMED],
        )
        if cursor.fetchone() is not None:
            return True
    return False


def renew(cursor: Any, owner: str, lease: float) -> None:
    """Say that an owner is alive."""
    expires = f"{now(cursor.db)} + {lease}"
    cursor.execute(f"UPDATE sessionsight_owner SET expires_at = {expires} WHERE owner = %s", [owner])
    if not cursor.rowcount:
        cursor.execute(f"INSERT INTO sessionsight_owner (owner, expires_at) VALUES (%s, {expires})", [owner])


def recover_ended(cursor: Any, in_flight: Failure | None, *, keep: int) -> tuple[int, int]:
    """Release the claims of owners whose lease is over.

    Args:
        cursor: Within a transaction.
        in_flight: Make dead letters of their records in flight.
        keep: The number of dead letters that each lane keeps.

    Returns:
        The number of owners, and of records that became dead letters.
    """
    cursor.execute(f"SELECT owner FROM sessionsight_owner WHERE expires_at < {now(cursor.db)}{skip_locked(cursor.db)}")
    ended = [owner for (owner,) in cursor.fetchall()]
    dead = 0
    for owner in ended:
        if in_flight is not None:
            where, parameters = "claimed_by = %s AND in_flight = %s", [owner, True]
            cursor.execute(f"SELECT DISTINCT lane FROM sessionsight_queue WHERE {where}", parameters)
            lanes = [lane for (lane,) in cursor.fetchall()]
            dead += dead_letters.add_queued(cursor, where, parameters, in_flight)
            for lane in lanes:
                dead_letters.trim(cursor, lane, keep=keep)
        cursor.execute(
            "UPDATE sessionsight_queue SET claimed_by = %s, in_flight = %s WHERE claimed_by = %s",
            [UNCLAIMED, False, owner],
        )
        cursor.execute("DELETE FROM sessionsight_owner WHERE owner = %s", [owner])
    return len(ended), dead
