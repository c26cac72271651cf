"""Claims on the queues of the outbox, and the leases of their owners. Steps within a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessionsight.sql_store.dead_letters import dead_letters
from sessionsight.sql_store.dialect import ids, locked, now, queue_by_id, queue_in_order, server_time, skip_locked
from sessionsight.sql_store.inbox import UNCLAIMED
from sessionsight.sql_store.reach import Reach, claims_of, extend, forget, write
from sessionsight.stores import MAX_TAKEOVERS, SUSPECT_TAKEOVERS, Failure, next_claim

__all__ = ["claim", "has_ready", "recover_ended", "release_all", "renew", "unresolved"]

_PRIORITIES = (0, 1)


def claim(
    cursor: Any,
    lane: str,
    owner: str,
    floors: Mapping[tuple[str, int], int],
    reach: Reach,
    *,
    lease: float,
    max_records: int,
    max_bytes: int,
) -> tuple[list[Any], bool, Reach]:
    """Claim the next records of a lane for an owner, by priority, and renew its lease if a third of that has passed.

    Args:
        cursor: Within a transaction.
        lane: The lane.
        owner: The owner.
        floors: Lane and priority, to the id from which to look: below it PostgreSQL would read dead rows.
        reach: What the owner has reached, as far as that is known to be written.
        lease: Seconds for which the claims are valid.
        max_records: The highest number of records.
        max_bytes: The highest sum of their sizes, unless it is one record.

    Returns:
        Id, time, body and priority of each record, at least one if there is any, whether more are ready, and what has
        been added to the reach.
    """
    found: list[Any] = []
    extended: Reach = {}
    left = f"(SELECT expires_at - {now(cursor.db)} FROM sessionsight_owner WHERE owner = %s)"
    for priority in _PRIORITIES:
        cursor.execute(
            f"SELECT {left}, size, takeovers, id, enqueued_at, body, priority FROM {queue_in_order(cursor.db)}"
            " WHERE lane = %s AND priority = %s AND id > %s AND claimed_by = %s"
            f" ORDER BY id LIMIT %s{skip_locked(cursor.db)}",
            [owner, lane, priority, floors.get((lane, priority), 0), UNCLAIMED, max_records + 1 - len(found)],
        )
        found += cursor.fetchall()
    number, suspect = next_claim((row[1:3] for row in found[:max_records]), max_bytes)
    chosen = [row[3:] for row in found[:number]]
    if chosen:
        if (remaining := found[0][0]) is None or remaining < lease * 2 / 3:
            renew(cursor, owner, lease, reach)
        extended = extend(cursor, lane, owner, reach, [(row[3], row[0]) for row in chosen])
        claimed = ids(id_ for id_, *_ in chosen)
        cursor.execute(f"UPDATE sessionsight_queue SET claimed_by = %s WHERE id IN ({claimed})", [owner])
        if suspect:
            cursor.execute(f"UPDATE sessionsight_owner SET on_trial = {claimed} WHERE owner = %s", [owner])
    return chosen, len(found) > number, extended


def has_ready(cursor: Any, lane: str, floors: Mapping[tuple[str, int], int]) -> bool:
    """Return whether a lane has unclaimed records above the floors, as in `claim`."""
    for priority in _PRIORITIES:
        cursor.execute(
            f"SELECT 1 FROM {queue_in_order(cursor.db)}"
            " WHERE lane = %s AND priority = %s AND id > %s AND claimed_by = %s LIMIT 1",
            [lane, priority, floors.get((lane, priority), 0), UNCLAIMED],
        )
        if cursor.fetchone() is not None:
            return True
    return False


def unresolved(cursor: Any, lane: str, owner: str) -> tuple[int, int] | None:
    """Return the lowest and the highest id of a lane's records that the owner or no process has claimed."""
    ends = [
        f"SELECT * FROM (SELECT id FROM {queue_in_order(cursor.db)} WHERE lane = %s AND priority = {priority}"
        f" AND claimed_by IN (%s, %s) ORDER BY id {order} LIMIT 1) AS found"
        for priority in _PRIORITIES
        for order in ("ASC", "DESC")
    ]
    cursor.execute(" UNION ALL ".join(ends), [lane, UNCLAIMED, owner] * len(ends))
    found = [id_ for (id_,) in cursor.fetchall()]
    return (min(found), max(found)) if found else None


def renew(cursor: Any, owner: str, lease: float, reach: Reach) -> None:
    """Say that an owner is alive, and, if another process has found that it has ended, what it has reached."""
    expires = f"{now(cursor.db)} + {lease}"
    cursor.execute(f"UPDATE sessionsight_owner SET expires_at = {expires} WHERE owner = %s", [owner])
    if not cursor.rowcount:
        cursor.execute(
            f"INSERT INTO sessionsight_owner (owner, expires_at, on_trial) VALUES (%s, {expires}, 0)", [owner]
        )
        write(cursor, owner, dict(reach))  # a copy, because a claim of another thread may have just ended


def release_all(cursor: Any, owner: str) -> None:
    """End an owner's lease, and release its claims. Those in flight stay, and another process recovers them at once."""
    cursor.execute(
        f"UPDATE sessionsight_queue SET claimed_by = %s WHERE id IN ({ids(claims_of(cursor, owner))})"
        " AND claimed_by = %s AND in_flight = %s",
        [UNCLAIMED, owner, False],
    )
    cursor.execute("UPDATE sessionsight_owner SET expires_at = 0 WHERE owner = %s", [owner])


def recover_ended(cursor: Any, in_flight: Failure | None, poison: Failure, *, keep: int) -> tuple[int, tuple[int, int]]:
    """Release the claims of owners whose lease is over, and count their takeovers.

    Args:
        cursor: Within a transaction.
        in_flight: Make dead letters of their records in flight.
        poison: Make dead letters of records that were taken over too often.
        keep: The number of dead letters that each lane keeps.

    Returns:
        The number of owners, and the numbers of records that became dead letters for either reason.
    """
    cursor.execute(
        f"SELECT owner, on_trial FROM sessionsight_owner WHERE expires_at < {now(cursor.db)}{skip_locked(cursor.db)}"
    )
    ended = cursor.fetchall()
    unknown = poisoned = 0
    died_at = server_time(cursor) if ended else 0.0
    for owner, on_trial in ended:
        # The owner may only have been stopped, and mark or settle records between the statements below.
        claims = f"id IN ({ids(claims_of(cursor, owner))}) AND claimed_by = %s"
        cursor.execute(f"SELECT id FROM {queue_by_id(cursor.db)} WHERE {claims}{locked(cursor.db)}", [owner])
        if in_flight is not None:
            where = f"{claims} AND in_flight = %s"
            unknown += dead_letters.bury(cursor, where, [owner, True], in_flight, died_at=died_at)
        last_chance = f"{claims} AND id = %s AND takeovers >= {MAX_TAKEOVERS - 1}"
        poisoned += dead_letters.bury(cursor, last_chance, [owner, on_trial], poison, died_at=died_at)
        cursor.execute(
            "UPDATE sessionsight_queue SET claimed_by = %s, in_flight = %s, takeovers = takeovers"
            f" + CASE WHEN id = %s OR takeovers < {SUSPECT_TAKEOVERS} THEN 1 ELSE 0 END WHERE {claims}",
            [UNCLAIMED, False, on_trial, owner],
        )
        forget(cursor, owner)
        cursor.execute("DELETE FROM sessionsight_owner WHERE owner = %s", [owner])
    if unknown or poisoned:
        dead_letters.trim(cursor, keep=keep)
    return len(ended), (unknown, poisoned)
