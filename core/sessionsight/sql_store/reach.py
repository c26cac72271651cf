"""How far a process has claimed the records of a lane, by which its claims are found. Steps within a transaction.

An index of the records' owner would have the same use, but each claim would change it, and PostgreSQL updates a row in
place only if that changes no index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sessionsight.sql_store.dialect import commit_durably, insert_rows, queue_in_order

__all__ = ["AHEAD", "Reach", "claims_of", "extend", "forget", "write"]

AHEAD = 10_000
"""Ids above a claim that are written as reached, so that few claims have to write it."""

Reach = Mapping[tuple[str, int], int]
"""Lane and priority, to an id that is not below any claim."""


def extend(cursor: Any, lane: str, owner: str, reach: Reach, claimed: Iterable[tuple[int, int]]) -> Reach:
    """Extend what an owner has reached as far as its next claim needs, and return what has changed.

    Args:
        cursor: Within the transaction of the claim.
        lane: The lane.
        owner: The owner.
        reach: What it has reached, as far as that is known to be written.
        claimed: Priority and id of the records, by id.
    """
    highest = {(lane, priority): id_ for priority, id_ in claimed}
    extended = {key: id_ + AHEAD for key, id_ in highest.items() if id_ > reach.get(key, 0)}
    for (_, priority), id_ in extended.items():
        cursor.execute(
            "DELETE FROM sessionsight_reach WHERE owner = %s AND lane = %s AND priority = %s AND last_id <= %s",
            [owner, lane, priority, id_],
        )
    write(cursor, owner, extended)
    return extended


def write(cursor: Any, owner: str, reach: Reach) -> None:
    """Add what an owner has reached. It is as durable as the records, so that no crash undoes it alone."""
    rows = [(owner, lane, priority, id_) for (lane, priority), id_ in reach.items()]
    if rows:
        commit_durably(cursor)
    insert_rows(cursor, "INSERT INTO sessionsight_reach (owner, lane, priority, last_id) VALUES (%s, %s, %s, %s)", rows)


def claims_of(cursor: Any, owner: str) -> list[int]:
    """Return the ids of the records that an owner has claimed."""
    cursor.execute(
        "SELECT lane, priority, max(last_id) FROM sessionsight_reach WHERE owner = %s GROUP BY lane, priority", [owner]
    )
    claims: list[int] = []
    for lane, priority, last in cursor.fetchall():
        cursor.execute(
            f"SELECT id FROM {queue_in_order(cursor.db)}"
            " WHERE lane = %s AND priority = %s AND id <= %s AND claimed_by = %s",
            [lane, priority, last, owner],
        )
        claims += [id_ for (id_,) in cursor.fetchall()]
    return claims


def forget(cursor: Any, owner: str) -> None:
    """Delete what an owner has reached, which holds no claims any more."""
    cursor.execute("DELETE FROM sessionsight_reach WHERE owner = %s", [owner])
