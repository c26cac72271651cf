"""What dead processes have left behind is taken over by those that live."""

from __future__ import annotations

import logging
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING

from sessionsight.delivery.stores.sqlite.owner_lock import UNCLAIMED, OwnerLock
from sessionsight.delivery.stores.sqlite.queries import trim_dead_letters

if TYPE_CHECKING:
    from sessionsight.delivery.stores.sqlite.store import SqliteSpool

__all__ = ["resign", "take_over"]

_PATIENCE = 1.0
_MESSAGE = "the process ended before the vendor's reply was here"


def take_over(spool: SqliteSpool, lock: OwnerLock) -> None:
    """Make the claims of dead owners anybody's, and dead letters of what they may have delivered.

    Args:
        spool: Whose file it is.
        lock: This process's own, which can tell whether others are alive.

    Raises:
        StoreError: The file cannot be used.
    """
    known = spool.file.read(_owners, wait=_PATIENCE)
    dead = [owner for owner in known if not lock.is_alive(owner)]
    if not dead:
        return
    park = spool.options.goals_on_unknown == "dead_letter"
    work = partial(_bequeath, owners=dead, park=park, keep=spool.options.dead_letters)
    parked = spool.file.write(work, wait=_PATIENCE)
    if parked:
        spool.logger.log(
            logging.WARNING,
            f"{parked} records became dead letters (unknown), because a process ended while they were on their "
            "way: nobody knows whether they arrived, and sending them again might count them twice",
            key="dead:unknown:owner",
        )


def resign(connection: sqlite3.Connection, owner: int) -> None:
    """An owner lets go in order. What it has on the wire is left to whoever finds its lock free."""
    for (lane,) in connection.execute("SELECT lane FROM lanes").fetchall():
        connection.execute(
            "UPDATE queue SET owner = ? WHERE lane = ? AND owner = ? AND sent = 0", (UNCLAIMED, lane, owner)
        )
    connection.execute(
        "DELETE FROM owners WHERE owner = ? AND NOT EXISTS"
        " (SELECT 1 FROM lanes JOIN queue ON queue.lane = lanes.lane AND queue.owner = owners.owner)",
        (owner,),
    )


def _owners(connection: sqlite3.Connection) -> list[int]:
    return [owner for (owner,) in connection.execute("SELECT owner FROM owners")]


def _bequeath(connection: sqlite3.Connection, owners: list[int], *, park: bool, keep: int) -> int:
    parked = 0
    lanes = [lane for (lane,) in connection.execute("SELECT lane FROM lanes")]
    for owner in owners:
        for lane in lanes:
            if park:
                number = connection.execute(
                    "INSERT INTO dead (lane, rank, record, size, since, died, reason, message, attempts)"
                    " SELECT lane, rank, record, size, since, ?, 'unknown', ?, 1 FROM queue"
                    " WHERE lane = ? AND owner = ? AND sent = 1",
                    (time.time(), _MESSAGE, lane, owner),
                ).rowcount
                if number:
                    parked += number
                    connection.execute("DELETE FROM queue WHERE lane = ? AND owner = ? AND sent = 1", (lane, owner))
                    trim_dead_letters(connection, lane, keep=keep)
            connection.execute(
                "UPDATE queue SET owner = ?, sent = 0 WHERE lane = ? AND owner = ?", (UNCLAIMED, lane, owner)
            )
        connection.execute("DELETE FROM owners WHERE owner = ?", (owner,))
    return parked
