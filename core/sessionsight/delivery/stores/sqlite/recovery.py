"""Recovers claims of processes that have ended."""

from __future__ import annotations

import sqlite3

from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED
from sessionsight.delivery.stores.sqlite.queries import trim_dead_letters

__all__ = ["owners", "recover_abandoned", "release_owner"]

_MESSAGE = "the process ended before it received the vendor's reply"


def owners(connection: sqlite3.Connection) -> list[int]:
    """Return the ids of all owners of claims."""
    return [owner for (owner,) in connection.execute("SELECT owner FROM owners")]


def recover_abandoned(
    connection: sqlite3.Connection, abandoned: list[int], *, dead_letter: bool, keep: int, now: float
) -> int:
    """Release all claims of owners that have ended.

    Args:
        connection: Within a transaction.
        abandoned: The ids of these owners.
        dead_letter: Make dead letters of records that were in flight; otherwise they are sent again.
        keep: The number of dead letters that each lane keeps.
        now: The time of the dead letters, in seconds since 1970.

    Returns:
        The number of records that became dead letters.
    """
    dead_lettered = 0
    lanes = [lane for (lane,) in connection.execute("SELECT lane FROM lanes")]
    for owner in abandoned:
        for lane in lanes:
            if dead_letter:
                number = connection.execute(
                    "INSERT INTO dead_letters"
                    " (lane, priority, record, size, enqueued_at, died_at, reason, message, attempts)"
                    " SELECT lane, priority, record, size, enqueued_at, ?, 'unknown', ?, 1 FROM queue"
                    " WHERE lane = ? AND claimed_by = ? AND in_flight = 1",
                    (now, _MESSAGE, lane, owner),
                ).rowcount
                if number:
                    dead_lettered += number
                    connection.execute(
                        "DELETE FROM queue WHERE lane = ? AND claimed_by = ? AND in_flight = 1", (lane, owner)
                    )
                    trim_dead_letters(connection, lane, keep=keep)
            connection.execute(
                "UPDATE queue SET claimed_by = ?, in_flight = 0 WHERE lane = ? AND claimed_by = ?",
                (UNCLAIMED, lane, owner),
            )
        connection.execute("DELETE FROM owners WHERE owner = ?", (owner,))
    return dead_lettered


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
